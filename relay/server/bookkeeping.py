"""server.bookkeeping: what happens beside a shard's hot path.

Events move from the shard to the journal's day files, suppressions to suppression.db, refusals at submission into the
shard's events; each so that a crash between the two ends loses nothing and doubles nothing (they are known by shard
and sequence; a refusal may be lost with the last tenth of a second, nobody is owed anything for it). Once an hour the
days past their retention are deleted: whole files of the journal, never anything of the queue.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from relay.errors import RelayError
from relay.journal.mover import Mover
from relay.journal.store import Journal
from relay.log import Log
from relay.mail.event import Event
from relay.registry.suppressions import Suppressions
from relay.spool import Spool

MOVE_EVERY = 0.5
CARRY_EVERY = 1.0
CARRY_BATCH = 500
RECORD_EVERY = 0.1
MOST_REFUSALS = 10_000  # waiting to be recorded
EXPIRE_EVERY = 3600.0


class Bookkeeping:
    """One shard's. retention_days: asked each time, so that a reload counts."""

    def __init__(
        self,
        *,
        spool: Spool,
        journal: Journal,
        suppressions: Suppressions,
        retention_days: Callable[[], int],
        now: Callable[[], float],
        log: Log,
    ) -> None:
        self._spool = spool
        self._journal = journal
        self._suppressions = suppressions
        self._retention_days = retention_days
        self._now = now
        self._log = log
        self._refusals: list[Event] = []
        self._mover = Mover(
            _Events(spool), journal, wait=lambda: asyncio.sleep(MOVE_EVERY), failed=self._not_moved, sleep=asyncio.sleep
        )

    @classmethod
    async def open(
        cls,
        directory: Path,
        spool: Spool,
        *,
        suppressions: Suppressions,
        retention_days: Callable[[], int],
        now: Callable[[], float],
        log: Log,
    ) -> "Bookkeeping":
        """directory: the shard's. Raises SpoolError, SpoolVersion."""
        journal = await Journal.open(
            directory, damaged=lambda path, text: log.error("journal day set aside", file=str(path), error=text)
        )
        return cls(
            spool=spool, journal=journal, suppressions=suppressions, retention_days=retention_days, now=now, log=log
        )

    async def close(self) -> None:
        """Carry what there is, and let go."""
        await self._record()
        await self._journal.close()

    def refused(self, event: Event) -> None:
        """A refusal at submission, to be recorded soon. When they come faster than the disk takes them, some are
        not.
        """
        if len(self._refusals) < MOST_REFUSALS:
            self._refusals.append(event)
        else:
            self._log.warning("refusal not journaled", id=event.message, sender=event.sender)

    def works(self) -> Sequence[Coroutine[None, None, None]]:
        """What runs beside, until cancelled."""
        return self._mover.run(), self._carry(), self._expire(), self._keep_recording()

    async def _keep_recording(self) -> None:
        while True:
            await asyncio.sleep(RECORD_EVERY)
            try:
                await self._record()
            except RelayError as error:
                self._log.error("refusals not journaled yet", error=error.text)

    async def _record(self) -> None:
        events = list(self._refusals)
        if events:
            await self._spool.record(events)
            del self._refusals[: len(events)]

    async def _carry(self) -> None:
        """Take what the shard proved about addresses to suppression.db."""
        while True:
            try:
                carried = await self._carry_some()
            except RelayError as error:
                self._log.error("suppressions not carried over yet", error=error.text)
                carried = 0
            if carried < CARRY_BATCH:
                await asyncio.sleep(CARRY_EVERY)

    async def _carry_some(self) -> int:
        rows = await self._spool.suppressions(limit=CARRY_BATCH)
        if rows:
            await self._suppressions.absorb(self._spool.shard, rows)
            await self._spool.forget_suppressions(rows[-1][0])
        return len(rows)

    async def _expire(self) -> None:
        while True:
            for day in await self._journal.expire(today=self._today(), retention_days=self._retention_days()):
                self._log.info("journal day deleted", day=day.isoformat())
            await asyncio.sleep(EXPIRE_EVERY)

    def _today(self) -> date:
        return datetime.fromtimestamp(self._now(), tz=UTC).date()

    def _not_moved(self, error: RelayError) -> None:
        self._log.error("events not moved to the journal yet", error=error.text)


class _Events:
    """The shard as the mover's source."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    async def events(self, limit: int, /) -> Sequence[tuple[int, Event]]:
        return await self._spool.events(limit=limit)

    async def forget_events(self, upto: int, /) -> None:
        await self._spool.forget_events(upto)
