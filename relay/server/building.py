"""server.building: every object of a worker, built once, in the order things depend on each other.

Nothing here runs yet: the parts begin when `worker` says so. What a reload may change, the parts ask `Current` for.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from relay.config.models import Config
from relay.delivery.blocklists import Blocklists
from relay.delivery.destination import Destinations
from relay.delivery.limiting import Limiting
from relay.delivery.routing import Routes
from relay.delivery.sources import Sources
from relay.delivery.warming import Warming
from relay.dkim import KeyRing
from relay.log import Log
from relay.mail.site import place_parts
from relay.metrics import Metrics
from relay.reception import Signing
from relay.registry.setbacks import Setback
from relay.registry.suspensions import Suspension
from relay.resolver import Resolver
from relay.server.disk_watch import DiskWatch
from relay.server.gauges import Gauges
from relay.server.guard import SharedGuard
from relay.server.holding import Holding
from relay.server.inquiries import Inquiries
from relay.server.our_addresses import OurAddresses
from relay.server.plan import Current
from relay.server.recipients import KnownRecipients
from relay.server.setting import Place, site_log
from relay.server.shard import Common, Shard
from relay.server.steady import steady
from relay.server.stores import Stores
from relay.server.surroundings import Surroundings
from relay.server.switchboard import Board
from relay.server.uses import Uses
from relay.simulator import Simulator
from relay.smtpclient import TlsContexts
from relay.submission.server import SubmissionServer
from relay.submission.services import Services


@dataclass(frozen=True, slots=True)
class Parts:
    """holdings: the worker's own shard first, then those it adopts."""

    simulator: Simulator
    surroundings: Surroundings
    keyring: KeyRing
    inquiries: Inquiries
    limiting: Limiting
    our_addresses: OurAddresses
    uses: Uses
    disk: DiskWatch
    holdings: tuple[Holding, ...]
    submission: SubmissionServer
    gauges: Gauges

    @property
    def held(self) -> tuple[Holding, ...]:
        """Without what was let go of."""
        return tuple(holding for holding in self.holdings if holding.is_held)


