"""dryrun.sending: what leaves from each of our addresses, as providers see it, and what warm-ups hold back of it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from relay.delivery.quota import warm_up_of
from relay.delivery.routing import Discard
from relay.delivery.warming import day_at
from relay.dryrun.fronts import Front, Fronts
from relay.dryrun.machine import TRAITS, Workers
from relay.dryrun.result import Sent
from relay.dryrun.sources import Address
from relay.dryrun.watching import Tally, Watched
from relay.server.plan import Plan
from relay.simulator.providers import SimulatedSite


class Sending:
    """begins: POSIX seconds. Smarthosts know us by our account: they are not told of."""

    def __init__(self, plan: Plan, sources: Sequence[Address], *, begins: float) -> None:
        self._plan = plan
        self._sources = sources
        self._begins = begins
        self._clients = {each.bound: Tally() for each in sources}
        self._watched: dict[str, list[Watched]] = defaultdict(list)

    def watched(self, site: SimulatedSite, front: Front, *tallies: Tally) -> Watched:
        """One of the front's hosts."""
        clients = {} if front.smarthosts else self._clients
        watched = Watched(site.receiver, *tallies, clients=clients)
        self._watched[front.name].append(watched)
        return watched

    def busiest(self, front: Front) -> str:
        """What the address is bound to that most left from; "" where the system chooses."""
        taken = self._taken(front)
        return max(self._clients, key=taken.__getitem__, default="") if not front.smarthosts else ""

    def by_source(self, front: Front) -> dict[str, int]:
        """Messages that a provider took, by the addresses that some left from."""
        taken = self._taken(front)
        return {} if front.smarthosts else {each.name: taken[each.bound] for each in self._sources if taken[each.bound]}

    def warming(self, front: Front, fronts: Fronts, machine: Workers) -> list[str]:
        """As `Outcome.warming`."""
        domains = [domain for domain, its in fronts.by_domain.items() if its is front]
        ways = [self._plan.routes.choose(replace(TRAITS, recipient_domain=domain)) for domain in domains]
        sources = {hop.source for way in ways if not isinstance(way, Discard) for hop in way.members}
        held = [self._has_no_room(source, front, machine) for source in sources]
        return [each.name for each in self._sources if each.bound in sources] if all(held) else []

    def _has_no_room(self, source: str, front: Front, machine: Workers) -> bool:
        """At one of its sites at least, and once at least."""
        if self._plan.warm_ups.begins_at(source) > self._begins:
            return True
        prefix, limits = warm_up_of(source), machine.limiting.limits
        providers = {limits(site, (host,)).provider or site for site, host in front.hosts.items()}
        return any(prefix + provider in machine.board.used_up for provider in providers)

    def sent(self, providers: Iterable[Front], machine: Workers) -> list[Sent]:
        taken = {front.name: self._taken(front) for front in providers if not front.smarthosts}
        return [self._from(each, taken, machine) for each in self._sources]

    def _from(self, source: Address, taken: dict[str, Counter[str]], machine: Workers) -> Sent:
        bound, setbacks = source.bound, machine.registry.snapshot().setbacks
        stage = self._plan.warm_ups.stage(bound, "", (), on=day_at(self._begins))
        return Sent(
            address=source.name,
            pool=source.pool,
            messages={provider: counts[bound] for provider, counts in taken.items()},
            peak=self._clients[bound].most,
            day=stage.day if stage is not None else 0,
            per_day=stage.per_day if stage is not None else 0,
            setbacks=sum(each.source == bound for each in setbacks),
        )

    def _taken(self, front: Front) -> Counter[str]:
        total: Counter[str] = Counter()
        for watched in self._watched[front.name]:
            total.update(watched.taken)
        return total
