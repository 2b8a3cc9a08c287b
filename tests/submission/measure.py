"""What a session costs: python -m tests.submission.measure [cpu|tls|memory|large]

The server runs in a process of its own on uvloop, with a receiver that does nothing; the load comes from this one, over
loopback, in lock step (no pipelining), from so many sockets. CPU is the server's, user and system, read from /proc.
"""

import asyncio
import gc
import multiprocessing as mp
import os
import select
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import uvloop

from relay.mail.reply import Reply
from relay.reception import Submitted
from tests.peers.certificates import Authority, Issued
from tests.submission.house import House
from tests.submission.talk import LOGIN
from tests.submission.wire import running

BODY = b"".join(b"Line %04d of a message that is about as long as lines are in mail.\r\n" % n for n in range(53))
HEADER = b"".join(
    [
        b"From: Shop <a@example.com>\r\nTo: b@example.net\r\nSubject: Your order\r\n",
        b"Date: Fri, 20 Nov 2026 16:15:00 +0000\r\nMessage-ID: <1@example.com>\r\nMIME-Version: 1.0\r\n",
        b"Content-Type: text/plain; charset=utf-8\r\n\r\n",
    ]
)
MESSAGE = HEADER + BODY + b".\r\n"
ENVELOPE = (b"MAIL FROM:<a@example.com>\r\n", b"RCPT TO:<b@example.net>\r\n", b"DATA\r\n", MESSAGE)
PIPELINED = (b"".join(ENVELOPE[:3]), MESSAGE)


class Nowhere:
    """A receiver that takes everything."""

    async def receive(self, submitted: Submitted, /) -> Reply:
        if submitted.file is not None:
            submitted.file.discard()
        return Reply(250, "2.0.0", f"Ok: queued as {submitted.id}")


def serve(ready: Connection, directory: str, issued: Issued) -> None:
    async def main() -> None:
        house = House(Path(directory))
        services = {"receiver": Nowhere(), "now": time.time}
        limits = {"sessions": 20_000, "sessions_per_address": 20_000, "sessions_per_credential": 20_000}
        async with running(house, issued, services=services, limits=limits, trusted={"sessions": 10_000}) as up:
            gc.freeze()
            ready.send((up.starttls, up.tls, up.trusted))
            await asyncio.to_thread(ready.recv)

    uvloop.run(main())


@contextmanager
def server() -> Iterator[tuple[int, tuple[int, int, int], ssl.SSLContext]]:
    """(process id, ports, a client's context)."""
    with tempfile.TemporaryDirectory() as directory:
        authority = Authority(Path(directory))
        ours, theirs = mp.Pipe()
        process = mp.get_context("fork").Process(target=serve, args=(theirs, directory, authority.issue("relay.test")))
        process.start()
        assert process.pid is not None
        try:
            yield process.pid, ours.recv(), ssl.create_default_context(cafile=authority.root)
        finally:
            ours.send(None)
            process.join()


def cpu(pid: int) -> float:
    """Seconds, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory(pid: int) -> int:
    """PSS in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise OSError


def ask(client: socket.socket, octets: bytes, ends: bytes = b"\r\n") -> bytes:
    client.sendall(octets)
    answer = client.recv(65536)
    while not answer.endswith(ends):
        answer += client.recv(65536)
    return answer


