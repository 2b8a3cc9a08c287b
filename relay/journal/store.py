"""journal.store: the journal of one shard, as its worker writes it.

Promise: what `ingest` was given is on disk when it returns, each (sequence, time) once however often it comes;
`expire` deletes whole days and nothing younger. A day file found damaged is set aside under another name, told to
`damaged`, and a new one begun: one bad page must not stop the journal. Failures are SpoolError, SpoolFull,
SpoolVersion; what was not ingested may be given again.

A day is kept while any of its events is younger than the retention: a message that was held for weeks still has its
end in the journal, and for as long as the others.

Everything that blocks runs in one thread of this object.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import TypeVar

from relay.creation import sync_directory
from relay.errors import RelayError, SpoolVersion
from relay.journal.dayfile import DayFile, by_day, day_at, day_files, path_of, reading, traces
from relay.journal.failure import Damaged, translated
from relay.mail.event import Event

T = TypeVar("T")

OPEN_FILES = 8


class Journal:
    """Make one with `open`, after forking; end it with `close`. directory: the shard's."""

    def __init__(self, directory: Path, *, damaged: Callable[[Path, str], None]) -> None:
        self._directory = directory
        self._damaged = damaged
        self._files: OrderedDict[date, DayFile] = OrderedDict()  # the one used last at the end
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    @classmethod
    async def open(cls, directory: Path, *, damaged: Callable[[Path, str], None]) -> "Journal":
        """damaged: told of a file set aside and of what is wrong with it; called in a thread. Raises SpoolVersion."""
        journal = cls(directory, damaged=damaged)
        await journal._run(journal._check_versions)
        return journal

    async def ingest(self, events: Sequence[tuple[int, Event]]) -> int:
        """Commit them to their days; how many were not there yet. A caller that is cancelled does not stop it."""
        return await self._run(lambda: self._ingest(events))

    async def expire(self, *, today: date, retention_days: int) -> tuple[date, ...]:
        """Delete the days whose last event is more than `retention_days` before `today` (UTC); returns them."""
        return await self._run(lambda: self._expire(today - timedelta(days=retention_days)))

    async def close(self) -> None:
        await self._run(self._close_all)
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _check_versions(self) -> None:
        for path in day_files(self._directory).values():
            # What is damaged is found out, and told, when it is written to.
            with suppress(Damaged), reading(path):
                pass

    def _ingest(self, events: Sequence[tuple[int, Event]]) -> int:
        return sum(self._add(day, rows) for day, rows in by_day(events).items())

    def _add(self, day: date, events: Sequence[tuple[int, Event]]) -> int:
        try:
            return self._file(day).add(events)
        except Damaged as error:
            self._abandon(day)
            self._set_aside(day, error)
        except RelayError:
            self._abandon(day)  # a connection that met an I/O error is not used again
            raise
        return self._file(day).add(events)

    def _file(self, day: date) -> DayFile:
        file = self._files.get(day)
        if file is None:
            while len(self._files) >= OPEN_FILES:
                self._files.popitem(last=False)[1].close()
            file = self._files[day] = DayFile(path_of(self._directory, day))
        self._files.move_to_end(day)
        return file

    def _forget(self, day: date) -> None:
        file = self._files.pop(day, None)
        if file is not None:
            file.close()

    def _abandon(self, day: date) -> None:
        file = self._files.pop(day, None)
        if file is not None:
            file.abandon()

    def _close_all(self) -> None:
        for day in tuple(self._files):
            self._forget(day)

    def _set_aside(self, day: date, error: Damaged) -> None:
        path = path_of(self._directory, day)
        aside = next(each for each in _names_aside(path) if not each.exists())
        with translated(path):
            # The file itself last: a -wal left behind would be applied to the new file of that name.
            for suffix in ("-wal", "-shm", ""):
                with suppress(FileNotFoundError):
                    Path(f"{path}{suffix}").rename(f"{aside}{suffix}")
            sync_directory(self._directory)
        self._damaged(aside, error.text)

    def _expire(self, oldest: date) -> tuple[date, ...]:
        """oldest: the first day that is kept."""
        expired = sorted({day for day, _ in traces(self._directory) if day < oldest})
        expired = [day for day in expired if day_at(self._newest(day)) < oldest]
        for day in expired:
            self._forget(day)
        with translated(self._directory):
            for day, path in _deletion_order(traces(self._directory)):
                if day in expired:
                    path.unlink(missing_ok=True)
            sync_directory(self._directory)
        return tuple(expired)

    def _newest(self, day: date) -> float:
        """The time of the day's last event; what cannot be read is as young as its last writing."""
        path = path_of(self._directory, day)
        try:
            with reading(path) as connection:
                return 0.0 if connection is None else float(connection.execute(_NEWEST).fetchone()[0])
        except (Damaged, SpoolVersion):
            return path.stat().st_mtime


_NEWEST = "SELECT coalesce(max(at), 0.0) FROM event"


def _names_aside(path: Path) -> Iterator[Path]:
    return (Path(f"{path}.damaged-{number}") for number in count(1))


def _deletion_order(found: Iterator[tuple[date, Path]]) -> list[tuple[date, Path]]:
    """-wal and -shm before their file: a -wal that outlives it would be applied to the next file of that name."""
    return sorted(found, key=lambda each: each[1].suffix.endswith(("-wal", "-shm")), reverse=True)
