"""A real process dies, at every step and at any moment; what it was told is done is there, and nothing else is."""

import asyncio
import errno
import os
import random
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from relay.spool import QueueEntry, Selection
from relay.spool.spool import Spool
from relay.spool.steps import Step
from tests.peers.failing_disk import FailingDisk, Rule
from tests.spool.doomed import body_of


@dataclass
class Ledger:
    """What a process that died had said."""

    begun: dict[str, tuple[int, bool]] = field(default_factory=dict)  # id: recipients, whether it is large
    accepted: set[str] = field(default_factory=set)
    settling: set[str] = field(default_factory=set)
    settled: set[str] = field(default_factory=set)
    moved: dict[int, str] = field(default_factory=dict)

    def read(self, output: bytes) -> "Ledger":
        # A line that was cut off was never said in full.
        for line in output.decode().split("\n")[:-1]:
            match line.split():
                case ["accepting", message_id, recipients, large]:
                    self.begun[message_id] = (int(recipients), large == "True")
                case ["accepted", message_id]:
                    self.accepted.add(message_id)
                case ["settling", message_id]:
                    self.settling.add(message_id)
                case ["settled", message_id]:
                    self.settled.add(message_id)
                case ["event", sequence, kind, message_id, recipient]:
                    self.moved[int(sequence)] = f"{kind} {message_id} {recipient}"
        return self


async def died(
    directory: Path, *arguments: str, after: float | None = None, environment: Mapping[str, str] | None = None
) -> Ledger:
    """Run a doomed process to its end; `after`: kill it so many seconds after it began its work."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.spool.doomed", str(directory), *arguments),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    try:
        return await _ledger_of(process, after=after)
    finally:
        if process.returncode is None:  # it did not die as it should, and would go on for ever
            process.kill()


async def _ledger_of(process: asyncio.subprocess.Process, *, after: float | None) -> Ledger:
    assert process.stdout is not None
    assert await process.stdout.readline() == b"open\n"
    if after is not None:
        asyncio.get_running_loop().call_later(after, process.kill)
    async with asyncio.timeout(30):
        output = await process.stdout.read()
        assert await process.wait() == -9
    return Ledger().read(output)


async def check(directory: Path, ledger: Ledger) -> None:
    spool = await Spool.open(directory, shard=0)
    entries = await spool.find(Selection(), limit=1_000_000)
    waiting = Counter(entry.message_id for entry in entries)
    for message_id, (recipients, _) in ledger.begun.items():
        if message_id in ledger.settled:
            assert waiting[message_id] == 0, "settled, and still there"
        elif message_id in ledger.accepted and message_id not in ledger.settling:
            assert waiting[message_id] == recipients, "acknowledged, and lost"
        else:
            assert waiting[message_id] in (0, recipients), "half there"
    assert set(waiting) <= set(ledger.begun)
    due = await spool.due(until=float("inf"), limit=1_000_000)
    assert len(due) == len(entries), "all that is not settled is due"
    await check_contents(spool, ledger, waiting, directory / "shard-0" / "content")
    await check_events(spool, ledger, entries)
    await spool.close()


async def check_contents(spool: Spool, ledger: Ledger, waiting: Counter[str], contents: Path) -> None:
    files = set()
    for message_id in waiting:
        content = await spool.content(message_id)
        assert content.head == b"head"
        assert b"".join(content.chunks()) == body_of(message_id, large=ledger.begun[message_id][1])
        if content.path is not None:
            files.add(content.path)
    there = await asyncio.to_thread(lambda: set(contents.iterdir()))
    assert there == files, "a file that belongs to nothing, or is missing"


async def check_events(spool: Spool, ledger: Ledger, entries: list[QueueEntry]) -> None:
    """Every change has its event exactly once, moved or not; one that was moved keeps its number."""
    left = {
        sequence: f"{event.kind} {event.message} {event.recipient}"
        for sequence, event in await spool.events(limit=1_000_000)
    }
    assert all(ledger.moved[sequence] == left[sequence] for sequence in ledger.moved.keys() & left.keys())
    told = Counter({**ledger.moved, **left}.values())
    there = {(entry.message_id, entry.recipient.address) for entry in entries}
    for message_id, (recipients, _) in ledger.begun.items():
        addresses = [f"user{n}@example.org" for n in range(recipients)]
        for address in addresses:
            accepted, ended = (told[f"{kind} {message_id} {address}"] for kind in ("accepted", "delivered"))
            assert accepted == (message_id in ledger.accepted or (message_id, address) in there or ended == 1)
            assert ended == (accepted == 1 and (message_id, address) not in there)


CURING = (Step.UNDONE, Step.WRITTEN_ANEW)


@pytest.mark.parametrize("nth", [1, 6])
@pytest.mark.parametrize("step", [pytest.param(step, id=f"dies at: {step}") for step in Step if step not in CURING])
async def test_a_crash_at_a_step_loses_nothing_and_leaves_nothing(tmp_path: Path, step: Step, nth: int) -> None:
    await check(tmp_path, await died(tmp_path, step, str(nth)))


@pytest.mark.parametrize("after", [10, 30], ids=["early", "later"])
@pytest.mark.parametrize("step", [pytest.param(step, id=f"dies at: {step}") for step in CURING])
async def test_a_crash_while_a_failed_commit_is_cured_loses_nothing_and_leaves_nothing(
    tmp_path: Path, step: Step, after: int
) -> None:
    disk = FailingDisk(tmp_path)
    disk.follow(Rule("fdatasync", "queue.db-wal", errno.EIO, after=after, times=1))
    ledger = await died(tmp_path / "spool", step, "1", environment=disk.environment)
    assert disk.met()
    await check(tmp_path / "spool", ledger)


async def test_a_crash_at_any_moment_loses_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    generator = random.Random()
    for number in range(6):
        directory = tmp_path / str(number)
        await check(directory, await died(directory, after=generator.uniform(0.0, 0.4)))
