"""A kernel that really loses what it could not write, and a power cut after it: what was acknowledged is there.

`failing_disk` shows that every call may fail; here the pages are gone as well, which trying again does not cure.
"""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.spool import Selection
from relay.spool.spool import Spool
from relay.wal import forget_cached
from tests.peers.lossy_disk import LossyDisk

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not Path("/dev/loop-control").exists() or shutil.which("mkfs.ext4") is None,
    reason="a disk that loses writes needs root, loop devices and mkfs.ext4",
)

CHILD = """
import asyncio, os, sys
from pathlib import Path
from relay.errors import SpoolError
from relay.spool import Content, Selection, Settlement
from relay.spool.spool import Spool
from relay.spool.steps import Step
from tests.spool.letters import delivered, new_message

def say(*words):
    os.write(1, (" ".join(words) + "\\n").encode())  # from two threads

def reached(step):
    if step is Step.UNDONE:
        say("undone")
        sys.stdin.readline()

async def accept(spool, name, octets):
    try:
        message = new_message(spool, f"{name}@example.org", body=b"x" * octets)
        await spool.accept(message, hand_over=False)
    except SpoolError:
        return say("refused", name)
    say("accepted", name)

async def main(directory):
    spool = await Spool.open(directory, shard=0, still=1000, reached=reached)
    say("open")
    loop = asyncio.get_running_loop()
    while words := (await loop.run_in_executor(None, sys.stdin.readline)).split():
        name, first, last, octets = words[0], *map(int, words[1:])
        for number in range(first, last):
            await accept(spool, f"{name}{number}", octets)
        say("done", "broken" if spool.broken.is_set() else "well")
    await spool.close()

asyncio.run(main(Path(sys.argv[1])))
"""


class Child:
    def __init__(self, process: "subprocess.Popen[str]", accepted: set[str], refused: set[str]) -> None:
        self.process = process
        self._accepted = accepted
        self._refused = refused

    def say(self, words: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{words}\n")
        self.process.stdin.flush()

    def until(self, *words: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            verb, _, name = line.strip().partition(" ")
            if verb == "accepted":
                self._accepted.add(name)
            elif verb == "refused":
                self._refused.add(name)
            if verb in words:
                return line.strip()
        raise AssertionError("it ended")


@contextmanager
def child(directory: Path, accepted: set[str], refused: set[str]) -> Iterator[Child]:
    """Killed where the block ends."""
    command, pipe = [sys.executable, "-c", CHILD, str(directory)], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        started = Child(process, accepted, refused)
        try:
            started.until("open")
            yield started
        finally:
            process.send_signal(signal.SIGKILL)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LossyDisk]:
    with LossyDisk(tmp_path) as mounted:
        yield mounted


def test_this_kernel_loses_what_a_second_fsync_says_is_written(disk: LossyDisk) -> None:
    path = disk.directory / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.fsync(descriptor)
    disk.fill()
    os.write(descriptor, b"x" * 65536)
    with pytest.raises(OSError):  # noqa: PT011  EIO or ENOSPC, as the kernel likes
        os.fsync(descriptor)
    disk.free()
    os.fsync(descriptor)
    assert os.pread(descriptor, 65536, 0) == b"x" * 65536, "and it is shown to whoever reads"
    os.close(descriptor)
    disk.cut_power()
    assert path.read_bytes().count(b"x") < 65536, "lost"


def test_what_was_lost_is_there_once_its_cached_pages_are_dropped_and_it_is_written_anew(disk: LossyDisk) -> None:
    path = disk.directory / "file"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    os.fsync(descriptor)
    disk.fill()
    os.write(descriptor, b"x" * 65536)
    with pytest.raises(OSError):  # noqa: PT011
        os.fsync(descriptor)
    disk.free()
    forget_cached(descriptor)  # without this line it is lost, whatever the second fsync says (Linux 6.18)
    os.pwrite(descriptor, b"x" * 65536, 0)
    os.fsync(descriptor)
    os.close(descriptor)
    disk.cut_power()
    assert path.read_bytes() == b"x" * 65536


async def test_a_failed_sync_is_cured_in_place_once_the_disk_takes_what_is_written_anew(disk: LossyDisk) -> None:
    accepted, refused = set[str](), set[str]()
    with child(disk.directory, accepted, refused) as process:
        process.say("before 0 50 4000")
        assert process.until("done") == "done well"
        disk.fill()
        process.say("during 0 8 60000")
        process.until("undone")
        if not refused:  # it is told beside
            process.until("refused")
        acknowledged = set(accepted)
        disk.free()
        process.say("go on")
        assert process.until("done") == "done well"
        process.say("after 0 20 4000")
        assert process.until("done") == "done well"
    assert accepted > acknowledged
    disk.cut_power()
    await assert_kept(disk.directory, accepted, refused)


async def test_where_it_cannot_be_cured_nothing_is_acknowledged_until_a_new_owner_has_written_all_anew(
    disk: LossyDisk,
) -> None:
    accepted, refused = set[str](), set[str]()
    with child(disk.directory, accepted, refused) as process:
        process.say("before 0 50 4000")
        assert process.until("done") == "done well"
        disk.fill()
        process.say("during 0 8 60000")
        process.until("undone")
        acknowledged = set(accepted)
        process.say("go on")  # the disk is as full as before
        process.until("done")
        process.say("later 0 3 4000")
        assert process.until("done") == "done broken"
        assert accepted == acknowledged, "nothing more"
    disk.free()
    with child(disk.directory, accepted, refused) as process:
        process.say("after 0 20 4000")
        assert process.until("done") == "done well"
    disk.cut_power()
    assert len(accepted) == len(acknowledged) + 20
    # What was under way when it broke may be there or not: its client was told to try again.
    await assert_kept(disk.directory, accepted, set())


async def assert_kept(directory: Path, accepted: set[str], refused: set[str]) -> None:
    spool = await Spool.open(directory, shard=0)
    try:
        entries = await spool.find(Selection(), limit=10_000)
        found = {entry.recipient.address.partition("@")[0] for entry in entries}
        assert len(found) == len(entries)
        assert not accepted - found, "lost"
        assert not refused & found
        for entry in entries:
            content = await spool.content(entry.message_id)
            assert sum(map(len, content.chunks())) == content.body_size
    finally:
        await spool.close()
