"""What is said of a series: which messages are missing, the tables, the goals, the curves; and the load that grows."""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.bench import page
from tests.bench.growth import curves, far, plain, tables
from tests.bench.growth.__main__ import circumstances
from tests.bench.growth.arrivals import Arrivals, arrivals, transactions, wrong_counts
from tests.bench.growth.relay import Counters, Run
from tests.bench.growth.series import CPU, LARGEST, RATE, Goal, Point, Series, at_least, at_most, usual
from tests.bench.growth.switchboard import QUESTIONS, Question
from tests.bench.growth.switchboard import _answered as answered
from tests.bench.measuring import WrongResult
from tests.bench.programs import Load, idle_sessions, load

LOAD = Load(port=0, messages=10, sessions=2, octets=1000, first=0)


def run(*, cpu: float = 1.0, delivered: float = 100.0) -> Run:
    return Run(
        messages=1000,
        delivered=delivered,
        cpu=cpu,
        background=0.0,
        p99=5.0,
        memory=100,
        largest=80,
        connections=0.1,
        commits=0.3,
        questions=0,
        written=20,
    )


class TestArrivals:
    @pytest.fixture
    def arriving(self, tmp_path: Path) -> Iterator[Arrivals]:
        with arrivals(tmp_path / "sink") as arriving:
            yield arriving

    @pytest.mark.parametrize(
        ("recipients", "per_domain", "count"),
        [
            pytest.param(1, 0, 1, id="one recipient"),
            pytest.param(100, 0, 1, id="as many as a transaction takes"),
            pytest.param(101, 0, 2, id="one more"),
            pytest.param(1000, 0, 10, id="a thousand in one domain"),
            pytest.param(1000, 100, 10, id="a hundred in each of ten"),
            pytest.param(1000, 10, 100, id="ten in each of a hundred"),
            pytest.param(250, 120, 5, id="two in each of two domains, one in a third"),
        ],
    )
    def test_a_message_comes_in_one_transaction_for_each_domain_and_hundred(
        self, recipients: int, per_domain: int, count: int
    ) -> None:
        assert transactions(replace(LOAD, recipients=recipients, per_domain=per_domain)) == count

    def test_each_message_that_came_too_seldom_or_too_often_is_named(self) -> None:
        assert wrong_counts(range(7, 10), [1, 2, 3], 2) == [
            "message 7 came in 1 transactions of 2",
            "message 9 came in 3 transactions of 2",
        ]

    def test_loads_are_numbered_on_and_what_is_sent_is_found(self, arriving: Arrivals) -> None:
        for first in (0, 10):
            sent = arriving.numbered(replace(LOAD, port=arriving.port))
            assert sent.first == first
            load(sent)
            arriving.expect(sent)

    def test_what_was_not_sent_is_wrong(self, arriving: Arrivals) -> None:
        with pytest.raises(WrongResult, match=r"of 10 messages: message 0 came in 0 transactions of 1"):
            arriving.check(arriving.numbered(LOAD))

    def test_what_nobody_expected_is_wrong(self, arriving: Arrivals) -> None:
        sent = arriving.numbered(replace(LOAD, port=arriving.port))
        load(sent)
        with pytest.raises(WrongResult, match="10 strays"):
            arriving.check(sent)

    def test_a_message_has_as_many_recipients_as_asked(self, arriving: Arrivals) -> None:
        load(replace(LOAD, port=arriving.port, recipients=25, domains=3, per_domain=10))
        assert arriving.totals.recipients == 250

    def test_idle_sessions_are_open_until_the_end(self, arriving: Arrivals) -> None:
        with idle_sessions(replace(LOAD, port=arriving.port, sessions=50)):
            assert arriving.totals.connections == 50

    def test_idle_sessions_that_are_refused_are_told(self, arriving: Arrivals) -> None:
        inside_tls = replace(LOAD, port=arriving.port, tls="starttls")
        with (
            pytest.raises(RuntimeError, match="not all sessions were opened: STARTTLS was answered"),
            idle_sessions(inside_tls),
        ):
            pass


class TestTables:
    SERIES = Series(
        "queue",
        "Queue",
        "recipients",
        CPU,
        [Point(0, {CPU: 1.234, RATE: 99.6}), Point(1_000_000, {CPU: 2.0, RATE: 50.0, LARGEST: 120.0})],
        [Goal("memory", "120 MB", reached=True), Goal("speed", "50/s", reached=False)],
    )

    def test_a_row_for_each_point_with_a_cell_for_each_figure(self) -> None:
        assert tables.table(self.SERIES).splitlines() == [
            "**Queue**",
            "",
            "| recipients | CPU ms a message | messages/s | RSS of a worker, MB |",
            "|---|---|---|---|",
            "| 0 | 1.23 | 100 |  |",
            "| 1 000 000 | 2.00 | 50 | 120 |",
        ]

    def test_each_goal_is_said_to_be_reached_or_not(self) -> None:
        assert tables.goals([self.SERIES, self.SERIES]).splitlines()[2:] == [
            "| memory | 120 MB | yes |",
            "| speed | 50/s | **no** |",
        ] * 2  # fmt: skip

    def test_nothing_is_said_of_goals_where_there_are_none(self) -> None:
        assert tables.goals([replace(self.SERIES, goals=())]) == ""

    def test_the_page_has_a_place_for_them(self, tmp_path: Path) -> None:
        copy = tmp_path / "performance.md"
        copy.write_text(page.PAGE.read_text())
        page.write(copy, page.GROWTH, text="new\n", plot="<svg/>")
        assert "(performance-growth.svg)" in copy.read_text()
        begin, end = page.BENCH.marks
        between = [text.partition(begin)[2].partition(end)[0] for text in (page.PAGE.read_text(), copy.read_text())]
        assert between[0] == between[1] != ""


