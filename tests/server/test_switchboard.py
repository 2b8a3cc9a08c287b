"""What is common to the machine: asked over real channels, and given back by the dead."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from relay.metrics import Metrics, merge, retired
from relay.server.channel import Channel
from relay.server.guard import SharedGuard
from relay.server.session_table import SessionTable
from relay.server.switchboard import LocalBoard, RemoteBoard, Switchboard
from relay.submission.guessing import Guessing
from relay.submission.limits import Rates
from relay.submission.services import Limits
from tests.submission.house import Clock

HERE = "192.0.2.7"


class Peer:
    """One worker: its board, its counts, its guard, and what it was told."""

    def __init__(self, slot: int, tasks: asyncio.TaskGroup, clock: Clock) -> None:
        self.slot = slot
        self.metrics = Metrics(streams=("transactional",))
        self.channel = Channel(self._answer, tasks)
        self.board = RemoteBoard(self.channel)
        self.guard = SharedGuard(Guessing(failures=2, window=600.0), self.board)
        self.wanted: list[str] = []
        self.logins: list[str] = []
        self.silent = asyncio.Event()
        self._clock = clock
        self._heard = asyncio.Event()

    async def _answer(self, verb: str, arguments: Any) -> Any:
        self._heard.set()
        if verb == "snapshot":
            if self.silent.is_set():
                await self.channel.ended.wait()
            return self.metrics.snapshot()
        if verb == "auth":
            outcome, address, login = arguments
            self.logins.append(outcome)
            self.guard.hear(outcome, address=address, login=login, now=self._clock())
        if verb == "wanted":
            self.wanted += arguments
        return None

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                self._heard.clear()
                await self._heard.wait()


class Machine:
    """A supervisor's switchboard, and workers that talk to it."""

    def __init__(self, tasks: asyncio.TaskGroup) -> None:
        self.clock = Clock()
        self.rates = Rates()
        self.sessions = SessionTable(workers=3)
        self.metrics = Metrics(streams=("transactional",))
        self.switchboard = Switchboard(
            rates=self.rates,
            sessions=self.sessions,
            merge=merge,
            retire=retired,
            own_counts=self.metrics.snapshot,
            now=self.clock,
            monotonic=self.clock,
            snapshot_within=0.1,
        )
        self._tasks = tasks
        self._ends: dict[int, Channel] = {}

    async def worker(self, slot: int) -> Peer:
        ours, theirs = socket.socketpair()
        peer = Peer(slot, self._tasks, self.clock)
        end = self._ends[slot] = Channel(
            lambda verb, arguments: self.switchboard.answer(slot, verb, arguments), self._tasks
        )
        loop = asyncio.get_running_loop()
        for each, channel in ((ours, end), (theirs, peer.channel)):
            each.settimeout(0)
            await loop.create_unix_connection(lambda channel=channel: channel, sock=each)  # type: ignore[misc]
        self.switchboard.joined(slot, end)
        return peer

    async def dies(self, peer: Peer) -> None:
        peer.channel.close()
        await self._ends[peer.slot].ended.wait()
        self.switchboard.left(peer.slot)

    async def close(self) -> None:
        for end in self._ends.values():
            end.close()
            await end.ended.wait()


@asynccontextmanager
async def machine() -> AsyncIterator[Machine]:
    async with asyncio.TaskGroup() as tasks:
        made = Machine(tasks)
        try:
            yield made
        finally:
            await made.close()
            await asyncio.sleep(0)


def accepted(snapshots: list[dict[str, Any]]) -> int:
    rows = merge(snapshots)["values"]["relay_messages_accepted"]
    return sum(count for labels, count in rows if labels == ["transactional"])


def count(metrics: Metrics, messages: int) -> None:
    for _ in range(messages):
        metrics.accepted("transactional", recipients=1, octets=100, commit_seconds=0.001)


# Limits.


async def test_a_credentials_limit_holds_for_all_workers_together() -> None:
    async with machine() as house:
        workers = [await house.worker(slot) for slot in range(2)]
        limits = Limits(hour=3)
        waits = [await workers[turn % 2].board.take("shop", limits, 1) for turn in range(4)]
        assert waits[:3] == [0.0, 0.0, 0.0]
        assert waits[3] > 3000
        workers[0].board.give_back("shop", limits, 1)
        assert await workers[0].board.take("shop", limits, 1) == 0.0
        assert await workers[1].board.take("shop", limits, 1) > 3000


async def test_a_sites_connections_are_the_machines_and_a_dead_workers_come_free() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=2)
        assert await first.board.acquire("mx", maximum=2)
        assert not await second.board.acquire("mx", maximum=2)
        await house.dies(first)
        assert await second.board.acquire("mx", maximum=2)
        assert await second.board.acquire("mx", maximum=2)
        assert not await second.board.acquire("mx", maximum=2)


async def test_what_is_released_is_free_and_nothing_is_released_twice() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=1)
        second.board.release("mx")  # it holds none
        assert not await second.board.acquire("mx", maximum=1)
        first.board.release("mx")
        assert await first.board.acquire("mx", maximum=1)
        first.board.release("mx")
        await house.dies(first)
        assert await second.board.acquire("mx", maximum=1)


async def test_who_is_refused_has_the_others_asked_for_idle_connections() -> None:
    async with machine() as house:
        first, second, third = [await house.worker(slot) for slot in range(3)]
        assert await first.board.acquire("mx", maximum=1)
        assert not await second.board.acquire("mx", maximum=1)
        await first.until(lambda: first.wanted == ["mx"])
        await third.until(lambda: third.wanted == ["mx"])
        assert second.wanted == []


