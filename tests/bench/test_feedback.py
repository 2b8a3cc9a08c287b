"""What the measurement of feedback says: the table, the plot, and the page that has both."""

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.bench import feedback_page
from tests.bench.feedback import CASES, Phase

CROWDED, *_, RATE = CASES


def phases() -> list[Phase]:
    return [
        Phase(CROWDED, 5, 20.0, 100.0, taken=1900, refused=19, deferred=0, open=[2, 4, 5, 5]),
        Phase(CROWDED, 10, 40.0, 100.0, taken=4000, refused=0, deferred=0, open=[5, 10]),
        Phase(RATE, 20, 20.0, 100.0, taken=1800, refused=200, deferred=200, open=[20]),
    ]


def test_a_row_has_the_shares_and_says_from_what_the_limit_came() -> None:
    rows = feedback_page.table(phases()).splitlines()[2:]
    assert rows == [
        f"| {CROWDED.what} | 5 sessions | 1.0% | 0.0% | 95.0% | 4.0 |",
        f"| {CROWDED.what} | 5 → 10 sessions | 0.0% | 0.0% | 100.0% | 7.5 |",
        f"| {RATE.what} | 20 messages/s | 10.0% | 10.0% | 90.0% | 20.0 |",
    ]


def test_the_plot_has_a_curve_for_each_case_and_the_limits_of_sessions() -> None:
    drawn = ET.fromstring(feedback_page.svg(phases()))
    names = [element.tag.rpartition("}")[2] for element in drawn.iter()]
    assert names.count("polyline") == 2
    dashed = [element for element in drawn.iter() if element.get("stroke-dasharray")]
    assert len(dashed) == 2


def test_the_page_has_the_last_figures_in_place_of_those_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "delivery.md"
    page.write_text("# Title\n\n<!-- feedback: begin -->\nold\n<!-- feedback: end -->\n\nby hand\n")
    monkeypatch.setattr(feedback_page, "PAGE", page)
    feedback_page.write(phases())
    text = page.read_text()
    assert "old" not in text
    assert text.startswith("# Title\n\n<!-- feedback: begin -->\n`python -m tests.bench.feedback`")
    assert text.endswith("<!-- feedback: end -->\n\nby hand\n")
    assert page.with_suffix(".svg").read_text().startswith("<svg")


def test_a_page_without_a_place_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "delivery.md"
    page.write_text("# Title\n")
    monkeypatch.setattr(feedback_page, "PAGE", page)
    with pytest.raises(ValueError, match="0 places"):
        feedback_page.write(phases())
