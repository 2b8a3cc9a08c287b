"""A client that speaks octets, and a server on sockets of its own."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from relay.config.models import Config
from relay.submission.server import SubmissionServer
from tests.peers.certificates import Issued
from tests.submission.house import House
from tests.submission.talk import LOGIN, MESSAGE

WITHIN = 5.0
ENVELOPE = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\n"


@dataclass
class Opened:
    """Listening sockets on ports the system chose."""

    starttls: list[socket.socket] = field(default_factory=list)
    tls: list[socket.socket] = field(default_factory=list)
    trusted: list[socket.socket] = field(default_factory=list)


def listen(host: str = "127.0.0.1") -> socket.socket:
    opened = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    opened.bind((host, 0))
    opened.listen(128)
    opened.setblocking(False)
    return opened


def name_of(opened: socket.socket) -> str:
    host, port = opened.getsockname()[:2]
    return f"{host}:{port}"


@dataclass
class Running:
    """A server that runs: `starttls`, `tls` and `trusted` are its ports."""

    server: SubmissionServer
    house: House
    clock: "Monotonic"
    starttls: int
    tls: int
    trusted: int
    config: Config


class Monotonic:
    """The server's clock."""

    def __init__(self) -> None:
        self.time = 1000.0

    def __call__(self) -> float:
        return self.time


def config_for(
    opened: Opened, issued: Issued, submission: dict[str, Any], additional: tuple[Issued, ...] = ()
) -> Config:
    table = {
        "starttls": [name_of(each) for each in opened.starttls],
        "tls": [name_of(each) for each in opened.tls],
        "trusted": [
            {"listen": name_of(each), "networks": ["127.0.0.0/8"], "credential": "shop"} for each in opened.trusted
        ],
    }
    return Config.model_validate(
        {
            "server": {"hostname": "relay.test"},
            "submission": table | submission,
            "tls": {
                "certificate": issued.certificate,
                "key": issued.key,
                "additional": [{"certificate": each.certificate, "key": each.key} for each in additional],
            },
        }
    )


@asynccontextmanager
async def running(
    house: House,
    issued: Issued,
    *,
    services: dict[str, Any] | None = None,
    additional: tuple[Issued, ...] = (),
    trusted: dict[str, Any] | None = None,
    **submission: Any,
) -> AsyncIterator[Running]:
    """A server with one listener of each kind; drained at the end."""
    opened = Opened([listen()], [listen()], [listen()])
    if trusted is not None:
        table = {"listen": name_of(opened.trusted[0]), "networks": ["127.0.0.0/8"], "credential": "shop"}
        submission["trusted"] = [table | trusted]
    config = config_for(opened, issued, submission, additional)
    clock = Monotonic()
    async with asyncio.TaskGroup() as tasks:
        server = SubmissionServer(config, house.services(**(services or {})), tasks=tasks, clock=clock)
        await server.start(opened)
        ports = [each[0].getsockname()[1] for each in (opened.starttls, opened.tls, opened.trusted)]
        try:
            yield Running(server, house, clock, ports[0], ports[1], ports[2], config)
        finally:
            house.inbox.gate.set()
            await server.drain(seconds=1.0)
            for each in (*opened.starttls, *opened.tls, *opened.trusted):
                each.close()


class Wire:
    """One connection of a client."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(
        cls, port: int, *, context: ssl.SSLContext | None = None, name: str = "relay.test", **more: Any
    ) -> "Wire":
        """context: for TLS from the first octet."""
        async with asyncio.timeout(WITHIN):
            server_hostname = name if context is not None else None
            return cls(
                *await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=server_hostname, **more)
            )

    async def reply(self) -> str:
        """One whole reply, its lines joined by LF."""
        lines: list[str] = []
        async with asyncio.timeout(WITHIN):
            while True:
                line = (await self.reader.readline()).decode()
                if not line.endswith("\r\n"):
                    raise EOFError(f"closed after {[*lines, line]}")
                lines.append(line[:-2])
                if line[3:4] == " ":
                    return "\n".join(lines)

    async def replies(self, count: int) -> list[str]:
        """The code and enhanced code of each."""
        return [_code(await self.reply()) for _ in range(count)]

    async def say(self, octets: bytes, replies: int = 1) -> list[str]:
        self.writer.write(octets)
        return await self.replies(replies)

    async def ask(self, octets: bytes) -> str:
        self.writer.write(octets)
        return await self.reply()

    async def starttls(self, context: ssl.SSLContext, name: str = "relay.test") -> None:
        async with asyncio.timeout(WITHIN):
            await self.writer.start_tls(context, server_hostname=name)

    async def rest(self) -> bytes:
        """What still comes until the server closes."""
        async with asyncio.timeout(WITHIN):
            try:
                return await self.reader.read(-1)
            except ConnectionError:
                return b""

    async def close(self) -> None:
        self.writer.close()
        async with asyncio.timeout(WITHIN):
            try:
                await self.writer.wait_closed()
            except (OSError, ssl.SSLError):
                return

    def reset(self) -> None:
        """End the connection with a RST, as a machine that is gone does."""
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def login(self) -> None:
        """EHLO, AUTH, inside TLS."""
        assert await self.say(b"EHLO client\r\n" + LOGIN, 2) == ["250", "235 2.7.0"]

    async def send(self, content: bytes = MESSAGE, *, to: bytes = b"b@example.net") -> str:
        """One message; its final reply."""
        envelope = ENVELOPE.replace(b"b@example.net", to)
        assert await self.say(envelope + b"DATA\r\n", 3) == ["250 2.1.0", "250 2.1.5", "354"]
        return await self.ask(content + b".\r\n")


def _code(reply: str) -> str:
    last = reply.rsplit("\n", maxsplit=1)[-1]
    words = last.split(" ")
    return " ".join(words[:2]) if len(words) > 1 and words[1][:2] in ("2.", "4.", "5.") else words[0]


async def until(condition: Callable[[], bool]) -> None:
    """A deadline instead of a fixed sleep."""
    async with asyncio.timeout(WITHIN):
        while not condition():  # noqa: ASYNC110 - what is waited for is inside the server, and gives no event
            await asyncio.sleep(0.005)
