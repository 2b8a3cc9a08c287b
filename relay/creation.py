"""creation: a SQLite file appears under its name whole, or not at all.

SQLite makes a database in several commits. Who dies between them leaves a file without tables, or one whose rollback
journal no reader may play back: it would be refused with "attempt to write a readonly database". So it is made under
another name, synced, and renamed.
"""

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

MAKING = ".new"
LEAST_OCTETS = 3 * 4096  # of a database that has tables: a page each, and two of SQLite's own

_COMPANIONS = ("-journal", "-wal", "-shm", "")  # the file itself last: a -wal that outlives it is applied to the next


def create_whole(path: Path, connect: Callable[[Path], sqlite3.Connection]) -> None:
    """Make the database, unless there is one; for the owner only, on disk when it returns. One process at a time.

    connect: open what is an empty file, and give it its tables, in WAL mode. Raises what it raises, sqlite3.Error,
    OSError.
    """
    if path.exists():
        return
    making = path.with_name(path.name + MAKING)
    _remove(making)
    try:
        os.close(os.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        with closing(connect(making)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing keeps an error of the disk to itself
        making.rename(path)
    except BaseException:
        _remove(making)
        raise
    try:
        sync_directory(path.parent)
    except OSError:
        path.unlink()  # or its name would count as written the next time
        raise


def is_half_made(path: Path) -> bool:
    """Relay 0.1.0 was killed while it made this database: there is nothing in it, and whoever may write opens it."""
    try:
        return Path(f"{path}-journal").stat().st_size > 0 and path.stat().st_size < LEAST_OCTETS
    except FileNotFoundError:
        return False


def sync_directory(directory: Path) -> None:
    """Wait until the names in a directory are on disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(making: Path) -> None:
    for suffix in _COMPANIONS:
        Path(f"{making}{suffix}").unlink(missing_ok=True)
