"""bench.fairness.machine: a Relay with four workers and a queue that it finds when it starts; sinks take its mail.

A site is an address on loopback: mail goes to `x@[127.0.0.1]`, so no DNS is in the way. Queues are written by Relay's
own spool before it starts: each message is one of its own, of some credential, and carries its number.
"""

import asyncio
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from relay.mail.envelope import Envelope, Recipient
from relay.server.directory import prepare
from relay.spool import Content, NewMessage
from relay.spool.spool import Spool
from tests.bench import processes
from tests.bench.programs import Sink, sink
from tests.bench.relay_server import Ports, add_credential, command, configure, start
from tests.bench.server import DOMAIN, stop
from tests.peers.ports import Reserved
from tests.peers.waiting import eventually
from tests.system import crowd

WORKERS = 4
HERE, THERE = "127.0.0.1", "127.0.0.2"
AT_ONCE = 1000  # messages that are accepted together while a queue is written
BODY = b"The quick brown fox jumps over the lazy dog.\r\n" * 10
DAYS = 5 * 86400.0
BULK, TRANSACTIONAL = "bulk", "transactional"

DELIVERY = """
[delivery]
port = {port}
allow_networks = ["127.0.0.0/8"]
"""


@dataclass(frozen=True, slots=True)
class Mail:
    """Messages with the numbers from first on, of one credential in one worker's queue. to: addresses, in turn."""

    worker: int
    first: int
    count: int
    credential: str = "news"
    stream: str = BULK
    to: Sequence[str] = (HERE,)

    @property
    def numbers(self) -> range:
        return range(self.first, self.first + self.count)


def spread(count: int, *, shares: Sequence[float]) -> list[Mail]:
    """So many over the workers, by their shares."""
    mail, first = list[Mail](), 0
    for worker, share in enumerate(shares):
        mail.append(Mail(worker, first, round(count * share / sum(shares))))
        first += mail[-1].count
    return mail


def fill(directory: Path, queue: Sequence[Mail]) -> None:
    """In the order given."""
    prepare(directory)
    by_worker: dict[int, list[Mail]] = {}
    for mail in queue:
        by_worker.setdefault(mail.worker, []).append(mail)
    with ProcessPoolExecutor(2) as pool:
        for each in [pool.submit(_fill, directory, worker, mail) for worker, mail in by_worker.items()]:
            each.result()


def _fill(directory: Path, worker: int, queue: Sequence[Mail]) -> None:
    asyncio.run(_accept_all(directory, worker, queue))


async def _accept_all(directory: Path, worker: int, queue: Sequence[Mail]) -> None:
    spool = await Spool.open(directory, shard=worker)
    try:
        for mail in queue:
            for start_at in range(0, mail.count, AT_ONCE):
                numbers = mail.numbers[start_at : start_at + AT_ONCE]
                await asyncio.gather(*(spool.accept(_message(spool, mail, each), hand_over=False) for each in numbers))
    finally:
        await spool.close()


def _message(spool: Spool, mail: Mail, number: int) -> NewMessage:
    sender, now = f"{mail.credential}@{DOMAIN}", time.time()
    head = f"From: <{sender}>\r\nTo: crowd:;\r\nSubject: To many\r\nX-Token: {number}\r\n\r\n".encode()
    content = Content(head, BODY)
    return NewMessage(
        id=spool.next_id(),
        accepted_at=now,
        expires_at=now + DAYS,
        credential=mail.credential,
        stream=mail.stream,
        sender_domain=DOMAIN,
        envelope=Envelope(sender, (Recipient(f"x{number}@[{mail.to[number % len(mail.to)]}]"),)),
        content=content,
        size=content.size,
        header_from=sender,
    )


class Running:
    """A Relay that runs. began: when it was started."""

    def __init__(self, config: Path, ports: Ports) -> None:
        self._config = config
        self._ports = ports
        self.began = time.monotonic()
        self._process: subprocess.Popen[bytes] = start(config, ports=ports)

    @property
    def workers(self) -> list[int]:
        return processes.tree(self._process.pid)[1:]

    @property
    def largest(self) -> float:
        """RSS of the largest worker in megabytes."""
        return max(map(processes.rss, self.workers))

    def kill_a_worker(self) -> None:
        os.kill(self.workers[0], signal.SIGKILL)

    def reload(self) -> None:
        self._process.send_signal(signal.SIGHUP)

    def command(self, *words: str) -> object:
        return command(self._config, *words)

    def submit(self, number: int, *, to: str = HERE) -> float:
        """In a session of its own; when it was accepted."""
        with crowd.Client(self._ports.trusted, sender=f"app@{DOMAIN}") as client:
            client.submit(number, [f"x@[{to}]"])
            return time.monotonic()

    def stop(self) -> None:
        stop(self._process)


@contextmanager
def relay(directory: Path, queue: Sequence[Mail], *, port: int, tables: str = "") -> Iterator[Running]:
    """port: of all its sites. tables: of relay.toml besides."""
    directory.mkdir()
    with ExitStack() as stack:
        ports = Ports(*(stack.enter_context(Reserved()).port for _ in range(4)))
        config = configure(directory, ports=ports, more=DELIVERY.format(port=port) + tables, workers=WORKERS)
        fill(directory / "spool", queue)
        command(config, "domain", "add", DOMAIN)
        add_credential(config)
        running = Running(config, ports)
        stack.callback(running.stop)
        yield running


@contextmanager
def taking(
    directory: Path, *, address: str = HERE, port: int, takes: float = 0.0, refuses: bool = False
) -> Iterator[Sink]:
    directory.mkdir()
    with sink(directory, port=port, address=address, takes=takes, refuses=refuses) as running:
        yield running


@dataclass
class Submitting:
    """Sends one message after the other, each numbered, at a rate; `accepted` has when each was."""

    running: Running
    first: int
    per_second: float
    to: str = HERE
    accepted: dict[int, float] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._send)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        assert self._thread is not None
        self._thread.join()

    def _send(self) -> None:
        began = time.monotonic()
        while not self._over.is_set():
            number = self.first + len(self.accepted)
            self.accepted[number] = self.running.submit(number, to=self.to)
            due = began + len(self.accepted) / self.per_second
            self._over.wait(max(0.0, due - time.monotonic()))

    def latencies(self, sink: Sink, *, since: float = 0.0, within: float = 60.0) -> list[float]:
        """Seconds from the 250 to the last octet at the sink, of each accepted since then; sorted."""
        numbers = [number for number, at in self.accepted.items() if at >= since]
        eventually(lambda: all(map(sink.came, numbers)), what="all that was sent has come", within=within)
        return sorted(max(0.0, sink.came_at(number) - self.accepted[number]) for number in numbers)


def percentile(values: Sequence[float], percent: float) -> float:
    """values: sorted."""
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def most_within(moments: Sequence[float], seconds: float) -> int:
    """The most in any so many seconds. moments: sorted."""
    most = begins = 0
    for position, moment in enumerate(moments):
        while moment - moments[begins] >= seconds:
            begins += 1
        most = max(most, position - begins + 1)
    return most


def wait(seconds: float, meanwhile: Callable[[], object] = lambda: None) -> None:
    """meanwhile: called once in the middle of it."""
    time.sleep(seconds / 2)
    meanwhile()
    time.sleep(seconds / 2)
