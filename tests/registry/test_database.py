"""The file any process may change: one at a time, all or nothing, and every failure in words of ours."""

import asyncio
import fcntl
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path

import pytest

from relay.errors import DataError, RelayError, SpoolError, SpoolFull, SpoolVersion, Unavailable
from relay.registry.database import Database, exclusive, schema, translated

FIRST = "CREATE TABLE thing (name TEXT NOT NULL UNIQUE) STRICT;"
SECOND = "ALTER TABLE thing ADD COLUMN size INTEGER NOT NULL DEFAULT 7;"


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    opened = Database(tmp_path / "thing.db", scripts=[FIRST], patience=10.0)
    await opened.open()
    yield opened
    await opened.close()


def insert(name: str) -> Callable[[sqlite3.Connection], None]:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO thing (name) VALUES (?)", (name,))

    return change


def names(connection: sqlite3.Connection) -> list[str]:
    return [row["name"] for row in connection.execute("SELECT name FROM thing ORDER BY name")]


def modes_in(directory: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.iterdir()}


async def test_what_is_written_can_be_read(database: Database) -> None:
    await database.write(insert("a"))
    assert await database.read(names) == ["a"]


async def test_a_failed_change_changes_nothing(database: Database) -> None:
    def change(connection: sqlite3.Connection) -> None:
        insert("a")(connection)
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        await database.write(change)
    assert await database.read(names) == []


async def test_files_are_the_owners_alone(database: Database, tmp_path: Path) -> None:
    with closing(database.reader()) as reader:  # keeps -wal and -shm there
        await database.write(insert("a"))
        assert names(reader) == ["a"]
        modes = modes_in(tmp_path)
    assert modes == dict.fromkeys(["thing.db", "thing.db-wal", "thing.db-shm", "thing.db.lock"], 0o600)


async def test_a_cancelled_caller_does_not_half_a_change(database: Database) -> None:
    task = asyncio.create_task(database.write(insert("a")))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.read(names) in ([], ["a"])
    await database.write(insert("b"))


async def test_every_step_of_the_schema_is_taken(tmp_path: Path) -> None:
    for scripts in ([FIRST], [FIRST, SECOND]):
        database = Database(tmp_path / "thing.db", scripts=scripts)
        await database.open()
        if len(scripts) == 1:
            await database.write(insert("a"))
        else:
            rows = await database.read(
                lambda connection: [tuple(row) for row in connection.execute("SELECT * FROM thing")]
            )
            assert rows == [("a", 7)]
        await database.close()


async def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path) -> None:
    path = tmp_path / "thing.db"
    for scripts in ([FIRST], [FIRST, f"{SECOND} INSERT INTO missing VALUES (1);"]):
        database = Database(path, scripts=scripts)
        if len(scripts) == 2:
            with pytest.raises(SpoolError):
                await database.open()
        else:
            await database.open()
        await database.close()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert [row[1] for row in connection.execute("PRAGMA table_info(thing)")] == ["name"]


async def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "thing.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 3")
    before = path.read_bytes()
    database = Database(path, scripts=[FIRST, SECOND])
    with pytest.raises(SpoolVersion, match="version 3; this relay knows versions up to 2") as refused:
        await database.open()
    await database.close()
    assert path.read_bytes() == before and refused.value.remedy


@pytest.mark.parametrize(("name", "version"), [("registry", 5), ("suppression", 1)])
def test_the_shipped_schemas_are_found(name: str, version: int) -> None:
    assert len(schema(name)) == version


async def test_a_process_that_keeps_the_lock_is_named_after_a_while(tmp_path: Path) -> None:
    database = Database(tmp_path / "thing.db", scripts=[FIRST], patience=0.05)
    await database.open()
    with (tmp_path / "thing.db.lock").open() as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process") as refused:
            await database.write(insert("a"))
    assert "lslocks" in refused.value.remedy
    await database.write(insert("a"))
    await database.close()


def test_the_lock_excludes_threads_of_one_process(tmp_path: Path) -> None:
    path = tmp_path / "thing.db"
    with exclusive(path, patience=0.0), pytest.raises(Unavailable), exclusive(path, patience=0.01):
        pass


