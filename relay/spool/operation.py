"""spool.operation: one caller's work, from `submit` to its end, and what follows from the end whoever still waits."""

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar

from relay.spool.operations import Work

T = TypeVar("T")

log = logging.getLogger(__name__)


class Operation(Generic[T]):
    """work: may be begun anew after a rollback. insists: to be tried again while there is no room.

    committed: called on the loop with its result, once that is on disk; then deserted, if the caller has gone. undone:
    called if it certainly is not on disk, and will not be.
    """

    __slots__ = ("_committed", "_deserted", "_future", "_undone", "failure", "insists", "result", "work")

    def __init__(
        self,
        work: Work[T],
        future: "asyncio.Future[T]",
        *,
        committed: Callable[[T], None] | None = None,
        deserted: Callable[[T], object] | None = None,
        undone: Callable[[], None] | None = None,
        insists: bool = False,
    ) -> None:
        self.work = work
        self.insists = insists
        self.result: T
        self.failure: Exception | None = None
        self._future = future
        self._committed = committed
        self._deserted = deserted
        self._undone = undone

    def end(self) -> None:
        """Its group is on disk."""
        if self.failure is not None:
            self.fail(self.failure)
            return
        gone = self._future.done()
        try:
            if self._committed is not None:
                self._committed(self.result)
            if gone and self._deserted is not None:
                self._deserted(self.result)
        except Exception:  # the others of the group must hear of their end all the same
            log.exception("what follows a commit failed")
        if not gone:
            self._future.set_result(self.result)

    def fail(self, error: Exception, *, undone: bool = True) -> None:
        if undone and self._undone is not None:
            self._undone()
        tell(self._future, error)


def tell(future: "asyncio.Future[T]", error: Exception) -> None:
    """Have a future end with an error; if nobody waits any more, the log has it."""
    if future.done():
        log.error("the spool failed after its caller had gone", extra={"error": str(error)})
    else:
        future.set_exception(error)
