"""journal.dayfile: one shard's events of one day, a SQLite file.

A file has one writer, the worker that owns the shard, and any number of readers in any process. The day (UTC) is that
of the message's acceptance, which its queue id tells, so that a message's whole story is in one file; a rejection
without an id goes by its own time.

WAL with synchronous=FULL: what `add` has committed survives a power cut, for the spool forgets it next. The log is
carried over here rather than by SQLite, which keeps the errors of that to itself; after any error the file is abandoned
with its log as it is, and opening it anew writes all of that anew first (`relay.wal`). A file made by a newer relay is
refused (SpoolVersion) and left as it is; one that cannot be read is `Damaged`.
"""

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, date, datetime
from importlib.resources import files
from itertools import count
from pathlib import Path

from relay.creation import MAKING, create_whole, is_half_made
from relay.errors import SpoolVersion
from relay.journal.encoding import COLUMNS, decode, flattened, placeholders, row
from relay.journal.failure import Damaged, translated
from relay.mail import queue_id
from relay.mail.event import Event
from relay.wal import is_whole, write_anew

VERSION = 1
LARGEST_INSERT = 2000  # rows; SQLite takes 32766 parameters
PREPARED = 16  # statements kept; a large one takes some 500 KB
LOG_PAGES = 4000
PAGES_OF_COMMIT = 10  # about; the table's and each index's
EVENTS_OF_PAGE = 4
BUSY_SECONDS = 5.0
READ_FOR_SECONDS = 0.5  # waited for who reads a file that was not closed in order

_NAME = re.compile(r"journal-(\d{4}-\d{2}-\d{2})\.db")
_TRACE = re.compile(rf"{_NAME.pattern}(?:\.damaged-\d+|{re.escape(MAKING)})?(?:-wal|-shm|-journal)?")


def day_of(event: Event) -> date:
    known = event.message and queue_id.is_valid(event.message)
    return day_at(queue_id.accepted_at(event.message) if known else event.at)


def by_day(events: Sequence[tuple[int, Event]]) -> dict[date, list[tuple[int, Event]]]:
    """Sorted into their days. Ids sort by time, so most are only compared with the first and last of the day before
    them.
    """
    days: dict[date, list[tuple[int, Event]]] = {}
    first = beyond = ""
    rows: list[tuple[int, Event]] = []
    for sequence, event in events:
        if not first <= event.message < beyond:
            day = day_of(event)
            first, beyond = _ids_of(day)
            rows = days.setdefault(day, [])
        rows.append((sequence, event))
    return days


def _ids_of(day: date) -> tuple[str, str]:
    """The least queue id of a day and of the next."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    return queue_id.new(now=midnight, shard=0, random=0), queue_id.new(now=midnight + 86400, shard=0, random=0)


def day_at(seconds: float) -> date:
    return datetime.fromtimestamp(seconds, UTC).date()


def path_of(directory: Path, day: date) -> Path:
    return directory / f"journal-{day.isoformat()}.db"


def day_files(directory: Path) -> dict[date, Path]:
    """Those that may be written and searched."""
    return {day: path for path in directory.iterdir() if (day := _day(_NAME, path)) is not None}


def traces(directory: Path) -> Iterator[tuple[date, Path]]:
    """Every file that belongs to a day: also set aside as damaged, and SQLite's -wal and -shm."""
    for path in sorted(directory.iterdir()):
        if (day := _day(_TRACE, path)) is not None:
            yield day, path


def set_aside(directory: Path) -> Iterator[Path]:
    """Files that were found damaged."""
    return (path for _, path in traces(directory) if re.search(r"\.damaged-\d+$", path.name))


def _day(pattern: re.Pattern[str], path: Path) -> date | None:
    match = pattern.fullmatch(path.name)
    try:
        return date.fromisoformat(match[1]) if match else None
    except ValueError:  # journal-2026-02-31.db is none of ours
        return None


