"""bench.growth.curves: each series as a small plot, all in one SVG.

The axis of what grows is logarithmic. What is to stay as it is stands on a linear axis from zero, and is flat where it
does; what is to grow along stands on a logarithmic one, and is a straight line where it does. On white whatever the
page's colour is. Nothing in it depends on fonts, scripts or style sheets of the reader.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from tests.bench.growth.series import Series

WIDTH, HEIGHT, COLUMNS = 430, 250, 2  # pixels of a plot; plots beside each other
LEFT, RIGHT, TOP, BOTTOM = 58, 24, 50, 44  # pixels round the lines of a plot
LINE, GRID = "#1a6fb5", "#d8dee3"
_WORDS = {3: "k", 6: "M"}


@dataclass(frozen=True, slots=True)
class Axis:
    """From a number to pixels. A logarithmic one ends at powers of ten; where there is a zero, it stands for the lowest
    of them, one below the least number.
    """

    low: float
    high: float
    begin: float
    end: float
    logarithmic: bool
    has_zero: bool = False

    def at(self, value: float) -> float:
        low, high = self._measure(self.low), self._measure(self.high)
        return self.begin + (self._measure(max(value, self.low)) - low) / (high - low) * (self.end - self.begin)

    @property
    def ticks(self) -> Sequence[float]:
        if self.logarithmic:
            return [10.0**power for power in range(round(math.log10(self.low)), round(math.log10(self.high)) + 1)]
        return [self.low + (self.high - self.low) * part / 4 for part in range(5)]

    def label(self, tick: float) -> str:
        return "0" if self.has_zero and tick == self.low else short(tick)

    def _measure(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


def logarithmic(values: Sequence[float], *, begin: float, end: float) -> Axis:
    some = [value for value in values if value > 0]
    has_zero = min(values) <= 0
    low = math.floor(math.log10(min(some))) - has_zero
    high = max(low + 1, math.ceil(math.log10(max(some))))
    return Axis(10.0**low, 10.0**high, begin, end, logarithmic=True, has_zero=has_zero)


def from_zero(values: Sequence[float], *, begin: float, end: float) -> Axis:
    """To a round number with room above the highest."""
    highest = max(values) * 1.15
    power = 10.0 ** math.floor(math.log10(highest))
    top = next(step * power for step in (1, 2, 4, 6, 8, 10) if step * power >= highest)
    return Axis(0.0, top, begin, end, logarithmic=False)


def svg(many: Sequence[Series]) -> str:
    height = math.ceil(len(many) / COLUMNS) * HEIGHT
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH * COLUMNS} {height}"'
    lines = [
        f'<svg {box} font-family="sans-serif" font-size="12">',
        "<title>What a message costs as one thing grows</title>",
        f'<rect width="{WIDTH * COLUMNS}" height="{height}" fill="white"/>',
    ]
    for index, series in enumerate(many):
        lines += _plot(series, left=index % COLUMNS * WIDTH, top=index // COLUMNS * HEIGHT)
    return "\n".join([*lines, "</svg>", ""])


def _plot(series: Series, *, left: int, top: int) -> Iterator[str]:
    values = [point.figures[series.plotted] for point in series.points]
    across = logarithmic(
        [point.at for point in series.points], begin=float(left + LEFT), end=float(left + WIDTH - RIGHT)
    )
    upright = logarithmic if series.proportional else from_zero
    up = upright(values, begin=float(top + HEIGHT - BOTTOM), end=float(top + TOP))
    yield f'<text x="{left + 12}" y="{top + 20}" font-weight="bold">{escape(series.title)}</text>'
    yield f'<text x="{left + 12}" y="{top + 38}">{escape(series.plotted.name)}</text>'
    yield from _grid(across, up)
    places = [(across.at(point.at), up.at(value)) for point, value in zip(series.points, values, strict=True)]
    yield f'<polyline points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in places)}" fill="none" stroke="{LINE}"/>'
    for x, y in places:
        yield f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{LINE}"/>'
    middle = (across.begin + across.end) / 2
    yield f'<text x="{middle:.1f}" y="{top + HEIGHT - 8}" text-anchor="middle">{escape(series.grows)}</text>'


def _grid(across: Axis, up: Axis) -> Iterator[str]:
    for tick in up.ticks:
        y = up.at(tick)
        yield f'<path d="M{across.begin:.1f} {y:.1f}H{across.end:.1f}" stroke="{GRID}"/>'
        yield f'<text x="{across.begin - 6:.1f}" y="{y + 4:.1f}" text-anchor="end">{up.label(tick)}</text>'
    for tick in across.ticks:
        x = across.at(tick)
        yield f'<path d="M{x:.1f} {up.begin:.1f}V{up.end:.1f}" stroke="{GRID}"/>'
        yield f'<text x="{x:.1f}" y="{up.begin + 16:.1f}" text-anchor="middle">{across.label(tick)}</text>'


def short(number: float) -> str:
    """1000 as 1k, a million as 1M."""
    for power, word in reversed(_WORDS.items()):
        if number >= 10**power:
            return f"{number / 10**power:g}{word}"
    return f"{number:g}"
