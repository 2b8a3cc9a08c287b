"""registry.database: one small SQLite file that any process of this machine may change.

Promise: a change is on disk when `write` returns, all of it or nothing; what `read` sees is one moment's state; a
file of a newer version is refused (SpoolVersion) and left as it was. Failures come out as errors of ours: SpoolFull,
PermissionRefused, Unavailable when another process keeps the lock for longer than `patience`, SpoolError for the
rest.

Why a lock file on top of SQLite's own locks: before 3.51.3 two connections that write or checkpoint one WAL file at
the same moment can, rarely, corrupt it (sqlite.org/wal.html#walresetbug), and the SQLite of current distributions is
older. So a connection that may write lives only inside one exclusive flock on `<file>.lock`: opened, BEGIN IMMEDIATE,
COMMIT, checkpoint, closed. (A connection that closes last checkpoints too, which is why it may not outlive the lock.)
Read-only connections take no lock; they neither write nor checkpoint. flock rather than fcntl: it excludes threads of
one process as well, and the kernel frees it when a process dies.

A write or a sync that fails is not cured by trying again (`relay.wal`). The change is undone, and the lock's file says
that the disk failed one: whoever changes something next first writes every page anew (VACUUM puts them into the log),
has the kernel drop what it cached of the file, carries all of it over and cuts the log. This works beside the workers'
readers, which never let go of the file.

Everything that blocks runs in one thread of this object, in order. Never open the database file itself with `open`:
closing any descriptor of it drops the process's POSIX locks, SQLite's among them.
"""

import asyncio
import errno
import fcntl
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from relay.creation import create_whole
from relay.errors import PermissionRefused, RelayError, SpoolError, SpoolFull, SpoolVersion, Unavailable
from relay.wal import forget_cached, is_whole, log_of

T = TypeVar("T")

BUSY_SECONDS = 5.0  # a reader that recovers the WAL after a crash locks it for moments only
WAL_LIMIT = 16 * 1024 * 1024  # octets of WAL file that a large import may leave behind
CARRIED_OVER_FROM = 4 * 1024 * 1024  # octets of WAL
POLL_SECONDS = 0.005
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_UNWRITTEN = (sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_TRUNCATE)

# The last: the index of the WAL could not grow, which is what a reader meets on a full disk.
_NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def schema(name: str) -> tuple[str, ...]:
    """The scripts `<name>-1.sql`, `<name>-2.sql`, ... beside this module: script n makes version n of version n - 1."""
    directory = files("relay.registry")
    scripts: list[str] = []
    while (script := directory / f"{name}-{len(scripts) + 1}.sql").is_file():
        scripts.append(script.read_text(encoding="utf-8"))
    return tuple(scripts)


