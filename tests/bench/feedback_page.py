"""bench.feedback_page: the table and the plot of `feedback`, and docs/delivery.md, which has both between two marks."""

import re
import time
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from itertools import groupby
from typing import TYPE_CHECKING

from tests.bench.page import machine
from tests.bench.programs import TOP

if TYPE_CHECKING:
    from tests.bench.feedback import Case, Phase

PAGE = TOP / "docs" / "delivery.md"
_BEGIN, _END = "<!-- feedback: begin -->", "<!-- feedback: end -->"
WIDTH, HEIGHT, LEFT, TOP_OF_PLOT, GAP = 860, 110, 50, 28, 22  # pixels: of all; of one case; of what is beside it
MOST = 12  # connections that a plot has room for
OURS, LIMIT = "#1a6fb5", "#c0392b"


def table(phases: Sequence["Phase"]) -> str:
    lines = [
        "| the server refuses with | takes | refused | deferred | throughput | connections, mean |",
        "|---|---|---|---|---|---|",
    ]
    for case, its in _by_case(phases):
        before = 0
        for phase in its:
            lines.append(_row(case, phase, before=before))
            before = phase.limit
    return "\n".join([*lines, ""])


def _row(case: "Case", phase: "Phase", *, before: int) -> str:
    unit = "messages/s" if case.is_rate else "sessions"
    takes = f"{before} → {phase.limit} {unit}" if before else f"{phase.limit} {unit}"
    mean = sum(phase.open) / max(1, len(phase.open))
    shares = (phase.refused_share, phase.deferred_share, phase.throughput)
    return f"| {case.what} | {takes} | " + " | ".join(f"{share:.1%}" for share in shares) + f" | {mean:.1f} |"


def write(phases: Sequence["Phase"]) -> None:
    """Raises ValueError when the page has no place for it."""
    old = PAGE.read_text(encoding="utf-8")
    seconds = round(phases[0].seconds)
    told = f"`python -m tests.bench.feedback`, {time.strftime('%d %B %Y')}: {machine()}. Phases of {seconds} s."
    image = PAGE.with_suffix(".svg")
    block = f"{_BEGIN}\n{told}\n\n{table(phases)}\n![Connections over time, of each case]({image.name})\n{_END}"
    new, places = re.subn(f"{_BEGIN}.*?{_END}", lambda _: block, old, flags=re.DOTALL)
    if places != 1:
        raise ValueError(f"{PAGE} has {places} places between {_BEGIN} and {_END}")
    image.write_text(svg(phases), encoding="utf-8")
    PAGE.write_text(new, encoding="utf-8")


def svg(phases: Sequence["Phase"]) -> str:
    """Connections over time, a curve for each case; the server's limit beside it where it is one of sessions."""
    cases = list(_by_case(phases))
    height = TOP_OF_PLOT + len(cases) * (HEIGHT + GAP + TOP_OF_PLOT)
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    lines = [
        f'<svg {box} font-family="sans-serif" font-size="13">',
        "<title>Connections over time</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    top = TOP_OF_PLOT
    for case, its in cases:
        lines += _curve(case, its, top)
        top += HEIGHT + GAP + TOP_OF_PLOT
    return "\n".join([*lines, "</svg>", ""])


def _curve(case: "Case", phases: Sequence["Phase"], top: int) -> Iterator[str]:
    bottom = top + HEIGHT
    yield f'<text x="{LEFT}" y="{top - 8}" font-weight="bold">{escape(case.what)}</text>'
    for number in (0, MOST // 2, MOST):
        y = _y(number, bottom)
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{number}</text>'
        yield f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="#dddddd"/>'
    looks = sum(len(phase.open) for phase in phases)
    per_look = (WIDTH - 10 - LEFT) / max(1, looks)
    connections = [number for phase in phases for number in phase.open]
    points = " ".join(f"{LEFT + i * per_look:.1f},{_y(number, bottom):.1f}" for i, number in enumerate(connections))
    x = float(LEFT)
    for phase in phases:
        width = len(phase.open) * per_look
        if not case.is_rate:
            line = f"M{x:.1f} {_y(phase.limit, bottom):.1f}h{width:.1f}"
            yield f'<path d="{line}" stroke="{LIMIT}" stroke-dasharray="4 3"/>'
        yield f'<text x="{x + 4:.1f}" y="{bottom + 16}">{phase.limit} allowed, {phase.seconds:.0f} s</text>'
        x += width
    yield f'<polyline points="{points}" fill="none" stroke="{OURS}"/>'


def _y(number: float, bottom: int) -> float:
    return bottom - min(number, MOST) * HEIGHT / MOST


def _by_case(phases: Iterable["Phase"]) -> Iterator[tuple["Case", list["Phase"]]]:
    for case, its in groupby(phases, key=lambda phase: phase.case):
        yield case, list(its)
