"""journal.mover: carries events from the shard where they are born to the journal.

Promise: nothing lost, nothing doubled. A batch is on disk in its day files before the shard forgets it; after a crash
in between it comes again and the journal takes each event once. It works when there is something and waits when there
is not, off the hot path; while the journal cannot be written the events stay in the shard, where a search finds them
too.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from relay.errors import RelayError
from relay.journal.store import Journal
from relay.mail.event import Event

BATCH = 1000
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 60.0


class EventSource(Protocol):
    """Where events are born: a shard."""

    async def events(self, limit: int, /) -> Sequence[tuple[int, Event]]:
        """The oldest events with their sequence numbers, ascending."""
        ...

    async def forget_events(self, upto: int, /) -> None:
        """Those with a sequence number of at most `upto` are in the journal."""
        ...


class Mover:
    """wait: returns once there may be events; what is recorded after `events` was asked must wake it too
    (asyncio.Event). failed: told of each failure; the mover tries again after a pause that grows. sleep:
    `asyncio.sleep`.
    """

    def __init__(
        self,
        source: EventSource,
        journal: Journal,
        *,
        wait: Callable[[], Awaitable[None]],
        failed: Callable[[RelayError], None],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._source = source
        self._journal = journal
        self._wait = wait
        self._failed = failed
        self._sleep = sleep

    async def run(self) -> None:
        """Until cancelled."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self.drain()
            except RelayError as error:
                self._failed(error)
                await self._sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                pause = FIRST_PAUSE
                await self._wait()

    async def drain(self) -> int:
        """Move all there is now; how many events. Raises SpoolError."""
        moved = 0
        while events := await self._source.events(BATCH):
            await self._journal.ingest(events)
            await self._source.forget_events(events[-1][0])
            moved += len(events)
        return moved
