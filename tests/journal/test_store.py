"""The writer's side: each event once, in the file of its day; whole days go, and nothing younger."""

import asyncio
import os
import shutil
import signal
import sqlite3
import stat
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import RelayError, SpoolVersion
from relay.journal.dayfile import day_of
from relay.journal.query import Query
from relay.journal.search import Search
from relay.journal.store import OPEN_FILES, Journal
from relay.mail.event import Event
from tests.journal.stories import DAY, NOW, event, new_id, refuse_damage, write

TODAY = date(2027, 1, 15)


def names_in(directory: Path) -> list[str]:
    """But for what SQLite leaves where a file was only read."""
    names = [path.name for path in directory.iterdir()]
    return sorted(each for each in names if not each.endswith(("-wal", "-shm")))


def there_of(directory: Path, names: list[str]) -> list[str]:
    return [name for name in names if (directory / name).exists()]


def modes_in(directory: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()]


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def all_events(shard: Path) -> list[Event]:
    """Newest first."""
    found = await Search(shard.parent).search(Query(limit=100_000))
    assert not found.unreadable
    return list(found.events)


@pytest.fixture
def shard(tmp_path: Path) -> Path:
    (tmp_path / "shard-0").mkdir()
    return tmp_path / "shard-0"


@pytest.mark.parametrize(
    ("given_event", "day"),
    [
        pytest.param(event(NOW + 3 * DAY, message=new_id(NOW)), "2027-01-15", id="the day the message was accepted"),
        pytest.param(event(NOW, message=""), "2027-01-15", id="a rejection has the day it happened"),
        pytest.param(event(NOW, message="no id"), "2027-01-15", id="what is no id does not count"),
        pytest.param(event(NOW, message=new_id(1799971199.999)), "2027-01-14", id="the last millisecond of a day"),
        pytest.param(event(NOW, message=new_id(1799971200.0)), "2027-01-15", id="the first millisecond of a day"),
    ],
)
async def test_day(given_event: Event, day: str, shard: Path) -> None:
    assert await write(shard, [event(NOW - 10 * DAY), given_event]) == 2
    assert names_in(shard) == sorted(["journal-2027-01-05.db", f"journal-{day}.db"])
    assert day_of(given_event).isoformat() == day


async def test_each_event_counts_once(shard: Path) -> None:
    events = [event(NOW + number, message=new_id(NOW - number * DAY)) for number in range(5)]
    assert [await write(shard, events[:3]), await write(shard, events), await write(shard, events)] == [3, 2, 0]
    assert await all_events(shard) == events[::-1]


async def test_a_shard_made_anew_counts_from_one_again(shard: Path) -> None:
    events = [event(NOW), event(NOW + 1)]
    assert [await write(shard, [each]) for each in events] == [1, 1]
    assert await all_events(shard) == events[::-1]


numbered = st.lists(st.tuples(st.integers(1, 30), st.integers(0, 4)), max_size=12)


@settings(max_examples=40, deadline=None)
@given(batches=st.lists(numbered, max_size=5))
async def test_however_often_and_in_whatever_batches_they_come(batches: list[list[tuple[int, int]]]) -> None:
    with TemporaryDirectory() as directory:
        shard = Path(directory) / "shard-0"
        shard.mkdir()
        journal = await Journal.open(shard, damaged=refuse_damage)
        expected: set[Event] = set()
        for batch in batches:
            # A sequence number says which event it is: its day follows from it here.
            rows = [(number, event(NOW + number, message=new_id(NOW + number % 3 * DAY))) for number, _ in batch]
            added = await journal.ingest(rows)
            assert added == len({each for _, each in rows} - expected)
            expected |= {each for _, each in rows}
        await journal.close()
        assert sorted(await all_events(shard), key=lambda each: each.at) == sorted(expected, key=lambda each: each.at)


async def test_a_batch_larger_than_one_statement(shard: Path) -> None:
    events = [event(NOW + number / 100) for number in range(4500)]
    assert await write(shard, events) == 4500
    assert await all_events(shard) == events[::-1]


