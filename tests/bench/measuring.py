"""bench.measuring: one run of one kind of work through one server, and what it took.

A run ends when the sink has every message and the server's processes have come to rest: what a server puts off to idle
time (a journal, a queue to be cleaned) is its work all the same and is in its CPU. Every message is looked for at the
sink; one that is missing or came twice makes the run worthless, whatever its figures.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import dkim

from tests.bench import processes
from tests.bench.programs import Load, Sink, load
from tests.bench.server import Server

TRIAL = 500  # messages before the first run: they warm a server up, and tell how many it does in a given time
PATIENCE = 60.0  # seconds from the last 250 until the last message is at the sink
AT_REST = 0.03  # of a core: what timers of an idle server may take
REST_WITHIN = 15.0


class WrongResult(Exception):
    """Messages were lost, doubled, changed, or counted wrongly."""


@dataclass(frozen=True, slots=True)
class Work:
    """per_connection: messages; 0 for all that a session has."""

    name: str
    what: str
    octets: int
    sessions: int
    per_connection: int


@dataclass(frozen=True, slots=True)
class Run:
    """delivered: messages per second, from the first connection to the last message at the sink. cpu: seconds of the
    server's processes for 1000 messages. p50, p99: milliseconds from the dot to the 250. memory: PSS in megabytes of
    all its processes at the end. others: cores that loader and sink took.
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

    def run(self, server: Server, work: Work) -> Run:
        """Raises WrongResult."""
        key = (server.name, work.name)
        if key not in self._counts:
            trial = self._run(server, work, max(TRIAL, work.sessions * 10))
            self._counts[key] = max(500, int(trial.delivered * self._seconds) // 100 * 100)
        return self._run(server, work, self._counts[key])

    def _run(self, server: Server, work: Work, messages: int) -> Run:
        first, self._next = self._next, self._next + messages
        cpu, sink_cpu = _cpu(server), processes.cpu_seconds_of(self._sink.pid)
        accepted = sum(server.accepted().values())
        began = time.monotonic()
        loaded = load(Load(server.port, messages, work.sessions, work.octets, first, work.per_connection))
        self._wait_for(first, messages)
        delivered_in = self._sink.totals.last_at - began
        memory = sum(processes.pss(pid) for pid in server.pids)
        _wait_for_rest(server)
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


def verify_signatures(sink: Sink, servers: Sequence[Server]) -> int:
    """Every signature of every message that the sink kept; how many there were. Raises WrongResult."""
    keys = {name.rstrip("."): record.encode() for server in servers for name, record in server.keys.items()}

    def look_up(name: bytes, timeout: int = 5) -> bytes | None:
        return keys.get(name.decode().rstrip("."))

    count = 0
    for path in sink.kept.iterdir():
        message = sink.copy(int(path.name))
        signatures = message.count(b"\r\nDKIM-Signature:", 0, message.find(b"\r\n\r\n")) + message.startswith(b"DKIM-")
        verified = [dkim.DKIM(message).verify(idx=index, dnsfunc=look_up) for index in range(signatures)]
        if not verified or not all(verified):
            raise WrongResult(f"message {path.name}: of its {signatures} signatures {sum(verified)} are valid")
        count += signatures
    return count


def _cpu(server: Server) -> float:
    return sum(processes.cpu_seconds(pid) for pid in server.pids)


def _wait_for_rest(server: Server) -> None:
    ends = time.monotonic() + REST_WITHIN
    before = _cpu(server)
    while time.monotonic() < ends:
        time.sleep(1.0)
        after = _cpu(server)
        if after - before <= AT_REST:
            return
        before = after
