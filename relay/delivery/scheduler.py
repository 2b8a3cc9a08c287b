"""delivery.scheduler: brings what is owed and due to the couriers, without holding the queue in memory.

Fresh mail is handed over in memory after its commit. Everything else is read from the spool: one walk over the due
index, oldest first, that never goes back (`Window` says why it need not), and a refill of each lane (a credential's
mail for one domain) that had more than its share. What is read becomes jobs: recipients of one message in one domain,
going one way. A job waits here while its domain is looked up, then at its site for a courier.

Mail of a site that is in trouble or suspended is given back to the disk and its domain parked until the site is probed
or resumed: no recipient's retry ladder is climbed for it. A recipient past its expiry ends here, attempted or not: when
its turn comes, or when the look through the queue that never ends comes by.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from itertools import groupby

from relay.config.models import Delivery, Retry
from relay.delivery.courier import Couriers
from relay.delivery.destination import (
    NOWHERE_YET,
    Destination,
    Destinations,
    Resolution,
    Undeliverable,
    Unresolved,
)
from relay.delivery.judging import Where
from relay.delivery.lane import LaneKey
from relay.delivery.looked_up import LookedUp
from relay.delivery.lookups import LookupKey, Lookups
from relay.delivery.on_disk import OnDisk
from relay.delivery.routing import Discard, Hop, Routes, Smarthost, Traits
from relay.delivery.settling import Settling, is_over
from relay.delivery.shares import Elsewhere, Shares
from relay.delivery.site import Job, Site
from relay.delivery.window import Claim, Window
from relay.registry.suspensions import Suspension
from relay.spool import Cursor, NewMessage, QueuedRecipient, QueueEntry
from relay.spool.spool import FIRST, Spool

BATCH = 500
TICK = 1.0


class Scheduler:
    """One shard's. `tasks` owns every task begun here; `now` gives POSIX seconds, `steady` such as never jump.
    look_every: seconds between two looks at a slice of the queue.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        window: Window,
        on_disk: OnDisk,
        wake: asyncio.Event,
        destinations: Destinations,
        routes: Callable[[], Routes],
        couriers: Couriers,
        elsewhere: Elsewhere,
        settling: Settling,
        settings: Delivery,
        now: Callable[[], float],
        steady: Callable[[], float],
        look_every: float,
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._spool = spool
        self._destinations = destinations
        self._routes = routes
        self._couriers = couriers
        self._elsewhere = elsewhere
        self._shares = Shares(couriers.trouble.resumes_at)
        self._settling = settling
        self._settings = settings
        self._now = now
        self._steady = steady
        self._look_every = look_every
        self.window = window
        self._on_disk = on_disk
        self._lookups = Lookups(self._resolve, self._answered, tasks)
        self._looked_up = LookedUp(steady)
        self._cursor: Cursor | None = None
        self._looked_to = FIRST
        self._next_look = 0.0
        self._wake = wake
        self._stopped = False

    def reconfigure(self, settings: Delivery) -> None:
        """For all that is not under way: it goes where the new routes say, and is looked up again."""
        self._settings = settings
        self._destinations.reconfigure(settings)
        self._looked_up.forget_answers()
        self._shares.forget()
        self.window.unpark_all()
        self._wake.set()
        for job in self._couriers.take_waiting() + self._lookups.take_waiting():
            self._route(job)

    # What an operator asks.

    def site_waited_for(self, entry: QueueEntry) -> Site | None:
        """In trouble, suspended or behind a breaker: what a recipient waits for that is due and not tried."""
        key = self._on_disk.waits_for(entry.recipient.domain, entry)
        return None if key is None else self._couriers.sites.get(key)

    async def destination_of(self, entry: QueueEntry) -> tuple[Hop, Destination] | None:
        """Where it goes and how, None where that is nowhere or DNS does not tell."""
        found = await self.where(entry.recipient.domain, entry.sender, entry.credential, entry.stream)
        if isinstance(found, Discard):
            return None
        hop, resolution = found
        return (hop, resolution) if isinstance(resolution, Destination) else None

    def sites_of_domains(self) -> dict[str, str]:
        """As far as they are in memory."""
        known = {domain: destination.site for domain, destination in self._looked_up.by_domain.items()}
        return known | self.window.sites_in_trouble()

    def last_destinations(self) -> list[Destination]:
        """Where mail has gone lately."""
        return list(self._looked_up.by_domain.values())

    async def where(
        self, domain: str, sender: str = "", credential: str = "", stream: str = ""
    ) -> tuple[Hop, Resolution] | Discard:
        """Where mail for a domain goes; "" where nothing is known of it that a route could match."""
        way = self._routes().choose(Traits(domain, sender.rpartition("@")[2], credential, stream))
        if isinstance(way, Discard):
            return way
        if way.is_direct:
            resolution = await self._destinations.of_domain(domain)
            destination = resolution if isinstance(resolution, Destination) else NOWHERE_YET
            return self._shares.foremost(way, destination), resolution
        hop = self._shares.foremost(way, NOWHERE_YET)
        return hop, await self._resolve(hop if isinstance(hop, Smarthost) else domain)

    # What reception and the operator's verbs call.

    def has_room(self, message: NewMessage) -> bool:
        """May this message be handed over in memory after its commit?"""
        if self._stopped:
            return False
        recipients = message.envelope.recipients
        domains = {recipient.domain for recipient in recipients}
        return self.window.admits_fresh(domains, message.credential, count=len(recipients)) and not any(
            self._on_disk.waits_for(domain, message) for domain in domains
        )

    def hand_over(self, recipients: Sequence[QueuedRecipient]) -> None:
        """Fresh mail, just committed; its claims are ours from here on."""
        for row in recipients:
            self.window.claim_fresh(*_lane(row), (row.message.id, row.position))
        self._start(recipients)

    def stored(self, message: NewMessage) -> None:
        """Fresh mail that was not handed over is due on disk."""
        self._on_disk.left((domain, message) for domain in {each.domain for each in message.envelope.recipients})
        self._wake.set()

    def released(self, lanes: Iterable[LaneKey]) -> None:
        """Mail that was held is due again, behind the walk. It is read although a way of its domain is parked: it may
        be another's, and nobody else would look for it before that ends.
        """
        for lane in lanes:
            self.window.mark_more(*lane)
        self._wake.set()

    def retry_now(self, lanes: Iterable[LaneKey]) -> None:
        """As `released`, and a site in trouble is no reason to wait."""
        for lane in lanes:
            self.window.urge(*lane)
        self._wake.set()

    def suspend(self, suspensions: Mapping[str, Suspension]) -> None:
        """The sites that nothing is sent to from now on, by name, whatever was before."""
        if self._couriers.suspend(suspensions):
            self._wake.set()

    def look_again(self) -> None:
        """Mail may go that could not before, from one of our addresses."""
        self.window.unpark_all()
        self._wake.set()

    def drop(self, claims: AbstractSet[Claim]) -> None:
        """An operator held or cancelled these: they are taken out of every line. What is under way ends by itself."""
        if not claims:
            return
        for jobs in (self._elsewhere.jobs, *self._lookups.waiting()):
            self._drop_from(jobs, claims)
        for site in self._couriers.sites.values():
            jobs = site.take_all()
            self._drop_from(jobs, claims)
            for job in jobs:
                site.add(job)

    def _drop_from(self, jobs: list[Job], claims: AbstractSet[Claim]) -> None:
        for job in jobs:
            dropped = [each for each in job.recipients if (job.message.id, each.position) in claims]
            job.recipients = [each for each in job.recipients if each not in dropped]
            self.window.forget(dropped)
        jobs[:] = [job for job in jobs if job.recipients]

    # The walk.

    async def run(self) -> None:
        """Until `stop`. A spool that cannot be read ends the worker: recovery starts anew."""
        await self._end_in_doubt()
        while not self._stopped:
            self._wake.clear()
            for job in self._elsewhere.take():
                self._route(job)
            await self._walk()
            await self._refill()
            await self._look_through()
            self._couriers.sweep()
            await self._pause()

    async def _end_in_doubt(self) -> None:
        """What an earlier owner was about to send at most once may have been sent: it ends as unknown."""
        while rows := await self._spool.in_doubt(limit=BATCH):
            for row in rows:
                self._settling.in_doubt(row)
            await self._settling.idle.wait()

    def stop(self) -> None:
        """Nothing new is begun; couriers finish what they carry."""
        self._stopped = True
        self._wake.set()
        self._lookups.stop()
        self._couriers.stop()

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(TICK):
                await self._wake.wait()
        except TimeoutError:
            return

    async def _walk(self) -> None:
        if self._cursor is not None and self._cursor[0] > self._now():
            self._cursor = None  # the clock was set back: what is due now may lie behind
        while not self._stopped and self.window.free > 0:
            rows = await self._spool.due(after=self._cursor, until=self._now(), limit=BATCH)
            if not rows:
                return
            self._cursor = rows[-1].cursor
            self._start([row for row in rows if self._admit(row)])

    def _admit(self, row: QueuedRecipient) -> bool:
        """It is claimed then."""
        lane = _lane(row)
        if self._is_claimed(row) or self._waits_for_its_site(row):
            return False
        if self.window.admits(*lane):
            self._claim(row)
            return True
        self.window.leave(*lane)
        return False

    def _admit_read(self, row: QueuedRecipient, *, of: LaneKey) -> bool:
        """As `_admit`, where there is room for the lane it was read of."""
        lane = _lane(row)
        if self._is_claimed(row) or self._waits_for_its_site(row):
            return False
        if lane == of or self.window.has_place(*lane):
            self._claim(row)
            return True
        self.window.mark_more(*lane)
        return False

    def _claim(self, row: QueuedRecipient) -> None:
        self.window.claim(*_lane(row), (row.message.id, row.position))

    def _is_claimed(self, row: QueuedRecipient) -> bool:
        return self.window.is_claimed((row.message.id, row.position))

    def _waits_for_its_site(self, row: QueuedRecipient) -> bool:
        """Then its lane is read again when the site is tried."""
        if self._on_disk.waits_for(row.recipient.domain, row.message) is None:
            return False
        self.window.mark_waiting(*_lane(row))
        return True

    async def _refill(self) -> None:
        for lane in self.window.readable(now=self._steady(), limit=BATCH):
            room = min(self.window.room_for(*lane), self.window.free)
            if self._stopped or self.window.free <= 0:
                return
            if room > 0:
                await self._read_page(lane, limit=min(room, BATCH))

    async def _read_page(self, lane: LaneKey, *, limit: int) -> None:
        domain, credential = lane
        after = self.window.next_page(*lane)
        rows, last = await self._spool.due_in(domain, credential, after=after, until=self._now(), limit=limit)
        self._start([row for row in rows if self._admit_read(row, of=lane)])
        self.window.page_read(*lane, last=last)

    async def _look_through(self) -> None:
        """Again and again a slice of the queue is looked at, whatever it waits for: a site in trouble, a turn, the
        window. What has expired ends. What is due later than any wait that is meant was put off by a clock that has
        been set back since, and is due now.
        """
        if self._steady() < self._next_look:
            return
        self._next_look = self._steady() + self._look_every
        now = self._now()
        found, self._looked_to = await self._spool.out_of_time(
            after=self._looked_to, expired_at=now, due_after=now + longest_wait(self._settings.retry), limit=BATCH
        )
        self._expire([row for row in found if is_over(row, now)])
        self._start([row for row in found if row.due_at > now and self._admit(row)])

    def _expire(self, over: Sequence[QueuedRecipient]) -> None:
        """But for what is under way. One report tells of all that ends of a message."""
        self.drop({(row.message.id, row.position) for row in over if self._is_claimed(row)})
        free = [row for row in over if not self._is_claimed(row)]
        for row in free:
            self._claim(row)
        for _, rows in groupby(free, key=lambda row: row.message.id):
            ending = list(rows)
            self._settling.expired(ending[0].message, ending)

    # From recipients to jobs to sites.

    def _start(self, recipients: Sequence[QueuedRecipient]) -> None:
        """These are claimed."""
        for job in _jobs(recipients, most=self._settings.recipients):
            self._route(job)

    def _route(self, job: Job) -> None:
        if not self._settling.end_expired(job):
            return
        way = self._on_disk.way(job.domain, job.message)
        if isinstance(way, Discard):
            self._settling.discarded(job)
            return
        job.way = way
        key = self._key(job)
        known = self._looked_up.answer(key)
        if known is not None:
            self._enqueue(job, known, key)
        else:
            self._lookups.add(key, job)

    def _key(self, job: Job) -> LookupKey:
        """Whom to ask. Through which smarthost it goes is chosen before, from which of our addresses after that."""
        hop = job.domain if job.way.is_direct else self._shares.choose(job.way, job)
        return hop if isinstance(hop, Smarthost) else job.domain

    def _enqueue(self, job: Job, destination: Destination, key: LookupKey) -> None:
        self._looked_up.note(job.domain, destination)
        job.destination = destination
        hop = key if isinstance(key, Smarthost) else self._shares.choose(job.way, job, destination.site)
        self._couriers.enqueue(job, hop)

    async def _resolve(self, key: LookupKey) -> Resolution:
        if isinstance(key, Smarthost):
            return await self._destinations.of_smarthost(key)
        return await self._destinations.of_domain(key)

    def _answered(self, key: LookupKey, resolution: Resolution, jobs: Sequence[Job]) -> None:
        match resolution:
            case Destination():
                self._looked_up.remember(key, resolution)
                for job in jobs:
                    self._enqueue(job, resolution, key)
            case Undeliverable():
                for job in jobs:
                    self._settling.undeliverable(job, resolution)
            case Unresolved(detail=detail):
                for job in jobs:
                    if not (isinstance(key, Smarthost) and self._elsewhere.pass_on(job, key, detail)):
                        self._settling.unreached(job, detail, Where(detour=job.detour))


def _lane(row: QueuedRecipient) -> LaneKey:
    return row.recipient.domain, row.message.credential


def longest_wait(retry: Retry) -> float:
    """Nothing is put off by more."""
    return max(*retry.ladder, retry.obey) * (1 + retry.jitter)


def _jobs(recipients: Sequence[QueuedRecipient], *, most: int) -> list[Job]:
    """One job for each message and domain, of at most `most` recipients."""
    jobs: list[Job] = []
    open_jobs: dict[tuple[str, str], Job] = {}
    for recipient in recipients:
        key = (recipient.message.id, recipient.recipient.domain)
        job = open_jobs.get(key)
        if job is None or len(job.recipients) >= most:
            job = open_jobs[key] = Job(recipient.message, recipient.recipient.domain, [])
            jobs.append(job)
        job.recipients.append(recipient)
    return jobs
