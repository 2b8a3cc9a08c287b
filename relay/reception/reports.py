"""reception.reports: Relay's own mail: delivery reports (RFC 3464), signed like any other.

A report comes from postmaster at the sender domain of the message it is about, with the null sender, and asks for no
report of its own: a bounce is never bounced (RFC 5321 4.5.5). It is not spooled here: it goes into the spool in the
same step as the outcome it reports, so that it is sent exactly once for it.
"""

from collections.abc import Callable, Sequence

from relay.errors import DataError, SpoolError
from relay.log import Log
from relay.mail import dsn
from relay.mail.address import ascii_domain
from relay.mail.envelope import NULL_SENDER, Envelope, Recipient
from relay.mail.message import Header, parse_header, split_content
from relay.mail.queue_id import accepted_at
from relay.reception.signing import Signing
from relay.reception.terms import Terms
from relay.spool import Content, NewMessage, QueuedMessage, StoredContent
from relay.spool.spool import Spool

WHOLE_AT_MOST = 50 * 1024  # octets of a message returned with RET=FULL
HEADER_AT_MOST = 512 * 1024  # octets of a report's own header, which holds one address


class Reports:
    """`terms`: those of now."""

    def __init__(self, *, spool: Spool, signing: Signing, terms: Callable[[], Terms], log: Log) -> None:
        self._spool = spool
        self._log = log
        self._signing = signing
        self._terms = terms

    async def about(self, message: QueuedMessage, action: dsn.Action, told: Sequence[dsn.Told]) -> NewMessage:
        """The report to the message's sender about these recipients, for `Settlement.reports`.

        Raises NotFound when the message is gone.
        """
        terms = self._terms()
        queue_id = self._spool.next_id()
        domain = ascii_domain(message.sender_domain or terms.hostname)
        original, whole = await self._original(message)
        octets = dsn.build(
            action=action,
            told=told,
            message=message,
            original=original,
            whole=whole,
            reporter=terms.hostname,
            postmaster=f"postmaster@{domain}",
            message_id=f"<{queue_id}@{terms.hostname}>",
            now=accepted_at(queue_id),
        )
        return await self._spoolable(octets, queue_id, message, domain)

    async def _original(self, message: QueuedMessage) -> tuple[bytes, bool]:
        """What is returned of the message, and whether it is all of it; nothing where it cannot be read any more."""
        try:
            return _returned(await self._spool.content(message.id), message)
        except SpoolError as error:
            self._log.error("report without its original", id=message.id, error=error.text)
            return b"", False

    async def _spoolable(self, octets: bytes, queue_id: str, message: QueuedMessage, domain: str) -> NewMessage:
        header_octets, body = split_content(octets)
        header = parse_header(header_octets, size_limit=HEADER_AT_MOST)
        content, signer = await self._signed(header, body)
        now = accepted_at(queue_id)
        return NewMessage(
            id=queue_id,
            accepted_at=now,
            expires_at=now + self._terms().expiry_of(message.stream),
            credential=message.credential,
            stream=message.stream,
            sender_domain=signer or domain,
            envelope=Envelope(
                sender=NULL_SENDER,
                recipients=(Recipient(message.sender, notify="NEVER"),),
                body="7BIT" if octets.isascii() else "8BITMIME",
                smtputf8=not message.sender.isascii(),
            ),
            content=content,
            size=content.size,
            header_from=f"postmaster@{domain}",
            subject=header.subject,
            header_message_id=header.message_id,
            reports=False,
        )

    async def _signed(self, header: Header, body: bytes) -> tuple[Content, str]:
        """A key that cannot be read must not keep a sender from being told."""
        try:
            return await self._signing.sign(header, body, None)
        except DataError as error:
            self._log.error("report not signed", error=error.text)
            return Content(header.encode(), body), ""


def _returned(original: StoredContent, message: QueuedMessage) -> tuple[bytes, bool]:
    """RFC 3461 4.3: the header, or the whole message where RET=FULL asks for it and it is small."""
    size = len(original.head) + original.body_size
    if message.ret == "FULL" and size <= WHOLE_AT_MOST:
        return original.head + original.body, True
    return original.head, False
