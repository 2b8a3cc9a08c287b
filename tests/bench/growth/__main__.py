"""bench.growth: what a message costs Relay as one thing grows and all else stays as it is. `make growth` runs it.

    make growth                         all series, about 25 minutes; writes docs/performance.md
    make growth ARGS=--quick            smaller ones, about 3 minutes; writes nothing
    make growth ARGS="--only queue"     one of them, in full; --only may be given again

Everything is as by default, real, and durable before its 250. Messages are counted at the sink: each has arrived once,
or the exit code is 1.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench import page
from tests.bench.growth import curves, far, plain, tables
from tests.bench.growth.rounds import FULL, QUICK, Scale
from tests.bench.growth.series import Series
from tests.bench.growth.switchboard import switchboard
from tests.bench.measuring import WrongResult

Measure = Callable[[Path, Scale], Series]
SERIES: dict[str, Measure] = {
    "queue": far.queue,
    "sites": far.sites,
    "recipients": plain.recipients,
    "size": plain.size,
    "sessions": plain.sessions,
    "workers": plain.workers,
    "switchboard": switchboard,
}


def main() -> int:
    asked = _arguments()
    try:
        measured = [_measure(name, asked.scale) for name in asked.only]
    except (WrongResult, RuntimeError) as error:
        print(f"growth: {error}", file=sys.stderr)
        return 1
    text = tables.text(measured)
    print(f"\n{text}")
    if asked.page:
        told = f"{circumstances(sys.argv[1:], rounds=asked.scale.rounds)}\n{text}"
        page.write(asked.page, page.GROWTH, text=told, plot=curves.svg(measured))
    return 0


def circumstances(arguments: list[str], *, rounds: int) -> str:
    """What was measured where and how, in a paragraph."""
    runs = f"Medians of {rounds} runs" if rounds > 1 else "One run of each point"
    command = f'make growth ARGS="{" ".join(arguments)}"' if arguments else "make growth"
    return (
        f"`{command}`, {time.strftime('%d %B %Y')}: {page.machine()}. {page.ours()}. 4 KB messages, 20 sessions on the"
        f" trusted listener, two workers, unless it is that which grows. Every message arrived once. {runs};"
        " queues and sites by DNS, the others by a route.\n"
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make growth ARGS=...")
    parser.add_argument("--only", action="append", choices=SERIES, help="may be given again; default: all")
    parser.add_argument("--quick", dest="scale", action="store_const", const=QUICK, default=FULL, help="smaller")
    parser.add_argument("--page", type=Path, help="to write; default: docs/performance.md, if all is measured in full")
    asked = parser.parse_args()
    if asked.scale is FULL and not asked.only and not asked.page:
        asked.page = page.PAGE
    if asked.page and not asked.page.is_file():
        parser.error(f"--page {asked.page}: there is no such file; make it a copy of docs/performance.md")
    asked.only = asked.only or list(SERIES)
    return asked


def _measure(name: str, scale: Scale) -> Series:
    # Below /var/tmp, which is on a disk; /tmp may be in memory, where an fsync costs nothing.
    with tempfile.TemporaryDirectory(prefix="relay-growth-", dir="/var/tmp") as directory:
        return SERIES[name](Path(directory), scale)


if __name__ == "__main__":
    sys.exit(main())
