"""Every call that a shard makes of the disk fails, in a process of its own, while mail goes through it.

The child says what it was told; afterwards the shard is opened without the failing disk. What was acknowledged is
there, what was refused is not, and what was settled stays settled.
"""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from relay.spool import Selection
from relay.spool.spool import Spool
from tests.peers.failing_disk import FailingDisk, Rule
from tests.spool.letters import kinds

CHILD = """
import asyncio, os, sys
from pathlib import Path
from relay.errors import SpoolError
from relay.spool import Content, Settlement
from relay.spool.spool import Spool
from tests.spool.letters import delivered, new_message

LARGE = b"x" * 200_000

def say(*words):
    os.write(1, (" ".join(words) + "\\n").encode())

async def accept(spool, name, body=b"Hello.\\r\\n"):
    try:
        claimed = await spool.accept(new_message(spool, f"{name}@example.org", body=body), hand_over=True)
    except SpoolError as error:
        return say("refused", name, error.text)
    say("accepted", name)
    return claimed

async def settle(spool, claimed, *reports):
    settlement = Settlement(claimed[0].message.id, delivered(*claimed).outcomes, reports=reports)
    try:
        await spool.settle(settlement)
    except SpoolError as error:
        return say("unsettled", error.text)
    say("settled", claimed[0].recipient.address.partition("@")[0])

async def main(directory):
    spool = await Spool.open(directory, shard=0, still=0.05)
    kept = await accept(spool, "first")
    say("open")
    loop = asyncio.get_running_loop()
    while word := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        verb, _, name = word.partition(" ")
        match verb:
            case "accept":
                await accept(spool, name)
            case "accept-large":
                await accept(spool, name, LARGE)
            case "accept-much":
                await asyncio.gather(*(accept(spool, f"{name}{n}", b"x" * 60_000) for n in range(100)))
            case "settle":
                await settle(spool, kept)
            case "settle-and-report":
                await settle(spool, kept, new_message(spool, "report@example.com", body=LARGE))
            case "be-still":
                checkpoints = spool.measures.checkpoints
                while spool.measures.checkpoints == checkpoints and not spool.broken.is_set():
                    await asyncio.sleep(0.01)
            case "be-cured":
                while not spool.measures.cures and not spool.broken.is_set():
                    await asyncio.sleep(0.01)
        say("did", word, "broken" if spool.broken.is_set() else "well")
    await spool.close()

asyncio.run(main(Path(sys.argv[1])))
"""

DISK = (errno.EIO, errno.ENOSPC)


