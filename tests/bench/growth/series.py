"""bench.growth.series: what is measured while one thing grows, as values: points with figures, and goals."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tests.bench.growth.relay import Run


@dataclass(frozen=True, slots=True)
class Figure:
    """A column of a series' table. name: with its unit. form: of the number."""

    name: str
    form: str


@dataclass(frozen=True, slots=True)
class Point:
    """at: how much there is of what grows. figures: what was measured there."""

    at: int
    figures: Mapping[Figure, float]


@dataclass(frozen=True, slots=True)
class Goal:
    what: str
    measured: str
    reached: bool


@dataclass(frozen=True, slots=True)
class Series:
    """grows: what the points count. plotted: by the plot, over a logarithmic axis. proportional: it is to grow with
    what grows, and its axis is logarithmic too, so that this is a straight line; else it is to stay as it is.
    """

    name: str
    title: str
    grows: str
    plotted: Figure
    points: Sequence[Point]
    goals: Sequence[Goal] = ()
    proportional: bool = False

    @property
    def figures(self) -> Sequence[Figure]:
        """In the order of the columns."""
        return list(dict.fromkeys(figure for point in self.points for figure in point.figures))


CPU = Figure("CPU ms a message", ".2f")
RATE = Figure("messages/s", ".0f")
P99 = Figure("dot → 250: p99 ms", ".1f")
COMMITS = Figure("commits a message", ".2f")
WRITTEN = Figure("KB written a message", ".0f")
LARGEST = Figure("RSS of a worker, MB", ".0f")


def median(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(map(of, runs))


def cpu(runs: Sequence[Run]) -> float:
    """Milliseconds a message."""
    return median(runs, lambda run: run.cpu)


def rate(runs: Sequence[Run]) -> float:
    """Messages a second."""
    return median(runs, lambda run: run.delivered)


def usual(runs: Sequence[Run]) -> dict[Figure, float]:
    """The figures that most series have."""
    return {
        CPU: cpu(runs),
        RATE: rate(runs),
        P99: median(runs, lambda run: run.p99),
        COMMITS: median(runs, lambda run: run.commits),
        WRITTEN: median(runs, lambda run: run.written),
    }


def at_most(what: str, measured: float, limit: float, form: str, unit: str) -> Goal:
    return Goal(f"{what}: at most {limit:g} {unit}", f"{measured:{form}} {unit}", measured <= limit)


def at_least(what: str, measured: float, limit: float, form: str, unit: str) -> Goal:
    return Goal(f"{what}: at least {limit:g} {unit}", f"{measured:{form}} {unit}", measured >= limit)
