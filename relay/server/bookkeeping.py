"""server.bookkeeping: what happens beside a shard's hot path.

Events move from the shard to the journal's day files, suppressions to suppression.db, both in idle moments and both so that a
crash between the two ends loses nothing and doubles nothing (they are known by shard and sequence). Once an hour days past
their retention are deleted: whole files of the journal, never anything of the queue.
"""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

from relay.journal import Journal, Mover
from relay.log import Log
from relay.registry import Suppressions
from relay.spool import Spool

CARRY_EVERY = 1.0
CARRY_BATCH = 500
EXPIRE_EVERY = 3600.0


class Bookkeeping:
    """One shard's. retention_days: asked each time, so that a reload counts."""

    def __init__(
        self,
        *,
        spool: Spool,
        number: int,
        journal: Journal,
        suppressions: Suppressions,
        retention_days: Callable[[], int],
        now: Callable[[], float],
        log: Log,
    ) -> None:
        self._spool = spool
        self._number = number
        self._journal = journal
        self._suppressions = suppressions
        self._retention_days = retention_days
        self._now = now
        self._log = log
        self.mover = Mover(spool, journal)

    async def carry(self) -> None:
        """Take what the shard proved about addresses to suppression.db. Until cancelled."""
        while True:
            rows = await self._spool.suppressions(CARRY_BATCH)
            if rows:
                await self._suppressions.absorb(self._number, rows)
                await self._spool.forget_suppressions(rows[-1][0])
            if len(rows) < CARRY_BATCH:
                await asyncio.sleep(CARRY_EVERY)

    async def expire(self) -> None:
        """Delete the days past retention. Until cancelled."""
        while True:
            today = datetime.fromtimestamp(self._now(), tz=UTC).date()
            for path in await self._journal.expire(today, self._retention_days()):
                self._log.info("journal day deleted", file=str(path))
            await asyncio.sleep(EXPIRE_EVERY)
