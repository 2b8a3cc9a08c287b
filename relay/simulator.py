"""simulator: a receiving mail server within Relay, for the reserved domain simulator.test (RFC 6761 6.2), on loopback.

For machines without port 25, for demonstrations and for an application's own tests: reached through an ordinary
route, it lets the true outbound code run to any end. What happens is chosen by the recipient's local part; a `+label`
is ignored.

    delivered@   taken                                   bounce@    550 5.1.1 at RCPT
    defer@       451 4.7.1 the first time, then taken    full@      552 5.2.2 at RCPT
    blocked@     550 5.7.1 at the dot: our address       slow@      taken, some seconds after the dot
    drop@        the connection closes after the dot     others     550 5.1.1, naming these

What is taken is counted and thrown away. The session is aiosmtpd's, with what it lacks for an honest EHLO: enhanced
codes, a reply to EHLO in one write, long lines. It offers no DSN: aiosmtpd would refuse its parameters.
"""

import asyncio
import re
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session

from relay.mail.reply import Reply

DOMAIN = "simulator.test"
KNOWN = ("delivered", "bounce", "defer", "full", "blocked", "slow", "drop")

_KNOWN = ", ".join(f"{mailbox}@" for mailbox in KNOWN)
_SIZE = 64 * 1024 * 1024
_LINE = 128 * 1024  # octets; aiosmtpd's own limit refuses lines that Relay sends as it received them
_COMMAND = 4096  # octets
_DEFERRED = 10_000  # messages remembered

_HAS_STATUS = re.compile(r"\d{3}[ -]\d\.\d{1,3}\.\d{1,3} ")
_STATUS = {  # what aiosmtpd says without an enhanced code (RFC 2034 4)
    "221": "2.0.0",
    "250": "2.0.0",
    "252": "2.5.0",
    "500": "5.5.2",
    "501": "5.5.4",
    "502": "5.5.1",
    "503": "5.5.1",
    "552": "5.3.4",
    "553": "5.1.3",
    "555": "5.5.4",
}

_TAKEN = Reply(250, "2.0.0", "Taken by the simulator")
_RECIPIENT_OK = Reply(250, "2.1.5", "Ok")
_REFUSED = {
    "bounce": Reply(550, "5.1.1", "The email account that you tried to reach does not exist (simulated)"),
    "full": Reply(552, "5.2.2", "Mailbox full: the recipient is over quota (simulated)"),
}


class Simulator:
    """defer: the seconds that a deferred client is told to wait. slow: seconds that slow@ takes.

    received: messages taken so far. port: 0 until started.
    """

    def __init__(self, *, defer: float = 10.0, slow: float = 5.0) -> None:
        self.port = 0
        self._mailboxes = _Mailboxes(defer=defer, slow=slow)
        self._server: asyncio.Server | None = None
        self._sessions: set[_Session] = set()

    @property
    def received(self) -> int:
        return self._mailboxes.received

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen; 0 takes a free port. Raises OSError when the port is in use."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Session(self._mailboxes, self._sessions, loop), host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end every session at once. Nothing is lost: a message not answered is still the
        client's.
        """
        if self._server is not None:
            self._server.close()
            self._server = None
        ending = [session.end() for session in self._sessions]
        await asyncio.gather(*ending)


class _Mailboxes:
    """What the local parts do: aiosmtpd's handler."""

    def __init__(self, *, defer: float, slow: float) -> None:
        self.received = 0
        self._defer = defer
        self._slow = slow
        self._deferred: OrderedDict[tuple[str, ...], None] = OrderedDict()

    async def handle_EHLO(  # noqa: N802 - aiosmtpd finds it by this name
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, _responses: Sequence[str]
    ) -> list[str]:
        session.host_name = hostname
        offers = [DOMAIN, "PIPELINING", f"SIZE {_SIZE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES"]
        return ["\r\n".join([*(f"250-{offer}" for offer in offers[:-1]), f"250 {offers[-1]}"])]

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> bytes:
        reply = self._judge(envelope, address)
        if reply.is_positive:
            envelope.rcpt_tos.append(address)
        return _line(reply)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> bytes:  # noqa: N802
        wanted = {_mailbox(address) for address in envelope.rcpt_tos}
        if "slow" in wanted:
            await asyncio.sleep(self._slow)
        if "drop" in wanted and server.transport is not None:
            server.transport.close()
        elif "blocked" in wanted:
            return _line(_blocked(session))
        else:
            self.received += 1
        return _line(_TAKEN)

    async def handle_exception(self, _error: Exception) -> str:
        return "451 4.3.0 The simulator has failed"

    def _judge(self, envelope: Envelope, address: str) -> Reply:
        if address.rpartition("@")[2].lower() != DOMAIN:
            return Reply(550, "5.7.1", f"The simulator takes mail for {DOMAIN} only")
        mailbox = _mailbox(address)
        if mailbox == "defer":
            return self._defer_once(envelope, address)
        if mailbox in KNOWN:
            return _REFUSED.get(mailbox, _RECIPIENT_OK)
        return Reply(550, "5.1.1", f"No such user; the simulator knows {_KNOWN}")

    def _defer_once(self, envelope: Envelope, address: str) -> Reply:
        """A message is known by its sender, size and recipient: that is all there is at RCPT."""
        sizes = (option for option in envelope.mail_options if option.startswith("SIZE="))
        message = (str(envelope.mail_from), address, *sizes)
        if message in self._deferred:
            del self._deferred[message]
            return _RECIPIENT_OK
        self._deferred[message] = None
        if len(self._deferred) > _DEFERRED:
            self._deferred.popitem(last=False)
        return Reply(451, "4.7.1", f"Greylisted by the simulator, try again in {self._defer:g} seconds")


class _Session(SMTP):
    """One connection: aiosmtpd's session with enhanced codes."""

    line_length_limit = _LINE

    def __init__(self, mailboxes: _Mailboxes, sessions: "set[_Session]", loop: asyncio.AbstractEventLoop) -> None:
        self.command_size_limits = defaultdict(lambda: _COMMAND)  # aiosmtpd's own is shared by all sessions
        self._sessions = sessions
        self._ended = loop.create_future()
        ident = "Relay's simulator"
        super().__init__(
            mailboxes, data_size_limit=_SIZE, enable_SMTPUTF8=True, hostname=DOMAIN, ident=ident, loop=loop
        )

    def end(self) -> asyncio.Future[None]:
        """Close at once; done when it is."""
        if isinstance(self.transport, asyncio.WriteTransport):
            self.transport.abort()
        return self._ended

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._sessions.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._sessions.discard(self)
        super().connection_lost(error)
        self._ended.set_result(None)

    async def push(self, status: Any) -> None:
        if self.transport is None or self.transport.is_closing():
            return  # drop@: no answer
        await super().push(self._with_status(status) if isinstance(status, str) else status)

    def _with_status(self, line: str) -> str:
        status = _STATUS.get(line[:3])
        extended = self.session is not None and self.session.extended_smtp
        if status is None or line[3:4] == "-" or not extended or _HAS_STATUS.match(line):
            return line
        return f"{line[:4]}{status} {line[4:]}"


def _mailbox(address: str) -> str:
    return address.rpartition("@")[0].partition("+")[0].lower()


def _line(reply: Reply) -> bytes:
    return reply.wire().removesuffix(b"\r\n")


def _blocked(session: Session) -> Reply:
    host = session.peer[0] if session.peer else "unknown"
    return Reply(550, "5.7.1", f"Service unavailable; client host [{host}] blocked using zen.spamhaus.org (simulated)")
