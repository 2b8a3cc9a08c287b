"""spool.reads: the owner's questions, on a connection that only reads, in a thread of its own.

The writing connection cannot be asked while it commits. What is read is what was committed when the question was put;
so a recipient that was settled, held or cancelled while the question was on its way would come back as if nothing had
happened, and be delivered twice. `ask_due` leaves out whatever was noted since it began.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import aiosqlite

from relay.spool import database
from relay.spool.failure import translated
from relay.spool.queries import Query
from relay.spool.values import QueuedRecipient

T = TypeVar("T")
Key = tuple[int, int]


class Reads:
    """Raises SpoolError."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection
        self._under_way: list[set[Key]] = []

    @classmethod
    async def open(cls, path: Path) -> "Reads":
        with translated(f"{path} cannot be read"):
            connection = await aiosqlite.connect(database.read_only_uri(path), uri=True, isolation_level=None)
            await connection.execute_fetchall(f"PRAGMA busy_timeout = {database.READ_BUSY_MILLISECONDS}")
            # Having read once it is known to the database as one that uses it: `opening` relies on that.
            await connection.execute_fetchall("PRAGMA user_version")
        return cls(connection)

    async def ask(self, query: Query[T]) -> T:
        with translated("the spool cannot be read"):
            found = await self._connection.execute_fetchall(query.sql, query.parameters)
        return query.result(list(found))

    async def ask_due(self, query: Query[list[QueuedRecipient]]) -> list[QueuedRecipient]:
        changed: set[Key] = set()
        self._under_way.append(changed)
        try:
            found = await self.ask(query)
        finally:
            self._under_way = [other for other in self._under_way if other is not changed]
        return [one for one in found if one.cursor[1:] not in changed] if changed else found

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
