"""delivery.settling: writes what became of each recipient, and everything that follows from it, in one step.

One settlement carries the outcomes of one attempt with their events, the suppressions they prove and the report to
the sender: the spool keeps all of it or none, so a report is sent exactly once for what it reports. Couriers do not
wait for it; what is settled reaches the disk with the next group of the spool. The spool waits out a full disk, and
the claims stay, so nothing is sent twice meanwhile; any other error of it ends the worker, and recovery starts anew.
"""

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Protocol

from relay.delivery.destination import Undeliverable
from relay.delivery.judging import NOWHERE, Judge, Judgement, Where
from relay.delivery.on_disk import OnDisk, Sent
from relay.delivery.outcomes import SiteOutcomes
from relay.delivery.site import Job
from relay.delivery.window import Window
from relay.errors import NotFound, SpoolFull
from relay.log import Log
from relay.mail.dsn import Action, Told
from relay.mail.event import Event, Kind
from relay.mail.reply import Reply
from relay.metrics import Metrics
from relay.spool import NewMessage, QueuedMessage, QueuedRecipient, Settled, Settlement
from relay.spool.spool import Spool

SENTENCES = {
    Kind.DELIVERED: "recipient delivered",
    Kind.DEFERRED: "recipient deferred",
    Kind.BOUNCED: "recipient bounced",
    Kind.EXPIRED: "recipient expired",
    Kind.UNKNOWN: "recipient's outcome unknown",
}
LATE = 300.0  # seconds past its expiry within which a last attempt that was due then is still made


class Reports(Protocol):
    """Reception's part: a report, completed and signed."""

    async def about(self, message: QueuedMessage, action: Action, told: Sequence[Told]) -> NewMessage:
        """The DSN to the message's sender about these recipients."""


