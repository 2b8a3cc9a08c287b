"""bench.report: what was measured as a table, and docs/performance.md with the last one.

Of several runs the median, and in brackets the lowest and the highest. The page's other sections are written by hand.
"""

import platform
import re
import sqlite3
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from tests.bench.measuring import Run, Work
from tests.bench.postfix_server import versions
from tests.bench.programs import TOP

PAGE = TOP / "docs" / "performance.md"
_BEGIN, _END = "<!-- bench: begin -->", "<!-- bench: end -->"
_HEAD = (
    "| work | server | messages/s to the sink | CPU s per 1000 | dot → 250: p50 ms | p99 ms | PSS MB |\n"
    "|---|---|---|---|---|---|---|\n"
)


def table(works: Sequence[Work], runs: Sequence[Run]) -> str:
    return _HEAD + "".join(_rows(work, [run for run in runs if run.work == work.name]) for work in works)


def _rows(work: Work, runs: Sequence[Run]) -> str:
    servers = list(dict.fromkeys(run.server for run in runs))
    rows = "".join(_row(work.what, server, [run for run in runs if run.server == server]) for server in servers)
    if len(servers) == 2:
        peer, ours = ([run for run in runs if run.server == server] for server in servers)
        rows += (
            f"| | **ratio** | **{_median(ours, _delivered) / _median(peer, _delivered):.1f} ×**"
            f" | **1/{_median(peer, _cpu) / _median(ours, _cpu):.1f}** | | | |\n"
        )
    return rows


def _row(what: str, server: str, runs: Sequence[Run]) -> str:
    cells = [
        _spread(runs, _delivered, ".0f"),
        _spread(runs, _cpu, ".2f"),
        _spread(runs, lambda run: run.p50, ".1f"),
        _spread(runs, lambda run: run.p99, ".1f"),
        f"{max(run.memory for run in runs):.0f}",
    ]
    return f"| {what} | {server} | {' | '.join(cells)} |\n"


def _delivered(run: Run) -> float:
    return run.delivered


def _cpu(run: Run) -> float:
    return run.cpu


def _median(runs: Sequence[Run], of: Callable[[Run], float]) -> float:
    return statistics.median(map(of, runs))


def _spread(runs: Sequence[Run], of: Callable[[Run], float], form: str) -> str:
    values = [of(run) for run in runs]
    middle = format(statistics.median(values), form)
    return f"{middle} [{min(values):{form}}-{max(values):{form}}]" if len(values) > 1 else middle


def write(result: str, *, workers: int, command: Sequence[str], signatures: int) -> None:
    """Put it into the page, in place of the last one."""
    arguments = f' ARGS="{" ".join(command)}"' if command else ""
    text = (
        f"{_BEGIN}\n`make bench{arguments}`, {time.strftime('%d %B %Y')}: {_machine()}. {_software()};"
        f" Relay with {workers} workers. Every message arrived once; {signatures} signatures of a sample are valid."
        f"\n\n{result}{_END}"
    )
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(re.sub(f"{_BEGIN}.*?{_END}", lambda _: text, page, flags=re.DOTALL), encoding="utf-8")


def _machine() -> str:
    cpus = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    kibibytes = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    memory = int(kibibytes[1]) / 1024 / 1024 if kibibytes else 0
    return f"{len(cpus)} × {cpus[0] if cpus else platform.machine()}, {memory:.0f} GB, Linux {platform.release()}"


def _software() -> str:
    ours = f"Python {platform.python_version()}, uvloop {version('uvloop')}, SQLite {sqlite3.sqlite_version}"
    return f"{ours}; {versions()}"
