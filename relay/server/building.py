"""server.building: every object of a worker, built once, in the order things depend on each other.

Nothing here runs yet: the parts begin when `worker` says so. What a reload may change, the parts ask `Current` for.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from relay.config.models import Config
from relay.delivery.destination import Destinations
from relay.delivery.routing import Routes
from relay.dkim import KeyRing
from relay.log import Log
from relay.metrics import Metrics
from relay.reception import Signing
from relay.resolver import Resolver
from relay.server.disk_watch import DiskWatch
from relay.server.gauges import Gauges
from relay.server.guard import SharedGuard
from relay.server.holding import Holding
from relay.server.inquiries import Inquiries
from relay.server.plan import Current
from relay.server.setting import Place
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
        self._simulator = Simulator()
        self._resolver = Resolver(current.config.dns, time.monotonic)
        self._surroundings = Surroundings(lambda: current.config, self._resolver)
        self._inquiries = Inquiries(stores.registry, stores.suppressions, lambda: current.config)
        self._keyring = KeyRing(self._inquiries.signing_keys())
        self._uses = Uses(stores.registry)
        self._disk = DiskWatch(stores.directory, limits=lambda: current.config.submission.limits, log=log)

    async def parts(self) -> Parts:
        """Raises ConfigError, PermissionRefused, SpoolError, SpoolVersion."""
        await ready_simulator(self._simulator, self._current)
        holdings = await self._holdings()
        submission = SubmissionServer(self._current.config, self._services(holdings[0]), tasks=self._tasks)
        return Parts(
            simulator=self._simulator,
            surroundings=self._surroundings,
            keyring=self._keyring,
            inquiries=self._inquiries,
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
            now=self._now,
            tasks=self._tasks,
            log=self._log,
        )

    def _common(self) -> Common:
        source = random.Random()
        current = self._current
        return Common(
            plan=lambda: current.plan,
            signing=Signing(self._keyring, now=self._now),
            authorize=self._inquiries.authorize,
            suppressed=self._inquiries.suppressed,
            destinations=Destinations(self._resolver, current.config.delivery, self._surroundings.machine, source),
            contexts=TlsContexts(monotonic=time.monotonic),
            limits=self._board,
            metrics=self._metrics,
            log=self._log,
            now=self._now,
            steady=steady(self._now, monotonic=time.monotonic),
            random=source,
            tasks=self._tasks,
        )

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
            limiter=self._board,
            guard=self._guard,
            facts=self._metrics,
            log=self._log,
            now=self._now,
        )

    def _gauges(self, holdings: tuple[Holding, ...], submission: SubmissionServer) -> Gauges:
        return Gauges(
            spools=lambda: [holding.spool for holding in holdings if holding.is_held],
            submission=submission,
            resolver=self._resolver,
            disk=lambda: self._disk.space,
            now=self._now,
        )


def share_of(config: Config, *, workers: int, shards: int) -> int:
    """The connections out that one shard of a worker may have, so that the machine's limit holds for all together."""
    return max(1, config.delivery.connections // workers // shards)


async def ready_simulator(simulator: Simulator, current: Current) -> None:
    """Started with the first route that leads to it, and from then on there."""
    if not simulator.port and any(route.via == "simulator" for route in current.config.route):
        await simulator.start()
    routes = Routes(current.config.route, simulator_port=simulator.port)
    current.plan = replace(current.plan, routes=routes)
