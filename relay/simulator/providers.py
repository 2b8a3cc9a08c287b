"""simulator.providers: the providers that are simulated together: their sites, each at an address of its own."""

import ipaddress
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from random import Random

from relay.config import providers as config
from relay.config.providers import MANY
from relay.simulator.provider import Provider


@dataclass(frozen=True, slots=True)
class SimulatedSite:
    """One MX host. provider: whose it is, by name. mx: its own name. domains: those whose mail it takes."""

    provider: str
    mx: str
    address: str
    domains: tuple[str, ...]
    receiver: Provider


def sites(
    behaviours: Iterable[config.Provider], *, first_address: str, clock: Callable[[], float], seed: int
) -> list[SimulatedSite]:
    """At the first address and those that follow it. clock: seconds that never jump."""
    start = ipaddress.ip_address(first_address)
    named = [each for behaviour in behaviours for each in _named(behaviour)]
    return [
        SimulatedSite(
            behaviour.name,
            mx,
            str(start + number),
            domains,
            Provider(behaviour, name=mx, domains=domains, clock=clock, random=Random(f"{seed} {mx}")),
        )
        for number, (behaviour, mx, domains) in enumerate(named)
    ]


def _named(behaviour: config.Provider) -> Iterable[tuple[config.Provider, str, tuple[str, ...]]]:
    """Each of its sites, with the name of the host and of the domains."""
    for number in range(1, behaviour.sites + 1):
        mx, *domains = (name.replace(MANY, str(number)).lower() for name in (behaviour.mx, *behaviour.domains))
        yield behaviour, mx, tuple(domains)


@dataclass(frozen=True, slots=True)
class Total:
    """What one provider's sites did together, as `provider.Counts`; most_open: at one of them."""

    provider: str
    sessions: int
    most_open: int
    taken: int
    refused: Mapping[str, int]


def totals(simulated: Iterable[SimulatedSite]) -> list[Total]:
    """By provider, in order."""
    by_provider: dict[str, list[Provider]] = {}
    for site in simulated:
        by_provider.setdefault(site.provider, []).append(site.receiver)
    return [_total(name, receivers) for name, receivers in by_provider.items()]


def _total(name: str, receivers: list[Provider]) -> Total:
    counts = [receiver.counts for receiver in receivers]
    refused: dict[str, int] = {}
    for each in counts:
        for part, number in each.refused.items():
            refused[part] = refused.get(part, 0) + number
    return Total(
        name,
        sessions=sum(each.sessions for each in counts),
        most_open=max(each.most_open for each in counts),
        taken=sum(each.taken for each in counts),
        refused=refused,
    )
