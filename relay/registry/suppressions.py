"""registry.suppressions: addresses that are not sent to.

There may be millions, so they are never loaded: `lookup` is a read by index, synchronous because it takes some
microseconds and stands in a session's RCPT. It sees what any process has committed. Changes are on disk when they
return.

A shard's findings arrive by `absorb`, in the order of their sequence and possibly more than once (a crash between
absorbing and forgetting); each counts once.
"""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from relay.mail.suppression import Strike, Suppression
from relay.registry import suppression_rows as rows
from relay.registry.database import Database, schema, translated
from relay.registry.suppression_files import Format, header, read, write
from relay.registry.suppression_rows import Filter

FILE_NAME = "suppression.db"
EXPORT_PAGE = 1000
EVERYTHING = Filter()


@dataclass(frozen=True, slots=True)
class Imported:
    """lines: suppressions in the input. changed: those that were new or stronger than what was there."""

    lines: int
    changed: int


class Suppressions:
    """Make one with `open`, after forking; end it with `close`."""

    def __init__(self, database: Database, *, now: Callable[[], float]) -> None:
        self._database = database
        self._now = now
        self._reader = database.reader()

    @classmethod
    async def open(cls, directory: Path, *, now: Callable[[], float], patience: float = 30.0) -> "Suppressions":
        """Make or migrate `directory`/suppression.db. patience: seconds to wait for other processes' changes."""
        database = Database(directory / FILE_NAME, scripts=schema("suppression"), patience=patience)
        await database.open()
        return cls(database, now=now)

    async def close(self) -> None:
        self._reader.close()
        await self._database.close()

    def lookup(self, address: str, *, scopes: Collection[str] = ("all",)) -> Suppression | None:
        """Why the address is suppressed now in one of the scopes, or None. Raises SpoolError."""
        try:
            return rows.lookup(self._reader, address, scopes, now=self._now())
        except sqlite3.Error:
            with translated(self._database.path):
                raise

    async def add(self, suppressions: Iterable[Suppression]) -> int:
        """How many were new or stronger; of the same address and scope the one that lasts longest stays."""
        batch = tuple(suppressions)
        return await self._database.write(lambda connection: rows.add(connection, batch))

    async def remove(self, address: str, *, scope: str = "") -> int:
        """How many there were. scope: "" for every scope."""
        return await self._database.write(lambda connection: rows.remove(connection, address, scope))

    async def find(self, wanted: Filter = EVERYTHING, *, limit: int = 100, offset: int = 0) -> list[Suppression]:
        """Those in force, newest first."""
        now = self._now()
        return await self._database.read(
            lambda connection: rows.select(connection, wanted, limit=limit, offset=offset, now=now)
        )

    async def count(self, wanted: Filter = EVERYTHING) -> int:
        now = self._now()
        return await self._database.read(lambda connection: rows.count(connection, wanted, now=now))

    async def absorb(self, shard: int, found: Sequence[tuple[int, Suppression | Strike]]) -> int:
        """Take over rows of a shard, each (shard, sequence) once; returns how many were taken."""
        now = self._now()
        return await self._database.write(lambda connection: rows.absorb(connection, shard, found, now=now))

    async def export(self, form: Format) -> AsyncIterator[str]:
        """The text of a file, in pieces; changes made meanwhile may or may not be in it."""
        yield header(form)
        now, after = self._now(), 0
        while True:
            question = partial(rows.page, after=after, limit=EXPORT_PAGE, now=now)
            page, after = await self._database.read(question)
            if not page:
                return
            yield write(page, form)

    async def import_from(self, lines: Iterable[str], form: Format) -> Imported:
        """All lines or none. lines: read in a thread. Raises DataError, which names the line."""
        now = self._now()
        with translated(self._database.path):
            staged = await asyncio.to_thread(_stage, lines, form, now=now)
        with closing(staged):
            return await self._database.write(lambda connection: _take(connection, staged))


def _stage(lines: Iterable[str], form: Format, *, now: float) -> sqlite3.Connection:
    """Everything read and checked before the lock is asked for, in a temporary file that goes with its connection."""
    staged = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        staged.executescript("CREATE TABLE line (address, cause, created_at, expires_at, scope, message, reply); BEGIN")
        staged.executemany(
            "INSERT INTO line VALUES (?, ?, ?, ?, ?, ?, ?)", map(rows.row_of, read(lines, form, now=now))
        )
        staged.execute("COMMIT")
    except BaseException:
        staged.close()
        raise
    return staged


def _take(connection: sqlite3.Connection, staged: sqlite3.Connection) -> Imported:
    ((lines,),) = staged.execute("SELECT count(*) FROM line")
    # In the order of the index, so that a long list touches each of its pages once.
    in_order = staged.execute("SELECT * FROM line ORDER BY address, scope")
    return Imported(lines, changed=connection.executemany(rows.ADD, in_order).rowcount)
