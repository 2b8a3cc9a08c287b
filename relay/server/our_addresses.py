"""server.our_addresses: what keeps our addresses from sending, and how far their warm-ups have come, looked at often.

An operator's order is in the registry, a list's word in memory, a day begins at midnight UTC: none of them tells the
delivery, so a worker looks four times a second whether anything is another than it was, and then tells its shards.

The first worker notes in the site log when an address begins to rest and when that is over, for all of them: each looks
up for itself, and would say the same. What an operator orders the command has noted, with its end.
"""

import itertools
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from relay.delivery.blocklists import Blocklists
from relay.delivery.governor import SiteLimits
from relay.delivery.quota import warm_up_of
from relay.delivery.resting import listed_words, rests
from relay.delivery.sources import Rest, Sources
from relay.delivery.warming import Stage, Warming, day_at
from relay.log import Log
from relay.metrics import Source
from relay.registry.setbacks import Setback
from relay.registry.snapshot import Snapshot
from relay.registry.suspensions import Suspension
from relay.server.plan import Plan

Note = Callable[[str, str, str], None]
Standing = tuple[date, Sequence[Setback]]  # what warm-ups go by


class Told(Protocol):
    """A shard, as far as it has to know."""

    def rest_sources(self) -> None:
        """Others of our addresses rest than before."""

    def warm_up(self) -> None:
        """Other numbers of warm-ups hold than before."""


class Progress(Struct, frozen=True):
    """How far an address is with one provider. used_in_day, used_in_hour: messages. setbacks: all of its warm-up."""

    stage: Stage
    used_in_day: int
    used_in_hour: int
    setbacks: tuple[Setback, ...]


