"""server.directory: the spool's directory before anybody opens what is in it.

Made 0700 when it is missing. Owned by another user, not writable or read-only: the start ends with a sentence that
says which, and nothing in it is touched. root is another user too: what it would make in there, the owner could not
write. A full disk keeps only a new spool from being made: one that has mail has to deliver it, and makes room so.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path

from relay.errors import PermissionRefused, RelayError, SpoolError, SpoolFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


def prepare(directory: Path) -> None:
    """Raises SpoolError, SpoolFull, PermissionRefused."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_if_foreign(directory)
        _try_to_write(directory)
    except OSError as error:
        if error.errno not in _FULL or not shards_on_disk(directory):
            raise _explained(directory, error) from error


def shards_on_disk(directory: Path) -> list[int]:
    """The numbers of the shards there are, sorted."""
    names = (path.name.removeprefix("shard-") for path in directory.glob("shard-*"))
    return sorted(int(name) for name in names if name.isdecimal())


def _refuse_if_foreign(directory: Path) -> None:
    status = directory.stat()
    if status.st_uid != os.geteuid():
        raise PermissionRefused(
            f"the spool {directory} belongs to uid {status.st_uid}, this is uid {os.geteuid()}",
            remedy=f"run as its owner (setpriv --reuid={status.st_uid} --regid={status.st_gid} --clear-groups COMMAND),"
            f" or give it to this user: chown -R {os.geteuid()} {directory}",
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        directory.chmod(0o700)  # mail and keys are nobody else's


def _try_to_write(directory: Path) -> None:
    probe = directory / ".probe"
    try:
        probe.write_bytes(b"relay\n")
    finally:
        with contextlib.suppress(OSError):  # what writing met is what is told
            probe.unlink()


def _explained(directory: Path, error: OSError) -> RelayError:
    if error.errno in _FULL:
        return SpoolFull(f"the disk of the spool {directory} is full", remedy="make room, then start again")
    if error.errno == errno.EROFS:
        return SpoolError(
            f"the file system of the spool {directory} is read-only", remedy="mount it writable, or set server.spool"
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return PermissionRefused(
            f"the spool {directory} cannot be made or written",
            remedy=f"make it and give it to uid {os.geteuid()}, or set server.spool",
        )
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        return SpoolError(f"{directory} is, or lies below, a file", remedy="set server.spool to a directory")
    return SpoolError(
        f"the spool {directory} cannot be used: {error.strerror}", remedy="look at its file system, or set server.spool"
    )
