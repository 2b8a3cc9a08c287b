"""dryrun.run: carries a dry run out, and says what came of it."""

import asyncio
import gc
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from itertools import islice, pairwise
from pathlib import Path
from random import Random

from relay.config import providers as config
from relay.delivery.outcomes import Outcomes
from relay.dryrun.fronts import Front, Fronts
from relay.dryrun.loop import VirtualLoop
from relay.dryrun.machine import STREAM, TRAITS, Workers
from relay.dryrun.network import Network
from relay.dryrun.result import Outcome, Result, Sample, Sent
from relay.dryrun.sending import Sending
from relay.dryrun.sources import Address
from relay.dryrun.traffic import Traffic, recipients
from relay.dryrun.watching import Tally
from relay.mail.site import place
from relay.server.memory import GARBAGE
from relay.server.plan import Plan
from relay.simulator.providers import SimulatedSite, sites

EPOCH = 1_800_000_000.0  # POSIX seconds at which a dry run begins whose day is all the same: 08:00 UTC
LOOK = 1.0  # virtual seconds between two looks at how far it is; after hours a ten-thousandth of what has passed
_ASK_EVERY = 60.0  # or a hundredth
_FEED_EVERY = 0.1
_FIRST_ADDRESS = "127.255.0.1"  # where no smarthost of relay.toml is


def run(
    plan: Plan,
    behaviours: Sequence[config.Provider],
    traffic: Traffic,
    *,
    sources: Sequence[Address] = (),
    workers: int,
    seed: int,
    begins: float = EPOCH,
) -> Result:
    """plan: as `plan_of` has it. behaviours: of the providers in the mix. sources: our addresses, those of the plan.
    begins: POSIX seconds.
    """
    network = Network()
    loop = VirtualLoop(network)
    simulated = sites(behaviours, first_address=_FIRST_ADDRESS, clock=loop.time, seed=seed)
    fronts = Fronts.of(plan.routes, simulated, TRAITS, clock=loop.time)
    machine = Tally()
    tallies = {front.name: Tally() for front in fronts.all}
    sending = Sending(plan, sources, begins=begins)
    for front in fronts.all:
        for site in front.receivers:
            network.receivers[site.address] = sending.watched(site, front, machine, tallies[front.name])
    running = _Running(plan, simulated, traffic, fronts, tallies, sending=sending, seed=seed, begins=begins)
    thresholds = gc.get_threshold()
    gc.set_threshold(*GARBAGE)  # as the workers of a server have it
    try:
        with (
            asyncio.Runner(loop_factory=lambda: loop) as runner,
            tempfile.TemporaryDirectory(prefix="relay-") as directory,
        ):
            outcomes, sent = runner.run(running.run(Path(directory), workers=workers))
    finally:
        gc.set_threshold(*thresholds)
    return Result(traffic, workers, seed, running.submitted, machine.most, running.discarded, outcomes, sent)


def _receivers(fronts: Fronts) -> Iterator[SimulatedSite]:
    return (site for front in fronts.all for site in front.receivers)


