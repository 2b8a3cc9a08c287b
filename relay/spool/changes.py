"""spool.changes: accepting and settling, from the caller's await to what follows the commit.

One future stands for the caller all the way: while a large content is made durable, while its group gathers, while the
commit is on its way. Cancelling the caller cancels that future and nothing else. What a cancelled caller would have
claimed is given back, so that it is due; nothing stays claimed by nobody.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
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


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for an end, and whether recipients are handed over with it."""

    future: "asyncio.Future[Any]"
    hand_over: bool


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
        caller = Caller(self._loop.create_future(), hand_over)
        if is_large(message.content):
            self._keeper.keep((message,), partial(self._accept_kept, caller, number, message))
        else:
            self._accept_kept(caller, number, message, (keep_inline(message.content),), None)
        claimed: Claimed = await self._end_of(caller, claims=_all)
        return claimed

    def _accept_kept(
        self, caller: Caller, number: int, message: NewMessage, kept: AllKept | None, failure: Exception | None
    ) -> None:
        if kept is None:
            tell(caller.future, failure or SpoolError("a content was not kept"))
            return
        arrival = _arrival(number, message, kept[0], hand_over=caller.hand_over)
        self._submit(
            Operation(
                partial(operations.accept, arrival=arrival),
                caller.future,
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

    async def settle(self, settlement: Settlement, *, hand_over: bool) -> Settled:
        self._committer.raise_if_unusable()
        number = number_of(settlement.message_id, shard=self._shard)
        if number is None:
            return Settled(missing=tuple(outcome.position for outcome in settlement.outcomes))
        for report in settlement.reports:
            self._number(report)
            if report.content.file is not None:
                raise ValueError("a report has its body in memory")
        caller = Caller(self._loop.create_future(), hand_over)
        if settlement.reports:
            self._keep_reports(caller, number, settlement)
        else:
            self._settle_kept(caller, number, settlement, (), None)
        done: SettledRows = await self._end_of(caller, claims=attrgetter("settled.reports"))
        return done.settled

    def _keep_reports(self, caller: Caller, number: int, settlement: Settlement) -> None:
        self._keeper.keep(settlement.reports, partial(self._settle_kept, caller, number, settlement))

    def _settle_kept(
        self, caller: Caller, number: int, settlement: Settlement, kept: AllKept | None, failure: Exception | None
    ) -> None:
        if kept is None:
            if isinstance(failure, SpoolError) and self._committer.is_usable:
                log.error("report not written yet", extra={"error": str(failure)})
                # Under another name, as every time: what an fsync has failed is not synced again.
                self._loop.call_later(RETRY_SECONDS, self._keep_reports, caller, number, settlement)
            else:
                tell(caller.future, failure or SpoolError("a content was not kept"))
            return
        arrivals = tuple(
            _arrival(self._number(report), report, how, hand_over=caller.hand_over)
            for report, how in zip(settlement.reports, kept, strict=True)
        )
        settling = Settling(number, settlement, arrivals)
        self._submit(
            Operation(
                partial(operations.settle, settling=settling),
                caller.future,
                committed=partial(self._settled, settling),
                deserted=self._return_reports,
                undone=partial(self._remove_files, kept),
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

    def _return_reports(self, done: SettledRows) -> None:
        self.return_claims(done.settled.reports)

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

    async def _end_of(self, caller: Caller, *, claims: Callable[[Any], Claimed]) -> Any:
        try:
            return await caller.future
        except asyncio.CancelledError:
            # The end may have come in the very turn of the loop in which the caller was cancelled.
            if _succeeded(caller.future):
                self.return_claims(claims(caller.future.result()))
            raise

    def _submit(self, operation: Operation[Any]) -> None:
        try:
            self._committer.submit(operation)
        except SpoolError as error:  # closed or broken while the content was on its way
            operation.fail(error)

    def _remove_files(self, kept: Sequence[Kept]) -> None:
        for one in kept:
            self._keeper.remove(one.file)


def _arrival(number: int, message: NewMessage, kept: Kept, *, hand_over: bool) -> Arrival:
    usual = rows.FRESH if hand_over else rows.QUEUED
    return Arrival(number, message, kept, rows.HELD if message.held else usual)


def _all(claimed: Claimed) -> Claimed:
    return claimed


def _succeeded(future: "asyncio.Future[Any]") -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