async def test_files_are_the_owners_alone(shard: Path) -> None:
    journal = await Journal.open(shard, damaged=refuse_damage)
    await journal.ingest([(1, event())])
    assert modes_in(shard) == [0o600] * 3
    await journal.close()
    assert names_in(shard) == ["journal-2027-01-15.db"]


async def test_many_days_need_few_open_files(shard: Path) -> None:
    journal = await Journal.open(shard, damaged=refuse_damage)
    before = open_files()
    events = [event(NOW - number * DAY) for number in range(40)]
    assert await journal.ingest(list(enumerate(events))) == 40
    assert open_files() - before <= 5 * OPEN_FILES
    await journal.close()
    assert await all_events(shard) == events


async def test_retention_deletes_whole_days(shard: Path) -> None:
    await write(shard, [event(NOW - days * DAY) for days in (0, 29, 30, 31, 60)])
    traces = ["journal-2026-12-01.db-wal", "journal-2026-12-02.db.damaged-1", "journal-2026-12-02.db.damaged-1-wal"]
    traces += ["journal-2026-12-03.db.new", "journal-2026-12-03.db.new-journal"]
    others = ["queue.db", "journal-2026-02-31.db", "journal-2026-01-01.db.bak", "a-journal-2026-01-01.db"]
    for name in (*traces, *others):
        (shard / name).touch()
    journal = await Journal.open(shard, damaged=refuse_damage)
    expired = await journal.expire(today=TODAY, retention_days=30)
    gone = ["2026-11-16", "2026-12-01", "2026-12-02", "2026-12-03", "2026-12-15"]
    assert [day.isoformat() for day in expired] == gone
    await journal.close()
    kept = ["journal-2026-12-16.db", "journal-2026-12-17.db", "journal-2027-01-15.db"]
    assert names_in(shard) == sorted([*kept, *others])
    assert not there_of(shard, traces)


async def test_a_day_stays_while_it_has_a_young_event(shard: Path) -> None:
    held = new_id(NOW - 60 * DAY)
    await write(shard, [event(NOW - 60 * DAY, message=held), event(NOW - 30 * DAY, message=held)])
    journal = await Journal.open(shard, damaged=refuse_damage)
    assert await journal.expire(today=TODAY, retention_days=30) == ()
    assert await journal.expire(today=TODAY + timedelta(days=1), retention_days=30) == (date(2026, 11, 16),)
    await journal.close()


async def test_a_day_in_use_can_be_deleted_and_begun_again(shard: Path) -> None:
    journal = await Journal.open(shard, damaged=refuse_damage)
    old = event(NOW - 60 * DAY)
    await journal.ingest([(1, old)])
    assert len(await journal.expire(today=TODAY, retention_days=30)) == 1
    assert names_in(shard) == []
    late = event(NOW, message=old.message)
    await journal.ingest([(2, late)])
    assert await all_events(shard) == [late]
    await journal.close()


@settings(max_examples=60, deadline=None)
@given(
    ages=st.lists(st.tuples(st.integers(0, 90), st.integers(0, 90)), max_size=8),
    retentions=st.lists(st.tuples(st.integers(1, 60), st.integers(0, 40)), max_size=3),
)
async def test_retention_never_deletes_what_is_young(
    ages: list[tuple[int, int]], retentions: list[tuple[int, int]]
) -> None:
    """ages: days before today of acceptance, and of the event if that is later."""
    with TemporaryDirectory() as directory:
        shard = Path(directory) / "shard-0"
        events = [
            event(NOW - min(accepted, happened) * DAY + index, message=new_id(NOW - accepted * DAY, random=index))
            for index, (accepted, happened) in enumerate(ages)
        ]
        await write(shard, events)
        journal = await Journal.open(shard, damaged=refuse_damage)
        oldest = date.min
        for retention, later in retentions:
            today = TODAY + timedelta(days=later)
            await journal.expire(today=today, retention_days=retention)
            oldest = max(oldest, today - timedelta(days=retention))
        await journal.close()
        kept = set(await all_events(shard))
        young = {each for each in events if datetime.fromtimestamp(each.at, UTC).date() >= oldest}
        days_kept = {day_of(each) for each in young}
        assert young <= kept
        assert kept == {each for each in events if day_of(each) in days_kept}


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from relay.journal.store import Journal
from tests.journal.stories import NOW, event, refuse_damage

