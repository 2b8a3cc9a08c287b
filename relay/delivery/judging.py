"""delivery.judging: from what a server said to what becomes of each recipient. Pure.

One reply, one verdict (`mail.verdict`), one of five ends: delivered, bounced, deferred, expired, unknown. The event
tells what was said by whom, over which source and TLS; the suppression or strike goes with it into the same
transaction of the spool; and `report` says whether the sender is to be told now (RFC 3461 4.1: failures unless NOTIFY
says otherwise; SUCCESS only on request; DELAY once). Nothing is reported to the null sender, so a bounce is never
bounced (RFC 5321 4.5.5).
"""

from collections.abc import Callable, Sequence
from random import Random

from msgspec import Struct

from relay.config.models import Retry
from relay.mail.dsn import Action
from relay.mail.event import Event, Kind
from relay.mail.reply import Reply
from relay.mail.retry import Defer, Expire, decide
from relay.mail.suppression import Strike, Suppression
from relay.mail.verdict import Blame, Rules, Stage, Verdict, Via, bad_domain, classify
from relay.smtpclient import TransactionResult
from relay.spool import Outcome, QueuedRecipient


class Where(Struct, frozen=True):
    """mx: "host[address]:port". source: the local address. tls: as `Event.tls`. via: whose server it is. detour: what
    this attempt met before, in words.
    """

    mx: str = ""
    source: str = ""
    tls: str = ""
    via: Via = Via.MX
    detour: str = ""


class Judgement(Struct, frozen=True):
    """report: what the sender is told, None for nothing. status: the enhanced code of an end in our own words."""

    recipient: QueuedRecipient
    outcome: Outcome
    report: Action | None = None
    suppression: Suppression | Strike | None = None
    verdict: Verdict | None = None
    status: str = ""

    @property
    def said(self) -> str:
        """The reply, or why there was none."""
        return self.outcome.event.reply or self.outcome.event.detail

    @property
    def is_of_our_account(self) -> bool:
        """The smarthost takes nothing of ours for now."""
        return self.verdict is not None and self.verdict.action == "account"


NOWHERE = Where()
EXPIRED = "4.4.7"  # RFC 3463 3.5: delivery time expired


