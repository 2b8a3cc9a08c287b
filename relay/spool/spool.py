"""spool.spool: one shard, as everybody above knows it.

Accepting and settling are durable when they return, and are carried out even if their caller is cancelled meanwhile.
A recipient is given out by `accept(hand_over=True)` or `due`; who has it must remember so (`due` gives it again), and
ends that with `settle` or `give_back`. If the process dies, everything not settled is due at the next `open`.

Errors: SpoolFull, nothing was kept, try later (`settle` and `give_back` wait for room instead: what has happened must
be recorded). SpoolError, the disk failed what was asked, and nothing was kept (`settle` and `give_back` try again,
after what they rest on was written anew); or the shard is broken or closed. `broken` is set when it is broken, and only
to open it again is a cure.
"""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from relay.errors import SpoolError
from relay.mail.event import Event
from relay.mail.suppression import Strike, Suppression
from relay.spool import operations, queries, verbs
from relay.spool.changes import Changes
from relay.spool.content import IncomingFile, StoredContent
from relay.spool.numbering import number_of
from relay.spool.opening import Parts, opened
from relay.spool.outbox import Outbox
from relay.spool.queries import Query
from relay.spool.reads import Reads
from relay.spool.setting_aside import SettingAside
from relay.spool.steps import Reached, pass_by
from relay.spool.stored import Key
from relay.spool.values import (
    Change,
    Cursor,
    DomainTotal,
    NewMessage,
    QueuedRecipient,
    QueueEntry,
    Selection,
    Settled,
    Settlement,
    Totals,
)
from relay.spool.verbs import Changed, Verb

T = TypeVar("T")

GAP_SECONDS = 0.002  # between two commits of a busy shard; measured: fewer commits, no later replies
STILL_SECONDS = 5.0
PASSED_OVER = 10_000  # recipients of a domain that are passed over at once, at most: 10 ms of a thread
SLICE = 50_000  # recipients looked at for their times at once: 15 ms of a thread
FIRST: Key = (-1, 0)
_IN_DOUBT = "; it was being sent when Relay ended, and may have arrived"


def _ignore(seconds: float, operations: int) -> None:
    """Who observes commits unless somebody does."""


