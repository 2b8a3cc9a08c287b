"""peers.mx: a mail server for tests that speaks octets and does exactly what it is told.

`ScriptedMx(script)` runs an async function per connection, which says, hears, stalls or drops as it likes:

    async def script(peer: Peer) -> None:
        await peer.say(b"220 mx.test ESMTP\\r\\n")
        assert await peer.line() == b"EHLO relay.test"

`Mx` is the script most tests want: an orderly server that keeps every message, and whose answer to any command can be
replaced by other octets or by an act (`Act.STALL`, `Act.DROP`, `Act.CLOSE`), once or always.

    mx = Mx({"RCPT": [b"250 ok\\r\\n", b"550 5.1.1 nobody\\r\\n"], "END": Act.DROP})
    async with ScriptedMx(mx) as server: ... server.port ... mx.messages
"""

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import TracebackType
from typing import Self

NO_RECIPIENTS = b"554 5.5.1 No recipients\r\n"
PATIENCE = 20.0  # seconds until a test that waits for nothing fails


class Act(Enum):
    """What a server can do instead of answering."""

    STALL = "say nothing until the client leaves"
    DROP = "reset the connection"
    CLOSE = "close the connection"
    NOTHING = "go on without a word"


Answer = bytes | Act


class Ended(Exception):
    """The script is over: the client left, or the server did as told."""