class Database:
    """path: the file. scripts: the schema, one script a version. patience: seconds to wait for another process's
    change.
    """

    def __init__(self, path: Path, *, scripts: Sequence[str], patience: float = 30.0) -> None:
        self.path = path
        self._scripts = tuple(scripts)
        self._patience = patience
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=path.stem)

    async def open(self) -> None:
        """Make the file if it is missing (owner only) and bring it to this version."""
        await self._run(self._prepare)

    async def write(self, change: Callable[[sqlite3.Connection], T]) -> T:
        """Run `change` in one transaction. A caller that is cancelled meanwhile does not stop it: it happens as a
        whole.
        """
        return await self._run(lambda: self._change(change))

    async def read(self, question: Callable[[sqlite3.Connection], T]) -> T:
        """Run `question` in one read transaction."""
        return await self._run(lambda: self._ask(question))

    def reader(self) -> sqlite3.Connection:
        """A read-only connection for short questions on the event loop; it never waits. Whoever asks for it closes
        it.

        Only now it waits: a process that closes its last connection has the file for itself for a moment. Once this
        one has read, it is open in SQLite's eyes too, and nobody else's can be the last.
        """
        with translated(self.path):
            connection = _connect(self.path, mode="ro")
            try:
                connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
                connection.execute("PRAGMA busy_timeout = 0")
            except sqlite3.Error:
                connection.close()
                raise
            return connection

    async def close(self) -> None:
        """Returns when what was begun is done."""
        await asyncio.to_thread(self._thread.shutdown)

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _prepare(self) -> None:
        with translated(self.path), exclusive(self.path, patience=self._patience) as lock:
            create_whole(self.path, self._filled)
            with lock.marking_failures(), closing(self._filled(self.path)) as connection:
                self._cure(connection, lock)
                # What a crashed process left in the WAL may be in the page cache only: into the file, and synced.
                self._carry_over(connection, "PASSIVE")

    def _filled(self, path: Path) -> sqlite3.Connection:
        connection = _connect(path, mode="rw")
        try:
            migrate(connection, self._scripts, path=path)
        except BaseException:
            connection.close()
            raise
        return connection

    def _change(self, change: Callable[[sqlite3.Connection], T]) -> T:
        with (
            translated(self.path),
            exclusive(self.path, patience=self._patience) as lock,
            closing(_connect(self.path, mode="rw")) as connection,
            lock.marking_failures(),
        ):
            self._cure(connection, lock)
            result = _transact(connection, change)
            if self._log_octets() > CARRIED_OVER_FROM:
                connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
            return result

    def _cure(self, connection: sqlite3.Connection, lock: "Lock") -> None:
        """If the disk failed the last change."""
        if not lock.is_marked:
            return
        connection.execute("VACUUM")
        # It stays open as long as the process lives: closing it would drop the locks of this process's readers.
        forget_cached(os.open(self.path, os.O_RDWR | os.O_CLOEXEC))
        self._carry_over(connection, "TRUNCATE")
        lock.unmark()

    def _carry_over(self, connection: sqlite3.Connection, mode: str) -> None:
        """All of it; readers hold it up for moments."""
        until = time.monotonic() + self._patience
        while not is_whole(connection.execute(f"PRAGMA wal_checkpoint({mode})").fetchone()):
            if time.monotonic() >= until:
                raise Unavailable(
                    f"{self.path} is being read, and was not closed in order before",
                    remedy="Is a backup or a sqlite3 shell open on it? It is tried again.",
                )
            time.sleep(POLL_SECONDS)

    def _log_octets(self) -> int:
        try:
            return log_of(self.path).stat().st_size
        except FileNotFoundError:
            return 0

    def _ask(self, question: Callable[[sqlite3.Connection], T]) -> T:
        with translated(self.path), closing(_connect(self.path, mode="ro")) as connection:
            connection.execute("BEGIN")
            return question(connection)


def damages(path: Path) -> list[str]:
    """What SQLite finds wrong with a database; nothing if all is well. Blocks; changes nothing. Raises as `read`."""
    with translated(path), closing(_connect(path, mode="ro")) as connection:
        try:
            found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check")]
        except sqlite3.DatabaseError as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF not in _DAMAGE:
                raise
            found = [str(error)]
    return [text for text in found if text != "ok"]


def version_of(path: Path) -> int:
    """0 when it is not there. Blocks; changes nothing. Raises as `read`."""
    if not path.exists():
        return 0
    with translated(path), closing(_connect(path, mode="ro")) as connection:
        return _version(connection)


