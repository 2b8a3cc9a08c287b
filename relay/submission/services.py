"""submission.services: what a session needs from the rest of Relay, as arguments.

`server` builds one `Services` and gives it to the submission server; nothing of the layers below is constructed here.
What a session asks for each command is a plain callable, answered from memory; only `Limiter.take` and
`Receiver.receive` may take time, and the session reads no further until they have answered. Each Protocol says what
its implementation owes.

`SessionTable`, `Limiter` and `Guard` must hold for the machine, not for one worker. This package has implementations
for one process (`limits`, `guessing`); with several workers the server's ask or tell the switchboard.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from relay.mail.envelope import Envelope
from relay.mail.event import Event
from relay.mail.reply import Reply
from relay.mail.suppression import Suppression
from relay.registry.credentials import Credential
from relay.registry.snapshot import Snapshot
from relay.spool.content import IncomingFile


@dataclass(frozen=True, slots=True)
class Submitted:
    """One message as it was submitted.

    header: octets up to and excluding the empty line, every line ended by CRLF. body: what follows it, or b"" when it
    is in `file`, which belongs to the receiver from now on. client: its IP address. ehlo: its name, as it gave it.
    tls: such as "TLSv1.3 TLS_AES_256_GCM_SHA384", "" for clear text. protocol: the word for Received (RFC 3848), such
    as "ESMTPSA". eight_bit: the content has octets over 127.
    """

    id: str
    credential: Credential
    envelope: Envelope
    header: bytes
    body: bytes
    file: IncomingFile | None
    client: str
    ehlo: str
    tls: str
    protocol: str
    eight_bit: bool


class Receiver(Protocol):
    """The one door into the spool: `relay.reception`."""

    async def receive(self, submitted: Submitted, /) -> Reply:
        """The reply to the client, positive only once the message is durable. Cancelling it does not undo a commit."""


class SessionTable(Protocol):
    """Counts of open sessions, each under a key."""

    def enter(self, key: str, *, limit: int) -> bool:
        """Count one more under `key`; False, and not counted, when there are `limit` already."""

    def leave(self, key: str) -> None:
        """Undo one `enter` that returned True."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Messages per second, hour and day; 0 for no limit."""

    second: int = 0
    hour: int = 0
    day: int = 0

    def __bool__(self) -> bool:
        return bool(self.second or self.hour or self.day)


class Limiter(Protocol):
    """The messages of each credential per second, hour and day."""

    async def take(self, credential: str, limits: Limits, count: int) -> float:
        """0.0 when `count` messages may go now, and they are counted; else, uncounted, the seconds until they may."""


class Guard(Protocol):
    """Who guesses at logins. address: as `submission.client` keys it, an IPv4 address or an IPv6 /64. Times: POSIX
    seconds.
    """

    def locked(self, *, address: str, now: float) -> float:
        """Seconds for which any login from `address` is locked out, 0.0 when it is not."""

    def locked_login(self, *, address: str, login: str, last_used: float, now: float) -> float:
        """Seconds for which `login` is locked out at `address`. last_used: when it last logged in from there, as far
        as the registry knows, 0.0 for never.
        """

    def failed(self, *, address: str, login: str, now: float) -> None: ...

    def succeeded(self, *, address: str, login: str, now: float) -> None: ...


class Facts(Protocol):
    """What sessions tell the metrics: plain counting, called on the hot path. The words are closed sets."""

    def session_opened(self, listener: str, /) -> None:
        """listener: a `listener.Kind`: "starttls", "tls" or "trusted"."""

    def session_closed(self, listener: str, /) -> None: ...

    def session_refused(self, reason: str, /) -> None:
        """At the door. reason: an `admission.Reason`."""

    def tls_failed(self) -> None:
        """A handshake did not come to its end."""

    def auth_succeeded(self) -> None: ...

    def auth_failed(self, reason: str, /) -> None:
        """reason: an `auth.Failure`."""

    def message_refused(self, code: int, /) -> None:
        """A refusal after AUTH, of a sender, a recipient or content. code: of the reply, 400 to 599."""

    def long_lines(self, count: int, /) -> None:
        """Lines over 998 octets in accepted content (RFC 5322 2.1.1)."""


class Log(Protocol):
    """One JSON line per fact: a constant sentence and fields."""

    def info(self, event: str, /, **fields: object) -> None: ...

    def warning(self, event: str, /, **fields: object) -> None: ...

    def error(self, event: str, /, **fields: object) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """All of the above, and what is asked of memory.

    snapshot: the registry's current one. suppressed: why this recipient gets nothing from this credential, or None.
    literal_allowed: whether mail may go to this domain, an address literal with its brackets
    (`delivery.allow_networks`, a route). disk_ok: False when there is too little room to accept mail. new_id: the id
    of a message that is complete. incoming: a new file in the spool for content over 64 KiB; may raise SpoolError.
    journal_rejection: a refusal after AUTH. record_use: a login by credential name, IP address and POSIX seconds.
    now: POSIX seconds.
    """

    receiver: Receiver
    snapshot: Callable[[], Snapshot]
    suppressed: Callable[[str, Credential], Suppression | None]
    literal_allowed: Callable[[str], bool]
    disk_ok: Callable[[], bool]
    new_id: Callable[[], str]
    incoming: Callable[[], IncomingFile]
    journal_rejection: Callable[[Event], None]
    record_use: Callable[[str, str, float], None]
    sessions: SessionTable
    limiter: Limiter
    guard: Guard
    facts: Facts
    log: Log
    now: Callable[[], float]
