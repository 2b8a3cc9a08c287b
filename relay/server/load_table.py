"""server.load_table: how many sessions each worker has, so that one that has more lets another take the next.

All workers accept from the same listening sockets, and all are woken for a connection; which is the first to ask for it
is the kernel's choice, and on an idle machine it is mostly the same one. So a worker that is ahead leaves the next
connection to one that has fewer. An anonymous shared mapping made before the workers are forked has three cells for
each: its sessions, the sockets it accepts from, and a number that changes whenever it does something (a sign of life).
Only the worker itself writes them, so nothing is locked; the supervisor clears those of a dead one.

Who was waited for in vain, because it hangs or is busy, is not given way to again before it has shown a sign of life.
"""

import mmap

AHEAD = 2  # sessions more than another's; less is not worth the trouble
PART = 8  # and an eighth of the other's: where there are many, they spread by themselves
_SESSIONS, _ACCEPTS, _SIGN = range(3)
_CELLS = 3
_CELL = 4  # octets
_WRAP = 0xFFFFFFFF


class LoadTable:
    """`of_worker` gives the view that one worker writes."""

    def __init__(self, *, workers: int) -> None:
        self._cells = memoryview(mmap.mmap(-1, workers * _CELLS * _CELL)).cast("I")
        self._workers = workers

    def of_worker(self, slot: int) -> "WorkerLoad":
        return WorkerLoad(self._cells, workers=self._workers, slot=slot)

    def clear(self, slot: int) -> None:
        """The worker is dead."""
        for cell in range(slot * _CELLS, (slot + 1) * _CELLS):
            self._cells[cell] = 0


class WorkerLoad:
    """`submission.services.Load` for one worker."""

    def __init__(self, cells: "memoryview[int]", *, workers: int, slot: int) -> None:
        self._cells = cells
        self._own = slot * _CELLS
        self._others = tuple(column for column in range(0, workers * _CELLS, _CELLS) if column != self._own)
        self._awaited: dict[int, int] = {}  # column: its sign when it was waited for
        self._absent: dict[int, int] = {}

    def enter(self) -> None:
        self._cells[self._own + _SESSIONS] += 1
        self.sign()

    def leave(self) -> None:
        self._cells[self._own + _SESSIONS] -= 1

    def sign(self) -> None:
        cell = self._own + _SIGN
        self._cells[cell] = (self._cells[cell] + 1) & _WRAP

    def opened(self) -> None:
        self._cells[self._own + _ACCEPTS] += 1

    def closed(self) -> None:
        self._cells[self._own + _ACCEPTS] -= 1

    def gives_way(self) -> bool:
        own = self._cells[self._own + _SESSIONS]
        if own < AHEAD:
            return False
        return any(self._is_freer(column, own) for column in self._others)

    def wait(self) -> None:
        own = self._cells[self._own + _SESSIONS]
        self._awaited = {column: self._cells[column + _SIGN] for column in self._others if self._is_freer(column, own)}

    def has_come(self) -> bool:
        return any(self._cells[column + _SIGN] != sign for column, sign in self._awaited.items())

    def nobody_came(self) -> None:
        self._absent.update(self._awaited)

    def _is_freer(self, column: int, own: int) -> bool:
        sessions = self._cells[column + _SESSIONS]
        if own - sessions < AHEAD + sessions // PART or not self._cells[column + _ACCEPTS]:
            return False
        return self._absent.get(column) != self._cells[column + _SIGN]
