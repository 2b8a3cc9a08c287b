"""dryrun.fronts: whom the mail of a dry run is given to: a provider, or the smarthosts that a route has for it.

What becomes of mail is told for each of them. Smarthosts of one way share its mail, and what one has not taken another
has; so they are told together, and with them all that are at the same hosts.

Nobody says how a smarthost behaves under more than it allows: each takes all that comes, in so many seconds a message,
and what it allows is what relay.toml says of it.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from itertools import count
from random import Random

from msgspec.structs import replace

from relay.config import providers as config
from relay.delivery.routing import Discard, Routes, Smarthost, Traits, Way
from relay.simulator.provider import Provider
from relay.simulator.providers import SimulatedSite

_FIRST_ADDRESS = ip_address("127.254.0.1")  # of smarthosts that have a name
_LATENCY, _TAKES = 0.05, 0.2  # seconds


@dataclass(frozen=True, slots=True)
class Front:
    """name: of a provider, or of smarthosts in words. receivers: its hosts. hosts: by the names that delivery has for
    its sites.
    """

    name: str
    receivers: Sequence[SimulatedSite]
    hosts: Mapping[str, str]
    smarthosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fronts:
    """by_domain: whom mail for a recipient domain is given to; None where a route discards it."""

    by_domain: Mapping[str, Front | None]

    @classmethod
    def of(
        cls, routes: Routes, simulated: Sequence[SimulatedSite], traits: Traits, *, clock: Callable[[], float]
    ) -> "Fronts":
        """traits: of all the mail, but for its recipients."""
        domains = {domain: site.provider for site in simulated for domain in site.domains}
        ways = {domain: routes.choose(replace(traits, recipient_domain=domain)) for domain in domains}
        providers = {name: _of_provider(name, simulated) for name in domains.values()}
        groups = _together(way for way in ways.values() if isinstance(way, Way) and not way.is_direct)
        behind = _behind(groups, tuple(domains), clock)
        return cls({domain: _front(way, providers[domains[domain]], behind) for domain, way in ways.items()})

    @property
    def all(self) -> Sequence[Front]:
        """Providers in their order, then smarthosts."""
        found = {front.name: front for front in self.by_domain.values() if front is not None}
        return sorted(found.values(), key=lambda front: bool(front.smarthosts))


def _front(way: Way | Discard, provider: Front, behind: Mapping[Smarthost, Front]) -> Front | None:
    if isinstance(way, Discard):
        return None
    first = way.members[0]
    return behind[first] if isinstance(first, Smarthost) else provider


def _of_provider(name: str, simulated: Iterable[SimulatedSite]) -> Front:
    its = [site for site in simulated if site.provider == name]
    return Front(name, its, {site.mx: site.mx for site in its})


def _together(ways: Iterable[Way]) -> list[list[Smarthost]]:
    """Those that share a host, directly or by others."""
    groups: list[list[Smarthost]] = []
    for way in dict.fromkeys(ways):
        group = [each for each in way.members if isinstance(each, Smarthost)]
        hosts = {each.host for each in group}
        joined = [other for other in groups if not hosts.isdisjoint(each.host for each in other)]
        groups = [other for other in groups if other not in joined]
        groups.append(list(dict.fromkeys(each for some in (*joined, group) for each in some)))
    return groups


def _behind(
    groups: Iterable[Sequence[Smarthost]], domains: tuple[str, ...], clock: Callable[[], float]
) -> Mapping[Smarthost, Front]:
    """Of each smarthost, the front that it belongs to."""
    found: dict[Smarthost, Front] = {}
    addresses = (str(_FIRST_ADDRESS + number) for number in count())
    for group in groups:
        names = tuple(dict.fromkeys(each.site for each in group))
        name = f"smarthost{'s' if len(names) > 1 else ''} {', '.join(names)}"
        receivers = [
            SimulatedSite(name, host, _literal(host) or next(addresses), (), _receiver(host, domains, clock))
            for host in dict.fromkeys(each.host for each in group)
        ]
        front = Front(name, receivers, {each.site: each.host for each in group}, names)
        found |= dict.fromkeys(group, front)
    return found


def _literal(host: str) -> str:
    """Of a host that is written as an address; empty for a name."""
    try:
        return str(ip_address(host))
    except ValueError:
        return ""


def _receiver(host: str, domains: tuple[str, ...], clock: Callable[[], float]) -> Provider:
    behaviour = config.Provider(name="smarthost", domains=domains, mx=host, latency=_LATENCY, takes=_TAKES)
    return Provider(behaviour, name=host, domains=domains, clock=clock, random=Random(host))
