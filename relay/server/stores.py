"""server.stores: what a worker opens on disk, in order, and closes whatever happens.

A shard belongs to who holds its lock. The workers of a supervisor that was killed finish for some seconds, and a new
server waits for them; beyond `LOCK_PATIENCE` somebody else owns the shard, and the start ends with SpoolLocked.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from relay.errors import SpoolLocked
from relay.log import Log
from relay.registry.store import Registry
from relay.registry.suppressions import Suppressions
from relay.spool.spool import Spool

LOCK_PATIENCE = 20.0  # seconds
LOCK_POLL = 0.05


@dataclass(frozen=True, slots=True)
class Stores:
    """spools: the worker's own first, then those it adopts."""

    directory: Path
    registry: Registry
    suppressions: Suppressions
    spools: tuple[Spool, ...]


class StoppedEarly(Exception):
    """The worker was told to stop before it had begun."""


async def open_stores(
    directory: Path,
    shards: tuple[int, ...],
    opened: AsyncExitStack,
    *,
    stopping: asyncio.Event,
    now: Callable[[], float],
    log: Log,
    patience: float = LOCK_PATIENCE,
) -> Stores:
    """`opened` closes them. Raises StoppedEarly, SpoolLocked, SpoolVersion, SpoolError and the registry's errors."""
    spools = []
    until = time.monotonic() + patience
    for shard in shards:
        spool = await _spool(directory, shard, until=until, stopping=stopping, now=now, log=log)
        opened.push_async_callback(spool.close)
        spools.append(spool)
    registry = await Registry.open(directory, now=now)  # after the shards, which gave up their reserve on a full disk
    opened.push_async_callback(registry.close)
    suppressions = await Suppressions.open(directory, now=now)
    opened.push_async_callback(suppressions.close)
    return Stores(directory, registry, suppressions, tuple(spools))


async def _spool(
    directory: Path, shard: int, *, until: float, stopping: asyncio.Event, now: Callable[[], float], log: Log
) -> Spool:
    """Recovery is not interrupted once it has begun: only the wait for the lock ends when the worker is to stop."""
    waiting = False
    while not stopping.is_set():
        try:
            return await Spool.open(directory, shard=shard, now=now)
        except SpoolLocked as error:
            if time.monotonic() >= until:
                raise
            if not waiting:
                log.info("waiting for a shard", shard=shard, reason=error.text)
            waiting = True
        with suppress(TimeoutError):
            await asyncio.wait_for(stopping.wait(), LOCK_POLL)
    raise StoppedEarly