async def main():
    journal = await Journal.open(Path(sys.argv[1]), damaged=refuse_damage)
    await journal.ingest([(1, event(NOW))])
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_what_a_crash_left_in_the_wal_is_written_anew(shard: Path, tmp_path: Path) -> None:
    """An fsync that failed is not cured by the next: what counts as there must have been written and synced again."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, str(shard))
    assert await child.wait() == -signal.SIGKILL
    journal = await Journal.open(shard, damaged=refuse_damage)
    assert await journal.ingest([(1, event(NOW))]) == 0
    (tmp_path / "copy" / "shard-0").mkdir(parents=True)
    name = "journal-2027-01-15.db"
    shutil.copy(shard / name, tmp_path / "copy" / "shard-0" / name)  # without its -wal
    assert await all_events(tmp_path / "copy" / "shard-0") == [event(NOW)]
    await journal.close()


def overwrite_all(path: Path) -> None:
    path.write_bytes(b"no database at all, not even nearly" * 300)


def overwrite_pages(path: Path) -> None:
    octets = bytearray(path.read_bytes())
    octets[4096:] = b"\xa5" * (len(octets) - 4096)
    path.write_bytes(octets)


@pytest.mark.parametrize("damage", [overwrite_all, overwrite_pages])
async def test_a_damaged_day_is_set_aside_and_a_new_one_begun(damage: Callable[[Path], None], shard: Path) -> None:
    told: list[tuple[str, str]] = []
    for number in (1, 2):
        await write(shard, [event()])
        damage(shard / "journal-2027-01-15.db")
        journal = await Journal.open(shard, damaged=lambda path, why: told.append((path.name, why)))
        assert await journal.ingest([(5, event(NOW + 5)), (6, event(NOW - DAY))]) == (2 if number == 1 else 1)
        await journal.close()
    assert [name for name, _ in told] == ["journal-2027-01-15.db.damaged-1", "journal-2027-01-15.db.damaged-2"]
    assert all("is damaged" in why for _, why in told)
    found = await Search(shard.parent).search(Query())
    assert [each.at for each in found.events] == [NOW + 5, NOW - DAY]
    assert sorted(Path(name).name for name in found.unreadable) == [name for name, _ in told]


def make_newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 2")


async def test_a_newer_file_is_refused_at_start_and_left_alone(shard: Path) -> None:
    await write(shard, [event()])
    path = shard / "journal-2027-01-15.db"
    make_newer(path)
    before = await asyncio.to_thread(path.read_bytes)
    with pytest.raises(SpoolVersion, match="version 2; this relay knows versions up to 1"):
        await Journal.open(shard, damaged=refuse_damage)
    assert await asyncio.to_thread(path.read_bytes) == before


async def test_a_newer_file_met_later_is_refused_too(shard: Path) -> None:
    journal = await Journal.open(shard, damaged=refuse_damage)
    newer = shard / "journal-2027-01-15.db"
    make_newer(newer)
    with pytest.raises(SpoolVersion):
        await journal.ingest([(1, event(NOW - DAY)), (2, event(NOW))])
    for age, expired in ((2, [date(2027, 1, 14)]), (4, [TODAY])):
        # What cannot be read is as old as its last writing.
        os.utime(newer, (NOW + 3 * DAY, NOW + 3 * DAY))
        assert list(await journal.expire(today=TODAY + timedelta(days=age + 1), retention_days=1)) == expired
    await journal.close()


async def test_a_directory_that_is_gone_is_an_error_of_ours(shard: Path) -> None:
    journal = await Journal.open(shard, damaged=refuse_damage)
    await asyncio.to_thread(shard.rmdir)
    with pytest.raises(RelayError):
        await journal.ingest([(1, event())])
    await asyncio.to_thread(shard.mkdir)
    assert await journal.ingest([(1, event())]) == 1
    await journal.close()
