"""faults.receiver: the server that mail is delivered to. It writes down what arrives, and misbehaves when told to.

A message counts as arrived when its final dot was read, whatever is answered: that is what a real server may have kept.
`mood` is how it behaves now; it is asked at each step of each session, and a mood that ends leaves sessions that
stall: they are closed.
"""

import asyncio
import hashlib
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto

from tests.faults.ledger import Arrival, Ledger


class Step(Enum):
    """What a server is about to answer."""

    GREETING = auto()
    EHLO = auto()
    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    END = auto()


class Mood(Enum):
    ORDERLY = auto()
    CLOSES_AFTER_DOT = auto()
    ANSWERS_AND_RESETS = auto()
    STALLS = auto()
    GARBAGE = auto()
    SAYS_421 = auto()


GARBAGE = b"\xff\xfe 25x \0 what?\r\n" * 3
EXTENSIONS = (
    b"250-mx.faults.test\r\n250-PIPELINING\r\n250-SIZE 104857600\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
)
_ANSWERS = {
    Step.GREETING: b"220 mx.faults.test ESMTP\r\n",
    Step.EHLO: EXTENSIONS,
    Step.MAIL: b"250 2.1.0 Ok\r\n",
    Step.RCPT: b"250 2.1.5 Ok\r\n",
    Step.DATA: b"354 Go on\r\n",
    Step.END: b"250 2.0.0 Taken\r\n",
}
_TOKEN = re.compile(rb"^X-Token: (\S+)\r?$", re.MULTILINE | re.IGNORECASE)
_DIGEST = re.compile(rb"^X-Digest: (\S+)\r$", re.MULTILINE | re.IGNORECASE)
_FINAL = re.compile(rb"^Final-Recipient: rfc822; ?(\S+)\r$", re.MULTILINE | re.IGNORECASE)


class Ended(Exception):
    """The session is over."""


@dataclass(slots=True)
class Receiver:
    """where: the step at which a mood shows. share: of those steps; the rest is orderly. bite(): one in so many."""

    ledger: Ledger
    clock: Callable[[], float]
    roll: Callable[[], float]
    mood: Mood = Mood.ORDERLY
    where: Step = Step.END
    share: float = 1.0
    port: int = 0
    misbehaved: int = 0
    _server: asyncio.Server | None = None
    _sessions: "set[asyncio.Task[None]] | None" = None
    _changed: "asyncio.Event | None" = None

    async def open(self, port: int) -> None:
        self._sessions, self._changed = set(), asyncio.Event()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", port, limit=2**22)
        self.port = port

    async def close(self) -> None:
        if self._server is not None and self._sessions is not None:
            self._server.close()
            for task in list(self._sessions):
                task.cancel()
            await asyncio.gather(*self._sessions, return_exceptions=True)

    def become(self, mood: Mood, *, where: Step = Step.END, share: float = 1.0) -> None:
        """From now on; sessions that stall are ended."""
        assert self._changed is not None
        self.mood, self.where, self.share = mood, where, share
        self._changed.set()
        self._changed = asyncio.Event()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self._sessions is not None
        task = asyncio.get_running_loop().create_task(_Session(self, reader, writer).run())
        self._sessions.add(task)
        task.add_done_callback(self._sessions.discard)

    async def until_it_changes(self) -> None:
        assert self._changed is not None
        await self._changed.wait()

    def took(self, recipients: list[str], content: bytes, *, answered: bool) -> list[Arrival]:
        """One message, to its end. A report speaks of another message."""
        token = _TOKEN.search(content)
        if b"\r\nContent-Type: multipart/report" in content[:16384] and token is not None:
            for final in _FINAL.findall(content):
                self.ledger.reported(token[1].decode(), final.decode())
            return []
        name = token[1].decode() if token is not None else ""
        digest, body = _DIGEST.search(content), content.partition(b"\r\n\r\n")[2]
        intact = digest is not None and hashlib.sha256(body).hexdigest().encode() == digest[1]
        arrivals = [Arrival(name, recipient, self.clock(), answered, intact) for recipient in recipients]
        for arrival in arrivals:
            self.ledger.arrived(arrival)
        return arrivals


