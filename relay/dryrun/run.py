"""dryrun.run: carries a dry run out, and says what came of it."""

import asyncio
import gc
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from itertools import islice, pairwise
from pathlib import Path
from random import Random

from relay.config import providers as config
from relay.config.profiles import Limits
from relay.delivery.feedback import Learnt
from relay.delivery.outcomes import Outcomes
from relay.dryrun.loop import VirtualLoop
from relay.dryrun.machine import STREAM, Workers
from relay.dryrun.network import Network
from relay.dryrun.traffic import Traffic, recipients
from relay.dryrun.watching import Tally, Watched
from relay.server.memory import GARBAGE
from relay.server.plan import Plan
from relay.simulator.providers import SimulatedSite, sites

LOOK = 1.0  # virtual seconds between two looks at how far it is
_ASK_EVERY = 60.0
_FEED_EVERY = 0.1
_FIRST_ADDRESS = "127.0.0.2"


@dataclass(frozen=True, slots=True)
class Sample:
    """How far it is at a moment: seconds since the beginning; recipients by their end; connections at once."""

    at: float
    delivered: int
    failed: int
    connections: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one provider. failed: recipients that ended undelivered. deferred: attempts put off. finished: seconds until
    the last recipient ended. peak: connections at once, to all its sites. refusals: by the provider's parts. limits,
    learnt: of the site that most mail went to; learnt is None where it taught nothing. suspended: how often a rule
    suspended a site.
    """

    provider: str
    messages: int
    delivered: int
    failed: int
    deferred: int
    finished: float
    peak: int
    sites: int
    refusals: Mapping[str, int]
    limits: Limits
    learnt: Learnt | None
    suspended: int
    samples: Sequence[Sample]

    @property
    def deferred_share(self) -> float:
        """Of the attempts."""
        return self.deferred / max(1, self.delivered + self.failed + self.deferred)

    @property
    def failed_share(self) -> float:
        """Of the messages."""
        return self.failed / max(1, self.messages)

    @property
    def rate(self) -> float:
        """Messages delivered per second, on average."""
        return self.delivered / self.finished if self.finished else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """peak: connections of the whole machine at once. submitted: seconds until the last message was accepted."""

    traffic: Traffic
    workers: int
    seed: int
    submitted: float
    peak: int
    outcomes: Sequence[Outcome]

    @property
    def finished(self) -> float:
        return max((each.finished for each in self.outcomes), default=0.0)

    @property
    def deferred_share(self) -> float:
        """Of the attempts at all providers."""
        deferred = sum(each.deferred for each in self.outcomes)
        return deferred / max(1, sum(each.delivered + each.failed + each.deferred for each in self.outcomes))


def run(plan: Plan, behaviours: Sequence[config.Provider], traffic: Traffic, *, workers: int, seed: int) -> Result:
    """plan: as `plan_of` has it. behaviours: of the providers in the mix."""
    network = Network()
    loop = VirtualLoop(network)
    simulated = sites(behaviours, first_address=_FIRST_ADDRESS, clock=loop.time, seed=seed)
    machine = Tally()
    tallies = {behaviour.name: Tally() for behaviour in behaviours}
    for site in simulated:
        network.receivers[site.address] = Watched(site.receiver, machine, tallies[site.provider])
    running = _Running(plan, simulated, traffic, tallies, seed=seed)
    thresholds = gc.get_threshold()
    gc.set_threshold(*GARBAGE)  # as the workers of a server have it
    try:
        with (
            asyncio.Runner(loop_factory=lambda: loop) as runner,
            tempfile.TemporaryDirectory(prefix="relay-") as directory,
        ):
            outcomes = runner.run(running.run(Path(directory), workers=workers))
    finally:
        gc.set_threshold(*thresholds)
    return Result(traffic, workers, seed, running.submitted, machine.most, outcomes)


class _Running:
    def __init__(
        self,
        plan: Plan,
        simulated: Sequence[SimulatedSite],
        traffic: Traffic,
        tallies: Mapping[str, Tally],
        *,
        seed: int,
    ) -> None:
        self.submitted = 0.0
        self._plan = plan
        self._simulated = simulated
        self._traffic = traffic
        self._tallies = tallies
        self._provider_of = {site.mx: site.provider for site in simulated}
        self._seed = seed
        self._has_all = False
        self._samples: dict[str, list[Sample]] = {name: [Sample(0.0, 0, 0, 0)] for name in tallies}

    async def run(self, directory: Path, *, workers: int) -> list[Outcome]:
        async with AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
            machine = await Workers.open(
                self._plan,
                self._simulated,
                number=workers,
                seed=self._seed,
                directory=directory,
                tasks=tasks,
                opened=opened,
            )
            works = await machine.start(tasks)
            works.append(tasks.create_task(self._feed(machine)))
            await self._finish(machine)
            for work in works:
                work.cancel()
            for shard in machine.shards:
                await shard.drain(seconds=0.0)
            return [self._outcome(name, machine) for name in self._tallies]

    async def _feed(self, machine: Workers) -> None:
        """As fast as the rate says."""
        loop, lifetime = asyncio.get_running_loop(), self._plan.terms.expiry_of(STREAM)
        addressed = enumerate(recipients(self._traffic, self._simulated, Random(f"{self._seed} traffic")))
        began, fed, rate = loop.time(), 0, self._traffic.rate
        while fed < self._traffic.messages:
            due = int((loop.time() - began) * rate) + 1 - fed
            some = list(islice(addressed, max(0, due)))
            await asyncio.gather(*(machine.accept(number, to, lifetime=lifetime) for number, to in some))
            fed += len(some)
            self.submitted = loop.time() - began
            await asyncio.sleep(max(_FEED_EVERY, 1 / rate))
        self._has_all = True

    async def _finish(self, machine: Workers) -> None:
        """Until nothing is owed any more; to ask for that takes long where much is."""
        loop, next_question = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(LOOK)
            self._look(machine)
            ended = sum(samples[-1].delivered + samples[-1].failed for samples in self._samples.values())
            if not self._has_all or (ended < self._traffic.messages and loop.time() < next_question):
                continue
            next_question = loop.time() + _ASK_EVERY
            if await machine.are_done():
                return

    def _look(self, machine: Workers) -> None:
        now, counts = asyncio.get_running_loop().time(), self._counts(machine)
        for name, tally in self._tallies.items():
            last, its = self._samples[name][-1], counts[name]
            if (last.delivered, last.failed, last.connections) != (its.delivered, its.failed, tally.open):
                self._samples[name].append(Sample(now, its.delivered, its.failed, tally.open))

    def _counts(self, machine: Workers) -> dict[str, Outcomes]:
        """By provider."""
        found = {name: Outcomes() for name in self._tallies}
        for shard in machine.shards:
            for site, each in shard.settling.outcomes.by_site.items():
                total = found[self._provider_of[site]]
                total.delivered += each.delivered
                total.deferred += each.deferred
                total.failed += each.failed
        return found

    def _sites(self, provider: str) -> Iterator[SimulatedSite]:
        return (site for site in self._simulated if site.provider == provider)

    def _outcome(self, name: str, machine: Workers) -> Outcome:
        counts = self._counts(machine)[name]
        its = list(self._sites(name))
        busiest = max(its, key=lambda site: site.receiver.counts.taken)
        learnt, hosts = machine.board.learnt(), {site.mx for site in its}
        refusals: dict[str, int] = {}
        for site in its:
            for part, number in site.receiver.counts.refused.items():
                refusals[part] = refusals.get(part, 0) + number
        samples = self._samples[name]
        ends = [
            after.at
            for before, after in pairwise(samples)
            if (before.delivered, before.failed) != (after.delivered, after.failed)
        ]
        messages = self._traffic.counts[name]
        return Outcome(
            provider=name,
            messages=messages,
            delivered=counts.delivered,
            failed=messages - counts.delivered,
            deferred=counts.deferred,
            finished=max(ends, default=0.0),
            peak=self._tallies[name].most,
            sites=len(its),
            refusals=refusals,
            limits=machine.limiting.limits(busiest.mx, (busiest.mx,)),
            learnt=learnt.get(busiest.mx),
            suspended=sum(each.site in hosts for each in machine.suspensions.ordered),
            samples=samples,
        )
