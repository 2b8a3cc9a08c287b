"""spool.committer: group commit on the one writing connection.

Rows are written on the event loop, where they cost microseconds; only COMMIT, which waits for the disk, runs in a
thread. While it is on its way the next group gathers. A group begins at most every `gap` seconds when busy, at once
when the last commit is older or when many wait already; writing gives the loop back after `SLICE_SECONDS`, so that a
message with ten thousand recipients holds nobody up; on a loop that is long in coming back it takes `SLICE_SHARE` of
the time, or what is settled would gather in memory faster than it is written.

What a caller is told is what is on disk: its future ends after COMMIT returned. Whoever stops waiting stops nothing.
No room: the group is rolled back and its callers hear SpoolFull; what insists (what has happened must be recorded)
stays and is tried again, with the room of the reserve at first, and before anything new is taken.

A write or a sync that fails is not cured by trying again (Linux marks the pages clean). The group is rolled back, its
callers hear SpoolError, and before anything else is committed all of the log is written into the database, synced, and
begun anew; what insists comes again then. If that fails too, or a checkpoint did, or anything else of the disk, the
committer is broken: every caller now and later hears SpoolError, and a new owner begins with `relay.wal`.
"""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Generator
from enum import Enum
from functools import partial
from typing import Any

from relay.errors import SpoolError
from relay.spool import failure
from relay.spool.checkpoint import Checkpoints
from relay.spool.disk import Disk
from relay.spool.group import Group
from relay.spool.measures import Measures
from relay.spool.operation import Operation
from relay.spool.reserve import Reserve
from relay.spool.steps import Reached, Step
from relay.spool.tables import Tables

SLICE_SECONDS = 0.001
SLICE_SHARE = 0.25  # of the time that everything else took since
AT_ONCE = 16  # so many waiting make a commit worth its price without waiting for more
RETRY_SECONDS = 1.0
VACUUM_SECONDS = 0.05  # between two pieces of tidying up

log = logging.getLogger(__name__)


class State(Enum):
    """Who has the connection, and what is to happen next."""

    IDLE = "idle"
    GATHERING = "gathering"  # a timer will begin the next group
    WRITING = "writing"  # on the loop, in slices
    ON_DISK = "on disk"  # in the disk's thread: nobody else touches the connection
    BROKEN = "broken"
    CLOSED = "closed"


