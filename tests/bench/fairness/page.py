"""bench.fairness.page: the tables of what was measured, and docs/delivery.md, which has them between two marks."""

import re
import time
from collections.abc import Sequence

from tests.bench.fairness.limits import Kept
from tests.bench.fairness.machine import WORKERS, percentile
from tests.bench.fairness.shares import QUEUES, Shared, Waited
from tests.bench.fairness.trouble import Beside
from tests.bench.page import machine
from tests.bench.programs import TOP

PAGE = TOP / "docs" / "delivery.md"
_BEGIN, _END = "<!-- fairness: begin -->", "<!-- fairness: end -->"


def limits(unit: str, measured: Sequence[Kept]) -> str:
    lines = [f"| limit, {unit} | | the most | used |", "|---|---|---|---|"]
    lines += [f"| {each.case.limit} | {each.case.what} | {each.most} | {each.used:.1%} |" for each in measured]
    return "\n".join([*lines, ""])


def waited(measured: dict[str, Waited]) -> str:
    lines = [
        "| a campaign of 200 000 at a site of 50/s | | p50 | p99 | longest |",
        "|---|---|---|---|---|",
    ]
    for what, each in measured.items():
        for name, values in (
            ("mail that comes in, to the site", each.here),
            ("... to another site", each.there),
            ("mail in the middle of the queues, from the start", each.stored),
        ):
            seconds = " | ".join(f"{percentile(values, part):.3f} s" for part in (50, 99, 100))
            lines.append(f"| {what} | {name} | {seconds} |")
        lines.append(f"| {what} | the site took {each.taken:.1f}/s, the largest worker {each.memory:.0f} MB | | | |")
    return "\n".join([*lines, ""])


def shared(measured: dict[str, Shared]) -> str:
    lines = [
        f"| queues of {QUEUES[0]} to {QUEUES[-1]} | messages of each of ten credentials | most off an equal share |",
        "|---|---|---|",
    ]
    lines += [f"| {what} | {', '.join(map(str, each.had))} | {each.deviation:.1%} |" for what, each in measured.items()]
    return "\n".join([*lines, ""])


def beside(measured: Sequence[Beside]) -> str:
    lines = [
        "| ten thousand sites that ... | p50 without, with | p99 without, with | more |",
        "|---|---|---|---|",
    ]
    for each in measured:
        p50, p99 = ([percentile(values, part) * 1e3 for values in (each.without, each.beside)] for part in (50, 99))
        row = f"{p50[0]:.1f}, {p50[1]:.1f} ms | {p99[0]:.1f}, {p99[1]:.1f} ms | {p99[1] / p99[0] - 1:+.0%}"
        lines.append(f"| {each.kind} | {row} |")
    return "\n".join([*lines, ""])


def write(tables: Sequence[str]) -> None:
    """Raises ValueError when the page has no place for them."""
    old = PAGE.read_text(encoding="utf-8")
    told = f"`python -m tests.bench.fairness`, {time.strftime('%d %B %Y')}: {machine()}. {WORKERS} workers."
    block = "\n".join([_BEGIN, told, "", *tables]) + _END
    new, places = re.subn(f"{_BEGIN}.*?{_END}", lambda _: block, old, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"{PAGE} has {places} places between {_BEGIN} and {_END}")
    PAGE.write_text(new, encoding="utf-8")
