"""mail.event: what happened to a message, as values the journal keeps.

One event per fact and recipient. `accepted` and `rejected` speak of a whole transaction (recipient "" when it is not
one recipient's); the others of one recipient. An event is written in the same transaction as the change it tells of.
"""

from enum import StrEnum

from msgspec import Struct


class Kind(StrEnum):
    """The statuses a search can ask for."""

    ACCEPTED = "accepted"
    REJECTED = "rejected"  # refused at submission, never queued
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    BOUNCED = "bounced"
    EXPIRED = "expired"
    SUPPRESSED = "suppressed"
    UNKNOWN = "unknown"  # the connection was lost between the final dot and its reply
    CANCELLED = "cancelled"
    HELD = "held"
    RELEASED = "released"


FINAL = frozenset({Kind.DELIVERED, Kind.BOUNCED, Kind.EXPIRED, Kind.SUPPRESSED, Kind.CANCELLED})


class Event(Struct, frozen=True, array_like=True):
    """One fact.

    at: POSIX seconds. message: the queue id ("" for a rejection before one was given). reply: the peer's reply or our
    own refusal, verbatim, "" when there was none. mx: "host[address]:port" of the server that answered. source: the
    local address used. tls: "" for clear text, else e.g. "TLSv1.3 verified" / "TLSv1.3 unverified: self-signed
    certificate". verdict: a `mail.verdict.Blame` value or "". attempt: 1 for the first. next_attempt_at: 0 when none.
    detail: words of ours (why it was deferred without a reply, who cancelled it).
    """

    at: float
    kind: Kind
    message: str
    sender: str
    recipient: str
    credential: str
    stream: str = ""
    reply: str = ""
    mx: str = ""
    source: str = ""
    tls: str = ""
    verdict: str = ""
    attempt: int = 0
    next_attempt_at: float = 0.0
    size: int = 0
    header_from: str = ""
    subject: str = ""
    header_message_id: str = ""
    client: str = ""
    detail: str = ""
