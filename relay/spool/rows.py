"""spool.rows: values as rows, rows as values.

What is only read together with its message is one MessagePack array, not a column each: encoding an event takes a
microsecond, binding twenty columns takes five. Fields are only ever added at the end, with a default, so that an older
row still decodes.
"""

from collections.abc import Iterable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from relay.mail.envelope import Recipient
from relay.mail.event import Event, Kind
from relay.mail.suppression import Cause, Strike, Suppression
from relay.spool.numbering import id_of, time_of
from relay.spool.values import NewMessage, QueuedMessage, QueuedRecipient, QueueEntry, Status

Row = Sequence[Any]

FRESH: Final = 0  # accepted, claimed by the owner's memory; in no index
QUEUED: Final = 1
HELD: Final = 2
INTENDED: Final = 3  # about to be sent at most once
DOUBTFUL: Final = 4  # found intended when the spool was opened

LAST_REPLY_LENGTH: Final = 1000

_NOT_ATTEMPTED: Final = ("", "", "", "", "", 0, 0.0)  # reply, mx, source, tls, verdict, attempt, next_attempt_at

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class Facts(msgspec.Struct, frozen=True, array_like=True):
    """message.facts: all of a QueuedMessage that has no column."""

    accepted_at: float
    stream: str
    sender_domain: str
    body: str
    smtputf8: bool
    ret: str
    envid: str
    size: int
    header_from: str
    subject: str
    header_message_id: str
    client: str
    reports: bool
    unknown_outcome: str


_decode_facts = msgspec.msgpack.Decoder(Facts).decode


def facts_of(message: NewMessage) -> bytes:
    envelope = message.envelope
    return _pack(
        (
            message.accepted_at,
            message.stream,
            message.sender_domain,
            envelope.body,
            envelope.smtputf8,
            envelope.ret,
            envelope.envid,
            message.size,
            message.header_from,
            message.subject,
            message.header_message_id,
            message.client,
            message.reports,
            message.unknown_outcome,
        )
    )


def queued_message(message: NewMessage) -> QueuedMessage:
    """What a message will be once it is queued."""
    envelope = message.envelope
    return QueuedMessage(
        id=message.id,
        accepted_at=message.accepted_at,
        credential=message.credential,
        stream=message.stream,
        sender_domain=message.sender_domain,
        sender=envelope.sender,
        body=envelope.body,
        smtputf8=envelope.smtputf8,
        ret=envelope.ret,
        envid=envelope.envid,
        size=message.size,
        header_from=message.header_from,
        subject=message.subject,
        header_message_id=message.header_message_id,
        client=message.client,
        reports=message.reports,
        unknown_outcome=message.unknown_outcome,
    )


def _stored_message(number: int, sender: str, credential: str, packed: bytes, *, shard: int) -> QueuedMessage:
    facts = _decode_facts(packed)
    return QueuedMessage(
        id=id_of(number, shard=shard),
        accepted_at=facts.accepted_at,
        credential=credential,
        stream=facts.stream,
        sender_domain=facts.sender_domain,
        sender=sender,
        body=facts.body,
        smtputf8=facts.smtputf8,
        ret=facts.ret,
        envid=facts.envid,
        size=facts.size,
        header_from=facts.header_from,
        subject=facts.subject,
        header_message_id=facts.header_message_id,
        client=facts.client,
        reports=facts.reports,
        unknown_outcome=facts.unknown_outcome,
    )


# recipient r, message m: the columns `queued_recipients` reads.
QUEUED_COLUMNS = (
    "r.message, r.position, r.address, r.notify, r.orcpt, r.attempts, r.due_at, r.expires_at, r.delay_reported,"
    " r.last_reply, m.sender, m.credential, m.facts"
)