class Load:
    """Lock-step clients over poll(2): each has a script, and sends the next line when the answer is complete."""

    def __init__(self, port: int, clients: int, *, script: Callable[[int], Iterator[bytes]]) -> None:
        self._port = port
        self._poll = select.poll()
        self._clients: dict[int, tuple[socket.socket, Iterator[bytes]]] = {}
        self._script = script
        for number in range(clients):
            self._connect(number)

    def _connect(self, number: int) -> None:
        client = socket.create_connection(("127.0.0.1", self._port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[client.fileno()] = (client, self._script(number))
        self._poll.register(client.fileno(), select.POLLIN)

    def run(self, answers: int) -> None:
        """Until so many answers have come."""
        while answers > 0:
            for descriptor, _ in self._poll.poll(1000):
                answers -= 1
                self._step(descriptor)

    def _step(self, descriptor: int) -> None:
        client, script = self._clients[descriptor]
        octets = client.recv(65536)
        following = next(script, None)
        if not octets or following is None:
            self._poll.unregister(descriptor)
            client.close()
            del self._clients[descriptor]
            self._connect(0)
            return
        client.sendall(following)

    def close(self) -> None:
        for client, _ in self._clients.values():
            client.close()


def many(_number: int) -> Iterator[bytes]:
    yield b"EHLO client\r\n"
    while True:
        yield from ENVELOPE


def many_pipelined(_number: int) -> Iterator[bytes]:
    yield b"EHLO client\r\n"
    while True:
        yield from PIPELINED


def one(_number: int) -> Iterator[bytes]:
    yield b"EHLO client\r\n"
    yield from ENVELOPE
    yield b"QUIT\r\n"


def measure_cpu() -> None:
    cells: list[tuple[str, Callable[[int], Iterator[bytes]], int]] = [
        ("many per session", many, 4),
        ("many per session, pipelined", many_pipelined, 2),
        ("one per connection", one, 7),
    ]
    with server() as (pid, (_, _, trusted), _):
        for name, script, answers in cells:
            for clients in (20, 100):
                load = Load(trusted, clients, script=script)
                load.run(2000)
                figures = []
                for _ in range(3):
                    messages = 8000
                    before, started = cpu(pid), time.monotonic()
                    load.run(messages * answers)
                    wall = time.monotonic() - started
                    figures.append(((cpu(pid) - before) / messages * 1e6, messages / wall))
                load.close()
                spent, rate = sorted(figures)[1]
                print(
                    f"{name:30} {clients:4} clients: {spent:6.1f} µs CPU a message, {rate:8.0f} messages/s", flush=True
                )


def measure_tls(messages: int = 1500) -> None:
    """STARTTLS, AUTH, one message, QUIT: what an application in PHP does."""
    with server() as (pid, (starttls, tls, _), trust):
        for name, port in (("STARTTLS", starttls), ("TLS", tls)):
            figures = []
            for _ in range(3):
                before = cpu(pid)
                for _ in range(messages):
                    client = log_in(port, trust, name)
                    for octets in (*ENVELOPE, b"QUIT\r\n"):
                        ask(client, octets)
                    client.close()
                figures.append((cpu(pid) - before) / messages * 1e6)
            print(f"{name}, one message per connection: {sorted(figures)[1]:.0f} µs CPU", flush=True)


def measure_memory(sessions: int = 1000) -> None:
    for name in ("clear", "STARTTLS", "TLS"):
        with server() as (pid, (starttls, tls, trusted), trust):
            port = {"clear": trusted, "STARTTLS": starttls, "TLS": tls}[name]
            clients = [log_in(port, trust, name) for _ in range(100)]
            before = memory(pid)
            clients += [log_in(port, trust, name) for _ in range(sessions)]
            print(f"idle, {name}: {(memory(pid) - before) / sessions:.1f} KiB a session", flush=True)
            for client in clients:
                client.close()


def log_in(port: int, trust: ssl.SSLContext, kind: str) -> socket.socket:
    """A session that has done all but send mail."""
    client = socket.create_connection(("127.0.0.1", port))
    if kind == "STARTTLS":
        ask(client, b"")
        ask(client, b"EHLO client\r\n", b"RCPTMAX=1000\r\n")
        ask(client, b"STARTTLS\r\n")
    if kind != "clear":
        client = trust.wrap_socket(client, server_hostname="relay.test")
    if kind != "STARTTLS":
        ask(client, b"")
    ask(client, b"EHLO client\r\n", b"RCPTMAX=1000\r\n")
    ask(client, LOGIN if kind != "clear" else b"NOOP\r\n")
    return client


def measure_large(sessions: int = 20, size: int = 25_000_000) -> None:
    """So many sessions at once, each sending one message of 25 MB."""
    body = (BODY * (size // len(BODY) + 1))[: size - 2 - len(HEADER)] + b"\r\n"
    octets = HEADER + body + b".\r\n"

    async def send(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await reader.readline()
        writer.write(b"EHLO client\r\n" + ENVELOPE[0] + ENVELOPE[1] + ENVELOPE[2])
        while not (await reader.readline()).startswith(b"354"):
            pass
        for at in range(0, len(octets), 262144):
            writer.write(octets[at : at + 262144])
            await writer.drain()
        assert (await reader.readline()).startswith(b"250 ")
        writer.close()

    async def all_at_once(port: int) -> None:
        await asyncio.gather(*(send(port) for _ in range(sessions)))

    with server() as (pid, (_, _, trusted), _):
        before, started = cpu(pid), time.monotonic()
        uvloop.run(all_at_once(trusted))
        spent, wall = cpu(pid) - before, time.monotonic() - started
        peak = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
        total = sessions * len(octets) / 1e6
        print(
            f"{sessions} x 25 MB: peak RSS {peak.split()[1]} KiB, {total / spent:.0f} MB per CPU second, {wall:.1f} s"
        )


if __name__ == "__main__":
    wanted = sys.argv[1:] or ["cpu", "tls", "memory", "large"]
    for word in wanted:
        {"cpu": measure_cpu, "memory": measure_memory, "tls": measure_tls, "large": measure_large}[word]()
