"""What is common to the machine: asked over real channels, and given back by the dead."""

import asyncio
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest

from relay.delivery.feedback import Allowance, Kind, Push
from relay.delivery.machine_limits import LINGERS, WANTED, WITHOUT
from relay.delivery.pace import SOON, Pace
from relay.delivery.quota import Quota
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
SHOP, NEWS = ("transactional", "shop"), ("bulk", "news")


class Peer:
    """One worker: its board, its counts, its guard, and what it was told."""

    def __init__(self, slot: int, tasks: asyncio.TaskGroup, clock: Clock) -> None:
        self.slot = slot
        self.metrics = Metrics(streams=("transactional",))
        self.channel = Channel(self._answer, tasks)
        self.board = RemoteBoard(self.channel, steady=clock)
        self.guard = SharedGuard(Guessing(failures=2, window=600.0), self.board)
        self.wanted: list[str] = []
        self.free: list[str] = []
        self.allowed: list[tuple[int, int]] = []  # connections, and those of its own that are to end
        self.logins: list[str] = []
        self.silent = asyncio.Event()
        self._clock = clock
        self._heard = asyncio.Event()
        self.board.follow(self._follow)

    def _follow(self, site: str, allowance: Allowance, surplus: int) -> int:
        self.allowed.append((allowance.connections, surplus))
        return 0

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
        if verb == "governed":
            self.board.hear(*arguments)
        if verb == "breaker":
            self.board.hear_of_breaker(*arguments)
        if verb == "wanted":
            self.wanted += arguments
        if verb == "free":
            self.free += arguments
        return None

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not holds():
                self._heard.clear()
                await self._heard.wait()


class Machine:
    """A supervisor's switchboard, and workers that talk to it."""

    def __init__(
        self, tasks: asyncio.TaskGroup, *, snapshot_within: float, monotonic: Callable[[], float] | None
    ) -> None:
        self.clock = Clock()
        self.rates = Rates()
        self.sessions = SessionTable(workers=3)
        self.changes: list[str] = []
        self.metrics = Metrics(streams=("transactional",))
        self.switchboard = Switchboard(
            rates=self.rates,
            sessions=self.sessions,
            merge=merge,
            retire=retired,
            own_counts=self.metrics.snapshot,
            now=self.clock,
            monotonic=monotonic or self.clock,
            noted=lambda site, change: self.changes.append(f"{site}: {change}"),
            snapshot_within=snapshot_within,
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
        self.switchboard.connected(slot, end)
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
async def machine(
    *, snapshot_within: float = 10.0, monotonic: Callable[[], float] | None = None
) -> AsyncIterator[Machine]:
    """monotonic: the clock of paces, where one is to pass."""
    async with asyncio.TaskGroup() as tasks:
        made = Machine(tasks, snapshot_within=snapshot_within, monotonic=monotonic)
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


async def test_first_time_recipients_are_the_machines_too_and_a_message_is_counted_whole_or_not_at_all() -> None:
    async with machine() as house:
        workers = [await house.worker(slot) for slot in range(2)]
        limits = Limits(hour=9, first_time=3)
        assert await workers[0].board.take("shop", limits, 1, first_time=2) == 0.0
        assert await workers[1].board.take("shop", limits, 1, first_time=2) > 80_000
        assert await workers[1].board.take("shop", limits, 1, first_time=1) == 0.0
        assert await workers[0].board.take("shop", limits, 1) == 0.0
        workers[1].board.give_back("shop", limits, 1, first_time=1)
        assert await workers[1].board.take("shop", limits, 7, first_time=1) == 0.0
        assert 0 < await workers[1].board.take("shop", limits, 1) <= 3600


async def test_a_sites_connections_are_the_machines_and_a_dead_workers_come_free_in_a_moment() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=2)
        assert await first.board.acquire("mx", maximum=2)
        assert not await second.board.acquire("mx", maximum=2)
        await house.dies(first)
        assert not await second.board.acquire("mx", maximum=2)  # a server at work on a message notices late
        house.clock.time += LINGERS
        assert await second.board.acquire("mx", maximum=2)
        assert await second.board.acquire("mx", maximum=2)
        assert not await second.board.acquire("mx", maximum=2)


async def test_what_is_released_is_free_and_nothing_is_released_twice() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=1)
        second.board.release("mx", opened=False)  # it holds none
        assert not await second.board.acquire("mx", maximum=1)
        first.board.release("mx", opened=False)
        assert await first.board.acquire("mx", maximum=1)
        first.board.release("mx", opened=False)
        await house.dies(first)
        house.clock.time += LINGERS
        assert await second.board.acquire("mx", maximum=1)


