"""cli.top: `relay top`: the receiving sites as they are now, again and again: queue, rates, deferrals, connections.

It asks the server and counts the queue once a second; less often where there is so much to tell that this would take
more than a twentieth of the time, so that looking costs the server next to nothing. Where no server runs it shows the
queue alone, by domain.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated

import typer

from relay.cli import invocation, options, printing
from relay.cli.invocation import Invocation
from relay.cli.top_looks import Frame, Row, Sort, frame, look
from relay.errors import UsageError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

SHARE = 20  # a look is begun when so many times what the last one took has passed
_HEAD = 3  # lines above the first site
_COLUMNS = ("site", "state", "queued", "oldest", "delivered/s", "deferred", "failed/s", "connections", "last error")
_NUMBERS = frozenset({"queued", "oldest", "delivered/s", "deferred", "failed/s", "connections"})


def top(
    context: typer.Context,
    *,
    every: Annotated[float, typer.Option("--every", min=0.1, metavar="SECONDS", help="Between two looks.")] = 1.0,
    sort: Annotated[Sort, typer.Option("--sort", help="What the sites are put in order by.")] = Sort.QUEUED,
    once: Annotated[bool, typer.Option("--once", help="Print one frame, with the rates of --every seconds.")] = False,
    limit: options.Limit = 1000,
    as_json: options.Json = False,
) -> None:
    """Sites live: queue, oldest, rates, deferrals, connections. "s" sorts otherwise, "q" ends it."""
    here = invocation.of(context)
    if once or as_json:
        _print_once(here, every=every, sort=sort, limit=limit, as_json=as_json)
        return
    if not sys.stdout.isatty():
        raise UsageError("relay top needs a terminal to draw on", remedy="Print one frame: relay top --once")
    with suppress(KeyboardInterrupt):  # ^C ends it as "q" does
        _watch(here, every=every, sort=sort, limit=limit)


def _print_once(here: Invocation, *, every: float, sort: Sort, limit: int, as_json: bool) -> None:
    before = after = look(here)
    if before.owners:
        time.sleep(every)
        after = look(here)
    shown = frame(before, after, sort=sort)
    if as_json:
        printing.as_json(shown.as_value(limit=limit))
        return
    printing.line(_summary(shown))
    printing.line()
    rows = (_cells(row, shown) for row in shown.rows[:limit])
    printing.table(_COLUMNS, rows, empty="Nothing waits, and nothing is sent.")
    if len(shown.rows) > limit:
        printing.note(f"{len(shown.rows) - limit} more; see them with --limit {len(shown.rows)}")


# Live.


def _watch(here: Invocation, *, every: float, sort: Sort, limit: int) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console(markup=False, highlight=False, emoji=False)
    before = after = look(here)
    due = time.monotonic() + every
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_picture(frame(before, after, sort=sort), console, sort=sort, limit=limit), refresh=True)
            key = keys(max(0.0, due - time.monotonic()))
            if key == "q":
                return
            if key == "s":
                sort = _next(sort)
            elif not key:
                began = time.monotonic()
                before, after = after, look(here)
                due = began + max(every, SHARE * (time.monotonic() - began))


def _next(sort: Sort) -> Sort:
    orders = list(Sort)
    return orders[(orders.index(sort) + 1) % len(orders)]


@contextmanager
def _keys() -> "Iterator[KeyReader]":
    """Keys as they are pressed, while the terminal is ours; none where standard input is no terminal."""
    import termios
    import tty

    if not sys.stdin.isatty():
        yield KeyReader(None)
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    tty.setcbreak(descriptor)
    try:
        yield KeyReader(descriptor)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


class KeyReader:
    """descriptor: of the terminal, None for none."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def __call__(self, seconds: float) -> str:
        """The next key within so many seconds, "" for none."""
        import os
        import select

        if self._descriptor is None:
            time.sleep(seconds)
            return ""
        ready, _, _ = select.select([self._descriptor], [], [], seconds)
        return os.read(self._descriptor, 1).decode("ascii", "replace") if ready else ""


def _picture(shown: Frame, console: "Console", *, sort: Sort, limit: int) -> "RenderableType":
    """What fits the terminal: the first sites, on one line each."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
    for column in _COLUMNS:
        table.add_column(
            column,
            no_wrap=True,
            overflow="ellipsis",
            justify="right" if column in _NUMBERS else "left",
            ratio=1 if column == "last error" else None,
        )
    room = max(1, min(limit, console.height - _HEAD))
    for row in shown.rows[:room]:
        table.add_row(*(Text(printing.safe(str(cell))) for cell in _cells(row, shown)))
    keys = f"sorted by {sort.value}; s sorts otherwise, q ends"
    lines = [f"relay top  {printing.when(shown.at)}  {keys}", _summary(shown)]
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines), table)


def _summary(shown: Frame) -> str:
    total = shown.total
    queued = f"{printing.count(total.queued, 'recipient')} queued for {printing.count(len(shown.rows), 'site')}"
    if shown.server == "stopped":
        return f"no server runs: {printing.count(total.queued, 'recipient')} queued, by domain"
    rates = f"delivered {total.delivered:.1f}/s, deferred {total.deferred:.1f}/s, failed {total.failed:.1f}/s"
    return f"{shown.server}: {queued}; {rates}; {printing.count(total.connections, 'connection')}"


def _cells(row: Row, shown: Frame) -> tuple[object, ...]:
    is_told = shown.server != "stopped"
    tried = row.delivered + row.deferred + row.failed
    return (
        row.site or "(sites not asked for lately)",
        row.state.replace("_", " ") if is_told else "",
        row.queued,
        printing.span(row.oldest) if row.queued else "",
        f"{row.delivered:.1f}" if is_told else "",
        f"{row.deferred_share:.0%}" if tried else "",
        f"{row.failed:.1f}" if is_told else "",
        row.connections if is_told else "",
        row.last_error,
    )
