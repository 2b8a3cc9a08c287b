"""bench.page: docs/performance.md, which has the last measured figures between marks, and their plots beside it.

All else on the page is written by hand. A short benchmark compares its ratios with those on the page.
"""

import platform
import re
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.bench import relay_server
from tests.bench.programs import TOP
from tests.bench.server import Server

PAGE = TOP / "docs" / "performance.md"


@dataclass(frozen=True, slots=True)
class Place:
    """Where figures stand on the page. image: how the file name of their plot goes on after the page's."""

    name: str
    image: str
    caption: str

    @property
    def marks(self) -> tuple[str, str]:
        return f"<!-- {self.name}: begin -->", f"<!-- {self.name}: end -->"


BENCH = Place("bench", ".svg", "Messages per second, of each server at each work")
GROWTH = Place("growth", "-growth.svg", "What a message costs as one thing grows")


def write(page: Path, place: Place, *, text: str, plot: str) -> None:
    """Put both in place of the last ones. Raises ValueError when the page has no place for the text."""
    old = page.read_text(encoding="utf-8")
    image = page.with_name(page.stem + place.image)
    begin, end = place.marks
    block = f"{begin}\n{text}\n![{place.caption}]({image.name})\n{end}"
    new, places = re.subn(f"{begin}.*?{end}", lambda _: block, old, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"{page} has {places} places between {begin} and {end}")
    image.write_text(plot, encoding="utf-8")
    page.write_text(new, encoding="utf-8")


def last_ratio(page: str, *, what: str, peer: str) -> float | None:
    """How many times the peer's messages per second Relay did at this work, by the page's table; None if it does not
    have both.
    """
    theirs, ours = (_last_delivered(page, what, server) for server in (peer, relay_server.NAME))
    return ours / theirs if ours and theirs else None


def _last_delivered(page: str, what: str, server: str) -> float | None:
    row = re.search(rf"^\| {re.escape(what)} \| {re.escape(server)} \| ([\d.]+)", page, re.MULTILINE)
    return float(row[1]) if row else None


def circumstances(servers: Sequence[Server], *, workers: int, command: Sequence[str], signatures: int) -> str:
    """What was measured where and how, in a paragraph."""
    arguments = f' ARGS="{" ".join(command)}"' if command else ""
    software = ", ".join(dict.fromkeys(each for server in servers for each in server.software))
    return (
        f"`make bench{arguments}`, {time.strftime('%d %B %Y')}: {machine()}. Relay with {workers} workers on {ours()};"
        f" {software}. Every message arrived once; {signatures} signatures of a sample are valid.\n"
    )


def ours() -> str:
    """What Relay runs on here, with versions."""
    return f"Python {platform.python_version()}, uvloop {version('uvloop')}, SQLite {sqlite3.sqlite_version}"


def machine() -> str:
    """Cores, memory and kernel, in a phrase."""
    cpus = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    kibibytes = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    memory = int(kibibytes[1]) / 1024 / 1024 if kibibytes else 0
    return f"{len(cpus)} × {cpus[0] if cpus else platform.machine()}, {memory:.0f} GB, Linux {platform.release()}"
