"""bench.plot: messages per second as an SVG, a bar for each server, grouped by work. Read from left to right.

On white whatever the page's colour is. Nothing in it depends on fonts, scripts or style sheets of the reader.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, LEFT, RIGHT = 860, 260, 60  # pixels: of all; beside the bars, for the servers' names and for the numbers
HEADING, BAR, GAP, GROUP_GAP = 24, 18, 3, 14
OURS, THEIRS = "#1a6fb5", "#a9b4be"


@dataclass(frozen=True, slots=True)
class Group:
    """One work, with messages per second by server."""

    what: str
    rates: Mapping[str, float]

    @property
    def height(self) -> int:
        return HEADING + len(self.rates) * (BAR + GAP) + GROUP_GAP


def svg(groups: Sequence[Group], *, ours: str) -> str:
    """ours: the server whose bars stand out."""
    height = GROUP_GAP + sum(group.height for group in groups)
    box = f'xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
    lines = [
        f'<svg {box} font-family="sans-serif" font-size="13">',
        "<title>Messages per second to the sink</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
    ]
    most = max((rate for group in groups for rate in group.rates.values()), default=1.0)
    top = GROUP_GAP
    for group in groups:
        lines += _group(group, top, per_pixel=most / (WIDTH - LEFT - RIGHT), ours=ours)
        top += group.height
    return "\n".join([*lines, "</svg>", ""])


def _group(group: Group, top: int, *, per_pixel: float, ours: str) -> Iterator[str]:
    yield f'<text x="12" y="{top + HEADING - 10}" font-weight="bold">{escape(group.what)}</text>'
    for index, (server, rate) in enumerate(group.rates.items()):
        y = top + HEADING + index * (BAR + GAP)
        width = rate / per_pixel
        yield f'<text x="{LEFT - 8}" y="{y + 13}" text-anchor="end">{escape(server)}</text>'
        colour = OURS if server == ours else THEIRS
        yield f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>'
        yield f'<text x="{LEFT + width + 6:.1f}" y="{y + 13}">{rate:.0f}</text>'