class OurAddresses:
    """One worker's. limits: who counts for the machine. note: in the site log: the address, what, and why. now: POSIX
    seconds. steady: such as never jump.
    """

    def __init__(
        self,
        sources: Sources,
        blocklists: Blocklists,
        warming: Warming,
        *,
        limits: SiteLimits,
        plan: Callable[[], Plan],
        snapshot: Callable[[], Snapshot],
        note: Note,
        log: Log,
        now: Callable[[], float],
        steady: Callable[[], float],
    ) -> None:
        self._sources = sources
        self.blocklists = blocklists
        self._warming = warming
        self._limits = limits
        self._plan = plan
        self._snapshot = snapshot
        self._note = note
        self._log = log
        self._now = now
        self._steady = steady
        self._resting: Mapping[str, Rest] = {}
        self._ordered: Collection[str] = ()
        self._standing: Standing | None = None
        self._used: dict[str, float] = {}

    def look(self, shards: Iterable[Told]) -> None:
        """What is new is told to these."""
        shards = list(shards)
        if self._order_rests():
            for shard in shards:
                shard.rest_sources()
        if self._have_warm_ups_moved():
            for shard in shards:
                shard.warm_up()

    async def progress(self, address: str) -> list[Progress]:
        """With each provider that got mail from it in the last day, while it is not warm there."""
        prefix = warm_up_of(address)
        used = await self._limits.used(prefix)
        found = []
        for name, (in_hour, in_day) in sorted(used.items()):
            stage = self._warming.stage(address, name.removeprefix(prefix))
            if stage is not None:
                setbacks = tuple(self._warming.setbacks(address, stage.provider))
                found.append(Progress(stage, in_day, in_hour, setbacks))
        return found

    def complaints(self) -> list[str]:
        """What is wrong with our addresses and the lists they are looked up in, in words."""
        addresses = [str(each.address) for each in self._plan().config.source]
        resting = (self._sources.resting(address) for address in addresses)
        listed = ((address, self.blocklists.of(address)) for address in addresses if address not in self._resting)
        return [
            *(rest.why for rest in resting if rest is not None),
            *(f"{listed_words(address, listings)}, and sends on" for address, listings in listed if listings),
            *(f"the blocklist {zone} says nothing: {why}" for zone, why in sorted(self.blocklists.troubles.items())),
        ]

    async def measure(self) -> None:
        """How much is used of what its warm-up gives an address, for `gauges`."""
        for each in self._plan().config.source if self._plan().warm_ups else ():
            address = str(each.address)
            shares = [known.used_in_day / known.stage.per_day for known in await self.progress(address)]
            self._used[address] = max(shares, default=0.0)

    def gauges(self) -> Mapping[str, Source]:
        """For `Metrics`."""
        return {
            "relay_source_listed": self._listed,
            "relay_blocklist_answers": self._answering,
            "relay_source_warm_up_day": self._warm_up_days,
            "relay_source_warm_up_used_ratio": self._warm_up_used,
        }

    def _listed(self) -> dict[tuple[str, str], float]:
        addresses = [str(each.address) for each in self._plan().config.source]
        listed = {(address, each.zone) for address in addresses for each in self.blocklists.of(address)}
        everything = itertools.product(addresses, self.blocklists.zones)
        return {each: float(each in listed) for each in everything}

    def _answering(self) -> dict[str, float]:
        return {zone: float(zone not in self.blocklists.troubles) for zone in self.blocklists.zones}

    def _warm_up_days(self) -> dict[str, float]:
        """Where no provider has set it back."""
        stages = (self._warming.stage(str(each.address), "") for each in self._plan().config.source)
        return {stage.address: float(stage.day) for stage in stages if stage is not None}

    def _warm_up_used(self) -> dict[str, float]:
        return {address: self._used.get(address, 0.0) for address in self._warm_up_days()}

    def order_of(self, address: str) -> Suspension | None:
        """An operator's, to rest."""
        return self._snapshot().resting(now=self._now()).get(address)

    def _order_rests(self) -> bool:
        """Whether others rest than before."""
        plan, now = self._plan(), self._now()
        if not (plan.config.source or self._resting):
            return False
        before, ordered_before = self._resting, self._ordered
        orders = self._snapshot().resting(now=now)
        self._ordered = orders.keys()
        self._resting = rests(
            plan.config.source,
            orders=orders,
            listings=self.blocklists.of,
            warm_ups=plan.warm_ups,
            fails=self._sources.fails,
            now=now,
        )
        if self._resting == before:
            return False
        self._sources.order({each: self._steadily(rest, now) for each, rest in self._resting.items()})
        self._log_changes(before)
        self._note_changes({each: rest for each, rest in before.items() if each not in ordered_before})
        return True

    def _steadily(self, rest: Rest, now: float) -> Rest:
        """It is over when it was meant to be, however the clock is set meanwhile."""
        return replace(rest, until=self._steady() + rest.until - now) if rest.ends_at else rest

    def _log_changes(self, before: Mapping[str, Rest]) -> None:
        for address, rest in self._resting.items():
            if rest != before.get(address):
                self._log.info("source rests", source=address, until=rest.ends_at, reason=rest.why)
        for address in before.keys() - self._resting.keys():
            self._log.info("source rests no longer", source=address)

    def _note_changes(self, before: Mapping[str, Rest]) -> None:
        """before: without what was ordered."""
        resting = {address: rest for address, rest in self._resting.items() if address not in self._ordered}
        for address, rest in resting.items():
            if address not in before or before[address].why != rest.why:
                self._note(address, "rests", rest.why)
        for address in before.keys() - self._resting.keys():
            listings = self.blocklists.of(address)
            still = f"{listed_words(address, listings)}, and no other can send instead" if listings else ""
            self._note(address, "rests no longer", still or f"it is over that {before[address].why}")

    def _have_warm_ups_moved(self) -> bool:
        """A day has begun, or another worker has met a setback. What relay.toml says is told by a reload."""
        standing = (day_at(self._now()), self._snapshot().setbacks) if self._plan().warm_ups else None
        before, self._standing = self._standing, standing
        return before is not None and standing is not None and standing != before
