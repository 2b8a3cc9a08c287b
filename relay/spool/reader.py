"""spool.reader: a look into a shard from another process, whether its owner runs or not.

Opens read-only, takes no lock and keeps none between two questions; it never holds the owner up. Blocking: for
commands, and for threads.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from relay.mail.event import Event
from relay.mail.suppression import Strike, Suppression
from relay.spool import database, queries
from relay.spool.content import StoredContent
from relay.spool.failure import translated
from relay.spool.queries import Query
from relay.spool.recovery import CONTENT, DATABASE, shard_directory
from relay.spool.values import DomainTotal, QueueEntry, Selection, StatusTotal, Totals

T = TypeVar("T")


class SpoolReader:
    """directory: the spool's, as for `Spool.open`. Raises SpoolVersion, SpoolError; closes as a context manager too."""

    def __init__(self, directory: Path, *, shard: int, now: Callable[[], float] = time.time) -> None:
        self.shard = shard
        self._now = now
        self._directory = shard_directory(directory, shard)
        self._connection = database.open_for_reading(self._directory / DATABASE)

    def find(self, selection: Selection, *, limit: int = 100, offset: int = 0) -> list[QueueEntry]:
        """Oldest first."""
        return self._ask(queries.find(selection, limit=limit, offset=offset, now=self._now(), shard=self.shard))

    def count(self, selection: Selection) -> int:
        """How many recipients a command with this selection would look at."""
        return self._ask(queries.count(selection, now=self._now(), shard=self.shard))

    def totals(self) -> Totals:
        return self._ask(queries.totals())

    def domains(self, limit: int = 10) -> list[DomainTotal]:
        """Those most recipients wait for."""
        return self._ask(queries.domains(limit))

    def waiting(self) -> dict[str, StatusTotal]:
        """Every domain that recipients wait for, but for those held."""
        return self._ask(queries.waiting())

    def content(self, message_id: str) -> StoredContent:
        """Raises NotFound."""
        found = self._ask(queries.content(message_id, shard=self.shard, directory=self._directory / CONTENT))
        if found is None:
            raise queries.not_found(message_id)
        return found

    def events(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Event]]:
        """What the journal does not have yet, by sequence."""
        return self._ask(queries.events(after=after, limit=limit)).rows

    def suppressions(self, *, after: int = 0, limit: int = 1000) -> list[tuple[int, Suppression | Strike]]:
        """What the suppression list does not have yet, by sequence."""
        return self._ask(queries.suppressions(after=after, limit=limit)).rows

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, query: Query[T]) -> T:
        with translated(f"{self._directory} cannot be read"):
            found = self._connection.execute(query.sql, query.parameters).fetchall()
        return query.result(found)
