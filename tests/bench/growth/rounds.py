"""bench.growth.rounds: several loads, in turn, so that none has the machine's good minutes for itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from tests.bench.growth.relay import Run, Running
from tests.bench.programs import Load


@dataclass(frozen=True, slots=True)
class Scale:
    """quick: fewer and smaller points. seconds: of a run. rounds: runs of each point."""

    quick: bool
    seconds: float
    rounds: int


FULL = Scale(quick=False, seconds=4.0, rounds=3)
QUICK = Scale(quick=True, seconds=1.0, rounds=1)


def measure(series: str, loads: Mapping[int, tuple[Running, Load]], *, rounds: int) -> dict[int, list[Run]]:
    """The runs of each point; the loads are warmed up."""
    runs: dict[int, list[Run]] = {at: [] for at in loads}
    for _ in range(rounds):
        for at, (running, load) in loads.items():
            runs[at].append(told(series, at, running.measure(load)))
    return runs


def told(series: str, at: int, run: Run) -> Run:
    """The run; what it took is printed."""
    print(
        f"{series:11}{at:9}{run.messages:8} messages {run.delivered:8.1f}/s {run.cpu:8.3f} ms CPU each"
        f"  p99 {run.p99:7.1f} ms  PSS {run.memory:4.0f} MB  largest worker {run.largest:4.0f} MB"
        f"  {run.background:.2f} cores without it",
        flush=True,
    )
    return run
