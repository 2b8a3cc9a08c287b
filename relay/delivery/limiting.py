"""delivery.limiting: which limits a site has, and the sites of the domains that relay.toml names.

A [[site]] table may name a recipient domain instead of a host. Limits belong to sites, so what is meant is the site
that the domain's MX hosts make, with all other domains that have just these hosts. Which site that is says DNS: such
domains are looked up at the start, after a reload and once a minute, by each worker for itself and whether there is
mail to them or not. While DNS does not answer, what was found last holds.

Limits are looked up when a site is first met, and again when one of these answers or the configuration changes:
never for a message.
"""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from relay.config.profiles import Limits, SiteRules
from relay.delivery.destination import Destination, Destinations, Unresolved
from relay.delivery.quota import NO_QUOTA, Quota
from relay.delivery.routing import Hop, Smarthost
from relay.delivery.warming import Warming

LOOK_EVERY = 60.0


class Limiting:
    """One worker's. rules: asked each time, so that a reload counts. warming: which numbers of our addresses are to be
    kept small, and for whom.
    """

    def __init__(self, rules: Callable[[], SiteRules], destinations: Destinations, warming: Warming) -> None:
        self._rules = rules
        self._warming = warming
        self._destinations = destinations
        self._site_of: dict[str, str] = {}  # "" where the domain takes no mail
        self._asked = asyncio.Event()

    def limits(self, site: str, mx_hosts: Sequence[str]) -> Limits:
        """site: its name, which is that of its table where it is a smarthost with one."""
        domains = [domain for domain, its_site in self._site_of.items() if its_site == site]
        return self._rules().limits(mx_hosts, domains=domains, smarthost=site)

    def quota(self, site: str, hop: Hop, limits: Limits) -> Quota:
        """limits: those of the site."""
        if isinstance(hop, Smarthost):
            return Quota.of_smarthost(site, limits)
        stage = self._warming.stage(hop.address, limits.provider or site)
        return Quota.of_warm_up(stage) if stage is not None else NO_QUOTA

    async def look(self) -> bool:
        """Look the named domains up; whether one's site is another than it was."""
        named = sorted(self._rules().domains)
        sites = await asyncio.gather(*(self._site(domain) for domain in named))
        before, self._site_of = self._site_of, dict(zip(named, sites, strict=True))
        return self._site_of != before

    async def next_look(self) -> None:
        """Returns when it is time to `look` again."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._asked.wait()
        self._asked.clear()

    def look_soon(self) -> None:
        """relay.toml may name other domains now."""
        self._asked.set()

    async def _site(self, domain: str) -> str:
        answer = await self._destinations.of_domain(domain)
        if isinstance(answer, Unresolved):
            return self._site_of.get(domain, "")
        return answer.site if isinstance(answer, Destination) else ""
