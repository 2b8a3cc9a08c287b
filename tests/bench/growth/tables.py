"""bench.growth.tables: each series as a table, and the goals of all of them."""

from collections.abc import Iterator, Sequence

from tests.bench.growth.series import Point, Series


def text(many: Sequence[Series]) -> str:
    """A table for each series, then one of the goals."""
    return "\n".join([*(table(series) for series in many), goals(many)])


def table(series: Series) -> str:
    figures = series.figures
    head = [series.grows, *(figure.name for figure in figures)]
    rows = [[f"{point.at:,}".replace(",", " "), *_cells(series, point)] for point in series.points]
    return f"**{series.title}**\n\n{_line(head)}{'|---' * len(head)}|\n{''.join(map(_line, rows))}"


def goals(many: Sequence[Series]) -> str:
    rows = [[goal.what, goal.measured, "yes" if goal.reached else "**no**"] for series in many for goal in series.goals]
    return f"| goal | measured | reached |\n|---|---|---|\n{''.join(map(_line, rows))}" if rows else ""


def _cells(series: Series, point: Point) -> Iterator[str]:
    """Empty where a figure was not measured."""
    for figure in series.figures:
        yield format(point.figures[figure], figure.form) if figure in point.figures else ""


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
