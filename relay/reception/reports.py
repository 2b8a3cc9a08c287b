"""reception.reports: Relay's own mail: delivery reports (RFC 3464), completed and signed like any other.

A report comes from postmaster at the sender domain of the message it is about, with the null sender, and asks for no report of
its own: a bounce is never bounced (RFC 5321 4.5.5). It is not spooled here: it goes into the spool in the same step as the
outcome it reports, so that it is sent exactly once for it.
"""

from collections.abc import Callable, Sequence

from relay.mail import dsn
from relay.mail.envelope import NULL_SENDER, Envelope, Recipient
from relay.mail.message import Header, complete, parse_header, split_content
from relay.mail.queue_id import accepted_at
from relay.mail.received import format_received
from relay.reception.signing import Signing
from relay.reception.terms import Terms
from relay.spool import NewMessage, QueuedMessage, Spool, StoredContent

FULL_REPORT = 50 * 1024  # octets of a message returned whole with RET=FULL


class Reports:
    def __init__(self, *, spool: Spool, signing: Signing, terms: Callable[[], Terms]) -> None:
        self._spool = spool
        self._signing = signing
        self._terms = terms

    async def report(self, message: QueuedMessage, action: dsn.Action, told: Sequence[dsn.Told]) -> NewMessage:
        """A DSN about `message` to its sender, from postmaster at its sender domain, signed with that domain's key."""
        original = await self._spool.content(message.id)
        queue_id = self._spool.next_id()
        now = accepted_at(queue_id)
        domain = message.sender_domain or self._terms().hostname
        octets = dsn.build(
            action=action,
            told=told,
            message=message,
            original=_returned(original, message),
            whole=_returns_whole(original, message),
            reporter=self._terms().hostname,
            postmaster=f"postmaster@{domain}",
            message_id=f"<{queue_id}@{self._terms().hostname}>",
            now=now,
        )
        header_octets, body = split_content(octets)
        header = parse_header(header_octets)
        received = format_received(
            ehlo="",
            client="",
            hostname=self._terms().hostname,
            protocol="",
            tls="",
            queue_id=queue_id,
            recipient=message.sender,
            now=now,
        )
        header = complete(header, received=received, now=now, hostname=self._terms().hostname, message_id_token=queue_id)
        content, signer = await self._signed(header, body, None)
        eight_bit = not octets.isascii()
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
                body="8BITMIME" if eight_bit else "7BIT",
                smtputf8=not message.sender.isascii(),
            ),
            content=content,
            size=content.size,
            header_from=f"postmaster@{domain}",
            subject=header.subject,
            header_message_id=header.message_id,
            reports=False,
        )


async def _digest(body: bytes, file: IncomingFile | None) -> bytes:
    if file is not None:
        return await asyncio.to_thread(_digest_of_file, file)
    if len(body) > IN_THREAD:
        return await asyncio.to_thread(body_hash, body)
    return body_hash(body)


def _digest_of_file(file: IncomingFile) -> bytes:
    whole = BodyHash()
    with file.path.open("rb", buffering=0) as octets:
        while chunk := octets.read(IN_THREAD):
            whole.update(chunk)
    return whole.digest()


def _returns_whole(original: StoredContent, message: QueuedMessage) -> bool:
    return message.ret == "FULL" and len(original.head) + original.body_size <= FULL_REPORT


def _returned(original: StoredContent, message: QueuedMessage) -> bytes:
    """RFC 3461 4.3: the headers, unless RET=FULL asks for a message that is not too large."""
    return original.head + original.body if _returns_whole(original, message) else original.head

