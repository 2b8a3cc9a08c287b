"""spool.recovery: from a shard's directory, in whatever state its last owner left it, to one that can be worked with.

A claim lived in the memory of a process that is gone, so all that was fresh is due now. What was about to be sent at
most once is doubtful: it is not due, and is given out apart (`Spool.in_doubt`). Content files no row knows are
removed: they were still coming in, or their message had ended; unless a row misses its file, for then a name may have
been damaged, and one of them may be it. A database that is damaged is refused, and nothing changed (`integrity`).

Before anything is acknowledged anew, all of the write-ahead log is written into the database and synced (`relay.wal`),
so that nothing rests on an fsync that failed for the process before. While another process has the database open that
cannot be done, and the shard is not opened.
"""

# ruff: noqa: S608  what is put into SQL here are constants of ours; values are bound

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from relay.creation import sync_directory
from relay.errors import SpoolDamaged, SpoolError
from relay.spool import database, failure, integrity, rows
from relay.spool.lock import Lock
from relay.wal import write_anew

DATABASE = "queue.db"
CONTENT = "content"
RECOVERING = "recovering"
COMPLETE = "complete.db"  # in it: see `replacing`

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recovered:
    """An owned shard. requeued: recipients the last owner had claimed. removed: content files nobody knew."""

    directory: Path
    lock: Lock
    connection: sqlite3.Connection
    event_sequence: int
    suppression_sequence: int
    last_number: int
    requeued: int
    removed: int


def shard_directory(directory: Path, shard: int) -> Path:
    return directory / f"shard-{shard}"


def shards_in(directory: Path) -> tuple[int, ...]:
    """The shards that exist below a spool's directory."""
    found = (path.parent.name.removeprefix("shard-") for path in directory.glob(f"shard-*/{DATABASE}"))
    return tuple(sorted(int(name) for name in found if name.isdigit()))


def refuse_foreign(directory: Path) -> None:
    """Look at every shard's database without changing it. Raises SpoolVersion, SpoolError."""
    for shard in shards_in(directory):
        database.refuse_foreign(shard_directory(directory, shard) / DATABASE)


def recover(directory: Path, lock: Lock, *, now: Callable[[], float]) -> Recovered:
    """Open what is in a shard's directory; blocks. Raises SpoolVersion, SpoolDamaged, SpoolFull, SpoolError,
    Unavailable.
    """
    path = directory / DATABASE
    refuse_unfinished(directory)
    refuse_contents_alone(directory)
    database.refuse_foreign(path)
    integrity.refuse_damaged(path)
    with failure.translated(f"{path} cannot be recovered"):
        write_anew(path)
    connection = database.open_for_writing(path)
    try:
        with failure.translated(f"{path} cannot be recovered"):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # of what was made just now
            requeued = _requeue(connection, now())
            removed = _remove_orphans(connection, directory / CONTENT)
            sync_directory(directory)
            return Recovered(
                directory=directory,
                lock=lock,
                connection=connection,
                event_sequence=_last_sequence(connection, "event"),
                suppression_sequence=_last_sequence(connection, "suppression"),
                last_number=connection.execute("SELECT coalesce(max(number), 0) FROM message").fetchone()[0],
                requeued=requeued,
                removed=removed,
            )
    except BaseException:
        connection.close()
        raise


def make_directory(directory: Path) -> None:
    """The shard's directory with its content directory, their names on disk. Raises SpoolFull, SpoolError."""
    with failure.translated(f"{directory} cannot be made"):
        (directory / CONTENT).mkdir(mode=0o700, parents=True, exist_ok=True)
        directory.chmod(0o700)
        sync_directory(directory)
        sync_directory(directory.parent)


def refuse_contents_alone(directory: Path) -> None:
    """Contents without the database that knows them are mail to be saved, not orphans to be removed."""
    path = directory / DATABASE
    if path.exists() and path.stat().st_size > 0:
        return
    if any((directory / CONTENT).iterdir()):
        raise SpoolError(
            f"{path} is missing, but {directory / CONTENT} has contents of accepted mail",
            remedy=f"Restore {DATABASE} from a backup, or move the contents away to start empty.",
        )


def refuse_unfinished(directory: Path) -> None:
    """What `replacing` was doing is to be finished by it alone."""
    if (directory / RECOVERING / COMPLETE).exists():
        raise SpoolDamaged(f"a recovery of {directory} was cut short", remedy="Finish it: relay spool recover")


def _requeue(connection: sqlite3.Connection, now: float) -> int:
    connection.execute("BEGIN IMMEDIATE")
    requeued = connection.execute(
        f"UPDATE recipient SET status = {rows.QUEUED}, due_at = ? WHERE status = {rows.FRESH}", (now,)
    ).rowcount
    connection.execute(f"UPDATE recipient SET status = {rows.DOUBTFUL} WHERE status = {rows.INTENDED}")
    connection.execute("COMMIT")
    return requeued


def _remove_orphans(connection: sqlite3.Connection, contents: Path) -> int:
    known = {file for (file,) in connection.execute("SELECT file FROM content WHERE file IS NOT NULL")}
    orphans = [path for path in contents.iterdir() if path.name not in known]
    if orphans and any(not (contents / file).exists() for file in known):
        log.error("content files missing", extra={"directory": str(contents), "kept": len(orphans)})
        return 0
    for path in orphans:
        path.unlink()
    return len(orphans)


def _last_sequence(connection: sqlite3.Connection, table: str) -> int:
    last: int = connection.execute(
        f"SELECT max(coalesce((SELECT max(sequence) FROM {table}), 0), sequence) FROM mark WHERE name = ?", (table,)
    ).fetchone()[0]
    return last
