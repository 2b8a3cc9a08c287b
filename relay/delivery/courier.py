"""delivery.courier: carries a site's jobs, one transaction after another, over one connection.

`Couriers` starts them: as many as the governor allows, the machine's limit for the site has room for, and this
worker's share of all connections out permits (half of it at most to sites in trouble, and to those that take long to
give a session). A courier takes an idle connection or opens one, works while there is work and the connection may
carry more, and leaves it open for the next.

A connection found dead before anything of a job was answered costs the job nothing: it is carried once more, over a
new one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass

from relay.config.rules import Profiles
from relay.delivery.carriage import Carriage
from relay.delivery.destination import Destination
from relay.delivery.dialler import Dialler, Unreached
from relay.delivery.governor import Governor, SiteLimits
from relay.delivery.judging import Where
from relay.delivery.routing import Hop
from relay.delivery.settling import Settling
from relay.delivery.site import Job, Line, Site, SiteKey
from relay.delivery.window import Window
from relay.errors import MessageDamaged, NotFound, SpoolError
from relay.metrics import Metrics
from relay.smtpclient import TransactionResult
from relay.spool.spool import Spool

KEPT = 3600.0  # seconds a site's trouble is remembered after its next probe was due
SLOW = 5.0  # seconds without a session after which dialling needs a place in the half that trouble may have
ASK_AGAIN = 0.25  # seconds until the machine's limit is asked for a connection again


@dataclass(slots=True)
class Dialling:
    """in_trouble: counted among those in trouble. patience: ends it."""

    in_trouble: bool
    patience: asyncio.Timeout


class Couriers:
    """One worker's sites and connections. share: connections out that this worker may have. steady: POSIX seconds that
    never jump.
    """

    def __init__(
        self,
        *,
        dialler: Dialler,
        limits: SiteLimits,
        profiles: Profiles,
        settling: Settling,
        window: Window,
        spool: Spool,
        share: int,
        metrics: Metrics,
        steady: Callable[[], float],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._dialler = dialler
        self._limits = limits
        self._profiles = profiles
        self._settling = settling
        self._window = window
        self._spool = spool
        self._carriage = Carriage(spool=spool, window=window, settling=settling)
        self._share = share
        self._metrics = metrics
        self._steady = steady
        self._tasks = tasks
        self._sites: dict[SiteKey, Site] = {}
        self._starved: OrderedDict[SiteKey, None] = OrderedDict()  # sites that wait for this worker's share
        self._starved_in_trouble: OrderedDict[SiteKey, None] = OrderedDict()  # ... for the half that trouble may have
        self._idle: dict[int, tuple[Site, Line]] = {}  # all idle connections, the one idle longest first
        self._open = 0
        self._open_to_trouble = 0
        self._starting = 0  # couriers that have not looked for a job yet, and will want a connection
        self._stopped = False
        self._cut = False
        self._running: set[asyncio.Task[None]] = set()

    @property
    def sites(self) -> Mapping[SiteKey, Site]:
        """For `status`."""
        return self._sites

    @property
    def at_work(self) -> int:
        return sum(site.couriers for site in self._sites.values())

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

    def reconfigure(self, *, dialler: Dialler, profiles: Profiles) -> None:
        """For connections and sites from now on; a known site keeps its governor's window and takes the new profile."""
        self._dialler = dialler
        self._profiles = profiles
        for site, line in list(self._idle.values()):
            self._close_idle(site, line)
        for site in self._sites.values():
            site.governor.profile = profiles.for_host(site.host)

    def enqueue(self, job: Job, destination: Destination, hop: Hop) -> None:
        """At the site it goes to, with the newest addresses that DNS gave."""
        job.destination = destination
        site = self._site(destination, hop)
        site.add(job)
        # Where a courier is at work the site is being probed, and this job waits for what comes of it.
        if site.governor.retry_at > self._steady() and not site.couriers and not self._window.take_urge(job.domain):
            self._park(site)
        else:
            self._pump(site)

    def _site(self, destination: Destination, hop: Hop) -> Site:
        site = self._sites.get((destination.site, hop))
        if site is None:
            host = destination.hosts[0].name
            site = Site(destination.site, hop, host, Governor(self._profiles.for_host(host)))
            self._sites[site.key] = site
        return site

    def take_waiting(self) -> list[Job]:
        """Every job that waits for a courier."""
        return [job for site in self._sites.values() for job in site.take_all()]

    def stop(self) -> None:
        """No new couriers; idle connections are closed."""
        self._stopped = True
        self.sweep()

    def sweep(self) -> None:
        """Close what has been idle too long or was closed by the other end; forget sites that nothing is known of."""
        now = self._steady()
        for site in list(self._sites.values()):
            for line in [line for line in site.idle if self._is_over(site, line, now)]:
                self._close_idle(site, line)
            if site.is_unused and site.governor.retry_at + KEPT < now:
                del self._sites[site.key]
        self._feed_the_starved()

    def release_idle(self, name: str) -> None:
        """Somebody waits for a connection to the site, here or at another worker."""
        for site, line in list(self._idle.values()):
            if site.name == name:
                self._close_idle(site, line)

    def _is_over(self, site: Site, line: Line, now: float) -> bool:
        return self._stopped or not line.connection.usable or now - line.idle_since >= site.profile.idle

    # Starting couriers.

    def _pump(self, site: Site) -> None:
        """A courier for each waiting job, as far as the governor allows."""
        while site.waiting > site.starting and site.couriers < site.governor.connections:
            if self._stopped or site.waits_for_limit:
                return
            site.couriers += 1
            site.starting += 1
            self._starting += 1
            self._begin(self._courier(site))

    @property
    def _room_for_trouble(self) -> int:
        return max(1, self._share // 2) - self._open_to_trouble

    def _starve(self, site: Site) -> None:
        """It waits until connections end elsewhere."""
        site.waits_for_limit = True
        held_by_trouble = site.in_trouble and self._open < self._share
        waiting = self._starved_in_trouble if held_by_trouble else self._starved
        waiting[site.key] = None

    def _feed_the_starved(self) -> None:
        """No more than can have a connection now: with thousands waiting, each end of one must not wake all others."""
        self._feed(self._starved, self._share)
        self._feed(self._starved_in_trouble, self._room_for_trouble)

    def _feed(self, starved: OrderedDict[SiteKey, None], most: int) -> None:
        while starved and most > 0 and self._open - len(self._idle) + self._starting < self._share:
            most -= 1
            key, _ = starved.popitem(last=False)
            site = self._sites.get(key)
            if site is not None:
                self._resume(site)

    async def _courier(self, site: Site) -> None:
        line: Line | None = None
        site.starting -= 1
        self._starting -= 1
        try:
            while not self._stopped and (job := site.next()) is not None:
                line, go_on = await self._carry(site, job, line)
                if not go_on:
                    break
        finally:
            site.couriers -= 1
            if line is not None:
                self._leave(site, line)
        self._pump(site)
        self._feed_the_starved()

    def _leave(self, site: Site, line: Line) -> None:
        if line.connection.usable and not self._stopped and line.messages < site.profile.messages_per_connection:
            line.idle_since = self._steady()
            site.idle.append(line)
            self._idle[id(line)] = (site, line)
        else:
            self._close(site, line)

    def _close_idle(self, site: Site, line: Line) -> None:
        site.idle.remove(line)
        del self._idle[id(line)]
        self._close(site, line)

    def _close(self, site: Site, line: Line) -> None:
        self._closed(site)
        self._begin(line.connection.quit())

    def _closed(self, site: Site) -> None:
        self._open -= 1
        self._limits.release(site.name)
        self._metrics.connection_closed()

    # One job.

    async def _carry(self, site: Site, job: Job, line: Line | None) -> tuple[Line | None, bool]:
        """The connection to go on with, if any, and whether to go on at all."""
        if not self._settling.end_expired(job):
            return line, True
        line = await self._connection(site, job, line)
        if line is None:
            return None, False
        await self._pace(site)
        if not await self._carriage.may_be_sent(site, job, line):
            return line, True
        try:
            result = await self._carriage.transact(job, line)
        except (NotFound, MessageDamaged):
            self._window.forget(job.recipients)  # cancelled while it waited, or set aside for an operator to see
            return line, True
        except SpoolError as error:
            self._unreadable(site, job, line, error)
            return None, True
        except asyncio.CancelledError:
            if self._cut:  # or the worker breaks, and nothing can be settled any more
                self._carriage.interrupted(site, job, line)
            raise
        if self._is_worth_another_session(job, line, result):
            self._close(site, line)
            site.put_back(job)
            return None, True
        self._carriage.conclude(site, job, line, result)
        return line, True

    async def _connection(self, site: Site, job: Job, at_hand: Line | None) -> Line | None:
        """The one at hand, an idle one or a new one; None when the job waits or was settled without one."""
        if at_hand is not None and site.may_carry(job, at_hand):
            return at_hand
        if at_hand is not None:
            self._leave(site, at_hand)
        line = self._take_idle(site, job)
        if line is not None:
            return line
        if self._open >= self._share and self._idle:
            self._close_idle(*next(iter(self._idle.values())))  # the one idle longest, at whatever site
        if self._open >= self._share or (site.in_trouble and self._room_for_trouble <= 0):
            site.put_back(job)
            self._starve(site)
            return None
        self._open += 1
        if not await self._limits.acquire(site.name, maximum=site.profile.connections):
            self._open -= 1
            self.release_idle(site.name)  # those that are not for this job
            site.put_back(job)
            site.waits_for_limit = True
            asyncio.get_running_loop().call_later(ASK_AGAIN, self._resume, site)
            return None
        return await self._dial(site, job)

    def _take_idle(self, site: Site, job: Job) -> Line | None:
        """The one used last."""
        for line in reversed(site.idle):
            if site.may_carry(job, line):
                site.idle.remove(line)
                del self._idle[id(line)]
                return line
        return None

    def _resume(self, site: Site) -> None:
        site.waits_for_limit = False
        self._pump(site)

    async def _dial(self, site: Site, job: Job) -> Line | None:
        outcome = await self._session(site, job)
        site.slow = outcome is None
        if isinstance(outcome, Line):
            self._metrics.connection_opened()
            return outcome
        self._open -= 1
        self._limits.release(site.name)
        if outcome is None:
            site.put_back(job)
            self._starve(site)
        else:
            self._metrics.connect_failed(outcome.stage)
            self._unreached(site, job, outcome)
        return None

    async def _session(self, site: Site, job: Job) -> Line | Unreached | None:
        """None: there was none yet, and no room left for those that take long. Many hosts that say nothing must not
        have all connections for as long as they may take.
        """
        dialling = Dialling(site.in_trouble, asyncio.timeout(None))
        self._open_to_trouble += dialling.in_trouble
        slow = asyncio.get_running_loop().call_later(SLOW, self._has_become_slow, dialling)
        try:
            async with dialling.patience:
                return await self._dialler.open(job.destination, site.hop, job.tried)
        except TimeoutError:
            return None
        finally:
            slow.cancel()
            self._open_to_trouble -= dialling.in_trouble

    def _has_become_slow(self, dialling: Dialling) -> None:
        if dialling.in_trouble:
            return
        if self._room_for_trouble > 0:
            dialling.in_trouble = True
            self._open_to_trouble += 1
        else:
            dialling.patience.reschedule(asyncio.get_running_loop().time())

    def _unreached(self, site: Site, job: Job, outcome: Unreached) -> None:
        """The site is in trouble when none of its hosts gave a session; where one did and it broke, the job is put off
        alone: what breaks one message's session need not break another's.
        """
        site.last_error = "; ".join((*job.tried.values(), outcome.detail))
        self._settling.unreached(job, site.last_error, Where(mx=outcome.mx), reply=outcome.reply, site=site.name)
        if job.tried:
            site.governor.pushed_back()
            return
        site.governor.unreachable(now=self._steady())
        self._window.park(job.domain, site.hop, site=site.name, until=site.governor.retry_at)
        self._park(site)

    def _park(self, site: Site) -> None:
        """The site is in trouble: what waits for it goes back to the disk until it is probed."""
        jobs = site.take_all()
        for job in jobs:
            self._window.park(job.domain, site.hop, site=site.name, until=site.governor.retry_at)
        self._settling.give_back(jobs)

    def _is_worth_another_session(self, job: Job, line: Line, result: TransactionResult) -> bool:
        """Nothing is decided and nothing was sent: the other end had closed an idle connection, which costs the job
        nothing, or the session broke, and another host may do better (RFC 5321 5.1).
        """
        if result.decided or result.dot_sent:
            return False
        if line.messages > 1 and result.mail is None:
            return True
        endpoint = line.connection.endpoint
        job.tried[endpoint.address] = f"{endpoint}: {result.failure}"
        return self._dialler.has_another(job.destination, job.tried)

    async def _pace(self, site: Site) -> None:
        if site.profile.messages_per_second:
            wait = await self._limits.pace(site.name, per_second=site.profile.messages_per_second)
            if wait > 0:
                await asyncio.sleep(wait)

    def _unreadable(self, site: Site, job: Job, line: Line, error: SpoolError) -> None:
        """This message's content cannot be read now. The connection may have got a part of it, so it ends as well."""
        if self._spool.broken.is_set():
            raise error
        self._close(site, line)
        self._settling.unreached(job, error.text, site=site.name)
