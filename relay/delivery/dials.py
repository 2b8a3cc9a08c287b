"""delivery.dials: the sessions that one worker's shard is opening, and how long it is patient with each.

Sites in trouble, and those that take long to give a session, share half of the connections out: many hosts that say
nothing must not have all of them for as long as they may take. A dial that finds no room in that half when it has
become slow is given up, and one to a site that is suspended meanwhile at once.
"""

import asyncio
from dataclasses import dataclass

from relay.delivery.dialler import Dialler, Unreached
from relay.delivery.manner import Manner
from relay.delivery.routing import Smarthost
from relay.delivery.shares import has_another
from relay.delivery.site import Job, Line, Site
from relay.smtpclient import TransactionResult

SLOW = 5.0  # seconds without a session after which dialling needs a place in the half that trouble may have


@dataclass(slots=True, eq=False)
class Dialling:
    """in_trouble: counted among those in trouble. patience: ends it."""

    site: Site
    in_trouble: bool
    patience: asyncio.Timeout

    def give_up(self) -> None:
        """Python 3.11's `wait_for`, by which aiosmtplib waits, loses a cancellation that comes in the very moment of a
        reply; then the session is opened, and its courier finds that nothing may be sent.
        """
        self.patience.reschedule(asyncio.get_running_loop().time())


class Dials:
    """share: connections out that this worker may have."""

    def __init__(self, dialler: Dialler, *, share: int) -> None:
        self.dialler = dialler
        self._share = share
        self._under_way: set[Dialling] = set()
        self._in_trouble = 0

    @property
    def room_for_trouble(self) -> int:
        return max(1, self._share // 2) - self._in_trouble

    @property
    def has_room_for_strangers(self) -> bool:
        """Those that have not become slow yet have a quarter, so that there is always room for known sites."""
        most = max(1, self._share // 4)
        if len(self._under_way) < most:
            return True
        return sum(each.site.is_stranger and not each.in_trouble for each in self._under_way) < most

    async def open(self, site: Site, job: Job) -> Line | Unreached | None:
        """None: it was given up."""
        dialling = Dialling(site, site.in_trouble, asyncio.timeout(None))
        self._under_way.add(dialling)
        self._in_trouble += dialling.in_trouble
        slow = asyncio.get_running_loop().call_later(SLOW, self._has_become_slow, dialling)
        try:
            async with dialling.patience:
                in_haste = isinstance(site.hop, Smarthost) and has_another(job, site.hop)
                manner = Manner.of(site, in_haste=in_haste)
                return await self.dialler.open(job.destination, site.hop, job.tried, manner=manner)
        except TimeoutError:
            return None
        finally:
            slow.cancel()
            self._under_way.discard(dialling)
            self._in_trouble -= dialling.in_trouble

    def is_worth_another_session(self, site: Site, job: Job, line: Line, result: TransactionResult) -> bool:
        """Nothing is decided and nothing was sent: the other end had closed an idle connection or knows no BDAT, which
        costs the job nothing, or the session broke, and another host may do better (RFC 5321 5.1).
        """
        if result.knows_no_chunks:
            self.dialler.known.refused_chunks(line.connection.endpoint.name, result.failure)
            return True
        if result.decided or result.dot_sent:
            return False
        if line.messages > 1 and result.mail is None:
            return True
        endpoint = line.connection.endpoint
        job.tried[endpoint.address] = f"{endpoint}: {result.failure}"
        return self.dialler.has_another(job.destination, site.hop, job.tried)

    def give_up(self, site: Site) -> None:
        """It is suspended: no connection to it is opened any more."""
        for dialling in self._under_way:
            if dialling.site is site:
                dialling.give_up()

    def _has_become_slow(self, dialling: Dialling) -> None:
        if dialling.in_trouble:
            return
        if self.room_for_trouble > 0:
            dialling.in_trouble = True
            self._in_trouble += 1
        else:
            dialling.give_up()
