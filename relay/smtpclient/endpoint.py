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

from relay.config.models import DeliveryTimeouts
from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.smtpclient.tls import TlsContexts


class TlsMode(StrEnum):
    """What is asked of TLS."""

    NONE = "none"
    OPPORTUNISTIC = "opportunistic"  # STARTTLS where offered, never verified (RFC 7435); the doubt is recorded
    REQUIRED_STARTTLS = "starttls"  # RFC 3207, verified
    IMPLICIT = "tls"  # TLS from the first octet (RFC 8314 3.3), verified


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
    send from, "" for the system's choice. login, secret: for AUTH at a smarthost; never without verified TLS.
    """

    contexts: TlsContexts
    ehlo: str
    source: str = ""
    tls: TlsMode = TlsMode.OPPORTUNISTIC
    login: str = ""
    secret: str = ""
    timeouts: DeliveryTimeouts = field(default_factory=DeliveryTimeouts)

    def __post_init__(self) -> None:
        if self.login and self.tls not in (TlsMode.REQUIRED_STARTTLS, TlsMode.IMPLICIT):
            raise ValueError("a login is only sent over verified TLS")


@dataclass(frozen=True, slots=True)
class ConnectFailure:
    """No session came about; nothing was sent but what opens one.

    stage: what was under way. reply: the server's, None when there was none or none that could be read. text: one
    line, with the reply in it. tls_failed: STARTTLS was refused or the handshake failed, so a session without TLS
    might do.
    """

    stage: Stage
    reply: Reply | None
    text: str
    tls_failed: bool = False
