"""bench.growth.switchboard: what a question of a worker costs the supervisor, as the machine has more workers.

The supervisor's switchboard and its ends of the channels are here, on the event loop that the supervisor has; a second
process has the workers' ends, and each worker asks its next question as soon as the last one is answered. CPU is that
of this process, so what its core could answer is known even where the askers are slower.
"""

import asyncio
import multiprocessing
import selectors
import socket
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import uvloop

from relay.delivery.pace import Pace
from relay.metrics import Metrics, merge, retired
from relay.server.channel import Channel
from relay.server.session_table import SessionTable
from relay.server.switchboard import RemoteBoard, Switchboard
from relay.submission.limits import Rates
from relay.submission.services import Limits
from tests.bench.growth.rounds import Scale
from tests.bench.growth.series import Figure, Point, Series

SITE = "mx.example.net"
CONNECTIONS = 2  # that a site begins with

Ask = Callable[[RemoteBoard], Awaitable[object]]


async def _take(board: RemoteBoard) -> object:
    return await board.take("shop", Limits(second=10**9, hour=10**9, day=10**9), 1)


async def _pace(board: RemoteBoard) -> object:
    pace = Pace(per_second=1e9, per_minute=10**9, per_hour=10**9)
    return await board.pace(SITE, pace, count=1, sharer=("bulk", "shop"))


async def _connection(board: RemoteBoard) -> object:
    """To a site of the worker's own, so that it is granted."""
    site = f"mx{id(board)}.example.net"
    granted = await board.acquire(site, maximum=CONNECTIONS)
    board.opened(site)
    board.release(site, opened=True)
    return granted


async def _refused(board: RemoteBoard) -> object:
    return await board.acquire(SITE, maximum=CONNECTIONS)


@dataclass(frozen=True, slots=True)
class Question:
    """What one asks. held: connections to the site that the first workers have meanwhile, one after the other."""

    what: str
    ask: Ask
    held: int = 0


TAKE = Question("a message of a credential with limits", _take)
PACE = Question("a message to a site with a pace", _pace)
CONNECTION = Question("a connection, opened and closed", _connection)
REFUSED = Question("a connection to a site that has all it may", _refused, held=CONNECTIONS)
QUESTIONS = (TAKE, PACE, CONNECTION, REFUSED)
FIGURES = {question: Figure(f"CPU µs: {question.what}", ".0f") for question in QUESTIONS}
A_CORE = Figure("the first, a second on one core", ".0f")
P50, P99 = Figure("the first: p50 ms", ".2f"), Figure("the first: p99 ms", ".2f")


@dataclass(frozen=True, slots=True)
class Answered:
    """cpu: microseconds of the supervisor's process a question. latencies: milliseconds."""

    cpu: float
    latencies: Sequence[float]

    @property
    def p50(self) -> float:
        return statistics.median(self.latencies)

    @property
    def p99(self) -> float:
        return sorted(self.latencies)[len(self.latencies) * 99 // 100]


def switchboard(directory: Path, scale: Scale) -> Series:
    """directory: none is needed."""
    counts = (1, 4, 16, 64) if scale.quick else (1, 2, 4, 8, 16, 32, 64)
    points = [_point(at, scale.seconds) for at in counts]
    return Series("switchboard", "Workers that ask the switchboard", "workers", FIGURES[TAKE], points)


def _point(workers: int, seconds: float) -> Point:
    answered = {question: _answered(question, workers=workers, seconds=seconds) for question in QUESTIONS}
    taken = answered[TAKE]
    costs = {FIGURES[question]: each.cpu for question, each in answered.items()}
    print(f"switchboard{workers:9}  " + "  ".join(f"{each.cpu:.0f} µs" for each in answered.values()), flush=True)
    return Point(workers, costs | {A_CORE: 1e6 / taken.cpu, P50: taken.p50, P99: taken.p99})


def _answered(question: Question, *, workers: int, seconds: float) -> Answered:
    """What the workers ask one after the other, all at once, for so long."""
    pairs = [socket.socketpair() for _ in range(workers)]
    ours, theirs = [one for one, _ in pairs], [other for _, other in pairs]
    told, telling = multiprocessing.Pipe(duplex=False)
    asking = multiprocessing.get_context("fork").Process(target=_ask_all, args=(theirs, question, seconds, telling))
    asking.start()
    for end in theirs:
        end.close()
    telling.close()
    with told, asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selectors.PollSelector())) as runner:
        cpu = runner.run(answer_all(ours))
        latencies: list[float] = told.recv()
    asking.join()
    return Answered(cpu / len(latencies) * 1e6, latencies)


async def answer_all(ends: Sequence[socket.socket]) -> float:
    """Seconds of CPU until all of them are closed."""
    metrics = Metrics(streams=("transactional",))
    switchboard = Switchboard(
        rates=Rates(),
        sessions=SessionTable(workers=len(ends)),
        merge=merge,
        retire=retired,
        own_counts=metrics.snapshot,
        now=time.time,
        monotonic=time.monotonic,
        noted=lambda site, change: None,
    )
    began = time.process_time()
    async with asyncio.TaskGroup() as tasks:
        channels = [await _supervisors(switchboard, slot, end, tasks) for slot, end in enumerate(ends)]
        for channel in channels:
            await channel.ended.wait()
    return time.process_time() - began


async def _supervisors(switchboard: Switchboard, slot: int, end: socket.socket, tasks: asyncio.TaskGroup) -> Channel:
    async def answer(verb: str, arguments: Sequence[Any]) -> Any:
        return await switchboard.answer(slot, verb, arguments)

    channel = Channel(answer, tasks)
    switchboard.joined(slot, channel)
    return await connected(channel, end)


async def connected(channel: Channel, end: socket.socket) -> Channel:
    end.setblocking(False)
    await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=end)
    return channel


# The other process.


def _ask_all(ends: Sequence[socket.socket], question: Question, seconds: float, telling: Connection) -> None:
    telling.send(uvloop.run(_asked(ends, question, seconds)))


async def _asked(ends: Sequence[socket.socket], question: Question, seconds: float) -> list[float]:
    """Milliseconds that each answer took."""
    async with asyncio.TaskGroup() as tasks:
        channels = [await connected(Channel(_hear, tasks), end) for end in ends]
        boards = [RemoteBoard(channel, steady=time.monotonic) for channel in channels]
        for turn in range(question.held):
            await boards[turn % len(boards)].acquire(SITE, maximum=question.held)
        until = time.monotonic() + seconds
        latencies = await asyncio.gather(*(_one_asks(board, question.ask, until) for board in boards))
        for channel in channels:
            channel.close()
            await channel.ended.wait()
    return [each * 1e3 for some in latencies for each in some]


async def _hear(_verb: str, _arguments: Sequence[Any]) -> Any:
    return None


async def _one_asks(board: RemoteBoard, ask: Ask, until: float) -> list[float]:
    took: list[float] = []
    while (began := time.monotonic()) < until:
        await ask(board)
        took.append(time.monotonic() - began)
    return took
