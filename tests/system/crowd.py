"""A queue for many domains, and the DNS that leads all of them to a sink on loopback.

Domain N of DOMAINS is `dN.crowd.test`. The first half have a mail host each, so each is a site of its own; the others
share SHARED hosts. `silent.crowd.test` has a host that takes connections and never says a word.
"""

import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

ZONE = "crowd.test"
DOMAINS = 10_000
SHARED = 50
SILENT = f"silent.{ZONE}"
SILENT_ADDRESS = "127.0.0.2"
LATER = "later"  # local parts that begin so are put off by the sink
PER_MESSAGE = 1000


def zones() -> Mapping[str, str]:
    """For `peers.dns.authoritative`."""
    mails = [f"d{number} MX 10 h{_host(number)}.mx" for number in range(DOMAINS)]
    silent = ["silent MX 10 silent.mx", f"silent.mx A {SILENT_ADDRESS}"]
    return {ZONE: "\n".join([*mails, *silent, "*.mx A 127.0.0.1"])}


def _host(number: int) -> int:
    return number if number < DOMAINS // 2 else DOMAINS + number % SHARED


def domain(number: int) -> str:
    return f"d{number % DOMAINS}.{ZONE}"


def recipients(message: int) -> Sequence[str]:
    """Of each of 500 domains two: one is taken, one is put off."""
    first = message * PER_MESSAGE // 2
    return [
        address
        for number in range(first, first + PER_MESSAGE // 2)
        for address in (f"now{message}@{domain(number)}", f"{LATER}{message}@{domain(number)}")
    ]


class Client:
    """Submits on a listener that asks for no login, in as few round trips as the protocol allows."""

    def __init__(self, port: int, *, sender: str) -> None:
        self._sender = sender
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._lines = self._socket.makefile("rb")
        self._expect(b"220")
        self._say(b"EHLO crowd.test\r\n")
        self._expect(b"250")

    def submit(self, token: int, recipients: Sequence[str]) -> None:
        """One message; its 250 has come when this returns. token: what the sink will know it by."""
        commands = [f"MAIL FROM:<{self._sender}>", *(f"RCPT TO:<{each}>" for each in recipients), "DATA"]
        self._say("\r\n".join([*commands, ""]).encode())
        for _ in commands[1:]:
            self._expect(b"250")
        self._expect(b"354")
        header = f"From: <{self._sender}>\r\nTo: crowd:;\r\nSubject: To many\r\nX-Token: {token}\r\n\r\n"
        self._say(header.encode() + b"The quick brown fox jumps over the lazy dog.\r\n" * 80 + b".\r\n")
        self._expect(b"250")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.close()
        self._socket.close()

    def _say(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def _expect(self, code: bytes) -> None:
        line = self._lines.readline()
        while line[3:4] == b"-":
            line = self._lines.readline()
        if not line.startswith(code):
            raise AssertionError(f"{code.decode()} was expected, not: {line.decode()}")


@contextmanager
def silent_host(port: int) -> Iterator[socket.socket]:
    """Connections are made by the kernel and wait for ever."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((SILENT_ADDRESS, port))
        listener.listen(1000)
        yield listener
