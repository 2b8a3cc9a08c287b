"""reception.door: what was submitted, completed, signed and spooled.

A message is completed (RFC 6409 8), checked against what its credential may say, DKIM-signed and only then spooled,
so every attempt sends the same octets. The positive reply is given only once the message is durable; a client that
goes away meanwhile changes nothing (the commit is shielded by the spool). What is refused is refused with a reply of
our own words; our own trouble is a 4xx and never a 5xx.

A message that can be delivered at once is handed to the scheduler in memory after its commit.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from relay.errors import SpoolError, SpoolFull
from relay.log import Log
from relay.mail.eightbit import encode_8bit
from relay.mail.envelope import Envelope, Recipient
from relay.mail.message import Header, HeaderRefused, complete, parse_header, relay_expires
from relay.mail.queue_id import accepted_at
from relay.mail.received import format_received
from relay.mail.reply import Reply
from relay.mail.suppression import Suppression
from relay.metrics import Metrics
from relay.reception.signing import Signing
from relay.reception.terms import Terms
from relay.registry.credentials import Credential, OnSuppressed, Reports, State
from relay.spool import INLINE_OCTETS, Content, IncomingFile, NewMessage, QueuedRecipient
from relay.spool.spool import Spool


class Submitted(Struct, frozen=True):
    """One message as it was submitted.

    header: octets up to and excluding the empty line, every line ended by CRLF. body: what follows it, or b"" when it
    is in `file`. client: its IP address. ehlo: its name, as it gave it. tls: "TLSv1.3 TLS_AES_256_GCM_SHA384" or ""
    for clear text. protocol: the word for Received (RFC 3848): "ESMTPSA". eight_bit: the content has octets over 127.
    """

    id: str
    credential: Credential
    envelope: Envelope
    header: bytes
    body: bytes
    file: IncomingFile | None
    client: str
    ehlo: str
    tls: str
    protocol: str
    eight_bit: bool


class Delivery(Protocol):
    """The scheduler, as reception sees it."""

    def has_room(self, message: NewMessage) -> bool:
        """May this message be handed over in memory?"""

    def hand_over(self, recipients: Sequence[QueuedRecipient]) -> None:
        """Fresh mail."""

    def stored(self, message: NewMessage) -> None:
        """Fresh mail that was not handed over is due on disk."""


Authorize = Callable[[Credential, Header], Reply | None]
Suppressed = Callable[[str, Credential], Suppression | None]


class Reception:
    """authorize: the policy for the header's addresses. suppressed: for credentials that accept suppressed
    recipients.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        delivery: Delivery,
        signing: Signing,
        authorize: Authorize,
        suppressed: Suppressed,
        terms: Callable[[], Terms],
        metrics: Metrics,
        log: Log,
        now: Callable[[], float],
    ) -> None:
        self._terms = terms
        self._spool = spool
        self._delivery = delivery
        self._signing = signing
        self._authorize = authorize
        self._suppressed = suppressed
        self._metrics = metrics
        self._log = log
        self._now = now

    async def receive(self, submitted: Submitted) -> Reply:
        """The reply to the end of the content. Takes over `submitted.file`: it is kept or removed."""
        try:
            return await self._receive(submitted)
        except HeaderRefused as refused:
            return refused.reply
        except SpoolFull as error:
            self._log.error("message not accepted", id=submitted.id, error=error.text)
            return Reply(452, "4.3.1", "Not enough room here at present; try again later")
        except SpoolError as error:
            self._log.error("message not accepted", id=submitted.id, error=error.text)
            return Reply(451, "4.3.0", "Trouble here; try again later")
        finally:
            if submitted.file is not None:
                submitted.file.discard()

    async def _receive(self, submitted: Submitted) -> Reply:
        terms, now = self._terms(), accepted_at(submitted.id)
        limits = terms.limits
        header = parse_header(submitted.header, size_limit=limits.header_size, received_limit=limits.received_fields)
        refusal = self._authorize(submitted.credential, header)
        if refusal is not None:
            return refusal
        lifetime = relay_expires(header)
        if submitted.eight_bit and submitted.credential.encode_8bit:
            submitted, header = await self._encoded(submitted, header)
        header = _completed(submitted, header, terms, now=now)
        content, signer = await self._signing.sign(header, submitted.body, submitted.file)
        content = await self._spilled(content)
        message = self._message(submitted, header, content, signer, lifetime, now=now)
        await self._accept(message)
        return Reply(250, "2.0.0", f"Ok: queued as {message.id}")

    async def _encoded(self, submitted: Submitted, header: Header) -> tuple[Submitted, Header]:
        """As 7-bit, for credentials whose recipients' servers do not take 8BITMIME (RFC 6152 3)."""
        body = submitted.body if submitted.file is None else await asyncio.to_thread(submitted.file.path.read_bytes)
        header, body = await asyncio.to_thread(encode_8bit, header, body)
        return replace(submitted, body=body, file=None, eight_bit=_is_8bit(header, body)), header

    async def _spilled(self, content: Content) -> Content:
        """A body that became large by encoding goes to a file like one that was large from the start."""
        if content.file is not None or len(content.body) <= INLINE_OCTETS:
            return content
        file = self._spool.incoming()
        await asyncio.to_thread(file.write, content.body)
        return Content(content.head, b"", file)

    def _message(
        self,
        submitted: Submitted,
        header: Header,
        content: Content,
        signer: str,
        lifetime: float | None,
        *,
        now: float,
    ) -> NewMessage:
        credential = submitted.credential
        longest = self._terms().expiry_of(credential.stream)
        owed, suppressed = self._partition(submitted.envelope.recipients, credential)
        needs_utf8 = submitted.envelope.smtputf8 and not _is_ascii(submitted.envelope, header)
        stream = self._terms().streams.get(credential.stream)
        return NewMessage(
            id=submitted.id,
            accepted_at=now,
            expires_at=now + (min(lifetime, longest) if lifetime else longest),
            credential=credential.name,
            stream=credential.stream,
            sender_domain=signer or header.from_addresses[0].rpartition("@")[2],
            envelope=replace(
                submitted.envelope,
                recipients=owed,
                body="8BITMIME" if submitted.eight_bit else "7BIT",
                smtputf8=needs_utf8,
            ),
            content=content,
            size=content.size,
            header_from=", ".join(header.from_addresses)[:998],
            subject=header.subject,
            header_message_id=header.message_id,
            client=submitted.client,
            reports=credential.reports is Reports.SENDER,
            held=credential.state is State.HOLD,
            unknown_outcome=stream.unknown_outcome if stream else "retry",
            suppressed=suppressed,
        )

    def _partition(
        self, recipients: tuple[Recipient, ...], credential: Credential
    ) -> tuple[tuple[Recipient, ...], tuple[Recipient, ...]]:
        """(owed, suppressed). A credential that refuses them was told at RCPT."""
        if credential.suppressed is OnSuppressed.REFUSE:
            return recipients, ()
        suppressed = tuple(each for each in recipients if self._suppressed(each.address, credential) is not None)
        return tuple(each for each in recipients if each not in suppressed), suppressed

    async def _accept(self, message: NewMessage) -> None:
        hand_over = not message.held and self._delivery.has_room(message)
        started = self._now()
        fresh = await self._spool.accept(message, hand_over=hand_over)
        self._metrics.accepted(
            message.stream,
            recipients=len(message.envelope.recipients),
            octets=message.size,
            commit_seconds=self._now() - started,
        )
        self._log.info(
            "message accepted",
            id=message.id,
            credential=message.credential,
            sender=message.envelope.sender,
            recipients=len(message.envelope.recipients),
            size=message.size,
            client=message.client,
        )
        if fresh:
            self._delivery.hand_over(fresh)
        elif not message.held:
            self._delivery.stored(message)


def _completed(submitted: Submitted, header: Header, terms: Terms, *, now: float) -> Header:
    received = format_received(
        ehlo=submitted.ehlo,
        client=submitted.client if terms.show_client else "",
        hostname=terms.hostname,
        protocol=submitted.protocol,
        tls=submitted.tls,
        queue_id=submitted.id,
        recipients=submitted.envelope.recipients,
        now=now,
    )
    return complete(header, received=received, now=now, hostname=terms.hostname, message_id_token=submitted.id)


def _is_ascii(envelope: Envelope, header: Header) -> bool:
    return (
        envelope.sender.isascii()
        and all(each.address.isascii() for each in envelope.recipients)
        and all(field.raw.isascii() for field in header.fields)
    )


def _is_8bit(header: Header, body: bytes) -> bool:
    return not (body.isascii() and all(field.raw.isascii() for field in header.fields))
