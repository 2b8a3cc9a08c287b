"""spool.lock: one process owns a shard, and one the spool, for as long as it lives.

An flock on shard-N/lock, held by an open file: the kernel lets go of it when the process ends, however it ends. The
file stays, and says whose it was last. Open the spool after forking: a lock is shared with children forked later,
until they have let go of it or ended too.

The lock beside the shards is the server's: while the workers of one that was killed still finish, another may start,
and waits for their shards; beside a server that lives, none may.
"""

import contextlib
import fcntl
import os
from pathlib import Path

from relay.errors import SpoolLocked
from relay.spool.failure import translated


def is_held(path: Path) -> bool:
    """Whether a process owns what this lock is for; without taking it. Raises SpoolError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Lock:
    """Raises SpoolLocked, SpoolError."""

    def __init__(self, path: Path) -> None:
        with translated(f"{path} cannot be opened"):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _take(self, path: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SpoolLocked(
                f"{path.parent} belongs to {self._owner()}", remedy="Stop that process first; a spool has one owner."
            ) from None
        # The process id only helps whoever is refused; a disk too full for it must not keep mail from being delivered.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def _owner(self) -> str:
        text = os.pread(self._descriptor, 20, 0).strip()
        return f"process {text.decode()}" if text.isdigit() else "another process"

    def release(self) -> None:
        os.close(self._descriptor)
