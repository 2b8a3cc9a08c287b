"""dryrun.board: what is common to the workers of a dry run, as the switchboard keeps it for those of a server.

The same bookkeeping, `delivery.machine_limits` and `delivery.machine_breakers`, without the channels between processes.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from relay.delivery.breaker import Report, Scope
from relay.delivery.fair_order import Sharer
from relay.delivery.feedback import Allowance, Change, Learnt, Push
from relay.delivery.governor import Heard, SiteLimits
from relay.delivery.known_breakers import HeardBreaker, KnownBreakers
from relay.delivery.machine_breakers import MachineBreakers
from relay.delivery.machine_breakers import Told as ToldOfBreaker
from relay.delivery.machine_limits import MachineLimits
from relay.delivery.pace import Pace
from relay.delivery.quota import Quota
from relay.server.switchboard import limits_of
from relay.submission.limits import Rates

Told = Callable[[str], None]  # of a site


class Board:
    """steady, now: virtual seconds. rates: what quotas have been used. used_up: those that were, by name. changes: of
    what sites may have, in order.
    """

    def __init__(self, *, steady: Callable[[], float], now: Callable[[], float]) -> None:
        self.limits = MachineLimits(
            steady=steady, now=now, tell=self._tell, is_free=self._tell_of_place, noted=self._noted
        )
        self.breakers = MachineBreakers(
            steady=steady, now=now, tell=self._tell_of_breaker, noted=lambda _site, _change: None
        )
        self.rates = Rates()
        self.used_up: set[str] = set()
        self.now = now
        self.changes: list[tuple[str, Change]] = []
        self._known: dict[int, KnownBreakers] = {}
        self._breaker_followers: dict[int, list[HeardBreaker]] = defaultdict(list)
        self._steady = steady
        self._followers: dict[int, list[Heard]] = defaultdict(list)
        self._wanted: dict[int, Told] = {}
        self._is_free: dict[int, Told] = {}

    def learnt(self) -> Mapping[str, Learnt]:
        """By site."""
        return self.limits.learnt()

    def of_worker(self, number: int) -> "WorkersBoard":
        return WorkersBoard(self, number)

    def join(self, worker: int, *, wanted: Told, is_free: Told) -> None:
        """wanted: another waits for a connection to the site. is_free: there is one for this worker."""
        self._wanted[worker] = wanted
        self._is_free[worker] = is_free

    def follow(self, worker: int, heard: Heard) -> None:
        self._followers[worker].append(heard)

    def known_breakers(self, worker: int) -> KnownBreakers:
        return self._known.setdefault(worker, KnownBreakers(self._steady))

    def follow_breakers(self, worker: int, heard: HeardBreaker) -> None:
        self._breaker_followers[worker].append(heard)

    def ask_for_idle(self, worker: int, site: str) -> None:
        """Of the other workers."""
        for other in self.limits.holders(site):
            if other != worker:
                self._wanted[other](site)

    def _tell(self, worker: int, site: str, allowance: Allowance, surplus: int) -> None:
        for heard in self._followers[worker]:
            surplus = heard(site, allowance, surplus)

    def _tell_of_breaker(self, front: str, told: ToldOfBreaker) -> None:
        for worker, known in self._known.items():
            known.hear(front, told)
            for heard in self._breaker_followers[worker]:
                heard(front, told)

    def _tell_of_place(self, worker: int, site: str) -> None:
        """A moment later, as over a channel: who gives it up has done so then."""
        asyncio.get_running_loop().call_soon(self._is_free[worker], site)

    def _noted(self, site: str, change: Change) -> None:
        self.changes.append((site, change))


class WorkersBoard(SiteLimits):
    """One worker's view."""

    def __init__(self, board: Board, number: int) -> None:
        self._board = board
        self._number = number
        self.breakers = board.known_breakers(number)

    def follow(self, heard: Heard) -> None:
        self._board.follow(self._number, heard)

    async def acquire(self, site: str, *, maximum: int) -> bool:
        is_free = self._board.limits.acquire(self._number, site, maximum=maximum)
        if not is_free:
            self._board.ask_for_idle(self._number, site)
        return is_free

    def opened(self, site: str) -> None:
        self._board.limits.opened(self._number, site)

    def release(self, site: str, *, opened: bool) -> None:
        self._board.limits.release(self._number, site, opened=opened)

    async def pace(self, site: str, pace: Pace, *, count: int, sharer: Sharer) -> float:
        return await self._board.limits.take_turn(self._number, site, pace, count=count, sharer=sharer)

    async def spend(self, quota: Quota, *, count: int) -> float:
        board = self._board
        wait = board.rates.take(quota.counted_as, limits_of(quota), now=board.now(), count=count)
        if wait:
            board.used_up.add(quota.counted_as)
        return wait

    def refund(self, quota: Quota, *, count: int) -> None:
        self._board.rates.give_back(quota.counted_as, limits_of(quota), count=count)

    async def used(self, prefix: str) -> dict[str, tuple[int, int]]:
        return self._board.rates.used(prefix, now=self._board.now())

    def taken(self, site: str, *, messages: int) -> None:
        self._board.limits.taken(site, messages)

    async def pushed_back(self, site: str, push: Push) -> bool:
        return self._board.limits.pushed_back(site, push)

    def follow_breakers(self, heard: HeardBreaker) -> None:
        self._board.follow_breakers(self._number, heard)

    async def reported(self, front: str, report: Report) -> bool:
        return self._board.breakers.report(front, report)

    async def probe(self, front: str, scopes: Sequence[Scope], *, urged: bool) -> float:
        return self._board.breakers.probe(self._number, front, scopes, urged=urged)
