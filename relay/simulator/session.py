"""simulator.session: the server's side of one SMTP session (RFC 5321), for all simulated receivers.

What the client says is parsed as strictly as Relay's own clients are; who receives says what is answered to a session,
to MAIL, to RCPT and to the content, and how long that takes. Commands may be pipelined (RFC 2920). A reply of 421 ends
the session (RFC 5321 3.8). The content is counted and thrown away. It works on any transport.

Octets are looked at `latency` seconds after they have come, in order: so long a reply would be on its way.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol, cast

from relay.mail.esmtp import MailCommand, SyntaxRefused, parse_mail, parse_rcpt
from relay.mail.reply import Reply

SIZE = 64 * 1024 * 1024
RECIPIENTS = 1000
_LINE = 4096  # octets of a command
_END = b"\r\n.\r\n"
_CLOSING = 421  # RFC 5321 4.2.3

_OK = Reply(250, "2.0.0", "Ok")
_GO_ON = Reply(354, "", "Go on, to the end: <CRLF>.<CRLF>")
_BYE = Reply(221, "2.0.0", "Bye")
_CANNOT_VERIFY = Reply(252, "2.5.0", "Send some mail, and I shall try")
_TOO_LARGE = Reply(552, "5.3.4", f"A message may have {SIZE} octets here")
_TOO_MANY = Reply(452, "4.5.3", f"A message may have {RECIPIENTS} recipients here")
_TOO_LONG = Reply(500, "5.5.2", "The line is too long")
_NO_MAIL = Reply(503, "5.5.1", "MAIL comes first")
_NO_RECIPIENT = Reply(554, "5.5.1", "No recipient was taken")
_NESTED = Reply(503, "5.5.1", "There is a transaction already")
_NO_TLS = Reply(503, "5.5.1", "There is no TLS here, or it has begun already")
_BEGIN_TLS = Reply(220, "2.0.0", "Begin TLS")
_NO_HELLO = Reply(503, "5.5.1", "EHLO comes first")


@dataclass(slots=True)
class Visit:
    """One session and the transaction in it. address: the client's. is_given: it was greeted. messages: that came to
    their end. mail: None while there is no transaction.
    """

    address: str
    is_given: bool = False
    hello: str = ""
    messages: int = 0
    mail: MailCommand | None = None
    recipients: list[str] = field(default_factory=list)

    def reset(self) -> None:
        self.mail = None
        self.recipients = []


class Receiver(Protocol):
    """Who receives. latency: seconds that each reply is on its way."""

    @property
    def name(self) -> str:
        """The host's."""

    @property
    def latency(self) -> float: ...

    def begin(self, visit: Visit) -> Reply:
        """The greeting; one that is not positive ends the session."""

    def end(self, visit: Visit) -> None:
        """Of the session, however it came about."""

    def sender(self, visit: Visit, mail: MailCommand) -> Reply:
        """To MAIL."""

    def recipient(self, visit: Visit, address: str) -> Reply:
        """To RCPT."""

    def seconds(self, visit: Visit) -> float:
        """Until the content is answered."""

    def content(self, visit: Visit) -> Reply | None:
        """To the end of the content; None: the session ends without a word."""