class Judge:
    """`random` jitters; `now` gives POSIX seconds."""

    def __init__(self, *, rules: Rules, retry: Retry, now: Callable[[], float], random: Random) -> None:
        self._rules = rules
        self._retry = retry
        self._now = now
        self._random = random

    def transaction(
        self, recipients: Sequence[QueuedRecipient], result: TransactionResult, where: Where, *, dsn_offered: bool
    ) -> list[Judgement]:
        """What a transaction with these recipients came to, for each of them."""
        judgements = []
        for recipient, said in zip(recipients, result.recipients, strict=True):
            refusal = self._refused(recipient, said, result, where)
            judgements.append(refusal or self._sent(recipient, said, result, where, dsn_offered=dsn_offered))
        return judgements

    def _refused(
        self, recipient: QueuedRecipient, said: Reply | None, result: TransactionResult, where: Where
    ) -> Judgement | None:
        """By MAIL, or by its own RCPT."""
        of = len(result.recipients)
        if result.mail is not None and not result.mail.is_positive:
            return self.answered(recipient, result.mail, where, stage=Stage.MAIL, recipients=of)
        if said is not None and not said.is_positive:
            return self.answered(recipient, said, where, stage=Stage.RCPT, recipients=of)
        return None

    def _sent(
        self,
        recipient: QueuedRecipient,
        said: Reply | None,
        result: TransactionResult,
        where: Where,
        *,
        dsn_offered: bool,
    ) -> Judgement:
        """By DATA or the end of the content, which answer for all that were taken. Without a word about a recipient
        nobody knows whether it was.
        """
        if said is None or result.final is None:
            judge = self.unknown if result.dot_sent else self.unanswered
            return judge(recipient, result.failure, where)
        if result.final.is_positive:
            return self.delivered(recipient, result.final, where, dsn_offered=dsn_offered)
        taken = sum(reply is not None and reply.is_positive for reply in result.recipients)
        return self.answered(recipient, result.final, where, stage=result.stage, recipients=taken)

    def delivered(self, recipient: QueuedRecipient, reply: Reply, where: Where, *, dsn_offered: bool) -> Judgement:
        event = self._event(recipient, Kind.DELIVERED, where, reply=str(reply))
        report = (
            Action.RELAYED if "SUCCESS" in _notify(recipient) and not dsn_offered and _reportable(recipient) else None
        )
        return Judgement(recipient, Outcome(recipient.position, event, final=True), report)

    def discarded(self, recipient: QueuedRecipient) -> Judgement:
        event = self._event(recipient, Kind.DELIVERED, NOWHERE, detail="discarded by a route")
        return Judgement(recipient, Outcome(recipient.position, event, final=True))

    def answered(
        self, recipient: QueuedRecipient, reply: Reply, where: Where, *, stage: Stage, recipients: int
    ) -> Judgement:
        """A 4xx or 5xx. recipients: those of the transaction."""
        verdict = self.verdict(reply, where, stage=stage, recipients=recipients)
        if verdict.permanent:
            return self._bounced(recipient, reply, where, verdict)
        return self._put_off(recipient, where, reply=str(reply), verdict=verdict)

    def verdict(self, reply: Reply, where: Where, *, stage: Stage, recipients: int = 0) -> Verdict:
        host = where.mx.partition("[")[0]
        return classify(reply, stage=stage, recipients=recipients, mx=host, via=where.via, rules=self._rules)

    def impossible(self, recipient: QueuedRecipient, reply: Reply, where: Where) -> Judgement:
        """What we decided ourselves, in the words of a reply: nothing was asked of the server."""
        event = self._event(recipient, Kind.BOUNCED, where, detail=str(reply))
        outcome = Outcome(recipient.position, event, final=True)
        return Judgement(recipient, outcome, _failure(recipient), status=reply.status)

    def bad_domain(self, recipient: QueuedRecipient, reply: Reply, *, proven: bool) -> Judgement:
        """DNS said that the domain takes no mail. proven: by NXDOMAIN or a null MX, which suppress for a while."""
        if not proven:
            return self.impossible(recipient, reply, NOWHERE)
        verdict = bad_domain(self._rules.times)
        event = self._event(recipient, Kind.BOUNCED, NOWHERE, detail=str(reply), verdict=verdict)
        outcome = Outcome(recipient.position, event, final=True)
        evidence = self._evidence(recipient, verdict, str(reply))
        return Judgement(recipient, outcome, _failure(recipient), evidence, verdict, reply.status)

    def unanswered(
        self, recipient: QueuedRecipient, detail: str, where: Where, *, reply: Reply | None = None
    ) -> Judgement:
        """No session, or one that broke: transient, whatever was said."""
        return self._put_off(recipient, where, reply=str(reply) if reply else "", detail=detail)

    def unknown(self, recipient: QueuedRecipient, detail: str, where: Where) -> Judgement:
        """The end of the content was sent and no reply came: it may have been taken (RFC 5321 4.5.3.2.6, 6.1)."""
        why = "at most once" if recipient.message.unknown_outcome == "end" else ""
        if not why and isinstance(self._decide(recipient, detail), Expire):
            why = "its time is over"
        if why:
            event = self._event(recipient, Kind.UNKNOWN, where, detail=f"{detail}; not tried again ({why})")
            return Judgement(recipient, Outcome(recipient.position, event, final=True), _failure(recipient))
        return self._put_off(recipient, where, detail=detail, kind=Kind.UNKNOWN)

    def expired(
        self, recipient: QueuedRecipient, where: Where = NOWHERE, *, reply: str = "", detail: str = ""
    ) -> Judgement:
        said = reply or detail or recipient.last_reply
        text = (
            f"undelivered until its expiry; last: {said}" if said else "undelivered until its expiry; never attempted"
        )
        event = self._event(recipient, Kind.EXPIRED, where, reply=reply, detail=text)
        outcome = Outcome(recipient.position, event, final=True)
        return Judgement(recipient, outcome, _failure(recipient), status=EXPIRED)

    def _bounced(self, recipient: QueuedRecipient, reply: Reply, where: Where, verdict: Verdict) -> Judgement:
        event = self._event(recipient, Kind.BOUNCED, where, reply=str(reply), verdict=verdict)
        outcome = Outcome(recipient.position, event, final=True)
        return Judgement(
            recipient, outcome, _failure(recipient), self._evidence(recipient, verdict, str(reply)), verdict
        )

    def _put_off(
        self,
        recipient: QueuedRecipient,
        where: Where,
        *,
        reply: str = "",
        detail: str = "",
        kind: Kind = Kind.DEFERRED,
        verdict: Verdict | None = None,
    ) -> Judgement:
        decision = self._decide(recipient, reply or detail)
        if isinstance(decision, Expire):
            judgement = self.expired(recipient, where, reply=reply, detail=detail)
            suppression = self._evidence(recipient, verdict, reply) if verdict else None
            return Judgement(recipient, judgement.outcome, judgement.report, suppression, verdict, EXPIRED)
        event = self._event(
            recipient, kind, where, reply=reply, detail=detail, verdict=verdict, next_attempt_at=decision.until
        )
        report = self._delay_report(recipient)
        outcome = Outcome(
            recipient.position,
            event,
            final=False,
            due_at=decision.until,
            delay_reported=recipient.delay_reported or report is not None,
        )
        return Judgement(recipient, outcome, report, None, verdict)

    def _decide(self, recipient: QueuedRecipient, said: str) -> Defer | Expire:
        return decide(
            said,
            attempts=recipient.attempts + 1,
            accepted_at=recipient.message.accepted_at,
            expires_at=recipient.expires_at,
            now=self._now(),
            ladder=self._retry.ladder,
            jitter=self._retry.jitter,
            obey=self._retry.obey,
            random=self._random.random(),
        )

    def _delay_report(self, recipient: QueuedRecipient) -> Action | None:
        asked = "DELAY" in _notify(recipient) and _reportable(recipient) and not recipient.delay_reported
        late = self._now() - recipient.message.accepted_at >= self._retry.delay_report
        return Action.DELAYED if asked and late else None

    def _evidence(self, recipient: QueuedRecipient, verdict: Verdict, reply: str) -> Suppression | Strike | None:
        suppress = verdict.suppress
        if suppress is None:
            return None
        now, address = self._now(), recipient.recipient.address
        if suppress.messages == 1:
            expires_at = now + suppress.seconds if suppress.seconds else 0.0
            return Suppression(address, suppress.cause, now, expires_at, message=recipient.message.id, reply=reply)
        return Strike(
            address,
            suppress.cause,
            now,
            needed=suppress.messages,
            over=suppress.over,
            suppress_for=suppress.seconds,
            message=recipient.message.id,
            reply=reply,
        )

    def _event(
        self,
        recipient: QueuedRecipient,
        kind: Kind,
        where: Where,
        *,
        reply: str = "",
        detail: str = "",
        verdict: Verdict | None = None,
        next_attempt_at: float = 0.0,
    ) -> Event:
        message = recipient.message
        return Event(
            at=self._now(),
            kind=kind,
            message=message.id,
            sender=message.sender,
            recipient=recipient.recipient.address,
            credential=message.credential,
            stream=message.stream,
            reply=reply,
            mx=where.mx,
            source=where.source,
            tls=where.tls,
            verdict=verdict.blame if verdict else "",
            attempt=recipient.attempts + 1,
            next_attempt_at=next_attempt_at,
            size=message.size,
            header_from=message.header_from,
            subject=message.subject,
            header_message_id=message.header_message_id,
            client=message.client,
            detail="; ".join(filter(None, (detail, where.detour))),
        )


def another_may_take(judgement: Judgement) -> bool:
    """Nothing was said of the recipient or the message, and nothing can have been taken."""
    if judgement.outcome.event.kind in (Kind.DELIVERED, Kind.UNKNOWN):
        return False
    return judgement.verdict is None or judgement.verdict.blame in (Blame.SENDER, Blame.TRANSIENT)


def _notify(recipient: QueuedRecipient) -> str:
    return recipient.recipient.notify


def _reportable(recipient: QueuedRecipient) -> bool:
    return bool(recipient.message.sender) and recipient.message.reports


def _failure(recipient: QueuedRecipient) -> Action | None:
    wanted = not _notify(recipient) or "FAILURE" in _notify(recipient)
    return Action.FAILED if wanted and _reportable(recipient) else None
