"""spool.checkpoint: carry the write-ahead log into the database, and give unused pages back.

The writer does it itself, in the disk's thread, between two commits: with automatic checkpoints the callers of one
commit would wait for it, and SQLite would keep its errors to itself. A log of 1000 to 4000 pages is best: a longer
one no longer stays in the cache (hot path measurements), a shorter one is synced too often. Frames are estimated from
the rows written, and set right by what each checkpoint reports, since Python has no way to ask.

Once a shard has been still for some seconds the log is emptied altogether, so that what was erased is not to be
found there either.
"""

import sqlite3
import time
from pathlib import Path

from relay.spool.database import BUSY_MILLISECONDS, PAGE_OCTETS
from relay.spool.measures import Measures

QUIET_FRAMES = 1000  # at a moment when nobody waits
BUSY_FRAMES = 3000  # whoever waits
PINNED_FRAMES = 4 * BUSY_FRAMES  # readers have kept the log from being used anew: wait for them
CURE_MILLISECONDS = 10_000  # waited for readers when nothing is taken before the log could be begun anew
VACUUM_PAGES = 512  # given back at a time; some milliseconds


class Checkpoints:
    """Decides on the loop (`written`, `is_due`), acts in the disk's thread (`run`, `tidy`, `empty`)."""

    def __init__(self, connection: sqlite3.Connection, *, log: Path, measures: Measures) -> None:
        self._connection = connection
        self._log = log
        self._measures = measures
        self._rows = 0
        self._content_frames = 0
        self._frames_per_row = 1.0
        self._left_over = 0  # frames that readers kept from being carried over

    def written(self, *, rows: int, content_octets: int) -> None:
        self._rows += rows
        # Each page of a content is written when it comes and once more, with zeros, when it goes.
        self._content_frames += 2 * content_octets // PAGE_OCTETS

    def is_due(self, *, quiet: bool) -> bool:
        frames = self._rows * self._frames_per_row + self._content_frames
        return frames > (QUIET_FRAMES if quiet else BUSY_FRAMES)

    @property
    def has_work(self) -> bool:
        return self._rows > 0 or self._left_over > 0

    def run(self) -> None:
        """Carry over what can be. Raises sqlite3.Error: a checkpoint that failed may not be tried again."""
        self._checkpoint("RESTART" if self._left_over > PINNED_FRAMES else "PASSIVE")

    def tidy(self) -> bool:
        """Give back some free pages and empty the log; whether there is more to give back."""
        free: int = self._connection.execute("PRAGMA freelist_count").fetchone()[0]
        if free > VACUUM_PAGES:
            # execute() would stop after the first page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({VACUUM_PAGES})")
        self.empty()
        return free > 2 * VACUUM_PAGES

    def empty(self) -> None:
        """Carry over everything and cut the log to nothing, if no reader keeps it."""
        self._checkpoint("TRUNCATE")

    def write_anew(self) -> None:
        """After a commit that failed: all that was acknowledged out of the log into the database, and a log begun anew.

        Sound on the connection that failed, whose index of the log ends before what failed; whatever had been carried
        over before is either synced, or fails once more here (our descriptor remembers the kernel's error for it).
        Raises sqlite3.Error: then only an owner that opens the shard alone can tell.
        """
        self._connection.execute(f"PRAGMA busy_timeout = {CURE_MILLISECONDS}")
        try:
            self.empty()
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}")
        if self._log.stat().st_size:
            raise sqlite3.OperationalError("its log is being read, and cannot be begun anew")

    def _checkpoint(self, mode: str) -> None:
        started = time.perf_counter()
        _, frames, carried = self._connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()
        if self._rows:
            self._frames_per_row = max((frames - self._left_over - self._content_frames) / self._rows, 0.1)
        self._left_over = frames if carried < frames else 0
        self._rows = self._content_frames = 0
        self._measures.checkpoints += 1
        self._measures.checkpoint_seconds += time.perf_counter() - started
        self._measures.wal_octets = self._log.stat().st_size
