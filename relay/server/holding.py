"""server.holding: a shard as a worker owns it: delivered from, recorded, commanded; begun and ended as a whole.

Nothing is submitted to an adopted shard. When the last of its recipients has ended and all it had to tell is carried
elsewhere, it is let go of, and only its journal is still looked after. A shard whose disk failed is cured by nothing
but a new owner: its failure is raised, and ends the worker.
"""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

from relay.errors import SpoolError
from relay.journal.site_log import SiteLog
from relay.journal.store import Journal
from relay.log import Log
from relay.registry.suppressions import Suppressions
from relay.server.bookkeeping import Bookkeeping
from relay.server.control import ControlServer
from relay.server.operations import Operations
from relay.server.repeating import repeat
from relay.server.retention import LOOK_EVERY, Retention
from relay.server.shard import Shard
from relay.spool.spool import Spool


class Holding:
    """Made by `open`. `is_held` until it is let go of."""

    def __init__(
        self,
        shard: Shard,
        *,
        directory: Path,
        journal: Journal,
        suppressions: Suppressions,
        retention: Retention,
        tasks: asyncio.TaskGroup,
        log: Log,
    ) -> None:
        self.shard = shard
        self.books = Bookkeeping(spool=shard.spool, journal=journal, suppressions=suppressions, log=log)
        self.is_held = True
        self._letting_go = asyncio.Lock()
        self._journal = journal
        self._retention = retention
        self._control = ControlServer(directory, Operations(shard).answer, tasks=tasks, log=log)
        self._tasks = tasks
        self._log = log
        self._works: list[asyncio.Task[None]] = []
        self._looking: list[asyncio.Task[None]] = []

    @classmethod
    async def open(
        cls,
        shard: Shard,
        *,
        directory: Path,
        suppressions: Suppressions,
        retention_days: Callable[[], int],
        site_log: SiteLog,
        now: Callable[[], float],
        tasks: asyncio.TaskGroup,
        log: Log,
    ) -> "Holding":
        """directory: the shard's. Raises SpoolError, SpoolVersion."""
        journal = await Journal.open(
            directory, damaged=lambda path, text: log.error("journal day set aside", file=str(path), error=text)
        )
        return cls(
            shard,
            directory=directory,
            journal=journal,
            suppressions=suppressions,
            retention=Retention(journal, site_log, days=retention_days, now=now, log=log),
            tasks=tasks,
            log=log,
        )

    @property
    def spool(self) -> Spool:
        return self.shard.spool

    async def start(self) -> None:
        """Take commands, and deliver. Raises SpoolError."""
        await self._control.start()
        self._works = self._begin(self.shard.scheduler.run(), *self.books.works(), _end_when_broken(self.spool))
        self._looking = self._begin(
            repeat(self._retention.look, every=LOOK_EVERY, log=self._log, failing="journal days not deleted yet")
        )

    def _begin(self, *works: Coroutine[None, None, None]) -> list[asyncio.Task[None]]:
        return [self._tasks.create_task(work) for work in works]

    async def is_empty(self) -> bool:
        """Nothing is owed any more. Raises SpoolError."""
        shard = self.shard
        if len(shard.scheduler.window) or shard.couriers.at_work or shard.settling.pending:
            return False
        totals = await self.spool.totals()
        if any(each.count for each in (totals.queued, totals.deferred, totals.held, totals.damaged)):
            return False
        return await self.books.has_all_carried()

    async def drain(self, *, seconds: float) -> None:
        """Finish what is under way; what is begun later is begun by the next owner."""
        if self.is_held:
            await self.shard.drain(seconds=seconds)

    async def let_go(self) -> None:
        """After `drain`: another process may own the shard from now on."""
        async with self._letting_go:
            if not self.is_held:
                return
            self.is_held = False
            await self._control.close()
            await _end(self._works)
            await self.books.finish()
            await self.spool.close()

    async def close(self) -> None:
        """Once."""
        await self.let_go()
        await _end(self._looking)
        await self._journal.close()


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)


async def _end_when_broken(spool: Spool) -> None:
    await spool.broken.wait()
    raise spool.failure or SpoolError(f"shard {spool.shard} is broken")
