"""cli.dry_run_plot: a dry run as an SVG: delivered messages and connections over time, a line for each provider.

On white whatever the page's colour is. Nothing in it depends on fonts, scripts or style sheets of the reader.
"""

from collections.abc import Callable, Iterator, Sequence
from html import escape
from typing import TYPE_CHECKING

from relay.cli import printing

if TYPE_CHECKING:
    from relay.dryrun.result import Outcome, Result, Sample

WIDTH, HEIGHT, LEFT, RIGHT, HEADING, GAP = 860, 170, 60, 150, 34, 40  # pixels: of all, of one plot, beside and above it
POINTS = 400  # of a line, at most
COLOURS = ("#1a6fb5", "#c0392b", "#6c3483", "#1e8449", "#b9770e", "#555555")


def svg(result: "Result") -> str:
    seconds = max(result.finished, 1.0)
    height = 2 * (HEADING + HEIGHT + GAP)
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    lines = [
        f'<svg {box} font-family="sans-serif" font-size="13">',
        "<title>A dry run: messages delivered and connections over time</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    outcomes = result.outcomes
    most = max(1.0, *(each.peak / each.sites for each in outcomes))
    shares = "messages that ended, share of each provider's"
    lines += _panel(outcomes, shares, _ended, top=HEADING, most=1.0, seconds=seconds, axis="{:.0%}")
    top = 2 * HEADING + HEIGHT + GAP
    lines += _panel(
        outcomes,
        "connections at once, to each host of a provider",
        _connections,
        top=top,
        most=most,
        seconds=seconds,
        axis="{:.3g}",
    )
    return "\n".join([*lines, "</svg>", ""])


def _ended(outcome: "Outcome", sample: "Sample") -> float:
    return (sample.delivered + sample.failed) / max(1, outcome.messages)


def _connections(outcome: "Outcome", sample: "Sample") -> float:
    return sample.connections / outcome.sites


def _panel(
    outcomes: Sequence["Outcome"],
    title: str,
    value: Callable[["Outcome", "Sample"], float],
    *,
    top: int,
    most: float,
    seconds: float,
    axis: str,
) -> Iterator[str]:
    bottom, right = top + HEIGHT, WIDTH - RIGHT
    yield f'<text x="{LEFT}" y="{top - 12}" font-weight="bold">{escape(title)}</text>'
    for part in (0.0, 0.5, 1.0):
        y, x = bottom - part * HEIGHT, LEFT + part * (right - LEFT)
        yield f'<path d="M{LEFT} {y:.1f}H{right}" stroke="#dddddd"/>'
        yield f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{axis.format(part * most)}</text>'
        yield f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{printing.span(part * seconds)}</text>'
    for number, outcome in enumerate(outcomes):
        colour = COLOURS[number % len(COLOURS)]
        points = [(each.at, value(outcome, each)) for each in _thinned(outcome.samples)]
        points.append((max(seconds, points[-1][0]), points[-1][1]))
        path = _steps([(LEFT + at / seconds * (right - LEFT), bottom - level / most * HEIGHT) for at, level in points])
        yield f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        y = top + 14 + 18 * number
        yield f'<text x="{right + 14}" y="{y}" fill="{colour}">{escape(outcome.provider)}</text>'


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """A value holds until the next: a run that stands still is level."""
    (x, y), *others = points
    return f"M{x:.1f} {y:.1f}" + "".join(f"H{x:.1f}V{y:.1f}" for x, y in others)


def _thinned(samples: Sequence["Sample"]) -> Sequence["Sample"]:
    """Every so many of them, and the last."""
    stride = -(-len(samples) // POINTS)
    return [*samples[:-1:stride], samples[-1]]
