"""delivery.window: which of the spool's recipients are in memory. Pure bookkeeping.

Memory must not grow with the queue, so a worker holds at most `capacity` recipients; the rest waits on disk. A claim
is an entry here and nothing else: the spool has one owner, and after a crash everything unsettled is due again.

The invariant that makes one walk over the due index enough: every due recipient on disk lies ahead of the walk, or is
claimed here, or its domain is marked `more` and will be read again, or it goes a way that is parked for its domain,
and the domain is read again when that ends. A domain is read page by page, as it has room, from its first due
recipient to its last: what waits for a parked way is passed over, and does not stand before what goes another.

One domain may fill at most `per_domain` of the window, so that a domain that never answers leaves room for the others;
fresh mail, which is handed over in memory, may use a quarter on top, so that a window full of old trouble does not make
new mail wait.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from relay.delivery.routing import Hop
from relay.spool import Cursor, QueuedRecipient

Claim = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Parked:
    """Nothing is read before `until` (POSIX seconds that never jump): the site does not answer."""

    site: str
    until: float


@dataclass(slots=True)
class Domain:
    """claimed: recipients in memory. more: due ones are on disk. parked: by the way they would go.

    read_to: where the next page begins, None at the first. marks: how often `more` was said, and how often before the
    first page was read. urged: an operator wants it tried, whatever its site's trouble.
    """

    claimed: int = 0
    more: bool = False
    parked: dict[Hop, Parked] = field(default_factory=dict)
    read_to: Cursor | None = None
    marks: int = 0
    marks_read: int = 0
    urged: bool = False

    @property
    def is_idle(self) -> bool:
        return not (self.claimed or self.more or self.parked)


class Window:
    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.per_domain = max(100, capacity // 20)
        self._claims: set[Claim] = set()
        self._domains: dict[str, Domain] = {}
        self._to_read: dict[str, None] = {}  # an ordered set of those with `more` or `parked`: they take turns

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def free(self) -> int:
        return self.capacity - len(self._claims)

    def is_claimed(self, claim: Claim) -> bool:
        return claim in self._claims

    def admits_fresh(self, domains: Iterable[str], *, count: int) -> bool:
        """Has it room for mail that is being accepted?"""
        if len(self._claims) + count > self.capacity + self.capacity // 4:
            return False
        return all(self._admits_fresh(domain) for domain in domains)

    def _admits_fresh(self, domain: str) -> bool:
        """Half of a backlogged domain's room is for what is on disk, so that neither starves."""
        state = self._domains.get(domain)
        if state is None:
            return True
        return state.claimed < (self.per_domain // 2 if state.more else self.per_domain)

    def admits(self, domain: str) -> bool:
        """Has the domain room, and is nothing older of it waiting on disk?"""
        state = self._domains.get(domain)
        if state is None:
            return True
        return state.claimed < self.per_domain and not state.more

    def parked(self, domain: str, *, now: float) -> Mapping[Hop, Parked]:
        """The ways that nothing of the domain goes now."""
        state = self._domains.get(domain)
        if state is None or not state.parked:
            return {}
        return {way: parked for way, parked in state.parked.items() if parked.until > now}

    def sites_in_trouble(self) -> dict[str, str]:
        """The domains that wait for one, for `status`."""
        return {domain: each.site for domain in self._to_read for each in self._domains[domain].parked.values()}

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
        self._tidy(domain, state)

    def forget(self, recipients: Iterable[QueuedRecipient]) -> None:
        """Settled or given back: there is room again."""
        for each in recipients:
            self.release(each.recipient.domain, (each.message.id, each.position))

    def mark_all(self, domains: Iterable[str]) -> None:
        """Recipients of these domains became due on disk. With a way parked only the walk tells what waits for it."""
        for domain in domains:
            state = self._domains.get(domain)
            if state is None or not state.parked:
                self.mark_more(domain)

    def mark_more(self, domain: str) -> None:
        """Due recipients of the domain are on disk and not here."""
        self._mark(domain, self._domains.setdefault(domain, Domain()))

    def _mark(self, domain: str, state: Domain) -> None:
        state.more = True
        state.marks += 1
        self._to_read[domain] = None

    def park(self, domain: str, hop: Hop, *, site: str, until: float) -> None:
        """Nothing of the domain that goes this way is read before `until`. What waits stays on disk."""
        self._domains.setdefault(domain, Domain()).parked[hop] = Parked(site, until)
        self._to_read[domain] = None

    def urge(self, domain: str) -> None:
        """An operator wants it read and tried now."""
        self.mark_more(domain)
        state = self._domains[domain]
        state.parked.clear()
        state.urged = True

    def take_urge(self, domain: str) -> bool:
        """Whether an operator wanted it tried now; asked once."""
        state = self._domains.get(domain)
        if state is None or not state.urged:
            return False
        state.urged = False
        return True

    def readable(self, *, now: float, limit: int) -> list[str]:
        """Domains with more on disk and room for it here, in turn."""
        found = []
        for domain in self._to_read:
            state = self._domains[domain]
            self._unpark(domain, state, now)
            if state.more and state.claimed <= self.per_domain // 2:
                found.append(domain)
                if len(found) >= limit:
                    break
        return found

    def _unpark(self, domain: str, state: Domain, now: float) -> None:
        over = [hop for hop, parked in state.parked.items() if parked.until <= now]
        for hop in over:
            del state.parked[hop]
        if over:
            self._mark(domain, state)

    def next_page(self, domain: str) -> Cursor | None:
        """After which the domain is to be read next; None: from its first due recipient."""
        state = self._domains[domain]
        if state.read_to is None:
            state.marks_read = state.marks
        return state.read_to

    def page_read(self, domain: str, *, last: Cursor | None) -> None:
        """What was on it is claimed here or goes a parked way; the other domains come first now. last: of its
        recipients, None when it had none: a short page may have lost some that were settled while it was read.
        """
        state = self._domains.get(domain)
        if state is None:
            return
        state.read_to = last
        state.more = last is not None or state.marks != state.marks_read
        self._to_read.pop(domain, None)
        if state.more or state.parked:
            self._to_read[domain] = None
        self._tidy(domain, state)

    def _tidy(self, domain: str, state: Domain) -> None:
        if state.is_idle:
            del self._domains[domain]
