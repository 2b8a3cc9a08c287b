"""smtpclient.endpoint: where to connect, how, and what came of it when nothing did.

A connection goes to one address of one host under one TLS mode. `TlsMode` says what is asked of TLS; which mode a
delivery may use, and what it falls back to, is delivery's to decide: unverified TLS before clear, clear only where no
policy forbids.

The peer's failure is a value, `ConnectFailure`: the stage it came at, the server's exact reply where there was one,
and a sentence that can stand in the journal. Our own mistakes (a name with a control character, a login over clear
text) raise.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from relay.config.models import DeliveryTimeouts
from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.smtpclient.tls import TlsContexts


class TlsMode(StrEnum):
    """What is asked of TLS."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # STARTTLS where offered, never verified (RFC 7435); the doubt is recorded
    REQUIRED = "required"  # STARTTLS or no session; not verified, the doubt is recorded
    VERIFIED = "verified"  # STARTTLS or no session, verified
    IMPLICIT = "tls"  # TLS from the first octet (RFC 8314 3.3), verified

    @property
    def is_verified(self) -> bool:
        return self in (TlsMode.VERIFIED, TlsMode.IMPLICIT)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address of one host.

    address: an IP literal without brackets. name: the MX host or smarthost, in A-labels; it is what SNI asks for and
    what the certificate is compared with.
    """

    address: str
    port: int
    name: str

    def __str__(self) -> str:
        """As the journal shows it: "mx1.example.com[192.0.2.1]:25"."""
        return f"{self.name}[{self.address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class SessionOptions:
    """How to open a session.

    contexts: the process's TLS contexts, shared by all connections. ehlo: our name. source: the local IP address to
    send from, "" for the system's choice. ca: a CA file to trust besides the system's, where TLS is verified. login,
    secret: for AUTH at a smarthost; never without verified TLS. discarded: EHLO keywords that are not believed.
    """

    contexts: TlsContexts
    ehlo: str
    source: str = ""
    tls: TlsMode = TlsMode.OPPORTUNISTIC
    ca: Path | None = None
    login: str = ""
    secret: str = ""
    discarded: frozenset[str] = frozenset()
    timeouts: DeliveryTimeouts = field(default_factory=DeliveryTimeouts)

    def __post_init__(self) -> None:
        if self.login and not self.tls.is_verified:
            raise ValueError("a login is only sent over verified TLS")


class Fault(StrEnum):
    """Whose a failure is, as far as it shows."""

    THEIRS = "theirs"
    SOURCE = "source"  # our address cannot be bound, or has no port left
    ROUTE = "route"  # this machine reaches nothing of the address's family


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """No session came about; nothing was sent but what opens one.

    stage: what was under way. reply: the server's, None when there was none or none that could be read. text: one
    line, with the reply in it. tls_failed: STARTTLS was refused or the handshake failed, so a session without TLS
    might do. fault: where it is ours, no server has heard of us.
    """

    stage: Stage
    reply: Reply | None
    text: str
    tls_failed: bool = False
    fault: Fault = Fault.THEIRS
