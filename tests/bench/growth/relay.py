"""bench.growth.relay: a Relay whose mail goes to the sink, and one load on it, measured.

It is as by default: both signatures, journal, metrics, a log in a file, two workers. CPU of a message is that of all
its processes until they rest again, less what they take without the load: a queue of deferred mail is work of its own.
"""

import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench import processes
from tests.bench.growth.arrivals import Arrivals
from tests.bench.measuring import AT_REST, LOOK_EVERY, cpu_seconds, wait_for_rest
from tests.bench.programs import Load, load
from tests.bench.relay_server import TO_SINK, Ports, add_credential, command, configure, start
from tests.bench.server import DOMAIN, stop
from tests.peers.ports import Reserved

LOADED_WITHIN = 900.0  # seconds
REST_WITHIN = 120.0
BACKGROUND = 2.0  # seconds
UNSTEADY = 1.5  # times what it took before: that of a long queue goes up and down
WARMING = 500  # messages before the first run of a kind; they tell how many it does in a given time
FEWEST = 20

BY_DNS = """
[dns]
nameservers = ["{nameserver}"]
[delivery]
port = {sink}
allow_networks = ["127.0.0.0/8"]
"""


@dataclass(frozen=True, slots=True)
class Run:
    """delivered: messages per second, from the first connection to the last message at the sink. cpu: milliseconds of
    Relay's processes a message. background: cores that they took without it. p99: milliseconds from the dot to the 250.
    memory: the most PSS of all processes, largest: the most RSS of a worker, in megabytes. connections: to the sink,
    commits: of the spool, questions: to the nameserver, written: kilobytes to the disk, each a message.
    """

    messages: int
    delivered: float
    cpu: float
    background: float
    p99: float
    memory: float
    largest: float
    connections: float
    commits: float
    questions: float
    written: float


class Running:
    """A Relay. `load` is the plain one: 4 KB messages, 20 sessions, on the listener without TLS and AUTH."""

    def __init__(self, config: Path, ports: Ports, process: "subprocess.Popen[bytes]", arrivals: Arrivals) -> None:
        self.load = Load(ports.trusted, WARMING, sessions=20, octets=4096, first=0)
        self.login = self.secret = ""
        self._config = config
        self._ports = ports
        self._process = process
        self._arrivals = arrivals

    @property
    def cpu(self) -> float:
        """Seconds of all processes since they began."""
        return cpu_seconds([self._process.pid])

    @property
    def written(self) -> int:
        """Octets to the disk since the processes began."""
        return processes.written(self._process.pid)

    @property
    def memory(self) -> float:
        """PSS of all processes in megabytes."""
        return processes.pss(self._process.pid)

    @property
    def largest(self) -> float:
        """RSS of the largest worker in megabytes; one worker is the server's own process."""
        return max(map(processes.rss, processes.tree(self._process.pid)[1:] or [self._process.pid]))

    def register(self) -> None:
        """Who may send. Started again, so that no worker knows it later than another."""
        command(self._config, "domain", "add", DOMAIN)
        made = add_credential(self._config)
        self.login, self.secret = made["login"], made["secret"]
        self.restart()

    def restart(self) -> float:
        """Seconds from the start until it is ready."""
        stop(self._process)
        began = time.monotonic()
        self._process = start(self._config, ports=self._ports)
        return time.monotonic() - began

    def stop(self) -> None:
        stop(self._process)

    def secure(self, load: Load) -> Load:
        """The same with TLS and a login."""
        return replace(load, port=self._ports.tls, tls="tls", login=self.login, secret=self.secret)

    def queued(self) -> dict[str, int]:
        """Recipients in the queue, by status."""
        queue = command(self._config, "status")["queue"]
        return {status: int(each["recipients"]) for status, each in queue.items()}

    def rest(self) -> None:
        wait_for_rest([self._process.pid], within=REST_WITHIN)

    def background(self) -> float:
        """Cores that it takes now."""
        before, began = self.cpu, time.monotonic()
        time.sleep(BACKGROUND)
        return (self.cpu - before) / (time.monotonic() - began)

    def counters(self) -> "Counters":
        """Of all workers since they began. The queue is counted for it, so that it costs CPU where it is long."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._ports.http}/metrics", timeout=30) as answer:
            return Counters.read(answer.read().decode())

    def warmed(self, load: Load, *, seconds: float, fewest: int = FEWEST) -> Load:
        """As many messages as it does in that time, by a run that warms it up."""
        trial = self.measure(load)
        return replace(load, messages=max(fewest, int(trial.delivered * seconds)))

    def measure(self, load: Load) -> Run:
        """Raises WrongResult when not all of it arrived, once."""
        load, before, counted = self._arrivals.numbered(load), self._arrivals.totals, self.counters()
        background = self.background()
        began, cpu, written = time.monotonic(), self.cpu, self.written
        watched = self._watched(load)
        self._arrivals.expect(load)
        after = self._arrivals.totals
        memory, largest = max(watched.memory, self.memory), max(watched.largest, self.largest)
        wait_for_rest([self._process.pid], at_rest=background * UNSTEADY + AT_REST, within=REST_WITHIN)
        spent = self.cpu - cpu - background * (time.monotonic() - began)
        self._arrivals.check(load)
        counters = self.counters()
        return Run(
            messages=load.messages,
            delivered=load.messages / (after.last_at - began),
            cpu=spent / load.messages * 1000,
            background=background,
            p99=watched.p99,
            memory=memory,
            largest=largest,
            connections=(after.connections - before.connections) / load.messages,
            commits=(counters.commits - counted.commits) / load.messages,
            questions=(counters.questions - counted.questions) / load.messages,
            written=(self.written - written) / load.messages / 1000,
        )

    def _watched(self, work: Load) -> "Watched":
        memory, largest = self.memory, self.largest
        with ThreadPoolExecutor(1) as loader:
            loading = loader.submit(load, work, within=LOADED_WITHIN)
            while not wait([loading], timeout=LOOK_EVERY).done:
                memory, largest = max(memory, self.memory), max(largest, self.largest)
            return Watched(loading.result().p99, memory, largest)


@dataclass(frozen=True, slots=True)
class Counters:
    """commits: of the spool. questions: to the nameserver."""

    commits: float
    questions: float

    @classmethod
    def read(cls, metrics: str) -> "Counters":
        """As /metrics has them."""
        return cls(_sum(metrics, "relay_spool_commits_total"), _sum(metrics, "relay_dns_questions_total"))


def _sum(metrics: str, name: str) -> float:
    return sum(float(value) for value in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", metrics, re.MULTILINE))


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen until the last 250, as in `Run`."""

    p99: float
    memory: float
    largest: float


@contextmanager
def relay(
    directory: Path, arrivals: Arrivals, *, nameserver: str = "", more: str = "", workers: int = 2
) -> Iterator[Running]:
    """It delivers to whom DNS names, where there is a nameserver; else all goes to the sink by a route."""
    directory.mkdir()
    out = BY_DNS.format(nameserver=nameserver, sink=arrivals.port) if nameserver else TO_SINK.format(sink=arrivals.port)
    with ExitStack() as stack:
        ports = Ports(*(stack.enter_context(Reserved()).port for _ in range(4)))
        config = configure(directory, ports=ports, more=out + more, workers=workers)
        running = Running(config, ports, start(config, ports=ports), arrivals)
        stack.callback(running.stop)
        running.register()
        yield running
