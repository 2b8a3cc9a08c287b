"""spool.copying: a copy of a shard that can be put in its place later, made beside an owner that works or with none.

Rows are copied by messages, some hundred a read, so that no reader keeps the owner's log from being used anew (SQLite's
own ways read everything in one, or begin anew whenever something is written). Each message is as it was at one moment:
its content with all recipients that were owed then. What was accepted before the copy was begun and had not ended when
its turn came is in it. A content file whose message ended while it was copied is left out, and so are its rows.

The outbox comes after the messages, and is to be followed by the journal and the suppression list: then nothing that
was moved there meanwhile is missing from all of them, and what is in two is taken once.
"""

# ruff: noqa: S608  what is put into SQL here are constants of ours; values are bound

import os
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relay.creation import sync_directory
from relay.spool import database, stored
from relay.spool.content import CHUNK_OCTETS
from relay.spool.failure import translated
from relay.spool.recovery import CONTENT, DATABASE, make_directory, shard_directory

PAGE = 200
_KEYS = (("message", "number"), ("content", "message"), ("recipient", "message"))


@dataclass(frozen=True, slots=True)
class Copied:
    """What is in the copy. missing: content files that messages name and the shard has not; those are damaged."""

    messages: int
    recipients: int
    missing: tuple[str, ...]


def copy_shard(directory: Path, target: Path, *, shard: int) -> Copied:
    """From the spool's directory into another's; on disk when it returns. Blocks.

    Raises SpoolVersion, SpoolDamaged, SpoolFull, SpoolError.
    """
    own, new = shard_directory(directory, shard), shard_directory(target, shard)
    make_directory(new)
    with (
        translated(f"{own} cannot be copied"),
        closing(database.open_for_reading(own / DATABASE)) as source,
        closing(database.open_for_writing(new / DATABASE)) as copy,
    ):
        return _Copying(source, copy, own / CONTENT, new / CONTENT).run()


class _Copying:
    def __init__(self, source: sqlite3.Connection, copy: sqlite3.Connection, files: Path, new_files: Path) -> None:
        self._source = source
        self._copy = copy
        self._files = files
        self._new_files = new_files
        self._missing: list[str] = []

    def run(self) -> Copied:
        after = -1
        while numbers := self._numbers(after):
            self._page(after, numbers[-1])
            after = numbers[-1]
        self._outbox()
        self._copy.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        sync_directory(self._new_files)
        sync_directory(self._new_files.parent)
        ((messages, recipients),) = self._copy.execute("SELECT count(DISTINCT message), count(*) FROM recipient")
        return Copied(messages, recipients, tuple(self._missing))

    def _numbers(self, after: int) -> list[int]:
        sql = "SELECT DISTINCT message FROM recipient WHERE message > ? ORDER BY message LIMIT ?"
        return [number for (number,) in self._source.execute(sql, (after, PAGE))]

    def _page(self, after: int, last: int) -> None:
        self._source.execute("BEGIN")
        self._copy.execute("BEGIN")
        for table, key in _KEYS:
            rows = self._source.execute(f"SELECT * FROM {table} WHERE {key} > ? AND {key} <= ?", (after, last))
            self._insert(table, rows.fetchall())
        self._source.execute("COMMIT")
        named = self._copy.execute(
            "SELECT message, file FROM content WHERE message > ? AND message <= ? AND file IS NOT NULL", (after, last)
        )
        for number, file in named.fetchall():
            if not self._file(str(file)):
                self._without_file(number, str(file))
        self._copy.execute("COMMIT")

    def _insert(self, table: str, rows: list[tuple[object, ...]]) -> None:
        if rows:
            sql = f"INSERT INTO {table} VALUES ({', '.join('?' * len(rows[0]))})"
            self._copy.executemany(sql, [stored.insertable(table, row) for row in rows])

    def _file(self, name: str) -> bool:
        """Whether it was there."""
        try:
            with (self._files / name).open("rb") as source, (self._new_files / name).open("xb") as copy:
                shutil.copyfileobj(source, copy, CHUNK_OCTETS)
                copy.flush()
                os.fsync(copy.fileno())
        except FileNotFoundError:
            (self._new_files / name).unlink(missing_ok=True)
            return False
        return True

    def _without_file(self, number: int, name: str) -> None:
        """Its message ended meanwhile; or it is damaged, and will be set aside where the copy is used."""
        if self._source.execute("SELECT 1 FROM recipient WHERE message = ?", (number,)).fetchone():
            self._missing.append(name)
            return
        for table, key in _KEYS:
            self._copy.execute(f"DELETE FROM {table} WHERE {key} = ?", (number,))

    def _outbox(self) -> None:
        """The marks last: a sequence that was carried over stays used."""
        self._copy.execute("BEGIN")
        for table in ("event", "suppression"):
            after, page = -1, f"SELECT * FROM {table} WHERE sequence > ? ORDER BY sequence LIMIT {PAGE}"
            while rows := self._source.execute(page, (after,)).fetchall():
                self._insert(table, rows)
                after = rows[-1][0]
        marks = self._source.execute("SELECT sequence, name FROM mark").fetchall()
        self._copy.executemany("UPDATE mark SET sequence = ? WHERE name = ?", marks)
        self._copy.execute("COMMIT")
