"""spool.failure: what the disk and SQLite say, as errors of ours.

Three kinds matter above: no room (`SpoolFull`: nothing was kept, everything works again when there is room), anything
else of the disk (`SpoolError`), and, inside the package, whether a failure can be trusted to have changed nothing
(`is_lasting`). An fsync that failed is lasting: Linux marks the pages clean, so that a second fsync succeeds over
data that never arrived.
"""

import contextlib
import errno
import sqlite3
from collections.abc import Iterator

from relay.errors import SpoolDamaged, SpoolError, SpoolFull

NO_ROOM = "Free disk space (or inodes) where the spool is; mail is taken again as soon as there is room."
DISK_TROUBLE = "Look at the disk (dmesg, SMART) and at the owner and mode of the spool's files."

DAMAGED = "Stop Relay, then: relay spool recover, which saves all that can be read."

_FULL_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT})
# SHMSIZE: the wal-index could not grow, which is the same lack of room met in another file.
_FULL_CODES = frozenset({sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE})
# A write, or a sync, of the log or of the database that the disk did not do.
_UNWRITTEN = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
    }
)
# Primary codes of failures that concern the statement, or that pass: the database is as it was.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_MISUSE,
    }
)


def from_os(error: OSError, *, doing: str) -> SpoolError:
    """`doing`: a sentence without its end, such as "/spool/x cannot be written"."""
    text = f"{doing}: {error.strerror or error}"
    if error.errno in _FULL_ERRNOS:
        return SpoolFull(text, remedy=NO_ROOM)
    return SpoolError(text, remedy=DISK_TROUBLE)


def from_sqlite(error: sqlite3.Error, *, doing: str) -> SpoolError:
    if is_full(error):
        return SpoolFull(f"{doing}: the disk is full", remedy=NO_ROOM)
    if is_damage(error):
        return SpoolDamaged(f"{doing}: {error}", remedy=DAMAGED)
    return SpoolError(f"{doing}: {error}", remedy=DISK_TROUBLE)


def translate(error: Exception, *, doing: str) -> SpoolError:
    if isinstance(error, OSError):
        return from_os(error, doing=doing)
    if isinstance(error, sqlite3.Error):
        return from_sqlite(error, doing=doing)
    return SpoolError(f"{doing}: {error}")


def is_full(error: sqlite3.Error) -> bool:
    return getattr(error, "sqlite_errorcode", None) in _FULL_CODES


def is_damage(error: BaseException | None) -> bool:
    """Whether the database is found to be other than SQLite wrote it."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_unwritten(error: sqlite3.Error) -> bool:
    """Whether a commit failed so that its transaction is undone, and only writing all of the log anew is a cure."""
    return getattr(error, "sqlite_errorcode", None) in _UNWRITTEN


def is_lasting(error: sqlite3.Error) -> bool:
    """Whether the database can no longer be trusted: an I/O error, corruption, anything not known to pass."""
    code = getattr(error, "sqlite_errorcode", None)
    if code is None:  # raised by the Python module itself (a wrong parameter), before SQLite did anything
        return False
    return not is_full(error) and (code & 0xFF) not in _PASSING


def broken(error: Exception | None) -> SpoolError:
    """What everybody hears from now on after a lasting failure."""
    text = f"the spool can no longer be trusted: {error}"
    if is_damage(error):
        return SpoolDamaged(text, remedy=DAMAGED)
    return SpoolError(text, remedy="Look at the disk; a restart recovers the spool.")


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn an OSError or sqlite3.Error of the block into SpoolFull or SpoolError."""
    try:
        yield
    except OSError as error:
        raise from_os(error, doing=doing) from error
    except sqlite3.Error as error:
        raise from_sqlite(error, doing=doing) from error
