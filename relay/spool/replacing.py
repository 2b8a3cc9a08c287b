"""spool.replacing: a damaged database is put aside and a new one in its place, so that a crash leaves one or the other.

Until everything is prepared the original stays as it is; what was begun is begun anew. From the moment at which
`recovering/complete.db` has that name, all that is left is to move files and to rename: a start refuses to do anything
else (a new database beside the old one's log would be worse than either), and the next `relay spool recover` does it.
The original, its log and the content files that no row names any more are in `damaged-TIME/`, for good.
"""

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from relay.creation import sync_directory
from relay.spool import failure, integrity
from relay.spool.lock import Lock
from relay.spool.recovery import COMPLETE, CONTENT, DATABASE, RECOVERING, shard_directory
from relay.spool.salvage import Salvaged, salvage
from relay.spool.verifying import verify

ASIDE = "aside"  # in recovering/: the name of the directory that the original goes to
LOG = f"{DATABASE}-wal"


@dataclass(frozen=True, slots=True)
class Recovery:
    """salvaged: None if nothing was damaged. original: where the damaged database is now."""

    salvaged: Salvaged | None
    original: Path | None


def recover_shard(directory: Path, *, shard: int, now: Callable[[], float] = time.time) -> Recovery:
    """Own the shard, and save what can be read if it is damaged; blocks.

    directory: the spool's. Raises SpoolLocked, SpoolVersion, SpoolFull, SpoolError.
    """
    own = shard_directory(directory, shard)
    with failure.translated(f"{own} cannot be recovered"):
        lock = Lock(own / "lock")
        try:
            return _recover(directory, own, shard=shard, now=now)
        finally:
            lock.release()


def _recover(directory: Path, own: Path, *, shard: int, now: Callable[[], float]) -> Recovery:
    work = own / RECOVERING
    if (work / COMPLETE).exists():
        _finish(own)
    shutil.rmtree(work, ignore_errors=True)
    if not verify(directory, shard=shard, now=now, by_owner=True).is_to_be_recovered:
        (own / integrity.SUSPECT).unlink(missing_ok=True)
        return Recovery(None, None)
    work.mkdir(mode=0o700)
    salvaged = salvage(own, work / DATABASE, shard=shard, now=now)
    original = _second_place(own, now=now)
    (work / ASIDE).write_text(original.name, encoding="utf-8")
    _sync(work / ASIDE)
    (work / DATABASE).rename(work / COMPLETE)
    sync_directory(work)
    sync_directory(own)
    _finish(own)
    return Recovery(salvaged, original)


def _second_place(own: Path, *, now: Callable[[], float]) -> Path:
    """A directory where the original is, too."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now()))
    names = (own / f"damaged-{stamp}{more}" for more in ("", *(f"-{n}" for n in range(2, 1000))))
    place = next(path for path in names if not path.exists())
    (place / CONTENT).mkdir(mode=0o700, parents=True)
    place.chmod(0o700)
    for name in (DATABASE, LOG):
        if (own / name).exists():
            _link(own / name, place / name)
    sync_directory(place)
    sync_directory(own)
    return place


def _link(path: Path, other: Path) -> None:
    try:
        other.hardlink_to(path)
    except OSError:  # a file system without
        shutil.copy2(path, other)
        _sync(other)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _finish(own: Path) -> None:
    work = own / RECOVERING
    place = own / (work / ASIDE).read_text(encoding="utf-8")
    with closing(integrity.connected(work / COMPLETE)) as connection:
        known = {file for (file,) in connection.execute("SELECT file FROM content WHERE file IS NOT NULL")}
    for suffix in ("-wal", "-shm"):  # of looking
        (work / f"{COMPLETE}{suffix}").unlink(missing_ok=True)
    for path in (own / CONTENT).iterdir():  # the next start would remove them
        if path.name not in known:
            path.rename(place / CONTENT / path.name)
    for name in (LOG, f"{DATABASE}-shm"):
        (own / name).unlink(missing_ok=True)
    for changed in (place / CONTENT, own / CONTENT, own):
        sync_directory(changed)
    (work / COMPLETE).rename(own / DATABASE)
    (own / integrity.SUSPECT).unlink(missing_ok=True)
    sync_directory(own)
    shutil.rmtree(work, ignore_errors=True)