class Session(asyncio.Protocol):
    """One connection. `ended` is done when it is closed. context: for STARTTLS, which is offered where there is one."""

    def __init__(
        self, receiver: Receiver, loop: asyncio.AbstractEventLoop, *, context: ssl.SSLContext | None = None
    ) -> None:
        self.ended: asyncio.Future[None] = loop.create_future()
        self._receiver = receiver
        self._loop = loop
        self._context = context
        self._securing: asyncio.Task[None] | None = None
        self._visit = Visit("")
        self._transport: asyncio.Transport | None = None
        self._coming: deque[bytes] = deque()
        self._buffer = b""
        self._content: _Content | None = None
        self._is_busy = False  # the content is weighed, or TLS begun
        self._is_over = False
        self._smtp_commands = {
            b"EHLO": self._ehlo,
            b"STARTTLS": self._starttls,
            b"HELO": self._helo,
            b"MAIL": self._mail,
            b"RCPT": self._rcpt,
            b"DATA": self._data,
            b"RSET": self._rset,
            b"NOOP": lambda _: self._say(_OK),
            b"VRFY": lambda _: self._say(_CANNOT_VERIFY),
            b"QUIT": self._quit,
        }

    def abort(self) -> None:
        """Close at once; `ended` tells when it is."""
        if self._transport is not None:
            self._transport.abort()

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        peer = transport.get_extra_info("peername")
        self._visit.address = peer[0] if peer else ""
        self._later(self._receiver.latency, self._greet)

    def data_received(self, data: bytes) -> None:
        self._coming.append(data)
        self._later(self._receiver.latency, self._look)

    def connection_lost(self, _error: Exception | None) -> None:
        self._is_over = True
        self._receiver.end(self._visit)
        self.ended.set_result(None)

    def _later(self, seconds: float, work: Callable[[], None]) -> None:
        if seconds > 0:
            self._loop.call_later(seconds, work)
        else:
            work()

    # Reading.

    def _greet(self) -> None:
        reply = self._receiver.begin(self._visit)
        self._visit.is_given = reply.is_positive
        self._say(reply)
        if not reply.is_positive:
            self._close()

    def _look(self) -> None:
        """At what came first of what was not looked at: timers of one moment may go off in any order."""
        if self._coming:
            self._buffer += self._coming.popleft()
            self._read()

    def _read(self) -> None:
        while self._buffer and not (self._is_busy or self._is_over):
            if self._content is not None:
                self._buffer = self._content.read(self._buffer)
                if self._content.is_whole:
                    self._await_answer()
                continue
            line, end, rest = self._buffer.partition(b"\n")
            if not end and len(line) <= _LINE:
                return
            self._buffer = rest
            self._command(line.removesuffix(b"\r"))

    def _command(self, line: bytes) -> None:
        if len(line) > _LINE:
            self._say(_TOO_LONG)
            return
        verb, _, argument = line.partition(b" ")
        command = self._smtp_commands.get(verb.upper())
        if command is None:
            said = verb[:60].decode("ascii", "backslashreplace")
            self._say(Reply(500, "5.5.2", f'"{said}" is no command here'))
        else:
            command(argument)

    def _say(self, reply: Reply) -> None:
        if self._is_over or self._transport is None:
            return
        self._transport.write(reply.wire())
        if reply.code == _CLOSING:
            self._close()

    def _close(self) -> None:
        """What was said is still sent."""
        self._is_over = True
        if self._transport is not None:
            self._transport.close()

    # Commands.

    def _ehlo(self, argument: bytes) -> None:
        starttls = () if self._context is None else ("STARTTLS",)
        self._hello(argument, Reply(250, "", "\n".join([self._receiver.name, *starttls, *_OFFERS])))

    def _helo(self, argument: bytes) -> None:
        self._hello(argument, Reply(250, "", self._receiver.name))

    def _hello(self, argument: bytes, reply: Reply) -> None:
        self._visit.hello = argument.decode("ascii", "backslashreplace").strip() or "unknown"
        self._visit.reset()
        self._say(reply)

    def _starttls(self, _argument: bytes) -> None:
        """RFC 3207. Once; what was said in clear text, and what came with the command, counts no more."""
        if self._context is None or self._transport is None:
            self._say(_NO_TLS)
            return
        self._visit.reset()
        self._coming.clear()
        self._visit.hello, self._buffer, self._is_busy = "", b"", True
        self._transport.pause_reading()  # the first octets of TLS are not ours
        self._say(_BEGIN_TLS)
        self._securing = self._loop.create_task(self._secure(self._transport, self._context))
        self._context = None

    async def _secure(self, clear: asyncio.Transport, context: ssl.SSLContext) -> None:
        try:
            secure = await self._loop.start_tls(clear, self, context, server_side=True)
        except OSError:  # the client's certificate check, or its end
            clear.abort()
            return
        self._transport, self._is_busy = secure, False
        self._read()  # what has come meanwhile

    def _mail(self, argument: bytes) -> None:
        if not self._visit.hello or self._visit.mail is not None:
            self._say(_NESTED if self._visit.hello else _NO_HELLO)
            return
        try:
            mail = parse_mail(_after(b"FROM:", argument))
        except SyntaxRefused as refused:
            self._say(refused.reply)
            return
        reply = _TOO_LARGE if (mail.size or 0) > SIZE else self._receiver.sender(self._visit, mail)
        if reply.is_positive:
            self._visit.mail = mail
        self._say(reply)

    def _rcpt(self, argument: bytes) -> None:
        visit = self._visit
        if visit.mail is None:
            self._say(_NO_MAIL)
            return
        if len(visit.recipients) >= RECIPIENTS:
            self._say(_TOO_MANY)
            return
        try:
            address = parse_rcpt(_after(b"TO:", argument), smtputf8=visit.mail.smtputf8).address
        except SyntaxRefused as refused:
            self._say(refused.reply)
            return
        reply = self._receiver.recipient(visit, address)
        if reply.is_positive:
            visit.recipients.append(address)
        self._say(reply)

    def _data(self, _argument: bytes) -> None:
        if self._visit.mail is None or not self._visit.recipients:
            self._say(_NO_MAIL if self._visit.mail is None else _NO_RECIPIENT)
            return
        self._content = _Content()
        self._say(_GO_ON)

    def _await_answer(self) -> None:
        self._is_busy = True
        self._later(self._receiver.seconds(self._visit), self._answer)

    def _answer(self) -> None:
        content, self._content, self._is_busy = self._content, None, False
        if self._is_over or content is None:
            return
        self._visit.messages += 1
        reply = _TOO_LARGE if content.octets > SIZE else self._receiver.content(self._visit)
        self._visit.reset()
        if reply is None:
            self._close()
            return
        self._say(reply)
        self._read()

    def _rset(self, _argument: bytes) -> None:
        self._visit.reset()
        self._say(_OK)

    def _quit(self, _argument: bytes) -> None:
        self._say(_BYE)
        self._close()


class _Content:
    """octets: so many have come."""

    __slots__ = ("_held", "is_whole", "octets")

    def __init__(self) -> None:
        self.octets = 0
        self.is_whole = False
        self._held = b"\r\n"  # a dot alone at once is the end

    def read(self, data: bytes) -> bytes:
        """What lies beyond the end."""
        octets = self._held + data
        self.octets += len(data)
        end = octets.find(_END)
        if end < 0:
            self._held = octets[-4:]
            return b""
        self.is_whole = True
        return octets[end + len(_END) :]


_OFFERS = ("PIPELINING", f"SIZE {SIZE}", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")


def _after(word: bytes, argument: bytes) -> bytes:
    """What follows "FROM:" or "TO:". Raises SyntaxRefused."""
    if argument[: len(word)].upper() != word:
        raise SyntaxRefused(Reply(501, "5.5.4", f"Write {word.decode()}<address>"))
    return argument[len(word) :]
