"""What a benchmark says of its runs: the tables, the page, the plot, and what a short one compares with."""

import xml.etree.ElementTree as ET
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.bench import bench, page, plot, relay_server, report
from tests.bench.measuring import Run
from tests.bench.postfix_server import SIGNED
from tests.bench.works import WORKS

MANY = WORKS["many"]
PEER_RATE = 400.0


def run(server: str, delivered: float, *, cpu: float = 1.0, p99: float = 20.0, work: str = MANY.name) -> Run:
    return Run(server, work, 1000, delivered, cpu, p50=5.0, p99=p99, memory=100, others=0.1)


def runs(ratio: float, *, cpu: float = 1.0, p99: float = 20.0) -> list[Run]:
    """One pair. ratio: of Relay to its peer."""
    return [run(SIGNED, PEER_RATE, cpu=5.0), run(relay_server.NAME, ratio * PEER_RATE, cpu=cpu, p99=p99)]


class TestTable:
    def test_a_cell_is_the_median_with_the_lowest_and_the_highest(self) -> None:
        row = report.table([MANY], [run(relay_server.NAME, rate) for rate in (900, 700, 1000)]).splitlines()[2]
        assert row.startswith(f"| {MANY.what} | Relay | 900 [700-1000] | 1.00 [1.00-1.00] | 5.0 [5.0-5.0] |")

    def test_the_ratio_to_a_peer_follows_its_work(self) -> None:
        last = report.table([MANY], runs(2.5)).splitlines()[-1]
        assert last == f"| | **ratio to {SIGNED}** | **2.5 ×** | **1/5.0** | | | | |"

    def test_every_row_has_as_many_cells_as_the_head(self) -> None:
        assert {line.count("|") for line in report.table([MANY], runs(2.5)).splitlines()} == {9}

    def test_what_ran_at_another_work_is_not_counted(self) -> None:
        elsewhere = run(SIGNED, 1.0, work="one")
        assert report.table([MANY], [*runs(2.5), elsewhere]) == report.table([MANY], runs(2.5))


@pytest.mark.parametrize(
    ("measured", "reached"),
    [
        pytest.param(runs(7.1, cpu=0.5, p99=11), ["yes", "yes", "yes"], id="all goals are reached"),
        pytest.param(runs(7.0, cpu=0.55, p99=12), ["yes", "yes", "yes"], id="what is just reached is reached"),
        pytest.param(runs(6.9, cpu=0.56, p99=12.1), ["**no**", "**no**", "**no**"], id="none is reached"),
        pytest.param(runs(7.0)[1:], ["**no**", "**no**"], id="a peer that was not measured has no row"),
    ],
)
def test_each_goal_is_said_to_be_reached_or_not(measured: Sequence[Run], reached: Sequence[str]) -> None:
    rows = report.goals([MANY], measured).splitlines()[2:]
    assert [row.split(" | ")[-1].removesuffix(" |") for row in rows] == reached


class TestPage:
    OLD = "# Title\n\n<!-- bench: begin -->\nold\n<!-- bench: end -->\n\n## By hand\n"

    def test_the_new_text_and_the_plot_take_the_place_of_the_old(self, tmp_path: Path) -> None:
        path = tmp_path / "figures.md"
        path.write_text(self.OLD)
        page.write(path, page.BENCH, text="new \\1\n", plot="<svg/>")
        text = path.read_text()
        assert text.startswith("# Title\n") and text.endswith("\n\n## By hand\n")
        assert "new \\1\n" in text and "(figures.svg)" in text and "old" not in text
        assert (tmp_path / "figures.svg").read_text() == "<svg/>"

    def test_a_page_without_a_place_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "figures.md"
        path.write_text("# Title\n")
        with pytest.raises(ValueError, match="0 places"):
            page.write(path, page.BENCH, text="new", plot="<svg/>")
        assert [each.name for each in tmp_path.iterdir()] == ["figures.md"]

    def test_the_last_ratio_is_read_from_the_table_as_it_is_written(self) -> None:
        table = report.table([MANY], [*runs(2.5), *runs(3.5), *runs(3.0)])
        assert page.last_ratio(table, what=MANY.what, peer=SIGNED) == pytest.approx(3.0)

    @pytest.mark.parametrize("measured", [runs(2.5)[:1], runs(2.5)[1:]], ids=["without Relay", "without the peer"])
    def test_there_is_no_last_ratio_where_one_is_missing(self, measured: Sequence[Run]) -> None:
        servers = "".join(line + "\n" for line in report.table([], []).splitlines())
        rows = [f"| {MANY.what} | {each.server} | {each.delivered:.0f} |" for each in measured]
        assert page.last_ratio(servers + "\n".join(rows), what=MANY.what, peer=SIGNED) is None

    @pytest.mark.parametrize("work", ["many", "one"])
    def test_our_page_has_what_the_short_form_compares_with(self, work: str) -> None:
        assert page.last_ratio(page.PAGE.read_text(), what=WORKS[work].what, peer=SIGNED)


@pytest.mark.parametrize(
    ("now", "code"),
    [
        pytest.param(3.0, 0, id="as much as the last time is well"),
        pytest.param(2.11, 0, id="somewhat less is well"),
        pytest.param(2.09, 1, id="less than 70 % is not"),
        pytest.param(9.0, 0, id="more is well"),
    ],
)
def test_a_short_run_fails_far_below_the_last_ratio(now: float, code: int) -> None:
    assert bench._compare([MANY], runs(now), report.table([MANY], runs(3.0))) == code


def test_a_short_run_passes_when_there_is_no_last_ratio(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench._compare([MANY], runs(1.0), "# Nothing measured yet\n") == 0
    assert "the last was not measured" in capsys.readouterr().out


class TestPlot:
    SPACE = "{http://www.w3.org/2000/svg}"

    @pytest.fixture
    def drawn(self) -> ET.Element:
        groups = [plot.Group("a <b>", {"Postfix": 400, "Relay": 800}), plot.Group("c", {"Relay": 200})]
        return ET.fromstring(plot.svg(groups, ours="Relay"))

    def test_bars_are_as_long_as_the_rates_are_high(self, drawn: ET.Element) -> None:
        bars = [float(each.attrib["width"]) for each in drawn.findall(f"{self.SPACE}rect")[1:]]
        assert bars == pytest.approx([bars[1] / 2, bars[1], bars[1] / 4], abs=0.1)

    def test_ours_stands_out(self, drawn: ET.Element) -> None:
        colours = [each.attrib["fill"] for each in drawn.findall(f"{self.SPACE}rect")[1:]]
        assert colours == [plot.THEIRS, plot.OURS, plot.OURS]

    def test_every_work_server_and_number_is_written(self, drawn: ET.Element) -> None:
        texts = [each.text for each in drawn.findall(f"{self.SPACE}text")]
        assert texts == ["a <b>", "Postfix", "400", "Relay", "800", "c", "Relay", "200"]

    def test_nothing_is_outside_the_picture(self, drawn: ET.Element) -> None:
        *_, width, height = map(int, drawn.attrib["viewBox"].split())
        for each in drawn.findall(f"{self.SPACE}rect"):
            assert float(each.get("x", 0)) + float(each.attrib["width"]) <= width
            assert float(each.get("y", 0)) + float(each.attrib["height"]) <= height
