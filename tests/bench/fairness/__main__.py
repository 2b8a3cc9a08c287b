"""bench.fairness: whether four workers together keep a site's limits and use them, and who waits for whom.

    python -m tests.bench.fairness                    all, about 15 minutes; writes docs/delivery.md
    python -m tests.bench.fairness --seconds 5        shorter; prints the tables only
    python -m tests.bench.fairness --only shares      one of them: limits, shares, trouble; may be given again

What is measured, and how, each module says: limits, shares, trouble. Servers are on loopback; queues are on disk.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.bench.fairness import limits, page, shares, trouble

T = TypeVar("T")

SECONDS = 10.0
ONE_SESSION_EACH = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)  # the worker to which each of ten credentials has it


def _below(measure: Callable[[Path], T]) -> T:
    # Below /var/tmp, which is on a disk; /tmp may be in memory, where an fsync costs nothing.
    with tempfile.TemporaryDirectory(prefix="relay-fairness-", dir="/var/tmp") as directory:
        return measure(Path(directory))


def _limits(seconds: float) -> Sequence[str]:
    connections = [_below(lambda at, case=case: limits.connections(at, case, seconds)) for case in limits.CASES]  # type: ignore[misc]
    rates = [_below(lambda at, case=case: limits.rate(at, case, seconds)) for case in limits.RATES]  # type: ignore[misc]
    return page.limits("connections", connections), page.limits("messages in any second", rates)


def _shares(seconds: float) -> Sequence[str]:
    def waiting(*, is_paced: bool, times: float) -> shares.Waited:
        return _below(lambda at: shares.waiting(at, count=shares.CAMPAIGN, seconds=times * seconds, is_paced=is_paced))

    def ten(at: Sequence[Sequence[int]]) -> shares.Shared:
        return _below(lambda directory: shares.ten(directory, at=at, seconds=4 * seconds))

    waited = {
        "Relay paces": waiting(is_paced=True, times=12),
        "the server takes its time": waiting(is_paced=False, times=4),
    }
    spread = {
        "a part at every worker": ten([range(4)] * len(shares.QUEUES)),
        "each at one worker": ten([[worker] for worker in ONE_SESSION_EACH]),
    }
    return page.waited(waited), page.shared(spread)


def _trouble(seconds: float) -> Sequence[str]:
    measured = [
        _below(lambda at, kind=kind: trouble.measure(at, kind, seconds=1.5 * seconds))  # type: ignore[misc]
        for kind in trouble.KINDS
    ]
    return (page.beside(measured),)


PARTS = {"limits": _limits, "shares": _shares, "trouble": _trouble}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.fairness", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of a case of limits; default: %(default)s")
    parser.add_argument("--only", action="append", choices=PARTS, help="may be given again; default: all")
    asked = parser.parse_args()
    tables: list[str] = []
    for name in asked.only or PARTS:
        for table in PARTS[name](asked.seconds):
            sys.stdout.write(f"{table}\n")
            sys.stdout.flush()
            tables.append(table)
    if asked.seconds == SECONDS and not asked.only:
        page.write(tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
