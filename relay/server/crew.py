"""server.crew: the workers as the supervisor knows them. Time comes in as an argument, in monotonic seconds.

A worker that dies is started again: at once if it had run well, after a wait that doubles if it dies again and again.
One that says nothing for long is hung and is killed, and so is one that does not end in time. An error before a place
ever had a worker that was ready is one that no restart cures (sysexits.h): the whole server ends with it.
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from relay.errors import RelayError
from relay.log import Log
from relay.server.channel import Channel
from relay.server.forking import Ends, exit_code
from relay.server.patience import Patience

HEARD_WITHIN = 1.0
SYSEXITS = range(os.EX_USAGE, os.EX_CONFIG + 1)


@dataclass(slots=True)
class Life:
    """One worker's. ready: it takes mail. error: what it told of its end. killed: by us. over: it was reaped, and its
    process id may be another's.
    """

    pid: int
    ends: Ends
    channel: Channel
    started_at: float
    last_beat: float
    ready: bool = False
    error: RelayError | None = None
    killed: bool = False
    over: bool = False

    def reap(self) -> int | None:
        """Its exit code; None while it runs."""
        code = exit_code(self.pid)
        self.over = code is not None
        return code

    def signal(self, number: signal.Signals) -> None:
        if not self.over:
            os.kill(self.pid, number)

    def answers(self, now: float, *, within: float) -> bool:
        return now - self.last_beat <= within

    async def heard_out(self) -> None:
        """Once it has ended: until all it has said is heard."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.channel.ended.wait(), HEARD_WITHIN)

    def close(self) -> None:
        self.channel.close()
        self.ends.passing.close()


@dataclass(slots=True)
class Slot:
    """One shard's place. `life` while a worker runs, else `start_at` says when the next is started."""

    number: int
    patience: Patience
    start_at: float = 0.0
    failures: int = 0
    ever_ready: bool = False
    life: Life | None = None

    def is_due(self, now: float) -> bool:
        return self.life is None and self.start_at <= now

    def became_ready(self, life: Life, now: float) -> None:
        life.ready = self.ever_ready = True
        life.last_beat = now

    def cannot_run(self, code: int) -> bool:
        """Whether an end with this exit code is for good."""
        return code in SYSEXITS and not self.ever_ready

    def ended(self, life: Life, now: float) -> None:
        ran_well = now - life.started_at >= self.patience.settled_after
        self.failures = 0 if ran_well else self.failures + 1
        wait = self.patience.first_wait * 2.0 ** min(self.failures - 2, 16) if self.failures > 1 else 0.0
        self.life = None
        self.start_at = now + min(wait, self.patience.longest_wait)


@dataclass(frozen=True, slots=True)
class Ended:
    """code: negative for the signal that ended it."""

    slot: Slot
    life: Life
    code: int


class Crew:
    """All of them."""

    def __init__(self, workers: int, patience: Patience, log: Log) -> None:
        self.slots = tuple(Slot(number, patience) for number in range(workers))
        self._patience = patience
        self._log = log
        self._looked_at: float | None = None

    def lives(self) -> Iterator[tuple[Slot, Life]]:
        return ((slot, slot.life) for slot in self.slots if slot.life is not None)

    def ready(self) -> list[Life]:
        """Those that take mail."""
        return [life for _, life in self.lives() if life.ready]

    def answering(self, now: float) -> int:
        """How many of those have said so lately."""
        return sum(life.answers(now, within=5 * self._patience.beat) for life in self.ready())

    def is_alive(self, now: float) -> bool:
        """No worker that runs is hung; one that is being restarted is no reason to end them all."""
        return all(life.answers(now, within=self._patience.hung_after) for _, life in self.lives())

    def is_empty(self) -> bool:
        return not any(True for _ in self.lives())

    async def ended(self) -> list[Ended]:
        """Those whose processes are over, when all they had to say is heard."""
        over = [Ended(slot, life, code) for slot, life in self.lives() if (code := life.reap()) is not None]
        for each in over:
            await each.life.heard_out()
        return over

    def kill_the_hung(self, now: float) -> None:
        self._excuse_our_own_absence(now)
        for slot, life in self.lives():
            if not life.answers(now, within=self._patience.hung_after):
                self.kill(slot, life, "does not answer")

    def kill_all(self, why: str) -> None:
        for slot, life in self.lives():
            self.kill(slot, life, why)

    def kill(self, slot: Slot, life: Life, why: str) -> None:
        if not life.killed:
            life.killed = True
            self._log.error("worker killed", worker=slot.number, pid=life.pid, why=why)
            life.signal(signal.SIGKILL)

    def drain(self) -> None:
        for _, life in self.lives():
            life.signal(signal.SIGTERM)

    def tell(self, verb: str) -> None:
        for _, life in self.lives():
            life.channel.tell(verb)

    def tell_how_many_are_ready(self) -> None:
        ready = self.ready()
        for life in ready:
            life.channel.tell("workers", len(ready))

    def _excuse_our_own_absence(self, now: float) -> None:
        """The machine was paused: what a worker has said meanwhile is still to be read."""
        before, self._looked_at = self._looked_at, now
        if before is not None and now - before > self._patience.hung_after / 2:
            for _, life in self.lives():
                life.last_beat = now
