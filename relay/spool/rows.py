"""spool.rows: values as rows, and what is carried elsewhere back as values; `stored` reads the queue's rows.

What is only read together with its message is one MessagePack array, not a column each: encoding an event takes a
microsecond, binding twenty columns takes five. Fields are only ever added at the end, with a default, so that an older
row still decodes.
"""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from relay.mail.event import Event, Kind
from relay.mail.suppression import Cause, Strike, Suppression
from relay.spool.values import NewMessage, QueuedMessage

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


decode_facts = msgspec.msgpack.Decoder(Facts).decode


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


_decode_event = msgspec.msgpack.Decoder(Event).decode
_suppression_fields = attrgetter(*Suppression.__dataclass_fields__)
_strike_fields = attrgetter(*Strike.__dataclass_fields__)


def pack_event(event: Event) -> bytes:
    try:
        return _encode(event)
    except UnicodeEncodeError:
        return _pack(msgspec.structs.astuple(event))


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
    return _decode_event(packed)


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
