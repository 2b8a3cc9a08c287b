"""bench.processes: what a server's processes cost, all of them together, and who listens where. From /proc.

CPU is what the living processes of the tree used, and what their dead children used whom they have waited for: no
process of a server is missed, as long as its parent is still in the tree.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_LISTEN = "0A"


def tree(root: int) -> list[int]:
    """The process and all its descendants."""
    children: dict[int, list[int]] = {}
    for pid in _pids():
        fields = _stat(pid)
        if fields:
            children.setdefault(int(fields[1]), []).append(pid)
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def cpu_seconds(root: int) -> float:
    """Of the tree, since it began."""
    return sum(sum(map(int, fields[11:15])) for fields in map(_stat, tree(root)) if fields) / _TICKS


def cpu_seconds_of(pid: int) -> float:
    """Of one process."""
    return sum(map(int, _stat(pid)[11:13])) / _TICKS


def pss(root: int) -> float:
    """Megabytes: shared pages are divided by those who share them."""
    return sum(_rollup(pid, "Pss") for pid in tree(root)) / 1024


def rss(pid: int) -> float:
    """Megabytes of one process."""
    return _rollup(pid, "Rss") / 1024


def written(root: int) -> int:
    """Octets that the tree had the disk write, since its processes began."""
    return sum(_written(pid) for pid in tree(root))


def listeners(ports: Iterable[int]) -> list[int]:
    """Those of the ports on which somebody listens, on whatever address."""
    lines = [line.split() for name in ("tcp", "tcp6") for line in (PROC / "net" / name).read_text().splitlines()[1:]]
    listening = {int(line[1].rpartition(":")[2], 16) for line in lines if line[3] == _LISTEN}
    return sorted(listening & set(ports))


def _pids() -> list[int]:
    return [int(path.name) for path in PROC.iterdir() if path.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """proc(5): the fields from the state on; [] if it has ended."""
    try:
        return (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def _written(pid: int) -> int:
    """proc(5): write_bytes; 0 if it has ended."""
    try:
        text = (PROC / str(pid) / "io").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(r"^write_bytes: (\d+)", text, re.MULTILINE)
    return int(found[1]) if found else 0


def _rollup(pid: int, name: str) -> int:
    try:
        text = (PROC / str(pid) / "smaps_rollup").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) if found else 0
