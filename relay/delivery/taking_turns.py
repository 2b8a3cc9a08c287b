"""delivery.taking_turns: who has the next turn at a paced site. In one place for the whole machine.

Workers ask for a turn for each message, in the name of its stream and credential. It is not given to who asked first,
which would be the worker, and the credential, with most connections, but in a fair order: equal shares for all that
have mail, at whatever workers it is.

Turns are given a moment ahead, so that each comes in its time though a loop is late. Who would wait for longer than
`SOON` is told so and asks again: those at the end of the line.
"""

import asyncio
from bisect import insort
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from relay.delivery.fair_order import FairOrder, Sharer
from relay.delivery.pace import SOON, Pace, Turns

AHEAD = 0.02  # seconds


@dataclass(slots=True, eq=False)
class Asker:
    """begins: its place in the order. answer: seconds until its turn."""

    sharer: Sharer
    worker: int
    pace: Pace
    count: int
    begins: float
    answer: "asyncio.Future[float]"


class TakingTurns:
    """One site's. turns: when they come. steady: seconds that never jump."""

    def __init__(self, turns: Turns, steady: Callable[[], float]) -> None:
        self._turns = turns
        self._steady = steady
        self._line: list[Asker] = []
        self._length = 0  # messages of all in line
        self._order = FairOrder()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_ahead(self) -> bool:
        """Messages wait for their turn."""
        return bool(self._line) or self._turns.is_ahead(self._steady())

    async def take(self, pace: Pace, *, count: int, sharer: Sharer, worker: int) -> float:
        """As `SiteLimits.pace`."""
        begins = self._order.place(sharer, count=count)
        asker = Asker(sharer, worker, pace, count, begins, asyncio.get_running_loop().create_future())
        insort(self._line, asker, key=attrgetter("begins"))
        self._length += count
        self._give()
        try:
            return await asker.answer
        finally:
            if asker.answer.cancelled() and asker in self._line:  # nobody waits for the answer any more
                self._take_out(self._line.index(asker))

    def left(self, worker: int) -> None:
        """It is dead, and takes none."""
        for asker in [each for each in self._line if each.worker == worker]:
            self._take_out(self._line.index(asker))
            asker.answer.cancel()

    def _give(self) -> None:
        """The turns that come now, and to each that waits for longer an answer or a place in line."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        now, wait = self._steady(), 0.0
        while self._line:
            asker = self._line[0]
            wait = self._turns.wait(asker.pace, count=asker.count, now=now)
            if wait > AHEAD:
                break
            self._turns.take(asker.pace, count=asker.count, at=now + wait)
            self._answer(0, wait)
            self._order.reach(asker.begins)
        self._send_away(wait)
        if self._line:
            self._timer = asyncio.get_running_loop().call_later(wait - AHEAD / 2, self._give)

    def _send_away(self, wait: float) -> None:
        """wait: of the first in line."""
        while self._line:
            last = self._line[-1]
            rate = last.pace.per_second
            longest = wait + ((self._length - last.count) / rate if rate else 0.0)
            if longest <= SOON:
                return
            self._order.give_up(last.sharer, count=last.count)
            self._answer(-1, longest)

    def _answer(self, place: int, wait: float) -> None:
        asker = self._take_out(place)
        if not asker.answer.done():
            asker.answer.set_result(wait)

    def _take_out(self, place: int) -> Asker:
        asker = self._line.pop(place)
        self._length -= asker.count
        return asker
