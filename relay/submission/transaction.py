"""submission.transaction: the envelope of one message, from MAIL to the end of its content, and what is refused in it.

MAIL is refused when there is no room (452 4.3.1), the message would be too large (552 5.3.4), its sender is not the
credential's (550 5.7.1, by `policy`) or the credential has sent too much lately (451 4.7.1); RCPT when there are too
many (452 4.5.3: RFC 5321 4.5.3.1.10, the rest may come in another transaction), when the recipient is suppressed (550
5.7.1, with the date and the cause) or an address literal (550 5.1.3, which is someone reaching for our own network).
Addresses are never rewritten; one given twice is delivered to once.
"""

from datetime import UTC, datetime

from relay.mail.address import comparable, is_literal
from relay.mail.envelope import Envelope, Recipient
from relay.mail.esmtp import MailCommand
from relay.mail.reply import Reply
from relay.mail.suppression import Cause, Suppression
from relay.registry.credentials import Credential, OnSuppressed
from relay.submission.content import OUT_OF_SPACE, too_large
from relay.submission.limits import Excess, excess, limits_of
from relay.submission.policy import check_sender
from relay.submission.services import Services
from relay.submission.terms import Terms

TOO_MANY_RECIPIENTS = Reply(452, "4.5.3", "Too many recipients for one message; send the rest in another")
LITERAL = Reply(550, "5.1.3", "Mail to an address literal is not accepted")

EVIDENCE_SHOWN = 300  # characters of a reply

_CAUSES = {
    Cause.HARD_BOUNCE: "a hard bounce",
    Cause.BAD_DOMAIN: "its domain takes no mail",
    Cause.MAILBOX_FULL: "a mailbox that stays full",
    Cause.COMPLAINT: "a complaint",
    Cause.MANUAL: "the operator",
}


class Transaction:
    """One message under way. credential: as it was at MAIL."""

    __slots__ = ("_command", "_limit", "credential", "recipients")

    def __init__(self, command: MailCommand, credential: Credential, *, recipient_limit: int) -> None:
        self._command = command
        self._limit = min(recipient_limit, credential.limit_recipients or recipient_limit)
        self.credential = credential
        self.recipients: dict[str, Recipient] = {}  # by what they are compared by

    @property
    def sender(self) -> str:
        return self._command.sender

    @property
    def smtputf8(self) -> bool:
        return self._command.smtputf8

    def add(self, recipient: Recipient, services: Services) -> Reply | None:
        """Take a recipient, or say why not. NOTIFY and ORCPT of the first mention stay."""
        known_by = comparable(recipient.address)
        if known_by in self.recipients:
            return None
        if len(self.recipients) >= self._limit:
            return TOO_MANY_RECIPIENTS
        if is_literal(recipient.domain) and not services.literal_allowed(recipient.domain):
            return LITERAL
        refusal = _refuse_suppressed(recipient.address, self.credential, services)
        if refusal is None:
            self.recipients[known_by] = recipient
        return refusal

    def envelope(self, *, eight_bit: bool) -> Envelope:
        """eight_bit: what the content has, whatever BODY said."""
        return Envelope(
            sender=self._command.sender,
            recipients=tuple(self.recipients.values()),
            body="8BITMIME" if eight_bit else "7BIT",
            smtputf8=self._command.smtputf8,
            ret=self._command.ret,
            envid=self._command.envid,
        )


def refuse_mail(
    command: MailCommand, credential: Credential, terms: Terms, services: Services, over: Excess
) -> Reply | None:
    """Why MAIL cannot be taken now, or None."""
    if not services.disk_ok():
        return OUT_OF_SPACE
    if command.size is not None and command.size > terms.bounds.message_size:
        return too_large(terms.bounds.message_size)  # RFC 1870 6.1
    refusal = check_sender(credential, command.sender)
    if refusal is not None:
        return refusal
    limits = limits_of(credential)
    retry_after = over.left(credential.name, limits, now=services.now()) if limits else 0.0
    return excess(limits, retry_after) if retry_after else None


def _refuse_suppressed(address: str, credential: Credential, services: Services) -> Reply | None:
    if credential.suppressed is OnSuppressed.ACCEPT:
        return None  # reception journals it
    suppression = services.suppressed(address, credential)
    return suppressed_reply(suppression) if suppression is not None else None


def suppressed_reply(suppression: Suppression) -> Reply:
    """550 5.7.1 with the date and the cause."""
    since = datetime.fromtimestamp(suppression.created_at, UTC).date()
    evidence = f' ("{suppression.reply[:EVIDENCE_SHOWN]}")' if suppression.reply else ""
    cause = _CAUSES[suppression.cause]
    return Reply(550, "5.7.1", f"<{suppression.address}> is suppressed since {since}, because of {cause}{evidence}")