def prepare_missing(tmp_path: Path) -> Path:
    return tmp_path / "missing" / "thing.db"


def prepare_garbage(tmp_path: Path) -> Path:
    (tmp_path / "thing.db").write_bytes(b"this is no database, and long enough to be looked at" * 100)
    return tmp_path / "thing.db"


def prepare_directory(tmp_path: Path) -> Path:
    (tmp_path / "thing.db").mkdir()
    return tmp_path / "thing.db"


@pytest.mark.parametrize(
    ("prepare", "expected"),
    [
        pytest.param(prepare_missing, "missing does not exist", id="a spool directory that is missing"),
        pytest.param(prepare_garbage, "is damaged", id="a file that is no database"),
        pytest.param(prepare_directory, "cannot be opened", id="a directory in its place"),
    ],
)
async def test_what_cannot_be_opened(prepare: Callable[[Path], Path], expected: str, tmp_path: Path) -> None:
    database = Database(prepare(tmp_path), scripts=[FIRST])
    with pytest.raises(RelayError, match=expected) as refused:
        await database.open()
    await database.close()
    assert refused.value.remedy


async def test_a_full_disk_is_said_to_be_full(database: Database) -> None:
    def change(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 4")  # SQLite's own SQLITE_FULL, as from a full disk
        connection.executemany("INSERT INTO thing VALUES (?)", [(f"{n}{'x' * 900}",) for n in range(100)])

    with pytest.raises(SpoolFull, match="no space left"):
        await database.write(change)
    assert await database.read(names) == []


def test_a_full_disk_is_said_to_be_full_to_a_reader_too() -> None:
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR_SHMSIZE
    with pytest.raises(SpoolFull), translated(Path("/x/thing.db")):
        raise error


@pytest.mark.parametrize(
    ("number", "error"),
    [
        pytest.param(28, SpoolFull, id="ENOSPC is a full disk"),
        pytest.param(122, SpoolFull, id="EDQUOT too"),
        pytest.param(5, SpoolError, id="EIO is the disk's"),
    ],
)
def test_the_systems_errors_are_translated(number: int, error: type[RelayError]) -> None:
    with pytest.raises(error), translated(Path("/x/thing.db")):
        raise OSError(number, "as the system says")


WRITER = """
import asyncio, sys
from pathlib import Path
from relay.registry.database import Database

async def main(path, mark, count):
    database = Database(Path(path), scripts=["CREATE TABLE thing (name TEXT NOT NULL UNIQUE) STRICT;"])
    await database.open()
    for number in range(int(count)):
        name = f"{mark}{number}{'x' * 300}"
        await database.write(lambda connection: connection.execute("INSERT INTO thing VALUES (?)", (name,)).rowcount)
        print(number, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


def start_writer(path: Path, mark: str, count: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-c", WRITER, str(path), mark, str(count)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE)


async def test_processes_that_write_at_once_lose_nothing(database: Database) -> None:
    writers = [start_writer(database.path, mark, 60) for mark in "abc"]
    for number in range(60):
        await database.write(insert(f"d{number}"))
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    for writer in writers:
        assert writer.stdout is not None
        writer.stdout.close()
    assert len(await database.read(names)) == 240
    assert await database.read(lambda c: c.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"


async def test_a_killed_writer_leaves_what_it_reported_and_no_lock(database: Database) -> None:
    writer = start_writer(database.path, "a", 100_000)
    assert writer.stdout is not None
    reported = [int(await asyncio.to_thread(writer.stdout.readline)) for _ in range(20)]
    os.kill(writer.pid, signal.SIGKILL)
    reported += [int(line) for line in writer.stdout.read().split(b"\n") if line]
    writer.stdout.close()
    writer.wait(10)
    kept = await database.read(names)
    assert {f"a{number}{'x' * 300}" for number in reported} <= set(kept)
    assert len(kept) in (len(reported), len(reported) + 1)
    await database.write(insert("b"))
