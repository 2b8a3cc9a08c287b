"""The loop in virtual time: it jumps when there is nothing to do, and not before."""

import asyncio
import socket
import time
from collections.abc import Coroutine
from typing import Any

import pytest

from relay.dryrun.loop import VirtualLoop
from relay.dryrun.network import Network


def run(work: Coroutine[Any, Any, Any], network: Network | None = None) -> Any:
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(network or Network())) as runner:
        return runner.run(work)


def test_days_pass_at_once_and_in_order() -> None:
    async def work() -> list[tuple[float, str]]:
        told: list[tuple[float, str]] = []

        async def tell(name: str, seconds: float) -> None:
            await asyncio.sleep(seconds)
            told.append((asyncio.get_running_loop().time(), name))

        await asyncio.gather(tell("late", 400_000.0), tell("soon", 0.5), tell("then", 3600.0))
        return told

    began = time.monotonic()
    assert run(work()) == [
        (pytest.approx(0.5, abs=1e-3), "soon"),
        (pytest.approx(3600.0, abs=1e-3), "then"),
        (pytest.approx(400_000.0, abs=1e-3), "late"),
    ]
    assert time.monotonic() - began < 5.0


def test_the_clock_stands_still_while_something_is_done() -> None:
    async def work() -> float:
        loop = asyncio.get_running_loop()
        timer = loop.call_later(1.0, lambda: None)
        for _ in range(1000):
            await asyncio.sleep(0)
        timer.cancel()
        return loop.time()

    assert run(work()) < 1e-4


def test_who_is_woken_finds_that_its_time_has_come() -> None:
    """A timer goes off up to a nanosecond early; who sets it again must not be woken again at once, forever."""

    async def work() -> int:
        loop, woken, done = asyncio.get_running_loop(), 0, asyncio.Event()
        at = loop.time() + 1.0 + 5e-10

        def look() -> None:
            nonlocal woken
            woken += 1
            if loop.time() >= at:
                done.set()
            else:
                loop.call_at(at, look)

        loop.call_at(at, look)
        await asyncio.sleep(1.0)
        await done.wait()
        return woken

    assert run(work()) <= 3


def test_what_is_given_to_a_thread_is_done_at_once() -> None:
    def fail() -> None:
        raise ValueError("so")

    async def work() -> tuple[int, float]:
        with pytest.raises(ValueError, match="so"):
            await asyncio.to_thread(fail)
        return await asyncio.to_thread(lambda: 7), asyncio.get_running_loop().time()

    assert run(work()) == (7, pytest.approx(0.0, abs=1e-6))


def test_timeouts_go_by_the_virtual_clock() -> None:
    async def work() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(300.0):
                await asyncio.get_running_loop().create_future()
        return asyncio.get_running_loop().time()

    assert run(work()) == pytest.approx(300.0, abs=1e-3)


def test_nobody_is_reached_but_who_is_simulated() -> None:
    async def work() -> None:
        with socket.socket() as client:
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", 25))

    with pytest.raises(ConnectionRefusedError):
        run(work())


def test_waiting_for_what_never_comes_is_an_error() -> None:
    async def work() -> None:
        await asyncio.get_running_loop().create_future()

    with pytest.raises(RuntimeError, match="what never happens"):
        run(work())
