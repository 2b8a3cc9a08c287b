"""faults.clients: applications that submit without end, come again when cut off, and write down what they knew.

Each speaks SMTP octet by octet, so that it knows of every message how far it had come when a connection ended: before
the end of the content (then the server must not have it), after it and without an answer (then it may), or answered.
Messages are small or large, to one recipient or to fifty, by DATA or by BDAT, over TLS with a login or in the clear.
"""

import asyncio
import base64
import hashlib
import random
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto

from tests.faults.ledger import Fate, Ledger, Sent

SENDER = "app@sender.example"
SMALL, LARGE = 4 * 1024, 2 * 1024 * 1024
ONE, MANY = 1, 50
DOMAINS = ("a.faults.test", "b.faults.test")
PATIENCE = 40.0  # seconds for one reply; longer than a worker may hang until it is killed
COME_AGAIN = 0.02


class Manner(Enum):
    """How a client behaves."""

    ORDERLY = auto()
    HALF_CLOSES_AFTER_DOT = auto()
    DROPS_IN_BDAT = auto()


@dataclass(frozen=True, slots=True)
class Door:
    """Where to submit. context, login, secret: for STARTTLS and AUTH PLAIN; None: in the clear, trusted."""

    port: int
    context: ssl.SSLContext | None = None
    login: str = ""
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Mix:
    """Shares of messages that are large, to many, and by BDAT."""

    large: float = 0.05
    many: float = 0.1
    bdat: float = 0.3


@dataclass(slots=True)
class Crowd:
    """Clients of one ledger. rate: messages a second, of all together. prefix: of every token."""

    doors: Sequence[Door]
    ledger: Ledger
    random: random.Random
    clock: Callable[[], float]
    rate: float = 60.0
    mix: Mix = field(default_factory=Mix)
    manner: Manner = Manner.ORDERLY
    prefix: str = "t"
    cut_off: int = 0  # sessions that ended without a farewell
    _number: int = 0
    _next_at: float = 0.0
    _over: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def begin(self, clients: int) -> None:
        for number in range(clients):
            door = self.doors[number % len(self.doors)]
            self._tasks.append(asyncio.get_running_loop().create_task(self._come_again(door)))

    async def end(self) -> None:
        """Each finishes the message it is at, for as long as one reply may take."""
        self._over = True
        done, late = await asyncio.wait(self._tasks, timeout=PATIENCE + 5)
        for task in late:
            task.cancel()
        for task in done:
            task.result()

    async def _come_again(self, door: Door) -> None:
        while not self._over:
            session = Session(door)
            try:
                async with asyncio.timeout(PATIENCE):
                    await session.open()
                while not self._over:
                    await self._turn()
                    await self._submit(session)
            except (CutOff, OSError, ssl.SSLError, TimeoutError):
                self.cut_off += 1
            finally:
                await session.close()
            if not self._over:
                await asyncio.sleep(COME_AGAIN)

    async def _turn(self) -> None:
        """Wait until the rate allows one more."""
        now = self.clock()
        self._next_at = max(self._next_at + 1.0 / self.rate, now - 1.0)
        if self._next_at > now:
            await asyncio.sleep(self._next_at - now)

    async def _submit(self, session: "Session") -> None:
        self._number += 1
        token = f"{self.prefix}{self._number}"
        recipients = self._recipients()
        octets = LARGE if self.random.random() < self.mix.large else SMALL
        bdat = self.manner is Manner.DROPS_IN_BDAT or self.random.random() < self.mix.bdat
        attempt = Attempt(token, recipients, content_of(token, octets), bdat=bdat, manner=self.manner)
        try:
            async with asyncio.timeout(PATIENCE):
                await session.submit(attempt)
        finally:
            self.ledger.sent(attempt.sent)

    def _recipients(self) -> tuple[str, ...]:
        count = MANY if self.random.random() < self.mix.many else ONE
        return tuple(f"r{number}@{DOMAINS[(number + self._number) % len(DOMAINS)]}" for number in range(count))


