"""journal.failure: what SQLite and the disk say, as errors of ours.

`Damaged` is a value of this package only: one day file cannot be read any more. The writer sets it aside and goes on, a
search names it and goes on; nobody above sees it raised.
"""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from relay.errors import PermissionRefused, SpoolError, SpoolFull


class Damaged(SpoolError):
    """A day file's content is not what was written."""


# The last: the index of the WAL could not grow, which is what a reader meets on a full disk.
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
# A sector that cannot be read will not be readable on the next try.
_UNREADABLE = (sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_IOERR_SHORT_READ, sqlite3.SQLITE_IOERR_CORRUPTFS)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(error, path) from error
    except OSError as error:
        raise _from_system(error, path) from error


def _from_sqlite(error: sqlite3.Error, path: Path) -> SpoolError | PermissionRefused:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _UNREADABLE:
        return _damaged(path, error)
    if code in _NO_ROOM:
        return _full(path)
    match code & 0xFF:  # extended codes keep the primary one in the low byte
        case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
            return _damaged(path, error)
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _refused(path, str(error))
    return SpoolError(f"{path}: {error}", remedy="Look for disk errors in the kernel's log.")


def _from_system(error: OSError, path: Path) -> SpoolError | PermissionRefused:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return _full(path)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return _refused(path, error.strerror or str(error))
    return SpoolError(f"{path}: {error.strerror or error}", remedy="Look for disk errors in the kernel's log.")


def _damaged(path: Path, error: sqlite3.Error) -> Damaged:
    return Damaged(f"{path} is damaged: {error}", remedy="Restore it from a backup, or delete it.")


def _full(path: Path) -> SpoolFull:
    return SpoolFull(f"no space left for {path}", remedy=f"Free space or inodes on the file system of {path.parent}.")


def _refused(path: Path, why: str) -> PermissionRefused:
    return PermissionRefused(
        f"{path} cannot be opened or written: {why}",
        remedy=f"Run the command as the owner of {path.parent}, and see that its file system is not mounted read-only.",
    )
