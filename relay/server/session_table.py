"""server.session_table: counts of open sessions for the whole machine, without a question to anybody.

An anonymous shared mapping made before the workers are forked. Each worker has a column that only it writes, so
nothing is locked; a count is the sum over the columns. A key has two cells by two hashes and its count is the lesser
of both sums (a count-min sketch): two keys that share one cell hardly ever share the other, and a collision can only
make a limit stricter. Two workers that count at the same moment may both pass a limit by one; that is the whole of
the error. A dead worker's column is cleared by the supervisor, and so is its load.

The two hashes are the lowest and the highest bits of one CRC. Two CRCs with different beginnings would not do: CRC is
linear, so keys of one length that collide under one beginning collide under every other.
"""

import mmap
from zlib import crc32

from relay.server.load_table import LoadTable, WorkerLoad

BITS = 14
ROWS = 1 << BITS
_CELLS = 2 * ROWS
_CELL = 4  # octets


class SessionTable:
    """`workers` columns. `of_worker` and `load_of` give the views that one worker writes."""

    def __init__(self, *, workers: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, workers * _CELLS * _CELL)).cast("I")
        self._workers = workers
        self._loads = LoadTable(workers=workers)

    def of_worker(self, slot: int) -> "WorkerSessions":
        return WorkerSessions(self._cells, workers=self._workers, slot=slot)

    def load_of(self, slot: int) -> WorkerLoad:
        return self._loads.of_worker(slot)

    def clear(self, slot: int) -> None:
        """The worker is dead and its sessions with it."""
        column = self._cells[slot * _CELLS : (slot + 1) * _CELLS]
        column.cast("B")[:] = bytes(_CELLS * _CELL)
        self._loads.clear(slot)


class WorkerSessions:
    """`submission.services.SessionTable` for one worker."""

    def __init__(self, cells: "memoryview[int]", *, workers: int, slot: int) -> None:
        self._cells = cells
        self._columns = range(0, workers * _CELLS, _CELLS)
        self._own = slot * _CELLS

    def enter(self, key: str, *, limit: int) -> bool:
        first, second = rows(key)
        if self._count(first, second) >= limit:
            return False
        self._cells[self._own + first] += 1
        self._cells[self._own + second] += 1
        return True

    def leave(self, key: str) -> None:
        for row in rows(key):
            self._cells[self._own + row] -= 1

    def count(self, key: str) -> int:
        return self._count(*rows(key))

    def _count(self, first: int, second: int) -> int:
        cells = self._cells
        return min(
            sum(cells[column + first] for column in self._columns),
            sum(cells[column + second] for column in self._columns),
        )


def rows(key: str) -> tuple[int, int]:
    """A key's two rows, one in each half of a column."""
    octets = crc32(key.encode())
    return octets % ROWS, ROWS + (octets >> (32 - BITS))
