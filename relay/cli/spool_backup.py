"""cli.spool_backup: `relay spool backup DIR`: everything that a relay is, in one directory.

    DIR/relay.toml, DIR/spool/..., DIR/manifest.json, DIR/SHA256SUMS

Made under another name and given its own when all of it is on disk; where DIR is there already, the manifest comes
last. So a directory with a manifest is a whole backup. The order is that of `spool.copying`: shards, then suppressions
and journals, to which shards carry meanwhile. A journal day that cannot be read is left out and told of; anything else
that cannot be read ends the command, since it would not be a backup.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree
from typing import Any

from relay import __version__
from relay.cli import invocation, printing, shards
from relay.errors import RelayError, SpoolError, UsageError

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
FORMAT = 1


def make(here: invocation.Invocation, directory: Path, *, told: Callable[[str], None]) -> dict[str, Any]:
    """The manifest. directory: absolute. Raises UsageError, SpoolError and what reading raises."""
    os.umask(0o077)
    config = here.config_path.read_bytes()  # before this process becomes the spool's owner, who may not read it
    spool = here.spool
    _refuse_full(directory, spool)
    try:
        work = _work_place(directory)
        try:
            manifest = _fill(here, spool, work, config, told)
            _sync_tree(work)
            _give_name(work, directory)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
    except OSError as error:
        raise SpoolError(
            f"{directory} cannot be made: {error.strerror or error}",
            remedy=f"It is written as {invocation.name_of(os.geteuid())}: give that user the directory, empty.",
        ) from error
    return {"directory": str(directory), **manifest}


def _refuse_full(directory: Path, spool: Path) -> None:
    if directory.resolve().is_relative_to(spool.resolve()):
        raise UsageError(f"{directory} lies in the spool itself", remedy="Give a directory elsewhere.")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise UsageError(f"{directory} is not empty", remedy="Give a directory that does not exist yet.")


def _work_place(directory: Path) -> Path:
    """Beside it; in it where it is there already, for its parent may be another's."""
    name = f".incomplete-{os.getpid()}"
    work = directory / name if directory.exists() else directory.with_name(f".{directory.name}{name}")
    work.mkdir(mode=0o700)
    return work


def _give_name(work: Path, directory: Path) -> None:
    if work.parent == directory:
        for name in ("relay.toml", "spool", SUMS, MANIFEST):
            (work / name).rename(directory / name)
            _sync(directory)
        work.rmdir()
    else:
        work.rename(directory)
    _sync(directory.parent if work.parent != directory else directory)


def _fill(
    here: invocation.Invocation, spool: Path, work: Path, config: bytes, told: Callable[[str], None]
) -> dict[str, Any]:
    from relay.journal.site_log import DIRECTORY as SITE_LOG
    from relay.registry.database import copy as copy_database

    target, began = work / "spool", here.now()
    target.mkdir(mode=0o700)
    (work / "relay.toml").write_bytes(config)
    numbers = shards.numbers(here)
    value: dict[str, Any] = {"format": FORMAT, "relay": __version__, "began_at": printing.iso(began)}
    value["shards"] = {str(number): _shard(spool, target, number, told) for number in numbers}
    for name in ("suppression.db", "registry.db"):
        if (spool / name).exists():
            told(f"copying {name}")
            copy_database(spool / name, target / name)
    if (spool / SITE_LOG).is_dir():
        told("copying the site log")
        copytree(spool / SITE_LOG, target / SITE_LOG)
    value["left_out"] = [each for number in numbers for each in _days(spool, target, number, told)]
    value["ended_at"] = printing.iso(here.now())
    (work / MANIFEST).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    (work / SUMS).write_text("".join(_sums(work)), encoding="utf-8")
    return value


def _shard(spool: Path, target: Path, number: int, told: Callable[[str], None]) -> dict[str, Any]:
    from relay.spool.copying import copy_shard

    told(f"copying shard {number}")
    copied = copy_shard(spool, target, shard=number)
    return {"messages": copied.messages, "recipients": copied.recipients, "missing_files": list(copied.missing)}


def _days(spool: Path, target: Path, number: int, told: Callable[[str], None]) -> Iterator[str]:
    """Those that could not be read."""
    from relay.journal.dayfile import copy as copy_day
    from relay.journal.dayfile import day_files

    for _, path in sorted(day_files(spool / f"shard-{number}").items()):
        copy = target / path.parent.name / path.name
        told(f"copying {path.parent.name}/{path.name}")
        try:
            copy_day(path, copy)
        except RelayError as error:
            copy.unlink(missing_ok=True)
            yield f"{path}: {error.text}"


def _sums(work: Path) -> Iterator[str]:
    """As sha256sum writes and checks them."""
    for path in sorted(work.rglob("*")):
        if path.is_file() and path.name != SUMS:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield f"{digest}  {path.relative_to(work)}\n"


def _sync_tree(work: Path) -> None:
    for path in (*work.rglob("*"), work):
        _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lines(value: dict[str, Any]) -> Iterator[str]:
    """For people."""
    messages = sum(each["messages"] for each in value["shards"].values())
    recipients = sum(each["recipients"] for each in value["shards"].values())
    yield (
        f"{value['directory']}: {printing.count(recipients, 'recipient')} of {printing.count(messages, 'message')},"
        f" {printing.count(len(value['shards']), 'shard')}, registry, suppressions, journal and relay.toml"
    )
    for each in value["shards"].values():
        for name in each["missing_files"]:
            yield f"  damaged: content file {name} is missing in the spool, and in the copy"
    for each in value["left_out"]:
        yield f"  left out: {each}"
