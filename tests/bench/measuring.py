"""bench.measuring: one run of one kind of work through one server, and what it took.

A run ends when the sink has every message and the server's processes have come to rest: what a server puts off to idle
time (a journal, a queue to be cleaned) is its work all the same and is in its CPU. Every message is looked for at the
sink; one that is missing or came twice makes the run worthless, whatever its figures.
"""

import time
from bisect import bisect
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from tests.bench import processes
from tests.bench.programs import NUMBERS, Load, Loaded, Sink, load
from tests.bench.server import Server
from tests.bench.works import Work

TRIAL = 500  # messages before the first run, twice: they warm a server up, and tell how many it does in a given time
PATIENCE = 60.0  # seconds from the last 250 until the last message is at the sink
AT_REST = 0.03  # of a core: what timers of an idle server may take
REST_WITHIN = 15.0
LOOK_EVERY = 2.0  # seconds between looks at a server's memory: the kernel adds up every page of every process
FEWEST = 500  # messages of a run: a p99 of fewer is one message's


class WrongResult(Exception):
    """Messages were lost, doubled, changed, or counted wrongly."""


@dataclass(frozen=True, slots=True)
class Run:
    """delivered: messages per second, from the first connection to the last message at the sink. cpu: seconds of the
    server's processes for 1000 messages. p50, p99: milliseconds from the dot to the 250. memory: the most PSS of all
    its processes, in megabytes. others: cores that loader and sink took.
    """

    server: str
    work: str
    messages: int
    delivered: float
    cpu: float
    p50: float
    p99: float
    memory: float
    others: float


class Bench:
    """Numbers messages through all runs, so that a stray one of an earlier run is noticed too."""

    def __init__(self, sink: Sink, *, seconds: float) -> None:
        self._sink = sink
        self._seconds = seconds
        self._next = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._firsts: list[int] = []
        self._servers: list[Server] = []

    def run(self, server: Server, work: Work) -> Run:
        """Raises WrongResult."""
        key = (server.name, work.name)
        if key not in self._counts:
            unpaced, messages = replace(work, rate=0), max(TRIAL, work.sessions * 10)
            self._run(server, unpaced, messages)  # a server may have to learn how much the sink takes
            trial = self._run(server, unpaced, messages)
            rate = min(trial.delivered, work.rate or trial.delivered)
            self._counts[key] = max(FEWEST, int(rate * self._seconds) // 100 * 100)
        return self._run(server, work, self._counts[key])

    def server_of(self, number: int) -> Server:
        """The one that was given the message with that number."""
        return self._servers[bisect(self._firsts, number) - 1]

    def _run(self, server: Server, work: Work, messages: int) -> Run:
        first = self._number(server, messages)
        cpu, sink_cpu = _cpu(server), processes.cpu_seconds_of(self._sink.pid)
        accepted = sum(server.accepted().values())
        began = time.monotonic()
        with ThreadPoolExecutor(1) as loader:
            loading = loader.submit(load, _load(server, work, messages, first))
            memory = _peak_memory(server, loading)
        loaded = loading.result()
        self._wait_for(first, messages)
        delivered_in = self._sink.totals.last_at - began
        memory = max(memory, _memory(server))
        wait_for_rest(server.pids)
        sink_took = processes.cpu_seconds_of(self._sink.pid) - sink_cpu
        self._check(server, first, messages, accepted_before=accepted)
        return Run(
            server=server.name,
            work=work.name,
            messages=messages,
            delivered=messages / delivered_in,
            cpu=(_cpu(server) - cpu) / messages * 1000,
            p50=loaded.p50,
            p99=loaded.p99,
            memory=memory,
            others=(sink_took + loaded.cpu) / delivered_in,
        )

    def _number(self, server: Server, messages: int) -> int:
        """The first of so many numbers, which are the server's from now on."""
        first, self._next = self._next, self._next + messages
        if self._next > NUMBERS:
            raise RuntimeError(f"the sink cannot tell more than {NUMBERS} messages apart; ask for fewer runs or works")
        self._firsts.append(first)
        self._servers.append(server)
        return first

    def _wait_for(self, first: int, messages: int) -> None:
        ends = time.monotonic() + PATIENCE
        while self._sink.totals.messages < first + messages and time.monotonic() < ends:
            time.sleep(0.02)

    def _check(self, server: Server, first: int, messages: int, *, accepted_before: int) -> None:
        numbers = range(first, first + messages)
        lost = [number for number in numbers if self._sink.came(number) == 0]
        doubled = [number for number in numbers if self._sink.came(number) > 1]
        strays = self._sink.totals.strays + self._sink.totals.messages - first - messages
        if lost or doubled or strays:
            raise WrongResult(
                f"{server.name}, of {messages} messages: {len(lost)} lost, {len(doubled)} doubled, {strays} strays"
                f" (numbers {[*lost, *doubled][:5]})"
            )
        accepted = sum(server.accepted().values())
        if accepted and accepted - accepted_before != messages:
            raise WrongResult(f"{server.name}'s workers count {accepted - accepted_before} messages of {messages}")


def _load(server: Server, work: Work, messages: int, first: int) -> Load:
    plain = Load(server.port, messages, work.sessions, work.octets, first, work.per_connection, rate=work.rate)
    if not work.tls:
        return plain
    return replace(plain, port=server.starttls, tls="starttls", login=server.login, secret=server.secret)


def _peak_memory(server: Server, loading: "Future[Loaded]") -> float:
    """The most that it has until the last 250, in megabytes."""
    most = 0.0
    while not wait([loading], timeout=LOOK_EVERY).done:
        most = max(most, _memory(server))
    return most


def _memory(server: Server) -> float:
    return sum(processes.pss(pid) for pid in server.pids)


def _cpu(server: Server) -> float:
    return cpu_seconds(server.pids)


def cpu_seconds(pids: Sequence[int]) -> float:
    """Of the processes and all their descendants, since they began."""
    return sum(processes.cpu_seconds(pid) for pid in pids)


def wait_for_rest(pids: Sequence[int], *, at_rest: float = AT_REST, within: float = REST_WITHIN) -> None:
    """Until they take no more than so many cores, or for so many seconds."""
    ends = time.monotonic() + within
    before = cpu_seconds(pids)
    while time.monotonic() < ends:
        time.sleep(1.0)
        after = cpu_seconds(pids)
        if after - before <= at_rest:
            return
        before = after
