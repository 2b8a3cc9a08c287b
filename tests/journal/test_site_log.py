"""What happened at sites: found by name, bounded, for as many days as the journal, and never a reason to fail."""

from datetime import date
from pathlib import Path

from relay.journal.site_log import DIRECTORY, MOST_A_SECOND, SiteLog, day_of, days, read

START = 1_800_000_000.0  # 2027-01-15T08:00:00Z
DAY = 86400.0


class Diary:
    """A site log under a clock."""

    def __init__(self, spool: Path) -> None:
        self.spool = spool
        self.now = START
        self.told: list[str] = []
        self.log = SiteLog(spool, now=lambda: self.now, incomplete=self.told.append)

    def note(self, detail: str, site: str = "mx") -> None:
        self.log.note(site, "", "slowed", detail)

    def found(self, *names: str, since: float = 0.0, limit: int = 1000) -> list[str]:
        return [each.detail for each in read(self.spool, names or {"mx"}, since=since, limit=limit)]


def test_what_happened_at_a_site_is_found_by_its_names_in_order(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    for number in range(3):
        diary.note(f"{number}")
        diary.note(f"{number} at google", site="google")
        diary.note("elsewhere", site="other")
        diary.now += DAY
    assert diary.found() == ["0", "1", "2"]
    assert diary.found("mx", "google", limit=3) == ["1 at google", "2", "2 at google"]
    assert diary.found(since=START + DAY) == ["1", "2"]
    assert diary.found(since=START + DAY + 1) == ["2"]
    assert diary.found("nobody") == []


def test_a_spool_without_one_has_nothing_to_tell(tmp_path: Path) -> None:
    assert Diary(tmp_path).found() == []


def test_it_is_the_owners_alone(tmp_path: Path) -> None:
    Diary(tmp_path).note("18 → 9 connections")
    (path,) = (tmp_path / DIRECTORY).iterdir()
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)


def test_a_flood_is_cut_and_the_next_line_says_of_how_much(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    for number in range(MOST_A_SECOND + 7):
        diary.note(f"{number}")
    assert len(diary.found()) == MOST_A_SECOND
    assert diary.told == ["too many a second"]
    diary.now += 1
    diary.note("later")
    assert [each.left_out for each in read(tmp_path, {"mx"}, limit=2)] == [0, 7]


def test_what_cannot_be_written_is_told_once_and_counted(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    (tmp_path / DIRECTORY).write_text("in its place")
    diary.note("lost")
    diary.note("lost too")
    assert len(diary.told) == 1
    (tmp_path / DIRECTORY).unlink()
    diary.note("kept")
    assert [(each.detail, each.left_out) for each in read(tmp_path, {"mx"}, limit=9)] == [("kept", 2)]


def test_a_line_that_is_cut_hides_no_other(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    diary.note("before")
    (path,) = (tmp_path / DIRECTORY).iterdir()
    with path.open("ab") as file:
        file.write(b'{"at":18000\n\xff\n')
    diary.note("after")
    assert diary.found() == ["before", "after"]


def test_days_are_deleted_whole(tmp_path: Path) -> None:
    diary = Diary(tmp_path)
    for _ in range(4):
        diary.note("something")
        diary.now += DAY
    gone = diary.log.expire(today=day_of(diary.now), retention_days=2)
    assert gone == [date(2027, 1, 15), date(2027, 1, 16)]
    assert days(tmp_path / DIRECTORY) == [date(2027, 1, 17), date(2027, 1, 18)]
