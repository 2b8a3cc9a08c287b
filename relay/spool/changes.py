"""spool.changes: accepting and settling, from the caller's await to what follows the commit.

One future stands for the caller all the way: while a large content is made durable, while its group gathers, while the
commit is on its way. Cancelling the caller cancels that future and nothing else. What a cancelled caller would have
claimed is given back, so that it is due; nothing stays claimed by nobody.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar

from relay.errors import SpoolError
from relay.spool import operations, rows
from relay.spool.checksums import of_content
from relay.spool.committer import RETRY_SECONDS, Committer
from relay.spool.content import Kept, StoredContent, is_large, keep_inline
from relay.spool.keeper import AllKept, Keeper
from relay.spool.numbering import number_of
from relay.spool.operation import Operation, tell
from relay.spool.operations import Arrival, SettledRows, Settling, Work
from relay.spool.reads import Reads
from relay.spool.recent import RecentContents
from relay.spool.tables import Removed
from relay.spool.values import NewMessage, QueuedRecipient, Settled, Settlement

T = TypeVar("T")

Claimed = tuple[QueuedRecipient, ...]

log = logging.getLogger(__name__)


class Changes:
    """The methods without underscore are documented at `Spool`."""

    def __init__(
        self,
        *,
        shard: int,
        now: Callable[[], float],
        committer: Committer,
        keeper: Keeper,
        recent: RecentContents,
        reads: Reads,
    ) -> None:
        self._shard = shard
        self._now = now
        self._committer = committer
        self._keeper = keeper
        self._recent = recent
        self._reads = reads
        self._loop = asyncio.get_running_loop()

    # accept

    async def accept(self, message: NewMessage, *, hand_over: bool) -> Claimed:
        self._committer.raise_if_unusable()
        number = self._number(message)
        status = rows.HELD if message.held else rows.FRESH if hand_over else rows.QUEUED
        arrival_of = partial(Arrival, number, message, status=status)
        future: asyncio.Future[Claimed] = self._loop.create_future()
        if is_large(message.content):
            self._keeper.keep((message,), partial(self._accept_kept, future, arrival_of))
        else:
            self._accept_kept(future, arrival_of, (keep_inline(message.content),), None)
        try:
            return await future
        except asyncio.CancelledError:
            # The end may have come in the very turn of the loop in which the caller was cancelled.
            if _succeeded(future):
                self.return_claims(future.result())
            raise

    def _accept_kept(
        self,
        future: "asyncio.Future[Claimed]",
        arrival_of: Callable[[Kept], Arrival],
        kept: AllKept | None,
        failure: Exception | None,
    ) -> None:
        if kept is None:
            tell(future, failure or SpoolError("a content was not kept"))
            return
        arrival = arrival_of(kept[0])
        self._submit(
            Operation(
                partial(operations.accept, arrival=arrival),
                future,
                committed=partial(self._remember, arrival),
                deserted=self.return_claims,
                undone=partial(self._remove_files, kept),
            )
        )

    def _number(self, message: NewMessage) -> int:
        number = number_of(message.id, shard=self._shard)
        if number is None:
            raise ValueError(f"{message.id} is no id of shard {self._shard}")
        return number

    def _remember(self, arrival: Arrival, _: Claimed = ()) -> None:
        """Its content will be wanted for the first attempt in a moment."""
        if arrival.status == rows.FRESH and arrival.message.envelope.recipients:
            kept = arrival.kept
            path = None if kept.file is None else self._keeper.directory / kept.file
            checksum = None if path is None else of_content(arrival.number, kept.head, kept.body_checksum)
            stored = StoredContent(kept.head, kept.body, path, kept.body_size, checksum)
            self._recent.add(arrival.message.id, stored)

    # settle

    def settle(self, settlement: Settlement) -> "asyncio.Future[Settled]":
        future: asyncio.Future[Settled] = self._loop.create_future()
        number = number_of(settlement.message_id, shard=self._shard)
        if not self._committer.is_usable:
            future.set_exception(self._committer.unusable())
        elif number is None:
            future.set_result(Settled(missing=tuple(outcome.position for outcome in settlement.outcomes)))
        elif settlement.reports:
            self._check(settlement.reports)
            self._keep_reports(future, number, settlement)
        else:
            self._submit_settling(future, Settling(number, settlement, ()))
        return future

    def _check(self, reports: Sequence[NewMessage]) -> None:
        for report in reports:
            self._number(report)
            if report.content.file is not None:
                raise ValueError("a report has its body in memory")

    def _keep_reports(self, future: "asyncio.Future[Settled]", number: int, settlement: Settlement) -> None:
        self._keeper.keep(settlement.reports, partial(self._reports_kept, future, number, settlement))

    def _reports_kept(
        self,
        future: "asyncio.Future[Settled]",
        number: int,
        settlement: Settlement,
        kept: AllKept | None,
        failure: Exception | None,
    ) -> None:
        if kept is not None:
            arrivals = tuple(
                Arrival(self._number(report), report, how, rows.QUEUED)
                for report, how in zip(settlement.reports, kept, strict=True)
            )
            self._submit_settling(future, Settling(number, settlement, arrivals))
        elif isinstance(failure, SpoolError) and self._committer.is_usable:
            log.error("report not written yet", extra={"error": str(failure)})
            # Under another name, as every time: what an fsync has failed is not synced again.
            self._loop.call_later(RETRY_SECONDS, self._keep_reports, future, number, settlement)
        else:
            tell(future, failure or SpoolError("a content was not kept"))

    def _submit_settling(self, future: "asyncio.Future[Settled]", settling: Settling) -> None:
        kept = [arrival.kept for arrival in settling.reports]
        self._submit(
            Operation(
                partial(operations.settle, settling=settling),
                future,
                committed=partial(self._settled, settling),
                undone=partial(self._remove_files, kept) if kept else None,
                insists=True,
            )
        )

    def _settled(self, settling: Settling, done: SettledRows) -> None:
        if self._reads.any_under_way:
            self._reads.note((settling.number, outcome.position) for outcome in settling.settlement.outcomes)
        if done.gone is not None:
            self.forget_message(done.gone)
        for arrival in settling.reports:
            if done.took_reports:
                self._remember(arrival)
            else:
                self._keeper.remove(arrival.kept.file)

    def forget_message(self, removed: Removed) -> None:
        """Its rows are gone for good; now its content may go."""
        self._recent.drop(removed.message_id)
        self._keeper.remove(removed.file)

    # the rest

    async def make(self, work: Work[T], *, committed: Callable[[T], None] | None = None, insists: bool = False) -> T:
        """Have any work committed."""
        future: asyncio.Future[T] = self._loop.create_future()
        self._committer.submit(Operation(work, future, committed=committed, insists=insists))
        return await future

    def return_claims(self, recipients: Iterable[QueuedRecipient]) -> "asyncio.Future[None]":
        """They become due; ends when that is on disk."""
        future: asyncio.Future[None] = self._loop.create_future()
        keys = [one.cursor[1:] for one in recipients]
        if keys and self._committer.is_usable:
            work = partial(operations.give_back, keys=keys, due_at=self._now())
            self._submit(Operation(work, future, insists=True))
        else:  # nothing to do; or the next owner does it
            future.set_result(None)
        return future

    def _submit(self, operation: Operation[Any]) -> None:
        try:
            self._committer.submit(operation)
        except SpoolError as error:  # closed or broken while the content was on its way
            operation.fail(error)

    def _remove_files(self, kept: Sequence[Kept]) -> None:
        for one in kept:
            self._keeper.remove(one.file)


def _succeeded(future: "asyncio.Future[Any]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