async def test_a_limit_that_became_lower_ends_connections_of_all_workers() -> None:
    async with machine() as house:
        first, second, third = [await house.worker(slot) for slot in range(3)]
        for peer in (first, second):
            assert await peer.board.acquire("mx", maximum=10)
        assert not await third.board.acquire("mx", maximum=1)
        await first.until(lambda: (1, 1) in first.allowed)
        await second.until(lambda: (1, 1) in second.allowed)


async def test_who_is_refused_has_those_with_connections_asked_for_idle_ones() -> None:
    async with machine() as house:
        first, second, third = [await house.worker(slot) for slot in range(3)]
        assert await first.board.acquire("mx", maximum=1)
        assert await third.board.acquire("other", maximum=1)
        third.board.release("other", opened=False)
        assert not await second.board.acquire("mx", maximum=1)
        await first.until(lambda: first.wanted == ["mx"])
        assert await third.board.acquire("mx", maximum=2)  # whatever it was told before has come
        assert second.wanted == third.wanted == []
        assert not await second.board.acquire("mx", maximum=2)
        await first.until(lambda: first.wanted == ["mx", "mx"])
        await third.until(lambda: third.wanted == ["mx"])


async def test_of_a_worker_with_two_more_one_ends_for_another_that_wants_it() -> None:
    async with machine() as house:
        rich, poor = [await house.worker(slot) for slot in range(2)]
        for _ in range(2):
            assert await rich.board.acquire("mx", maximum=2)
        assert not await poor.board.acquire("mx", maximum=2)
        await rich.until(lambda: rich.allowed[-1] == (2, 1))
        rich.board.release("mx", opened=False)
        assert not await rich.board.acquire("mx", maximum=2)
        await poor.until(lambda: poor.free == ["mx"])
        assert await poor.board.acquire("mx", maximum=2)
        assert not await poor.board.acquire("mx", maximum=2)  # now both have one
        assert rich.allowed[-1] == (2, 0)


async def test_who_goes_on_with_another_connection_has_it_before_those_with_more() -> None:
    async with machine() as house:
        poor, rich = [await house.worker(slot) for slot in range(2)]
        assert await poor.board.acquire("mx", maximum=3)
        assert await rich.board.acquire("mx", maximum=3)
        poor.board.opened("mx")
        rich.board.opened("mx")
        rich.board.taken("mx", messages=2)
        await rich.until(lambda: rich.allowed[-1] == (3, 0))
        assert await rich.board.acquire("mx", maximum=3)
        assert not await rich.board.acquire("mx", maximum=3)
        poor.board.release("mx", opened=True)
        assert await poor.board.acquire("mx", maximum=3)
        assert not rich.free


async def test_an_only_connection_goes_round() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=1)
        for seconds in (0.0, WITHOUT / 2, WITHOUT / 2):
            assert first.allowed[-1] == (1, 0)
            house.clock.time += seconds
            assert not await second.board.acquire("mx", maximum=1)
        await first.until(lambda: first.allowed[-1] == (1, 1))


async def test_who_asks_no_more_wants_none() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=1)
        assert not await second.board.acquire("mx", maximum=1)
        house.clock.time += WANTED + 0.1
        first.board.release("mx", opened=False)
        assert await first.board.acquire("mx", maximum=1)


async def test_what_a_site_takes_is_learnt_by_all_workers_together() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        for worker in (first, second):
            assert await worker.board.acquire("mx", maximum=10)
            worker.board.opened("mx")
        first.board.taken("mx", messages=2)
        await second.until(lambda: second.allowed[-1] == (3, 0))
        assert await second.board.acquire("mx", maximum=10)
        assert not await first.board.acquire("mx", maximum=10)
        push = Push(Kind.REFUSED, "421 4.7.0 Too many from mx3", epoch=0, in_session=False)
        assert await second.board.pushed_back("mx", push)  # the others go on
        await first.until(lambda: first.allowed[-1] == (1, 1))  # each ends its part
        assert house.changes == [
            "mx: 2 → 3 connections: all was taken",
            "mx: 3 → 1 connections: 421 4.7.0 Too many from mx3",
        ]


async def test_a_site_that_gives_no_session_is_in_trouble_and_no_session_was_one_too_many() -> None:
    async with machine() as house:
        worker = await house.worker(0)
        assert await worker.board.acquire("mx", maximum=10)
        push = Push(Kind.REFUSED, "Connection refused", epoch=0, in_session=False)
        assert not await worker.board.pushed_back("mx", push)