class _Session:
    def __init__(self, receiver: Receiver, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._receiver = receiver
        self._reader = reader
        self._writer = writer
        self._recipients: list[str] = []
        self._last: list[Arrival] = []  # of the message answered last, until the client says something again

    async def run(self) -> None:
        try:
            await self._answer(Step.GREETING)
            while True:
                await self._command(await self._line())
        except (Ended, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._is_gone()
            self._writer.close()
            with suppress(OSError):
                await self._writer.wait_closed()

    def _is_gone(self) -> None:
        for arrival in self._last:
            arrival.gone_after = self._receiver.clock() - arrival.at

    async def _line(self) -> bytes:
        line = await self._reader.readline()
        if not line.endswith(b"\n"):
            raise Ended
        self._last = []
        return line.rstrip(b"\r\n")

    async def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb in (b"EHLO", b"HELO"):
            await self._answer(Step.EHLO)
        elif verb == b"MAIL":
            self._recipients = []
            await self._answer(Step.MAIL)
        elif verb == b"RCPT":
            if await self._answer(Step.RCPT):
                self._recipients.append(line.partition(b"<")[2].partition(b">")[0].decode())
        elif verb == b"DATA":
            await self._data()
        elif verb == b"QUIT":
            await self._say(b"221 2.0.0 Bye\r\n")
            raise Ended
        else:
            await self._say(b"250 2.0.0 Ok\r\n")

    async def _data(self) -> None:
        if not self._recipients:
            await self._say(b"554 5.5.1 No recipients\r\n")
            return
        if not await self._answer(Step.DATA):
            return
        content = await self._content()
        recipients, self._recipients = self._recipients, []
        await self._answer_the_dot(recipients, content)

    async def _content(self) -> bytes:
        """Without the final dot, stuffed dots undone."""
        if (first := await self._reader.readexactly(3)) == b".\r\n":
            return b""
        wire = first + await self._reader.readuntil(b"\r\n.\r\n")
        return wire[:-3].replace(b"\r\n..", b"\r\n.")

    async def _answer_the_dot(self, recipients: list[str], content: bytes) -> None:
        """Written down before it is answered: a crash of ours in between would forget what the client was told."""
        mood = self._mood(Step.END)
        taken = mood in (Mood.ORDERLY, Mood.CLOSES_AFTER_DOT, Mood.ANSWERS_AND_RESETS, Mood.STALLS)
        if taken:
            self._last = self._receiver.took(recipients, content, answered=mood is Mood.ORDERLY)
        await self._act(mood, Step.END)

    async def _answer(self, step: Step) -> bool:
        """Whether it said yes."""
        return await self._act(self._mood(step), step)

    def _mood(self, step: Step) -> Mood:
        receiver = self._receiver
        if receiver.mood is Mood.ORDERLY or step is not receiver.where or receiver.roll() >= receiver.share:
            return Mood.ORDERLY
        receiver.misbehaved += 1
        return receiver.mood

    async def _act(self, mood: Mood, step: Step) -> bool:
        match mood:
            case Mood.CLOSES_AFTER_DOT:
                raise Ended
            case Mood.ANSWERS_AND_RESETS:
                await self._say(_ANSWERS[step])
                self._reset()
            case Mood.STALLS:
                await self._receiver.until_it_changes()
                raise Ended
            case Mood.GARBAGE:
                await self._say(GARBAGE)
                return False
            case Mood.SAYS_421:
                await self._say(b"421 4.3.2 Going down\r\n")
                raise Ended
            case _:
                await self._say(_ANSWERS[step])
        return True

    def _reset(self) -> None:
        connection: socket.socket = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()
        raise Ended

    async def _say(self, octets: bytes) -> None:
        self._writer.write(octets)
        await self._writer.drain()
