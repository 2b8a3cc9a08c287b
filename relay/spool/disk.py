"""spool.disk: the one thread in which a shard waits for the disk.

While a job runs in it, nobody else touches the writing connection: the caller hands it over with the job and has it
back when `done` is called on the loop. A queue and `call_soon_threadsafe` cost a third of what an executor's future
does, and this is paid for every commit.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


class Disk(Protocol):
    """Where a shard waits for the disk: `DiskThread`, but for a dry run."""

    def call(self, work: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        """done: called on the loop with the result, or with what was raised."""

    async def run(self, work: Callable[[], T]) -> T:
        """The job's result; for what is not on the hot path."""

    def stop(self) -> None:
        """Ends when the jobs given so far are done."""


class Job(Generic[T]):
    """done: called on the loop with the result, or with what was raised."""

    __slots__ = ("_done", "_work")

    def __init__(self, work: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        self._work = work
        self._done = done

    def run(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            result, failure = self._work(), None
        except Exception as error:  # noqa: BLE001  whoever gave the job gets it
            result, failure = None, error
        # The loop may be closed when a process ends without having closed its spool; nobody waits then.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(self._done, result, failure)


class DiskThread:
    """Runs jobs one after the other. Daemonic: a process that must end does not wait for a disk that hangs."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, name: str) -> None:
        self._loop = loop
        self._jobs: SimpleQueue[Job[object] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call(self, work: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        self._jobs.put(Job(work, done))  # type: ignore[arg-type]

    async def run(self, work: Callable[[], T]) -> T:
        """The job's result; for what is not on the hot path."""
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, failure: Exception | None) -> None:
            if future.done():
                return
            if failure is not None:
                future.set_exception(failure)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        self.call(work, done)
        return await future

    def stop(self) -> None:
        """Ends when the jobs given so far are done."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run(self._loop)
