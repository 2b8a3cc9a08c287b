"""submission.terms: what the configuration says to every session of one listener; replaced as a whole on reload."""

from dataclasses import dataclass

from relay.config.models import Submission, SubmissionLimits
from relay.mail.reply import Reply
from relay.submission.content import Bounds


@dataclass(frozen=True, slots=True)
class Terms:
    """hostname: our name. trusted: the name of the credential a trusted listener is bound to, "" on the others.

    greeting, helo, ehlo_clear and ehlo_secure (before and inside TLS): the replies, as sent.
    """

    hostname: str
    bounds: Bounds
    limits: SubmissionLimits
    trusted: str
    greeting: bytes
    helo: bytes
    ehlo_clear: bytes
    ehlo_secure: bytes

    @classmethod
    def of(cls, hostname: str, submission: Submission, *, trusted: str = "") -> "Terms":
        bounds = Bounds(
            message_size=submission.message_size,
            header_size=submission.limits.header_size,
            line_length=submission.limits.line_length,
            normalize=submission.bare_newlines == "normalize",
        )
        return cls(
            hostname=hostname,
            bounds=bounds,
            limits=submission.limits,
            trusted=trusted,
            greeting=Reply(220, "", f"{hostname} ESMTP Relay").wire(),
            helo=Reply(250, "", hostname).wire(),
            ehlo_clear=_ehlo(hostname, submission, () if trusted else ("STARTTLS",)),
            ehlo_secure=_ehlo(hostname, submission, ("AUTH PLAIN LOGIN",)),
        )


def _ehlo(hostname: str, submission: Submission, security: tuple[str, ...]) -> bytes:
    """What works is offered, and nothing else; AUTH only inside TLS, STARTTLS only outside (RFC 3207 4.2)."""
    keywords = (
        "PIPELINING",
        f"SIZE {submission.message_size}",
        "8BITMIME",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "CHUNKING",
        "DSN",
        *security,
        f"LIMITS RCPTMAX={submission.limits.recipients}",  # RFC 9422
    )
    return Reply(250, "", "\n".join((hostname, *keywords))).wire()
