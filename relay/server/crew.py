"""server.crew: the workers as the supervisor knows them. Time comes in as an argument, in monotonic seconds.

A worker that dies is started again: at once if it had run well, after a wait that doubles if it dies again and again.
One that says nothing for long is hung. An error before any worker of a place was ever ready is one that no restart
cures (sysexits.h): the whole server ends with it.
"""

import asyncio
import os
from contextlib import suppress
from dataclasses import dataclass, field

from relay.errors import RelayError
from relay.server.channel import Channel
from relay.server.forking import Ends
from relay.server.rates_keeper import SAVE_EVERY

HEARD_WITHIN = 1.0
SYSEXITS = range(os.EX_USAGE, os.EX_CONFIG + 1)


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds. beat: between two words of a worker. hung_after: without one it is killed. settled_after: a worker that
    ran so long had run well. grace: beyond server.drain, until a worker that does not end is killed.
    """

    beat: float = 1.0
    hung_after: float = 30.0
    settled_after: float = 10.0
    first_wait: float = 1.0
    longest_wait: float = 30.0
    fork_again: float = 1.0
    reload_within: float = 30.0
    grace: float = 10.0
    save_every: float = SAVE_EVERY


@dataclass(slots=True)
class Life:
    """One worker's. ready: it takes mail. error: what it told of its end. killed: by us."""

    pid: int
    ends: Ends
    channel: Channel
    started_at: float
    last_beat: float
    ready: bool = False
    error: RelayError | None = None
    killed: bool = False

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
    patience: Patience = field(default_factory=Patience)
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
        wait = self.patience.first_wait * 2.0 ** (self.failures - 2) if self.failures > 1 else 0.0
        self.life = None
        self.start_at = now + min(wait, self.patience.longest_wait)