class Settling:
    """One shard's. `pending` counts what is not yet on disk; `wake` wakes the scheduler. outcomes: by site, of all that
    is.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        window: Window,
        on_disk: OnDisk,
        wake: asyncio.Event,
        judge: Judge,
        reports: Reports,
        metrics: Metrics,
        log: Log,
        now: Callable[[], float],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self.judge = judge
        self.outcomes = SiteOutcomes()
        self.pending = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self._spool = spool
        self._window = window
        self._on_disk = on_disk
        self._wake = wake
        self._reporting = reports
        self._metrics = metrics
        self._log = log
        self._now = now
        self._tasks = tasks

    def end_expired(self, job: Job) -> bool:
        """Ends the recipients that are past their expiry; whether any is left to attempt."""
        now = self._now()
        over = [each for each in job.recipients if is_over(each, now)]
        if over:
            self.expired(job.message, over)
            job.recipients = [each for each in job.recipients if not is_over(each, now)]
        return bool(job.recipients)

    def expired(self, message: QueuedMessage, recipients: Sequence[QueuedRecipient]) -> None:
        self.settle(message, [self.judge.expired(each) for each in recipients])

    def discarded(self, job: Job) -> None:
        self.settle(job.message, [self.judge.discarded(each) for each in job.recipients])

    def undeliverable(self, job: Job, answer: Undeliverable) -> None:
        judge = self.judge
        self.settle(
            job.message, [judge.bad_domain(each, answer.reply, proven=answer.bad_domain) for each in job.recipients]
        )

    def impossible(self, job: Job, reply: Reply, where: Where, *, site: str) -> None:
        self.settle(job.message, [self.judge.impossible(each, reply, where) for each in job.recipients], site=site)

    def unreached(
        self, job: Job, detail: str, where: Where = NOWHERE, *, reply: Reply | None = None, site: str = ""
    ) -> None:
        judge = self.judge
        self.settle(
            job.message, [judge.unanswered(each, detail, where, reply=reply) for each in job.recipients], site=site
        )

    def in_doubt(self, recipient: QueuedRecipient) -> None:
        """Found at the start: it was being sent at most once when the last owner ended."""
        judgement = self.judge.unknown(recipient, "the relay ended while it was being sent", NOWHERE)
        self.settle(recipient.message, [judgement])

    def give_back(self, jobs: Iterable[Job]) -> None:
        """Claims end without an attempt; the recipients are due as they were."""
        recipients = [recipient for job in jobs for recipient in job.recipients]
        if recipients:
            self._begin(self._give_back(recipients))

    def settle(self, message: QueuedMessage, judgements: Sequence[Judgement], *, site: str = "") -> None:
        """Writes it with the next group; returns at once."""
        if any(each.report is not None for each in judgements):
            self._begin(self._report_and_settle(message, judgements, site))
        elif judgements:
            self._pend()
            self._write(message, judgements, (), site)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        self._pend()
        self._tasks.create_task(work)

    def _pend(self) -> None:
        self.pending += 1
        self.idle.clear()

    def _end(self, recipients: Sequence[QueuedRecipient]) -> None:
        self.pending -= 1
        if not self.pending:
            self.idle.set()
        self._window.forget(recipients)

    async def _give_back(self, recipients: Sequence[QueuedRecipient]) -> None:
        await self._spool.give_back(recipients)
        self._end(recipients)
        self._on_disk.left((each.recipient.domain, each.message) for each in recipients)

    async def _report_and_settle(self, message: QueuedMessage, judgements: Sequence[Judgement], site: str) -> None:
        self._write(message, judgements, await self._reports_owed(message, judgements), site)

    def _write(
        self, message: QueuedMessage, judgements: Sequence[Judgement], reports: tuple[NewMessage, ...], site: str
    ) -> None:
        settlement = Settlement(
            message_id=message.id,
            outcomes=tuple([each.outcome for each in judgements]),
            reports=reports,
            suppressions=tuple([each.suppression for each in judgements if each.suppression is not None]),
        )
        future = self._spool.settle(settlement)
        future.add_done_callback(partial(self._written, message, judgements, reports, site))

    def _written(
        self,
        message: QueuedMessage,
        judgements: Sequence[Judgement],
        reports: tuple[NewMessage, ...],
        site: str,
        future: "asyncio.Future[Settled]",
    ) -> None:
        error = future.exception()
        if error is not None:
            if not self._spool.broken.is_set():  # or that ends the worker
                self._tasks.create_task(_raise(error))
            return
        try:
            self._conclude(message, judgements, reports, site, missing=future.result().missing)
        except Exception as bug:  # noqa: BLE001 - a callback's is told to nobody, a task's ends the worker
            self._tasks.create_task(_raise(bug))

    def _conclude(
        self,
        message: QueuedMessage,
        judgements: Sequence[Judgement],
        reports: tuple[NewMessage, ...],
        site: str,
        *,
        missing: Sequence[int],
    ) -> None:
        self._end([each.recipient for each in judgements])
        met = [each for each in judgements if each.outcome.position not in missing] if missing else judgements
        self._count(message, met, site)
        self._announce(judgements, reports)
        if missing:
            self._record_delivered([each for each in judgements if each.outcome.position in missing])

    def _record_delivered(self, gone: Sequence[Judgement]) -> None:
        """Cancelled while it was being sent, and the server took it: the journal says so, whatever was wanted."""
        events = [each.outcome.event for each in gone if each.outcome.event.kind is Kind.DELIVERED]
        if events:
            self._tasks.create_task(self._record(events))

    async def _record(self, events: Sequence[Event]) -> None:
        with contextlib.suppress(SpoolFull):  # nothing is owed any more; not worth waiting for room
            await self._spool.record(events)

    async def _reports_owed(self, message: QueuedMessage, judgements: Sequence[Judgement]) -> tuple[NewMessage, ...]:
        try:
            return await self._reports(message, judgements)
        except NotFound:
            return ()  # an operator cancelled the whole message while it was being sent: nobody is owed a report

    async def _reports(self, message: QueuedMessage, judgements: Sequence[Judgement]) -> tuple[NewMessage, ...]:
        reports = []
        for action in Action:
            told = [_told(each) for each in judgements if each.report is action]
            if told:
                reports.append(await self._reporting.about(message, action, told))
                self._metrics.report_made(action)
        return tuple(reports)

    def _count(self, message: QueuedMessage, judgements: Sequence[Judgement], site: str) -> None:
        now = self._now()
        seconds = now - message.accepted_at
        if judgements:
            self._metrics.settled(commit_seconds=now - judgements[0].outcome.event.at)
        for judgement in judgements:
            event = judgement.outcome.event
            self._metrics.outcome(event.kind, site=site, verdict=event.verdict, seconds=seconds)
            self.outcomes.note(site, event.kind, final=judgement.outcome.final)
            self._tell(event, site=site, seconds=seconds)

    def _tell(self, event: Event, *, site: str, seconds: float) -> None:
        self._log.info(
            SENTENCES[event.kind],
            id=event.message,
            recipient=event.recipient,
            site=site,
            mx=event.mx,
            tls=event.tls,
            reply=event.reply,
            detail=event.detail,
            verdict=event.verdict,
            attempt=event.attempt,
            next_attempt_at=event.next_attempt_at,
            seconds=round(seconds, 3),
        )

    def _announce(self, judgements: Sequence[Judgement], reports: Sequence[NewMessage]) -> None:
        """What became due on disk at a time the walk may have passed: reports, and waits shorter than the commit."""
        waiting = [each for each in judgements if not each.outcome.final]
        if not (reports or waiting):
            return
        now = self._now()
        early = [each.recipient for each in waiting if each.outcome.due_at <= now]
        behind: list[tuple[str, Sent]] = [(each.recipient.domain, each.message) for each in early]
        behind += [(each.domain, report) for report in reports for each in report.envelope.recipients]
        if behind:
            self._on_disk.left(behind)
            self._wake.set()


async def _raise(error: BaseException) -> None:
    """In a task of the worker's, which ends with it."""
    raise error


def _told(judgement: Judgement) -> Told:
    event, recipient = judgement.outcome.event, judgement.recipient
    return Told(
        recipient=recipient.recipient,
        reply=event.reply,
        detail=event.detail,
        status=judgement.status,
        category=judgement.verdict.category if judgement.verdict else "",
        mx=event.mx,
        attempted_at=event.at if event.mx else 0.0,
        retry_until=recipient.expires_at,
    )


def is_over(recipient: QueuedRecipient, now: float) -> bool:
    """Past its expiry. A last attempt is due exactly then and still made; what was due before and had to wait for us is
    not.
    """
    waited = recipient.due_at < recipient.expires_at
    return now >= recipient.expires_at and (waited or now > recipient.expires_at + LATE)
