"""dryrun.machine: the workers of a dry run: each a spool and a shard as a server's worker has, and what they share."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random

from relay.delivery.blocklists import Blocklists
from relay.delivery.destination import Destinations
from relay.delivery.destination import Machine as Own
from relay.delivery.governor import SiteLimits
from relay.delivery.limiting import Limiting
from relay.delivery.routing import Traits
from relay.delivery.sources import Sources
from relay.delivery.warming import Warming
from relay.dkim import KeyRing
from relay.dryrun.board import Board
from relay.dryrun.names import SimulatedNames
from relay.log import Level, Log, Output
from relay.mail.envelope import Envelope, Recipient
from relay.metrics import Metrics
from relay.reception import Signing
from relay.registry.setbacks import Setback
from relay.registry.snapshot import Snapshot
from relay.registry.suspensions import Suspension
from relay.resolver import AddressAnswer, Failure
from relay.server.building import share_of
from relay.server.our_addresses import OurAddresses
from relay.server.plan import Plan
from relay.server.shard import Common, Shard
from relay.simulator.providers import SimulatedSite
from relay.smtpclient import TlsContexts
from relay.spool import Content, NewMessage
from relay.spool.spool import Spool

EPOCH = 1_800_000_000.0  # POSIX seconds at which each dry run begins
CREDENTIAL, STREAM, SENDER, SENDER_DOMAIN = "app", "bulk", "news@sender.example", "sender.example"
TRAITS = Traits("", SENDER_DOMAIN, CREDENTIAL, STREAM)  # of all mail, but for its recipients
_HEAD = b"From: news@sender.example\r\nSubject: a dry run\r\n\r\n"
_LOOK_EVERY = 60.0  # seconds: what expires ends so much later, and days pass in seconds
_IN_FORCE_AFTER = 0.25  # seconds, in which the workers of a server take notice of a suspension


class Suspensions:
    """As the registry has them: ordered by rules alone. ordered: all, in order."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.ordered: list[Suspension] = []
        self._now = now
        self._snapshot = Snapshot.of((), ())
        self._followers: list[Callable[[], None]] = []

    def snapshot(self) -> Snapshot:
        return self._snapshot

    def follow(self, changed: Callable[[], None]) -> None:
        self._followers.append(changed)

    async def suspend(self, suspension: Suspension) -> None:
        if suspension.site in self._snapshot.suspended(now=self._now()):
            return  # as it was ordered
        self.ordered.append(suspension)
        others = [each for each in self._snapshot.suspensions if each.site != suspension.site]
        self._snapshot = Snapshot.of((), (), [*others, suspension])
        loop = asyncio.get_running_loop()
        for seconds in (_IN_FORCE_AFTER, suspension.until - self._now() + _IN_FORCE_AFTER):
            loop.call_later(seconds, self._tell)

    def _tell(self) -> None:
        for changed in self._followers:
            changed()


class Workers:
    """Made by `open`, closed by its stack. `accept` gives them mail in turn."""

    def __init__(self, shards: Sequence[Shard], *, board: Board, suspensions: Suspensions, limiting: Limiting) -> None:
        self.shards = shards
        self.board = board
        self.suspensions = suspensions
        self.limiting = limiting

    @classmethod
    async def open(
        cls,
        plan: Plan,
        simulated: Sequence[SimulatedSite],
        *,
        number: int,
        seed: int,
        directory: Path,
        tasks: asyncio.TaskGroup,
        opened: AsyncExitStack,
    ) -> "Workers":
        loop = asyncio.get_running_loop()

        def now() -> float:
            return EPOCH + loop.time()

        board, suspensions = Board(steady=now, now=now), Suspensions(now)
        random = Random(f"{seed} delivery")
        destinations = Destinations(SimulatedNames(simulated), plan.config.delivery, _own, random)
        log = Log(Output(), now=now, level=Level.ERROR)
        warming = Warming(lambda: plan.warm_ups, tuple, now)
        limiting, sources = Limiting(lambda: plan.sites, destinations, warming), Sources(steady=now, log=log)
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
                our_addresses=_addresses(
                    plan,
                    sources=sources,
                    warming=warming,
                    limits=board.of_worker(worker),
                    suspensions=suspensions,
                    log=log,
                    now=now,
                ),
                snapshot=suspensions.snapshot,
                suspend=suspensions.suspend,
                note_setback=_no_warm_up,
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
            suspensions.follow(shard.suspend_sites)
            shards.append(shard)
        return cls(shards, board=board, suspensions=suspensions, limiting=limiting)

    async def start(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """What runs until it is cancelled."""
        await self.limiting.look()
        return [tasks.create_task(shard.scheduler.run()) for shard in self.shards]

    async def accept(self, number: int, recipient: str, *, lifetime: float) -> None:
        """The message of this number, as reception gives it to the spool and the scheduler."""
        shard = self.shards[number % len(self.shards)]
        now = EPOCH + asyncio.get_running_loop().time()
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


def _addresses(
    plan: Plan,
    *,
    sources: Sources,
    warming: Warming,
    limits: SiteLimits,
    suspensions: Suspensions,
    log: Log,
    now: Callable[[], float],
) -> OurAddresses:
    """There is one, which the system chooses: it is in no list and not in a warm-up."""
    lists = Blocklists(tuple, tuple, _NoLists(), log=log, now=now, steady=now)
    return OurAddresses(
        sources,
        lists,
        warming,
        limits=limits,
        plan=lambda: plan,
        snapshot=suspensions.snapshot,
        note=lambda *_: None,
        log=log,
        now=now,
        steady=now,
    )


class _NoLists:
    async def ipv4(self, name: str) -> AddressAnswer:
        return Failure(f"{name} is not simulated")


async def _no_warm_up(setback: Setback) -> None:
    raise NotImplementedError(f"{setback}: addresses in a warm-up are not simulated")


def _own() -> Own:
    return Own(frozenset(), frozenset(), prefers_ipv6=False)