class Spool:
    """Made by `open`. shard: its number. measures: counters. requeued: recipients the last owner had claimed.

    broken: an asyncio.Event.
    """

    def __init__(self, parts: Parts, *, shard: int, now: Callable[[], float]) -> None:
        self.shard = shard
        self.measures = parts.measures
        self.requeued = parts.recovered.requeued
        self.broken = parts.committer.broken
        self._parts = parts
        self._closed = False
        self._now = now
        self._committer = parts.committer
        self._changes = Changes(
            shard=shard,
            now=now,
            committer=parts.committer,
            keeper=parts.keeper,
            recent=parts.recent,
            reads=parts.reads,
        )
        self._aside = SettingAside(
            shard=shard, now=now, changes=self._changes, reads=parts.reads, committed=self._ordered
        )

    @classmethod
    async def open(
        cls,
        directory: Path,
        *,
        shard: int,
        now: Callable[[], float] = time.time,
        random: Callable[[int], int] = secrets.randbits,
        wait: bool = False,
        gap: float = GAP_SECONDS,
        still: float = STILL_SECONDS,
        observe: Callable[[float, int], None] = _ignore,
        reached: Reached = pass_by,
        inline: bool = False,
    ) -> "Spool":
        """Own shard-N below `directory`, made if it is not there, and recover it. After forking.

        wait: for the lock, as long as another process has it. gap: seconds between two commits when busy. still:
        seconds without a commit after which it is tidied up. observe(seconds, operations): after each commit.
        reached: told of every step a crash could follow. inline: nothing is durable and nothing waits, as
        `spool.inline` has it.
        Raises SpoolLocked, SpoolVersion, SpoolFull, SpoolError.
        """
        parts = await opened(
            directory,
            shard=shard,
            now=now,
            random=random,
            wait=wait,
            gap=gap,
            still=still,
            observe=observe,
            reached=reached,
            inline=inline,
        )
        return cls(parts, shard=shard, now=now)

    async def close(self) -> None:
        """Finish what was given, and let go of the shard. Works on a broken one too; does nothing the second time."""
        if not self._closed:
            self._closed = True
            await self._parts.close()

    @property
    def failure(self) -> SpoolError | None:
        """Why it is broken."""
        return self._committer.failure

    # a message's way

    def next_id(self) -> str:
        """A queue id never given before."""
        return self._parts.numbering.next_id()

    def incoming(self) -> IncomingFile:
        """A file for a large body, to be written as it arrives. Raises SpoolFull, SpoolError."""
        self._committer.raise_if_unusable()
        return self._parts.keeper.incoming()

    def accept(self, message: NewMessage, *, hand_over: bool) -> Coroutine[Any, Any, tuple[QueuedRecipient, ...]]:
        """Returns once the message is on disk. Raises SpoolFull, SpoolError: then nothing was kept.

        hand_over: the caller takes its recipients, which are returned, for a first attempt; unless it is held.
        Otherwise they are due at `accepted_at`, and () is returned. A cancelled caller takes nothing: they become
        due.
        """
        return self._changes.accept(message, hand_over=hand_over)

    def settle(self, settlement: Settlement) -> "asyncio.Future[Settled]":
        """Outcomes, their events, suppressions and reports in one step; the reports are due. The future raises
        SpoolError when broken; it waits while there is no room or the disk fails.

        A recipient that is no longer there is left out and named in what is returned; if none is there, nothing at all
        is done.
        """
        return self._changes.settle(settlement)

    async def give_back(self, recipients: Iterable[QueuedRecipient]) -> None:
        """Claimed recipients that were not attempted: due now. Raises SpoolError; waits while there is no room."""
        self._committer.raise_if_unusable()
        await self._changes.return_claims(recipients)

    async def intend(self, message_id: str, positions: Sequence[int]) -> tuple[int, ...]:
        """Before sending at most once: if nothing follows, these end in doubt. Returns those not there to be sent.

        Raises SpoolError when broken; waits while there is no room.
        """
        number = number_of(message_id, shard=self.shard)
        if number is None:
            return tuple(positions)
        work = partial(operations.intend, number=number, positions=positions)
        return await self._changes.make(work, insists=True)

    async def record(self, events: Sequence[Event]) -> None:
        """Events that change nothing here, such as a refusal at submission. Raises SpoolFull, SpoolError."""
        await self._changes.make(partial(operations.record, events=events))

    async def content(self, message_id: str) -> StoredContent:
        """As it was accepted. Raises NotFound, MessageDamaged (then the message is set aside), SpoolError."""
        self._committer.raise_if_unusable()
        known, directory = self._parts.recent.get(message_id), self._parts.keeper.directory
        query = queries.content(message_id, shard=self.shard, directory=directory)
        return await self._aside.content(message_id, known, query)

    # what is due

    async def due(self, *, after: Cursor | None = None, until: float, limit: int) -> list[QueuedRecipient]:
        """At most `limit` queued recipients with due_at up to `until`, in due order, after a cursor.

        For the one who walks through all that is due: claimed ones are among them, those settled meanwhile are not. If
        something was queued at a time already walked past, the next answer begins there: who always goes on from the
        last cursor misses nothing, but may meet recipients again. A row takes some microseconds of the event loop.
        """
        self._committer.raise_if_unusable()
        walk = partial(self._parts.reads.walk, after=after, until=until, limit=limit, shard=self.shard)
        return (await self._aside.sound(walk)).recipients

    async def due_in(
        self,
        domain: str,
        credential: str,
        *,
        after: Cursor | None = None,
        until: float,
        limit: int,
        length: int = PASSED_OVER,
    ) -> tuple[list[QueuedRecipient], Cursor | None]:
        """The same for what a credential sent to one domain, or to all (""), among the next `length` that are due
        there; and after which to go on, None at the end.
        """
        self._committer.raise_if_unusable()
        to = await self._ask(queries.end_of_due(domain, after=after, until=until, length=length))
        query = queries.due_in(domain, credential, after=after, to=to, until=until, limit=limit, shard=self.shard)
        found = await self._aside.sound(partial(self._parts.reads.ask_due, query))
        return found.recipients, found.read_to or to

    async def next_due_at(self, after: float) -> float | None:
        """When the next becomes due that is not due at `after`."""
        return await self._ask(queries.next_due_at(after))

    async def out_of_time(
        self, *, after: Key = FIRST, expired_at: float, due_after: float, limit: int, length: int = SLICE
    ) -> tuple[list[QueuedRecipient], Key]:
        """At most `limit` that wait, claimed or not, and have expired by then or are due later than that, among the
        next `length`; and after which to go on, FIRST at the end. For the one who looks through the queue again and
        again.
        """
        self._committer.raise_if_unusable()
        to = await self._ask(queries.end_of_slice(after, length=length))
        query = queries.out_of_time(
            after=after, to=to, expired_at=expired_at, due_after=due_after, limit=limit, shard=self.shard
        )
        found = (await self._aside.sound(partial(self._parts.reads.ask_due, query))).recipients
        return found, found[-1].cursor[1:] if len(found) == limit else to or FIRST

    async def in_doubt(self, *, limit: int) -> list[QueuedRecipient]:
        """Those an earlier owner was about to send at most once: never due, to be settled as of unknown outcome."""
        self._committer.raise_if_unusable()
        query = queries.in_doubt(limit=limit, shard=self.shard)
        return (await self._aside.sound(partial(self._parts.reads.ask, query), doubt=_IN_DOUBT)).recipients

    # an operator's orders: each yields what it changed, batch by batch, once that is on disk

    def hold(self, selection: Selection, *, by: str) -> AsyncIterator[tuple[Change, ...]]:
        """Not to be tried until released; does not expire meanwhile. by: who orders it, for the journal."""
        return self._order(verbs.HOLD, selection, by)

    def release(self, selection: Selection, *, by: str) -> AsyncIterator[tuple[Change, ...]]:
        """Held ones are due now; the time on hold is added to their expiry."""
        return self._order(verbs.RELEASE, selection, by)

    def retry(self, selection: Selection, *, by: str) -> AsyncIterator[tuple[Change, ...]]:
        """Those waiting for their time are due now."""
        return self._order(verbs.RETRY, selection, by)

    def cancel(self, selection: Selection, *, by: str) -> AsyncIterator[tuple[Change, ...]]:
        """They leave the queue without a report; an attempt under way settles nothing."""
        return self._order(verbs.CANCEL, selection, by)

    async def _order(self, verb: Verb, selection: Selection, by: str) -> AsyncIterator[tuple[Change, ...]]:
        now, after = self._now(), (0, -1)
        while True:
            query = queries.candidates(
                selection, eligible=verb.eligible, after=after, limit=verbs.BATCH, now=now, shard=self.shard
            )
            found = await self._look(query)
            if not found:
                return
            after = found[-1].cursor[1:]
            work = partial(verbs.change, verb=verb, recipients=found, now=self._now(), by=by)
            changed = await self._changes.make(work, committed=self._ordered)
            if changed.changes:
                yield changed.changes

    def _ordered(self, changed: Changed) -> None:
        self._parts.reads.note(changed.keys)
        for removed in changed.gone:
            self._changes.forget_message(removed)

    # an operator's questions

    async def find(self, selection: Selection, *, limit: int = 100, offset: int = 0) -> list[QueueEntry]:
        """By time of acceptance, oldest first."""
        return await self._look(queries.find(selection, limit=limit, offset=offset, now=self._now(), shard=self.shard))

    async def count(self, selection: Selection) -> int:
        return await self._look(queries.count(selection, now=self._now(), shard=self.shard))

    async def totals(self) -> Totals:
        """Looks at every recipient."""
        return await self._look(queries.totals())

    async def domains(self, limit: int = 10) -> list[DomainTotal]:
        """Those most recipients wait for."""
        return await self._look(queries.domains(limit))

    # what is carried over to the journal and the suppression list

    async def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        """By sequence; sequences ascend and are never given twice, also after a restart."""
        return await self._outbox("event", queries.events(after=after, limit=limit))

    async def forget_events(self, upto: int) -> None:
        """Those up to a sequence are in the journal. Raises SpoolFull, SpoolError."""
        await self._changes.make(partial(operations.forget, table="event", upto=upto))

    async def suppressions(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Suppression | Strike]]:
        """By sequence, as events."""
        return await self._outbox("suppression", queries.suppressions(after=after, limit=limit))

    async def forget_suppressions(self, upto: int) -> None:
        """Those up to a sequence are in the suppression list. Raises SpoolFull, SpoolError."""
        await self._changes.make(partial(operations.forget, table="suppression", upto=upto))

    async def _outbox(self, table: str, query: Query[Outbox[T]]) -> list[tuple[int, T]]:
        while (found := await self._look(query)).damaged:
            await self._aside.leave_out(table, found.damaged)
        return found.rows

    async def _ask(self, query: Query[T]) -> T:
        return await self._asked(self._parts.reads, query)

    async def _look(self, query: Query[T]) -> T:
        return await self._asked(self._parts.looks, query)

    async def _asked(self, reads: Reads, query: Query[T]) -> T:
        self._committer.raise_if_unusable()
        return await reads.ask(query)
