r"""cli.printing: everything a command writes: tables and lines for people, JSON for programs, errors.

Text is escaped before it reaches a terminal, because much of it comes from peers: control characters, escape sequences
and marks that turn text round become \\xNN or \\uNNNN. JSON is ASCII, so nothing in it can act on a terminal either.
Results go to standard output, notes and errors to standard error. Into a pipe or a file, lines are never cut.
"""

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
_PIPE_WIDTH = 100_000  # columns where nobody looks at a screen


def safe(text: str) -> str:
    """One line that does nothing to a terminal."""
    return text if text.isascii() and text.isprintable() else _UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def as_json(value: object) -> None:
    print(json.dumps(value, indent=2))


def line(text: str = "") -> None:
    print(safe(text))


def block(text: str) -> None:
    """Text in several lines, such as settings to paste or a header. A tab is only white space, and shown as such."""
    for each in text.splitlines():
        line(each.expandtabs())


def note(text: str) -> None:
    """Something beside the result: a warning, a hint."""
    print(safe(text), file=sys.stderr)


def error(text: str, *, remedy: str, exit_code: int, as_json: bool) -> None:
    """The last thing a failing command says."""
    if as_json:
        print(json.dumps({"error": text, "remedy": remedy, "exit_code": exit_code}, indent=2), file=sys.stderr)
        return
    first, *more = text.splitlines() or [""]
    print(f"relay: {safe(first)}", file=sys.stderr)
    for each in [*more, *remedy.splitlines()]:
        print(f"  {safe(each)}", file=sys.stderr)


def facts(pairs: Iterable[tuple[str, object]]) -> None:
    """Names and values under each other; empty values are left out."""
    shown = [(name, str(value)) for name, value in pairs if value not in ("", None)]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        line(f"{name:<{width}}  {value}")


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """empty: what is said when there are no rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    content = [[safe(str(cell)) for cell in row] for row in rows]
    if not content:
        line(empty)
        return
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in content:
        grid.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH, markup=False, highlight=False, emoji=False)
    with console.capture() as captured:
        console.print(grid)
    print("\n".join(row.rstrip() for row in captured.get().splitlines()))


# Values as people read them, and as programs do.


def when(seconds: float) -> str:
    """POSIX seconds for people: "2026-11-20 16:39:04Z"; "" for 0."""
    return time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime(seconds)) if seconds else ""


def moment(seconds: float) -> str:
    """As `when`, so that what happened within a second can be told apart: "2026-11-20 16:39:04.750Z"."""
    return (iso(seconds) or "").replace("T", " ")


def iso(seconds: float) -> str | None:
    """POSIX seconds for programs: "2026-11-20T16:39:04.750Z"; null for 0."""
    if not seconds:
        return None
    milliseconds = int(seconds * 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(milliseconds // 1000)) + f".{milliseconds % 1000:03d}Z"


def span(seconds: float) -> str:
    """A length of time in its two largest units: "3 d 4 h", "12 min", "0.4 s"."""
    if seconds < 10:
        return f"{max(seconds, 0.0):.1f} s"
    left, parts = int(seconds), list[str]()
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def size(octets: float) -> str:
    """Octets in the largest fitting unit: "25.0 MiB"."""
    for unit in ("octets", "KiB", "MiB", "GiB"):
        if octets < 1024:
            return f"{octets:.0f} {unit}" if unit == "octets" else f"{octets:.1f} {unit}"
        octets /= 1024
    return f"{octets:.1f} TiB"


def count(number: int, noun: str, nouns: str = "") -> str:
    """A number and its noun: "1 recipient", "3 recipients"."""
    return f"{number} {noun if number == 1 else nouns or noun + 's'}"
