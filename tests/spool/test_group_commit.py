import asyncio
import sqlite3
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from relay.errors import SpoolError
from relay.spool import Selection
from relay.spool.operation import Operation
from relay.spool.operations import Steps
from relay.spool.spool import Spool
from relay.spool.steps import Step
from tests.spool.letters import NOON, Clock, addresses_due, delivered, new_message


class Gate:
    """Stops the disk's thread before a commit while it is shut."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.met = threading.Event()

    def reached(self, step: Step) -> None:
        if step is Step.ROWS_WRITTEN:
            self.met.set()
            assert self.open.wait(10)

    def shut(self) -> None:
        self.met.clear()
        self.open.clear()

    async def wait_until_met(self) -> None:
        assert await asyncio.to_thread(self.met.wait, 10)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
async def gated(tmp_path: Path, clock: Clock, gate: Gate) -> AsyncIterator[Spool]:
    opened = await Spool.open(tmp_path, shard=0, now=clock, reached=gate.reached)
    yield opened
    gate.open.set()
    await opened.close()


async def test_what_comes_at_once_is_one_commit(spool: Spool) -> None:
    messages = [new_message(spool, "a@example.org") for _ in range(50)]
    claimed = await asyncio.gather(*(spool.accept(message, hand_over=True) for message in messages))
    assert (spool.measures.commits, spool.measures.operations) == (1, 50)
    await asyncio.gather(*(spool.settle(delivered(*one)) for one in claimed))
    assert (spool.measures.commits, spool.measures.operations) == (2, 100)


async def test_the_next_group_gathers_while_a_commit_is_on_its_way(gated: Spool, gate: Gate) -> None:
    gate.shut()
    first = asyncio.create_task(gated.accept(new_message(gated, "a@example.org"), hand_over=False))
    await gate.wait_until_met()
    others = []
    for _ in range(10):
        others.append(asyncio.create_task(gated.accept(new_message(gated, "b@example.org"), hand_over=False)))
        await asyncio.sleep(0)
    gate.open.set()
    await asyncio.gather(first, *others)
    assert (gated.measures.commits, gated.measures.operations) == (2, 11)


async def test_nobody_is_answered_before_the_commit(gated: Spool, gate: Gate) -> None:
    gate.shut()
    accepting = asyncio.create_task(gated.accept(new_message(gated, "a@example.org"), hand_over=False))
    await gate.wait_until_met()
    assert not accepting.done()
    assert await addresses_due(gated) == [], "what is not on disk is not seen"
    gate.open.set()
    await accepting


async def test_one_that_fails_does_not_fail_its_group(spool: Spool) -> None:
    one, two, three = (new_message(spool, f"{name}@example.org") for name in "abc")
    results = await asyncio.gather(
        *(spool.accept(message, hand_over=False) for message in (one, two, one, three)), return_exceptions=True
    )
    assert [type(result) for result in results] == [tuple, tuple, SpoolError, tuple]
    assert sorted(await addresses_due(spool)) == ["a@example.org", "b@example.org", "c@example.org"]
    assert spool.measures.commits == 1
    assert spool.failure is None


async def test_several_that_fail_do_not_fail_their_group(spool: Spool) -> None:
    messages = [new_message(spool, f"{name}@example.org") for name in "ab"]
    results = await asyncio.gather(
        *(spool.accept(message, hand_over=False) for message in messages * 3), return_exceptions=True
    )
    assert [type(result) for result in results] == [tuple] * 2 + [SpoolError] * 4
    assert sorted(await addresses_due(spool)) == ["a@example.org", "b@example.org"]


async def test_a_group_of_which_nothing_is_left_leaves_the_spool_working(spool: Spool) -> None:
    message = new_message(spool, "a@example.org", body=b"x" * 200_000)
    await spool.accept(message, hand_over=False)
    refused = await asyncio.gather(*(spool.accept(message, hand_over=True) for _ in range(2)), return_exceptions=True)
    assert [type(result) for result in refused] == [SpoolError] * 2
    assert (await spool.content(message.id)).body_size == 200_000


async def test_the_first_that_fails_alone_leaves_the_spool_working(spool: Spool) -> None:
    message = new_message(spool, "a@example.org")
    await spool.accept(message, hand_over=False)
    with pytest.raises(SpoolError):
        await spool.accept(message, hand_over=False)
    await spool.accept(new_message(spool, "b@example.org"), hand_over=False)
    assert await addresses_due(spool) == ["a@example.org", "b@example.org"]


async def cancelled(task: "asyncio.Future[Any]") -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def until_due(spool: Spool) -> list[str]:
    async with asyncio.timeout(10):
        while True:
            if found := await addresses_due(spool):
                return found


async def test_a_caller_cancelled_before_its_group_begins_has_its_message_queued_once(spool: Spool) -> None:
    accepting = asyncio.create_task(spool.accept(new_message(spool, "a@example.org"), hand_over=True))
    await asyncio.sleep(0)
    await cancelled(accepting)
    assert await until_due(spool) == ["a@example.org"]


async def test_a_caller_cancelled_during_the_commit_has_its_message_queued_once(gated: Spool, gate: Gate) -> None:
    gate.shut()
    accepting = asyncio.create_task(gated.accept(new_message(gated, "a@example.org"), hand_over=True))
    await gate.wait_until_met()
    await cancelled(accepting)
    gate.open.set()
    assert await until_due(gated) == ["a@example.org"]


async def test_a_caller_cancelled_in_the_turn_of_its_answer_has_its_message_queued_once(tmp_path: Path) -> None:
    tasks: list[asyncio.Task[object]] = []

    def cancel(_seconds: float, _operations: int) -> None:
        while tasks:
            tasks.pop().cancel()

    spool = await Spool.open(tmp_path, shard=0, now=Clock(), observe=cancel)
    accepting = asyncio.create_task(spool.accept(new_message(spool, "a@example.org"), hand_over=True))
    tasks.append(accepting)
    with pytest.raises(asyncio.CancelledError):
        await accepting
    assert await until_due(spool) == ["a@example.org"]
    await spool.close()


async def test_a_caller_cancelled_while_its_file_is_synced_has_its_message_queued_once(tmp_path: Path) -> None:
    met, on = threading.Event(), threading.Event()

    def reached(step: Step) -> None:
        if step is Step.CONTENT_SYNCED:
            met.set()
            assert on.wait(10)

    spool = await Spool.open(tmp_path, shard=0, now=Clock(), reached=reached)
    message = new_message(spool, "a@example.org", body=b"x" * 200_000)
    accepting = asyncio.create_task(spool.accept(message, hand_over=True))
    assert await asyncio.to_thread(met.wait, 10)
    await cancelled(accepting)
    on.set()
    assert await until_due(spool) == ["a@example.org"]
    assert (await spool.content(message.id)).body_size == 200_000
    await spool.close()


async def test_a_settlement_whose_caller_is_cancelled_is_carried_out(gated: Spool, gate: Gate) -> None:
    claimed = await gated.accept(new_message(gated, "a@example.org"), hand_over=True)
    gate.shut()
    settling = gated.settle(delivered(*claimed))
    await gate.wait_until_met()
    await cancelled(settling)
    gate.open.set()
    assert (await gated.settle(delivered(*claimed))).missing == (0,)


async def test_closing_finishes_what_was_given(tmp_path: Path, clock: Clock) -> None:
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    accepting = [
        asyncio.create_task(spool.accept(new_message(spool, "a@example.org", body=body), hand_over=False))
        for body in (b"small", b"x" * 200_000)
    ]
    await asyncio.sleep(0)
    await spool.close()
    ended = await asyncio.gather(*accepting, return_exceptions=True)
    assert ended[0] == ()
    spool = await Spool.open(tmp_path, shard=0, now=clock)
    assert await spool.count(Selection()) == sum(one == () for one in ended)
    await spool.close()


async def test_another_program_that_writes_delays_settling_and_fails_accepting(tmp_path: Path, spool: Spool) -> None:
    claimed = await spool.accept(new_message(spool, "a@example.org"), hand_over=True)
    foreign = sqlite3.connect(tmp_path / "shard-0" / "queue.db", isolation_level=None)
    foreign.execute("BEGIN IMMEDIATE")
    with pytest.raises(SpoolError, match="locked"):
        await spool.accept(new_message(spool, "b@example.org"), hand_over=True)
    settling = spool.settle(delivered(*claimed))
    async with asyncio.timeout(10):
        while spool.measures.refused_groups < 2:
            await spool.count(Selection())
    assert not settling.done()
    foreign.execute("ROLLBACK")
    foreign.close()
    async with asyncio.timeout(10):
        await settling
    assert spool.failure is None
    await spool.accept(new_message(spool, "b@example.org"), hand_over=True)


async def test_ten_thousand_recipients_do_not_hold_up_the_loop(spool: Spool) -> None:
    message = new_message(spool, *[f"user{n}@example.org" for n in range(10_000)])
    accepting = asyncio.create_task(spool.accept(message, hand_over=False))
    longest, last = 0.0, time.thread_time()  # of this thread, whatever else the machine does
    while not accepting.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        longest, last = max(longest, now - last), now
    assert await spool.count(Selection()) == 10_000
    assert longest < 0.02, "a few milliseconds, with room for a slow machine"


async def test_commits_are_observed(tmp_path: Path) -> None:
    seen: list[tuple[float, int]] = []
    spool = await Spool.open(tmp_path, shard=0, now=Clock(), observe=lambda *commit: seen.append(commit))
    await asyncio.gather(*(spool.accept(new_message(spool, "a@example.org"), hand_over=True) for _ in range(3)))
    (commit,) = seen
    assert commit[0] > 0 and commit[1] == 3
    assert spool.measures.rows == 12 and spool.measures.commit_seconds == commit[0]
    await spool.close()


async def test_the_log_is_carried_over_before_it_grows_long(tmp_path: Path, spool: Spool) -> None:
    for _ in range(30):
        messages = [new_message(spool, "a@example.org", body=b"x" * 60_000) for _ in range(10)]
        claimed = await asyncio.gather(*(spool.accept(message, hand_over=True) for message in messages))
        await asyncio.gather(*(spool.settle(delivered(*one)) for one in claimed))
    assert spool.measures.checkpoints > 0
    assert (tmp_path / "shard-0" / "queue.db-wal").stat().st_size < 300 * 60_000
    assert await addresses_due(spool, until=NOON) == []


async def test_what_follows_a_commit_may_fail_without_failing_the_callers(caplog: pytest.LogCaptureFixture) -> None:
    def fails(_: object) -> None:
        raise RuntimeError("unforeseen")

    loop = asyncio.get_running_loop()
    operation = Operation(lambda _: iter_nothing(), loop.create_future(), committed=fails)
    operation.result = None
    operation.end()
    assert "what follows a commit failed" in caplog.text


def iter_nothing() -> Steps[None]:
    yield


async def test_a_busy_loop_leaves_writing_its_share_of_the_time(spool: Spool) -> None:
    messages = [new_message(spool, "a@example.org") for _ in range(2000)]
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            until = time.perf_counter() + 0.04
            while time.perf_counter() < until:
                pass
            await asyncio.sleep(0)

    busy = asyncio.create_task(others())
    await asyncio.gather(*(spool.accept(message, hand_over=True) for message in messages))
    busy.cancel()
    assert turns < 30  # in slices of a millisecond it takes about fifty
