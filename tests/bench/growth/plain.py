"""bench.growth.plain: what grows in the load alone: recipients of a message, its size, sessions; and the workers."""

import resource
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path

from tests.bench.growth import rounds
from tests.bench.growth.arrivals import arrivals
from tests.bench.growth.relay import Run, Running, relay
from tests.bench.growth.rounds import Scale
from tests.bench.growth.series import (
    CPU,
    Figure,
    Point,
    Series,
    at_least,
    at_most,
    cpu,
    rate,
    usual,
)
from tests.bench.programs import Load, idle_sessions

LARGEST_MESSAGE = 25_000_000
BUSY = 20  # sessions
AT_ONCE = 100  # sessions while workers are counted: what memory is promised for

FOR_MANY_SESSIONS = """
[submission.limits]
sessions = {sessions}
sessions_per_credential = {sessions}
command = "1h"
"""

_CPU_OF_RECIPIENT = Figure("CPU ms a recipient", ".3f")
_RECIPIENT_RATE = Figure("recipients/s", ".0f")
_CPU_OF_MEGABYTE = Figure("CPU ms a MB", ".2f")
_SPEED = Figure("MB/s a core", ".1f")
_IDLE = Figure("idle sessions", ".0f")
_EACH = Figure("KB an idle session", ".1f")
_MEMORY = Figure("peak PSS MB", ".0f")


def recipients(directory: Path, scale: Scale) -> Series:
    """All in one domain: Relay sends a hundred in a transaction."""
    counts = (1, 10, 100) if scale.quick else (1, 10, 100, 1000)
    with arrivals(directory / "sink") as arriving, relay(directory / "relay", arriving) as running:
        loads = {count: (running, _warmed(running, replace(running.load, recipients=count), scale)) for count in counts}
        runs = rounds.measure("recipients", loads, rounds=scale.rounds)
    points = [
        Point(at, usual(each) | {_CPU_OF_RECIPIENT: cpu(each) / at, _RECIPIENT_RATE: rate(each) * at})
        for at, each in runs.items()
    ]
    return Series("recipients", "Recipients of a message", "recipients", CPU, points, proportional=True)


def size(directory: Path, scale: Scale) -> Series:
    sizes = (1_000, 16_000, 250_000, 4_000_000) if scale.quick else (
        1_000, 4_000, 16_000, 64_000, 250_000, 1_000_000, 4_000_000, LARGEST_MESSAGE
    )  # fmt: skip
    with arrivals(directory / "sink") as arriving, relay(directory / "relay", arriving) as running:
        loads = {octets: (running, _warmed(running, replace(running.load, octets=octets), scale)) for octets in sizes}
        runs = rounds.measure("size", loads, rounds=scale.rounds)
    points = [
        Point(at, usual(each) | {_CPU_OF_MEGABYTE: cpu(each) / (at / 1e6), _SPEED: speed(at, cpu(each))})
        for at, each in runs.items()
    ]
    fastest = speed(sizes[-1], cpu(runs[sizes[-1]]))
    goal = at_least(f"{sizes[-1] / 1e6:g} MB, accepted and delivered", fastest, 60, ".0f", "MB/s a core")
    return Series("size", "Size of a message", "octets", CPU, points, [goal], proportional=True)


def speed(octets: int, milliseconds: float) -> float:
    """Megabytes that a core does in a second, when a message of that size takes so much CPU."""
    return octets / 1e6 / (milliseconds / 1e3)


def sessions(directory: Path, scale: Scale) -> Series:
    """A few of them send; the others have logged in over TLS and say nothing."""
    counts = (1, 10, 100, 1000) if scale.quick else (1, 10, 100, 1000, 5000)
    _allow_files(3 * counts[-1])
    limits = FOR_MANY_SESSIONS.format(sessions=counts[-1] + AT_ONCE)
    points: list[Point] = []
    with arrivals(directory / "sink") as arriving, relay(directory / "relay", arriving, more=limits) as running:
        for at in counts:
            running.restart()  # so that no idle session has the memory that an earlier one left
            busy = _warmed(running, replace(running.load, sessions=min(at, BUSY)), scale)
            running.rest()
            base = running.memory
            with _idle(running, at - BUSY):
                running.rest()
                each = (running.memory - base) * 1000 / (at - BUSY) if at > BUSY else 0.0
                runs = rounds.measure("sessions", {at: (running, busy)}, rounds=scale.rounds)[at]
            idle: dict[Figure, float] = {_IDLE: at - BUSY, _EACH: each} if at > BUSY else {}
            points.append(Point(at, {**usual(runs), **idle}))
    most = points[-1]
    goal = at_most(f"{most.at - BUSY} idle sessions inside TLS, logged in", most.figures[_EACH], 25, ".1f", "KB each")
    return Series("sessions", "Sessions", "sessions", CPU, points, [goal])


def _idle(running: Running, count: int) -> AbstractContextManager[None]:
    return idle_sessions(replace(running.secure(running.load), sessions=count)) if count > 0 else nullcontext()


def _allow_files(count: int) -> None:
    """Relay, started from here, may open so many. Raises RuntimeError."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= count:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, max(count, hard)))
    except (ValueError, OSError) as error:
        raise RuntimeError(f"{count} open files are needed and {hard} allowed: raise `ulimit -n`") from error


def workers(directory: Path, scale: Scale) -> Series:
    counts = (1, 2) if scale.quick else (1, 2, 4)
    with ExitStack() as stack:
        arriving = stack.enter_context(arrivals(directory / "sink"))
        loads: dict[int, tuple[Running, Load]] = {}
        for count in counts:
            running = stack.enter_context(relay(directory / f"workers-{count}", arriving, workers=count))
            loads[count] = (running, _warmed(running, replace(running.load, sessions=AT_ONCE), scale))
        runs = rounds.measure("workers", loads, rounds=scale.rounds)
    points = [Point(at, {**usual(each), _MEMORY: _most(each)}) for at, each in runs.items()]
    more = (cpu(runs[2]) / cpu(runs[1]) - 1) * 100
    goals = [
        at_most("CPU of a message with two workers, more than with one", more, 10, ".0f", "%"),
        at_most(f"PSS of all processes, 2 workers, {AT_ONCE} sessions", _most(runs[2]), 200, ".0f", "MB"),
    ]
    return Series("workers", f"Workers, {AT_ONCE} sessions", "workers", CPU, points, goals)


def _most(runs: Sequence[Run]) -> float:
    return max(run.memory for run in runs)


def _warmed(running: Running, load: Load, scale: Scale) -> Load:
    """After a trial of a few megabytes or some thousand recipients."""
    fewest = max(BUSY, load.sessions)
    trial = min(load.messages, max(fewest, 2_000_000 // load.octets), max(fewest, 5000 // load.recipients))
    return running.warmed(replace(load, messages=trial), seconds=scale.seconds, fewest=fewest)
