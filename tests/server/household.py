"""The parts of a worker, built as a worker builds them, on real disk; the test begins what it wants."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relay.config.models import Config
from relay.mail.envelope import Envelope, Recipient
from relay.metrics import Metrics
from relay.server.building import Building, Parts
from relay.server.guard import SharedGuard
from relay.server.listeners import Listening
from relay.server.plan import Current, read_plan
from relay.server.session_table import SessionTable
from relay.server.setting import Place
from relay.server.stores import Stores, open_stores
from relay.server.switchboard import LocalBoard
from relay.spool import Content, NewMessage
from relay.spool.spool import Spool
from relay.submission.guessing import Guessing
from relay.submission.limits import Rates
from tests.server.logbook import Logbook


@dataclass
class Household:
    config: Config
    parts: Parts
    stores: Stores
    metrics: Metrics
    tasks: asyncio.TaskGroup


@asynccontextmanager
async def household(
    config: Config, logbook: Logbook, *, shards: Sequence[int] = (0,), workers: int = 1
) -> AsyncIterator[Household]:
    """Its holdings are closed at the end, whether they were begun or not."""
    metrics = Metrics(streams=("transactional", "bulk"))

    async def counts() -> dict[str, Any]:
        return metrics.snapshot()

    now, monotonic = time.time, time.monotonic
    board = LocalBoard(
        now=now, monotonic=monotonic, steady=now, own_counts=counts, rates=Rates(), noted=lambda site, change: None
    )
    table = SessionTable(workers=1)
    place = Place(shards[0], workers, tuple(shards[1:]), config, Listening(()), table.of_worker(0), table.load_of(0))
    async with AsyncExitStack() as opened:
        stores = await open_stores(
            config.server.spool, tuple(shards), opened, stopping=asyncio.Event(), now=time.time, log=logbook.log
        )
        async with asyncio.TaskGroup() as tasks:
            building = Building(
                Current(read_plan(config, simulator_port=0)),
                place,
                stores,
                board=board,
                guard=SharedGuard(Guessing(failures=10, window=600.0), board),
                metrics=metrics,
                log=logbook.log,
                now=time.time,
                tasks=tasks,
            )
            parts = await building.parts()
            try:
                yield Household(config, parts, stores, metrics, tasks)
            finally:
                for holding in parts.holdings:
                    await holding.drain(seconds=1.0)
                    await holding.close()
                await parts.simulator.close()


async def post(spool: Spool, *recipients: str, held: bool = False) -> str:
    """A message in a shard, due now; its id."""
    content = Content(b"From: app@sender.example\r\n\r\n", b"hello\r\n")
    message = NewMessage(
        id=spool.next_id(),
        accepted_at=time.time(),
        expires_at=time.time() + 3600,
        credential="app",
        stream="transactional",
        sender_domain="sender.example",
        envelope=Envelope("app@sender.example", tuple(Recipient(each) for each in recipients)),
        content=content,
        size=content.size,
        header_from="app@sender.example",
        subject="hello",
        header_message_id="<1@sender.example>",
        client="127.0.0.1",
        held=held,
        reports=False,
        unknown_outcome="retry",
    )
    await spool.accept(message, hand_over=False)
    return message.id


async def leave(directory: Path, shard: int, *recipients: str, held: bool = False) -> str:
    """A message in a shard that nobody owns."""
    spool = await Spool.open(directory, shard=shard)
    try:
        return await post(spool, *recipients, held=held)
    finally:
        await spool.close()
