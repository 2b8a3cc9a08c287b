"""What SQLite and the system say, in words of ours."""

import errno
import sqlite3
from pathlib import Path

import pytest

from relay.errors import PermissionRefused, RelayError, SpoolError, SpoolFull
from relay.journal.failure import Damaged, translated


def from_sqlite(code: int) -> sqlite3.Error:
    error = sqlite3.OperationalError("as SQLite says")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        pytest.param(from_sqlite(sqlite3.SQLITE_FULL), SpoolFull, id="a full disk"),
        pytest.param(from_sqlite(sqlite3.SQLITE_IOERR_SHMSIZE), SpoolFull, id="a full disk, met by a reader"),
        pytest.param(from_sqlite(sqlite3.SQLITE_CORRUPT_INDEX), Damaged, id="a corrupt index"),
        pytest.param(from_sqlite(sqlite3.SQLITE_NOTADB), Damaged, id="no database"),
        pytest.param(from_sqlite(sqlite3.SQLITE_IOERR_READ), Damaged, id="a sector that cannot be read"),
        pytest.param(from_sqlite(sqlite3.SQLITE_IOERR_FSYNC), SpoolError, id="a failed fsync is tried again"),
        pytest.param(from_sqlite(sqlite3.SQLITE_READONLY), PermissionRefused, id="a read-only disk"),
        pytest.param(from_sqlite(sqlite3.SQLITE_CANTOPEN), PermissionRefused, id="a file that cannot be opened"),
        pytest.param(from_sqlite(sqlite3.SQLITE_BUSY), SpoolError, id="a lock"),
        pytest.param(sqlite3.ProgrammingError("closed"), SpoolError, id="an error without a code"),
        pytest.param(OSError(errno.ENOSPC, "full"), SpoolFull, id="ENOSPC"),
        pytest.param(OSError(errno.EDQUOT, "quota"), SpoolFull, id="EDQUOT"),
        pytest.param(OSError(errno.EACCES, "no"), PermissionRefused, id="EACCES"),
        pytest.param(OSError(errno.EROFS, "read-only"), PermissionRefused, id="EROFS"),
        pytest.param(OSError(errno.EIO, "disk"), SpoolError, id="EIO"),
    ],
)
def test_translation(raised: Exception, expected: type[RelayError]) -> None:
    with pytest.raises(RelayError) as translation, translated(Path("/spool/shard-0/journal-2027-01-15.db")):
        raise raised
    assert type(translation.value) is expected
    assert translation.value.remedy and "journal-2027-01-15.db" in translation.value.text
