import asyncio
import hashlib
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from relay.errors import SpoolError, SpoolLocked, SpoolVersion
from relay.spool import INLINE_OCTETS, Selection, SpoolReader, database
from relay.spool.spool import Spool
from tests.spool.letters import NOON, Clock, addresses_due, new_message

OWNER = """
import asyncio, sys
from pathlib import Path
from relay.spool.spool import Spool
async def main():
    spool = await Spool.open(Path(sys.argv[1]), shard=0)
    print("open", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await spool.close()
asyncio.run(main())
"""


async def owner_of(directory: Path) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", OWNER, str(directory), stdin=pipe, stdout=pipe)
    assert owner.stdout is not None
    assert await owner.stdout.readline() == b"open\n"
    return owner


async def ended(owner: asyncio.subprocess.Process) -> None:
    assert owner.stdin is not None
    owner.stdin.close()
    assert await owner.wait() == 0


def digest(directory: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.iterdir() if path.is_file()}


async def closed_with(directory: Path, *addresses: str) -> Path:
    """A shard with mail that nobody owns; its database."""
    spool = await Spool.open(directory, shard=0, now=Clock())
    if addresses:
        await spool.accept(new_message(spool, *addresses), hand_over=True)
    await spool.close()
    return directory / "shard-0" / "queue.db"


async def test_a_second_owner_is_refused_and_told_who_the_first_is(tmp_path: Path) -> None:
    owner = await owner_of(tmp_path)
    with pytest.raises(SpoolLocked, match=f"belongs to process {owner.pid}"):
        await Spool.open(tmp_path, shard=0)
    other_shard = await Spool.open(tmp_path, shard=1)
    await other_shard.close()
    await ended(owner)


async def test_who_waits_owns_the_shard_when_the_first_lets_go(tmp_path: Path) -> None:
    owner = await owner_of(tmp_path)
    waiting = asyncio.create_task(Spool.open(tmp_path, shard=0, wait=True))
    done, _ = await asyncio.wait([waiting], timeout=0.2)
    assert not done
    owner.kill()
    await owner.wait()
    async with asyncio.timeout(10):
        spool = await waiting
    await spool.close()


async def test_a_shard_is_for_its_owners_eyes_only(tmp_path: Path, spool: Spool) -> None:
    assert (tmp_path / "shard-0").stat().st_mode & 0o777 == 0o700
    assert spool.shard == 0


async def test_a_newer_versions_shard_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = await closed_with(tmp_path, "a@example.org")
    newer = database.newest_version() + 1
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {newer}")
    connection.close()
    before = digest(path.parent)
    with pytest.raises(
        SpoolVersion, match=rf"newer Relay \(version {newer} of its schema; this one knows {newer - 1}\)"
    ):
        await Spool.open(tmp_path, shard=0)
    with pytest.raises(SpoolVersion, match="newer Relay"):
        SpoolReader(tmp_path, shard=0)
    assert digest(path.parent)["queue.db"] == before["queue.db"]
    assert path.with_name("queue.db-wal").stat().st_size == 0


async def test_a_reader_leaves_an_older_shard_to_the_owner(tmp_path: Path) -> None:
    path = await closed_with(tmp_path)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 0")
    connection.close()
    with pytest.raises(SpoolVersion, match="older Relay"):
        SpoolReader(tmp_path, shard=0)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        pytest.param(b"This is not a database, however long it may be. " * 100, "cannot be read", id="garbage"),
        pytest.param(b"SQLite format 3\x00" + b"\xff" * 5000, "cannot be read", id="a damaged header"),
    ],
)
async def test_what_is_no_database_is_refused_and_left_as_it_is(tmp_path: Path, content: bytes, text: str) -> None:
    path = await closed_with(tmp_path)
    path.write_bytes(content)
    with pytest.raises(SpoolError, match=text):
        await Spool.open(tmp_path, shard=0)
    assert path.read_bytes() == content


async def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    path = await closed_with(tmp_path)
    path.unlink()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 1")
    connection.close()
    with pytest.raises(SpoolError, match="not a spool of Relay"):
        await Spool.open(tmp_path, shard=0)


async def test_a_first_start_that_was_cut_short_is_begun_anew(tmp_path: Path) -> None:
    directory = tmp_path / "shard-0"
    (directory / "content").mkdir(parents=True)
    (directory / "queue.db").touch()
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    await spool.accept(new_message(spool, "a@example.org"), hand_over=False)
    await spool.close()


async def test_what_was_claimed_is_due_now_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    await closed_with(tmp_path, "a@example.org", "b@example.org")
    clock.pass_by(500)
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert spool.requeued == 2
    assert [one.due_at for one in await spool.due(until=NOON + 500, limit=10)] == [NOON + 500] * 2
    await spool.close()


async def test_files_of_mail_that_was_still_coming_in_are_removed(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    message = new_message(spool, "a@example.org", body=b"x" * (INLINE_OCTETS + 1))
    await spool.accept(message, hand_over=True)
    file = spool.incoming()
    file.write(b"half")
    file.close()
    await spool.close()
    assert file.path.exists()
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    assert not file.path.exists()
    content = await spool.content(message.id)
    assert content.path is not None and list(file.path.parent.iterdir()) == [content.path]
    await spool.close()


async def test_contents_without_their_database_are_not_taken_for_leftovers(tmp_path: Path) -> None:
    path = await closed_with(tmp_path)
    kept = path.parent / "content" / "01j000000000000"
    kept.write_bytes(b"accepted mail")
    path.unlink()
    with pytest.raises(SpoolError, match="is missing, but"):
        await Spool.open(tmp_path, shard=0)
    assert kept.read_bytes() == b"accepted mail"
    assert not path.exists()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Path]:
    """A directory on a file system mounted read-only."""
    if os.geteuid() != 0:
        pytest.skip("mounting a read-only file system needs root")
    directory = tmp_path / "read-only"
    directory.mkdir()
    subprocess.run(["mount", "--bind", directory, directory], check=True)
    yield directory
    subprocess.run(["umount", directory], check=True)


def remount_read_only(directory: Path) -> None:
    subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)


async def test_a_read_only_disk_is_named(read_only: Path) -> None:
    remount_read_only(read_only)
    with pytest.raises(SpoolError, match="shard-0 cannot be made: Read-only file system"):
        await Spool.open(read_only, shard=0)


async def test_a_shard_on_a_disk_that_became_read_only_is_not_opened(read_only: Path) -> None:
    await closed_with(read_only, "a@example.org")
    remount_read_only(read_only)
    with pytest.raises(SpoolError, match="Read-only file system"):
        await Spool.open(read_only, shard=0)


async def test_a_missing_parent_directory_is_made(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path / "var" / "relay", shard=0, now=Clock())
    await spool.accept(new_message(spool, "a@example.org"), hand_over=False)
    assert await addresses_due(spool) == ["a@example.org"]
    await spool.close()


async def test_a_closed_spool_says_so(tmp_path: Path) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=Clock())
    message = new_message(spool, "a@example.org")
    await spool.close()
    await spool.close()
    for call in (
        spool.accept(message, hand_over=True),
        spool.due(until=NOON, limit=1),
        spool.count(Selection()),
        spool.give_back(()),
    ):
        with pytest.raises(SpoolError, match="closed"):
            await call
    with pytest.raises(SpoolError, match="closed"):
        spool.incoming()
