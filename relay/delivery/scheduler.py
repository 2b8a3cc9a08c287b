"""delivery.scheduler: brings what is owed and due to the couriers, without holding the queue in memory.

Fresh mail is handed over in memory after its commit. Everything else is read from the spool: one walk over the due
index, oldest first, that never goes back (`Window` says why it need not), and a refill of each domain that had more
than its share. What is read becomes jobs: recipients of one message in one domain, going one way. A job waits here
while its domain is looked up, then at its site for a courier.

Mail of a site in trouble is given back to the disk and its domain parked until the site is probed: no recipient's
retry ladder is climbed for it. A recipient past its expiry ends here, attempted or not: when its turn comes, or when
the look through the queue that never ends comes by.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import groupby

from relay.config.models import Delivery, Retry
from relay.delivery.courier import Couriers
from relay.delivery.destination import Destination, Destinations, Resolution, Undeliverable, Unresolved
from relay.delivery.routing import DIRECT, Discard, Hop, Routes, Smarthost, Traits, Way
from relay.delivery.settling import Settling, is_over
from relay.delivery.site import Job, Site, SiteKey
from relay.delivery.window import Claim, Window
from relay.spool import Cursor, NewMessage, QueuedRecipient, QueueEntry
from relay.spool.spool import FIRST, Spool

LOOKUPS = 500  # domains looked up at once ...
FIRST_LOOKUPS = 20  # ... and after a start: each that ends lets one more begin
BATCH = 500
TICK = 1.0
RESOLVED_FOR = 60.0  # the resolver's cache knows the TTLs; this only spares it the question for every message
RESOLVED_KEPT = 10_000

LookupKey = tuple[Hop, str]  # the domain where its DNS is asked, "" where a route names the host


@dataclass(slots=True)
class Lookup:
    """Jobs that wait for one answer."""

    hop: Hop
    domain: str
    jobs: list[Job] = field(default_factory=list)


class Scheduler:
    """One shard's. `tasks` owns every task begun here; `now` gives POSIX seconds, `steady` such
    as never jump.
    """

    def __init__(
        self,
        *,
        spool: Spool,
        window: Window,
        wake: asyncio.Event,
        destinations: Destinations,
        routes: Callable[[], Routes],
        couriers: Couriers,
        settling: Settling,
        settings: Delivery,
        now: Callable[[], float],
        steady: Callable[[], float],
        tasks: asyncio.TaskGroup,
    ) -> None:
        self._spool = spool
        self._destinations = destinations
        self._routes = routes
        self._couriers = couriers
        self._settling = settling
        self._settings = settings
        self._now = now
        self._steady = steady
        self._tasks = tasks
        self.window = window
        self._lookups: dict[LookupKey, Lookup] = {}
        self._resolved: OrderedDict[LookupKey, tuple[Destination, float]] = OrderedDict()
        self._unasked: deque[LookupKey] = deque()  # those of the lookups that wait for others to end
        self._asked: set[asyncio.Task[None]] = set()
        self._lookups_at_once = FIRST_LOOKUPS
        self._cursor: Cursor | None = None
        self._looked_to = FIRST
        self._next_look = 0.0
        self._wake = wake
        self._stopped = False

    def reconfigure(self, settings: Delivery) -> None:
        """For all that is not under way: it goes where the new routes say, and is looked up again."""
        self._settings = settings
        self._destinations.reconfigure(settings)
        self._resolved.clear()
        jobs = self._couriers.take_waiting()
        for lookup in self._lookups.values():
            jobs += lookup.jobs
            lookup.jobs = []
        for job in jobs:
            self._route(job)

    # What an operator asks.

    def site_in_trouble(self, entry: QueueEntry) -> Site | None:
        """What a recipient waits for that is due and not tried."""
        key = self._parked(entry.recipient.domain, entry.sender, entry.credential, entry.stream)
        return None if key is None else self._couriers.sites.get(key)

    def sites_of_domains(self) -> dict[str, str]:
        """As far as they are in memory."""
        known = {domain: destination.site for (_, domain), (destination, _) in self._resolved.items() if domain}
        return known | self.window.sites_in_trouble()

    # What reception and the operator's verbs call.

    def has_room(self, message: NewMessage) -> bool:
        """May this message be handed over in memory after its commit?"""
        if self._stopped:
            return False
        sender, recipients = message.envelope.sender, message.envelope.recipients
        domains = {recipient.domain for recipient in recipients}
        return self.window.admits_fresh(domains, count=len(recipients)) and not any(
            self._parked(domain, sender, message.credential, message.stream) for domain in domains
        )

    def hand_over(self, recipients: Sequence[QueuedRecipient]) -> None:
        """Fresh mail, just committed; its claims are ours from here on."""
        self._dispatch(recipients)

    def stored(self, domains: Iterable[str]) -> None:
        """Recipients of these domains became due on disk behind the walk: reports, released mail, retries now."""
        self.window.mark_all(domains)
        self._wake.set()

    def retry_now(self, domains: Iterable[str]) -> None:
        """As `stored`, and a site in trouble is no reason to wait."""
        for domain in domains:
            self.window.urge(domain)
        self._wake.set()

    def drop(self, claims: AbstractSet[Claim]) -> None:
        """An operator held or cancelled these: they are taken out of every line. What is under way ends by itself."""
        if not claims:
            return
        for jobs in (lookup.jobs for lookup in self._lookups.values()):
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
        for task in self._asked:
            task.cancel()
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
            rows = await self._spool.due(after=self._cursor, until=self._now(), limit=min(BATCH, self.window.free))
            if not rows:
                return
            self._cursor = rows[-1].cursor
            self._dispatch([row for row in rows if self._admit(row)])

    def _admit(self, row: QueuedRecipient) -> bool:
        if self._is_claimed(row) or self._waits_for_its_site(row):
            return False
        if self.window.admits(row.recipient.domain):
            return True
        self.window.mark_more(row.recipient.domain)
        return False

    def _is_claimed(self, row: QueuedRecipient) -> bool:
        return self.window.is_claimed((row.message.id, row.position))

    def _waits_for_its_site(self, row: QueuedRecipient) -> bool:
        message = row.message
        return self._parked(row.recipient.domain, message.sender, message.credential, message.stream) is not None

    def _parked(self, domain: str, sender: str, credential: str, stream: str) -> SiteKey | None:
        """The site in trouble that it waits for."""
        parked = self.window.parked(domain, now=self._steady())
        if not parked:
            return None
        way = self._way(domain, sender, credential, stream)
        if isinstance(way, Discard) or way not in parked:
            return None
        return (parked[way].site, way)

    async def _refill(self) -> None:
        for domain in self.window.readable(now=self._steady(), limit=BATCH):
            if self._stopped or self.window.free <= 0:
                return
            after, limit = self.window.next_page(domain), self.window.per_domain
            rows = await self._spool.due_in(domain, after=after, until=self._now(), limit=limit)
            self._dispatch([row for row in rows if not (self._is_claimed(row) or self._waits_for_its_site(row))])
            self.window.page_read(domain, last=rows[-1].cursor if rows else None)

    async def _look_through(self) -> None:
        """Once a tick a slice of the queue is looked at, whatever it waits for: a site in trouble, a turn, the window.
        What has expired ends. What is due later than any wait that is meant was put off by a clock that has been set
        back since, and is due now.
        """
        if self._steady() < self._next_look:
            return
        self._next_look = self._steady() + TICK
        now = self._now()
        found, self._looked_to = await self._spool.out_of_time(
            after=self._looked_to, expired_at=now, due_after=now + longest_wait(self._settings.retry), limit=BATCH
        )
        self._expire([row for row in found if is_over(row, now)])
        self._dispatch([row for row in found if row.due_at > now and self._admit(row)])

    def _expire(self, over: Sequence[QueuedRecipient]) -> None:
        """But for what is under way. One report tells of all that ends of a message."""
        self.drop({(row.message.id, row.position) for row in over if self._is_claimed(row)})
        free = [row for row in over if not self._is_claimed(row)]
        for row in free:
            self.window.claim(row.recipient.domain, (row.message.id, row.position))
        for _, rows in groupby(free, key=lambda row: row.message.id):
            ending = list(rows)
            self._settling.expired(ending[0].message, ending)

    # From recipients to jobs to sites.

    def _dispatch(self, recipients: Sequence[QueuedRecipient]) -> None:
        for recipient in recipients:
            self.window.claim(recipient.recipient.domain, (recipient.message.id, recipient.position))
        for job in _jobs(recipients, most=self._settings.recipients):
            self._route(job)

    def _route(self, job: Job) -> None:
        if not self._settling.end_expired(job):
            return
        message = job.message
        way = self._way(job.domain, message.sender, message.credential, message.stream)
        if isinstance(way, Discard):
            self._settling.discarded(job)
            return
        key = (way, job.domain if way is DIRECT else "")
        known = self._resolved.get(key)
        if known is not None and known[1] > self._steady():
            self._couriers.enqueue(job, known[0], way)
            return
        self._look_up(key, way, job)

    def _way(self, domain: str, sender: str, credential: str, stream: str) -> Way:
        return self._routes().choose(Traits(domain, sender.rpartition("@")[2], credential, stream))

    def _look_up(self, key: LookupKey, hop: Hop, job: Job) -> None:
        lookup = self._lookups.get(key)
        if lookup is None:
            lookup = self._lookups[key] = Lookup(hop, job.domain)
            self._unasked.append(key)
            self._ask()
        lookup.jobs.append(job)

    def _ask(self) -> None:
        """All that is begun goes on in step: with thousands begun at a start, the first mail would leave after them."""
        while self._unasked and len(self._asked) < self._lookups_at_once and not self._stopped:
            key = self._unasked.popleft()
            task = self._tasks.create_task(self._answer(key, self._lookups[key]))
            self._asked.add(task)
            task.add_done_callback(self._asked_one)

    def _asked_one(self, task: asyncio.Task[None]) -> None:
        self._asked.discard(task)
        self._lookups_at_once = min(LOOKUPS, self._lookups_at_once + 1)
        if not task.cancelled():
            self._ask()

    async def _answer(self, key: LookupKey, lookup: Lookup) -> None:
        resolution = await self._resolve(lookup)
        del self._lookups[key]
        match resolution:
            case Destination():
                self._remember(key, resolution)
                for job in lookup.jobs:
                    self._couriers.enqueue(job, resolution, lookup.hop)
            case Undeliverable():
                for job in lookup.jobs:
                    self._settling.undeliverable(job, resolution)
            case Unresolved(detail=detail):
                for job in lookup.jobs:
                    self._settling.unreached(job, detail)

    async def _resolve(self, lookup: Lookup) -> Resolution:
        if isinstance(lookup.hop, Smarthost):
            return await self._destinations.of_smarthost(lookup.hop.host, lookup.hop.port, login=lookup.hop.login)
        return await self._destinations.of_domain(lookup.domain)

    def _remember(self, key: LookupKey, destination: Destination) -> None:
        self._resolved[key] = (destination, self._steady() + RESOLVED_FOR)
        self._resolved.move_to_end(key)
        if len(self._resolved) > RESOLVED_KEPT:
            self._resolved.popitem(last=False)


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
