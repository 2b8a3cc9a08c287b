"""delivery.connections: the connections out that one worker has: at work, idle, and being closed.

One counts, here and for the machine, until it is closed: a server that allows no more than there are would refuse the
next, while the last is still saying goodbye. What is left idle is taken by the next job that it suits, and closed when
it has been idle too long, when somebody else needs its place, or when the server has closed it.
"""

from collections.abc import Callable, Coroutine

from relay.delivery.governor import SiteLimits
from relay.delivery.site import Job, Line, Site
from relay.metrics import Metrics

Begin = Callable[[Coroutine[None, None, None]], None]


class Connections:
    """share: how many there may be. begin: starts a task that somebody owns. ended: called when one is closed. steady:
    POSIX seconds that never jump. open: all of them, those that are being opened too.
    """

    def __init__(
        self,
        limits: SiteLimits,
        *,
        share: int,
        begin: Begin,
        ended: Callable[[], None],
        metrics: Metrics,
        steady: Callable[[], float],
    ) -> None:
        self.open = 0
        self.share = share
        self._limits = limits
        self._begin = begin
        self._ended = ended
        self._metrics = metrics
        self._steady = steady
        self._idle: dict[int, tuple[Site, Line]] = {}  # the one idle longest first
        self._stopped = False

    @property
    def busy(self) -> int:
        return self.open - len(self._idle)

    @property
    def is_full(self) -> bool:
        return self.open >= self.share

    def stop(self) -> None:
        """None is left idle any more."""
        self._stopped = True

    def leave(self, site: Site, line: Line) -> None:
        """For the next job, unless it is of no more use."""
        if self.is_spent(site, line) or site.wants_less:
            self.close(site, line)
            return
        line.idle_since = self._steady()
        site.idle.append(line)
        self._idle[id(line)] = (site, line)

    async def put_away(self, site: Site, line: Line) -> None:
        """As `leave`; one that was of no more use counts no more then."""
        if self.is_spent(site, line):
            await self.quit(site, line)
        else:
            self.leave(site, line)

    def is_spent(self, site: Site, line: Line) -> bool:
        most = site.limits.messages_per_connection
        return not line.connection.usable or self._stopped or line.is_spent(most) or not line.has_tls(site.tls)

    def take_idle(self, site: Site, job: Job) -> Line | None:
        """The one used last."""
        for line in reversed(site.idle):
            if site.may_carry(job, line):
                return self._take_out(site, line)
        return None

    async def make_room(self) -> None:
        """By the one idle longest, at whatever site, where there are as many as may be."""
        if self.is_full and self._idle:
            site, line = next(iter(self._idle.values()))
            await self.quit(site, self._take_out(site, line))

    def release_idle(self, name: str = "") -> None:
        """Those that are counted under this name, else all."""
        for site, line in list(self._idle.values()):
            if name in ("", line.counted_as):
                self.close(site, self._take_out(site, line))

    def release_some(self, site: Site, most: int) -> int:
        """How many idle ones of a site are closed."""
        lines = site.idle[:most]
        for line in lines:
            self.close(site, self._take_out(site, line))
        return len(lines)

    def sweep(self) -> None:
        """Close what has been idle too long or was closed by the other end."""
        now = self._steady()
        for site, line in list(self._idle.values()):
            if self._is_over(site, line, now):
                self.close(site, self._take_out(site, line))

    def _is_over(self, site: Site, line: Line, now: float) -> bool:
        return self._stopped or not line.connection.usable or now - line.idle_since >= site.limits.idle

    def _take_out(self, site: Site, line: Line) -> Line:
        """Idle no more."""
        site.idle.remove(line)
        del self._idle[id(line)]
        return line

    def close(self, site: Site, line: Line) -> None:
        """Nobody waits for it."""
        self._begin(self.quit(site, line))

    async def quit(self, site: Site, line: Line) -> None:
        try:
            await line.connection.quit()
        finally:
            self.open -= 1
            site.connections -= 1
            self._limits.release(line.counted_as, opened=True)
            self._metrics.connection_closed()
        self._ended()

    async def claim(self, site: Site) -> str:
        """A place for one more to the site: here, as the caller has seen to, and of the machine's. As what it is
        counted, "" where there is none or the site was suspended meanwhile.
        """
        self.open += 1
        counted_as = site.counted_as
        has_slot = await self._limits.acquire(counted_as, maximum=site.limits.connections)
        if has_slot and site.suspension is None:
            site.connections += 1
            return counted_as
        if has_slot:
            self._limits.release(counted_as, opened=False)
        self.open -= 1
        return ""

    def opened(self, line: Line, counted_as: str) -> None:
        """What was claimed is a session."""
        line.counted_as = counted_as
        line.opened_at = self._steady()
        self._limits.opened(counted_as)
        self._metrics.connection_opened()

    def give_up(self, site: Site, counted_as: str) -> None:
        """What was claimed came to nothing."""
        self.open -= 1
        site.connections -= 1
        self._limits.release(counted_as, opened=False)
