"""delivery.window: which of the spool's recipients are in memory. Pure bookkeeping.

Memory must not grow with the queue, so a worker holds at most `capacity` recipients; the rest waits on disk. A claim
is an entry here and nothing else: the spool has one owner, and after a crash everything unsettled is due again.

A credential's mail for one domain is a lane: it is read from disk, and has its room, apart from all others, so that
what one application has queued stands before nobody else's mail, neither in memory nor on disk.

The invariant that makes one walk over the due index enough: every due recipient on disk lies ahead of the walk, or is
claimed here, or its lane is marked `more` and will be read again, or it goes a way that is parked for its domain and
its lane is marked `waits`: it is read again when that ends. A lane is read page by page, as it has room, from its first
due recipient to its last: what waits for a parked way is passed over, and does not stand before what goes another.

One domain may fill a part of the window, `per_domain`, so that a domain that never answers leaves room for the others.
Beyond that its lanes have equal parts of it. Fresh mail, which is handed over in memory, may use a quarter of the
window on top, so that a window full of old trouble does not make new mail wait. Half of that quarter is for credentials
that have less than an equal part of the window: one that sends to very many domains that do not answer leaves room for
the others' new mail.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from relay.delivery.routing import Hop, Smarthost, Way
from relay.spool import Cursor, QueuedRecipient

Claim = tuple[str, int]
LaneKey = tuple[str, str]  # a domain, and the credential whose mail is meant
Parking = tuple[Way, str]  # a way, and the sender domain whose mail is meant, "" for all
NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Parked:
    """Nothing is read before `until` (POSIX seconds that never jump): the site does not answer, or is suspended."""

    site: str
    hop: Hop
    until: float


@dataclass(slots=True)
class Lane:
    """claimed: recipients in memory. more: due ones are on disk. waits: ... that go a way that is parked.

    read_to: where the next page begins, None at the first. marks: how often `more` was said, and how often before the
    first page was read.
    """

    claimed: int = 0
    more: bool = False
    waits: bool = False
    read_to: Cursor | None = None
    marks: int = 0
    marks_read: int = 0

    @property
    def is_idle(self) -> bool:
        return not (self.claimed or self.more or self.waits)


@dataclass(slots=True)
class Domain:
    """lanes: by credential. parked: by the way that their route says. urged: an operator wants it tried, whatever its
    site's trouble.
    """

    claimed: int = 0
    lanes: dict[str, Lane] = field(default_factory=dict)
    parked: dict[Parking, Parked] = field(default_factory=dict)
    urged: bool = False


class Window:
    """has_room: called when half of a window that was full is free, or of the share of a lane with more on disk."""

    def __init__(self, capacity: int, *, has_room: Callable[[], None] = lambda: None) -> None:
        self.capacity = capacity
        self.per_domain = max(100, capacity // 20)
        self._has_room = has_room
        self._was_full = False  # and nothing was told since
        self._claims: set[Claim] = set()
        self._claimed_of: Counter[str] = Counter()  # by credential
        self._domains: dict[str, Domain] = {}
        self._to_read: dict[LaneKey, None] = {}  # an ordered set of those with `more`: they take turns
        self._parked: dict[str, None] = {}  # domains
        self._unpark_at = NEVER  # no parking ends before

    def __len__(self) -> int:
        return len(self._claims)

    @property
    def free(self) -> int:
        return self.capacity - len(self._claims)

    def is_claimed(self, claim: Claim) -> bool:
        return claim in self._claims

    # How much of it a domain and a lane may have.

    def admits_fresh(self, domains: Iterable[str], credential: str, *, count: int) -> bool:
        """Has it room for mail that is being accepted?"""
        if len(self._claims) + count > self._most_with_fresh(credential, count):
            return False
        return all(self._admits_fresh(domain, credential) for domain in domains)

    def _most_with_fresh(self, credential: str, count: int) -> int:
        """With so many more of the credential's."""
        others = len(self._claimed_of) - (credential in self._claimed_of)
        has_little = self._claimed_of[credential] + count <= self.capacity // (others + 1)
        return self.capacity + self.capacity // (4 if has_little else 8)

    def _admits_fresh(self, domain: str, credential: str) -> bool:
        """Half of a backlogged lane's room is for what is on disk, so that neither starves."""
        state = self._domains.get(domain)
        lane = state.lanes.get(credential) if state is not None else None
        if state is None or lane is None:
            return True
        return lane.claimed < self._share_in(state) // 2 if lane.more else self._has_place(state, lane)

    def admits(self, domain: str, credential: str) -> bool:
        """Has the lane room, and is nothing older of it waiting on disk?"""
        state = self._domains.get(domain)
        lane = state.lanes.get(credential) if state is not None else None
        return state is None or lane is None or (not lane.more and self._has_place(state, lane))

    def _has_place(self, state: Domain, lane: Lane) -> bool:
        return state.claimed < self.per_domain or lane.claimed < self._share_in(state)

    def _share_in(self, state: Domain) -> int:
        """A lane's part of a domain's."""
        return max(1, self.per_domain // max(1, len(state.lanes)))

    # Claims.

    def claim(self, domain: str, credential: str, claim: Claim) -> None:
        self._claims.add(claim)
        self._claimed_of[credential] += 1
        self._was_full = self._was_full or self.free <= 0
        state = self._domains.setdefault(domain, Domain())
        state.claimed += 1
        self._lane(state, credential).claimed += 1

    def release(self, domain: str, credential: str, claim: Claim) -> None:
        """The recipient was settled or given back. Unknown claims are ignored: an operator may have cancelled it."""
        if claim not in self._claims:
            return
        state = self._domains[domain]
        lane = state.lanes[credential]
        self._claims.remove(claim)
        self._claimed_of[credential] -= 1
        if not self._claimed_of[credential]:
            del self._claimed_of[credential]
        state.claimed -= 1
        lane.claimed -= 1
        half_is_free = self._was_full and self.free >= self.capacity // 2
        if half_is_free or (lane.more and lane.claimed == self._share_in(state) // 2):
            self._was_full = False
            self._has_room()
        self._tidy(domain, credential)

    def forget(self, recipients: Iterable[QueuedRecipient]) -> None:
        """Settled or given back: there is room again."""
        for each in recipients:
            self.release(each.recipient.domain, each.message.credential, (each.message.id, each.position))

    # What is on disk.

    def mark_waiting(self, domain: str, credential: str) -> None:
        """Due recipients of the lane are on disk and not here, and go a way that is parked."""
        self._lane(self._domains[domain], credential).waits = True

    def mark_more(self, domain: str, credential: str) -> None:
        """Due recipients of the lane are on disk and not here."""
        lane = self._lane(self._domains.setdefault(domain, Domain()), credential)
        lane.more = True
        lane.marks += 1
        self._to_read[(domain, credential)] = None

    def readable(self, *, now: float, limit: int) -> list[LaneKey]:
        """Lanes with more on disk and room for it here, in turn."""
        if now >= self._unpark_at:
            self._unpark(now)
        found = []
        for key in self._to_read:
            if self.room_for(*key):
                found.append(key)
                if len(found) >= limit:
                    break
        return found

    def room_for(self, domain: str, credential: str) -> int:
        """How many may be read of a lane; 0 until half of its share is free."""
        state = self._domains[domain]
        share, claimed = self._share_in(state), state.lanes[credential].claimed
        return max(0, share - claimed) if claimed <= share // 2 else 0

    def next_page(self, domain: str, credential: str) -> Cursor | None:
        """After which the lane is to be read next; None: from its first due recipient."""
        lane = self._domains[domain].lanes[credential]
        if lane.read_to is None:
            lane.marks_read = lane.marks
        return lane.read_to

    def page_read(self, domain: str, credential: str, *, last: Cursor | None) -> None:
        """What was on it is claimed here or goes a parked way; the other lanes come first now. last: how far it was
        read, None at the end.
        """
        key = (domain, credential)
        self._to_read.pop(key, None)
        state = self._domains.get(domain)
        lane = state.lanes.get(credential) if state is not None else None
        if lane is None:
            return
        lane.read_to = last
        lane.more = last is not None or lane.marks != lane.marks_read
        if lane.more:
            self._to_read[key] = None
        self._tidy(domain, credential)

    # Ways that nothing goes now.

    def parked(self, domain: str, *, now: float) -> Mapping[Parking, Parked]:
        """The ways that nothing of the domain goes now."""
        state = self._domains.get(domain)
        if state is None or not state.parked:
            return {}
        return {way: parked for way, parked in state.parked.items() if parked.until > now}

    def sites_in_trouble(self) -> dict[str, str]:
        """The domains that wait for one, for `status`."""
        return {domain: each.site for domain in self._parked for each in self._domains[domain].parked.values()}

    def parked_for(self) -> list[tuple[str, Hop]]:
        """For each domain and way that is parked: the site, and by which hop it will be tried."""
        return [(each.site, each.hop) for domain in self._parked for each in self._domains[domain].parked.values()]

    def park(self, domain: str, way: Way, *, site: str, hop: Hop, until: float, sender_domain: str = "") -> None:
        """Nothing of the domain that goes this way is read before `until`; of a sender domain alone where there is one.
        What waits stays on disk. hop: where it will be tried then.
        """
        self._domains.setdefault(domain, Domain()).parked[(way, sender_domain)] = Parked(site, hop, until)
        self._parked[domain] = None
        self._unpark_at = min(self._unpark_at, until)

    def urge(self, domain: str, credential: str) -> None:
        """An operator wants it read and tried now."""
        self.mark_more(domain, credential)
        state = self._domains[domain]
        state.urged = True
        self._end_parking(domain, list(state.parked))

    def take_urge(self, domain: str) -> bool:
        """Whether an operator wanted it tried now; asked once."""
        state = self._domains.get(domain)
        if state is None or not state.urged:
            return False
        state.urged = False
        return True

    def unpark(self, site: str) -> None:
        """An operator has resumed it."""
        for domain in list(self._parked):
            parked = self._domains[domain].parked
            self._end_parking(domain, [key for key, each in parked.items() if _waits(key[0], each, site)])

    def unpark_all(self) -> None:
        """The routes are others: what waited for a site is read again, and may go another way."""
        for domain in list(self._parked):
            self._end_parking(domain, list(self._domains[domain].parked))

    def _unpark(self, now: float) -> None:
        """What is over by then."""
        self._unpark_at = NEVER
        for domain in list(self._parked):
            parked = self._domains[domain].parked
            self._end_parking(domain, [key for key, each in parked.items() if each.until <= now])
            self._unpark_at = min([self._unpark_at, *(each.until for each in parked.values())])

    def _end_parking(self, domain: str, over: list[Parking]) -> None:
        """What waited is read again, and passed over where it waits for another way."""
        if not over:
            return
        state = self._domains[domain]
        for parking in over:
            del state.parked[parking]
        if not state.parked:
            del self._parked[domain]
        for credential, lane in state.lanes.items():
            if lane.waits:
                lane.waits = False
                self.mark_more(domain, credential)
        self._tidy_domain(domain, state)

    def _lane(self, state: Domain, credential: str) -> Lane:
        lane = state.lanes.get(credential)
        if lane is None:
            lane = state.lanes[credential] = Lane()
        return lane

    def _tidy(self, domain: str, credential: str) -> None:
        state = self._domains[domain]
        if state.lanes[credential].is_idle:
            del state.lanes[credential]
            self._tidy_domain(domain, state)

    def _tidy_domain(self, domain: str, state: Domain) -> None:
        if not (state.lanes or state.parked):
            del self._domains[domain]


def _waits(way: Way, parked: Parked, site: str) -> bool:
    """Whether the site, or one of a route's smarthosts, could take what is parked."""
    return parked.site == site or any(isinstance(each, Smarthost) and each.site == site for each in way.members)
