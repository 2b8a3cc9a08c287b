"""spool.group: the operations of one transaction.

`write` goes in steps, so that the loop can be given back in between. An operation that fails by itself (a bug, a
constraint) is taken out, and the rest is written again with a savepoint each; savepoints copy pages, so the first try
goes without. What concerns the database as a whole is raised.
"""

import sqlite3
import time
from collections.abc import Generator, Sequence
from typing import Any

from relay.spool import failure
from relay.spool.operation import Operation
from relay.spool.steps import Reached, Step
from relay.spool.tables import INFINITY, Tables


class Group:
    """rows, content_octets: written by it, once it is written. earliest_due: of what it queued, infinity if nothing."""

    def __init__(self, connection: sqlite3.Connection, tables: Tables, operations: Sequence[Operation[Any]]) -> None:
        self.operations = operations
        self._connection = connection
        self._tables = tables
        self._rows_before = connection.total_changes
        self._octets_before = tables.content_octets
        tables.earliest_due = INFINITY

    @property
    def rows(self) -> int:
        return self._connection.total_changes - self._rows_before

    @property
    def content_octets(self) -> int:
        return self._tables.content_octets - self._octets_before

    @property
    def earliest_due(self) -> float:
        return self._tables.earliest_due

    def write(self) -> Generator[None, None, None]:
        """Raises sqlite3.Error for what concerns all of it."""
        self._connection.execute("BEGIN IMMEDIATE")
        for operation in self.operations:
            try:
                operation.result = yield from operation.work(self._tables)
            except Exception as error:  # noqa: BLE001  its caller gets it
                _set_aside(operation, error)
                yield from self._write_one_by_one()
                return
            yield

    def _write_one_by_one(self) -> Generator[None, None, None]:
        execute = self._connection.execute
        execute("ROLLBACK")
        execute("BEGIN IMMEDIATE")
        for operation in self.operations:
            if operation.failure is None:
                execute("SAVEPOINT operation")
                try:
                    operation.result = yield from operation.work(self._tables)
                except Exception as error:  # noqa: BLE001  its caller gets it
                    _set_aside(operation, error)
                    execute("ROLLBACK TO operation")
                execute("RELEASE operation")
                yield

    def commit(self, reached: Reached) -> float:
        """Wait for the disk; returns seconds. Raises sqlite3.Error, with no transaction open."""
        reached(Step.ROWS_WRITTEN)
        started = time.perf_counter()
        try:
            self._connection.execute("COMMIT")
        except sqlite3.Error:
            self.roll_back()
            raise
        seconds = time.perf_counter() - started
        reached(Step.COMMITTED)
        return seconds

    def roll_back(self) -> None:
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")


def _set_aside(operation: Operation[Any], error: Exception) -> None:
    """Remember an operation's own failure; one that concerns the database is raised."""
    if isinstance(error, sqlite3.Error):
        if failure.is_full(error) or failure.is_lasting(error):
            raise error
        error = failure.from_sqlite(error, doing="the spool refuses it")
    operation.failure = error