async def turns(*asked: Coroutine[Any, Any, float]) -> list[float]:
    """When each had its turn, in seconds since they all asked."""
    began = time.monotonic()

    async def turn(asking: Coroutine[Any, Any, float]) -> float:
        wait = await asking
        return time.monotonic() + wait - began

    return list(await asyncio.gather(*map(turn, asked)))


async def test_a_learnt_rate_paces_all_workers() -> None:
    async with machine(monotonic=time.monotonic) as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=10)
        first.board.opened("mx")
        assert await first.board.pace("mx", Pace(), count=1, sharer=SHOP) == 0.0
        first.board.taken("mx", messages=8)
        assert await first.board.pushed_back("mx", Push(Kind.SLOW, "451 4.7.1 Slow down from mx", epoch=0))
        came = await turns(*(each.board.pace("mx", Pace(), count=1, sharer=SHOP) for each in (first, second, first)))
        assert sorted(came) == pytest.approx([0.0, 0.25, 0.5], abs=0.05)
        assert house.changes[-1] == "mx: any → 4 messages per second: 451 4.7.1 Slow down from mx"


@pytest.mark.parametrize(
    ("configured", "apart"),
    [
        pytest.param(2.0, 1 / (0.97 * 2.0), id="what configuration allows is lower"),
        pytest.param(50.0, 0.25, id="what was learnt is lower"),
    ],
)
async def test_of_a_learnt_rate_and_a_configured_one_the_lower_counts(configured: float, apart: float) -> None:
    async with machine(monotonic=time.monotonic) as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        assert await first.board.acquire("mx", maximum=10)
        first.board.opened("mx")
        first.board.taken("mx", messages=8)
        assert await first.board.pushed_back("mx", Push(Kind.SLOW, "451 4.7.1 Slow down from mx", epoch=0))
        pace = Pace(configured)
        came = await turns(*(each.board.pace("mx", pace, count=1, sharer=SHOP) for each in (first, second, first)))
        assert sorted(came) == pytest.approx([0.0, apart, 2 * apart], abs=0.05)


async def test_a_paced_site_is_paced_for_the_machine() -> None:
    async with machine(monotonic=time.monotonic) as house:
        peers = [await house.worker(slot) for slot in range(3)]
        came = await turns(*(each.board.pace("mx", Pace(10.0), count=1, sharer=SHOP) for each in peers))
        assert sorted(came) == pytest.approx([0.0, 0.103, 0.206], abs=0.05)


async def test_who_has_had_no_turn_comes_before_all_that_another_waits_for() -> None:
    async with machine(monotonic=time.monotonic) as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        campaign = [first.board.pace("mx", Pace(20.0), count=1, sharer=NEWS) for _ in range(12)]
        *_, reset = await turns(*campaign, second.board.pace("mx", Pace(20.0), count=1, sharer=SHOP))
        assert reset < 0.15


async def test_those_who_share_a_site_have_as_many_turns_each_whatever_connections_they_have() -> None:
    async with machine(monotonic=time.monotonic) as house:
        had = Counter[tuple[str, str]]()
        over = asyncio.Event()

        async def courier(peer: Peer, sharer: tuple[str, str]) -> None:
            while not over.is_set():
                await asyncio.sleep(await peer.board.pace("mx", Pace(100.0), count=1, sharer=sharer))
                had[sharer] += not over.is_set()
                if had.total() == 90:
                    over.set()

        peers = [await house.worker(slot) for slot in range(3)]
        async with asyncio.TaskGroup() as tasks:
            for peer, sharer, couriers in ((0, SHOP, 1), (1, NEWS, 6), (2, ("bulk", "blog"), 3), (2, NEWS, 1)):
                for _ in range(couriers):
                    tasks.create_task(courier(peers[peer], sharer))
        assert max(had.values()) - min(had.values()) <= 3
        assert len(had) == 3


async def test_a_dead_worker_takes_no_turn() -> None:
    async with machine(monotonic=time.monotonic) as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        waiting = [asyncio.create_task(first.board.pace("mx", Pace(2.0), count=1, sharer=NEWS)) for _ in range(4)]
        assert await waiting[0] == 0.0
        await house.dies(first)
        (came,) = await turns(second.board.pace("mx", Pace(2.0), count=1, sharer=NEWS))
        assert came < 0.6
        await asyncio.gather(*waiting)


async def test_a_turn_that_does_not_come_soon_is_not_taken() -> None:
    async with machine(monotonic=time.monotonic) as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        asked = [first.board.pace("mx", Pace(0.0, 1), count=1, sharer=NEWS) for _ in range(3)]
        waits = [await each for each in asked]
        assert waits[0] == 0.0
        assert min(waits[1:]) > 55.0
        assert await second.board.pace("other", Pace(0.0, 1), count=1, sharer=NEWS) == 0.0


