"""server.shard: the way of a shard's mail, in and out, built once: reception, scheduler, couriers, settling.

A worker has one shard of its own and drains those that a larger number of workers has left behind. An adopted shard
gets the same parts, but nothing is submitted to it.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from relay.config.profiles import Limits
from relay.delivery.courier import Couriers
from relay.delivery.destination import Destinations
from relay.delivery.dialler import Dialler
from relay.delivery.governor import SiteLimits
from relay.delivery.judging import Judge
from relay.delivery.known_hosts import KnownHosts
from relay.delivery.limiting import Limiting
from relay.delivery.on_disk import OnDisk
from relay.delivery.routing import Smarthost, Way
from relay.delivery.scheduler import TICK, Scheduler
from relay.delivery.setting_back import NoteSetback, SettingBack
from relay.delivery.settling import Settling
from relay.delivery.shares import Elsewhere
from relay.delivery.sources import Sources
from relay.delivery.suspending import Suspend
from relay.delivery.window import Window
from relay.log import Log
from relay.metrics import Metrics
from relay.reception import Authorize, Reception, Reports, Signing, Suppressed
from relay.registry.snapshot import Snapshot
from relay.registry.suspensions import Suspension
from relay.server.our_addresses import OurAddresses
from relay.server.plan import Plan
from relay.smtpclient import TlsContexts
from relay.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Common:
    """What the shards of one worker share. sources: which of our addresses rest; our_addresses: why, and what else is
    known of them. snapshot: the registry's. suspend, note_setback: write one there. look_every: seconds between two
    looks of a scheduler at a slice of its queue.
    """

    plan: Callable[[], Plan]
    signing: Signing
    authorize: Authorize
    suppressed: Suppressed
    destinations: Destinations
    limiting: Limiting
    contexts: TlsContexts
    limits: SiteLimits
    sources: Sources
    our_addresses: OurAddresses
    snapshot: Callable[[], Snapshot]
    suspend: Suspend
    note_setback: NoteSetback
    metrics: Metrics
    log: Log
    now: Callable[[], float]
    steady: Callable[[], float]
    random: Random
    tasks: asyncio.TaskGroup
    look_every: float = TICK


class Shard:
    """share: connections out that it may have. suspensions: those that delivery obeys, by site."""

    def __init__(self, spool: Spool, *, common: Common, share: int) -> None:
        self.spool = spool
        self.suspensions: Mapping[str, Suspension] = {}
        self._common = common
        self._known_hosts = KnownHosts(steady=common.steady, log=common.log)
        wake = asyncio.Event()
        window = Window(common.plan().config.delivery.window, has_room=wake.set)
        on_disk = OnDisk(window, lambda: common.plan().routes, common.steady)
        elsewhere = Elsewhere(wake, common.metrics)
        self.settling = Settling(
            spool=spool,
            window=window,
            on_disk=on_disk,
            wake=wake,
            judge=self._judge(),
            reports=Reports(spool=spool, signing=common.signing, terms=lambda: common.plan().terms, log=common.log),
            metrics=common.metrics,
            log=common.log,
            now=common.now,
            tasks=common.tasks,
        )
        self.couriers = Couriers(
            dialler=self._dialler(),
            limits=common.limits,
            limiting=common.limiting,
            sources=common.sources,
            hops=lambda: common.plan().routes.hops,
            settling=self.settling,
            window=window,
            spool=spool,
            elsewhere=elsewhere,
            share=share,
            suspend=self._suspend,
            setting_back=SettingBack(common.note_setback, begin=self._begin, log=common.log, now=common.now),
            metrics=common.metrics,
            log=common.log,
            now=common.now,
            steady=common.steady,
            tasks=common.tasks,
        )
        common.limits.follow(self.couriers.govern)
        common.limits.follow_breakers(self.couriers.trouble.heard_of_breaker)
        self.scheduler = Scheduler(
            spool=spool,
            window=window,
            on_disk=on_disk,
            wake=wake,
            destinations=common.destinations,
            routes=lambda: common.plan().routes,
            couriers=self.couriers,
            elsewhere=elsewhere,
            settling=self.settling,
            settings=common.plan().config.delivery,
            now=common.now,
            steady=common.steady,
            look_every=common.look_every,
            tasks=common.tasks,
        )
        self.reception = Reception(
            spool=spool,
            delivery=self.scheduler,
            signing=common.signing,
            authorize=common.authorize,
            suppressed=common.suppressed,
            terms=lambda: common.plan().terms,
            metrics=common.metrics,
            log=common.log,
            now=common.now,
        )
        self.suspend_sites()

    def suspend_sites(self) -> None:
        """As operators want it now: some have suspended or resumed one, or its time is over."""
        snapshot, log = self._common.snapshot(), self._common.log
        before, self.suspensions = self.suspensions, snapshot.suspended(now=self._common.now())
        if self.suspensions == before:
            return
        self.scheduler.suspend(self.suspensions)
        for site in self.suspensions.values():
            if site != before.get(site.site):
                log.info("site suspended", site=site.site, by=site.by, until=site.until, reason=site.reason)
        for site in snapshot.suspensions:
            if site.site in before.keys() - self.suspensions.keys():
                log.info("site resumed", site=site.site, by=site.resumed_by or "its time is over")

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        self._common.tasks.create_task(work)

    def rest_sources(self) -> None:
        """Others of our addresses rest than before: what may go from another one does."""
        self.couriers.rest_sources()
        self.scheduler.look_again()

    def warm_up(self) -> None:
        """A day of warm-ups has begun, or one was lost: others of our numbers hold."""
        self.couriers.limit_sites()
        self.scheduler.look_again()

    async def _suspend(self, suspension: Suspension) -> None:
        """Raises RelayError. Whatever came of it, sites are suspended then as is written."""
        try:
            await self._common.suspend(suspension)
            self.suspend_sites()
        finally:
            self.scheduler.suspend(self.suspensions)

    def limits(self, site: str, mx_hosts: Sequence[str]) -> Limits:
        return self._common.limiting.limits(site, mx_hosts)

    def steady(self) -> float:
        """POSIX seconds that never jump."""
        return self._common.steady()

    def by_the_clock(self, steadily: float) -> float:
        """A time of `steady` as it is told: by the machine's clock, which may have been set; 0.0 stays."""
        return steadily and steadily + self._common.now() - self._common.steady()

    @property
    def sources(self) -> Sources:
        """The worker's."""
        return self._common.sources

    @property
    def our_addresses(self) -> OurAddresses:
        """The worker's."""
        return self._common.our_addresses

    @property
    def pools(self) -> Mapping[str, Way]:
        """Our addresses."""
        return self._common.plan().routes.pools

    @property
    def smarthosts(self) -> Sequence[Smarthost]:
        """All that a route leads to."""
        return self._common.plan().routes.smarthosts

    def reconfigure(self) -> None:
        """The plan is another one."""
        self._common.sources.try_again()
        self.settling.judge = self._judge()
        self.couriers.reconfigure(dialler=self._dialler())
        self.scheduler.reconfigure(self._common.plan().config.delivery)

    async def drain(self, *, seconds: float) -> None:
        """Finish what is under way, at most for so long; what is then unsettled is due again at the next start."""
        self.scheduler.stop()
        try:
            async with asyncio.timeout(seconds):
                await self.couriers.finished()
        except TimeoutError:
            self._common.log.warning("transactions cut short", count=self.couriers.at_work)
            await self.couriers.cut_short()
        await self.settling.idle.wait()

    def _judge(self) -> Judge:
        plan, common = self._common.plan(), self._common
        return Judge(rules=plan.rules, retry=plan.config.delivery.retry, now=common.now, random=common.random)

    def _dialler(self) -> Dialler:
        config, common = self._common.plan().config, self._common
        return Dialler(
            hostname=config.server.hostname,
            pool=self._common.plan().routes.pool_of_smarthosts,
            sources=common.sources,
            known=self._known_hosts,
            settings=config.delivery,
            contexts=common.contexts,
            random=common.random,
        )
