"""faults.house: one server with its clients, its receiving server and its ledger, from first message to verdict.

A fault is played in rounds while the clients go on. In the end they stop, the receiver is orderly, and the queue is to
become empty: whatever was acknowledged has arrived by then, or was reported, or is lost.
"""

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from tests.faults.clients import Crowd, Door
from tests.faults.ledger import Key, Ledger, Verdict
from tests.faults.place import Plain
from tests.faults.receiver import Mood, Receiver
from tests.faults.server import Failed, Server, eventually
from tests.peers.failing_disk import FailingDisk
from tests.peers.shifted_clock import ShiftedClock

T = TypeVar("T")

CLIENTS = 12
EMPTY_WITHIN = 120.0
MOST_EVENTS = 10_000_000
FINAL = ("delivered", "bounced", "expired", "cancelled", "unknown")


@dataclass
class House:
    """random: whatever is left to chance here. tampering: with the server's system calls, where its fault asks for it.
    restarts: how often it ended by itself and was started again, as a service manager would.
    """

    server: Server
    place: Plain
    receiver: Receiver
    ledger: Ledger
    crowd: Crowd
    random: random.Random
    seed: int
    tampering: "Tampering | None" = None
    restarts: int = 0

    @property
    def disk(self) -> FailingDisk:
        assert self.tampering is not None
        return self.tampering.disk

    @property
    def clock(self) -> ShiftedClock:
        assert self.tampering is not None
        return self.tampering.clock

    @property
    def now(self) -> float:
        return time.monotonic()

    def dealt(self, kinds: Sequence[T], number: int) -> T:
        """One kind a round, in an order of this house's own, each before any comes again: few rounds are of few kinds,
        and another run is of others.
        """
        order = random.Random(self.seed).sample(kinds, len(kinds))
        return order[number % len(kinds)]

    async def under_load(self) -> None:
        """A random moment while mail comes and goes."""
        await self.acknowledges(10)
        await self.moment()

    async def moment(self, longest: float = 0.5) -> None:
        """Let the load go on for a random time."""
        await asyncio.sleep(self.random.uniform(0.02, longest))

    @asynccontextmanager
    async def fault(self) -> AsyncIterator[None]:
        """What happens in the block is one."""
        began = self.now
        try:
            yield
        finally:
            self.ledger.fault(began, self.now)

    async def acknowledges(self, count: int, *, within: float = 60.0) -> None:
        """Until so many more messages were answered 250."""
        enough = len(self.ledger.acknowledged) + count

        async def enough_were() -> bool:
            return len(self.ledger.acknowledged) >= enough

        await eventually(enough_were, what=f"{count} messages are acknowledged", within=within)

    async def is_whole(self) -> None:
        """Until all workers run and mail is taken; one that ended is started again."""

        async def whole() -> bool:
            if self.server.has_ended:
                self.restarts += 1
                await self.server.launch()
            pids = self.server.pids()
            alive = len(pids) == (self.server.workers + 1 if self.server.workers > 1 else 1)
            return alive and (await self.server.page("readyz")).startswith("ready")

        await eventually(whole, what="all workers take mail", within=90)

    async def recover(self) -> None:
        """As the operator does whom the server's refusal told to; it names what it cannot save."""
        code, output, error = await self.server.run("spool", "recover", "--json")
        if code not in (os.EX_OK, os.EX_DATAERR):
            raise Failed(f"relay spool recover ended with {code}: {output}{error}")
        for shard in json.loads(output):
            for each in shard["lost"]:
                self.ledger.named(each["id"])

    # The end.

    async def settle_up(self) -> Verdict:
        await self.crowd.end()
        self.receiver.become(Mood.ORDERLY)
        await self._empty()
        owed = await self._owed()
        return self.ledger.verdict(owed=owed)

    async def _empty(self) -> None:
        """The queue is empty, or does not become so: then it says what it holds."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + EMPTY_WITHIN
        while loop.time() < ends:
            if not await self._waiting():
                return
            await self.server.run("queue", "retry", "--all")  # a site that was in trouble waits for its next probe
            await asyncio.sleep(0.3)

    async def _waiting(self) -> bool:
        """Whether any recipient is to be sent; what was set aside as damaged is not. The queue itself says so, and not
        the metric: that leaves out a worker that begins, which may be the one that has mail.
        """
        entries = await self.server.command("queue", "list", "--limit", str(MOST_EVENTS))
        return any(entry["status"] != "damaged" for entry in entries)

    async def _owed(self) -> list[Key]:
        """What the queue has. What was set aside is damaged, and known by its id."""
        sent = {each.queue_id: each for each in self.ledger.acknowledged}
        entries = await self.server.command("queue", "list", "--limit", str(MOST_EVENTS))
        owed = []
        for entry in entries:
            message = sent.get(entry["id"])
            if message is not None:
                named = message.recipients if entry["status"] == "damaged" else (entry["recipient"],)
                owed += [(message.token, recipient) for recipient in named]
        return owed

    async def unjournaled(self) -> list[Key]:
        """Acknowledged recipients of which the journal does not say that they were accepted, and how they ended."""
        told: dict[tuple[str, str], set[str]] = {}
        for event in await self._events():
            told.setdefault((event["id"], event["recipient"]), set()).add(event["status"])
        return [
            (message.token, recipient)
            for message in self.ledger.acknowledged
            for recipient in message.recipients
            if not _is_whole(told.get((message.queue_id, recipient), set()))
        ]

    async def _events(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = await self.server.command("log", "search", "--limit", str(MOST_EVENTS))
        return events


def _is_whole(statuses: set[str]) -> bool:
    return "accepted" in statuses and any(status in statuses for status in FINAL)


class Tampering:
    """What a server is started with whose system calls are to be tampered with."""

    def __init__(self, directory: Path) -> None:
        self.disk = FailingDisk(directory)
        self.clock = ShiftedClock(directory)

    @property
    def environment(self) -> dict[str, str]:
        disk, clock = self.disk.environment, self.clock.environment
        return {**disk, **clock, "LD_PRELOAD": f"{disk['LD_PRELOAD']}:{clock['LD_PRELOAD']}"}


@asynccontextmanager
async def open_house(
    *,
    place: Plain,
    server: Server,
    tampering: Tampering | None,
    seed: int,
    rate: float,
    in_flight: float,
    at_most_once: bool,
) -> AsyncIterator[House]:
    """A running one, under load. `place` is open already, and closed by who opened it."""
    chance = random.Random(seed)
    ledger = Ledger(in_flight=in_flight)
    receiver = Receiver(ledger, time.monotonic, chance.random)
    await receiver.open(server.ports["receiver"])
    try:
        await server.start()
        await server.introduce()
        doors: list[Door] = [server.once] if at_most_once and server.once else list(server.doors)
        crowd = Crowd(doors, ledger, chance, time.monotonic, rate=rate)
        crowd.begin(CLIENTS)
        yield House(server, place, receiver, ledger, crowd, chance, seed, tampering)
    finally:
        await server.close()
        await receiver.close()
