"""wal: have all that a SQLite write-ahead log holds written into its database anew, before anything rests on it.

An fsync that failed is not cured by trying again. Linux marks the pages clean, shows them to whoever reads, and a
second fsync succeeds over data that never arrived. Nor is it enough to write them again where they were: ext4 (seen
with Linux 6.18) leaves the blocks of a write that failed marked as unwritten and the cached page as if it had them, so
that what is written to that page later is synced without a word, and reads as zeros after a power cut. What an owner
that died has left may be of that kind, in the log and in the pages of the database that it had begun to carry over.
SQLite remembers in shared memory how far that had come, and would go on from there; the memory outlives the owner while
any process has the database open.

So nobody else may have it open. The kernel's cached pages are dropped first: what is read then is what is on disk (all
that was acknowledged is, in the database or in the log; SQLite's checksums end the log where it was not written), and
what is written finds its blocks anew. Then the database is opened with `locking_mode = EXCLUSIVE` before the first
look, which makes SQLite build its index from the log itself; every frame is copied, the database synced, the log cut to
nothing. An empty log has nothing to tell: it was cut after such a sync.
"""

import fcntl
import os
import sqlite3
import struct
import time
from contextlib import closing, suppress
from pathlib import Path

from relay.errors import Unavailable

POLL_SECONDS = 0.02
PATIENCE = 20.0

# struct flock (fcntl(2)): type, whence, start, length, process. SQLite's shared locks (sqlite.org/fileformat: the bytes
# behind the lock page's first two) are held as long as a database in WAL mode is open.
_FLOCK = "@hhqqi0q"
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510


def write_anew(path: Path, *, within: float = PATIENCE) -> None:
    """Blocks, at most `within` seconds if another process has the file open. No connection of this process may have.

    Raises OSError and sqlite3.Error for what the disk says, Unavailable when the file does not become free.
    """
    until = time.monotonic() + within
    while not _is_empty(log_of(path)):
        if _carried_over_alone(path):
            return
        if time.monotonic() >= until:
            raise Unavailable(
                f"{path} is open in another process, and was not closed in order before",
                remedy=f"Let that process end (a backup, a sqlite3 shell; lsof {path} names it); it is tried again.",
            )
        time.sleep(POLL_SECONDS)


def log_of(path: Path) -> Path:
    return Path(f"{path}-wal")


def is_whole(row: tuple[int, int, int]) -> bool:
    """What `PRAGMA wal_checkpoint` says: whether all of the log was carried over, whoever reads."""
    busy, frames, carried = row
    return not busy and frames == carried


def forget_cached(descriptor: int) -> None:
    """Drop what the kernel has cached of a file. A sync that fails here has nothing to say: all is written anew."""
    with suppress(OSError):
        os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


def _is_empty(log: Path) -> bool:
    try:
        return log.stat().st_size == 0
    except FileNotFoundError:
        return True


def _carried_over_alone(path: Path) -> bool:
    """Whether the database was free for it."""
    database = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if not _is_free(database):
            return False
        log = os.open(log_of(path), os.O_RDWR | os.O_CLOEXEC)
        try:
            forget_cached(log)
        finally:
            os.close(log)
        forget_cached(database)
        return _carried_over(path)
    finally:
        os.close(database)  # after SQLite has closed it: this lets go of all locks the process has on it


def _is_free(database: int) -> bool:
    wanted = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, _SHARED_FIRST, _SHARED_SIZE, 0)
    in_the_way: int = struct.unpack(_FLOCK, fcntl.fcntl(database, fcntl.F_GETLK, wanted))[0]
    return in_the_way == fcntl.F_UNLCK


def _carried_over(path: Path) -> bool:
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=0)
    with closing(connection):
        try:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return not busy and _is_empty(log_of(path))
