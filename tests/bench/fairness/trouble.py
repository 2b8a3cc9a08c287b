"""bench.fairness.trouble: whether ten thousand dead sites delay a healthy one.

Mail to one site is measured with Relay's queue empty (A) and with five messages for each of ten thousand dead sites in
it (B), A B A B, each with a Relay started anew, from some seconds after that on. Dead sites refuse every connection; or
greet with 421; or are connected to and say nothing, as far as the backlog of 4096 goes, and do not answer at all beyond
it. Mail for each of them is at every worker.
"""

import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fairness.machine import THERE, WORKERS, Mail, Submitting, relay, taking
from tests.peers.ports import Reserved

SITES = 10_000
EACH = 5  # messages
RATE = 100.0
READ = 8.0  # seconds after a start until what is in the queues has been read, as far as there is room
ANYWHERE = "0.0.0.0"  # all of 127.0.0.0/8, but where somebody listens at an address of it
BACKLOG = 4096


@dataclass(frozen=True, slots=True)
class Beside:
    """Seconds from the 250 to the last octet at the healthy site, sorted: without and with dead sites."""

    kind: str
    without: Sequence[float]
    beside: Sequence[float]


@contextmanager
def _refusing(_directory: Path, _port: int) -> Iterator[None]:
    """Nobody listens."""
    yield


@contextmanager
def _busy(directory: Path, port: int) -> Iterator[None]:
    with taking(directory, address=ANYWHERE, port=port, refuses=True):
        yield


@contextmanager
def _silent(_directory: Path, port: int) -> Iterator[None]:
    with socket.socket() as listener:
        for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
            listener.setsockopt(socket.SOL_SOCKET, option, 1)
        listener.bind((ANYWHERE, port))
        listener.listen(BACKLOG)
        yield


Dead = Callable[[Path, int], AbstractContextManager[None]]
KINDS: dict[str, Dead] = {"refuse connections": _refusing, "greet with 421": _busy, "say nothing": _silent}


def dead(count: int) -> list[str]:
    """Addresses of so many sites."""
    return [f"127.{1 + number // 62500}.{number // 250 % 250}.{1 + number % 250}" for number in range(count)]


def measure(directory: Path, kind: str, *, seconds: float, sites: int = SITES, rounds: int = 2) -> Beside:
    found: dict[bool, list[float]] = {False: [], True: []}
    for turn in range(rounds):
        for is_beside in (False, True):
            below = directory / f"{turn}{is_beside}"
            below.mkdir()
            found[is_beside] += _latencies(below, KINDS[kind], sites=sites if is_beside else 0, seconds=seconds)
    return Beside(kind, sorted(found[False]), sorted(found[True]))


def _latencies(directory: Path, kind: Dead, *, sites: int, seconds: float) -> list[float]:
    each = sites * EACH // WORKERS
    queue = [Mail(worker, worker * each, each, to=dead(sites)) for worker in range(WORKERS)] if sites else []
    with ExitStack() as stack:
        port = stack.enter_context(Reserved(THERE)).port
        stack.enter_context(kind(directory / "dead", port))
        healthy = stack.enter_context(taking(directory / "healthy", address=THERE, port=port))
        running = stack.enter_context(relay(directory / "relay", queue, port=port))
        sending = Submitting(running, sites * EACH, RATE, THERE)
        with sending:
            time.sleep(READ + seconds)
        return sending.latencies(healthy, since=running.began + READ)