class _Running:
    def __init__(
        self,
        plan: Plan,
        simulated: Sequence[SimulatedSite],
        traffic: Traffic,
        fronts: Fronts,
        tallies: Mapping[str, Tally],
        *,
        sending: Sending,
        seed: int,
        begins: float,
    ) -> None:
        self.submitted = 0.0
        self.discarded = 0
        self._plan = plan
        self._simulated = simulated
        self._traffic = traffic
        self._fronts = fronts
        self._tallies = tallies
        self._sending = sending
        self._begins = begins
        self._front_of = {site: front.name for front in fronts.all for site in front.hosts}
        self._given = dict.fromkeys(tallies, 0)
        self._seed = seed
        self._has_all = False
        self._samples: dict[str, list[Sample]] = {name: [Sample(0.0, 0, 0, 0)] for name in tallies}

    async def run(self, directory: Path, *, workers: int) -> tuple[list[Outcome], list[Sent]]:
        async with AsyncExitStack() as opened, asyncio.TaskGroup() as tasks:
            machine = await Workers.open(
                self._plan,
                [*self._simulated, *_receivers(self._fronts)],
                number=workers,
                seed=self._seed,
                begins=self._begins,
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
            fronts = [front for front in self._fronts.all if self._given[front.name]]
            return [self._outcome(front, machine) for front in fronts], self._sending.sent(fronts, machine)

    async def _feed(self, machine: Workers) -> None:
        """As fast as the rate says."""
        loop, lifetime = asyncio.get_running_loop(), self._plan.terms.expiry_of(STREAM)
        addressed = enumerate(recipients(self._traffic, self._simulated, Random(f"{self._seed} traffic")))
        began, fed, rate = loop.time(), 0, self._traffic.rate
        while fed < self._traffic.messages:
            due = int((loop.time() - began) * rate) + 1 - fed
            some = list(islice(addressed, max(0, due)))
            await asyncio.gather(*(machine.accept(number, to, lifetime=lifetime) for number, to in some))
            self._note(to for _, to in some)
            fed += len(some)
            self.submitted = loop.time() - began
            await asyncio.sleep(max(_FEED_EVERY, 1 / rate))
        self._has_all = True

    def _note(self, addresses: Iterable[str]) -> None:
        """These were submitted."""
        for address in addresses:
            front = self._fronts.by_domain[address.rpartition("@")[2]]
            if front is None:
                self.discarded += 1
            else:
                self._given[front.name] += 1

    async def _finish(self, machine: Workers) -> None:
        """Until nothing is owed any more; to ask for that takes long where much is."""
        loop, next_question = asyncio.get_running_loop(), 0.0
        while True:
            await asyncio.sleep(max(LOOK, loop.time() / 10_000))
            self._look(machine)
            ended = sum(samples[-1].delivered + samples[-1].failed for samples in self._samples.values())
            if not self._has_all or (ended < self._traffic.messages - self.discarded and loop.time() < next_question):
                continue
            next_question = loop.time() + max(_ASK_EVERY, loop.time() / 100)
            if await machine.are_done():
                return

    def _look(self, machine: Workers) -> None:
        now, counts = asyncio.get_running_loop().time(), self._counts(machine)
        for name, tally in self._tallies.items():
            last, its = self._samples[name][-1], counts[name]
            if (last.delivered, last.failed, last.connections) != (its.delivered, its.failed, tally.open):
                self._samples[name].append(Sample(now, its.delivered, its.failed, tally.open))

    def _counts(self, machine: Workers) -> dict[str, Outcomes]:
        """By the name of the front."""
        found = {name: Outcomes() for name in self._tallies}
        for shard in machine.shards:
            for site, each in shard.settling.outcomes.by_site.items():
                total = found[self._front_of[site]]
                total.delivered += each.delivered
                total.deferred += each.deferred
                total.failed += each.failed
        return found

    def _outcome(self, front: Front, machine: Workers) -> Outcome:
        name, counts = front.name, self._counts(machine)[front.name]
        site = self._busiest(front, machine)
        limits = machine.limiting.limits(site, (front.hosts[site],))
        counted_as = (not front.smarthosts and limits.counted_as) or site
        refusals: dict[str, int] = {}
        for receiver in front.receivers:
            for part, number in receiver.receiver.counts.refused.items():
                refusals[part] = refusals.get(part, 0) + number
        samples = self._samples[name]
        ends = [
            after.at
            for before, after in pairwise(samples)
            if (before.delivered, before.failed) != (after.delivered, after.failed)
        ]
        messages = self._given[name]
        return Outcome(
            provider=name,
            smarthosts=front.smarthosts,
            messages=messages,
            delivered=counts.delivered,
            failed=messages - counts.delivered,
            deferred=counts.deferred,
            finished=max(ends, default=0.0),
            peak=self._tallies[name].most,
            sites=len(front.hosts),
            refusals=refusals,
            limits=limits,
            learnt=machine.board.learnt().get(place(counted_as, self._sending.busiest(front))),
            suspended=machine.registry.count(front.hosts),
            sources=self._sending.by_source(front),
            warming=self._sending.warming(front, self._fronts, machine),
            samples=samples,
        )

    def _busiest(self, front: Front, machine: Workers) -> str:
        """The site that most mail went to."""
        by_site = [shard.settling.outcomes.by_site for shard in machine.shards]
        return max(front.hosts, key=lambda site: sum(each[site].delivered for each in by_site if site in each))
