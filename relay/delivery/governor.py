"""delivery.governor: how hard a site may be pushed.

Per site a window of connections: it starts small, grows by one per window of successes up to the profile's number,
and is halved at once by a 421 or a lost connection (RFC 5321 3.8). A site none of whose hosts gives a session is in
trouble: its mail waits on disk and one message probes it, first after 30 s, then at doubling intervals up to 15
minutes. Waiting for a site climbs nobody's retry ladder.

The profile's numbers hold for the machine, not per worker; `SiteLimits` is asked before a connection is opened or a
paced message is sent. `LocalLimits` answers where there is one worker; the switchboard where there are several.
"""

from collections.abc import Callable
from typing import Protocol

from relay.config.rules import Profile

PROBE_FIRST = 30.0
PROBE_LONGEST = 900.0


class SiteLimits(Protocol):
    async def acquire(self, site: str, *, maximum: int) -> bool:
        """One more connection to the site; False when the machine has `maximum` already."""

    def release(self, site: str) -> None:
        """A connection is closed."""

    async def pace(self, site: str, *, per_second: float) -> float:
        """Seconds to wait before the next message; a token is taken for it."""


class Governor:
    """One site's window and trouble. Times are POSIX seconds that never jump."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.window = float(min(2, profile.connections))
        self.failures = 0
        self.retry_at = 0.0

    @property
    def connections(self) -> int:
        return 1 if self.failures else int(self.window)

    @property
    def in_trouble(self) -> bool:
        return self.failures > 0

    def succeeded(self) -> None:
        self.failures = 0
        self.retry_at = 0.0
        self.window = min(float(self.profile.connections), self.window + 1 / self.window)

    def pushed_back(self) -> None:
        """A 421 or a connection lost: fewer at once."""
        self.window = max(1.0, self.window / 2)

    def unreachable(self, *, now: float) -> None:
        """No host gave a session."""
        self.pushed_back()
        self.failures += 1
        self.retry_at = now + min(PROBE_LONGEST, PROBE_FIRST * 2 ** (self.failures - 1))


class LocalLimits:
    """SiteLimits where one worker is the whole machine. `now`: seconds that never jump."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._connections: dict[str, int] = {}
        self._next: dict[str, float] = {}

    async def acquire(self, site: str, *, maximum: int) -> bool:
        return self.try_acquire(site, maximum=maximum)

    def try_acquire(self, site: str, *, maximum: int) -> bool:
        open_now = self._connections.get(site, 0)
        if open_now >= maximum:
            return False
        self._connections[site] = open_now + 1
        return True

    def release(self, site: str) -> None:
        left = self._connections.get(site, 1) - 1
        if left:
            self._connections[site] = left
        else:
            self._connections.pop(site, None)

    async def pace(self, site: str, *, per_second: float) -> float:
        return self.reserve(site, per_second=per_second)

    def reserve(self, site: str, *, per_second: float) -> float:
        now = self._now()
        turn = max(now, self._next.get(site, 0.0))
        self._next[site] = turn + 1 / per_second
        return turn - now
