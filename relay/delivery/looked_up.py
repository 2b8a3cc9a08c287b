"""delivery.looked_up: where mail was found to go lately. No IO.

By what was asked, for a minute: the resolver's cache knows the TTLs, this only spares it the question for every
message. By domain, for whoever asks later, when no mail of the domain is in memory any more. Both are bounded.
"""

from collections import OrderedDict
from collections.abc import Callable, Mapping

from relay.delivery.destination import Destination
from relay.delivery.lookups import LookupKey

USED_FOR = 60.0  # seconds
MOST = 10_000


class LookedUp:
    """One shard's. steady: POSIX seconds that never jump."""

    def __init__(self, steady: Callable[[], float]) -> None:
        self._steady = steady
        self._answers: OrderedDict[LookupKey, tuple[Destination, float]] = OrderedDict()
        self._by_domain: OrderedDict[str, Destination] = OrderedDict()

    @property
    def by_domain(self) -> Mapping[str, Destination]:
        return self._by_domain

    def answer(self, key: LookupKey) -> Destination | None:
        known = self._answers.get(key)
        return known[0] if known is not None and known[1] > self._steady() else None

    def remember(self, key: LookupKey, destination: Destination) -> None:
        self._answers[key] = (destination, self._steady() + USED_FOR)
        self._answers.move_to_end(key)
        if len(self._answers) > MOST:
            self._answers.popitem(last=False)

    def forget_answers(self) -> None:
        """All is asked again."""
        self._answers.clear()

    def note(self, domain: str, destination: Destination) -> None:
        """Mail of the domain goes there."""
        if self._by_domain.get(domain) is destination:
            return
        self._by_domain[domain] = destination
        self._by_domain.move_to_end(domain)
        if len(self._by_domain) > MOST:
            self._by_domain.popitem(last=False)
