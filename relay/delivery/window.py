"""delivery.window: which of the spool's recipients are in memory. Pure bookkeeping.

Memory must not grow with the queue, so a worker holds at most `capacity` recipients; the rest waits on disk. A claim
is an entry here and nothing else: the spool has one owner, and after a crash everything unsettled is due again.

A credential's mail for one domain is a lane: it is read from disk, and has its room, apart from all others, so that
what one application has queued stands before nobody else's mail, neither in memory nor on disk. All of a credential's
mail is a lane too, to `EVERY` domain: it may have three times what is free (a dynamic threshold: Choudhury and Hahne,
1998). So a campaign to however many domains leaves a quarter of the window free, a second one a quarter of that, and
who has little finds room at once. What is over is read again as a whole, without a lane for each domain on disk.

The invariant that makes one walk over the due index enough: every due recipient on disk lies ahead of the walk, or is
claimed here, or a lane of it is marked `more` and will be read again, or it goes a way that is parked for its domain
and its lane is marked `waits`: it is read again when that ends. A lane is read page by page, as it has room, from its
first due recipient to its last: what waits for a parked way is passed over, and stands before nothing else.

One domain may fill a part of the window, `per_domain`, so that a domain that never answers leaves room for the others.
Beyond that its lanes have equal parts of it. Fresh mail, which is handed over in memory, may use a quarter of the
window on top, so that a window full of old trouble does not make new mail wait.
"""

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush

from relay.delivery.lane import EVERY, NEVER, TIMES, Domain, Lane, LaneKey, Parked, Parking, may_have
from relay.delivery.routing import Hop, Smarthost, Way
from relay.spool import Cursor, QueuedRecipient

Claim = tuple[str, int]


