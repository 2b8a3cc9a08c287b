"""spool.values: what goes into the spool, what comes out of it, and what is said about it.

Times are POSIX seconds. A recipient is known by (message id, position): its place among the recipients the message was
accepted with, from 0. None of these values says how or where mail is kept.
"""

from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event
from relay.mail.suppression import Strike, Suppression
from relay.spool.content import Content

Cursor = tuple[float, int, int]  # a place in due order; only to be compared, and given back to `due`


class NewMessage(Struct, frozen=True):
    """A message to accept: complete, signed, with at least its facts for the journal.

    id: from `Spool.next_id`. sender_domain: DKIM d=, else the From domain. reports: whether failures are reported to
    the sender. held: queue it held, as for a credential on hold. unknown_outcome: "retry" (at least once) or "end"
    (at most once).
    suppressed: recipients taken from the client and journaled as suppressed, never queued (not in envelope.recipients).
    """

    id: str
    accepted_at: float
    expires_at: float
    credential: str
    stream: str
    sender_domain: str
    envelope: Envelope
    content: Content
    size: int
    header_from: str = ""
    subject: str = ""
    header_message_id: str = ""
    client: str = ""
    reports: bool = True
    held: bool = False
    unknown_outcome: str = "retry"
    suppressed: tuple[Recipient, ...] = ()

    @property
    def sender(self) -> str:
        return self.envelope.sender


class QueuedMessage(Struct, frozen=True):
    """What delivering needs to know of a message, without its content; one object for all its recipients.

    When a recipient expires is the recipient's: time spent on hold does not count, and each may be held on its own.
    """

    id: str
    accepted_at: float
    credential: str
    stream: str
    sender_domain: str
    sender: str
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


class QueuedRecipient(Struct, frozen=True):
    """One recipient still owed. attempts: those that climbed the ladder so far. last_reply: of the last attempt, or
    its detail.

    cursor: its place in due order, for `due(after=...)`.
    """

    message: QueuedMessage
    position: int
    recipient: Recipient
    attempts: int
    due_at: float
    expires_at: float
    delay_reported: bool
    last_reply: str
    cursor: Cursor


class Outcome(Struct, frozen=True):
    """How an attempt ended for one recipient. final: it leaves the queue; else it is due again at `due_at`.

    climbs: the attempt counts on the retry ladder. delay_reported: the sender has been told of the delay.
    """

    position: int
    event: Event
    final: bool
    due_at: float = 0.0
    climbs: bool = True
    delay_reported: bool = False


class Settlement(Struct, frozen=True):
    """Everything that follows from one attempt, kept in one step or not at all."""

    message_id: str
    outcomes: tuple[Outcome, ...]
    reports: tuple[NewMessage, ...] = ()
    suppressions: tuple[Suppression | Strike, ...] = ()


class Settled(Struct, frozen=True):
    """missing: positions that were no longer there (cancelled, or settled before): nothing was done for them."""

    missing: tuple[int, ...] = ()


class Status(StrEnum):
    """What an operator can ask for. Queued: not tried yet, or the first attempt is under way.

    Damaged: held, because what is kept of it is not what was accepted.
    """

    QUEUED = "queued"
    DEFERRED = "deferred"
    HELD = "held"
    DAMAGED = "damaged"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which recipients are meant: those that agree with every field that is set. None set: all.

    recipient_domain: lower-case. sender: the envelope sender; None means any, "" the null sender. older_than: seconds
    since acceptance.
    """

    ids: tuple[str, ...] = ()
    recipient_domain: str = ""
    sender: str | None = None
    credential: str = ""
    status: Status | None = None
    older_than: float = 0.0


class QueueEntry(Struct, frozen=True):
    """One recipient as an operator sees it. due_at: 0 while held. held_at: 0 unless held.

    damage: why it was set aside; "" if it was not.
    """

    message_id: str
    position: int
    recipient: Recipient
    status: Status
    accepted_at: float
    expires_at: float
    attempts: int
    due_at: float
    held_at: float
    last_reply: str
    sender: str
    credential: str
    stream: str
    size: int
    subject: str
    damage: str = ""
    sender_domain: str = ""


class Change(Struct, frozen=True):
    """A recipient an operator's command changed."""

    message_id: str
    position: int
    domain: str
    credential: str


class StatusTotal(Struct, frozen=True):
    """count: recipients. oldest: when the oldest of their messages was accepted, 0 if there is none."""

    count: int = 0
    oldest: float = 0.0


class Totals(Struct, frozen=True):
    """In the order of `Status`."""

    queued: StatusTotal = StatusTotal()
    deferred: StatusTotal = StatusTotal()
    held: StatusTotal = StatusTotal()
    damaged: StatusTotal = StatusTotal()


class DomainTotal(Struct, frozen=True):
    """count: recipients waiting in this domain. last_reply: of the one that was put off furthest; "" if none was
    tried.
    """

    domain: str
    count: int
    last_reply: str
