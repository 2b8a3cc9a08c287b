"""mail.suppression: an address that is not sent to, and the evidence for it.

scope "all" for hard bounces; "credential:NAME/STREAM" for complaints. Compared with the domain lower-cased, nothing
else folded.
"""

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    HARD_BOUNCE = "hard_bounce"
    BAD_DOMAIN = "bad_domain"  # null MX, NXDOMAIN, 5.1.2
    MAILBOX_FULL = "mailbox_full"
    COMPLAINT = "complaint"
    MANUAL = "manual"


@dataclass(frozen=True, slots=True)
class Suppression:
    """created_at, expires_at: POSIX seconds; expires_at 0 means never. message: the queue id that proved it."""

    address: str
    cause: Cause
    created_at: float
    expires_at: float = 0.0
    scope: str = "all"
    message: str = ""
    reply: str = ""


@dataclass(frozen=True, slots=True)
class Strike:
    """Evidence that suppresses only when repeated: `needed` messages spread over at least `over` seconds."""

    address: str
    cause: Cause
    at: float
    needed: int
    over: float
    suppress_for: float  # seconds; 0 for good
    message: str = ""
    reply: str = ""