class Committer:
    """See the module. clock: seconds, by which writing gives the loop back.

    Called after each commit: queued(the earliest due time of what it queued), observe(seconds, operations).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        tables: Tables,
        disk: Disk,
        checkpoints: Checkpoints,
        reserve: Reserve,
        *,
        gap: float,
        still: float,
        measures: Measures,
        clock: Callable[[], float],
        queued: Callable[[float], None],
        observe: Callable[[float, int], None],
        reached: Reached,
    ) -> None:
        self.broken = asyncio.Event()
        self.failure: SpoolError | None = None
        self._connection = connection
        self._tables = tables
        self._disk = disk
        self._checkpoints = checkpoints
        self._reserve = reserve
        self._gap = gap
        self._still = still
        self._measures = measures
        self._clock = clock
        self._queued = queued
        self._observe = observe
        self._reached = reached
        self._loop = asyncio.get_running_loop()
        self._state = State.IDLE
        self._pending: list[Operation[Any]] = []
        self._group = Group(connection, tables, ())
        self._writing: Generator[None, None, None] = self._group.write()
        self._timer: asyncio.Handle | None = None
        self._still_timer: asyncio.TimerHandle | None = None
        self._last_commit = 0.0
        self._gave_back_at = 0.0
        # For lack of room; until the reserve could be made again nothing new is taken.
        self._refused = not reserve.is_there
        self._retry_in = 0.0
        self._rests_until = 0.0  # after a cure, so that a disk that goes on failing is not asked without end
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False

    def submit(self, operation: Operation[Any]) -> None:
        """Have it done in the next group. Raises SpoolError when broken or closed."""
        self.raise_if_unusable()
        self._pending.append(operation)
        if self._state is State.IDLE:
            self._gather()
        elif self._state is State.GATHERING and len(self._pending) == AT_ONCE and not self._waits:
            self._begin_in(0.0)

    @property
    def is_usable(self) -> bool:
        return self.failure is None and not self._closing

    @property
    def _waits(self) -> bool:
        return self._refused or self._rests_until > self._loop.time()

    def raise_if_unusable(self) -> None:
        if not self.is_usable:
            raise self.unusable()

    def unusable(self) -> SpoolError:
        """Why it is; an error of its own for each who hears it."""
        if self.failure is not None:
            return SpoolError(self.failure.text, remedy=self.failure.remedy)
        return SpoolError("the spool is closed")

    async def close(self) -> None:
        """Finish what was given, then carry the log over. The connection is the caller's again."""
        self._closing = True
        self._retry_in = 0.0
        if self._waits and self._state is State.GATHERING:
            self._begin_in(0.0)
        await self._idle.wait()
        if self._still_timer is not None:
            self._still_timer.cancel()
        if self.failure is None:
            self._state = State.CLOSED
            await self._carry_over_for_the_last_time()

    async def _carry_over_for_the_last_time(self) -> None:
        try:
            await self._disk.run(self._checkpoints.empty)
        except sqlite3.Error as error:
            if not failure.is_full(error):  # what is in the log is safe there, and carried over by the next owner
                self._break(error)

    # gathering

    def _gather(self) -> None:
        self._idle.clear()
        self._state = State.GATHERING
        if self._refused and not self._owes():
            self._state = State.ON_DISK
            self._disk.call(self._reserve.restore, self._reserve_restored)
        elif self._refused:
            self._begin_in(self._retry_in)
        elif self._rests_until > self._loop.time():
            self._begin_in(self._rests_until - self._loop.time())
        elif len(self._pending) >= AT_ONCE:
            self._begin_in(0.0)
        else:
            self._begin_in(self._last_commit + self._gap - self._loop.time())

    def _owes(self) -> bool:
        return any(operation.insists for operation in self._pending)

    def _reserve_restored(self, _: object, error: Exception | None) -> None:
        if error is None:
            self._refused = False
        else:
            self._refuse_what_is_new(self._take_new(), error)
        self._go_on()

    def _begin_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if seconds > 0:
            self._timer = self._loop.call_later(seconds, self._begin)
        else:  # still after this turn of the loop: what arrives in it comes along
            self._timer = self._loop.call_soon(self._begin)

    def _take(self) -> list[Operation[Any]]:
        """The next group: only what is owed while there is no room."""
        new = self._take_new() if self._refused and self._owes() else []
        taken, self._pending = self._pending, new
        return taken

    def _take_new(self) -> list[Operation[Any]]:
        new = [operation for operation in self._pending if not operation.insists]
        self._pending = [operation for operation in self._pending if operation.insists]
        return new

    # writing and committing

    def _begin(self) -> None:
        self._timer = None
        self._state = State.WRITING
        self._group = Group(self._connection, self._tables, self._take())
        self._writing = self._group.write()
        self._gave_back_at = self._clock()
        self._go_on_writing()

    def _go_on_writing(self) -> None:
        began = self._clock()
        until = began + max(SLICE_SECONDS, (began - self._gave_back_at) * SLICE_SHARE)
        try:
            for _ in self._writing:
                if self._clock() > until:
                    self._gave_back_at = self._clock()
                    self._loop.call_soon(self._go_on_writing)
                    return
        except sqlite3.Error as error:
            self._group_failed(error)
            return
        self._state = State.ON_DISK
        self._disk.call(partial(self._group.commit, self._reached), self._commit_returned)

    def _commit_returned(self, seconds: float | None, error: Exception | None) -> None:
        if seconds is None:
            self._group_failed(error)
            return
        self._last_commit = self._loop.time()
        self._retry_in = 0.0
        self._queued(self._group.earliest_due)
        for operation in self._group.operations:
            operation.end()
        try:
            self._count(seconds, self._group)
        finally:  # whoever observes may fail; the next group waits
            self._watch_for_stillness(self._still)
            self._next()

    def _count(self, seconds: float, group: Group) -> None:
        written, operations = group.rows, len(group.operations)
        self._checkpoints.written(rows=written, content_octets=group.content_octets)
        self._measures.commits += 1
        self._measures.operations += operations
        self._measures.rows += written
        self._measures.commit_seconds += seconds
        self._observe(seconds, operations)

    def _next(self) -> None:
        if self._checkpoints.is_due(quiet=not self._pending):
            self._checkpoint()
        else:
            self._go_on()

    def _go_on(self) -> None:
        if self._pending:
            self._gather()
        else:
            self._state = State.IDLE
            self._idle.set()

    # checkpoints

    def _checkpoint(self) -> None:
        self._state = State.ON_DISK
        self._disk.call(self._run_checkpoint, self._checkpoint_returned)

    def _run_checkpoint(self) -> None:
        self._checkpoints.run()
        self._reached(Step.CHECKPOINTED)

    def _checkpoint_returned(self, _: object, error: Exception | None) -> None:
        # A database that cannot grow for lack of room is as it was, and so is the log.
        if error is None or (isinstance(error, sqlite3.Error) and failure.is_full(error)):
            self._go_on()
        else:
            self._break(error)

    def _watch_for_stillness(self, seconds: float) -> None:
        if self._still_timer is None:
            self._still_timer = self._loop.call_later(seconds, self._look_for_stillness)

    def _look_for_stillness(self) -> None:
        self._still_timer = None
        if self._state is State.IDLE and self._loop.time() - self._last_commit >= self._still:
            self._idle.clear()
            self._state = State.ON_DISK
            self._disk.call(self._tidy, self._tidied)
        elif self.is_usable:
            self._watch_for_stillness(self._still)

    def _tidy(self) -> bool:
        self._reserve.restore_if_possible()
        return self._checkpoints.tidy()

    def _tidied(self, has_more: bool | None, error: Exception | None) -> None:  # noqa: FBT001  what a job returned
        if has_more:
            self._watch_for_stillness(VACUUM_SECONDS)
        self._checkpoint_returned(None, error)

    # failure

    def _group_failed(self, error: Exception | None) -> None:
        passes = isinstance(error, sqlite3.Error) and not failure.is_lasting(error)
        try:
            self._group.roll_back()
        except sqlite3.Error:  # the same failure met once more, and lasting now
            passes = False
        if passes and isinstance(error, sqlite3.Error):
            self._refuse(error)
        elif isinstance(error, sqlite3.Error) and failure.is_unwritten(error) and not self._connection.in_transaction:
            self._cure(error)
        else:
            self._pending = [*self._group.operations, *self._pending]
            self._break(error)

    def _cure(self, error: sqlite3.Error) -> None:
        """The disk failed a group: it is undone, and what was acknowledged before is written anew."""
        log.error("spool not synced", extra={"error": str(error)})
        self._measures.refused_groups += 1
        waiting, self._pending = self._pending, list(self._group.operations)
        new = self._take_new()
        if self._closing:
            new, self._pending, waiting = [*new, *self._pending, *waiting], [], []
        self._pending += waiting
        for operation in new:
            # What of it reached the disk could come back after a power cut, and would want its file.
            operation.fail(failure.from_sqlite(error, doing="the spool cannot be written"), undone=False)
        self._state = State.ON_DISK
        self._disk.call(self._write_anew, self._cured)

    def _write_anew(self) -> None:
        self._reached(Step.UNDONE)
        self._checkpoints.write_anew()
        self._reached(Step.WRITTEN_ANEW)

    def _cured(self, _: object, error: Exception | None) -> None:
        if error is not None:
            self._break(error)
            return
        log.warning("spool written anew")
        self._measures.cures += 1
        self._rests_until = self._loop.time() + RETRY_SECONDS
        self._go_on()

    def _refuse(self, error: sqlite3.Error) -> None:
        """No room, or another program has the database: what does not insist hears of it, waiting or not."""
        self._measures.refused_groups += 1
        self._refused = True
        self._last_commit = self._loop.time()
        self._pending = [*self._group.operations, *self._pending]
        new = self._take_new()
        if self._closing:
            new, self._pending = [*new, *self._pending], []
        self._refuse_what_is_new(new, error)
        if failure.is_full(error):
            self._state = State.ON_DISK
            self._disk.call(self._make_room, self._room_made)
        else:
            self._room_made(None, None)

    def _refuse_what_is_new(self, operations: list[Operation[Any]], error: Exception) -> None:
        for operation in operations:
            operation.fail(failure.translate(error, doing="the spool cannot be written"))

    def _make_room(self) -> bool:
        """A log that is carried over and begun anew is room, too; then the reserve. Whether there may be some now."""
        try:
            self._run_checkpoint()
        except sqlite3.Error as error:
            if not failure.is_full(error):
                raise
        return self._reserve.give_up()

    def _room_made(self, has_room: bool | None, error: Exception | None) -> None:  # noqa: FBT001  what a job returned
        self._retry_in = 0.0 if has_room or self._closing else RETRY_SECONDS
        self._checkpoint_returned(None, error)

    def _break(self, error: Exception | None) -> None:
        self._state = State.BROKEN
        self.failure = failure.broken(error)
        log.critical("spool broken", extra={"error": str(error)})
        waiting, self._pending = self._pending, []
        for operation in waiting:
            # Whether it is on disk cannot be known; nothing it would need may be removed.
            operation.fail(SpoolError(self.failure.text, remedy=self.failure.remedy), undone=False)
        self.broken.set()
        self._idle.set()