@pytest.mark.parametrize(
    ("arguments", "rounds", "said"),
    [
        pytest.param([], 3, ("`make growth`, ", "Medians of 3 runs; "), id="all"),
        pytest.param(["--quick"], 1, ('`make growth ARGS="--quick"`, ', "One run of each point; "), id="quick"),
    ],
)
def test_it_is_said_how_it_was_measured(arguments: list[str], rounds: int, said: tuple[str, str]) -> None:
    told = circumstances(arguments, rounds=rounds)
    assert told.startswith(said[0])
    assert said[1] in told


class TestFigures:
    def test_counters_are_summed_over_their_labels(self) -> None:
        metrics = """# TYPE relay_spool_commits_total counter
relay_spool_commits_total 12.0
relay_dns_questions_total{worker="0"} 3.0
relay_dns_questions_total{worker="1"} 4.0
relay_dns_questions_total_more 100.0
"""
        assert Counters.read(metrics) == Counters(commits=12.0, questions=7.0)

    def test_of_several_runs_the_median(self) -> None:
        figures = usual([run(cpu=1.0, delivered=300), run(cpu=9.0, delivered=100), run(cpu=2.0, delivered=200)])
        assert (figures[CPU], figures[RATE]) == (2.0, 200)

    def test_the_share_beside_a_queue_is_the_median_of_the_rounds(self) -> None:
        full, empty = ([run(delivered=each) for each in rates] for rates in ((90, 40, 100), (100, 100, 200)))
        assert far.share_of(full, empty) == pytest.approx(50)

    def test_megabytes_a_second_a_core(self) -> None:
        assert plain.speed(25_000_000, 250.0) == pytest.approx(100)

    def test_what_is_just_reached_is_reached(self) -> None:
        assert [at_most("m", 25.0, 25, ".1f", "KB").reached, at_most("m", 25.1, 25, ".1f", "KB").reached] == [
            True,
            False,
        ]
        assert [at_least("s", 60.0, 60, ".0f", "MB/s").reached, at_least("s", 59.9, 60, ".0f", "MB/s").reached] == [
            True,
            False,
        ]


class TestCurves:
    SPACE = "{http://www.w3.org/2000/svg}"

    def drawn(self, *values: float, proportional: bool = False) -> list[tuple[float, float]]:
        """The places of points at 1, 10, 100 ..."""
        points = [Point(10**power, {CPU: value}) for power, value in enumerate(values)]
        series = Series("a", "A <b>", "things", CPU, points, proportional=proportional)
        lines = ET.fromstring(curves.svg([series])).findall(f"{self.SPACE}polyline")
        x_and_y = (place.split(",") for place in lines[0].attrib["points"].split())
        return [(float(x), float(y)) for x, y in x_and_y]

    def test_what_stays_as_it_is_is_flat(self) -> None:
        assert len({y for _, y in self.drawn(1.5, 1.5, 1.5)}) == 1

    def test_twice_as_much_is_twice_as_high(self) -> None:
        bottom = curves.HEIGHT - curves.BOTTOM
        heights = [bottom - y for _, y in self.drawn(1.0, 2.0)]
        assert heights[1] == pytest.approx(2 * heights[0], abs=0.1)

    def test_what_grows_along_is_a_straight_line(self) -> None:
        (x0, y0), (x1, y1), (x2, y2) = self.drawn(0.2, 2.0, 20.0, proportional=True)
        assert (y1 - y0) / (x1 - x0) == pytest.approx((y2 - y1) / (x2 - x1), rel=0.01)

    def test_nothing_at_all_stands_one_step_below_the_least(self) -> None:
        axis = curves.logarithmic([0, 1000, 10_000], begin=0.0, end=200.0)
        assert [axis.at(value) for value in (0, 1000, 10_000)] == [0.0, 100.0, 200.0]
        assert [axis.label(tick) for tick in axis.ticks] == ["0", "1k", "10k"]

    def test_several_series_stand_beside_and_below_each_other_and_inside(self) -> None:
        many = [Series("a", "A", "things", CPU, [Point(1, {CPU: 1.0}), Point(5000, {CPU: 2.0})])] * 3
        root = ET.fromstring(curves.svg(many))
        *_, width, height = map(int, root.attrib["viewBox"].split())
        assert (width, height) == (2 * curves.WIDTH, 2 * curves.HEIGHT)
        places = [(float(each.attrib["cx"]), float(each.attrib["cy"])) for each in root.findall(f"{self.SPACE}circle")]
        assert len(set(places)) == 6
        assert all(0 < x < width and 0 < y < height for x, y in places)

    @pytest.mark.parametrize(
        ("number", "text"), [(0, "0"), (0.5, "0.5"), (100, "100"), (1000, "1k"), (25e6, "25M")], ids=str
    )
    def test_numbers_are_short(self, number: float, text: str) -> None:
        assert curves.short(number) == text


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.what)
def test_workers_are_answered_by_the_real_switchboard(question: Question) -> None:
    found = answered(question, workers=3, seconds=0.1)
    assert found.cpu > 0
    assert 0 < found.p50 <= found.p99
