"""spool.reads: the owner's questions, on a connection that only reads, in a thread of its own.

The writing connection cannot be asked while it commits. What is read is what was committed when the question was put.
Two things follow for whoever walks through what is due. A recipient that was settled, held or cancelled while the
question was on its way would come back as if nothing had happened, and be delivered twice: what was noted since it
began is left out. And a recipient may be queued for a time that was already walked past, since a commit takes its
time: the walk then begins again from there, so that nothing due is ever missed by one who only walks on.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TypeVar

import aiosqlite

from relay.errors import SpoolDamaged
from relay.spool import database, integrity, queries
from relay.spool.failure import translated
from relay.spool.inline import InlineConnection
from relay.spool.queries import Query
from relay.spool.stored import Found, Key
from relay.spool.tables import INFINITY
from relay.spool.values import Cursor

T = TypeVar("T")


class Connection(Protocol):
    """aiosqlite's, but for a dry run."""

    async def execute_fetchall(self, sql: str, parameters: Iterable[Any] | None = None) -> Iterable[Any]: ...

    async def close(self) -> None: ...


class Reads:
    """Raises SpoolError."""

    def __init__(self, connection: Connection, *, directory: Path) -> None:
        self._connection = connection
        self._directory = directory
        self._under_way: list[set[Key]] = []
        self._walked_to = -INFINITY
        self._behind = INFINITY  # the earliest due time of what was queued where the walk had already been

    @classmethod
    async def open(cls, path: Path, *, inline: bool = False) -> "Reads":
        with translated(f"{path} cannot be read"):
            connection = InlineConnection(path) if inline else await _in_a_thread(path)
            await connection.execute_fetchall(f"PRAGMA busy_timeout = {database.READ_BUSY_MILLISECONDS}")
            # Having read once it is known to the database as one that uses it: `opening` relies on that.
            await connection.execute_fetchall("PRAGMA user_version")
        return cls(connection, directory=path.parent)

    async def ask(self, query: Query[T]) -> T:
        try:
            with translated("the spool cannot be read"):
                found = await self._connection.execute_fetchall(query.sql, query.parameters)
            return query.result(list(found))
        except SpoolDamaged:
            integrity.suspect(self._directory)
            raise

    async def walk(self, *, after: Cursor | None, until: float, limit: int, shard: int) -> Found:
        """What is due, from a cursor on; or from before it, if something was queued there."""
        behind, self._behind = self._behind, INFINITY
        self._walked_to = max(self._walked_to, until)
        if after is not None and behind <= after[0]:
            after = (behind, -1, -1)
        walked = False
        try:
            found = await self.ask_due(queries.due(after=after, until=until, limit=limit, shard=shard))
            walked = not found.damaged
        finally:
            if not walked:  # it will be walked again
                self.queued(behind)
        return found

    def queued(self, due_at: float) -> None:
        """Something was queued for then, and is on disk now."""
        if due_at <= self._walked_to:
            self._behind = min(self._behind, due_at)

    async def ask_due(self, query: Query[Found]) -> Found:
        changed: set[Key] = set()
        self._under_way.append(changed)
        try:
            found = await self.ask(query)
        finally:
            self._under_way = [other for other in self._under_way if other is not changed]
        return found.without(changed) if changed else found

    @property
    def any_under_way(self) -> bool:
        return bool(self._under_way)

    def note(self, keys: Iterable[Key]) -> None:
        """These recipients are no longer what a question under way may still see."""
        met = set(keys)
        for changed in self._under_way:
            changed.update(met)

    async def close(self) -> None:
        await self._connection.close()


async def _in_a_thread(path: Path) -> aiosqlite.Connection:
    connection = await aiosqlite.connect(database.read_only_uri(path), uri=True, isolation_level=None)
    connection.text_factory = database.as_text
    return connection
