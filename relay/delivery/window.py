"""delivery.window: which of the spool's recipients are in memory. Pure bookkeeping.

Memory must not grow with the queue, so a worker holds at most `capacity` recipients; the rest waits on disk. A claim
is an entry here and nothing else: the spool has one owner, and after a crash everything unsettled is due again.

The invariant that makes one walk over the due index enough: every due recipient on disk is either claimed here or its
domain is marked `more`, and a domain so marked is read again once it has room and is not parked. One domain may fill
at most `per_domain` of the window, so that a domain that never answers leaves room for the others; fresh mail, which
is handed over in memory, may use a quarter on top, so that a window full of old trouble does not make new mail wait.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from relay.spool import QueuedRecipient

Claim = tuple[str, int]


@dataclass(slots=True)
class Domain:
    """claimed: recipients in memory. more: due ones are on disk. parked_until: POSIX seconds; 0 when not parked.

    marks: how often `more` was said. urged: an operator wants it tried, whatever its site's trouble.
    """

    claimed: int = 0
    more: bool = False
    parked_until: float = 0.0
    marks: int = 0
    urged: bool = False


class Window:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.per_domain = max(100, capacity // 20)
        self._claims: set[Claim] = set()
        self._domains: dict[str, Domain] = {}
        self._more: dict[str, None] = {}  # an ordered set: domains take turns at being read again

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def free(self) -> int:
        return self.capacity - len(self._claims)

    def is_claimed(self, claim: Claim) -> bool:
        return claim in self._claims

    def admits_fresh(self, domains: Iterable[str], *, count: int, now: float) -> bool:
        """May mail that is being accepted be handed over in memory?"""
        if len(self._claims) + count > self.capacity + self.capacity // 4:
            return False
        return all(self._admits_fresh(domain, now) for domain in domains)

    def _admits_fresh(self, domain: str, now: float) -> bool:
        """Half of a backlogged domain's room is for what is on disk, so that neither starves."""
        state = self._domains.get(domain)
        if state is None:
            return True
        room = self.per_domain // 2 if state.more else self.per_domain
        return state.claimed < room and state.parked_until <= now

    def admits(self, domain: str, *, now: float) -> bool:
        """Has the domain room, is it not parked, and is nothing older of it waiting on disk?"""
        state = self._domains.get(domain)
        if state is None:
            return True
        return state.claimed < self.per_domain and state.parked_until <= now and not state.more

    def claim(self, domain: str, claim: Claim) -> None:
        self._claims.add(claim)
        state = self._domains.get(domain)
        if state is None:
            state = self._domains[domain] = Domain()
        state.claimed += 1

    def release(self, domain: str, claim: Claim) -> None:
        """The recipient was settled or given back. Unknown claims are ignored: an operator may have cancelled it."""
        if claim not in self._claims:
            return
        self._claims.remove(claim)
        state = self._domains[domain]
        state.claimed -= 1
        if not state.claimed and not state.more:
            del self._domains[domain]

    def forget(self, recipients: Iterable[QueuedRecipient]) -> None:
        """Settled or given back: there is room again."""
        for each in recipients:
            self.release(each.recipient.domain, (each.message.id, each.position))

    def mark_all(self, domains: Iterable[str]) -> None:
        """Recipients of these domains became due on disk behind the walk."""
        for domain in domains:
            self.mark_more(domain)

    def mark_more(self, domain: str) -> None:
        """Due recipients of the domain are on disk and not here."""
        state = self._domains.setdefault(domain, Domain())
        state.more = True
        state.marks += 1
        self._more[domain] = None

    def park(self, domain: str, *, until: float) -> None:
        """Nothing of the domain is read before `until`: its site does not answer. What waits stays on disk."""
        self.mark_more(domain)
        self._domains[domain].parked_until = until

    def urge(self, domain: str) -> None:
        """An operator wants it read and tried now."""
        self.mark_more(domain)
        state = self._domains[domain]
        state.parked_until = 0.0
        state.urged = True

    def take_urge(self, domain: str) -> bool:
        """Whether an operator wanted it tried now; asked once."""
        state = self._domains.get(domain)
        if state is None or not state.urged:
            return False
        state.urged = False
        return True

    def marks(self, domain: str) -> int:
        """To be given to `all_read`, from before the reading."""
        state = self._domains.get(domain)
        return state.marks if state else 0

    def all_read(self, domain: str, *, marks: int) -> None:
        """Every due recipient of the domain is claimed, but for what was marked since."""
        state = self._domains.get(domain)
        if state is None or state.marks != marks:
            return
        self._more.pop(domain, None)
        state.more = False
        if not state.claimed:
            del self._domains[domain]

    def later(self, domain: str) -> None:
        """The domain had its turn at being read; the others come first now."""
        self._more.pop(domain, None)
        self._more[domain] = None

    def readable(self, *, now: float, limit: int) -> list[str]:
        """Domains with more on disk and room for it here, in turn."""
        found = []
        for domain in self._more:
            state = self._domains[domain]
            if state.parked_until <= now and state.claimed <= self.per_domain // 2:
                found.append(domain)
                if len(found) >= limit:
                    break
        return found

    def claimed_of(self, domain: str) -> int:
        state = self._domains.get(domain)
        return state.claimed if state else 0
