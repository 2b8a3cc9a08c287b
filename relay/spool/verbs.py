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
    """eligible: over recipient r, to find them. statement: takes :now, :message, :position. done: as in "held by
    NAME".
    """

    eligible: str
    statement: str
    kind: Kind
    done: str


_KEY = "message = :message AND position = :position"

HOLD = Verb(
    eligible=f"r.status IN ({rows.FRESH}, {rows.QUEUED})",
    statement=f"UPDATE recipient SET status = {rows.HELD}, held_at = :now"
    f" WHERE {_KEY} AND status IN ({rows.FRESH}, {rows.QUEUED})",
    kind=Kind.HELD,
    done="held",
)
# Only hold stops the clock of expiry: what was spent on hold is added.
RELEASE = Verb(
    eligible=f"r.status = {rows.HELD}",
    statement=f"UPDATE recipient SET status = {rows.QUEUED}, due_at = :now, held_at = 0,"
    f" expires_at = expires_at + max(:now - held_at, 0) WHERE {_KEY} AND status = {rows.HELD}",
    kind=Kind.RELEASED,
    done="released",
)
RETRY = Verb(
    eligible=f"r.status = {rows.QUEUED}",
    statement=f"UPDATE recipient SET due_at = :now WHERE {_KEY} AND status = {rows.QUEUED} AND due_at > :now",
    kind=Kind.DEFERRED,
    done="to be tried again now, asked",
)
CANCEL = Verb(eligible="true", statement=f"DELETE FROM recipient WHERE {_KEY}", kind=Kind.CANCELLED, done="cancelled")


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
        met = [one for one in recipients[start : start + PIECE] if _apply(tables, verb, one, now)]
        tables.queued_at(now)
        tables.add_events(rows.pack_event(_event(verb, one, now=now, by=by)) for one in met)
        changes += [Change(one.message.id, one.position, one.recipient.domain) for one in met]
        keys += [one.cursor[1:] for one in met]
        if verb is CANCEL:
            gone += _ended(tables, met)
        yield
    return Changed(tuple(changes), tuple(keys), tuple(gone))


def _apply(tables: Tables, verb: Verb, recipient: QueuedRecipient, now: float) -> bool:
    _, number, position = recipient.cursor
    return tables.change(verb.statement, {"now": now, "message": number, "position": position})


def _ended(tables: Tables, met: Sequence[QueuedRecipient]) -> list[Removed]:
    messages = {one.cursor[1]: one.message.id for one in met}
    removed = (tables.remove_if_done(number, message_id) for number, message_id in messages.items())
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
        detail=f"{verb.done} by {by}",
    )