def queued_recipients(rows: Iterable[Row], *, shard: int) -> list[QueuedRecipient]:
    """Recipients of one message share its object."""
    messages: dict[int, QueuedMessage] = {}
    recipients = []
    for number, position, address, notify, orcpt, attempts, due_at, expires_at, reported, reply, *rest in rows:
        message = messages.get(number)
        if message is None:
            message = messages[number] = _stored_message(number, *rest, shard=shard)
        recipients.append(
            QueuedRecipient(
                message=message,
                position=position,
                recipient=Recipient(address, notify, orcpt),
                attempts=attempts,
                due_at=due_at,
                expires_at=expires_at,
                delay_reported=bool(reported),
                last_reply=reply,
                cursor=(due_at, number, position),
            )
        )
    return recipients


ENTRY_COLUMNS = (
    "r.message, r.position, r.address, r.notify, r.orcpt, r.status, r.attempts, r.due_at, r.expires_at, r.held_at,"
    " r.last_reply, m.sender, m.credential, m.facts"
)


def queue_entry(row: Row, *, shard: int) -> QueueEntry:
    number, position, address, notify, orcpt, status, attempts, due_at, expires_at, held_at, reply, *rest = row
    sender, credential, packed = rest
    facts = _decode_facts(packed)
    return QueueEntry(
        message_id=id_of(number, shard=shard),
        position=position,
        recipient=Recipient(address, notify, orcpt),
        status=status_of(status, attempts=attempts),
        accepted_at=facts.accepted_at,
        expires_at=expires_at,
        attempts=attempts,
        due_at=0.0 if status == HELD else due_at,
        held_at=held_at,
        last_reply=reply,
        sender=sender,
        credential=credential,
        stream=facts.stream,
        size=facts.size,
        subject=facts.subject,
    )


def status_of(status: int, *, attempts: int) -> Status:
    if status == HELD:
        return Status.HELD
    return Status.DEFERRED if attempts else Status.QUEUED


def oldest(number: int | None) -> float:
    return 0.0 if number is None else time_of(number)


_event_fields = attrgetter(*Event.__dataclass_fields__)
_suppression_fields = attrgetter(*Suppression.__dataclass_fields__)
_strike_fields = attrgetter(*Strike.__dataclass_fields__)


def pack_event(event: Event) -> bytes:
    return _pack(_event_fields(event))


def pack_arrival(message: NewMessage, kind: Kind, recipient: str, *, detail: str = "") -> bytes:
    """What `pack_event` makes of a new message's event, without making the event: there is one for every recipient."""
    return _pack(
        (
            message.accepted_at,
            kind,
            message.id,
            message.envelope.sender,
            recipient,
            message.credential,
            message.stream,
            *_NOT_ATTEMPTED,
            message.size,
            message.header_from,
            message.subject,
            message.header_message_id,
            message.client,
            detail,
        )
    )


def unpack_event(packed: bytes) -> Event:
    at, kind, *rest = _decode(packed)
    return Event(at, Kind(kind), *rest)


def pack_suppression(value: Suppression | Strike) -> bytes:
    if isinstance(value, Strike):
        return _pack(("strike", *_strike_fields(value)))
    return _pack(("suppression", *_suppression_fields(value)))


def unpack_suppression(packed: bytes) -> Suppression | Strike:
    tag, address, cause, *rest = _decode(packed)
    if tag == "strike":
        return Strike(address, Cause(cause), *rest)
    return Suppression(address, Cause(cause), *rest)


def last_reply(event: Event) -> str:
    """What `recipient.last_reply` says of an attempt: the peer's words, else ours."""
    return writable((event.reply or event.detail)[:LAST_REPLY_LENGTH])


def writable(text: str) -> str:
    """The text without lone surrogates (octets of a peer that are no UTF-8), which neither SQLite nor MessagePack
    takes.
    """
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def _pack(fields: tuple[Any, ...]) -> bytes:
    try:
        return _encode(fields)
    except UnicodeEncodeError:
        return _encode(tuple(writable(field) if isinstance(field, str) else field for field in fields))