async def test_of_more_than_have_a_turn_soon_the_last_in_line_ask_again() -> None:
    async with machine(monotonic=time.monotonic) as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        campaign = asyncio.gather(*(first.board.pace("mx", Pace(3.0), count=1, sharer=NEWS) for _ in range(12)))
        reset = await second.board.pace("mx", Pace(3.0), count=1, sharer=SHOP)
        assert reset < SOON
        waits = await campaign
        assert [wait > SOON for wait in waits] == [False] * 5 + [True] * 7


async def test_a_site_of_so_many_an_hour_has_no_more_of_all_workers() -> None:
    async with machine() as house:
        workers = [await house.worker(slot) for slot in range(2)]
        asked = (workers[number % 2].board.pace("mx", Pace(0.0, 0, 5), count=1, sharer=SHOP) for number in range(8))
        waits = [await each for each in asked]
        assert [wait > SOON for wait in waits] == [False] * 5 + [True] * 3


async def test_what_counts_as_several_messages_takes_as_many_turns() -> None:
    async with machine(monotonic=time.monotonic) as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        came = await turns(
            first.board.pace("provider", Pace(20.0), count=5, sharer=SHOP),
            second.board.pace("provider", Pace(20.0), count=1, sharer=SHOP),
        )
        assert came == pytest.approx([0.0, 0.257], abs=0.05)


async def test_a_smarthosts_quota_is_one_for_all_workers() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        quota = Quota("smarthost provider", per_hour=5, per_day=6)
        assert await first.board.spend(quota, count=3) == 0.0
        assert await second.board.spend(quota, count=3) == pytest.approx(3600, abs=60)
        assert await second.board.spend(quota, count=2) == 0.0
        first.board.refund(quota, count=2)
        assert await first.board.spend(quota, count=2) == 0.0
        house.clock.time += 3700
        assert await second.board.spend(quota, count=2) == pytest.approx(86400 - 3700, abs=1440)
        assert await second.board.spend(quota, count=1) == 0.0


async def test_what_was_used_of_quotas_is_told_to_every_worker() -> None:
    async with machine() as house:
        first, second = [await house.worker(slot) for slot in range(2)]
        quotas = [Quota(f"warm-up 203.0.113.10 {provider}", per_hour=5, per_day=6) for provider in ("google", "yahoo")]
        await first.board.spend(quotas[0], count=3)
        house.clock.time += 7200
        await second.board.spend(quotas[1], count=1)
        await second.board.spend(Quota("smarthost provider", per_day=6), count=2)
        used = {"warm-up 203.0.113.10 google": (0, 3), "warm-up 203.0.113.10 yahoo": (1, 1)}
        assert await first.board.used("warm-up 203.0.113.10 ") == used
        assert await second.board.used("warm-up 203.0.113.11 ") == {}


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
    async with machine(snapshot_within=0.1) as house:
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
        assert await first.board.pace("mx", Pace(0.1), count=1, sharer=SHOP) == 0.0
        assert await first.board.counts() == []
        first.board.release("mx", opened=False)
        first.board.auth_failed(address=HERE, login="shop")


async def test_where_one_worker_is_the_machine_the_same_holds_without_a_channel() -> None:
    clock, metrics = Clock(), Metrics(streams=("transactional",))

    async def counts() -> dict[str, Any]:
        return metrics.snapshot()

    board = LocalBoard(
        now=clock,
        monotonic=clock,
        steady=clock,
        own_counts=counts,
        rates=Rates(),
        noted=lambda site, change: None,
    )
    assert [await board.take("shop", Limits(day=1), 1) > 0 for _ in range(2)] == [False, True]
    board.give_back("shop", Limits(day=1), 1)
    assert await board.take("shop", Limits(day=1), 1) == 0.0
    assert [await board.take("blog", Limits(first_time=3), 1, first_time=2) > 0 for _ in range(2)] == [False, True]
    board.give_back("blog", Limits(first_time=3), 1, first_time=2)
    assert await board.take("blog", Limits(first_time=3), 1, first_time=3) == 0.0
    assert [await board.acquire("mx", maximum=1) for _ in range(2)] == [True, False]
    board.release("mx", opened=False)
    assert await board.acquire("mx", maximum=1)
    asked = (board.pace("mx", Pace(0.0, 1), count=1, sharer=SHOP) for _ in range(2))
    assert [await each > SOON for each in asked] == [False, True]
    count(metrics, 2)
    assert accepted(await board.counts()) == 2
    board.auth_failed(address=HERE, login="shop")
    board.auth_succeeded(address=HERE, login="shop")
