"""spool.database: opening a shard's queue.db, and bringing its schema up to date.

The schema is the files of schema/ applied in order; `user_version` is the number of the last one. A database of a newer
version is refused before anything could change it. Only the owner's one connection writes or carries over the log: two
that do can meet a rare corruption in SQLite before 3.51.3 (sqlite.org/wal.html#walresetbug). All others open read-only.

Settings, as measured: pages of 4096 octets (a 4 KB message writes 15 KB in all, against 24 KB with pages of 8192),
synchronous=FULL because an accepted message must outlive a power cut, secure_delete because its content must not.
"""

import sqlite3
from functools import partial
from pathlib import Path
from urllib.parse import quote

from relay.creation import create_whole, is_half_made
from relay.errors import SpoolError, SpoolVersion
from relay.spool import failure

APPLICATION_ID = 0x52454C59  # "RELY"
PAGE_OCTETS = 4096
CACHE_KIB = 8 * 1024
BUSY_MILLISECONDS = 50  # a foreign program that writes is met on the event loop; readers never are
READ_BUSY_MILLISECONDS = 5000

# Text is read whatever octets it has: that it is damaged is found where it is looked at, and must not fail a question.
as_text = partial(str, encoding="utf-8", errors="surrogateescape")

_SCHEMA = Path(__file__).with_name("schema")

_SETTINGS = (
    f"PRAGMA busy_timeout = {BUSY_MILLISECONDS}",
    f"PRAGMA page_size = {PAGE_OCTETS}",
    "PRAGMA auto_vacuum = INCREMENTAL",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA wal_autocheckpoint = 0",
    "PRAGMA secure_delete = ON",
    "PRAGMA temp_store = MEMORY",
    f"PRAGMA cache_size = -{CACHE_KIB}",
)


def steps() -> list[tuple[int, str]]:
    """The schema's files as (version, SQL), in order."""
    return [(int(path.stem), path.read_text()) for path in sorted(_SCHEMA.glob("[0-9]*.sql"))]


def newest_version() -> int:
    return steps()[-1][0]


def open_for_writing(path: Path) -> sqlite3.Connection:
    """The owner's connection, its schema up to date. Raises SpoolVersion, SpoolFull, SpoolError."""
    refuse_foreign(path)
    with failure.translated(f"{path} cannot be opened"):
        create_whole(path, _filled)
        return _filled(path)


def _filled(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=128)
    connection.text_factory = as_text
    try:
        for setting in _SETTINGS:
            connection.execute(setting)
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def is_empty(path: Path) -> bool:
    """Not there, or made by halves: there is nothing to look at yet."""
    return not path.exists() or path.stat().st_size == 0 or is_half_made(path)


def refuse_foreign(path: Path) -> None:
    """Look at an existing database without changing it. Raises SpoolVersion, SpoolError."""
    if is_empty(path):
        return
    with failure.translated(f"{path} cannot be read"):
        connection = sqlite3.connect(read_only_uri(path), uri=True)
        try:
            version, application = identity(connection)
        finally:
            connection.close()
    if version == 0 and application == 0:  # a first start that was cut short
        return
    if application != APPLICATION_ID:
        raise SpoolError(f"{path} is not a spool of Relay", remedy="Check server.spool in relay.toml.")
    if version > newest_version():
        raise SpoolVersion(
            f"{path} was written by a newer Relay (version {version} of its schema; this one knows {newest_version()})",
            remedy="Install the newer Relay again, or restore a backup from before the upgrade. Nothing was changed.",
        )


def open_for_reading(path: Path) -> sqlite3.Connection:
    """For other processes; needs no lock. Raises SpoolVersion, SpoolError."""
    if not path.exists():
        raise SpoolError(f"{path} does not exist", remedy="Check server.spool in relay.toml, or start Relay once.")
    refuse_foreign(path)
    with failure.translated(f"{path} cannot be read"):
        connection = sqlite3.connect(read_only_uri(path), uri=True, isolation_level=None, check_same_thread=False)
        connection.text_factory = as_text
        version, _ = identity(connection)
    if version < newest_version():
        connection.close()
        raise SpoolVersion(
            f"{path} was written by an older Relay (version {version} of its schema)",
            remedy="Start Relay once: it brings the spool up to date.",
        )
    return connection


def read_only_uri(path: Path) -> str:
    return f"file:{quote(str(path.absolute()))}?mode=ro"


def identity(connection: sqlite3.Connection) -> tuple[int, int]:
    """user_version and application_id."""
    connection.execute(f"PRAGMA busy_timeout = {READ_BUSY_MILLISECONDS}")
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return version, application


def migrate(connection: sqlite3.Connection) -> None:
    """Apply each step that is missing, each in a transaction with its version."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    for number, sql in steps():
        if number > version:
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA application_id = {APPLICATION_ID};\n"
                f"PRAGMA user_version = {number};\nCOMMIT;"
            )
