"""server.operations: an operator's verbs on a shard that this process owns.

hold, release, retry and cancel take a selection and answer with what they changed; `status` and `why` tell what is only
in memory. What is held or cancelled is taken out of every line it waits in, what is released or to be tried now is read
from the disk again.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from relay.delivery.site import Site
from relay.errors import UsageError
from relay.server.shard import Shard
from relay.spool import Change, Selection
from relay.spool.spool import Spool

CHANGES = ("hold", "release", "retry", "cancel")
MOST_RECIPIENTS = 100_000  # of one message
MOST_PROBED = 1000  # recipients; a site is probed by one of its own

Told = Callable[[Sequence[Change]], None]


async def change(
    spool: Spool, verb: str, parameters: dict[str, Any], *, told: Told = lambda _changes: None
) -> list[str]:
    """The message of each recipient that was changed. Raises UsageError, SpoolError.

    parameters: "selection" (the fields of Selection) and "by" (who asks, for the journal). told: of each batch, once it
    is on disk.
    """
    if verb not in CHANGES:
        raise UsageError(f'"{verb}" is no command for the queue', remedy=f"use one of {', '.join(CHANGES)}")
    orders = {"hold": spool.hold, "release": spool.release, "retry": spool.retry, "cancel": spool.cancel}
    selection = msgspec.convert(parameters["selection"], Selection)
    messages: list[str] = []
    async for changes in orders[verb](selection, by=parameters["by"]):
        told(changes)
        messages += [each.message_id for each in changes]
    return messages


def answer(messages: Sequence[str]) -> dict[str, Any]:
    return {"changed": [{"message_id": message} for message in messages]}


class Operations:
    """What the control socket of a shard answers."""

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    async def answer(self, verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if verb == "status":
            return self._status()
        if verb == "why":
            return await self._why(parameters["message"])
        told = partial(self._tell_scheduler, verb)
        messages = await change(self._shard.spool, verb, parameters, told=told)
        if verb == "retry":
            await self._probe(msgspec.convert(parameters["selection"], Selection))
        return answer(messages)

    async def _probe(self, selection: Selection) -> None:
        """What waits only for a site in trouble is due already, so nothing of it was changed; try the site now."""
        waiting = await self._shard.spool.find(selection, limit=MOST_PROBED)
        self._shard.scheduler.retry_now({each.recipient.domain for each in waiting})

    def _tell_scheduler(self, verb: str, changes: Sequence[Change]) -> None:
        scheduler = self._shard.scheduler
        if verb in ("hold", "cancel"):
            claims = {(each.message_id, each.position) for each in changes}
            scheduler.drop({claim for claim in claims if scheduler.window.is_claimed(claim)})
        elif verb == "release":
            scheduler.stored({each.domain for each in changes})
        else:
            scheduler.retry_now({each.domain for each in changes})

    def _status(self) -> dict[str, Any]:
        shard = self._shard
        return {
            "in_memory": len(shard.scheduler.window),
            "at_work": shard.couriers.at_work,
            "cures": shard.spool.measures.cures,
            "sites": [self._site(site) for site in shard.couriers.sites.values()],
            "site_of": shard.scheduler.sites_of_domains(),
        }

    async def _why(self, message: str) -> dict[str, Any]:
        """The recipients of a message that wait for a site in trouble, by position, with the site."""
        entries = await self._shard.spool.find(Selection(ids=(message,)), limit=MOST_RECIPIENTS)
        sites = ((entry.position, self._shard.scheduler.site_in_trouble(entry)) for entry in entries)
        return {"trouble": {str(position): self._site(site) for position, site in sites if site is not None}}

    def _site(self, site: Site) -> dict[str, Any]:
        return {
            "name": site.name,
            "waiting": site.waiting,
            "couriers": site.couriers,
            "connections": site.couriers + len(site.idle),
            "limit": site.governor.connections,
            "in_trouble": site.governor.in_trouble,
            "next_probe_at": site.governor.retry_at if site.governor.in_trouble else 0.0,
            "last_error": site.last_error,
        }
