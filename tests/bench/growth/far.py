"""bench.growth.far: what grows out there: recipients that are put off and wait, and sites, found by DNS.

Domain N is `dN.growth.test` and has an MX host of its own, so each is a site; all of them are the one sink.
"""

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tests.bench.growth.arrivals import Arrivals, arrivals
from tests.bench.growth.relay import Run, Running, relay
from tests.bench.growth.rounds import Scale, measure, told
from tests.bench.growth.series import (
    CPU,
    LARGEST,
    Figure,
    Goal,
    Point,
    Series,
    at_least,
    at_most,
    median,
    usual,
)
from tests.bench.programs import load
from tests.peers.dns import authoritative

ZONE = "growth.test"
LATER = "later"  # how local parts begin that the sink puts off
QUEUE_DOMAINS = 100
PER_MESSAGE = 1000  # recipients
PER_DOMAIN = 100
FILLED_WITHIN = 1800.0
LOOK_EVERY = 2.0

# A wait of nothing to four hours: at any moment as many come due as in a queue that has climbed its ladder for a day.
WAITS = """
[delivery.retry]
ladder = ["2h"]
jitter = 0.99
"""

_SHARE = Figure("of the messages/s without a queue, %", ".0f")
_ALONE = Figure("CPU of the queue alone, cores", ".2f")
_READY = Figure("ready after a restart, s", ".1f")
_FILLING = Figure("CPU ms a recipient, accepted and deferred", ".3f")
_QUESTIONS = Figure("DNS questions a message", ".2f")
_CONNECTIONS = Figure("connections a message", ".2f")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two Relays with the same mail to send, one of them beside a queue: what is compared is of the same minutes."""

    empty: Running
    full: Running

    def measure(self, at: int, scale: Scale) -> tuple[list[Run], list[Run]]:
        """Fresh mail to one of the domains for which others wait."""
        fresh = self.empty.warmed(replace(self.empty.load, domain=f"d0.{ZONE}"), seconds=scale.seconds)
        loads = {0: (self.empty, fresh), at: (self.full, replace(fresh, port=self.full.load.port))}
        runs = measure("queue", loads, rounds=scale.rounds)
        return runs[0], runs[at]


def queue(directory: Path, scale: Scale) -> Series:
    """Recipients are accepted, tried, put off, and wait; fresh mail goes by."""
    counts = (1_000, 10_000) if scale.quick else (1_000, 10_000, 100_000, 1_000_000)
    with ExitStack() as stack:
        arriving = stack.enter_context(arrivals(directory / "sink", later=LATER))
        nameserver = stack.enter_context(_nameserver(directory / "dns", domains=QUEUE_DOMAINS))
        empty, full = (
            stack.enter_context(relay(directory / name, arriving, nameserver=nameserver, more=WAITS))
            for name in ("empty", "full")
        )
        pair = Pair(empty, full)
        points: list[Point] = []
        without: list[Run] = []
        for at in counts:
            filling = _fill(full, arriving, at)
            runs_empty, runs_full = pair.measure(at, scale)
            without += runs_empty
            share = share_of(runs_full, runs_empty)
            memory = max(run.largest for run in runs_full)
            figures = {_SHARE: share, LARGEST: memory, _ALONE: median(runs_full, lambda run: run.background)}
            figures |= {_READY: full.restart(), _FILLING: filling}
            points.append(Point(at, usual(runs_full) | figures))
        nothing = {_SHARE: 100.0, LARGEST: max(run.largest for run in without), _ALONE: without[-1].background}
        points.insert(0, Point(0, usual(without) | nothing | {_READY: empty.restart()}))
    return Series("queue", "Recipients that are deferred and wait", "recipients", CPU, points, queue_goals(points[-1]))


def share_of(full: Sequence[Run], empty: Sequence[Run]) -> float:
    """Percent: the messages a second beside a queue, of those without in the same round; the median of the rounds."""
    pairs = zip(full, empty, strict=True)
    return statistics.median(each.delivered / other.delivered for each, other in pairs) * 100


def queue_goals(point: Point) -> list[Goal]:
    beside = f"beside {point.at} deferred recipients"
    return [
        at_least(f"fresh mail {beside}", point.figures[_SHARE], 80, ".0f", "% of that without"),
        at_most(f"RSS of a worker {beside}", point.figures[LARGEST], 300, ".0f", "MB"),
        at_most(f"ready after a restart {beside}", point.figures[_READY], 5, ".1f", "s"),
    ]


def _fill(full: Running, arriving: Arrivals, count: int) -> float:
    """Until so many wait, all of them tried. Milliseconds of CPU a recipient."""
    missing = count - sum(full.queued().values())
    many = arriving.numbered(replace(full.load, messages=missing // PER_MESSAGE, recipients=PER_MESSAGE))
    cpu_before, background, began = full.cpu, full.background(), time.monotonic()
    load(
        replace(many, prefix=LATER, domain=ZONE, domains=QUEUE_DOMAINS, per_domain=PER_DOMAIN),
        within=FILLED_WITHIN,
    )
    while full.queued()["deferred"] < count:
        if time.monotonic() - began > FILLED_WITHIN:
            raise RuntimeError(f"not within {FILLED_WITHIN:g} s: {count} recipients are deferred")
        time.sleep(LOOK_EVERY)
    full.rest()
    took = time.monotonic() - began
    print(f"queue      {count:9}  filled within {took:.0f} s", flush=True)
    return (full.cpu - cpu_before - background * took) / missing * 1000


def sites(directory: Path, scale: Scale) -> Series:
    """Messages go to one site after the other; where there are very many, to each of them once."""
    counts = (1, 10, 100, 1_000) if scale.quick else (1, 10, 100, 1_000, 10_000, 100_000)
    with ExitStack() as stack:
        arriving = stack.enter_context(arrivals(directory / "sink"))
        nameserver = stack.enter_context(_nameserver(directory / "dns", domains=counts[-1]))
        running = stack.enter_context(relay(directory / "relay", arriving, nameserver=nameserver))
        warm = running.warmed(replace(running.load, domain=ZONE, domains=1), seconds=scale.seconds)
        points: list[Point] = []
        for at in counts:
            runs = [
                told("sites", at, running.measure(replace(warm, domains=at, messages=max(at, warm.messages))))
                for _ in range(scale.rounds if at <= warm.messages else 1)
            ]
            memory = max(run.largest for run in runs)
            figures = {
                _CONNECTIONS: median(runs, lambda run: run.connections),
                _QUESTIONS: median(runs, lambda run: run.questions),
                LARGEST: memory,
            }
            points.append(Point(at, usual(runs) | figures))
    return Series("sites", "Sites, in turn", "sites", CPU, points)


@contextmanager
def _nameserver(directory: Path, *, domains: int) -> Iterator[str]:
    directory.mkdir()
    records = [f"d{number} MX 10 h{number}.mx" for number in range(domains)]
    with authoritative(directory, {ZONE: "\n".join([*records, "*.mx A 127.0.0.1"])}) as address:
        yield address