def copy(path: Path, target: Path, *, patience: float = 30.0) -> None:
    """One moment's state, under the lock that every change takes, into a file that is not there yet; on disk when it
    returns. Blocks. Raises as `write`.
    """
    with (
        translated(path),
        exclusive(path, patience=patience),
        closing(_connect(path, mode="ro")) as source,
        closing(sqlite3.connect(target)) as made,
    ):
        source.backup(made)
        made.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def migrate(connection: sqlite3.Connection, scripts: Sequence[str], *, path: Path) -> None:
    """Bring a file to version len(scripts), each step with its version number in one transaction."""
    version = _version(connection)
    if version > len(scripts):
        raise SpoolVersion(
            f"{path} has version {version}; this relay knows versions up to {len(scripts)}",
            remedy="Run the newer relay that wrote it, or restore a backup made with this one; nothing was changed.",
        )
    if version == 0:
        connection.execute("PRAGMA journal_mode = WAL")
    for number, script in enumerate(scripts[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {number};\nCOMMIT;")


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


class Lock:
    """Its file, held. It is marked when the disk failed a change; in the kernel's cache, as what was lost is."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @property
    def is_marked(self) -> bool:
        return os.fstat(self._descriptor).st_size > 0

    @contextmanager
    def marking_failures(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) in _UNWRITTEN:
                os.ftruncate(self._descriptor, 1)  # a hole: takes no room
            raise

    def unmark(self) -> None:
        os.ftruncate(self._descriptor, 0)


@contextmanager
def exclusive(path: Path, *, patience: float) -> Iterator[Lock]:
    """Hold the exclusive flock on `<path>.lock`. Raises Unavailable after `patience` seconds."""
    descriptor = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(descriptor, path, until=time.monotonic() + patience)
        yield Lock(descriptor)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path, *, until: float) -> None:
    # Polled, for flock cannot wait with a deadline, and a process stopped with the lock must not stop all others.
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise Unavailable(
                    f"{path} is being changed by another process and does not become free",
                    remedy=f"See which process holds it with: lslocks | grep {path.name}.lock",
                ) from None
            time.sleep(POLL_SECONDS)


def _connect(path: Path, *, mode: str, wait: float = BUSY_SECONDS) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=wait)
    connection.row_factory = sqlite3.Row
    # FULL: a change reported as done survives a power cut. secure_delete: removed keys and hashes are overwritten.
    connection.executescript(
        "PRAGMA synchronous = FULL; PRAGMA secure_delete = ON; PRAGMA foreign_keys = ON;"
        f"PRAGMA journal_size_limit = {WAL_LIMIT}; PRAGMA wal_autocheckpoint = 0;"
    )
    return connection


def _transact(connection: sqlite3.Connection, change: Callable[[sqlite3.Connection], T]) -> T:
    connection.execute("BEGIN IMMEDIATE")
    try:
        result = change(connection)
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return result


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """SQLite's and the file system's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _from_sqlite(error, path) from error
    except OSError as error:
        raise _from_system(error, path) from error


def _from_sqlite(error: sqlite3.Error, path: Path) -> RelayError:
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR)
    if code in _NO_ROOM:
        return _full(path)
    match code & 0xFF:  # extended codes keep the primary one in the low byte
        case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
            return Unavailable(
                f"{path} is locked by another program", remedy="Is a backup or a sqlite3 shell open on it?"
            )
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM:
            return _refused(path, str(error))
        case code if code in _DAMAGE:
            return SpoolError(f"{path} is damaged: {error}", remedy="Stop relay and restore this file from a backup.")
    return SpoolError(f"{path}: {error}", remedy="Look for disk errors in the kernel's log.")


def _from_system(error: OSError, path: Path) -> RelayError:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return _full(path)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return _refused(path, error.strerror or str(error))
        case errno.ENOENT:
            return SpoolError(f"{path.parent} does not exist", remedy="Make it, or correct server.spool in relay.toml.")
    return SpoolError(f"{path}: {error.strerror or error}", remedy="Look for disk errors in the kernel's log.")


def _full(path: Path) -> RelayError:
    return SpoolFull(f"no space left for {path}", remedy=f"Free space or inodes on the file system of {path.parent}.")


def _refused(path: Path, why: str) -> RelayError:
    return PermissionRefused(
        f"{path} cannot be opened or written: {why}",
        remedy=f"Run the command as the owner of {path.parent}, and see that its file system is not mounted read-only.",
    )