class Child:
    """One that has accepted "first", and does as it is told. said: what it was told of its mail."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self.process = process
        self.said: list[str] = []
        self.with_report = False

    def do(self, order: str) -> str:
        """How the shard is after it."""
        assert self.process.stdin is not None
        self.with_report = self.with_report or "report" in order
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()
        return self.until(f"did {order} ")

    def until(self, word: str) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word).strip()
            self.said.append(line.strip())
        raise AssertionError(f"it ended: {self.said}")

    def named(self, verb: str) -> set[str]:
        return {line.split()[1] for line in self.said if line.startswith(f"{verb} ")}


@contextmanager
def child(directory: Path, disk: FailingDisk) -> Iterator[Child]:
    command = [sys.executable, "-c", CHILD, str(directory)]
    pipe = subprocess.PIPE
    environment = {**os.environ, **disk.environment}
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True) as process:
        started = Child(process)
        try:
            started.until("open")
            yield started
        finally:
            process.kill()


def times(error: int) -> str:
    return errno.errorcode[error]


PLACES = [
    pytest.param("accept", "write", "queue.db-wal", id="a message's row is not written"),
    pytest.param("accept", "fdatasync", "queue.db-wal", id="a message's commit is not synced"),
    pytest.param("accept-large", "open", "/content/", id="a large content's file is not made"),
    pytest.param("accept-large", "write", "/content/", id="a large content is not written"),
    pytest.param("accept-large", "fdatasync", "/content/", id="a large content is not synced"),
    pytest.param("accept-large", "fsync", "/content", id="the name of a large content is not synced"),
    pytest.param("accept-large", "fdatasync", "queue.db-wal", id="the row of a large content is not synced"),
    pytest.param("settle", "write", "queue.db-wal", id="an outcome is not written"),
    pytest.param("settle", "fdatasync", "queue.db-wal", id="an outcome is not synced"),
    pytest.param("settle-and-report", "open", "/content/", id="the file of an outcome's report is not made"),
    pytest.param("settle-and-report", "write", "/content/", id="an outcome's report is not written"),
    pytest.param("settle-and-report", "fdatasync", "/content/", id="an outcome's report is not synced"),
    pytest.param("settle-and-report", "fsync", "/content", id="the name of an outcome's report is not synced"),
]


@pytest.mark.parametrize("error", DISK, ids=times)
@pytest.mark.parametrize(("order", "call", "path"), PLACES)
async def test_a_failure_concerns_what_met_it_and_is_over_with_it(
    order: str, call: str, path: str, error: int, tmp_path: Path
) -> None:
    disk = FailingDisk(tmp_path)
    with child(tmp_path, disk) as process:
        disk.follow(Rule(call, path, error, times=1))
        assert process.do(f"{order} met") == "well"
        assert disk.wait_until_met()
        assert process.do("accept then") == "well"
    refused = process.named("refused")
    assert refused == (set() if "settle" in order else {"met"})
    assert process.named("settled") == ({"first"} if "settle" in order else set())
    await assert_kept(tmp_path, process)


CHECKPOINTS = [
    pytest.param("accept-much", "write", "queue.db$", id="a page is not carried over"),
    pytest.param("accept-much", "fdatasync", "queue.db$", id="what was carried over is not synced"),
    pytest.param("be-still", "fdatasync", "queue.db$", id="what was carried over in a quiet time is not synced"),
    pytest.param("be-still", "ftruncate", "queue.db-wal$", id="the log is not cut"),
]


@pytest.mark.parametrize("error", DISK, ids=times)
@pytest.mark.parametrize(("order", "call", "path"), CHECKPOINTS)
async def test_a_checkpoint_that_fails_loses_nothing(
    order: str, call: str, path: str, error: int, tmp_path: Path
) -> None:
    disk = FailingDisk(tmp_path)
    with child(tmp_path, disk) as process:
        process.do("accept before")
        disk.follow(Rule(call, path, error, times=1))
        process.do(f"{order} met")
        state = process.do("be-still")
        assert disk.wait_until_met()
        process.do("accept then")
        assert ("then" in process.named("accepted")) == (state == "well")
    await assert_kept(tmp_path, process)


@pytest.mark.parametrize("error", DISK, ids=times)
async def test_a_disk_that_fails_for_good_acknowledges_nothing(error: int, tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path)
    with child(tmp_path, disk) as process:
        disk.follow(Rule("sync", "queue.db", error))
        process.do("accept met")
        assert process.do("be-cured") == "broken"
        disk.heal()
        process.do("accept then")
        process.do("settle")
    assert process.named("accepted") == {"first"}
    assert process.named("settled") == set()
    await assert_kept(tmp_path, process, maybe="met")


@pytest.mark.parametrize("error", DISK, ids=times)
@pytest.mark.parametrize(
    ("call", "path"),
    [
        pytest.param("fallocate", "reserve", id="the reserve cannot be made"),
        pytest.param("open", "reserve", id="the reserve cannot be opened"),
        pytest.param("write", "shard-0/lock", id="the owner cannot be written down"),
    ],
)
async def test_what_only_helps_may_fail(call: str, path: str, error: int, tmp_path: Path) -> None:
    disk = FailingDisk(tmp_path)
    disk.follow(Rule(call, path, error, times=1))
    with child(tmp_path, disk) as process:
        disk.wait_until_met()
        process.do("accept then")
    assert process.named("accepted") == {"first", "then"}
    await assert_kept(tmp_path, process)


async def assert_kept(directory: Path, process: Child, *, maybe: str = "") -> None:
    """Whoever opens the shard next finds what was acknowledged, and nothing that was refused. maybe: what may be there
    or not, its client was told to try again.
    """
    spool = await Spool.open(directory, shard=0)
    try:
        found = [entry.recipient.address.partition("@")[0] for entry in await spool.find(Selection(), limit=1000)]
        recorded = await kinds(spool)
    finally:
        await spool.close()
    settled = process.named("settled")
    reported = {"report"} if settled and process.with_report else set()
    assert sorted({*found} - {maybe}) == sorted((process.named("accepted") - settled | reported) - {maybe})
    assert len(found) == len(set(found))
    assert len(recorded) == len(set(recorded))
