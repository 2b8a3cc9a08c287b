"""server.shard: the way of a shard's mail, in and out, built once: reception, scheduler, couriers, settling.

A worker has one shard of its own and drains those that a larger number of workers has left behind. An adopted shard
gets the same parts, but nothing is submitted to it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from relay.delivery.courier import Couriers
from relay.delivery.destination import Destinations
from relay.delivery.dialler import Dialler
from relay.delivery.governor import SiteLimits
from relay.delivery.judging import Judge
from relay.delivery.scheduler import Scheduler
from relay.delivery.settling import Settling
from relay.delivery.window import Window
from relay.log import Log
from relay.metrics import Metrics
from relay.reception import Authorize, Reception, Reports, Signing, Suppressed
from relay.server.plan import Plan
from relay.smtpclient import TlsContexts
from relay.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class Common:
    """What the shards of one worker share."""

    plan: Callable[[], Plan]
    signing: Signing
    authorize: Authorize
    suppressed: Suppressed
    destinations: Destinations
    contexts: TlsContexts
    limits: SiteLimits
    metrics: Metrics
    log: Log
    now: Callable[[], float]
    steady: Callable[[], float]
    random: Random
    tasks: asyncio.TaskGroup


class Shard:
    """share: connections out that it may have."""

    def __init__(self, spool: Spool, *, common: Common, share: int) -> None:
        self.spool = spool
        self._common = common
        window, wake = Window(common.plan().config.delivery.window), asyncio.Event()
        self.settling = Settling(
            spool=spool,
            window=window,
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
            profiles=common.plan().profiles,
            settling=self.settling,
            window=window,
            spool=spool,
            share=share,
            metrics=common.metrics,
            steady=common.steady,
            tasks=common.tasks,
        )
        self.scheduler = Scheduler(
            spool=spool,
            window=window,
            wake=wake,
            destinations=common.destinations,
            routes=lambda: common.plan().routes,
            couriers=self.couriers,
            settling=self.settling,
            settings=common.plan().config.delivery,
            now=common.now,
            steady=common.steady,
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

    def reconfigure(self) -> None:
        """The plan is another one."""
        self.settling.judge = self._judge()
        self.couriers.reconfigure(dialler=self._dialler(), profiles=self._common.plan().profiles)
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
            sources=config.source,
            settings=config.delivery,
            contexts=common.contexts,
            random=common.random,
        )