class Peer:
    """One connection, seen from the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._in_handshake = False

    async def say(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def line(self) -> bytes:
        """A command without its CRLF."""
        line = await self.reader.readline()
        if not line.endswith(b"\r\n"):
            raise Ended
        return line[:-2]

    async def content(self) -> bytes:
        """What comes after DATA, up to and with the final dot, as it was on the wire."""
        octets = bytearray(b"\r\n")
        while not octets.endswith(b"\r\n.\r\n"):
            block = await self.reader.read(2**18)
            if not block:
                raise Ended
            octets += block
        return bytes(octets[2:])

    async def starttls(self, context: ssl.SSLContext) -> None:
        self._in_handshake = True
        try:
            await self.writer.start_tls(context)
        except (ssl.SSLError, OSError) as error:
            raise Ended from error
        self._in_handshake = False

    async def close(self) -> None:
        if self._in_handshake:  # asyncio never says that a writer whose handshake failed is closed
            self.writer.transport.abort()
            return
        self.writer.close()
        with contextlib.suppress(OSError, ssl.SSLError):
            await self.writer.wait_closed()

    async def stall(self) -> None:
        """Until the client leaves."""
        while await self.reader.read(65536):
            pass
        raise Ended

    def drop(self) -> None:
        connection: socket.socket = self.writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # RST instead of FIN
        self.writer.transport.abort()
        raise Ended

    async def act(self, answer: Answer) -> None:
        match answer:
            case bytes():
                await self.say(answer)
            case Act.STALL:
                await self.stall()
            case Act.DROP:
                self.drop()
            case Act.CLOSE:
                raise Ended


Script = Callable[[Peer], Awaitable[None]]


class ScriptedMx:
    """`async with ScriptedMx(script) as mx:` listens on `mx.port`. `connections` counts those that came."""

    def __init__(
        self, script: Script, *, context: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self.host = host
        self.port = port
        self.connections = 0
        self._script = script
        self._context = context
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, self.host, self.port, ssl=self._context, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._failures and error is None:
            raise self._failures[0]

    def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.get_running_loop().create_task(self._run(Peer(reader, writer)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, peer: Peer) -> None:
        try:
            await self._script(peer)
        except (Ended, ConnectionError, ssl.SSLError):
            pass
        except Exception as error:  # noqa: BLE001 - raised where the test ends
            self._failures.append(error)
        finally:
            await peer.close()


@dataclass
class Message:
    """One message taken. wire: with stuffed dots and the final one, but for a chunk. content: as it was before
    stuffing.
    """

    mail: bytes
    recipients: list[bytes]
    wire: bytes
    is_chunk: bool = False

    @property
    def content(self) -> bytes:
        if self.is_chunk:
            return self.wire
        lines = self.wire.removesuffix(b".\r\n").split(b"\r\n")
        return b"\r\n".join(line.removeprefix(b".") for line in lines)


@dataclass
class Session:
    """One connection: every command line, and the messages."""

    commands: list[bytes] = field(default_factory=list)
    secure: bool = False

    @property
    def verbs(self) -> list[str]:
        return [command.split(b" ")[0].split(b":")[0].upper().decode() for command in self.commands]


Answers = Answer | Sequence[Answer]
EXTENSIONS = ("PIPELINING", "SIZE 52428800", "8BITMIME", "ENHANCEDSTATUSCODES", "DSN", "SMTPUTF8")


class Mx:
    """An orderly server. Answers by verb, END for the final dot or the last chunk; a list is used up in order, then the
    default.

    extensions: EHLO lines after the first. context: for STARTTLS, which is offered when there is one.
    """

    def __init__(
        self,
        answers: Mapping[str, Answers] | None = None,
        *,
        extensions: Sequence[str] = EXTENSIONS,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.extensions = list(extensions)
        self.context = context
        self.sessions: list[Session] = []
        self.messages: list[Message] = []
        self.arrived = asyncio.Event()
        self._answers: dict[str, list[Answer] | Answer] = {
            verb: list(answer) if isinstance(answer, (list, tuple)) else answer  # type: ignore[misc]
            for verb, answer in (answers or {}).items()
        }

    def be_orderly(self, verb: str) -> None:
        """From now on the default answers it."""
        self._answers.pop(verb, None)

    def answer(self, verb: str, answers: "Answers") -> None:
        """From now on this does, or these in order."""
        self._answers[verb] = list(answers) if isinstance(answers, (list, tuple)) else answers  # type: ignore[assignment]

    async def __call__(self, peer: Peer) -> None:
        session = Session()
        self.sessions.append(session)
        await self._answer(peer, "GREETING", b"220 mx.test ESMTP\r\n")
        mail, recipients = b"", list[bytes]()
        while True:
            line = await peer.line()
            session.commands.append(line)
            match session.verbs[-1]:
                case "EHLO":
                    await self._answer(peer, "EHLO", self._offer(session))
                case "STARTTLS":
                    await self._starttls(peer, session)
                case "MAIL":
                    mail, recipients = line, []
                    await self._answer(peer, "MAIL", b"250 2.1.0 Ok\r\n")
                case "RCPT":
                    if await self._answer(peer, "RCPT", b"250 2.1.5 Ok\r\n") < 300:
                        recipients.append(line)
                case "DATA" | "BDAT":
                    await self._content(peer, line, mail, recipients)
                case "QUIT":
                    await self._answer(peer, "QUIT", b"221 2.0.0 Bye\r\n")
                    return
                case verb:
                    await self._answer(peer, verb, b"250 2.0.0 Ok\r\n")

    async def _content(self, peer: Peer, command: bytes, mail: bytes, recipients: list[bytes]) -> None:
        if command.startswith(b"BDAT "):
            octets = await peer.reader.readexactly(int(command.split()[1]))
            await self._end(peer, Message(mail, recipients, octets, is_chunk=True))
        elif await self._answer(peer, "DATA", b"354 Go on\r\n" if recipients else NO_RECIPIENTS) == 354:
            await self._take(peer, mail, recipients)

    async def _take(self, peer: Peer, mail: bytes, recipients: list[bytes]) -> None:
        await self._end(peer, Message(mail, recipients, await peer.content()))

    async def _end(self, peer: Peer, message: Message) -> None:
        if await self._answer(peer, "END", b"250 2.0.0 Queued\r\n" if message.recipients else NO_RECIPIENTS) < 300:
            self.messages.append(message)
            self.arrived.set()

    async def _starttls(self, peer: Peer, session: Session) -> None:
        if await self._answer(peer, "STARTTLS", b"220 2.0.0 Go ahead\r\n") == 220 and self.context is not None:
            await peer.starttls(self.context)
            session.secure = True

    def _offer(self, session: Session) -> bytes:
        lines = ["mx.test", *self.extensions]
        if self.context is not None and not session.secure:
            lines.append("STARTTLS")
        return "".join(f"250-{line}\r\n" for line in lines[:-1]).encode() + f"250 {lines[-1]}\r\n".encode()

    async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
        """Answer and return the code, 0 for what has none."""
        answer = self._answers.get(verb, default)
        if isinstance(answer, list):
            answer = answer.pop(0) if answer else default
        await peer.act(answer)
        return int(answer[:3]) if isinstance(answer, bytes) and answer[:3].isdigit() else 0


class UnawareMx(Mx):
    """Offers CHUNKING and knows no BDAT, as behind a filter that lets the offer through: it takes a chunk for commands,
    or has it `swallowed`.
    """

    def __init__(
        self, refusal: bytes, *, swallowed: bool = False, answers: Mapping[str, Answers] | None = None
    ) -> None:
        super().__init__({"BDAT": refusal, **(answers or {})}, extensions=(*EXTENSIONS, "CHUNKING"))
        self._swallowed = swallowed

    async def _content(self, peer: Peer, command: bytes, mail: bytes, recipients: list[bytes]) -> None:
        if not command.startswith(b"BDAT "):
            await super()._content(peer, command, mail, recipients)
            return
        if self._swallowed:
            await peer.reader.readexactly(int(command.split()[1]))
        await self._answer(peer, "BDAT", b"")

    async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
        is_known = verb in ("GREETING", "EHLO", "MAIL", "RCPT", "DATA", "BDAT", "END", "RSET", "QUIT")
        return await super()._answer(peer, verb, default if is_known else b"500 5.5.2 What?\r\n")


class HesitantMx(Mx):
    """Answers to a final dot only when told."""

    def __init__(self, answers: Mapping[str, Answers] | None = None) -> None:
        super().__init__(answers)
        self.asked, self.may_answer = asyncio.Event(), asyncio.Event()

    async def _answer(self, peer: Peer, verb: str, default: bytes) -> int:
        if verb == "END":
            self.asked.set()
            await self.may_answer.wait()
        return await super()._answer(peer, verb, default)


async def until(condition: Callable[[], bool], *, what: str) -> None:
    """Wait until `condition` holds; fail the test when it does not come to."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - the condition is anything a test can see
            await asyncio.sleep(0.001)
    assert condition(), what
