"""spool.salvage: what can be read of a damaged shard, into a new database.

Rows come from `pages`, whatever SQLite makes of the file. A recipient that can be read is kept, its message and content
with it; where they cannot, or where a checksum differs, it is set aside under its id. What is left of a message none of
whose recipients can be read is kept in the damaged original only, and named. Nothing of the original is written.

The new database is on disk when this returns; `replacing` puts it in its place.
"""

# ruff: noqa: S608  what is put into SQL here are constants of ours; values are bound

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.creation import sync_directory
from relay.mail.event import Event
from relay.spool import database, failure, rows, stored, verbs
from relay.spool.content import StoredContent
from relay.spool.numbering import id_of
from relay.spool.operations import Steps
from relay.spool.outbox import unpacked
from relay.spool.pages import Pages, Record
from relay.spool.recovery import CONTENT, DATABASE
from relay.spool.setting_aside import NO_CONTENT, damage_of_file
from relay.spool.tables import Tables

_RECIPIENT = (int, int, str, str, str, str, int, int, float, float, float, int, str)
_STATUSES = (rows.FRESH, rows.QUEUED, rows.HELD, rows.INTENDED, rows.DOUBTFUL)
_ADD = {
    "message": "INSERT OR IGNORE INTO message VALUES (?, ?, ?, ?, ?)",
    "content": "INSERT OR IGNORE INTO content VALUES (?, ?, ?, ?, ?, ?)",
    "recipient": f"INSERT OR IGNORE INTO recipient VALUES ({', '.join('?' * 15)})",
    "event": "INSERT OR IGNORE INTO event VALUES (?, ?)",
    "suppression": "INSERT OR IGNORE INTO suppression VALUES (?, ?)",
    "mark": "UPDATE mark SET sequence = max(sequence, ?2) WHERE name = ?1",
}
_PAGE = 500
_MOST_SEQUENCE = 1 << 62

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Fragment:
    """What is left of a message none of whose recipients can be read. sender: None where it is not known either."""

    message: str
    sender: str | None


@dataclass(frozen=True, slots=True)
class Salvaged:
    """owed: (message, address) of all recipients that were kept, set aside or not.

    events: those that are not in the journal yet. set_aside: recipients.
    """

    database: Path
    messages: int
    owed: frozenset[tuple[str, str]]
    set_aside: int
    fragments: tuple[Fragment, ...]
    events: tuple[Event, ...]


def salvage(directory: Path, new: Path, *, shard: int, now: Callable[[], float]) -> Salvaged:
    """directory: the shard's, whose lock the caller has. new: the database to make. Raises SpoolFull, SpoolError."""
    with failure.translated(f"{new} cannot be made"):
        connection = database.open_for_writing(new)
        try:
            return _Salvage(connection, directory, new, shard=shard, now=now).run()
        finally:
            connection.close()


