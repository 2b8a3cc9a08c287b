"""delivery.on_disk: which of what is due on disk is to be read now, and which waits for a way that is parked.

The window knows which ways nothing of a domain goes; which way a message goes says its route. Of one credential's mail
for one domain some may wait and some not, for another sender domain's breaker, or another stream's smarthost. So each
message that is left on disk is looked at: one that goes now must not wait for what holds another, and one that waits
must not have its lane read again and again.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from relay.delivery.routing import Discard, Routes, Traits, Way
from relay.delivery.site import SiteKey
from relay.delivery.window import Window


class Sent(Protocol):
    """What a message's way depends on, and what may hold it there."""

    @property
    def sender(self) -> str: ...

    @property
    def credential(self) -> str: ...

    @property
    def stream(self) -> str: ...

    @property
    def sender_domain(self) -> str: ...


class OnDisk:
    """One shard's. steady: POSIX seconds that never jump."""

    def __init__(self, window: Window, routes: Callable[[], Routes], steady: Callable[[], float]) -> None:
        self._window = window
        self._routes = routes
        self._steady = steady

    def way(self, domain: str, mail: Sent) -> Way | Discard:
        sender_domain = mail.sender.rpartition("@")[2]
        return self._routes().choose(Traits(domain, sender_domain, mail.credential, mail.stream))

    def waits_for(self, domain: str, mail: Sent) -> SiteKey | None:
        """The site in trouble, suspended or behind a breaker."""
        parked = self._window.parked(domain, now=self._steady())
        if not parked:
            return None
        way = self.way(domain, mail)
        if isinstance(way, Discard):
            return None
        waits = parked.get((way, "")) or parked.get((way, mail.sender_domain))
        return (waits.site, waits.hop) if waits is not None else None

    def left(self, mail: Iterable[tuple[str, Sent]]) -> None:
        """By domain, what is due on disk and not in memory, and may lie behind the walk."""
        for domain, message in mail:
            if self.waits_for(domain, message) is None:
                self._window.leave(domain, message.credential)
            else:
                self._window.mark_waiting(domain, message.credential)
