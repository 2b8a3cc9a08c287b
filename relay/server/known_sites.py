"""server.known_sites: what a shard knows of sites, for an operator's commands.

The sites it delivers to now with what is going on there, those it has looked up lately, the smarthosts of relay.toml,
and the limits of each; a site once for each of our addresses that mail leaves from. A name means a site by the site's
own name, by one of its MX hosts, or by a domain whose mail goes there; a domain that nobody has asked about yet is
looked up.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import to_builtins

from relay.config.profiles import Limits
from relay.delivery.breaker import Open
from relay.delivery.destination import Destination, Undeliverable, Unresolved
from relay.delivery.routing import Discard, Hop
from relay.delivery.site import Site
from relay.mail.site import place_parts, site_hosts
from relay.registry.suspensions import Suspension
from relay.server.shard import Shard

DISCARDED = "a route of relay.toml discards its mail"


class KnownSites:
    """One shard's. Every answer: "sites", "site_of" for each domain that is known to have one of them, and what is
    "suspended", of all sites.
    """

    def __init__(self, shard: Shard) -> None:
        self._shard = shard

    def named(self, name: str) -> dict[str, Any]:
        """name: lower-case, domains as A-labels; "" means all."""
        site_of = self._shard.scheduler.sites_of_domains()
        found = [
            site
            for site in self._all()
            if not name or name in (site["name"].lower(), *site["mx"]) or site["name"] == site_of.get(name)
        ]
        names = {site["name"] for site in found}
        return {
            "sites": found,
            "site_of": {domain: site for domain, site in site_of.items() if site in names},
            "suspended": [suspension(each) for each in self._shard.suspensions.values()],
        }

    async def look_up(self, domain: str) -> dict[str, Any]:
        """Of one site, or none: then "nowhere" says why, or "unresolved" why DNS does not tell."""
        found = await self._shard.scheduler.where(domain)
        if isinstance(found, Discard):
            return {"sites": [], "site_of": {}, "nowhere": DISCARDED}
        match found:
            case _, Destination() as destination:
                return {"sites": [self._idle(destination.site, destination.mx)], "site_of": {domain: destination.site}}
            case _, Undeliverable(reply=reply):
                return {"sites": [], "site_of": {}, "nowhere": reply.text}
            case _, Unresolved(detail=detail):
                return {"sites": [], "site_of": {}, "unresolved": detail}

    def _all(self) -> Iterator[dict[str, Any]]:
        """One may come more than once: from another of our addresses, or where routes demand different things of it."""
        at_work = self._shard.couriers.sites.values()
        for site in at_work:
            yield self.told(site)
        idle = {place_parts(each.site)[0]: each.mx_hosts for each in self._shard.suspensions.values()}
        idle |= {each.site: each.mx for each in self._shard.scheduler.last_destinations()}
        idle |= {each.site: site_hosts([each.host]) for each in self._shard.smarthosts}
        for name in idle.keys() - {site.name for site in at_work}:
            yield self._idle(name, idle[name])

    def told(self, site: Site) -> dict[str, Any]:
        counted_as, _ = place_parts(site.counted_as)
        together = {"counted_as": counted_as if counted_as != site.name else ""}
        return self.activity(site) | self._described(site.name, site.mx, site.limits) | together

    def activity(self, site: Site) -> dict[str, Any]:
        """What goes on at a site. waiting: jobs in memory. limit: connections that its governor allows this worker now.
        in_trouble: it takes no mail by itself, but for a probe. out_of_quota: only because we may send no more there;
        waits_for_warm_up: for the sake of our address's warm-up. resting: why our address sends nothing there.
        next_probe_at: 0 where somebody has to end that.
        """
        trouble = self._shard.couriers.trouble
        rest = trouble.rest_at(site.name, site.source)
        is_shut = trouble.shuts_out(site)
        probe_at = trouble.tried_at(site) if is_shut and (rest is None or rest.ends_at) else 0.0
        is_out_of_quota = rest is None and site.is_out_of_quota(self._shard.steady())
        return {
            "name": site.name,
            "source": site.source,
            "resting": rest.why if rest else "",
            "waiting": site.waiting,
            "couriers": site.couriers,
            "connections": site.couriers + len(site.idle),
            "limit": site.governor.connections,
            "in_trouble": is_shut,
            "out_of_quota": is_out_of_quota,
            "waits_for_warm_up": is_out_of_quota and site.quota.stage is not None,
            "next_probe_at": self._shard.by_the_clock(probe_at),
            "next_turn_at": self._shard.by_the_clock(site.next_turn_at),
            "last_error": site.last_error,
            "allowed": _allowed(site),
            "changes": [to_builtins(change) for change in site.governor.allowance.changes],
            "breakers": [self.breaker(each) for each in site.breakers.open],
        }

    def breaker(self, breaker: Open) -> dict[str, Any]:
        """until: when it asks to probe."""
        return {**to_builtins(breaker), "until": self._shard.by_the_clock(breaker.until)}

    def of(self, destination: Destination, hop: Hop) -> dict[str, Any]:
        """With what goes on there, where something does."""
        site = self._shard.couriers.sites.get((destination.site, hop))
        return self.told(site) if site is not None else self._idle(destination.site, destination.mx, hop.source)

    def _idle(self, site: str, mx: tuple[str, ...], source: str = "") -> dict[str, Any]:
        return {"name": site, "source": source} | self._described(site, mx, self._shard.limits(site, mx))

    def _described(self, site: str, mx: tuple[str, ...], limits: Limits) -> dict[str, Any]:
        origins = dict(limits.origins)
        if any(smarthost.site == site for smarthost in self._shard.smarthosts):
            origins.pop("tls", None)  # it is its security that says it
        told = {name: {"value": getattr(limits, name), "origin": origin} for name, origin in origins.items()}
        return {"mx": list(mx), "profile": limits.profile, "counted_as": limits.counted_as, "limits": told}


def suspension(one: Suspension) -> dict[str, Any]:
    return {"site": one.site, "since": one.since, "until": one.until, "by": one.by, "reason": one.reason}


def _allowed(site: Site) -> dict[str, float]:
    """What its replies have taught, within the limits; messages_per_second is 0 where it taught no rate."""
    allowance = site.governor.allowance
    connections = min(site.limits.connections, allowance.connections)
    return {"connections": connections, "messages_per_second": allowance.per_second}