class _Salvage:
    def __init__(self, connection: Any, directory: Path, new: Path, *, shard: int, now: Callable[[], float]) -> None:
        self._connection = connection
        self._execute = connection.execute
        self._directory = directory
        self._new = new
        self._shard = shard
        self._now = now

    def run(self) -> Salvaged:
        self._execute("BEGIN IMMEDIATE")
        self._copy()
        fragments = self._take_out_fragments()
        self._set_aside()
        self._execute("COMMIT")
        self._execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sync_directory(self._new.parent)
        return self._salvaged(fragments)

    def _copy(self) -> None:
        pages = Pages(self._directory / DATABASE)
        try:
            for record in pages.records():
                for table, row in _rows_of(record):
                    self._execute(_ADD[table], stored.insertable(table, row))
        finally:
            pages.close()

    def _take_out_fragments(self) -> tuple[Fragment, ...]:
        numbers = dict(
            self._execute(
                "SELECT number, sender FROM message WHERE NOT EXISTS (SELECT 1 FROM recipient WHERE message = number)"
                " UNION ALL SELECT content.message, NULL FROM content WHERE NOT EXISTS (SELECT 1 FROM message"
                " WHERE number = content.message)"
                " AND NOT EXISTS (SELECT 1 FROM recipient WHERE recipient.message = content.message)"
            ).fetchall()
        )
        for number in numbers:
            self._execute("DELETE FROM message WHERE number = ?", (number,))
            self._execute("DELETE FROM content WHERE message = ?", (number,))
        return tuple(Fragment(id_of(number, shard=self._shard), numbers[number]) for number in sorted(numbers))

    def _set_aside(self) -> None:
        tables = Tables(
            self._connection,
            event_sequence=self._last("event"),
            suppression_sequence=self._last("suppression"),
        )
        for reason, recipients in self._damaged():
            _run(verbs.change(tables, verbs.SET_ASIDE, recipients, now=self._now(), by=reason))

    def _damaged(self) -> Iterator[tuple[str, list[Any]]]:
        """Rows, then contents, as they are met."""
        columns = f"SELECT {stored.QUEUED_COLUMNS} FROM recipient r LEFT JOIN message m ON m.number = r.message"
        after: Row = (-1, -1)
        page = f"{columns} WHERE (r.message, r.position) > (?, ?) ORDER BY r.message, r.position LIMIT {_PAGE}"
        while found := self._execute(page, after).fetchall():
            after = found[-1][:2]
            for one in stored.queued_recipients(found, shard=self._shard).damaged:
                yield one.reason, [one.recipient]
        for number, reason in self._damaged_contents():
            of_message = self._execute(f"{columns} WHERE r.message = ?", (number,)).fetchall()
            yield reason, stored.everyone(stored.queued_recipients(of_message, shard=self._shard))

    def _damaged_contents(self) -> Iterator[tuple[int, str]]:
        after = -1
        page = (
            "SELECT n.message, head, body, body_size, file, checksum FROM (SELECT DISTINCT message FROM recipient"
            f" WHERE message > ? ORDER BY message LIMIT {_PAGE}) n LEFT JOIN content c ON c.message = n.message"
        )
        while found := self._execute(page, (after,)).fetchall():
            for number, head, body, size, file, checksum in found:
                after = max(after, number)
                path = None if file is None else self._directory / CONTENT / str(file)
                content = StoredContent(head, body, path, size, checksum)
                damage = NO_CONTENT if head is None else damage_of_file(number, content)
                if damage:
                    yield number, damage

    def _last(self, table: str) -> int:
        last: int = self._execute(
            f"SELECT max(coalesce((SELECT max(sequence) FROM {table}), 0), sequence) FROM mark WHERE name = ?", (table,)
        ).fetchone()[0]
        return last

    def _salvaged(self, fragments: tuple[Fragment, ...]) -> Salvaged:
        execute, shard = self._execute, self._shard
        packed = [event for (event,) in execute("SELECT event FROM event ORDER BY sequence")]
        return Salvaged(
            database=self._new,
            messages=execute("SELECT count(DISTINCT message) FROM recipient").fetchone()[0],
            owed=frozenset(
                (id_of(number, shard=shard), address)
                for number, address in execute("SELECT message, address FROM recipient")
            ),
            set_aside=execute("SELECT count(*) FROM recipient WHERE damage IS NOT NULL").fetchone()[0],
            fragments=fragments,
            events=tuple(map(rows.unpack_event, packed)),
        )


def _rows_of(record: Record) -> Iterable[tuple[str, Row]]:
    """The rows a record may be, by its shape: what is no row of ours gives none."""
    values, rowid = record.values, record.rowid
    if rowid is None:
        return _recipient(values) if len(values) in (13, 15) else ()
    shape = tuple(type(each) for each in values)
    none = type(None)
    match values:
        case (None, str(), str(), bytes(), *_) if shape[4:] in ((), (int,), (none,)):
            return [("message", (rowid, *values[1:4], *(values[4:] or (None,))))]
        case (None, bytes(), bytes(), int(), str() | None, *_) if shape[5:] in ((), (int,), (none,)):
            return [("content", (rowid, *values[1:5], *(values[5:] or (None,))))]
        case (None, bytes(packed)) if 0 < rowid < _MOST_SEQUENCE:
            return _outbox(rowid, packed)
        case ("event" | "suppression" as name, int(sequence)) if 0 <= sequence < _MOST_SEQUENCE:
            return [("mark", (name, sequence))]
    return ()


def _recipient(values: Row) -> Iterable[tuple[str, Row]]:
    """What changes is kept if it can be, else it is as of one that was never tried, and to be set aside."""
    keys_are_sound = type(values[0]) is int and type(values[1]) is int and values[0] >= 0 <= values[1]
    if not keys_are_sound or not all(type(each) is str for each in values[2:6]):
        return ()
    values = _with_floats(values)
    checksum, damage = values[13:] if len(values) == 15 else (None, None)
    is_sound = all(type(each) is kind for each, kind in zip(values, _RECIPIENT, strict=False))
    if not is_sound or values[6] not in _STATUSES or type(checksum) not in (int, type(None)):
        return [("recipient", (*values[:6], rows.HELD, 0, 0.0, 0.0, 0.0, 0, "", stored.NO_CHECKSUM, None))]
    return [("recipient", (*values[:13], checksum, damage if isinstance(damage, str) else None))]


def _with_floats(values: Row) -> Row:
    """SQLite keeps a REAL that is a whole number as an integer."""
    return (*values[:8], *(float(each) if type(each) is int else each for each in values[8:11]), *values[11:])


def _outbox(sequence: int, packed: bytes) -> Iterable[tuple[str, Row]]:
    """Events and suppressions look alike but for what is in them."""
    if unpacked([(sequence, packed)], rows.unpack_suppression).rows:
        return [("suppression", (sequence, packed))]
    if unpacked([(sequence, packed)], rows.unpack_event).rows:
        return [("event", (sequence, packed))]
    return ()


def _run(steps: Steps[Any]) -> None:
    for _ in steps:
        continue
