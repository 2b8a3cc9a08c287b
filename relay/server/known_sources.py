"""server.known_sources: what a shard knows of our addresses, for an operator's commands."""

from typing import Any

from relay.delivery.routing import Direct
from relay.delivery.site import Site
from relay.registry.suspensions import Suspension
from relay.server.our_addresses import Progress
from relay.server.shard import Shard


async def known_sources(shard: Shard) -> dict[str, Any]:
    """sources: in the order of relay.toml, by pool. blocklists: by zone, why one says nothing now, "" where it does."""
    hops = [hop for way in shard.pools.values() for hop in way.members if isinstance(hop, Direct)]
    blocklists = shard.our_addresses.blocklists
    return {
        "sources": [await _told(shard, hop) for hop in hops],
        "blocklists": {zone: blocklists.troubles.get(zone, "") for zone in blocklists.zones},
    }


async def _told(shard: Shard, hop: Direct) -> dict[str, Any]:
    """rests: why it sends nowhere, until when (0 for until somebody ends it). ordered: by an operator. listings: the
    blocklists that have it, which need not make it rest. warm_up: with each provider that got mail from it lately.
    connections: open ones. rests_at: the sites that take no mail from it now. sends_at: those that take it although it
    rests, for there no other can send instead.
    """
    address, known, trouble = hop.address, shard.our_addresses, shard.couriers.trouble
    rest = shard.sources.resting(address)
    sites = [site for site in shard.couriers.sites.values() if site.hop == hop]
    return {
        "address": address,
        "rests": {"why": rest.why, "until": shard.by_the_clock(rest.ends_at)} if rest is not None else None,
        "ordered": _order(known.order_of(address)),
        "listings": [
            {"zone": each.zone, "codes": list(each.codes), "since": each.since} for each in known.blocklists.of(address)
        ],
        "warm_up": [_progress(each) for each in await known.progress(address)],
        "connections": sum(site.couriers + len(site.idle) for site in sites),
        "sends_at": [site.name for site in sites if rest is not None and trouble.rest_at(site.name, address) is None],
        "rests_at": [site.name for site in sites if rest is None and _takes_nothing(shard, site)],
    }


def _order(order: Suspension | None) -> dict[str, Any] | None:
    if order is None:
        return None
    return {"since": order.since, "until": order.until, "by": order.by, "reason": order.reason}


def _progress(progress: Progress) -> dict[str, Any]:
    stage = progress.stage
    return {
        "provider": stage.provider,
        "day": stage.day,
        "per_day": stage.per_day,
        "used_in_day": progress.used_in_day,
        "per_hour": stage.per_hour,
        "used_in_hour": progress.used_in_hour,
        "setbacks": [{"day": each.day.isoformat(), "reply": each.reply} for each in progress.setbacks],
    }


def _takes_nothing(shard: Shard, site: Site) -> bool:
    return shard.couriers.trouble.resumes_at(site.hop, site.name) > 0
