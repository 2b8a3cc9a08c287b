"""submission.intake: one message on its way in, from MAIL to the last octet of its content.

The session says when a command is in order; here it is carried out. MAIL and RCPT give the refusal to send, or None
when they are accepted. Content comes by DATA or by BDAT (RFC 3030); octets of a BDAT that was refused are read all
the same, because what follows them is the next command. What ends is a `Submitted`, or the reply that refuses it.
"""

from relay.mail.address import domain_of
from relay.mail.esmtp import SyntaxRefused, parse_mail, parse_rcpt
from relay.mail.reply import Reply
from relay.reception import Submitted
from relay.registry.credentials import Credential
from relay.submission.client import Client
from relay.submission.content import Content, too_large
from relay.submission.dot import DotReader
from relay.submission.limits import Excess
from relay.submission.refusal import Refused, record
from relay.submission.services import Services
from relay.submission.terms import Terms
from relay.submission.transaction import Transaction, refuse_mail

DETAIL_LIMIT = 300  # octets of a command's argument that the journal keeps

MAIL_FORM = Reply(501, "5.5.4", "Say MAIL FROM:<address>")
RCPT_FORM = Reply(501, "5.5.4", "Say RCPT TO:<address>")


class Intake:
    """One session's messages, one after the other. tls: of the session, for the journal."""

    __slots__ = ("_client", "_content", "_dots", "_left", "_over", "_services", "_terms", "_transaction", "tls")

    def __init__(self, terms: Terms, services: Services, over: Excess, client: Client) -> None:
        self._terms = terms
        self._services = services
        self._over = over
        self._client = client
        self.tls = ""
        self._transaction: Transaction | None = None
        self._content: Content | None = None
        self._dots: DotReader | None = None
        self._left = 0  # octets of a BDAT still to come

    @property
    def smtputf8(self) -> bool:
        return self._transaction is not None and self._transaction.smtputf8

    @property
    def sender(self) -> str:
        """Of the message under way; "" without one."""
        return self._transaction.sender if self._transaction is not None else ""

    def mail(self, argument: bytes, credential: Credential) -> Reply | None:
        if argument[:5].upper() != b"FROM:":
            return MAIL_FORM
        try:
            command = parse_mail(argument[5:])
        except SyntaxRefused as error:
            return self._refuse(error.reply, credential, detail=shown(argument))
        refusal = refuse_mail(command, credential, self._terms, self._services, self._over)
        if refusal is not None:
            return self._refuse(refusal, credential, sender=command.sender)
        self._transaction = Transaction(command, credential, recipient_limit=self._terms.limits.recipients)
        return None

    def rcpt(self, argument: bytes) -> Reply | None:
        transaction = self._under_way()
        if argument[:3].upper() != b"TO:":
            return RCPT_FORM
        credential, sender = transaction.credential, transaction.sender
        try:
            home = domain_of(sender) or self._terms.hostname
            recipient = parse_rcpt(argument[3:], smtputf8=transaction.smtputf8, home=home)
        except SyntaxRefused as error:
            return self._refuse(error.reply, credential, sender=sender, detail=shown(argument))
        refusal = transaction.add(recipient, self._services)
        if refusal is not None:
            return self._refuse(refusal, credential, sender=sender, recipient=recipient.address)
        return None

    def begin_data(self) -> None:
        self._dots = DotReader()
        self._begin()

    def begin_chunk(self, size: int) -> None:
        """Expect `size` octets of the message."""
        content = self._content or self._begin()
        if content.size + size > self._terms.bounds.message_size:
            content.fail(too_large(self._terms.bounds.message_size))  # now, not after reading it: RFC 1870 6.3
        self._left = size

    def skip_chunk(self, size: int) -> None:
        """Expect `size` octets of nothing."""
        self._left = size

    def take(self, octets: bytes) -> int | None:
        """Content; None while there is more to come, then how many of the last octets lie beyond its end."""
        if self._dots is not None:
            content, left = self._dots.feed(octets)
        else:
            content, left = octets[: self._left], max(0, len(octets) - self._left)
            self._left -= len(content)
            left = left if self._left == 0 else None
        if self._content is not None:
            self._content.add(content)
        return left

    @property
    def problem(self) -> Reply | None:
        """What will refuse the message at its end, as far as that is known."""
        return self._content.problem if self._content is not None else None

    def finish(self, credential: Credential, *, ehlo: str, protocol: str) -> Submitted | Reply:
        """The content is complete. credential: as it is now, for its limits and whether it is on hold."""
        transaction, content = self._under_way(), self._content or self._begin()
        self._transaction = self._content = self._dots = None
        content.finish()
        message = self._services.new_id()
        if content.problem is not None:
            if content.trouble is not None:
                self._services.log.error("content not kept", id=message, error=content.trouble.text)
            return self._refuse(
                content.problem, credential, sender=transaction.sender, message=message, size=content.size
            )
        if content.long_lines:
            self._services.facts.long_lines(content.long_lines)
        return Submitted(
            id=message,
            credential=credential,
            envelope=transaction.envelope(eight_bit=content.eight_bit),
            header=content.header,
            body=content.body,
            file=content.file,
            client=self._client.address,
            ehlo=ehlo,
            tls=self.tls,
            protocol=protocol,
            eight_bit=content.eight_bit,
        )

    def reset(self) -> None:
        """Forget the message under way."""
        if self._content is not None:
            self._content.discard()
        self._transaction = self._content = self._dots = None
        self._left = 0

    def _begin(self) -> Content:
        self._content = Content(self._terms.bounds, self._services.incoming)
        return self._content

    def _under_way(self) -> Transaction:
        if self._transaction is None:
            raise RuntimeError("no message is under way")  # the table of commands sees to it
        return self._transaction

    def _refuse(
        self,
        reply: Reply,
        credential: Credential,
        *,
        sender: str = "",
        recipient: str = "",
        message: str = "",
        size: int = 0,
        detail: str = "",
    ) -> Reply:
        refused = Refused(
            credential=credential.name,
            stream=credential.stream,
            client=self._client.address,
            tls=self.tls,
            sender=sender,
            recipient=recipient,
            message=message,
            size=size,
            detail=detail,
        )
        record(reply, refused, self._services)
        return reply


def shown(argument: bytes) -> str:
    """Of a command's argument what the journal keeps."""
    return argument[:DETAIL_LIMIT].decode("utf-8", "backslashreplace")
