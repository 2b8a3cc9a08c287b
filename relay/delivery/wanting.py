"""delivery.wanting: sites of one worker that want a connection when the machine has as many as it may.

Sites of a provider may have their limits in common: what one of them has, another has not. Those that wait for one
limit stand in line, and one at a time asks again, four times a second and whenever the last one got what it wanted: so
a thousand of them ask no more often than one does. Who has asked in vain goes to the end.

A connection goes on to the next in line, and ends for it, where that site has two less, or when it has none and the
connection has served its own for a second; and when it is spent, where that site has less. So the sites of a provider
that have mail at a worker have as many connections of it each, to within one, and where there are fewer connections
than such sites, they go round. Machine-wide, workers share in the same manner: `machine_limits`.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from relay.delivery.connections import Connections
from relay.delivery.site import Line, Site

ASK_AGAIN = 0.25  # seconds until the machine's limit is asked for a connection again
TERM = 1.0  # seconds that a connection serves its own site while another has none


class Wanting:
    """One shard's. connections: all that it has. resume: called with a site that may ask now. steady: POSIX seconds
    that never jump.
    """

    def __init__(
        self, connections: Connections, resume: Callable[[Site], None], *, steady: Callable[[], float]
    ) -> None:
        self._connections = connections
        self._resume = resume
        self._steady = steady
        self._lines: dict[str, OrderedDict[Site, None]] = {}  # by what they are counted as
        self._timers: dict[str, asyncio.TimerHandle] = {}

    def wait(self, site: Site) -> None:
        """It may have none now."""
        name = site.counted_as
        site.waits_for_limit = True
        self._lines.setdefault(name, OrderedDict())[site] = None
        if name not in self._timers:
            self._timers[name] = asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_again, name)

    def offer(self, name: str) -> None:
        """There may be one: the first in line that has mail asks."""
        while line := self._lines.get(name):
            site = next(iter(line))
            has_mail = site.waiting > 0
            self._take_out(name, site)
            self._resume(site)
            if has_mail:
                return

    async def hand_on(self, site: Site, line: Line) -> bool:
        """Whether the connection ended for another; then the site waits."""
        heir = self._heir(site, line)
        if heir is None:
            return False
        self.wait(site)
        self._take_out(site.counted_as, heir)
        await self._connections.quit(site, line)
        self._resume(heir)
        return True

    def _heir(self, site: Site, line: Line) -> Site | None:
        others = (each for each in self._lines.get(site.counted_as, ()) if each is not site)
        first = next(others, None)
        if first is None or not first.waiting:
            return None
        more = site.connections - first.connections
        enough = 0 if self._connections.is_spent(site, line) else 1
        is_over = not first.connections and self._steady() - line.opened_at >= TERM
        return first if more > enough or is_over else None

    def forget(self) -> None:
        """The limits may be others: all are to be resumed."""
        self._lines.clear()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def _take_out(self, name: str, site: Site) -> None:
        line = self._lines[name]
        del line[site]
        if not line:
            del self._lines[name]

    def _ask_again(self, name: str) -> None:
        del self._timers[name]
        self.offer(name)
        if name in self._lines and name not in self._timers:
            self._timers[name] = asyncio.get_running_loop().call_later(ASK_AGAIN, self._ask_again, name)