class Window:
    """has_room: called when half of a window that was full is free, or of the share of a lane with more on disk."""

    def __init__(self, capacity: int, *, has_room: Callable[[], None] = lambda: None) -> None:
        self.capacity = capacity
        self.per_domain = max(100, capacity // 20)
        self._has_room = has_room
        self._was_full = False  # and nothing was told since
        self._claims: set[Claim] = set()
        self._domains: dict[str, Domain] = {}
        self._wholes: dict[str, Lane] = {}  # by credential, to every domain
        self._to_read: dict[LaneKey, None] = {}  # an ordered set of those with `more` and perhaps room: they take turns
        self._parked: dict[str, None] = {}  # domains
        self._parked_until: list[tuple[float, str]] = []  # a heap: when a domain is to be looked at

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
        if len(self._claims) + count > self.capacity + self.capacity // 4:
            return False
        if self._room_for_fresh(self._wholes.get(credential)) < count:
            return False
        return all(self._admits_fresh(domain, credential) for domain in domains)

    def _room_for_fresh(self, whole: Lane | None) -> int:
        """Of a credential with more on disk a quarter, until the next page of that is read: so neither starves."""
        on_top = self.capacity // 4
        if whole is None:
            return may_have(self.free + on_top, 0)
        room = may_have(self.free + on_top, whole.claimed)
        return min(room, on_top - whole.fresh) if whole.more else room

    def _admits_fresh(self, domain: str, credential: str) -> bool:
        """Half of a backlogged lane's room is for what is on disk, so that neither starves."""
        state = self._domains.get(domain)
        lane = state.lanes.get(credential) if state is not None else None
        if state is None or lane is None:
            return True
        return lane.claimed < self._share_in(state) // 2 if lane.more else self._has_place(state, lane)

    def admits(self, domain: str, credential: str) -> bool:
        """Has the lane room, and its credential, and is nothing older of it waiting on disk?"""
        whole = self._wholes.get(credential)
        return (
            not (whole is not None and whole.more)
            and self._room_of(credential) > 0
            and self.has_place(domain, credential)
        )

    def has_place(self, domain: str, credential: str) -> bool:
        """The same for the lane alone."""
        state = self._domains.get(domain)
        lane = state.lanes.get(credential) if state is not None else None
        return state is None or lane is None or (not lane.more and self._has_place(state, lane))

    def _has_place(self, state: Domain, lane: Lane) -> bool:
        return state.claimed < self.per_domain or lane.claimed < self._share_in(state)

    def _share_in(self, state: Domain) -> int:
        """A lane's part of a domain's."""
        return max(1, self.per_domain // max(1, len(state.lanes)))

    def _room_of(self, credential: str) -> int:
        whole = self._wholes.get(credential)
        return may_have(self.free, whole.claimed if whole is not None else 0)

    def _is_half_free(self, whole: Lane) -> bool:
        return whole.claimed <= TIMES * self.free // 2

    # Claims.

    def claim(self, domain: str, credential: str, claim: Claim) -> None:
        self._claims.add(claim)
        self._was_full = self._was_full or self.free <= 0
        state = self._domains.setdefault(domain, Domain())
        state.claimed += 1
        self._lane(state, credential).claimed += 1
        self._whole(credential).claimed += 1

    def claim_fresh(self, domain: str, credential: str, claim: Claim) -> None:
        """Of mail that was admitted as such."""
        self.claim(domain, credential, claim)
        whole = self._wholes[credential]
        whole.fresh += whole.more

    def release(self, domain: str, credential: str, claim: Claim) -> None:
        """The recipient was settled or given back. Unknown claims are ignored: an operator may have cancelled it."""
        if claim not in self._claims:
            return
        state = self._domains[domain]
        lane, whole = state.lanes[credential], self._wholes[credential]
        self._claims.remove(claim)
        state.claimed -= 1
        lane.claimed -= 1
        whole.claimed -= 1
        half_is_free = self._was_full and self.free >= self.capacity // 2
        half_of_lane = lane.claimed - self._share_in(state) // 2
        if lane.more and half_of_lane <= 0:
            self._to_read[(domain, credential)] = None
        if half_is_free or (lane.more and half_of_lane == 0) or (whole.more and self._is_half_free(whole)):
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

    def leave(self, domain: str, credential: str) -> None:
        """One due recipient is on disk and not here: of a lane that has no room, or of a credential."""
        whole = self._wholes.get(credential)
        is_whole = (whole is not None and whole.more) or self._room_of(credential) <= 0
        self.mark_more(EVERY if is_whole else domain, credential)

    def mark_more(self, domain: str, credential: str) -> None:
        """Due recipients of the lane are on disk and not here."""
        if domain == EVERY:
            lane = self._whole(credential)
        else:
            lane = self._lane(self._domains.setdefault(domain, Domain()), credential)
        lane.more = True
        lane.marks += 1
        self._to_read[(domain, credential)] = None

    def readable(self, *, now: float, limit: int) -> list[LaneKey]:
        """Lanes with more on disk and room for it here, in turn."""
        self._unpark(now)
        found: list[LaneKey] = []
        over: list[LaneKey] = []
        for key in self._to_read if self.free > 0 else ():
            (found if self.room_for(*key) else over).append(key)
            if len(found) >= limit:
                break
        for key in over:
            self._put_aside(key)
        return found

    def _put_aside(self, key: LaneKey) -> None:
        """It has no room. A lane without has some in memory: one of these will be released. Where it is its credential
        that has none, it is read with all of that; but for what an operator wants tried.
        """
        domain, credential = key
        if domain == EVERY:
            return
        if self._room_of(credential) > 0:
            del self._to_read[key]
        elif not self._domains[domain].urged:
            del self._to_read[key]
            self._domains[domain].lanes[credential].more = False
            self.mark_more(EVERY, credential)
            self._tidy(domain, credential)

    def room_for(self, domain: str, credential: str) -> int:
        """How many may be read of a lane; 0 until half of its share is free."""
        if domain == EVERY:
            return self._room_of(credential) if self._is_half_free(self._wholes[credential]) else 0
        state = self._domains[domain]
        share, claimed = self._share_in(state), state.lanes[credential].claimed
        return min(max(0, share - claimed), self._room_of(credential)) if claimed <= share // 2 else 0

    def next_page(self, domain: str, credential: str) -> Cursor | None:
        """After which the lane is to be read next; None: from its first due recipient."""
        lane = self._known(domain, credential)
        if lane is None:
            return None
        if lane.read_to is None:
            lane.marks_read = lane.marks
        return lane.read_to

    def page_read(self, domain: str, credential: str, *, last: Cursor | None) -> None:
        """What was on it is claimed here or goes a parked way; the other lanes come first now. last: how far it was
        read, None at the end.
        """
        key = (domain, credential)
        self._to_read.pop(key, None)
        lane = self._known(domain, credential)
        if lane is None:
            return
        lane.read_to = last
        lane.fresh = 0
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
        state = self._domains.setdefault(domain, Domain())
        state.parked[(way, sender_domain)] = Parked(site, hop, until)
        self._parked[domain] = None
        self._look_at(domain, state, until)

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
        while self._parked_until and self._parked_until[0][0] <= now:
            at, domain = heappop(self._parked_until)
            state = self._domains.get(domain)
            if state is None or state.looked_at != at:
                continue
            state.looked_at = NEVER
            self._look_at(
                domain, state, min((each.until for each in state.parked.values() if each.until > now), default=NEVER)
            )
            self._end_parking(domain, [key for key, each in state.parked.items() if each.until <= now])

    def _look_at(self, domain: str, state: Domain, at: float) -> None:
        if at < state.looked_at:
            state.looked_at = at
            heappush(self._parked_until, (at, domain))

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

    def _known(self, domain: str, credential: str) -> Lane | None:
        if domain == EVERY:
            return self._wholes.get(credential)
        state = self._domains.get(domain)
        return state.lanes.get(credential) if state is not None else None

    def _whole(self, credential: str) -> Lane:
        whole = self._wholes.get(credential)
        if whole is None:
            whole = self._wholes[credential] = Lane()
        return whole

    def _lane(self, state: Domain, credential: str) -> Lane:
        lane = state.lanes.get(credential)
        if lane is None:
            lane = state.lanes[credential] = Lane()
        return lane

    def _tidy(self, domain: str, credential: str) -> None:
        whole = self._wholes.get(credential)
        if whole is not None and whole.is_idle:
            del self._wholes[credential]
        if domain == EVERY:
            return
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
