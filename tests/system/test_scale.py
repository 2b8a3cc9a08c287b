"""A whole Relay, two workers, under what is large: a hundred thousand recipients in the queue, a domain that never
answers, messages of 25 MB side by side. Bounds on memory and time are those that are promised.
"""

import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Self

import pytest

from tests.bench import processes
from tests.bench.programs import Load, Sink, load, sink
from tests.bench.relay_server import Ports, add_credential, command, configure, start
from tests.bench.server import DOMAIN, stop
from tests.peers.dns import authoritative
from tests.peers.ports import Reserved
from tests.peers.waiting import eventually
from tests.system import crowd

pytestmark = [pytest.mark.alone, pytest.mark.system, pytest.mark.timeout(120)]

MESSAGES = 100  # of a thousand recipients each
NEARLY_ALL = 0.99 * MESSAGES * crowd.PER_MESSAGE / 2  # recipients taken, and as many put off; DNS is late for some
PROBES = 40
LARGE = 25_000_000
SESSIONS = 20
HEADER_AT_MOST = 400  # octets of what the load generator writes before a body

DELIVERY = """
[dns]
nameservers = ["{nameserver}"]
[delivery]
port = {port}
allow_networks = ["127.0.0.0/8"]
"""


@dataclass
class Running:
    """A Relay whose mail goes, by DNS, to a sink. config: its relay.toml. began: when it was started last."""

    config: Path
    ports: Ports
    sink_port: int
    process: "subprocess.Popen[bytes]"
    began: float = field(default_factory=time.monotonic)
    login: str = ""
    secret: str = ""

    @property
    def workers(self) -> list[int]:
        return processes.tree(self.process.pid)[1:]

    def restart(self, between: Callable[[], object]) -> None:
        assert stop(self.process) == 0
        between()
        self.began = time.monotonic()
        self.process = start(self.config, ports=self.ports)

    def add_credential(self) -> None:
        command(self.config, "domain", "add", DOMAIN)
        made = add_credential(self.config)
        self.login, self.secret = made["login"], made["secret"]

    def submit(self, token: int, *recipients: str) -> None:
        with crowd.Client(self.ports.trusted, sender=f"app@{DOMAIN}") as client:
            client.submit(token, recipients)


@pytest.fixture
def relay(tmp_path: Path) -> Iterator[Running]:
    reserved = [Reserved("127.0.0.1", crowd.SILENT_ADDRESS) for _ in range(5)]
    sink_port, *others = [each.port for each in reserved]
    ports = Ports(*others)
    for name in ("dns", "relay"):
        (tmp_path / name).mkdir()
    with authoritative(tmp_path / "dns", crowd.zones()) as nameserver:
        more = DELIVERY.format(nameserver=nameserver, port=sink_port)
        config = configure(tmp_path / "relay", ports=ports, more=more, workers=2)
        running = Running(config, ports, sink_port, start(config, ports=ports))
        try:
            running.restart(running.add_credential)  # so that no worker knows it later than another
            yield running
        finally:
            assert stop(running.process) == 0
            for each in reserved:
                each.close()


@contextmanager
def receiving(relay: Running, directory: Path) -> Iterator[Sink]:
    """A sink that puts half of the crowd off."""
    (directory / "sink").mkdir()
    with sink(directory / "sink", port=relay.sink_port, later=crowd.LATER) as taking:
        yield taking


class Memory:
    """Watches the workers' memory; `largest` is the most that any of them had, in megabytes."""

    def __init__(self, workers: list[int]) -> None:
        self.largest = 0.0
        self._workers = workers
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self.largest = max(self.largest, *map(processes.rss, self._workers))


@pytest.mark.timeout(600)  # until half are delivered and half climb their ladders
def test_a_hundred_thousand_recipients_wait_in_little_memory_and_leave_at_once(relay: Running, tmp_path: Path) -> None:
    def hold() -> None:
        command(relay.config, "credential", "hold", "bench")

    def release() -> None:
        command(relay.config, "credential", "release", "bench")
        released = command(relay.config, "queue", "release", "--credential", "bench")
        assert released["recipients"] == MESSAGES * crowd.PER_MESSAGE

    relay.restart(hold)
    for message in range(MESSAGES):
        relay.submit(message, *crowd.recipients(message))
    with receiving(relay, tmp_path) as taking:
        relay.restart(release)
        with Memory(relay.workers) as memory:
            eventually(
                lambda: min(taking.totals.recipients, taking.totals.deferred) >= NEARLY_ALL,
                what="half are delivered and half are deferred",
                within=500,
            )
        totals = taking.totals
        first_after = totals.first_at - relay.began
        took = time.monotonic() - relay.began
        answers = totals.recipients + totals.deferred
        print(f"first after {first_after:.1f} s, {answers} answers in {took:.1f} s, {memory.largest:.0f} MB")
        assert first_after < 3.0
        assert memory.largest < 200


def test_a_domain_that_never_answers_delays_no_other(relay: Running, tmp_path: Path) -> None:
    with receiving(relay, tmp_path) as taking, crowd.silent_host(relay.sink_port) as silent:
        without = latencies(relay, taking, first=0)
        for message in range(4):
            relay.submit(10_000 + message, *(f"x{message}.{number}@{crowd.SILENT}" for number in range(500)))
        silent.accept()[0].close()  # somebody waits there now
        beside = latencies(relay, taking, first=PROBES)
    usual, then = statistics.median(without), statistics.median(beside)
    print(f"median {usual * 1e3:.1f} ms without it, {then * 1e3:.1f} ms beside it")
    assert then < 2 * usual + 0.02
    assert max(beside) < max(without) + 1.0


def latencies(relay: Running, taking: Sink, *, first: int) -> list[float]:
    """Seconds from submission until it is delivered, of mail to one domain after the other."""
    found = []
    for number in range(first, first + PROBES):
        began = time.monotonic()
        relay.submit(number, f"now@{crowd.domain(number)}")
        eventually(partial(taking.came, number), what="a message comes", within=10)
        found.append(time.monotonic() - began)
    return found


def test_large_messages_side_by_side_take_little_memory(relay: Running, tmp_path: Path) -> None:
    with receiving(relay, tmp_path) as taking, Memory(relay.workers) as memory:
        secure = Load(
            relay.ports.tls,
            messages=SESSIONS,
            sessions=SESSIONS,
            octets=LARGE,
            first=100,
            tls="tls",
            login=relay.login,
            secret=relay.secret,
            domain=crowd.domain(0),
        )
        loaded = load(secure)
        eventually(lambda: taking.totals.messages == SESSIONS, what="all are delivered", within=60)
        numbers = range(100, 100 + SESSIONS)
        came = [taking.came(number) for number in numbers]
        sizes = {taking.body_octets(number) for number in numbers}
    print(f"accepted in {loaded.seconds:.1f} s, {memory.largest:.0f} MB")
    assert came == [1] * SESSIONS
    assert len(sizes) == 1
    assert LARGE - HEADER_AT_MOST < sizes.pop() < LARGE
    assert memory.largest < 300
