"""delivery.machine_limits: connections and messages of all workers together, site by site.

Kept in one place: the supervisor's switchboard, or the only worker. Each question is answered exactly. Workers are told
of what is allowed when they open a connection and when it changes; when it becomes less, each ends its part of the
connections that are too many. `LocalLimits` is a worker's view where there is one worker.

Where there are no more connections, a worker that wants one has precedence over all that have as many as it has or
more, and one of another worker's that has two more ends for it; or the only one, after a while. So workers with mail
for the site have as many each, to within one.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from msgspec.structs import replace

from relay.delivery import taught
from relay.delivery.breaker import Report, Scope
from relay.delivery.fair_order import Sharer
from relay.delivery.feedback import Allowance, Change, Feedback, Learnt, Push
from relay.delivery.governor import Heard
from relay.delivery.known_breakers import HeardBreaker, KnownBreakers
from relay.delivery.machine_breakers import MachineBreakers, Told
from relay.delivery.pace import USED, Pace, Turns, Went
from relay.delivery.taking_turns import TakingTurns
from relay.delivery.taught import NOTHING, Taught

KEPT = 60.0  # seconds without a connection until a site is nothing but new again ...
LEARNT_KEPT = 3600.0  # ... that has pushed back
TURNS_KEPT = 2 * 3600.0  # ... that is paced: longer than any message is counted for
LEARNT_KEPT_ON_DISK = 86400.0  # for a site that no mail has come for since a restart
WANTED = 0.6  # seconds since it asked last that a worker wants a connection: it asks again and again
WITHOUT = 1.0  # seconds a worker has to do without a connection until another's only one ends for it
LINGERS = 2.0  # seconds that a dead worker's connections count: a server at work on a message notices late
MOST_SITES = 1000  # before they are looked through for what may be forgotten

Tell = Callable[[int, str, Allowance, int], None]
IsFree = Callable[[int, str], None]
Noted = Callable[[str, Change], None]


class MachineSite:
    """feedback: what it taught. held, sessions: connections, and those of them that are open, by worker. gone: those of
    dead workers, and until when they count. used_at: when somebody last had one. wanted: by workers that were refused
    one: since when, and when they last asked. turns, line: of its messages, where there is a pace.
    """

    __slots__ = ("feedback", "gone", "held", "line", "sessions", "turns", "used_at", "wanted")

    def __init__(self, steady: Callable[[], float]) -> None:
        self.feedback = Feedback()
        self.held: Counter[int] = Counter()
        self.sessions: Counter[int] = Counter()
        self.gone: list[tuple[float, int]] = []
        self.wanted: dict[int, tuple[float, float]] = {}
        self.turns = Turns()
        self.line = TakingTurns(self.turns, steady)
        self.used_at = 0.0

    @property
    def kept_until(self) -> float:
        """Without a connection to it."""
        learnt = LEARNT_KEPT if self.feedback.has_learnt else KEPT
        return max(self.used_at + learnt, self.turns.last + TURNS_KEPT if self.turns.last else 0.0)

    def count(self) -> None:
        self.feedback.held = self.held.total() + sum(count for _, count in self.gone)
        self.feedback.sessions = self.sessions.total()

    def left(self, worker: int, now: float) -> None:
        """It is dead."""
        self.gone.append((now + LINGERS, self.held.pop(worker, 0)))
        self.sessions.pop(worker, None)
        self.wanted.pop(worker, None)
        self.line.left(worker)
        self.count()

    def forget_gone(self, now: float) -> None:
        if self.gone:
            self.gone = [(until, count) for until, count in self.gone if until > now]
            self.count()

    @property
    def free(self) -> int:
        return self.feedback.connections - self.feedback.held

    def want(self, worker: int, now: float) -> None:
        since, last = self.wanted.get(worker, (now, now))
        self.wanted[worker] = (since if now - last <= WANTED else now, now)

    def wanting(self, now: float) -> list[int]:
        """The workers that want a connection, in order of precedence."""
        self.wanted = {worker: times for worker, times in self.wanted.items() if now - times[1] <= WANTED}
        return sorted(self.wanted, key=lambda worker: self._precedence(worker, now))

    def is_missed(self, now: float) -> bool:
        """Whether a worker that wants a connection has none."""
        return bool(self.wanted) and any(not self.held[worker] for worker in self.wanting(now))

    def _precedence(self, worker: int, now: float) -> tuple[int, float]:
        """The lowest has it."""
        return (self.held[worker], self.wanted.get(worker, (now, now))[0])

    def has_one_for(self, worker: int, now: float) -> bool:
        """Whether a connection is free that is not for another worker."""
        if not self.wanted or self.free <= 0:
            return self.free > 0
        own = self._precedence(worker, now)
        return self.free > sum(self._precedence(each, now) < own for each in self.wanting(now) if each != worker)

    def to_give_one_up(self, worker: int, now: float) -> int | None:
        """The worker of which a connection is to end for one that wants it."""
        if not self.held:
            return None
        richest, most = self.held.most_common(1)[0]
        is_without = not self.held[worker] and now - self.wanted[worker][0] >= WITHOUT
        return richest if most - self.held[worker] > 1 or is_without else None

    def surplus(self, worker: int, *, leaving: int) -> int:
        """How many of a worker's connections are too many; each has its part, rounded up. leaving: those that end
        anyway.
        """
        too_many = self.feedback.held - leaving - self.feedback.connections
        if too_many <= 0:
            return 0
        return -(-too_many * self.held[worker] // self.feedback.held)


class MachineLimits:
    """tell: a worker of what is allowed from now on. is_free: ... that it may ask for the connection it wants. noted:
    each change, once. before, went: what an earlier server learnt, and sent. steady: seconds that never jump; now:
    POSIX seconds.
    """

    def __init__(
        self,
        *,
        steady: Callable[[], float],
        now: Callable[[], float],
        tell: Tell,
        is_free: IsFree,
        noted: Noted,
        before: Mapping[str, Learnt] = MappingProxyType({}),
        went: Mapping[str, Went] = MappingProxyType({}),
    ) -> None:
        self._is_free = is_free
        self._before = dict(before)
        self._went_before = dict(went)
        self._steady = steady
        self._now = now
        self._tell = tell
        self._noted = noted
        self._sites: dict[str, MachineSite] = {}
        self._most = MOST_SITES

    def acquire(self, worker: int, site: str, *, maximum: int) -> bool:
        state = self._of(site)
        feedback = state.feedback
        if maximum != feedback.most:
            before = feedback.allowance
            feedback.allow(maximum)
            self._spread(site, state, (), before=before, leaving=0)
        self._tell(worker, site, feedback.allowance, 0)
        now = self._steady()
        state.forget_gone(now)
        if not state.has_one_for(worker, now):
            state.want(worker, now)
            self._make_way(site, state, worker, now)
            return False
        state.wanted.pop(worker, None)
        state.held[worker] += 1
        state.count()
        return True

    def _make_way(self, site: str, state: MachineSite, worker: int, now: float) -> None:
        richest = state.to_give_one_up(worker, now) if state.free <= 0 else None
        if richest is not None:
            self._tell(richest, site, state.feedback.allowance, 1)

    def holders(self, site: str) -> list[int]:
        """The workers that have connections to the site, or open one."""
        return list(self._of(site).held)

    def opened(self, worker: int, site: str) -> None:
        state = self._of(site)
        state.sessions[worker] += 1
        state.count()

    def release(self, worker: int, site: str, *, opened: bool) -> None:
        state = self._of(site)
        state.used_at = self._steady()
        for counter in (state.held, state.sessions) if opened else (state.held,):
            counter[worker] -= 1
            if counter[worker] <= 0:
                del counter[worker]
        state.count()
        self._offer(site, state, state.held[worker])

    def _offer(self, site: str, state: MachineSite, most: int) -> None:
        """What is free to who wants it: each asks for its own. most: connections that they have, no more than who had
        the one that is free has left, for that one may go on with another.
        """
        if state.wanted and state.free > 0:
            for worker in state.wanting(self._steady())[: state.free]:
                if state.held[worker] <= most:
                    self._is_free(worker, site)

    def left(self, worker: int) -> None:
        """It is dead: what it held is free in a moment."""
        for state in self._sites.values():
            state.left(worker, self._steady())

    async def take_turn(self, worker: int, site: str, pace: Pace, *, count: int, sharer: Sharer) -> float:
        """As `SiteLimits.pace`."""
        state = self._of(site)
        rates = [rate for rate in (USED * pace.per_second, state.feedback.per_second) if rate]
        slowest = replace(pace, per_second=min(rates, default=0.0))
        return await state.line.take(slowest, count=count, sharer=sharer, worker=worker)

    def taken(self, site: str, messages: int) -> None:
        state = self._of(site)
        before = state.feedback.allowance
        now = self._steady()
        is_paced = state.line.is_ahead and not state.is_missed(now)
        changes = state.feedback.taken(messages, is_paced=is_paced, now=now, at=self._now())
        self._spread(site, state, changes, before=before, leaving=0)

    def pushed_back(self, site: str, push: Push) -> bool:
        """Whether a session that was refused was one too many. It is held still."""
        state = self._of(site)
        feedback = state.feedback
        before, is_one_too_many = feedback.allowance, feedback.is_one_too_many(push)
        changes = feedback.pushed_back(push, now=self._steady(), at=self._now())
        self._spread(site, state, changes, before=before, leaving=1)
        return is_one_too_many

    def _spread(
        self, site: str, state: MachineSite, changes: Iterable[Change], *, before: Allowance, leaving: int
    ) -> None:
        for change in changes:
            self._noted(site, change)
        if state.feedback.allowance is before:
            return
        for worker in list(state.held):
            self._tell(worker, site, state.feedback.allowance, state.surplus(worker, leaving=leaving))

    def _of(self, site: str) -> MachineSite:
        state = self._sites.get(site)
        if state is None:
            if len(self._sites) >= self._most:
                self._forget(self._steady())
                self._most = max(MOST_SITES, 2 * len(self._sites))
            state = self._sites[site] = MachineSite(self._steady)
            if site in self._before:
                state.feedback.restore(self._before.pop(site), now=self._steady())
            if site in self._went_before:
                state.turns.restore(self._went_before.pop(site), now=self._steady(), ahead=self._ahead)
        return state

    @property
    def _ahead(self) -> float:
        return self._now() - self._steady()

    def learnt(self) -> dict[str, Learnt]:
        """By site, for a restart; what was kept from before and not needed yet, too, for a day."""
        at = self._now()
        young = {site: one for site, one in self._before.items() if at - one.at < LEARNT_KEPT_ON_DISK}
        known = {site: state.feedback.learnt(at=at) for site, state in self._sites.items() if state.feedback.has_learnt}
        return young | known

    def went(self) -> dict[str, Went]:
        """By site, for a restart, as `learnt`; for the hour that it counts."""
        now, ahead = self._steady(), self._ahead
        young = {site: one for site, one in self._went_before.items() if one.is_young(at=now + ahead)}
        known = {site: state.turns.went(now=now, ahead=ahead) for site, state in self._sites.items()}
        return young | {site: one for site, one in known.items() if one is not None}

    def _forget(self, now: float) -> None:
        """Of sites that nobody uses what counts for nothing any more, so that there are not more and more of them."""
        self._sites = {name: state for name, state in self._sites.items() if state.held or now < state.kept_until}


class LocalLimits:
    """SiteLimits where one worker is the whole machine, but for quotas. noted: each change, once. before: what an
    earlier server was taught. monotonic: seconds that never jump; steady: POSIX seconds that never do.
    """

    def __init__(
        self,
        *,
        monotonic: Callable[[], float],
        steady: Callable[[], float],
        now: Callable[[], float],
        noted: taught.Noted,
        before: Taught = NOTHING,
    ) -> None:
        self.breakers = KnownBreakers(steady)
        self._followers: list[Heard] = []
        self._breaker_followers: list[HeardBreaker] = []
        self._limits = MachineLimits(
            steady=monotonic,
            now=now,
            tell=self._tell,
            is_free=_nobody_waits,
            noted=noted,
            before=before.limits,
            went=before.went,
        )
        self._breakers = MachineBreakers(
            steady=steady, now=now, tell=self._tell_of_breaker, noted=noted, before=before.breakers
        )
        for front, told in self._breakers.told():
            self.breakers.hear(front, told)

    @property
    def open_breakers(self) -> int:
        return self._breakers.open

    def taught(self) -> Taught:
        """For a restart."""
        return Taught(self._limits.learnt(), self._breakers.kept(), self._limits.went())

    def _tell(self, _worker: int, site: str, allowance: Allowance, surplus: int) -> None:
        for heard in self._followers:
            surplus = heard(site, allowance, surplus)

    def _tell_of_breaker(self, front: str, told: Told) -> None:
        self.breakers.hear(front, told)
        for heard in self._breaker_followers:
            heard(front, told)

    def follow(self, heard: Heard) -> None:
        self._followers.append(heard)

    def follow_breakers(self, heard: HeardBreaker) -> None:
        self._breaker_followers.append(heard)

    async def acquire(self, site: str, *, maximum: int) -> bool:
        return self._limits.acquire(0, site, maximum=maximum)

    def opened(self, site: str) -> None:
        self._limits.opened(0, site)

    def release(self, site: str, *, opened: bool) -> None:
        self._limits.release(0, site, opened=opened)

    async def pace(self, site: str, pace: Pace, *, count: int, sharer: Sharer) -> float:
        return await self._limits.take_turn(0, site, pace, count=count, sharer=sharer)

    def taken(self, site: str, *, messages: int) -> None:
        self._limits.taken(site, messages)

    async def pushed_back(self, site: str, push: Push) -> bool:
        return self._limits.pushed_back(site, push)

    async def reported(self, front: str, report: Report) -> bool:
        return self._breakers.report(front, report)

    async def probe(self, front: str, scopes: Sequence[Scope], *, urged: bool) -> float:
        return self._breakers.probe(0, front, scopes, urged=urged)


def _nobody_waits(_worker: int, _site: str) -> None:
    """The only worker has all connections there are, and sees for itself when one ends."""
