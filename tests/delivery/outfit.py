"""One shard with everything that delivers, on real disk, real DNS and real sockets; submission is left out."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from relay.config.models import Config
from relay.delivery.destination import Destinations, Machine
from relay.delivery.governor import LocalLimits
from relay.dkim import KeyRing
from relay.log import Log, Output
from relay.mail.envelope import Envelope, Recipient
from relay.mail.event import Event, Kind
from relay.mail.suppression import Strike, Suppression
from relay.metrics import Metrics
from relay.reception import Signing
from relay.resolver import Resolver
from relay.server.plan import Current, read_plan
from relay.server.shard import Common, Shard
from relay.smtpclient import TlsContexts
from relay.spool import Content, NewMessage, Selection
from relay.spool.spool import Spool

HEAD = (
    b"From: app@sender.example\r\nTo: someone@dest.example\r\nSubject: hello\r\nMessage-ID: <1@sender.example>\r\n\r\n"
)
PATIENCE = 20.0
OWN = Machine(frozenset({"relay.example.com"}), frozenset(), prefers_ipv6=False)


class Outfit:
    """`events` has all that happened, in order, as it is recorded."""

    def __init__(self, shard: Shard, spool: Spool, metrics: Metrics, current: Current) -> None:
        self.shard = shard
        self.spool = spool
        self.metrics = metrics
        self._current = current

    def reload(self, settings: Config) -> None:
        self._current.plan = read_plan(settings, simulator_port=0)
        self.shard.reconfigure()

    async def submit(self, *recipients: str | Recipient, body: bytes = b"hello\r\n", **changes: Any) -> str:
        """Accept a message as reception does. changes: fields of NewMessage or Envelope."""
        new = message(self.spool, *recipients, body=body, **changes)
        fresh = await self.spool.accept(new, hand_over=self.shard.scheduler.has_room(new))
        if fresh:
            self.shard.scheduler.hand_over(fresh)
        elif not new.held:
            self.shard.scheduler.stored({each.domain for each in new.envelope.recipients})
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
        sender_domain="sender.example",
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
) -> AsyncIterator[Outfit]:
    """A running shard; what is under way at the end is cut short. share: connections out that it may have."""
    metrics = Metrics(streams=("transactional", "bulk"))
    log = Log(Output(settings.log.file or Path("/dev/null")), now=time.time)
    random = Random(1)
    current = Current(read_plan(settings, simulator_port=0))
    spool = await Spool.open(settings.server.spool, shard=0, now=now)
    try:
        async with asyncio.TaskGroup() as tasks:
            common = Common(
                plan=lambda: current.plan,
                signing=Signing(KeyRing(), now=now),
                authorize=lambda credential, header: None,
                suppressed=lambda recipient, credential: None,
                destinations=Destinations(
                    Resolver(settings.dns, time.time), settings.delivery, lambda: machine, random
                ),
                contexts=TlsContexts(monotonic=time.monotonic),
                limits=LocalLimits(time.monotonic),
                metrics=metrics,
                log=log,
                now=now,
                steady=steady or now,
                random=random,
                tasks=tasks,
            )
            shard = Shard(spool, common=common, share=share)
            running = tasks.create_task(shard.scheduler.run())
            yield Outfit(shard, spool, metrics, current)
            await shard.drain(seconds=1.0)
            running.cancel()
    finally:
        await spool.close()


def kinds(events: Sequence[Event]) -> list[Kind]:
    return [event.kind for event in events]
