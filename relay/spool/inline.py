"""spool.inline: a shard that waits for nothing: what its threads do is done in the event loop's own, at once.

For a shard that is to be lost with its process, in a loop whose clock stands still while something is done: a dry run
in virtual time. The same statements run on the same files in the same order; nothing is synced.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from relay.spool import database

T = TypeVar("T")


def forget_durability(connection: sqlite3.Connection) -> None:
    connection.execute("PRAGMA synchronous = OFF")


class InlineDisk:
    """As `disk.DiskThread`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop

    def call(self, work: Callable[[], T], done: Callable[[T | None, Exception | None], None]) -> None:
        try:
            result = work()
        except Exception as error:  # noqa: BLE001  whoever gave the job gets it
            self._loop.call_soon(done, None, error)
        else:
            self._loop.call_soon(done, result, None)

    async def run(self, work: Callable[[], T]) -> T:
        return work()

    def stop(self) -> None:
        """Nothing is left to do."""


class InlineConnection:
    """As much of aiosqlite's as `reads` asks."""

    def __init__(self, path: Path) -> None:
        uri = database.read_only_uri(path)
        self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, cached_statements=128)
        self._connection.text_factory = database.as_text

    async def execute_fetchall(self, sql: str, parameters: Iterable[Any] | None = None) -> Iterable[Any]:
        return self._connection.execute(sql, tuple(parameters or ())).fetchall()

    async def close(self) -> None:
        self._connection.close()


def standing_still() -> float:
    """For who would give the loop back to others: nobody waits."""
    return 0.0
