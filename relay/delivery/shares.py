"""delivery.shares: by which hop of its way a message goes, and how it goes on to the next. No IO.

The hops of a way are the smarthosts of a route, or those of our addresses that are a pool. A message goes by one that
can take it now: not to a smarthost that gives no session, refuses our account, has used up its quota or is suspended;
and not from an address that is not this machine's, or that the site refuses or is in trouble with, for as long as that
lasts. Among those that can, `Shares` keeps to the weights without a random number: each message gives every one its
weight in credit, and the one with most credit carries it and pays what all were given. So after any number of messages
each has had its share to within one, and one that comes back gets its share, not what it has missed. All recipients of
one message at a site, or through smarthosts, go by the same hop. Where none can, it waits for the first to be tried
again.

From our addresses every site has shares of its own, for what a site has seen of an address is what it judges it by. An
address can only reach those of its own family: where the destination has both, those of the family it is to be dialled
at first share, and the others are for when none of these can. What was put off before goes from one and the same
address each time, as its id has it: a server that greylists wants to see it again from there.

What one hop could not carry goes on to the next in the same attempt, through `Elsewhere`, and no retry ladder is
climbed for it: where nothing was said of the recipient or the message, and nothing may have been taken.
"""

import asyncio
import zlib
from collections.abc import Callable, Iterable, Sequence

from relay.delivery.destination import Destination
from relay.delivery.routing import Direct, Hop, Smarthost, Way
from relay.delivery.site import Job
from relay.metrics import Metrics

MOST_SITES = 10_000  # whose shares are kept; forgotten, they begin anew

ResumesAt = Callable[[Hop, str], float]


class Shares:
    """One shard's. resumes_at: when a hop can carry mail again to a site (by its name; a smarthost is its own), 0.0 for
    now; POSIX seconds that never jump.
    """

    def __init__(self, resumes_at: ResumesAt) -> None:
        self._resumes_at = resumes_at
        self._credits: dict[tuple[Way, str], dict[Hop, int]] = {}
        self._last: tuple[str, Way, str, Hop] | None = None

    def choose(self, way: Way, job: Job, site: str = "") -> Hop:
        """One that has not passed it on in this attempt. site: where direct mail goes."""
        if len(way.members) == 1:
            return way.members[0]
        able = _able(way, job.destination)
        left = [each for each in able if each not in job.passed] or able
        ready = [each for each in left if not self._resumes_at(each, site)]
        if not ready:
            return min(left, key=lambda each: self._resumes_at(each, site))
        sharing = _foremost(way, ready, job.destination)
        if len(sharing) == 1:
            return sharing[0]
        if way.is_direct and job.recipients[0].attempts:
            return _by_id(way, sharing, job.message.id)
        return self._by_share(way, sharing, job.message.id, site)

    def foremost(self, way: Way, destination: Destination) -> Hop:
        """Of those that can carry mail now the one with the largest share: for who asks where mail goes."""
        weights, able = _weights(way), _able(way, destination)
        ready = [each for each in able if not self._resumes_at(each, destination.site)]
        return max(_foremost(way, ready or able, destination), key=weights.__getitem__)

    def forget(self) -> None:
        """The routes are others."""
        self._credits.clear()
        self._last = None

    def _by_share(self, way: Way, sharing: Sequence[Hop], message: str, site: str) -> Hop:
        if self._last is not None and self._last[:3] == (message, way, site) and self._last[3] in sharing:
            return self._last[3]
        weights, credit = _weights(way), self._credit(way, site)
        for each in sharing:
            credit[each] += weights[each]
        chosen = max(sharing, key=credit.__getitem__)
        credit[chosen] -= sum(weights[each] for each in sharing)
        self._last = (message, way, site, chosen)
        return chosen

    def _credit(self, way: Way, site: str) -> dict[Hop, int]:
        credit = self._credits.get((way, site))
        if credit is None:
            if len(self._credits) >= MOST_SITES:
                self._credits.clear()
            credit = self._credits[way, site] = dict.fromkeys(way.members, 0)
        return credit


class Elsewhere:
    """Jobs on their way from one hop to another. wake: wakes the scheduler, which routes them anew."""

    def __init__(self, wake: asyncio.Event, metrics: Metrics) -> None:
        self.jobs: list[Job] = []
        self._wake = wake
        self._metrics = metrics

    def pass_on(self, job: Job, hop: Hop, why: str) -> bool:
        """Whether there is another to go by. why: what was said to this one, or what failed."""
        if not has_another(job, hop):
            return False
        job.passed = {**job.passed, hop: why}
        if isinstance(hop, Smarthost):
            self._metrics.smarthost_passed_over()
        else:
            self._metrics.source_passed_over()
        self.send([job])
        return True

    def send(self, jobs: list[Job]) -> None:
        """These have not been tried where they waited."""
        if jobs:
            for job in jobs:
                job.tried = {}
            self.jobs += jobs
            self._wake.set()

    def take(self) -> list[Job]:
        jobs, self.jobs = self.jobs, []
        return jobs


def others(job: Job, hop: Hop) -> list[Hop]:
    """The other hops of its way that could carry it."""
    if len(job.way.members) == 1:
        return []
    return [each for each in _able(job.way, job.destination) if each != hop]


def has_another(job: Job, hop: Hop) -> bool:
    """One that this attempt has not come to."""
    return any(each not in job.passed for each in others(job, hop))


def _able(way: Way, destination: Destination) -> Sequence[Hop]:
    """Those that reach an address of the destination; all, where none does: then whichever it is says so."""
    if not way.is_direct:
        return way.members
    addresses = destination.addresses
    return [each for each in way.members if _reaches(each, addresses)] or way.members


def _foremost(way: Way, ready: Sequence[Hop], destination: Destination) -> Sequence[Hop]:
    """Those that share: of the family that is dialled first, while one of these has a share at all."""
    weights = _weights(way)
    sharing = [each for each in ready if weights[each]] or ready[:1]
    if not way.is_direct:
        return sharing
    for address in destination.addresses:
        reaching = [each for each in sharing if _reaches(each, (address,))]
        if reaching:
            return reaching
    return sharing


def _reaches(hop: Hop, addresses: Iterable[str]) -> bool:
    return not isinstance(hop, Direct) or any(map(hop.reaches, addresses))


def _by_id(way: Way, sharing: Sequence[Hop], message: str) -> Hop:
    """The same each time, and each as often as its weight has it."""
    weights = _weights(way)
    point = zlib.crc32(message.encode()) % sum(weights[each] for each in sharing)
    for each in sharing:
        point -= weights[each]
        if point < 0:
            return each
    return sharing[-1]


def _weights(way: Way) -> dict[Hop, int]:
    return dict(zip(way.members, way.weights, strict=True))