def content_of(token: str, octets: int) -> bytes:
    """A message whose body is known by its digest, and of which no two are alike."""
    line = hashlib.sha256(token.encode()).hexdigest().encode()
    body = (line + b"\r\n") * (octets // (len(line) + 2))
    header = (
        f"From: Application <{SENDER}>\r\nTo: crowd:;\r\nSubject: Message {token}\r\n"
        f"X-Token: {token}\r\nX-Digest: {hashlib.sha256(body).hexdigest()}\r\n\r\n"
    )
    return header.encode() + body


def _fate_of(reply: str) -> Fate:
    """By the reply to the end of the content."""
    if reply.startswith("250"):
        return Fate.ACKNOWLEDGED
    return Fate.TROUBLED if reply.startswith("451 4.3.0") else Fate.REFUSED


class CutOff(Exception):
    """The session is over: the server closed it, or said what no client goes on after."""


@dataclass(slots=True)
class Attempt:
    """One message on its way. ended: its last octet was handed to the connection."""

    token: str
    recipients: tuple[str, ...]
    content: bytes
    bdat: bool
    manner: Manner
    fate: Fate = Fate.UNSENT
    reply: str = ""

    @property
    def sent(self) -> Sent:
        queue_id = self.reply.rpartition("queued as ")[2].strip() if self.fate is Fate.ACKNOWLEDGED else ""
        return Sent(self.token, self.recipients, self.fate, queue_id, self.reply)


class Session:
    def __init__(self, door: Door) -> None:
        self._door = door
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter | None = None

    async def open(self) -> None:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._door.port, limit=2**20)
        await self._expect(220)
        await self._ask("EHLO faults.test", 250)
        if self._door.context is not None:
            await self._ask("STARTTLS", 220)
            await self._writer.start_tls(self._door.context, server_hostname="localhost")
            await self._ask("EHLO faults.test", 250)
            plain = base64.b64encode(f"\0{self._door.login}\0{self._door.secret}".encode()).decode()
            await self._ask(f"AUTH PLAIN {plain}", 235)

    async def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            with suppress(OSError, ssl.SSLError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._writer.wait_closed()

    async def submit(self, attempt: Attempt) -> None:
        """Sets the attempt's fate. Raises CutOff, OSError."""
        commands = [f"MAIL FROM:<{SENDER}>", *(f"RCPT TO:<{each}>" for each in attempt.recipients)]
        self._write("".join(f"{each}\r\n" for each in commands).encode())
        replies = [await self._reply() for _ in commands]
        refused = next((reply for reply in replies if not reply.startswith("250")), "")
        if refused:
            attempt.fate, attempt.reply = Fate.REFUSED, refused
            await self._ask("RSET", 250)
            return
        if attempt.bdat:
            await self._send_by_bdat(attempt)
        else:
            await self._send_by_data(attempt)
        attempt.reply = await self._reply()
        attempt.fate = _fate_of(attempt.reply)
        if attempt.manner is Manner.HALF_CLOSES_AFTER_DOT:
            raise CutOff

    async def _send_by_data(self, attempt: Attempt) -> None:
        reply = await self._ask("DATA", 354, also=(451, 452))
        if not reply.startswith("354"):
            attempt.fate, attempt.reply = Fate.REFUSED, reply
            raise CutOff
        attempt.fate = Fate.UNKNOWN  # from the first octet on: what is written may arrive whole
        self._write(attempt.content + b".\r\n")
        await self._drain()
        if attempt.manner is Manner.HALF_CLOSES_AFTER_DOT:
            self._half_close()

    def _half_close(self) -> None:
        """Inside TLS there is no half: the client is gone, and hears no answer."""
        assert self._writer is not None
        if not self._writer.can_write_eof():
            raise CutOff
        self._writer.write_eof()

    async def _send_by_bdat(self, attempt: Attempt) -> None:
        half = len(attempt.content) // 2
        first, last = attempt.content[:half], attempt.content[half:]
        self._write(b"BDAT %d\r\n" % len(first) + first)
        await self._drain()
        reply = await self._reply()
        if not reply.startswith("250"):
            attempt.fate, attempt.reply = Fate.REFUSED, reply
            raise CutOff
        if attempt.manner is Manner.DROPS_IN_BDAT:
            self._write(b"BDAT %d LAST\r\n" % len(last) + last[:-1])
            await self._drain()
            raise CutOff
        attempt.fate = Fate.UNKNOWN
        self._write(b"BDAT %d LAST\r\n" % len(last) + last)
        await self._drain()

    def _write(self, octets: bytes) -> None:
        assert self._writer is not None
        self._writer.write(octets)

    async def _drain(self) -> None:
        assert self._writer is not None
        await self._writer.drain()

    async def _ask(self, command: str, code: int, *, also: Sequence[int] = ()) -> str:
        self._write(f"{command}\r\n".encode())
        return await self._expect(code, *also)

    async def _expect(self, *codes: int) -> str:
        reply = await self._reply()
        if int(reply[:3]) not in codes:
            raise CutOff(reply)
        return reply

    async def _reply(self) -> str:
        while True:
            line = await self._reader.readline()
            if not line.endswith(b"\n"):
                raise CutOff
            if line.startswith(b"421"):
                raise CutOff(line.decode())
            if line[3:4] != b"-":
                return line.decode().rstrip("\r\n")
