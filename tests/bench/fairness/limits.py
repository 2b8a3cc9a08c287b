"""bench.fairness.limits: whether four workers together keep a site's limits, and use them.

Connections are counted by the server, opened and not closed yet; messages by the moment of their last octet there, in
every second that begins with one of them. A limit is used by as much of it as is, on average, from a few seconds after
the start on. There is always more mail waiting at some worker.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tests.bench.fairness.machine import HERE, Mail, Running, most_within, relay, spread, taking, wait
from tests.bench.programs import Sink
from tests.peers.ports import Reserved
from tests.peers.waiting import eventually

TAKES = 0.1  # seconds a message takes the server where connections are limited
WARM = 4.0  # seconds from the first message

EVENLY, UNEQUALLY, ALL_AT_ONE = (1, 1, 1, 1), (60, 30, 8, 2), (1, 0, 0, 0)


def _nothing(_running: Running) -> None:
    """No disturbance."""


@dataclass(frozen=True, slots=True)
class Case:
    """shares: of the mail, by worker. disturb: in the middle of it."""

    what: str
    limit: int
    shares: Sequence[float] = EVENLY
    disturb: Callable[[Running], None] = _nothing


@dataclass(frozen=True, slots=True)
class Kept:
    """most: at any time, of what the case limits. used: the share of the limit."""

    case: Case
    most: int
    used: float


CASES = (
    *(Case("", limit) for limit in (5, 10, 20)),
    Case("unequal queues", 10, UNEQUALLY),
    Case("one worker has all", 10, ALL_AT_ONE),
    Case("a worker is killed", 10, disturb=Running.kill_a_worker),
    Case("a reload", 10, disturb=Running.reload),
)
RATES = (
    *(Case("", limit) for limit in (50, 500)),
    Case("unequal queues", 50, UNEQUALLY),
    Case("one worker has all", 50, ALL_AT_ONE),
    Case("a worker is killed", 50, disturb=Running.kill_a_worker),
    Case("a reload", 50, disturb=Running.reload),
)


def connections(directory: Path, case: Case, seconds: float) -> Kept:
    table = f'[[site]]\nmx_suffix = "{HERE}"\nconnections = {case.limit}\n'
    count = int(case.limit / TAKES * (seconds + 3 * WARM))
    with ExitStack() as stack:
        running, sink = _started(stack, directory, spread(count, shares=case.shares), table, takes=TAKES)
        eventually(lambda: sink.totals.open == case.limit, what="all connections are open", within=30.0)
        wait(WARM)
        before = sink.totals
        began = time.monotonic()
        wait(seconds, lambda: case.disturb(running))
        after = sink.totals
        passed = time.monotonic() - began
        return Kept(case, after.most_open, (after.open_seconds - before.open_seconds) / passed / case.limit)


def rate(directory: Path, case: Case, seconds: float) -> Kept:
    table = f'[[site]]\nmx_suffix = "{HERE}"\nmessages_per_second = {case.limit}\n'
    queue = spread(int(case.limit * (seconds + 3 * WARM)), shares=case.shares)
    with ExitStack() as stack:
        running, sink = _started(stack, directory, queue, table)
        eventually(lambda: sink.totals.messages > 0, what="the first message comes", within=30.0)
        wait(WARM)
        began = time.monotonic()
        wait(seconds, lambda: case.disturb(running))
        ended = time.monotonic()
        moments = sorted(at for mail in queue for number in mail.numbers if (at := sink.came_at(number)))
        used = sum(began <= at < ended for at in moments) / (ended - began) / case.limit
        return Kept(case, most_within(moments, 1.0), used)


def _started(
    stack: ExitStack, directory: Path, queue: Sequence[Mail], table: str, *, takes: float = 0.0
) -> tuple[Running, Sink]:
    port = stack.enter_context(Reserved()).port
    sink = stack.enter_context(taking(directory / "sink", port=port, takes=takes))
    return stack.enter_context(relay(directory / "relay", queue, port=port, tables=table)), sink
