"""faults.faults: what is done to a server under load, a function each: one round of it, from fault to recovery."""

import asyncio
import errno
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from itertools import product

from tests.faults.clients import Manner
from tests.faults.house import House
from tests.faults.place import Cut, Small
from tests.faults.receiver import Mood, Step
from tests.faults.server import Failed, eventually, is_running
from tests.peers.failing_disk import LIE, Rule, stall

WELL_AFTER = 10.2  # seconds after its start a worker counts as one that ran well, and is replaced at once
HUNG_AFTER = 30.0
STALL = 5.0
WAL_FRAME = 24 + 4096


class Where(Enum):
    """The file system the spool lies on."""

    PLAIN = auto()
    SMALL = auto()
    CUT = auto()


@dataclass(frozen=True, slots=True)
class Fault:
    """short, long: rounds. in_flight: seconds, as the ledger takes it; below zero, nothing may come twice. orderly:
    every client hears what became of its message. shim: whether system calls are to be tampered with.
    """

    name: str
    words: str
    round: Callable[[House, int], Awaitable[None]]
    short: int
    long: int
    workers: int = 2
    where: Where = Where.PLAIN
    in_flight: float = 1.0
    at_most_once: bool = False
    orderly: bool = False
    shim: bool = False


# Processes.


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


# The disk.


async def cut_power(house: House, _: int) -> None:
    assert isinstance(house.place, Cut)
    await house.under_load()
    async with house.fault():
        house.place.cut()
        if house.random.random() < 0.5:
            await house.moment(0.3)  # every write fails now; what is acknowledged all the same is lost
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
    """A full disk, and then a crash; started while it is still full."""
    await house.under_load()
    async with house.fault():
        place = await _fill_until_it_refuses(house)
        await house.server.kill_all()
        await house.server.start()
        await house.moment(1.0)
        place.empty()
    await house.acknowledges(20)


FAILING_CALLS = ("fdatasync", "fsync", "write", "open", "ftruncate", "fallocate", "rename")
FAILURES = tuple(product(FAILING_CALLS, (errno.EIO, errno.ENOSPC)))
IN_SHARD = "/shard-"
MEETS_WITHIN = 3.0  # seconds; some calls are rare


async def fail_calls(house: House, number: int) -> None:
    """One call or some, of one kind, at a random moment: of the log, the database, a content, the journal."""
    call, error = FAILURES[number % len(FAILURES)]
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


# The receiving server.

MOODS = (
    (Mood.CLOSES_AFTER_DOT, Step.END),
    (Mood.ANSWERS_AND_RESETS, Step.END),
    *product((Mood.STALLS, Mood.GARBAGE), Step),
    *product((Mood.SAYS_421,), (Step.MAIL, Step.RCPT, Step.DATA, Step.END)),
)


async def receiver_misbehaves(house: House, number: int) -> None:
    mood, where = MOODS[number % len(MOODS)]
    await _misbehave(house, mood, where)


async def receiver_loses_the_reply(house: House, _: int) -> None:
    """It took the message, and closes the connection instead of saying so."""
    await _misbehave(house, Mood.CLOSES_AFTER_DOT, Step.END)


async def receiver_loses_the_reply_and_all_are_killed(house: House, number: int) -> None:
    await receiver_loses_the_reply(house, number)
    await kill_all(house, number)


async def _misbehave(house: House, mood: Mood, where: Step) -> None:
    before = house.receiver.misbehaved

    async def misbehaved() -> bool:
        return house.receiver.misbehaved >= before + 3

    async with house.fault():
        house.receiver.become(mood, where=where, share=0.3)
        await eventually(misbehaved, what=f"the receiver {mood.name} at {where.name}", within=60)
        house.receiver.become(Mood.ORDERLY)
    await house.server.run("queue", "retry", "--all")


# The clients.


async def clients_half_close(house: House, _: int) -> None:
    house.crowd.manner = Manner.HALF_CLOSES_AFTER_DOT
    await house.acknowledges(20)
    house.crowd.manner = Manner.ORDERLY


async def clients_drop_in_bdat(house: House, _: int) -> None:
    before = house.crowd.cut_off

    async def dropped() -> bool:
        return house.crowd.cut_off > before + 20

    house.crowd.manner = Manner.DROPS_IN_BDAT
    await eventually(dropped, what="clients drop in BDAT", within=30)
    house.crowd.manner = Manner.ORDERLY
    await house.acknowledges(20)


FAULTS = (
    Fault("kill-worker", "`kill -9` of a worker", kill_worker, 2, 100),
    Fault("kill-supervisor", "`kill -9` of the supervisor", kill_supervisor, 2, 30),
    Fault("kill-all", "`kill -9` of all processes at once", kill_all, 4, 200),
    Fault("kill-sending", "`kill -9` of all, messages half sent", kill_while_sending, 2, 30),
    Fault("kill-only", "`kill -9` of the only process (`workers = 1`)", kill_all, 3, 50, workers=1),
    Fault("hang", "a worker stopped for good (SIGSTOP)", hang, 1, 3),
    Fault("pause", "a worker stopped for some seconds", pause, 1, 10),
    Fault("terminate", "SIGTERM", terminate, 2, 30, in_flight=-1.0, orderly=True),
    Fault("reload", "SIGHUP", reload, 3, 50, in_flight=-1.0, orderly=True),
    Fault("power", "power cut", cut_power, 4, 200, where=Where.CUT),
    Fault("tear", "a torn page in the log, half a body", tear, 2, 30),
    Fault("full-accept", "disk full while accepting", fill_while_accepting, 2, 20, where=Where.SMALL, in_flight=-1.0),
    Fault("full-settle", "disk full while settling", fill_while_settling, 2, 20, where=Where.SMALL, in_flight=-1.0),
    Fault("full-kill", "disk full, then `kill -9` of all", kill_while_full, 1, 20, where=Where.SMALL),
    Fault(
        "full-roll",
        "disk full while the journal begins a day",
        fill_while_rolling,
        1,
        20,
        where=Where.SMALL,
        in_flight=-1.0,
        shim=True,
    ),
    Fault("calls", "a call of the disk fails: EIO, ENOSPC", fail_calls, 14, 140, shim=True),
    Fault("stall", "a sync takes 5 s", stall_disk, 1, 10, in_flight=-1.0, shim=True),
    Fault("clock", "the clock jumps by a day", jump, 4, 40, in_flight=-1.0, shim=True),
    Fault("receiver", "receiver closes, resets, stalls, garbles, says 421", receiver_misbehaves, 18, 90),
    Fault(
        "once",
        "receiver closes after the dot, at-most-once stream",
        receiver_loses_the_reply,
        2,
        20,
        in_flight=-1.0,
        at_most_once=True,
    ),
    Fault(
        "once-kill",
        "the same, and `kill -9` of all",
        receiver_loses_the_reply_and_all_are_killed,
        2,
        20,
        in_flight=-1.0,
        at_most_once=True,
    ),
    Fault("half-close", "clients half-close after the dot", clients_half_close, 1, 10, in_flight=-1.0),
    Fault("bdat-drop", "clients drop in BDAT", clients_drop_in_bdat, 1, 10, in_flight=-1.0),
)
BY_NAME = {fault.name: fault for fault in FAULTS}
