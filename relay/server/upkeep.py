"""server.upkeep: what a worker does beside the mail, until it has drained.

Credentials that any process changed, and suspensions of sites, are in force within a quarter of a second; last uses are
written once a minute; the disk is looked at once a second, the sites of domains that relay.toml names once a minute,
blocklists as each has it; an adopted shard that is empty is let go of.
"""

import asyncio
from collections.abc import Coroutine, Sequence

from relay.log import Log
from relay.server.building import Parts
from relay.server.holding import Holding
from relay.server.repeating import attempt, repeat
from relay.server.stores import Stores
from relay.server.surroundings import LOOK_EVERY

REFRESH_EVERY = 0.25  # a revocation works within a second
USE_EVERY = 60.0
DISK_EVERY = 1.0
EMPTY_EVERY = 5.0
LISTS_EVERY = 1.0  # for those whose time has come
MEASURE_EVERY = 60.0


def works(
    stores: Stores, parts: Parts, *, log: Log, empty_every: float = EMPTY_EVERY
) -> Sequence[Coroutine[None, None, None]]:
    """To be run until they are cancelled. empty_every: seconds between two looks at an adopted shard."""
    return (
        repeat(lambda: _refresh(stores, parts), every=REFRESH_EVERY, log=log, failing="credentials not read again yet"),
        repeat(parts.uses.flush, every=USE_EVERY, log=log, failing="last uses not saved yet"),
        repeat(parts.disk.look, every=DISK_EVERY, log=log, failing="disk not looked at"),
        repeat(parts.surroundings.look, every=LOOK_EVERY, log=log, failing="surroundings not looked at"),
        repeat(parts.our_addresses.measure, every=MEASURE_EVERY, log=log, failing="warm-ups not measured"),
        repeat(parts.our_addresses.blocklists.look, every=LISTS_EVERY, log=log, failing="blocklists not looked at"),
        _follow_named_domains(parts),
        *(_until_empty(holding, log, empty_every) for holding in parts.holdings[1:]),
    )


async def _refresh(stores: Stores, parts: Parts) -> None:
    if await stores.registry.refresh():
        parts.keyring.replace(parts.inquiries.signing_keys())
        parts.submission.credentials_changed()
    for holding in parts.held:
        holding.shard.suspend_sites()
    parts.our_addresses.look(holding.shard for holding in parts.held)


async def _follow_named_domains(parts: Parts) -> None:
    """The limits that relay.toml gives a domain are those of its site."""
    while True:
        if await parts.limiting.look():
            for holding in parts.held:
                holding.shard.couriers.limit_sites()
        await parts.limiting.next_look()


async def _until_empty(holding: Holding, log: Log, every: float) -> None:
    """An adopted shard's."""
    while holding.is_held:
        await asyncio.sleep(every)
        await attempt(lambda: _let_go_if_empty(holding, log), log=log, failing="adopted shard not looked at")


async def _let_go_if_empty(holding: Holding, log: Log) -> None:
    if await holding.is_empty():
        await holding.drain(seconds=0.0)
        await holding.let_go()
        log.info("adopted shard is empty", shard=holding.spool.shard)
