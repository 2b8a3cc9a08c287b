"""bench.report: what was measured, and which goals it reaches, as tables.

Of several runs the median, and in brackets the lowest and the highest; a ratio is one of medians.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence

from tests.bench import relay_server
from tests.bench.measuring import Run
from tests.bench.works import Work

_HEAD = (
    "| work | server | messages/s to the sink | CPU s per 1000 | dot → 250: p50 ms | p99 ms | peak PSS MB"
    " | loader and sink, cores |\n|---|---|---|---|---|---|---|---|\n"
)
_GOALS_HEAD = "| work | Relay's goal | measured | reached |\n|---|---|---|---|\n"


def table(works: Sequence[Work], runs: Sequence[Run]) -> str:
    """A row for each work and server, then one for the ratio to each peer."""
    return _HEAD + "".join(row for work in works for row in _rows(work, of_work(work, runs)))


def goals(works: Sequence[Work], runs: Sequence[Run]) -> str:
    """A row for each goal of what was measured."""
    return _GOALS_HEAD + "".join(row for work in works for row in _goal_rows(work, of_work(work, runs)))


def of_work(work: Work, runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Its runs by server, in the order in which they ran."""
    servers = dict.fromkeys(run.server for run in runs if run.work == work.name)
    return {server: [run for run in runs if (run.work, run.server) == (work.name, server)] for server in servers}


def ratio(by_server: dict[str, list[Run]], peer: str) -> float:
    """How many times the peer's messages per second Relay did."""
    return delivered(by_server[relay_server.NAME]) / delivered(by_server[peer])


def delivered(runs: Sequence[Run]) -> float:
    """Messages per second."""
    return statistics.median(run.delivered for run in runs)


def _rows(work: Work, by_server: dict[str, list[Run]]) -> Iterator[str]:
    for server, runs in by_server.items():
        yield _row(work.what, server, runs)
    for peer in _peers(by_server):
        cpu = _cpu(by_server[peer]) / _cpu(by_server[relay_server.NAME])
        yield f"| | **ratio to {peer}** | **{ratio(by_server, peer):.1f} ×** | **1/{cpu:.1f}** | | | | |\n"


def _row(what: str, server: str, runs: Sequence[Run]) -> str:
    cells = [
        _spread(runs, lambda run: run.delivered, ".0f"),
        _spread(runs, lambda run: run.cpu, ".2f"),
        _spread(runs, lambda run: run.p50, ".1f"),
        _spread(runs, lambda run: run.p99, ".1f"),
        _spread(runs, lambda run: run.memory, ".0f"),
        _spread(runs, lambda run: run.others, ".2f"),
    ]
    return f"| {what} | {server} | {' | '.join(cells)} |\n"


def _goal_rows(work: Work, by_server: dict[str, list[Run]]) -> Iterator[str]:
    for peer in _peers(by_server):
        if work.peers[peer]:
            measured = ratio(by_server, peer)
            goal = f"at least {work.peers[peer]:g} × the messages/s of {peer}"
            yield _goal_row(work, goal, f"{measured:.1f} ×", reached=measured >= work.peers[peer])
    ours = by_server[relay_server.NAME]
    if work.cpu:
        yield _goal_row(
            work, f"at most {work.cpu:.2f} s CPU per 1000", f"{_cpu(ours):.2f} s", reached=_cpu(ours) <= work.cpu
        )
    if work.p99:
        yield _goal_row(work, f"p99 at most {work.p99:g} ms", f"{_p99(ours):.1f} ms", reached=_p99(ours) <= work.p99)


def _goal_row(work: Work, goal: str, measured: str, *, reached: bool) -> str:
    return f"| {work.what} | {goal} | {measured} | {'yes' if reached else '**no**'} |\n"


def _peers(by_server: dict[str, list[Run]]) -> list[str]:
    return [server for server in by_server if server != relay_server.NAME]


def _cpu(runs: Sequence[Run]) -> float:
    return statistics.median(run.cpu for run in runs)


def _p99(runs: Sequence[Run]) -> float:
    return statistics.median(run.p99 for run in runs)


def _spread(runs: Sequence[Run], of: Callable[[Run], float], form: str) -> str:
    values = [of(run) for run in runs]
    middle = format(statistics.median(values), form)
    return f"{middle} [{min(values):{form}}-{max(values):{form}}]" if len(values) > 1 else middle
