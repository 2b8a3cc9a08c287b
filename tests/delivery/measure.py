"""What the governor costs a worker for a message: `python -m tests.delivery.measure` prints microseconds.

The whole of it, from a transaction's result to what is told of the site: alone, and where a supervisor is told over a
real channel (only the worker's part is counted; the supervisor's is in its own process, which here shares the core).
Where the site has a pace, a turn is asked for besides: its CPU in the worker, as ten couriers ask for one each. And
what it costs to choose the address a message leaves from: without any [[source]], and of a pool of four. And to find
whose message is next at a site, of so many credentials that have mail for it.
"""

import asyncio
import multiprocessing
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import uvloop

from relay.config.profiles import Profile, Profiles, SiteRules
from relay.delivery.destination import Destination, Host
from relay.delivery.fair_order import FairOrder
from relay.delivery.feedback import Allowance
from relay.delivery.governor import Governor, SiteLimits
from relay.delivery.known_breakers import KnownBreakers
from relay.delivery.machine_limits import LocalLimits, MachineLimits
from relay.delivery.pace import Pace
from relay.delivery.pressure import Pressure
from relay.delivery.routing import DIRECT, Direct, Way
from relay.delivery.setting_back import SettingBack
from relay.delivery.shares import Shares
from relay.delivery.site import Job, Line, Site
from relay.delivery.suspending import Suspending
from relay.mail.reply import Reply
from relay.mail.verdict import Stage
from relay.server.channel import Channel
from relay.server.switchboard import RemoteBoard
from relay.smtpclient import TransactionResult
from tests.bench.growth.switchboard import answer_all, connected

MESSAGES = 200_000
TURNS = 20_000
COURIERS = 10
TAKEN = TransactionResult(
    Reply(250, "2.1.0", "Ok"), (Reply(250, "2.1.5", "Ok"),), Reply(250, "2.0.0", "Ok"), Stage.FINAL
)


class Usable:
    usable = True


class Message(NamedTuple):
    id: str


class First:
    attempts = 0


async def cost(limits: SiteLimits) -> float:
    """Microseconds for a message."""
    governor = Governor(SiteRules(Profiles(Profile(name="default"), {})).limits(["mx"]))
    site = Site("mx", Direct(), ("mx",), governor, KnownBreakers(time.time))
    site.governor.allowance = Allowance(connections=10)
    line = Line(cast(Any, Usable()), cast(Any, None))
    pressure = Pressure(limits, cast(Suspending, None), cast(SettingBack, None))
    began = time.perf_counter()
    for _ in range(MESSAGES):
        if site.breakers or site.governor.is_paced:
            raise AssertionError("nothing holds it")
        await pressure.learn(site, line, TAKEN, [None], epoch=site.governor.allowance.epoch)
    return (time.perf_counter() - began) / MESSAGES * 1e6


async def alone() -> float:
    limits = LocalLimits(monotonic=time.monotonic, steady=time.time, now=time.time, noted=lambda *_: None)
    return await cost(cast(SiteLimits, limits))


async def told_to_a_supervisor() -> float:
    machine = MachineLimits(
        steady=time.monotonic,
        now=time.time,
        tell=lambda *_: None,
        is_free=lambda *_: None,
        noted=lambda *_: None,
    )

    async def answer(verb: str, arguments: Any) -> None:
        assert verb == "taken"
        machine.taken(*arguments)

    async with asyncio.TaskGroup() as tasks:
        ends = socket.socketpair()
        channels = (Channel(answer, tasks), Channel(answer, tasks))
        for end, channel in zip(ends, channels, strict=True):
            end.setblocking(False)
            await asyncio.get_running_loop().create_unix_connection(lambda channel=channel: channel, sock=end)  # type: ignore[misc]
        found = await cost(cast(SiteLimits, RemoteBoard(channels[0], steady=time.time)))
        for channel in channels:
            channel.close()
    return found


def choosing(way: Way) -> float:
    shares = Shares(lambda _hop, _site: 0.0)
    destination = Destination("mx", (Host("mx", ("192.0.2.1", "192.0.2.2"), 25),))
    first = [cast(Any, First())]
    jobs = [Job(cast(Any, Message(str(number))), "mx", first, way, destination) for number in range(1000)]
    began = time.perf_counter()
    for _ in range(MESSAGES // len(jobs)):
        for job in jobs:
            shares.choose(way, job, "mx")
    return (time.perf_counter() - began) / MESSAGES * 1e6


def of_none() -> float:
    return choosing(DIRECT)


def of_four() -> float:
    return choosing(Way.of(*(Direct(f"203.0.113.{number}") for number in range(4)), weights=(4, 3, 2, 1)))


def next_of(credentials: int) -> float:
    """Microseconds of CPU for a message, while all have mail."""
    order = FairOrder()
    for number in range(credentials):
        order.wait(("bulk", f"credential{number}"))
    began = time.process_time()
    for _ in range(MESSAGES):
        order.reach(order.place(order.first()))
    return (time.process_time() - began) / MESSAGES * 1e6


def turn_of_a_paced_site() -> float:
    """Microseconds of CPU. The supervisor is a process of its own."""
    ours, theirs = socket.socketpair()
    supervisor = multiprocessing.get_context("fork").Process(target=_supervise, args=(ours, theirs))
    supervisor.start()
    ours.close()
    spent = uvloop.run(_turns(theirs))
    supervisor.join()
    return spent / TURNS * 1e6


async def _turns(theirs: socket.socket) -> float:
    """Seconds of CPU."""
    async with asyncio.TaskGroup() as tasks:
        channel = await connected(Channel(_ignore, tasks), theirs)
        board = RemoteBoard(channel, steady=time.time)
        began = time.process_time()
        await asyncio.gather(*(_ask_for_turns(board, TURNS // COURIERS) for _ in range(COURIERS)))
        spent = time.process_time() - began
        channel.close()
    return spent


def _supervise(ours: socket.socket, theirs: socket.socket) -> None:
    theirs.close()
    asyncio.run(answer_all([ours]))


async def _ignore(_verb: str, _arguments: Any) -> None:
    """What the supervisor tells."""


async def _ask_for_turns(board: RemoteBoard, count: int) -> None:
    for _ in range(count):
        await board.pace("mx", Pace(per_second=1e9), count=1, sharer=("bulk", "news"))


def main() -> int:
    measured: dict[str, Callable[[], float]] = {
        "one worker": lambda: uvloop.run(alone()),
        "several workers": lambda: uvloop.run(told_to_a_supervisor()),
        "several workers, a turn at a paced site": turn_of_a_paced_site,
        "its address, where the system chooses": of_none,
        "its address, of a pool of four": of_four,
        **{f"who is next of {count} credentials": partial(next_of, count) for count in (1, 10, 100, 1000, 10_000)},
    }
    for what, measure in measured.items():
        sys.stdout.write(f"{what}: {measure():.1f} µs a message\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
