"""One shard with everything that delivers, on real disk, real DNS and real sockets; submission is left out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

from relay.config.models import Config
from relay.delivery.blocklists import Blocklists
from relay.delivery.destination import Destinations, Machine
from relay.delivery.limiting import Limiting
from relay.delivery.sources import Sources
from relay.delivery.warming import Warming
from relay.dkim import KeyRing
from relay.log import Log, Output
from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, Kind
from relay.mail.suppression import Strike, Suppression
from relay.metrics import Metrics
from relay.reception import Signing
from relay.registry.setbacks import Setback
from relay.registry.snapshot import EMPTY, Snapshot
from relay.registry.suspensions import Suspension, from_source
from relay.resolver import Resolver
from relay.server.our_addresses import OurAddresses
from relay.server.plan import Current, read_plan
from relay.server.shard import Common, Shard
from relay.server.switchboard import Counts, LocalBoard
from relay.smtpclient import TlsContexts
from relay.spool import Content, NewMessage, Selection
from relay.spool.spool import Spool
from relay.submission.limits import Rates

HEAD = (
    b"From: app@sender.example\r\nTo: someone@dest.example\r\nSubject: hello\r\nMessage-ID: <1@sender.example>\r\n\r\n"
)
PATIENCE = 20.0
OWN = Machine(frozenset({"relay.example.com"}), frozenset(), prefers_ipv6=False)


@dataclass
class Registered:
    """What the registry says now."""

    snapshot: Snapshot = EMPTY

    async def suspend(self, suspension: Suspension) -> None:
        self.snapshot = Snapshot.of((), (), [*self.snapshot.suspensions, suspension], self.snapshot.setbacks)

    async def note_setback(self, setback: Setback) -> None:
        self.snapshot = Snapshot.of((), (), self.snapshot.suspensions, [*self.snapshot.setbacks, setback])


class Outfit:
    """`events` has all that happened, in order, as it is recorded."""

    def __init__(
        self,
        shard: Shard,
        *,
        board: LocalBoard,
        metrics: Metrics,
        limiting: Limiting,
        current: Current,
        registered: Registered,
    ) -> None:
        self.shard = shard
        self.board = board
        self.spool = shard.spool
        self.metrics = metrics
        self.limiting = limiting
        self._current = current
        self._registered = registered

    @property
    def config(self) -> Config:
        return self._current.config

    @property
    def blocklists(self) -> Blocklists:
        return self.shard.our_addresses.blocklists

    def look_at_our_addresses(self) -> None:
        """As upkeep does four times a second."""
        self.shard.our_addresses.look([self.shard])

    def reload(self, settings: Config) -> None:
        self._current.plan = read_plan(settings, simulator_port=0)
        self.shard.reconfigure()

    def suspend(self, *sites: str, until: float = 0.0) -> None:
        """These and no others; none to resume all."""
        suspensions = [Suspension(site, (site,), time.time(), until, "operator", "a test") for site in sites]
        self._registered.snapshot = Snapshot.of((), (), suspensions, self._registered.snapshot.setbacks)
        self.shard.suspend_sites()

    def rest(self, *addresses: str, until: float = 0.0) -> None:
        """These and no others, as an operator orders it; none to resume all."""
        orders = [Suspension(from_source(each), (), time.time(), until, "operator", "a test") for each in addresses]
        self._registered.snapshot = Snapshot.of((), (), orders, self._registered.snapshot.setbacks)
        self.look_at_our_addresses()

    async def submit(self, *recipients: str | Recipient, body: bytes = b"hello\r\n", **changes: Any) -> str:
        """Accept a message as reception does. changes: fields of NewMessage or Envelope."""
        new = message(self.spool, *recipients, body=body, **changes)
        fresh = await self.spool.accept(new, hand_over=self.shard.scheduler.has_room(new))
        if fresh:
            self.shard.scheduler.hand_over(fresh)
        elif not new.held:
            self.shard.scheduler.stored(new)
        return new.id

    async def events(self) -> list[Event]:
        return [event for _, event in await self.spool.events(limit=100_000)]

    async def of(self, recipient: str) -> list[Event]:
        return [
            event for event in await self.events() if event.recipient == recipient and event.kind is not Kind.ACCEPTED
        ]

    async def until(self, recipient: str, kind: Kind, *, count: int = 1) -> Event:
        """The `count`th such event."""
        async with asyncio.timeout(PATIENCE):
            while True:
                found = [event for event in await self.of(recipient) if event.kind is kind]
                if len(found) >= count:
                    return found[count - 1]
                await asyncio.sleep(0.01)

    async def suppressions(self) -> list[Suppression | Strike]:
        return [row for _, row in await self.spool.suppressions(limit=1000)]

    async def left(self) -> int:
        return await self.spool.count(Selection())


def message(spool: Spool, *recipients: str | Recipient, body: bytes = b"hello\r\n", **changes: Any) -> NewMessage:
    """As reception makes it. changes: fields of NewMessage or Envelope."""
    envelope = Envelope(
        sender=changes.pop("sender", "app@sender.example"),
        recipients=tuple(each if isinstance(each, Recipient) else Recipient(each) for each in recipients),
        body=changes.pop("body_type", "7BIT"),
        **{name: changes.pop(name) for name in ("smtputf8", "ret", "envid") if name in changes},
    )
    content = Content(HEAD, body)
    return NewMessage(
        id=spool.next_id(),
        accepted_at=changes.pop("accepted_at", time.time()),
        expires_at=changes.pop("expires_at", time.time() + 3600),
        credential=changes.pop("credential", "app"),
        stream=changes.pop("stream", "transactional"),
        sender_domain=changes.pop("sender_domain", "sender.example"),
        envelope=envelope,
        content=content,
        size=content.size,
        header_from="app@sender.example",
        **changes,
    )


def config(spool: Path, *, port: int = 25, nameserver: str = "127.0.0.1:9", **tables: Any) -> Config:
    delivery = {"port": port, "allow_networks": ["127.0.0.0/8"], **tables.pop("delivery", {})}
    document = {
        "server": {"hostname": "relay.example.com", "spool": str(spool)},
        "dns": {"nameservers": [nameserver], "timeout": "1s"},
        "delivery": delivery,
        **tables,
    }
    return Config.model_validate(document)


@asynccontextmanager
async def outfit(
    settings: Config,
    *,
    now: Callable[[], float] = time.time,
    steady: Callable[[], float] | None = None,
    machine: Machine = OWN,
    observe: Callable[[Metrics], None] = lambda _: None,
    share: int = 100,
    ca: Path | None = None,
) -> AsyncIterator[Outfit]:
    """A running shard; what is under way at the end is cut short. share: connections out that it may have. ca: a CA to
    trust besides the system's.
    """
    metrics = Metrics(streams=("transactional", "bulk"))
    log = Log(Output(settings.log.file or Path("/dev/null")), now=time.time)
    random = Random(1)
    current, registered = Current(read_plan(settings, simulator_port=0)), Registered()
    spool = await Spool.open(settings.server.spool, shard=0, now=now)
    try:
        async with asyncio.TaskGroup() as tasks:
            resolver = Resolver(settings.dns, time.time)
            destinations = Destinations(resolver, settings.delivery, lambda: machine, random)
            sources = Sources(steady=steady or now, log=log)
            warming = Warming(lambda: current.plan.warm_ups, lambda: registered.snapshot.setbacks, now)
            limiting = Limiting(lambda: current.plan.sites, destinations, warming)
            limits = board(now, steady or now)
            blocklists = Blocklists(
                lambda: current.config.blocklist,
                lambda: [each.address for each in current.config.source],
                resolver,
                log=log,
                now=now,
                steady=steady or now,
            )
            our_addresses = OurAddresses(
                sources,
                blocklists,
                warming,
                limits=limits,
                plan=lambda: current.plan,
                snapshot=lambda: registered.snapshot,
                note=lambda *_: None,
                log=log,
                now=now,
                steady=steady or now,
            )
            common = Common(
                plan=lambda: current.plan,
                signing=Signing(KeyRing(), now=now),
                authorize=lambda credential, header: None,
                suppressed=lambda recipient, credential: None,
                destinations=destinations,
                limiting=limiting,
                contexts=TlsContexts(monotonic=time.monotonic, ca_file=ca),
                limits=limits,
                sources=sources,
                our_addresses=our_addresses,
                snapshot=lambda: registered.snapshot,
                suspend=registered.suspend,
                note_setback=registered.note_setback,
                metrics=metrics,
                log=log,
                now=now,
                steady=steady or now,
                random=random,
                tasks=tasks,
            )
            shard = Shard(spool, common=common, share=share)
            running = tasks.create_task(shard.scheduler.run())
            made = Outfit(
                shard, board=limits, metrics=metrics, limiting=limiting, current=current, registered=registered
            )
            made.look_at_our_addresses()
            yield made
            await shard.drain(seconds=1.0)
            running.cancel()
    finally:
        await spool.close()


def board(now: Callable[[], float], steady: Callable[[], float]) -> LocalBoard:
    """What is common to a machine with one worker."""

    async def counts() -> Counts:
        return {}

    return LocalBoard(
        now=now,
        monotonic=time.monotonic,
        steady=steady,
        own_counts=counts,
        rates=Rates(),
        noted=lambda site, change: None,
    )


def kinds(events: Sequence[Event]) -> list[Kind]:
    return [event.kind for event in events]
