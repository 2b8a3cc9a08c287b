"""faults.processes: rounds in which processes are killed, stopped and told things."""

import asyncio
import signal

from tests.faults.house import House
from tests.faults.receiver import Mood, Step
from tests.faults.server import Failed, eventually, is_running

WELL_AFTER = 10.2  # seconds after its start a worker counts as one that ran well, and is replaced at once
HUNG_AFTER = 30.0


async def kill_worker(house: House, number: int) -> None:
    if number >= house.server.workers:
        await asyncio.sleep(WELL_AFTER / house.server.workers)
    await house.under_load()
    pids = house.server.worker_pids()
    async with house.fault():
        house.server.signal(signal.SIGKILL, pids[number % len(pids)])
        await house.server.until_gone([pids[number % len(pids)]])
        await house.is_whole()


async def kill_supervisor(house: House, _: int) -> None:
    await house.under_load()
    pids = house.server.pids()
    async with house.fault():
        house.server.signal(signal.SIGKILL)
        await house.server.ended()
        if house.random.random() < 0.5:  # a new one that waits for the shards, or one that finds them free
            await house.server.until_gone(pids)
        await house.server.start()
        left = [pid for pid in pids if is_running(pid)]
        if left:
            raise Failed(f"a new server takes mail while {left} of the old one live")
        await house.is_whole()


async def kill_all(house: House, _: int) -> None:
    await house.under_load()
    async with house.fault():
        await house.server.kill_all()
        await house.server.start()


async def kill_while_sending(house: House, number: int) -> None:
    """Messages are at the receiving server, which has not answered yet."""
    house.receiver.become(Mood.STALLS, where=Step.RCPT, share=0.5)
    await house.acknowledges(20)
    await kill_all(house, number)
    house.receiver.become(Mood.ORDERLY)


async def hang(house: House, number: int) -> None:
    """A worker that says nothing is killed by its supervisor and replaced; the others go on meanwhile."""
    await house.under_load()
    pids = house.server.worker_pids()
    async with house.fault():
        house.server.signal(signal.SIGSTOP, pids[number % len(pids)])
        await house.server.until_gone([pids[number % len(pids)]], within=HUNG_AFTER + 10)
        await house.is_whole()


async def pause(house: House, number: int) -> None:
    """A worker that is stopped for some seconds, and goes on."""
    await house.under_load()
    pids = house.server.worker_pids()
    async with house.fault():
        house.server.signal(signal.SIGSTOP, pids[number % len(pids)])
        await asyncio.sleep(house.random.uniform(1.0, 4.0))
        house.server.signal(signal.SIGCONT, pids[number % len(pids)])
    await house.acknowledges(20)


async def terminate(house: House, _: int) -> None:
    await house.under_load()
    async with house.fault():
        await house.server.stop()
        await house.server.start()


async def reload(house: House, _: int) -> None:
    await house.under_load()
    before, cut_off = house.server.logged("config reloaded"), house.crowd.cut_off
    async with house.fault():
        house.server.signal(signal.SIGHUP)

        async def reloaded() -> bool:
            return house.server.logged("config reloaded") >= before + house.server.workers

        await eventually(reloaded, what="the config is reloaded", within=30)
    if house.crowd.cut_off != cut_off:
        raise Failed("a reload cut sessions off")
