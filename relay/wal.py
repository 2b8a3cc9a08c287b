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

SQLite takes the first frame whose checksum is wrong for the end of the log, and says nothing of what comes behind it.
After a power cut that is what had not been synced, and nobody was promised; otherwise the disk has changed what was.
Where commits of this log lie behind its end they are counted in our log, and a copy is kept beside it.
"""

import fcntl
import logging
import os
import shutil
import sqlite3
import struct
import time
from contextlib import closing, suppress
from itertools import count
from pathlib import Path

from relay.errors import Unavailable

ENDS_EARLY = (
    "After a power cut this is what had not been acknowledged. Otherwise the disk changed what was written: compare"
    " `relay log search --status accepted` with what is delivered and queued, and look at the disk."
)
POLL_SECONDS = 0.02
PATIENCE = 20.0

# struct flock (fcntl(2)): type, whence, start, length, process. SQLite's shared locks (sqlite.org/fileformat: the bytes
# behind the lock page's first two) are held as long as a database in WAL mode is open.
_FLOCK = "@hhqqi0q"
_SHARED_FIRST, _SHARED_SIZE = 0x40000002, 510

# sqlite.org/fileformat, 4.1: of the log's header the page size and the salts; of a frame's the size of the database
# after a commit, 0 for a frame that is no commit, and the salts, which are the header's in a frame of this log.
_LOG_HEADER, _FRAME_HEADER = struct.Struct(">8xL4x8s8x"), struct.Struct(">4xL8s8x")

log = logging.getLogger(__name__)


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
            _, frames, _ = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            _keep_what_is_behind(log_of(path), frames)
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except sqlite3.OperationalError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                return False
            raise
        return not busy and _is_empty(log_of(path))


def _keep_what_is_behind(wal: Path, frames: int) -> None:
    """frames: as many as SQLite could read. Raises OSError."""
    behind = commits_behind(wal, frames)
    if behind:
        copy = next(name for number in count(1) if not (name := wal.with_name(f"{wal.name}.unread-{number}")).exists())
        shutil.copyfile(wal, copy)
        copy.chmod(0o600)
        log.error(
            "write-ahead log ends early",
            extra={"file": str(wal), "commits_behind": behind, "copy": str(copy), "remedy": ENDS_EARLY},
        )


def commits_behind(wal: Path, frames: int) -> int:
    """Commits that a log has behind its first so many frames. Raises OSError."""
    with wal.open("rb", buffering=0) as file:
        header = file.read(_LOG_HEADER.size)
        if len(header) < _LOG_HEADER.size:
            return 0
        page, salts = _LOG_HEADER.unpack(header)
        step, end = _FRAME_HEADER.size + page, os.fstat(file.fileno()).st_size
        starts = range(_LOG_HEADER.size + frames * step, end - step + 1, step)
        found = (_FRAME_HEADER.unpack(os.pread(file.fileno(), _FRAME_HEADER.size, at)) for at in starts)
        return sum(size > 0 and salt == salts for size, salt in found)
