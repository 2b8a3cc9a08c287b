"""spool.stored: rows of the queue as values, each looked at before it is believed.

A row that is not what was written is a value too: `Damaged`, with as much of it as can be read and the reason in
words. It never raises, whatever the columns hold, for one bad row must not keep the others from being delivered. What
version 1 wrote has no checksums; of it only what cannot be understood is found.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import msgspec

from relay.errors import SpoolDamaged
from relay.mail.envelope import Recipient
from relay.spool import checksums, rows
from relay.spool.failure import DAMAGED
from relay.spool.numbering import id_of, time_of
from relay.spool.rows import Facts, Row
from relay.spool.values import Cursor, QueuedMessage, QueuedRecipient, QueueEntry, Status

Key = tuple[int, int]

NO_CHECKSUM = -1  # is nothing's: a row that has it is set aside
_CHECKSUM_AT = MappingProxyType({"message": 4, "content": 5, "recipient": 13})

NO_MESSAGE = "its message is not in the shard"
MESSAGE_DAMAGED = "what is kept of its message is damaged"
RECIPIENT_DAMAGED = "what is kept of the recipient is damaged"


_UNKNOWN = Facts(
    accepted_at=0.0,
    stream="",
    sender_domain="",
    body="",
    smtputf8=False,
    ret="",
    envid="",
    size=0,
    header_from="",
    subject="",
    header_message_id="",
    client="",
    reports=False,
    unknown_outcome="",
)


@dataclass(frozen=True, slots=True)
class Damaged:
    """recipient: what can be read of it. reason: a sentence without its end."""

    recipient: QueuedRecipient
    reason: str


@dataclass(frozen=True, slots=True)
class Found:
    """recipients: those that are as they were accepted, in the order that was asked for. read_to: the last one's
    cursor, also where that is left out.
    """

    recipients: list[QueuedRecipient]
    damaged: list[Damaged]
    read_to: Cursor | None = None

    def without(self, keys: AbstractSet[Key]) -> "Found":
        return Found(
            [one for one in self.recipients if one.cursor[1:] not in keys],
            [one for one in self.damaged if one.recipient.cursor[1:] not in keys],
            self.read_to,
        )


# recipient r, message m: the columns `queued_recipients` reads.
QUEUED_COLUMNS = (
    "r.message, r.position, r.address, r.domain, r.notify, r.orcpt, r.checksum, r.attempts, r.due_at, r.expires_at,"
    " r.delay_reported, r.last_reply, m.sender, m.credential, m.facts, m.checksum"
)


def queued_recipients(found: Iterable[Row], *, shard: int) -> Found:
    """Recipients of one message share its object. Raises SpoolDamaged for a key that is no number."""
    messages: dict[int, tuple[QueuedMessage, str]] = {}
    sound: list[QueuedRecipient] = []
    damaged: list[Damaged] = []
    for row in found:
        number, *columns = row
        known = messages.get(number)
        if known is None:
            known = messages[number] = _message(number, *columns[-4:], shard=shard)
        reason = known[1] or _damage_of_columns(number, columns)
        if reason:
            damaged.append(Damaged(_readable(known[0], number, columns), reason))
        else:
            sound.append(_recipient(known[0], number, columns))
    return Found(sound, damaged, sound[-1].cursor if sound else None)


def _damage_of_columns(number: int, columns: Row) -> str:
    attempts, due_at, expires_at = columns[6:9]
    if not (type(due_at) is type(expires_at) is float and type(attempts) is int):
        return RECIPIENT_DAMAGED
    return damage_of_recipient((number, *columns[:5]), columns[5])


def _recipient(message: QueuedMessage, number: int, columns: Row) -> QueuedRecipient:
    position, address, _, notify, orcpt, _, attempts, due_at, expires_at, reported, reply, *_ = columns
    return QueuedRecipient(
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


def _readable(message: QueuedMessage, number: int, columns: Row) -> QueuedRecipient:
    """Of a damaged one, what stands where it should; the rest as if it were new."""
    position, address, _, notify, orcpt, *_ = columns
    texts = (_text(each) for each in (address, notify, orcpt))
    return _recipient(message, _key(number), (_key(position), *_placed(texts), None, 0, 0.0, 0.0, False, ""))


def _placed(texts: Iterable[str]) -> tuple[str, str, str, str]:
    address, notify, orcpt = texts
    return address, "", notify, orcpt


def _key(value: Any) -> int:
    if type(value) is not int:
        raise SpoolDamaged(f"a key of the queue is no number: {value!r}", remedy=DAMAGED)
    return value


def everyone(found: Found) -> list[QueuedRecipient]:
    """The damaged as well, by number and position: for whoever does not send."""
    damaged = [each.recipient for each in found.damaged]
    return sorted([*found.recipients, *damaged], key=lambda one: one.cursor[1:]) if damaged else found.recipients


def damage_of_recipient(fields: tuple[Any, ...], checksum: int | None) -> str:
    """fields: as `checksums.of_recipient` takes them. "" if they are as they were written."""
    try:
        if checksum is None:
            return "" if all(_is_text(each) for each in fields[2:]) else RECIPIENT_DAMAGED
        return "" if checksums.of_recipient(*fields) == checksum else RECIPIENT_DAMAGED
    except (TypeError, ValueError):
        return RECIPIENT_DAMAGED


def damage_of_message(number: int, sender: Any, credential: Any, facts: Any, checksum: int | None) -> str:
    """The same of a message."""
    return _facts(number, sender, credential, facts, checksum)[1]


def _facts(number: int, sender: Any, credential: Any, packed: Any, checksum: int | None) -> tuple[Facts | None, str]:
    if packed is None:
        return None, NO_MESSAGE
    try:
        if checksum is not None and checksums.of_message(number, sender, credential, packed) != checksum:
            return None, MESSAGE_DAMAGED
        if checksum is None and not (_is_text(sender) and _is_text(credential)):
            return None, MESSAGE_DAMAGED
        return rows.decode_facts(packed), ""
    except (msgspec.MsgspecError, TypeError, ValueError):
        return None, MESSAGE_DAMAGED


def _message(
    number: int, sender: Any, credential: Any, packed: Any, checksum: int | None, *, shard: int
) -> tuple[QueuedMessage, str]:
    facts, reason = _facts(number, sender, credential, packed, checksum)
    if facts is None:
        facts = msgspec.structs.replace(_UNKNOWN, accepted_at=time_of(_key(number)))
        sender, credential = _text(sender), _text(credential)
    message = QueuedMessage(
        id=id_of(_key(number), shard=shard),
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
    return message, reason


ENTRY_COLUMNS = (
    "r.message, r.position, r.address, r.notify, r.orcpt, r.status, r.attempts, r.due_at, r.expires_at, r.held_at,"
    " r.last_reply, r.damage, m.sender, m.credential, m.facts, m.checksum"
)


def queue_entry(row: Row, *, shard: int) -> QueueEntry:
    """As much of it as can be read."""
    number, position, address, notify, orcpt, status, attempts, due_at, expires_at, held_at, reply, damage, *rest = row
    message, _ = _message(number, *rest, shard=shard)
    return QueueEntry(
        message_id=message.id,
        position=position,
        recipient=Recipient(*map(_text, (address, notify, orcpt))),
        status=status_of(status, attempts=attempts, damage=damage),
        accepted_at=message.accepted_at,
        expires_at=expires_at,
        attempts=attempts,
        due_at=0.0 if status == rows.HELD else due_at,
        held_at=held_at,
        last_reply=_text(reply),
        sender=message.sender,
        credential=message.credential,
        stream=message.stream,
        size=message.size,
        subject=message.subject,
        damage=_text(damage),
        sender_domain=message.sender_domain,
    )


def status_of(status: int, *, attempts: int, damage: str | None) -> Status:
    if status == rows.HELD:
        return Status.HELD if damage is None else Status.DAMAGED
    return Status.DEFERRED if attempts else Status.QUEUED


def oldest(number: int | None) -> float:
    return 0.0 if number is None else time_of(number)


def insertable(table: str, row: Row) -> Row:
    """A stored row as another database takes it: text that is none is replaced, and its checksum then nothing's."""
    if all(_is_text(value) for value in row if isinstance(value, str)):
        return row
    values = [rows.writable(value) if isinstance(value, str) else value for value in row]
    if table in _CHECKSUM_AT:
        values[_CHECKSUM_AT[table]] = NO_CHECKSUM
    return values


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and (value.isascii() or rows.writable(value) == value)


def _text(value: Any) -> str:
    """Whatever a column holds, to be shown and journaled."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return "" if value is None else rows.writable(str(value))
