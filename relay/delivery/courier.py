"""delivery.courier: carries a site's jobs, one transaction after another, over one connection.

`Couriers` starts them: as many as the governor allows, the machine's limit for the site has room for, and this
worker's share of all connections out permits (half of it at most to sites in trouble, and to those that take long to
give a session). A courier takes an idle connection or opens one, works while there is work and the connection may
carry more, and leaves it open for the next.

A connection found dead before anything of a job was answered costs the job nothing: it is carried once more, over a
new one. Where a smarthost takes no mail, what waits for it goes on to the next one of its route.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Collection, Coroutine, Mapping
from operator import attrgetter

from relay.delivery.carriage import Carriage
from relay.delivery.connections import Connections
from relay.delivery.dialler import Dialler
from relay.delivery.dials import Dials
from relay.delivery.feedback import Allowance
from relay.delivery.governor import SiteLimits
from relay.delivery.limiting import Limiting
from relay.delivery.pace import SOON
from relay.delivery.pressure import Pressure, unheard
from relay.delivery.routing import Hop
from relay.delivery.setting_back import SettingBack
from relay.delivery.settling import Settling
from relay.delivery.shares import Elsewhere
from relay.delivery.site import Job, Line, Site, SiteKey
from relay.delivery.sites import Sites
from relay.delivery.sources import Sources
from relay.delivery.strangers import Strangers
from relay.delivery.suspending import Suspend, Suspending
from relay.delivery.trouble import Trouble
from relay.delivery.wanting import Wanting
from relay.delivery.window import Window
from relay.errors import MessageDamaged, NotFound, SpoolError
from relay.log import Log
from relay.metrics import Metrics
from relay.registry.suspensions import Suspension
from relay.smtpclient import TransactionResult
from relay.spool.spool import Spool


class Couriers:
    """One worker's sites and its connections out, `share` at most. steady: POSIX seconds that never jump."""

    def __init__(
        self,
        *,
        dialler: Dialler,
        limits: SiteLimits,
        limiting: Limiting,
        sources: Sources,
        hops: Callable[[], Collection[Hop]],
        suspend: Suspend,
        setting_back: SettingBack,
        settling: Settling,
        window: Window,
        spool: Spool,
        elsewhere: Elsewhere,
        share: int,
        metrics: Metrics,
        log: Log,
        now: Callable[[], float],
        steady: Callable[[], float],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._dials = Dials(dialler, share=share)
        self._connections = Connections(
            limits, share=share, begin=self._begin, ended=self._feed_the_starved, metrics=metrics, steady=steady
        )
        self._pressure = Pressure(limits, Suspending(suspend, begin=self._begin, log=log, now=now), setting_back)
        self._settling = settling
        self._window = window
        self._spool = spool
        self._elsewhere = elsewhere
        self._metrics = metrics
        self._steady = steady
        self._tasks = tasks
        self._sites = Sites(limiting, hops, sources, limits.breakers)
        self.trouble = Trouble(
            self._sites,
            window=window,
            settling=settling,
            elsewhere=elsewhere,
            pressure=self._pressure,
            sources=sources,
            limits=limits,
            begin=self._begin,
            steady=steady,
        )
        self._carriage = Carriage(
            spool=spool, window=window, limits=limits, settling=settling, elsewhere=elsewhere, trouble=self.trouble
        )
        self._starved: OrderedDict[SiteKey, None] = OrderedDict()  # sites that wait for this worker's share
        self._starved_in_trouble: OrderedDict[SiteKey, None] = OrderedDict()  # ... for the half that trouble may have
        self._wanting = Wanting(self._connections, self._resume, steady=steady)
        self._strangers = Strangers(self._resume, has_room=lambda: self._dials.has_room_for_strangers)
        self._starting = 0  # couriers that have not looked for a job yet, and will want a connection
        self._stopped = False
        self._cut = False
        self._running: set[asyncio.Task[None]] = set()

    @property
    def sites(self) -> Mapping[SiteKey, Site]:
        """For `status`."""
        return self._sites.by_key

    @property
    def at_work(self) -> int:
        return sum(site.couriers for site in self.sites.values())

    async def finished(self) -> None:
        """No courier is at work and no connection is being closed."""
        while self._running:
            await asyncio.wait(self._running)

    async def cut_short(self) -> None:
        """End what is under way where it stands. What the servers may have taken is settled as such; what else is
        unsettled is due again at the next start.
        """
        self._cut = True
        for task in self._running:
            task.cancel()
        await self.finished()

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = self._tasks.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    def reconfigure(self, *, dialler: Dialler) -> None:
        """For connections from now on."""
        self._dials.dialler = dialler
        self._connections.release_idle()
        self.limit_sites()

    def limit_sites(self) -> None:
        """Their limits may be others; what waited for one asks again."""
        self._sites.limit()
        self._wanting.forget()
        for site in self.sites.values():
            self._resume(site)

    def enqueue(self, job: Job, hop: Hop) -> None:
        """At the site of its destination, which has the newest addresses that DNS gave."""
        site = self._sites.of(job.destination, hop)
        if self.trouble.holds(site, job):
            site.add(job)
            self.trouble.give_back(site)
        elif not self.trouble.blocks(site, job):
            site.add(job)
            self._pump(site)

    def suspend(self, suspensions: Mapping[str, Suspension]) -> bool:
        """Those in force from now on, by site. What is under way is finished; what waits goes to another smarthost of
        its route, or back to the disk until the site is resumed. Whether mail may go that could not before.
        """
        suspended, ended = self._sites.suspend(suspensions)
        for site in suspended:
            self._connections.release_some(site, len(site.idle))
            self._dials.give_up(site)
            self.trouble.turn_away(site)
        for name in ended:
            self._window.unpark(name)
        return bool(ended)

    def rest_sources(self) -> None:
        """Some of our addresses may send no more: what waits to leave from them goes by others, or waits on disk."""
        for site in self.trouble.turn_away_resting():
            self._connections.release_some(site, len(site.idle))

    def govern(self, name: str, allowance: Allowance, surplus: int) -> int:
        """What the sites that are counted so may have from now on. surplus: connections of this worker's that are to
        end; how many of them others have to end.
        """
        for site in sorted(self._sites.counted_as(name), key=attrgetter("connections"), reverse=True):
            if surplus == 0 and site.governor.allowance == allowance:
                continue
            site.governor.allowance = allowance
            surplus -= self._connections.release_some(site, surplus)
            site.governor.surplus = min(surplus, site.couriers)
            surplus -= site.governor.surplus
            self._pump(site)
        return surplus

    def take_waiting(self) -> list[Job]:
        """Every job that waits for a courier."""
        return [*self._elsewhere.take(), *(job for site in self.sites.values() for job in site.take_all())]

    def stop(self) -> None:
        """No new couriers; idle connections are closed."""
        self._stopped = True
        self._strangers.stop()
        self._wanting.forget()
        self._connections.stop()
        self.sweep()

    def sweep(self) -> None:
        """Close what has been idle too long or was closed by the other end; forget sites that nothing is known of."""
        self._connections.sweep()
        self._sites.forget_unused(now=self._steady())
        self._feed_the_starved()

    def release_idle(self, name: str) -> None:
        """Somebody waits for a connection to a site that is counted so, here or at another worker."""
        self._connections.release_idle(name)

    def open_another(self, name: str) -> None:
        """There is a connection to a site that is counted so for this worker, which was refused one."""
        self._wanting.offer(name)

    # Starting couriers.

    def _pump(self, site: Site) -> None:
        """A courier for each waiting job, as far as the governor allows."""
        if site.is_shut:
            self.trouble.turn_away(site)
        while site.waiting > site.starting and site.couriers < site.governor.connections:
            if self._stopped or site.waits_for_limit or site.wants_less:
                return
            site.couriers += 1
            site.starting += 1
            self._starting += 1
            self._begin(self._courier(site))

    def _starve(self, site: Site) -> None:
        """It waits until connections end elsewhere."""
        site.waits_for_limit = True
        held_by_trouble = site.in_trouble and not self._connections.is_full
        waiting = self._starved_in_trouble if held_by_trouble else self._starved
        waiting[site.key] = None

    def _feed_the_starved(self) -> None:
        """No more than can have a connection now: with thousands waiting, each end of one must not wake all others."""
        self._feed(self._starved, self._connections.share)
        self._feed(self._starved_in_trouble, self._dials.room_for_trouble)

    def _feed(self, starved: OrderedDict[SiteKey, None], most: int) -> None:
        while starved and most > 0 and self._connections.busy + self._starting < self._connections.share:
            most -= 1
            key, _ = starved.popitem(last=False)
            site = self.sites.get(key)
            if site is not None:
                self._resume(site)

    async def _courier(self, site: Site) -> None:
        line: Line | None = None
        site.starting -= 1
        self._starting -= 1
        try:
            while not self._stopped and not site.wants_less and (job := site.next()) is not None:
                line, go_on = await self._carry(site, job, line)
                if not go_on:
                    break
        finally:
            if line is not None:
                self._connections.leave(site, line)
            site.left_by_courier(had_connection=line is not None)
        self._pump(site)
        self._feed_the_starved()

    # One job.

    async def _carry(self, site: Site, job: Job, line: Line | None) -> tuple[Line | None, bool]:
        """The connection to go on with, if any, and whether to go on at all."""
        if not self._settling.end_expired(job):
            return line, True
        line = await self._connection(site, job, line)
        if line is None:
            return None, False
        if not self._carriage.fits(site, job, line):
            return line, True
        epoch = site.governor.allowance.epoch
        if not await self._may_send(site, job, line):
            return line, False
        if not await self._carriage.is_intended(site, job):
            return line, True
        return await self._send(site, job, line, epoch)

    async def _send(self, site: Site, job: Job, line: Line, epoch: int) -> tuple[Line | None, bool]:
        """As `_carry`. epoch: of the allowance by which it is sent."""
        try:
            result = await self._carriage.transact(job, line)
        except (NotFound, MessageDamaged):
            self._carriage.refund(site, job)
            self._window.forget(job.recipients)  # cancelled while it waited, or set aside for an operator to see
            return line, True
        except SpoolError as error:
            self._unreadable(site, job, line, error)
            return None, True
        except asyncio.CancelledError:
            if self._cut:  # or the worker breaks, and nothing can be settled any more
                self._carriage.interrupted(site, job, line)
            raise
        if self._dials.is_worth_another_session(site, job, line, result):
            self._carriage.refund(site, job)
            self._connections.close(site, line)
            site.put_back(job)
            return None, True
        heard = unheard(result)
        if heard and await self.trouble.unheard(site, job, line, heard, epoch=epoch):
            self._carriage.refund(site, job)
            await self._connections.quit(site, line)
            return None, line.messages > 1
        return line, await self._learn(site, job, line, result, epoch)

    async def _learn(self, site: Site, job: Job, line: Line, result: TransactionResult, epoch: int) -> bool:
        """Whether the site takes more."""
        conclusion = self._carriage.conclude(site, job, line, result)
        if not conclusion.takes_more:
            self.trouble.refused(site)
            return False
        if unheard(result) is None:
            await self._pressure.learn(site, line, result, conclusion.verdicts, epoch=epoch)
        await self.trouble.judge(site, job, line, result, conclusion.verdicts)
        return True

    async def _connection(self, site: Site, job: Job, at_hand: Line | None) -> Line | None:
        """The one at hand, an idle one or a new one; None when the job waits or was settled without one."""
        if at_hand is not None and await self._wanting.hand_on(site, at_hand):
            site.put_back(job)
            return None
        if at_hand is not None and site.may_carry(job, at_hand):
            return at_hand
        if at_hand is not None:
            await self._connections.put_away(site, at_hand)
        line = self._connections.take_idle(site, job)
        if line is not None:
            return line
        if not self._strangers.admits(site, job.sharer):
            site.put_back(job)
            return None
        await self._connections.make_room()
        if self._connections.is_full or (site.in_trouble and self._dials.room_for_trouble <= 0):
            site.put_back(job)
            self._starve(site)
            return None
        counted_as = await self._connections.claim(site)
        if not counted_as:
            self.release_idle(site.counted_as)  # those that are not for this job
            site.put_back(job)
            self._wanting.wait(site)
            return None
        self._wanting.offer(site.counted_as)
        return await self._dial(site, job, counted_as)

    def _resume(self, site: Site) -> None:
        site.waits_for_limit = False
        self._pump(site)

    async def _dial(self, site: Site, job: Job, counted_as: str) -> Line | None:
        epoch = site.governor.allowance.epoch
        outcome = await self._dials.open(site, job)
        if site.suspension is None:
            site.slow = outcome is None
        self._strangers.dialled(site, gave_session=isinstance(outcome, Line))
        if isinstance(outcome, Line):
            self._connections.opened(outcome, counted_as)
            return outcome
        if outcome is not None:
            self._metrics.connect_failed(outcome.stage)
            await self.trouble.unreached(site, job, outcome, epoch=epoch)
        self._connections.give_up(site, counted_as)
        if outcome is None:
            site.put_back(job)
            if site.suspension is None:
                self._starve(site)
        return None

    async def _may_send(self, site: Site, job: Job, line: Line) -> bool:
        """Its turn has come: as pace and quota have it, and unless since the job was begun with the site was suspended,
        or a reload needs TLS that the connection has not, or has other hops. Else it waits, or goes elsewhere.
        """
        pause = await self._carriage.pause(site, job)
        if pause > SOON:
            site.next_turn_at = self._steady() + pause
            site.put_back(job)
            site.waits_for_limit = True
            asyncio.get_running_loop().call_later(pause, self._resume, site)
            return False
        if pause > 0:
            await asyncio.sleep(pause)
        if wait := await self._carriage.spend(site, job):
            self.trouble.spent(site, job, wait)
        elif not site.may_use(line):
            self._carriage.refund(site, job)
            site.put_back(job)
        return not wait and site.may_use(line)

    def _unreadable(self, site: Site, job: Job, line: Line, error: SpoolError) -> None:
        """This message's content cannot be read now. The connection may have got a part of it, so it ends as well."""
        if self._spool.broken.is_set():
            raise error
        self._carriage.refund(site, job)
        self._connections.close(site, line)
        self._settling.unreached(job, error.text, site=site.name)
