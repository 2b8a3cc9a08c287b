"""spool.integrity: whether a shard's database is as SQLite wrote it.

Asked before anybody owns the shard, on a connection that only reads: what is damaged is refused and left as it is, for
`relay spool recover`. A start looks at the structure of all tables but `content`, whose rows are looked at when they
are sent and would make it read every octet that is spooled: half a second for a million recipients, a second and a half
when their messages have one each. A database of up to `THOROUGH_OCTETS` is looked at altogether, each index against its
table too; so is any that was found damaged while it was worked with, which leaves the mark `suspect` in the directory.
"""

import logging
import sqlite3
from contextlib import closing
from pathlib import Path

from relay.errors import SpoolDamaged
from relay.spool import database, failure

THOROUGH_OCTETS = 64 * 1024 * 1024
SUSPECT = "suspect"

log = logging.getLogger(__name__)
_STRUCTURE = ("message", "recipient", "event", "suppression", "mark")


def refuse_damaged(path: Path) -> None:
    """Look at an existing queue.db without changing it. Raises SpoolDamaged, SpoolError."""
    if database.is_empty(path):
        return
    mark = path.with_name(SUSPECT)
    suspect = mark.exists()
    thorough = suspect or path.stat().st_size <= THOROUGH_OCTETS
    with failure.translated(f"{path} is damaged"), closing(connected(path)) as connection:
        found = damages(connection) if thorough else damages_of_structure(connection)
    if found:
        raise SpoolDamaged(f"{path} is damaged: {found[0]}", remedy=failure.DAMAGED)
    if suspect:
        mark.unlink()


def connected(path: Path) -> sqlite3.Connection:
    """To look only. Raises sqlite3.Error."""
    connection = sqlite3.connect(database.read_only_uri(path), uri=True, isolation_level=None, check_same_thread=False)
    connection.text_factory = database.as_text
    connection.execute(f"PRAGMA busy_timeout = {database.READ_BUSY_MILLISECONDS}")
    return connection


def damages(connection: sqlite3.Connection, *, limit: int = 1) -> list[str]:
    """What SQLite finds wrong with all of a database; nothing if all is well. Raises sqlite3.Error."""
    return _told(connection.execute(f"PRAGMA integrity_check({limit})").fetchall())


def damages_of_structure(connection: sqlite3.Connection, *, limit: int = 1) -> list[str]:
    """The same without contents, and without comparing indexes with their tables."""
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return [
        text
        for table in _STRUCTURE
        if table in there
        for text in _told(connection.execute(f"PRAGMA quick_check({table})").fetchall())
    ][:limit]


def _told(found: list[tuple[str]]) -> list[str]:
    lines = [line.strip() for (text,) in found for line in text.splitlines() if text != "ok"]
    return [line for line in lines if line and not line.startswith("*** in database")]


def suspect(directory: Path) -> None:
    """The next start looks thoroughly. Where the mark cannot be made, the damage is still what there is to tell."""
    try:
        (directory / SUSPECT).touch(mode=0o600)
    except OSError as error:
        log.warning("a damaged shard could not be marked", extra={"shard": directory.name, "error": str(error)})
