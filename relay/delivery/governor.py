"""delivery.governor: how hard a site may be pushed, as one worker knows it.

What the site's replies have taught is common to the machine (`delivery.feedback`): the worker is told of it when it
opens a connection and whenever it changes, and tells what happens to its own. `SiteLimits` is who is asked and told:
`delivery.machine_limits` where there is one worker, the switchboard where there are several. Quotas are kept there too.

Trouble is each worker's own: a site none of whose hosts gives a session, while nobody has one, is left alone; its mail
waits on disk and one message probes it, first after 30 s, then at doubling intervals up to 15 minutes, or when the site
said. Waiting for a site climbs nobody's retry ladder.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from relay.config.profiles import Limits
from relay.delivery.breaker import Report, Scope
from relay.delivery.fair_order import Sharer
from relay.delivery.feedback import Allowance, Push
from relay.delivery.known_breakers import HeardBreaker, KnownBreakers
from relay.delivery.pace import Pace
from relay.delivery.quota import NO_QUOTA, Quota

PROBE_FIRST = 30.0
PROBE_LONGEST = 900.0
ASKED_LONGEST = 3600.0
TELL_AT_MOST = 10  # messages taken that nobody was told of yet

Heard = Callable[[str, Allowance, int], int]


class SiteLimits(Protocol):
    """breakers: the machine's, as far as this worker was told."""

    breakers: KnownBreakers

    def follow(self, heard: Heard) -> None:
        """`heard(site, allowance, surplus)` is called with what is allowed from now on and how many of this worker's
        connections are to end for it; it returns how many of them it has not.
        """

    async def acquire(self, site: str, *, maximum: int) -> bool:
        """One more connection to the site; False when the machine has as many as it may. maximum: by configuration."""

    def opened(self, site: str) -> None:
        """It gave a session."""

    def release(self, site: str, *, opened: bool) -> None:
        """The connection is closed, or did not come about."""

    async def pace(self, site: str, pace: Pace, *, count: int, sharer: Sharer) -> float:
        """When the turn of `count` messages has come: a moment to wait, by what configuration allows and what was
        learnt. Longer than `pace.SOON`: they have none, ask again after it. sharer: in whose name.
        """

    async def spend(self, quota: Quota, *, count: int) -> float:
        """0.0, and `count` messages are counted; or, uncounted, the seconds until the quota has room for them."""

    def refund(self, quota: Quota, *, count: int) -> None:
        """So many of those that `spend` counted were not taken."""

    async def used(self, prefix: str) -> dict[str, tuple[int, int]]:
        """Of every quota whose name begins so, what was counted in the last hour and in the last day."""

    def taken(self, site: str, *, messages: int) -> None:
        """The site took so many more."""

    async def pushed_back(self, site: str, push: Push) -> bool:
        """Whether a session that was refused was one too many: others on this machine go on."""

    def follow_breakers(self, heard: HeardBreaker) -> None:
        """`heard(front, told)` is called when one trips or mends, once `breakers` knows of it."""

    async def reported(self, front: str, report: Report) -> bool:
        """Whether a breaker tripped of it; all workers were told then."""

    async def probe(self, front: str, scopes: Sequence[Scope], *, urged: bool) -> float:
        """0.0 where a message that is of these scopes may go, for all that wait at this machine; or the seconds that it
        waits. urged: an operator wants it tried now.
        """


class Governor:
    """One site's. Times are POSIX seconds that never jump. surplus: connections that are to end."""

    def __init__(self, limits: Limits, quota: Quota = NO_QUOTA) -> None:
        self.quota = quota
        self.allowance = Allowance()
        self.surplus = 0
        self.failures = 0
        self.retry_at = 0.0
        self._untold = 0
        self.limit(limits, quota)

    def limit(self, limits: Limits, quota: Quota) -> None:
        """Other ones from now on. What was learnt of the site stays, but that a quota which is another was used up."""
        before = self.quota
        self.limits = limits
        self.quota = quota
        self.pace = Pace.of(limits, quota=self.quota)
        if self.quota != before and not self.in_trouble:
            self.retry_at = 0.0

    @property
    def connections(self) -> int:
        return 1 if self.failures else min(self.limits.connections, self.allowance.connections)

    @property
    def is_paced(self) -> bool:
        return self.pace is not None or self.allowance.per_second > 0

    @property
    def in_trouble(self) -> bool:
        return self.failures > 0

    def succeeded(self) -> int:
        """A message was taken; how many have been that are now to be told."""
        self.failures = 0
        self.retry_at = 0.0
        self._untold += 1
        if self._untold < min(TELL_AT_MOST, self.allowance.connections):
            return 0
        untold, self._untold = self._untold, 0
        return untold

    def rest(self, *, until: float) -> None:
        """It is well, and may have nothing before then: its quota is used up."""
        self.retry_at = until

    def unreachable(self, *, now: float, asked: float = 0.0) -> None:
        """No host gave a session, or a smarthost takes nothing from us. asked: seconds that the site asked to be left
        alone.
        """
        self.failures += 1
        wait = min(PROBE_LONGEST, PROBE_FIRST * 2 ** min(self.failures - 1, 10))
        self.retry_at = now + max(wait, min(asked, ASKED_LONGEST))