async def test_a_paced_site_is_paced_for_the_machine() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        waits = [await each.board.pace("mx", per_second=2.0) for each in (first, second, first)]
        assert waits == pytest.approx([0.0, 0.5, 1.0], abs=1e-3)


# Guessing.


async def test_failures_at_one_worker_lock_the_address_at_all() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        for _ in range(2):
            first.guard.failed(address=HERE, login="shop", now=house.clock())
        await second.until(lambda: len(second.guard._own) > 0)
        second.guard.failed(address=HERE, login="shop", now=house.clock())
        assert second.guard.locked(address=HERE, now=house.clock()) > 0
        await first.until(lambda: first.guard.locked(address=HERE, now=house.clock()) > 0)


async def test_a_success_at_one_worker_is_known_at_all() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        first.guard.succeeded(address=HERE, login="shop", now=house.clock())
        await second.until(lambda: second.guard.known_at(address=HERE, login="shop") == house.clock())
        assert first.guard.known_at(address=HERE, login="shop") == house.clock()
        assert first.guard.locked_pair(address=HERE, login="shop", now=house.clock()) == 0.0


async def test_an_application_that_logs_in_for_every_message_is_not_told_of_every_time() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        for _ in range(100):
            first.guard.succeeded(address=HERE, login="shop", now=house.clock())
            house.clock.time += 0.5
        house.clock.time += 60
        first.guard.succeeded(address=HERE, login="shop", now=house.clock())
        await first.board.counts()  # asks the other, after all of that
        assert second.logins == ["succeeded", "succeeded"]


async def test_a_success_after_failures_is_told_at_once_since_it_forgives_them() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        first.guard.succeeded(address=HERE, login="shop", now=house.clock())
        for _ in range(2):
            second.guard.failed(address=HERE, login="shop", now=house.clock())
        await first.until(lambda: first.guard._own.has_failed(address=HERE, login="shop"))
        first.guard.succeeded(address=HERE, login="shop", now=house.clock())
        await second.until(lambda: not second.guard._own.has_failed(address=HERE, login="shop"))


# Counts.


async def test_any_worker_is_told_the_counts_of_all_and_of_the_supervisor() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        count(first.metrics, 3)
        count(second.metrics, 4)
        house.metrics.worker_restarted()
        counts = await first.board.counts()
        assert accepted(counts) == 7
        assert merge(counts)["values"]["relay_worker_restarts"] == [[[], 1]]


async def test_no_counter_goes_back_when_a_worker_dies_and_another_takes_its_place() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        count(first.metrics, 3)
        count(second.metrics, 4)
        first.channel.tell("snapshot", first.metrics.snapshot())
        assert accepted(await second.board.counts()) == 7
        await house.dies(first)
        assert accepted(await second.board.counts()) == 7
        again = await house.worker(0)
        assert accepted(await again.board.counts()) == 7
        count(again.metrics, 1)
        assert accepted(await again.board.counts()) == 8
        await house.dies(again)
        assert accepted(await second.board.counts()) == 8


async def test_what_a_dead_worker_had_is_gone_though_what_it_counted_stays() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        first.metrics.session_opened("tls")
        await second.board.counts()
        await house.dies(first)
        values = merge(await second.board.counts())["values"]
        assert sum(number for labels, number in values["relay_sessions"]) == 0
        assert sum(number for labels, number in values["relay_sessions_opened"]) == 1


async def test_one_that_does_not_answer_is_shown_as_it_was_last() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        count(first.metrics, 3)
        assert accepted(await second.board.counts()) == 3
        count(first.metrics, 5)
        first.silent.set()
        assert accepted(await second.board.counts()) == 3


async def test_a_dead_workers_sessions_are_counted_no_more() -> None:
    async with machine() as house:
        first = await house.worker(0)
        column = house.sessions.of_worker(0)
        assert column.enter("all", limit=1)
        assert not house.sessions.of_worker(1).enter("all", limit=1)
        await house.dies(first)
        assert house.sessions.of_worker(1).enter("all", limit=1)


async def test_a_question_nobody_knows_is_a_bug() -> None:
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(machine())
        with pytest.raises(ValueError, match="unknown question 'surprise'"):
            await house.switchboard.answer(0, "surprise", [])


# Without a supervisor.


async def test_a_worker_without_a_supervisor_opens_nothing_and_finishes_what_it_has() -> None:
    async with machine() as house:
        first = await house.worker(0)
        await house.close()
        await first.channel.ended.wait()
        assert await first.board.take("shop", Limits(hour=1), 1) == 0.0
        assert not await first.board.acquire("mx", maximum=10)
        assert await first.board.pace("mx", per_second=0.1) == 0.0
        assert await first.board.counts() == []
        first.board.release("mx")
        first.board.auth_failed(address=HERE, login="shop")


async def test_where_one_worker_is_the_machine_the_same_holds_without_a_channel() -> None:
    clock, metrics = Clock(), Metrics(streams=("transactional",))

    async def counts() -> dict[str, Any]:
        return metrics.snapshot()

    board = LocalBoard(now=clock, monotonic=clock, own_counts=counts, rates=Rates())
    assert [await board.take("shop", Limits(day=1), 1) > 0 for _ in range(2)] == [False, True]
    board.give_back("shop", Limits(day=1), 1)
    assert await board.take("shop", Limits(day=1), 1) == 0.0
    assert [await board.acquire("mx", maximum=1) for _ in range(2)] == [True, False]
    board.release("mx")
    assert await board.acquire("mx", maximum=1)
    assert [await board.pace("mx", per_second=1.0) for _ in range(2)] == [0.0, 1.0]
    count(metrics, 2)
    assert accepted(await board.counts()) == 2
    board.auth_failed(address=HERE, login="shop")
    board.auth_succeeded(address=HERE, login="shop")
