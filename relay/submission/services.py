"""submission.services: what a session needs from the rest of Relay, as arguments.

`server` builds one `Services` and gives it to the submission server; nothing of the layers below is constructed here.
What a session asks for each command is a plain callable, answered from memory; only `Recipients.first_time`,
`Limiter.take` and `Receiver.receive` may take time, and the session reads no further until they have answered. Each
Protocol says what its implementation owes.

`SessionTable`, `Limiter` and `Guard` must hold for the machine, not for one worker. This package has implementations
for one process (`limits`, `guessing`); with several workers the server's ask or tell the switchboard.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from relay.log import Log
from relay.mail.event import Event
from relay.mail.reply import Reply
from relay.mail.suppression import Suppression
from relay.reception import Submitted
from relay.registry.credentials import Credential
from relay.registry.snapshot import Snapshot
from relay.registry.usage import Use
from relay.spool.content import IncomingFile


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


class Load(Protocol):
    """Sessions of this worker beside those of the others, who accept from the same listening sockets."""

    def enter(self) -> None:
        """One more: a connection was accepted, or a session began."""

    def leave(self) -> None:
        """Undo one `enter`."""

    def sign(self) -> None:
        """This worker is at work."""

    def opened(self) -> None:
        """A listening socket is accepted from."""

    def closed(self) -> None:
        """Undo one `opened`."""

    def gives_way(self) -> bool:
        """Whether the next connection is better left to another: one that accepts and has clearly fewer sessions."""

    def wait(self) -> None:
        """It is left to those who have fewer now."""

    def has_come(self) -> bool:
        """Whether one of those has done something since `wait`."""

    def nobody_came(self) -> None:
        """None of those has: do not give way to them before they have done something."""


class Limits(Struct, frozen=True):
    """Messages per second, hour and day, and first-time recipients per day; 0 for no limit."""

    second: int = 0
    hour: int = 0
    day: int = 0
    first_time: int = 0

    def __bool__(self) -> bool:
        return bool(self.second or self.hour or self.day or self.first_time)


class Limiter(Protocol):
    """What each credential has sent lately: messages, and how many of their recipients were first-time."""

    async def take(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> float:
        """0.0 when `count` messages with so many first-time recipients may go now, and all of it is counted; else,
        with nothing counted, the seconds until they may.
        """

    def give_back(self, credential: str, limits: Limits, count: int, *, first_time: int = 0) -> None:
        """Count what was taken no more: the messages were refused."""


class Recipients(Protocol):
    """Whom each credential has sent to before. Asked only for credentials with a limit of first-time recipients."""

    async def first_time(self, credential: str, recipients: Collection[str], /) -> int:
        """To how many of these addresses the credential has not sent before. Raises nothing: what cannot be found
        out is first-time.
        """

    def sent_to(self, credential: str, recipients: Collection[str], /) -> None:
        """Mail for them was accepted; the next message finds them known."""


class Guard(Protocol):
    """Who guesses at logins. address: as `Client.key` has it, an IPv4 address or an IPv6 /64. Times: POSIX seconds."""

    def locked(self, *, address: str, now: float) -> float:
        """Seconds for which logins from `address` are locked out, 0.0 when they are not."""

    def locked_pair(self, *, address: str, login: str, now: float) -> float:
        """Seconds for which `login` is locked out at `address`, 0.0 when it is not."""

    def known_at(self, *, address: str, login: str) -> float:
        """When `login` last succeeded from `address`, as far as is remembered; 0.0 for never."""

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


@dataclass(frozen=True, slots=True)
class Services:
    """All of the above, and what is asked of memory.

    snapshot: the registry's current one. last_login_from: when this login last succeeded from this IP address, within
    30 days (`Registry.last_login_from`). record_use: a login that succeeded. suppressed: why this recipient gets
    nothing from this credential, or None. literal_allowed: whether mail may go to this domain, an address literal
    with its brackets (`delivery.allow_networks`, a route). disk_ok: False when there is too little room to accept
    mail. new_id: the id of a message that is complete. incoming: a new file in the spool, for content over 64 KiB;
    may raise SpoolError. journal_rejection: a refusal after AUTH. now: POSIX seconds.
    """

    receiver: Receiver
    snapshot: Callable[[], Snapshot]
    last_login_from: Callable[[str, str], float]
    record_use: Callable[[Use], None]
    suppressed: Callable[[str, Credential], Suppression | None]
    literal_allowed: Callable[[str], bool]
    disk_ok: Callable[[], bool]
    new_id: Callable[[], str]
    incoming: Callable[[], IncomingFile]
    journal_rejection: Callable[[Event], None]
    sessions: SessionTable
    load: Load
    limiter: Limiter
    recipients: Recipients
    guard: Guard
    facts: Facts
    log: Log
    now: Callable[[], float]