class Building:
    """What everything is built with, and the parts that are asked for by more than one other."""

    def __init__(
        self,
        current: Current,
        place: Place,
        stores: Stores,
        *,
        board: Board,
        guard: SharedGuard,
        metrics: Metrics,
        log: Log,
        now: Callable[[], float],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._current = current
        self._place = place
        self._stores = stores
        self._board = board
        self._guard = guard
        self._metrics = metrics
        self._log = log
        self._now = now
        self._tasks = tasks
        self._site_log = site_log(stores.directory, now=now, log=log)
        self._simulator = Simulator()
        self._resolver = Resolver(current.config.dns, time.monotonic)
        self._surroundings = Surroundings(lambda: current.config, self._resolver)
        self._inquiries = Inquiries(stores.registry, stores.suppressions, lambda: current.config)
        self._random = random.Random()
        self._steady = steady(now, monotonic=time.monotonic)
        self._sources = Sources(steady=self._steady, log=log)
        self._destinations = Destinations(
            self._resolver, current.config.delivery, self._surroundings.machine, self._random
        )
        self._warming = Warming(
            lambda: current.plan.warm_ups, lambda: stores.registry.snapshot().setbacks, now
        )
        self._limiting = Limiting(lambda: current.plan.sites, self._destinations, self._warming)
        self._blocklists = Blocklists(
            lambda: current.config.blocklist,
            lambda: [each.address for each in current.config.source],
            self._resolver,
            log=log,
            now=now,
            steady=self._steady,
        )
        self._our_addresses = OurAddresses(
            self._sources,
            self._blocklists,
            self._warming,
            limits=board,
            plan=lambda: current.plan,
            snapshot=stores.registry.snapshot,
            note=self._note_source if place.slot == 0 else _the_first_notes,
            log=log,
            now=now,
            steady=self._steady,
        )
        self._keyring = KeyRing(self._inquiries.signing_keys())
        self._uses = Uses(stores.registry)
        self._disk = DiskWatch(stores.directory, limits=lambda: current.config.submission.limits, log=log)

    async def parts(self) -> Parts:
        """Raises ConfigError, PermissionRefused, SpoolError, SpoolVersion."""
        await ready_simulator(self._simulator, self._current)
        holdings = await self._holdings()
        self._our_addresses.look(holding.shard for holding in holdings)
        submission = SubmissionServer(self._current.config, self._services(holdings[0]), tasks=self._tasks)
        return Parts(
            simulator=self._simulator,
            surroundings=self._surroundings,
            keyring=self._keyring,
            inquiries=self._inquiries,
            limiting=self._limiting,
            our_addresses=self._our_addresses,
            uses=self._uses,
            disk=self._disk,
            holdings=holdings,
            submission=submission,
            gauges=self._gauges(holdings, submission),
        )

    async def _holdings(self) -> tuple[Holding, ...]:
        common, spools = self._common(), self._stores.spools
        share = share_of(self._current.config, workers=self._place.workers, shards=len(spools))
        return tuple([await self._holding(Shard(spool, common=common, share=share)) for spool in spools])

    async def _holding(self, shard: Shard) -> Holding:
        return await Holding.open(
            shard,
            directory=self._stores.directory / f"shard-{shard.spool.shard}",
            suppressions=self._stores.suppressions,
            retention_days=lambda: self._current.config.journal.retention_days,
            site_log=self._site_log,
            now=self._now,
            tasks=self._tasks,
            log=self._log,
        )

    def _common(self) -> Common:
        current = self._current
        return Common(
            plan=lambda: current.plan,
            signing=Signing(self._keyring, now=self._now),
            authorize=self._inquiries.authorize,
            suppressed=self._inquiries.suppressed,
            destinations=self._destinations,
            limiting=self._limiting,
            contexts=TlsContexts(monotonic=time.monotonic),
            limits=self._board,
            sources=self._sources,
            our_addresses=self._our_addresses,
            snapshot=self._stores.registry.snapshot,
            suspend=self._suspend,
            note_setback=self._note_setback,
            metrics=self._metrics,
            log=self._log,
            now=self._now,
            steady=self._steady,
            random=self._random,
            tasks=self._tasks,
        )

    async def _suspend(self, suspension: Suspension) -> None:
        """Raises SpoolError."""
        sites = ((suspension.site, suspension.mx_hosts),)
        registry = self._stores.registry
        news = await registry.suspend_sites(
            sites, until=suspension.until, by=suspension.by, reason=suspension.reason, anew=False
        )
        if news:
            self._site_log.note(*place_parts(suspension.site), "suspended", suspension.words)

    def _note_source(self, address: str, what: str, why: str) -> None:
        self._site_log.note("", address, what, why)

    async def _note_setback(self, setback: Setback) -> None:
        """Raises SpoolError."""
        if await self._stores.registry.note_setback(setback):
            self._site_log.note(setback.provider, setback.source, "set back", f"its warm-up, by a day: {setback.reply}")

    def _services(self, own: Holding) -> Services:
        registry = self._stores.registry
        return Services(
            receiver=own.shard.reception,
            snapshot=registry.snapshot,
            last_login_from=registry.last_login_from,
            record_use=self._uses.record,
            suppressed=self._inquiries.suppressed,
            literal_allowed=self._inquiries.literal_allowed,
            disk_ok=lambda: not self._disk.is_low,
            new_id=own.spool.next_id,
            incoming=own.spool.incoming,
            journal_rejection=own.books.refused,
            sessions=self._place.sessions,
            load=self._place.load,
            limiter=self._board,
            recipients=KnownRecipients(self._stores.directory, now=self._now, log=self._log),
            guard=self._guard,
            facts=self._metrics,
            log=self._log,
            now=self._now,
        )

    def _gauges(self, holdings: tuple[Holding, ...], submission: SubmissionServer) -> Gauges:
        return Gauges(
            spools=lambda: [holding.spool for holding in holdings if holding.is_held],
            smarthosts=lambda: [each.shard.couriers.trouble.smarthosts for each in holdings if each.is_held],
            our_addresses=lambda: self._sources.can_send(holdings[0].shard.pools),
            waiting_for_warm_ups=lambda: sum(
                each.shard.couriers.trouble.waiting_for_warm_ups for each in holdings if each.is_held
            ),
            submission=submission,
            resolver=self._resolver,
            disk=lambda: self._disk.space,
            suspended=lambda: len(holdings[0].shard.suspensions),
            now=self._now,
        )


def share_of(config: Config, *, workers: int, shards: int) -> int:
    """The connections out that one shard of a worker may have, so that the machine's limit holds for all together."""
    return max(1, config.delivery.connections // workers // shards)


def _the_first_notes(_address: str, _what: str, _why: str) -> None:
    """The first worker, for all."""


async def ready_simulator(simulator: Simulator, current: Current) -> None:
    """Started with the first route that leads to it, and from then on there."""
    if not simulator.port and any(route.via == "simulator" for route in current.config.route):
        await simulator.start()
    config = current.config
    routes = Routes(config.route, config.smarthost, config.source, simulator_port=simulator.port)
    current.plan = replace(current.plan, routes=routes)
