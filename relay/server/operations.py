"""server.operations: an operator's verbs on a shard that this process owns.

hold, release, retry and cancel take a selection and answer with what they changed; `status`, `why`, `sites`, `sources`
and `look up` tell what is only in memory. What is held or cancelled is taken out of every line it waits in, what is
released or to be tried now is read from the disk again.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec
from msgspec import to_builtins

from relay.delivery.site import Site
from relay.errors import UsageError
from relay.mail.site import place
from relay.registry.suspensions import Suspension
from relay.server.known_sites import KnownSites, suspension
from relay.server.known_sources import known_sources
from relay.server.shard import Shard
from relay.spool import Change, QueueEntry, Selection
from relay.spool.spool import Spool

CHANGES = ("hold", "release", "retry", "cancel")
MOST_RECIPIENTS = 100_000  # of one message
MOST_LOOKED_UP = 1000  # recipients of a message, for whom `why` asks DNS
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
        self._sites = KnownSites(shard)

    async def answer(self, verb: str, parameters: dict[str, Any]) -> dict[str, Any]:
        if verb == "status":
            return self._status()
        if verb == "sites":
            return self._sites.named(parameters["name"])
        if verb == "look up":
            return await self._sites.look_up(parameters["name"])
        if verb == "sources":
            return await known_sources(self._shard)
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
        self._shard.scheduler.retry_now({(each.recipient.domain, each.credential) for each in waiting})

    def _tell_scheduler(self, verb: str, changes: Sequence[Change]) -> None:
        scheduler = self._shard.scheduler
        if verb in ("hold", "cancel"):
            claims = {(each.message_id, each.position) for each in changes}
            scheduler.drop({claim for claim in claims if scheduler.window.is_claimed(claim)})
        elif verb == "release":
            scheduler.released({(each.domain, each.credential) for each in changes})
        else:
            scheduler.retry_now({(each.domain, each.credential) for each in changes})

    def _status(self) -> dict[str, Any]:
        shard = self._shard
        return {
            "in_memory": len(shard.scheduler.window),
            "at_work": shard.couriers.at_work,
            "cures": shard.spool.measures.cures,
            "sites": [self._sites.activity(site) for site in shard.couriers.sites.values()],
            "outcomes": {site: to_builtins(each) for site, each in shard.settling.outcomes.by_site.items()},
            "site_of": shard.scheduler.sites_of_domains(),
            "suspended": [suspension(each) for each in shard.suspensions.values()],
            "our_addresses": shard.our_addresses.complaints(),
        }

    async def _why(self, message: str) -> dict[str, Any]:
        """Where the recipients of a message go and what holds them back, by position: their sites, those in trouble,
        breakers, and those that are suspended. DNS tells the site of what is not due yet, too.
        """
        entries = await self._shard.spool.find(Selection(ids=(message,)), limit=MOST_RECIPIENTS)
        waited_for = {entry.position: self._shard.scheduler.site_waited_for(entry) for entry in entries}
        trouble = {
            position: self._sites.activity(site)
            for position, site in waited_for.items()
            if site and self._shard.couriers.trouble.shuts_out(site)
        }
        held = {entry.position: self._breaker(waited_for[entry.position], entry) for entry in entries}
        found = await asyncio.gather(*(self._site(entry) for entry in entries[:MOST_LOOKED_UP]))
        sites = {entry.position: site for entry, site in zip(entries, found, strict=False) if site is not None}
        suspended = {each: self._suspension(site) for each, site in sites.items()}
        return {
            "trouble": _by_position(trouble),
            "breakers": _by_position({position: breaker for position, breaker in held.items() if breaker}),
            "sites": _by_position(sites),
            "suspended": _by_position({each: suspension(one) for each, one in suspended.items() if one is not None}),
        }

    async def _site(self, entry: QueueEntry) -> dict[str, Any] | None:
        site = self._shard.scheduler.site_waited_for(entry)
        if site is not None:
            return self._sites.told(site)
        found = await self._shard.scheduler.destination_of(entry)
        if found is None:
            return None
        hop, destination = found
        return self._sites.of(destination, hop)

    def _breaker(self, site: Site | None, entry: QueueEntry) -> dict[str, Any]:
        """The open one that holds it back, {} for none."""
        breaker = site.breakers.for_mail_of(entry.sender_domain) if site is not None else None
        return self._sites.breaker(breaker) if breaker is not None else {}

    def _suspension(self, site: dict[str, Any]) -> Suspension | None:
        suspensions, name = self._shard.suspensions, site["name"]
        return suspensions.get(name) or suspensions.get(place(name, site["source"]))


def _by_position(values: dict[int, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """JSON has text for keys."""
    return {str(position): value for position, value in values.items()}
