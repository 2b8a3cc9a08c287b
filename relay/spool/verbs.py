"""spool.verbs: what an operator does to many recipients at once.

A verb is data: which recipients it may change, how, and what the journal says of it. The recipients are found on the
reading connection some hundred at a time and changed with the guard repeated, so that one that was settled meanwhile is
left alone; each batch is a transaction of its own. What is about to be sent at most once is not held and not hurried.
"""

# ruff: noqa: S608  what is put into SQL here are constants of ours; values are bound

from collections.abc import Sequence
from dataclasses import dataclass

from relay.mail.event import Event, Kind
from relay.spool import rows
from relay.spool.operations import PIECE, Steps
from relay.spool.tables import Removed, Tables
from relay.spool.values import Change, QueuedRecipient

BATCH = 500


@dataclass(frozen=True, slots=True)
class Verb:
    """eligible: over recipient r, to find them. statement: takes :now, :by, :message, :position. detail: for the
    journal.
    """

    eligible: str
    statement: str
    kind: Kind
    detail: str


_KEY = "message = :message AND position = :position"

HOLD = Verb(
    eligible=f"r.status IN ({rows.FRESH}, {rows.QUEUED})",
    statement=f"UPDATE recipient SET status = {rows.HELD}, held_at = :now"
    f" WHERE {_KEY} AND status IN ({rows.FRESH}, {rows.QUEUED})",
    kind=Kind.HELD,
    detail="held by {by}",
)
# Only hold stops the clock of expiry: what was spent on hold is added.
RELEASE = Verb(
    eligible=f"r.status = {rows.HELD}",
    statement=f"UPDATE recipient SET status = {rows.QUEUED}, due_at = :now, held_at = 0,"
    f" expires_at = expires_at + max(:now - held_at, 0), damage = NULL WHERE {_KEY} AND status = {rows.HELD}",
    kind=Kind.RELEASED,
    detail="released by {by}",
)
RETRY = Verb(
    eligible=f"r.status = {rows.QUEUED}",
    statement=f"UPDATE recipient SET due_at = :now WHERE {_KEY} AND status = {rows.QUEUED} AND due_at > :now",
    kind=Kind.DEFERRED,
    detail="to be tried again now, asked by {by}",
)
# What is kept of it is not what was accepted: `by` is what was found. Released, it is looked at again.
SET_ASIDE = Verb(
    eligible="r.damage IS NULL",
    statement=f"UPDATE recipient SET status = {rows.HELD}, held_at = iif(status = {rows.HELD}, held_at, :now),"
    f" damage = :by WHERE {_KEY} AND damage IS NULL",
    kind=Kind.HELD,
    detail="set aside: {by}",
)
CANCEL = Verb(
    eligible="true", statement=f"DELETE FROM recipient WHERE {_KEY}", kind=Kind.CANCELLED, detail="cancelled by {by}"
)


@dataclass(frozen=True, slots=True)
class Changed:
    """changes: for the caller; keys: the same as numbers and positions. gone: messages that ended with it."""

    changes: tuple[Change, ...]
    keys: tuple[tuple[int, int], ...]
    gone: tuple[Removed, ...]


def change(tables: Tables, verb: Verb, recipients: Sequence[QueuedRecipient], *, now: float, by: str) -> Steps[Changed]:
    """Apply a verb to those of `recipients` it still applies to."""
    changes: list[Change] = []
    keys: list[tuple[int, int]] = []
    gone: list[Removed] = []
    for start in range(0, len(recipients), PIECE):
        met = [one for one in recipients[start : start + PIECE] if _apply(tables, verb, one, now=now, by=by)]
        tables.queued_at(now)
        tables.add_events(rows.pack_event(_event(verb, one, now=now, by=by)) for one in met)
        changes += [
            Change(one.message.id, one.position, one.recipient.domain, one.message.credential) for one in met
        ]
        keys += [one.cursor[1:] for one in met]
        if verb is CANCEL:
            gone += _ended(tables, met)
        yield
    return Changed(tuple(changes), tuple(keys), tuple(gone))


def _apply(tables: Tables, verb: Verb, recipient: QueuedRecipient, *, now: float, by: str) -> bool:
    _, number, position = recipient.cursor
    return tables.change(verb.statement, {"now": now, "by": by, "message": number, "position": position})


def _ended(tables: Tables, met: Sequence[QueuedRecipient]) -> list[Removed]:
    messages = {one.cursor[1]: one.message.id for one in met}
    removed = (tables.remove_if_done(*each) or tables.remove_stray(*each) for each in messages.items())
    return [one for one in removed if one is not None]


def _event(verb: Verb, recipient: QueuedRecipient, *, now: float, by: str) -> Event:
    message = recipient.message
    return Event(
        at=now,
        kind=verb.kind,
        message=message.id,
        sender=message.sender,
        recipient=recipient.recipient.address,
        credential=message.credential,
        stream=message.stream,
        attempt=recipient.attempts,
        next_attempt_at=now if verb in (RELEASE, RETRY) else 0.0,
        size=message.size,
        header_from=message.header_from,
        subject=message.subject,
        header_message_id=message.header_message_id,
        client=message.client,
        detail=verb.detail.format(by=by),
    )
