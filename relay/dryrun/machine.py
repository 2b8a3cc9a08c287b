"""dryrun.machine: the workers of a dry run: each a spool and a shard as a server's worker has, and what they share."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from relay.delivery.blocklists import Blocklists
from relay.delivery.destination import Destinations
from relay.delivery.destination import Machine as Own
from relay.delivery.limiting import Limiting
from relay.delivery.routing import Traits
from relay.delivery.sources import Sources
from relay.delivery.warming import Warming
from relay.dkim import KeyRing
from relay.dryrun.board import Board
from relay.dryrun.names import SimulatedNames
from relay.dryrun.registry import Registry
from relay.log import Level, Log, Output
from relay.mail.envelope import Envelope, Recipient
from relay.metrics import Metrics
from relay.reception import Signing
from relay.resolver import AddressAnswer, Failure
from relay.server.building import share_of
from relay.server.our_addresses import OurAddresses
from relay.server.plan import Plan
from relay.server.shard import Common, Shard
from relay.simulator.providers import SimulatedSite
from relay.smtpclient import TlsContexts
from relay.spool import Content, NewMessage
from relay.spool.spool import Spool

CREDENTIAL, STREAM, SENDER, SENDER_DOMAIN = "app", "bulk", "news@sender.example", "sender.example"
TRAITS = Traits("", SENDER_DOMAIN, CREDENTIAL, STREAM)  # of all mail, but for its recipients
_HEAD = b"From: news@sender.example\r\nSubject: a dry run\r\n\r\n"
_LOOK_EVERY = 60.0  # seconds: what expires ends so much later, a day of a warm-up begins so, and days pass in seconds


class Workers:
    """Made by `open`, closed by its stack. `accept` gives them mail in turn."""

    def __init__(
        self, shards: Sequence[Shard], *, board: Board, registry: Registry, limiting: Limiting, begins: float
    ) -> None:
        self.shards = shards
        self.board = board
        self.registry = registry
        self.limiting = limiting
        self._begins = begins

    @classmethod
    async def open(
        cls,
        plan: Plan,
        simulated: Sequence[SimulatedSite],
        *,
        number: int,
        seed: int,
        begins: float,
        directory: Path,
        tasks: asyncio.TaskGroup,
        opened: AsyncExitStack,
    ) -> "Workers":
        """begins: POSIX seconds."""
        loop = asyncio.get_running_loop()

        def now() -> float:
            return begins + loop.time()

        board, registry = Board(steady=now, now=now), Registry(now)
        random = Random(f"{seed} delivery")
        destinations = Destinations(SimulatedNames(simulated), plan.config.delivery, _own, random)
        log = Log(Output(), now=now, level=Level.ERROR)
        warming = Warming(lambda: plan.warm_ups, lambda: registry.snapshot().setbacks, now)
        limiting, sources = Limiting(lambda: plan.sites, destinations, warming), Sources(steady=now, log=log)
        our_addresses = OurAddresses(
            sources,
            Blocklists(tuple, tuple, _NoLists(), log=log, now=now, steady=now),
            warming,
            limits=board.of_worker(0),
            plan=lambda: plan,
            snapshot=registry.snapshot,
            note=lambda *_: None,
            log=log,
            now=now,
            steady=now,
        )
        shards = []
        for worker in range(number):
            bits = Random(f"{seed} {worker}").getrandbits
            spool = await Spool.open(directory, shard=worker, now=now, random=bits, inline=True)
            opened.push_async_callback(spool.close)
            common = Common(
                plan=lambda: plan,
                signing=Signing(KeyRing(), now=now),
                authorize=lambda _credential, _header: None,
                suppressed=lambda _recipient, _credential: None,
                destinations=destinations,
                limiting=limiting,
                contexts=TlsContexts(monotonic=loop.time),
                limits=board.of_worker(worker),
                sources=sources,
                our_addresses=our_addresses,
                snapshot=registry.snapshot,
                suspend=registry.suspend,
                note_setback=registry.note_setback,
                metrics=Metrics(streams=(STREAM,)),
                log=log,
                now=now,
                steady=now,
                random=random,
                tasks=tasks,
                look_every=_LOOK_EVERY,
            )
            shard = Shard(spool, common=common, share=share_of(plan.config, workers=number, shards=1))
            board.join(worker, wanted=shard.couriers.release_idle, is_free=shard.couriers.open_another)
            registry.follow(shard.suspend_sites)
            shards.append(shard)
        return cls(shards, board=board, registry=registry, limiting=limiting, begins=begins)

    async def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """What runs until it is cancelled."""
        await self.limiting.look()
        works = [tasks.create_task(shard.scheduler.run()) for shard in self.shards]
        if self.shards[0].pools:
            works.append(tasks.create_task(self._look_at_addresses()))
        return works

    async def _look_at_addresses(self) -> None:
        """Warm-ups begin, and their days."""
        our_addresses = self.shards[0].our_addresses
        while True:
            our_addresses.look(self.shards)
            await asyncio.sleep(_LOOK_EVERY)

    async def accept(self, number: int, recipient: str, *, lifetime: float) -> None:
        """The message of this number, as reception gives it to the spool and the scheduler."""
        shard = self.shards[number % len(self.shards)]
        now = self._begins + asyncio.get_running_loop().time()
        content = Content(_HEAD, b"\r\n")
        message = NewMessage(
            id=shard.spool.next_id(),
            accepted_at=now,
            expires_at=now + lifetime,
            credential=CREDENTIAL,
            stream=STREAM,
            sender_domain=SENDER_DOMAIN,
            envelope=Envelope(sender=SENDER, recipients=(Recipient(recipient),)),
            content=content,
            size=content.size,
            reports=False,
        )
        fresh = await shard.spool.accept(message, hand_over=shard.scheduler.has_room(message))
        if fresh:
            shard.scheduler.hand_over(fresh)
        else:
            shard.scheduler.stored(message)

    async def are_done(self) -> bool:
        """Nothing is owed any more."""
        for shard in self.shards:
            if len(shard.scheduler.window) or shard.couriers.at_work or shard.settling.pending:
                return False
        totals = [await shard.spool.totals() for shard in self.shards]
        return not any(each.count for total in totals for each in (total.queued, total.deferred))


class _NoLists:
    async def ipv4(self, name: str) -> AddressAnswer:
        return Failure(f"{name} is not simulated")


def _own() -> Own:
    return Own(frozenset(), frozenset(), prefers_ipv6=False)
