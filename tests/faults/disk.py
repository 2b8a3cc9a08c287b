"""faults.disk: rounds in which the disk fills, fails, stalls or loses its power, and the clock beside it jumps."""

import asyncio
import errno
import os
import signal
from contextlib import suppress
from itertools import product
from pathlib import Path

from tests.faults.house import House
from tests.faults.place import Cut, Small
from tests.faults.receiver import Mood, Step
from tests.faults.server import Failed, eventually
from tests.peers.failing_disk import LIE, Rule, stall

WAL_FRAME = 24 + 4096
STALL = 5.0  # seconds
PAGE = 4096
WAITING = 40  # messages, when a shard is damaged
FAILING_CALLS = ("fdatasync", "fsync", "write", "open", "ftruncate", "fallocate", "rename")
FAILURES = tuple(product(FAILING_CALLS, (errno.EIO, errno.ENOSPC)))
IN_SHARD = "/shard-"
MEETS_WITHIN = 3.0  # seconds; some calls are rare


async def cut_power(house: House, _: int) -> None:
    """The machine stops where it stands, in the middle of whatever call, and nobody is answered any more. In half of
    the rounds it is the disk alone that goes, between two calls, and every write fails from then on.

    Stopped first, because an fdatasync that is under way when the ioctl comes may return success although the data is
    gone (Linux 6.18: 35 of 200 for a program that does nothing but append and sync, each about a millisecond after the
    ioctl had begun). Without power nobody hears of that success; a server that goes on would believe it.
    """
    assert isinstance(house.place, Cut)
    await house.under_load()
    lives_on = house.random.random() < 0.5
    async with house.fault():
        pids = house.server.freeze()
        if lives_on:
            await house.server.until_between_calls(pids)
        house.place.cut()
        if lives_on:
            house.server.signal(signal.SIGCONT, *pids)
            await house.moment(0.3)  # what is acknowledged now is lost
        await house.server.kill_all()
        await house.place.restore()
        await house.server.start()


async def tear(house: House, _: int) -> None:
    """Killed, and what was being written is there in part: a frame of the log, a body nobody knows."""
    await house.under_load()
    async with house.fault():
        await house.server.kill_all()
        for log in house.place.spool.glob("shard-*/queue.db-wal"):
            octets = log.read_bytes()
            with log.open("ab") as file:
                file.write(octets[32 : 32 + house.random.randrange(1, WAL_FRAME)])
        for shard in house.place.spool.glob("shard-*/content"):
            (shard / f"torn{house.random.randrange(10**9)}").write_bytes(b"half a bo")
        await house.server.start()


async def damage(house: House, number: int) -> None:
    """Mail waits, the server is stopped, and a shard is not as it was written. What is refused is recovered."""
    house.receiver.become(Mood.SAYS_421, where=Step.MAIL)
    await house.acknowledges(WAITING)
    async with house.fault():
        await house.server.stop()
        databases = sorted(house.place.spool.glob("shard-*/queue.db"))
        house.dealt(DAMAGES, number)(house, house.random.choice(databases))
        await house.server.launch()
        try:
            await house.server.until_ready()
        except Failed:
            house.server.signal(signal.SIGTERM)
            await house.server.ended()
            await house.recover()
            await house.server.start()
        house.receiver.become(Mood.ORDERLY)


def flip_a_bit(house: House, database: Path) -> None:
    octets = bytearray(database.read_bytes())
    octets[house.random.randrange(len(octets))] ^= 1 << house.random.randrange(8)
    database.write_bytes(octets)


def garble_a_page(house: House, database: Path) -> None:
    octets = bytearray(database.read_bytes())
    at = house.random.randrange(len(octets) // PAGE) * PAGE
    octets[at : at + PAGE] = house.random.randbytes(PAGE)
    database.write_bytes(octets)


def cut_the_last_page(_: House, database: Path) -> None:
    os.truncate(database, max(0, database.stat().st_size - PAGE // 2))


DAMAGES = (flip_a_bit, garble_a_page, cut_the_last_page)


async def fill_while_accepting(house: House, _: int) -> None:
    await house.under_load()
    async with house.fault():
        place = await _fill_until_it_refuses(house, leaving=house.random.randrange(64 * 1024))
        place.empty()
    await house.acknowledges(20)


async def fill_while_settling(house: House, _: int) -> None:
    """Mail is on its way when the disk fills; the receiver takes it then."""
    house.receiver.become(Mood.STALLS, where=Step.RCPT)
    await house.acknowledges(20)
    async with house.fault():
        place = await _fill_until_it_refuses(house)
        house.receiver.become(Mood.ORDERLY)
        await house.moment(2.0)
        place.empty()
    await house.acknowledges(20)


async def kill_while_full(house: House, _: int) -> None:
    """A full disk, and then a crash; started while it is still full, which it may refuse until there is room."""
    await house.under_load()
    async with house.fault():
        place = await _fill_until_it_refuses(house)
        await house.server.kill_all()
        await house.server.launch()
        await house.moment(3.0)
        place.empty()
        await house.is_whole()
    await house.acknowledges(20)


async def fail_calls(house: House, number: int) -> None:
    """One call or some, of one kind, at a random moment: of the log, the database, a content, the journal."""
    call, error = house.dealt(FAILURES, number)
    await house.under_load()
    chance = house.random
    async with house.fault():
        house.disk.follow(Rule(call, IN_SHARD, error, after=chance.randrange(8), times=chance.randrange(1, 4)))
        await _meets(house)
        await house.moment()
        house.disk.heal()
        await house.is_whole()
    await house.acknowledges(20)


async def _meets(house: House) -> None:
    """Until a call failed, if one does."""
    met = len(house.disk.met())

    async def met_one() -> bool:
        return len(house.disk.met()) > met

    with suppress(Failed):
        await eventually(met_one, what="a call fails", within=MEETS_WITHIN)


async def stall_disk(house: House, _: int) -> None:
    """A sync that takes five seconds, in every process."""
    await house.under_load()
    async with house.fault():
        house.disk.follow(stall("sync", IN_SHARD, seconds=STALL, times=1))
        await _meets(house)
        await asyncio.sleep(STALL + 0.5)
        house.disk.heal()
        await house.is_whole()
    await house.acknowledges(20)


async def jump(house: House, number: int) -> None:
    """A day forward, back, a day back, and forward again."""
    await house.under_load()
    async with house.fault():
        house.clock.shift(days=(1, 0, -1, 0)[number % 4])
        await house.acknowledges(20)


async def fill_while_rolling(house: House, _: int) -> None:
    """The day ends, and there is no room for the journal of the next one."""
    await house.under_load()
    async with house.fault():
        house.clock.shift(days=1)
        place = await _fill_until_it_refuses(house)
        await house.moment(2.0)
        place.empty()
        await house.acknowledges(20)
        house.clock.shift(days=0)
    await house.acknowledges(20)


async def cut_power_of_a_disk_that_lies(house: House, number: int) -> None:
    """No fault of Relay's: what the harness must find out."""
    house.disk.follow(Rule("sync", "*", LIE))
    await house.acknowledges(20)
    await cut_power(house, number)


async def _fill_until_it_refuses(house: House, *, leaving: int = 0) -> Small:
    """What is delivered makes room, which is taken as well. Returns what was filled."""
    place = house.place
    assert isinstance(place, Small)
    before = house.ledger.refused

    async def refused() -> bool:
        place.fill(leaving=leaving)
        return house.ledger.refused > before

    await eventually(refused, what="mail is refused for lack of room", within=30)
    return place
