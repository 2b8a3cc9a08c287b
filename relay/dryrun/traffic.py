"""dryrun.traffic: the messages of a dry run: how many, to which providers, how fast they are submitted."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from relay.simulator.providers import SimulatedSite

FASTEST = 1000.0  # messages per second: some such number a relay takes of an application that has them all ready


@dataclass(frozen=True, slots=True)
class Traffic:
    """messages: of one recipient each. mix: shares by provider, of any sum. rate: submitted per second."""

    messages: int
    mix: Mapping[str, float]
    rate: float = FASTEST

    @property
    def counts(self) -> dict[str, int]:
        """Messages for each provider, of the sum of all; the largest shares take what rounding leaves."""
        total = sum(self.mix.values())
        exact = {name: self.messages * share / total for name, share in self.mix.items()}
        counts = {name: int(number) for name, number in exact.items()}
        left = self.messages - sum(counts.values())
        for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:left]:
            counts[name] += 1
        return counts


def recipients(traffic: Traffic, simulated: Sequence[SimulatedSite], random: Random) -> Iterator[str]:
    """In the order in which they are submitted: mixed, as an application's list is."""
    domains = {
        name: [domain for site in simulated if site.provider == name for domain in site.domains] for name in traffic.mix
    }
    providers = [name for name, count in traffic.counts.items() for _ in range(count)]
    random.shuffle(providers)
    return (f"user{number}@{random.choice(domains[name])}" for number, name in enumerate(providers))