class DayFile:
    """The writer's side. Its methods block and raise SpoolError; after one has, `abandon` it and open it anew."""

    def __init__(self, path: Path) -> None:
        """Raises SpoolError, Unavailable while it is read since before a crash."""
        self.path = path
        self._pages = 0  # of the log, about
        with translated(path):
            create_whole(path, _filled)
            with reading(path):  # that it is of no newer version
                pass
            write_anew(path, within=READ_FOR_SECONDS)
            self._connection = _filled(path)
            try:
                self._prepare()
                self._last = _known(_connect(path, mode="ro"))
            except BaseException:
                self._connection.close()
                raise

    def add(self, events: Sequence[tuple[int, Event]]) -> int:
        """On disk when it returns; how many were not there yet.

        One statement, which is its own transaction: SQLite releases the interpreter for its time, and each return to a
        busy event loop's interpreter may take 5 ms (measured: 880 µs an event with executemany, 30 µs with this).
        """
        added = 0
        with translated(self.path):
            for first in range(0, len(events), LARGEST_INSERT):
                rows = [row(next(self._numbers), *each) for each in events[first : first + LARGEST_INSERT]]
                added += self._connection.execute(_insert(len(rows)), flattened(rows)).rowcount
                self._pages += PAGES_OF_COMMIT + len(rows) // EVENTS_OF_PAGE
            if self._pages > LOG_PAGES:
                self._carry_over()
        return added

    def _carry_over(self) -> None:
        if is_whole(self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()):
            self._pages = 0

    def close(self) -> None:
        """In order: the log is carried over."""
        self._last.close()
        self._connection.close()

    def abandon(self) -> None:
        """After an error. Who closes last carries the log over if it may write; so the one that may not is last."""
        self._connection.close()
        self._last.close()

    def _prepare(self) -> None:
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute("PRAGMA wal_autocheckpoint = 0")
        ((last,),) = self._connection.execute("SELECT coalesce(max(id), 0) FROM event")
        self._numbers = count(last + 1)


def _filled(path: Path) -> sqlite3.Connection:
    connection = _connect(path, mode="rw")
    try:
        if _version(connection) == 0:
            script = (files("relay.journal") / "journal-1.sql").read_text(encoding="utf-8")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = 1;\nCOMMIT;")
    except BaseException:
        connection.close()
        raise
    return connection


def _known(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Having read once it is one of those that use the file."""
    connection.execute("PRAGMA user_version").fetchone()
    return connection


def _insert(rows: int) -> str:
    return f"INSERT INTO event ({COLUMNS}) VALUES {placeholders(rows)} ON CONFLICT (sequence, at) DO NOTHING"  # noqa: S608


@contextmanager
def reading(path: Path) -> Iterator[sqlite3.Connection | None]:
    """A file opened to be searched; None when it has no events yet, or was deleted. Raises SpoolError, SpoolVersion."""
    if is_half_made(path):
        yield None
        return
    with translated(path):
        try:
            connection = _connect(path, mode="ro")
        except sqlite3.OperationalError:
            if path.exists():
                raise
            yield None
            return
        with closing(connection):
            check_version(connection, path)
            connection.execute("BEGIN")
            yield connection if _version(connection) else None


def damages(path: Path) -> list[str]:
    """What SQLite finds wrong with a file, and events that cannot be understood. Raises SpoolError, SpoolVersion."""
    try:
        with reading(path) as connection:
            if connection is None:
                return []
            found = [str(text) for (text,) in connection.execute("PRAGMA integrity_check") if text != "ok"]
            return found or _undecoded(connection)
    except Damaged as error:
        return [error.text]


def copy(path: Path, target: Path) -> None:
    """One moment's state into a file that is not there yet, and on disk. Raises SpoolError, SpoolVersion."""
    with translated(path), closing(_connect(path, mode="ro")) as source, closing(sqlite3.connect(target)) as made:
        check_version(source, path)
        source.backup(made)
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _undecoded(connection: sqlite3.Connection) -> list[str]:
    count = sum(not _is_event(octets) for (octets,) in connection.execute("SELECT event FROM event"))
    return [f"{count} of its events cannot be understood"] if count else []


def _is_event(octets: bytes) -> bool:
    try:
        decode(octets)
    except ValueError:
        return False
    return True


def check_version(connection: sqlite3.Connection, path: Path) -> None:
    """Raises SpoolVersion."""
    version = _version(connection)
    if version > VERSION:
        raise SpoolVersion(
            f"{path} has version {version}; this relay knows versions up to {VERSION}",
            remedy="Run the newer relay that wrote it, or move the file elsewhere; nothing was changed.",
        )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _connect(path: Path, *, mode: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY_SECONDS, cached_statements=PREPARED
    )
