"""server.bookkeeping: what happens beside a shard's hot path.

Events move from the shard to the journal's day files, suppressions to suppression.db, refusals at submission into the
shard's events; each so that a crash between the two ends loses nothing and doubles nothing (they are known by shard
and sequence; a refusal may be lost with the last tenth of a second, nobody is owed anything for it). What cannot be
carried now stays where it is, safe, and is tried again.
"""

import asyncio
from collections.abc import Coroutine, Sequence

from relay.errors import RelayError
from relay.journal.mover import Mover
from relay.journal.store import Journal
from relay.log import Log
from relay.mail.event import Event
from relay.registry.suppressions import Suppressions
from relay.server.repeating import attempt, repeat
from relay.spool.spool import Spool

MOVE_EVERY = 0.5
CARRY_EVERY = 1.0
CARRY_BATCH = 500
RECORD_EVERY = 0.1
MOST_REFUSALS = 10_000  # waiting to be recorded


class Bookkeeping:
    """One shard's."""

    def __init__(self, *, spool: Spool, journal: Journal, suppressions: Suppressions, log: Log) -> None:
        self._spool = spool
        self._suppressions = suppressions
        self._log = log
        self._refusals: list[Event] = []
        self._mover = Mover(
            _Events(spool), journal, wait=lambda: asyncio.sleep(MOVE_EVERY), failed=self._not_moved, sleep=asyncio.sleep
        )

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
        log = self._log
        return (
            self._mover.run(),
            repeat(self._carry, every=CARRY_EVERY, log=log, failing="suppressions not carried over yet"),
            repeat(self._record, every=RECORD_EVERY, log=log, failing="refusals not journaled yet"),
        )

    async def finish(self) -> None:
        """Record what waits; what fails then is lost, and told."""
        await attempt(self._record, log=self._log, failing="refusals not journaled")

    async def has_all_carried(self) -> bool:
        """Nothing of this shard's is left to be carried elsewhere. Raises SpoolError."""
        waiting = self._refusals or await self._spool.events(limit=1) or await self._spool.suppressions(limit=1)
        return not waiting

    async def _record(self) -> None:
        events = list(self._refusals)
        if events:
            await self._spool.record(events)
            del self._refusals[: len(events)]

    async def _carry(self) -> None:
        """Take what the shard proved about addresses to suppression.db."""
        while await self._carry_some() == CARRY_BATCH:
            continue

    async def _carry_some(self) -> int:
        rows = await self._spool.suppressions(limit=CARRY_BATCH)
        if rows:
            await self._suppressions.absorb(self._spool.shard, rows)
            await self._spool.forget_suppressions(rows[-1][0])
        return len(rows)

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
