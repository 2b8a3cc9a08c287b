"""dryrun.plan: relay.toml as a dry run sees it: profiles, [[site]] tables, routes, smarthosts, our addresses, rules.

Mail goes in clear text and without a login.
"""

from dataclasses import replace
from ipaddress import ip_network
from typing import TypeVar

from relay.config.models import Config, Http, Site
from relay.config.profiles import Profile, Profiles, SiteRules
from relay.dryrun.sources import standing_in
from relay.server.plan import Plan, read_plan

T = TypeVar("T", Profile, Site)

_SIMULATOR_PORT = 2525  # a server finds a free one
_OPEN = {"security": "none", "login": "", "secret_file": None}  # no secret is read: who asks may not be who serves
_LOOPBACK = ip_network("127.0.0.0/8")


def plan_of(config: Config) -> Plan:
    """Raises ConfigError."""
    networks = (*config.delivery.allow_networks, _LOOPBACK)
    delivery = config.delivery.model_copy(update={"allow_networks": networks, "tls": "none"})
    ways = {
        "route": tuple(route.model_copy(update=_OPEN) for route in config.route),
        "smarthost": {name: table.model_copy(update=_OPEN | {"ca": None}) for name, table in config.smarthost.items()},
        "source": tuple(standing_in(config.source)),
    }
    plan = read_plan(
        config.model_copy(update={"delivery": delivery, "http": Http(), **ways}), simulator_port=_SIMULATOR_PORT
    )
    return replace(plan, sites=_without_tls(plan.sites))


def _without_tls(rules: SiteRules) -> SiteRules:
    """What TLS a site needs is no question of how much mail it takes."""
    profiles = rules.profiles
    by_suffix = {suffix: _clear(profile) for suffix, profile in profiles.by_suffix.items()}
    sites = tuple(_clear(site) for site in rules.sites)
    return replace(rules, profiles=Profiles(_clear(profiles.default), by_suffix), sites=sites)


def _clear(table: T) -> T:
    return table.model_copy(update={"tls": None})
