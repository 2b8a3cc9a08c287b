"""delivery.suspending: a site that is suspended because a rule of bounce-rules.toml says so, as an operator would.

It is written where an operator's orders are (`registry.suspensions`), so every worker obeys it, it outlives restarts,
whoever looks is told of it, and `relay site resume` ends it. What an operator ordered is never changed. Where it cannot
be written, nothing is suspended, and the next such reply tries again. What the reply was about is the address that it
was said to: from others of ours mail goes on.
"""

from collections.abc import Awaitable, Callable, Coroutine

from relay.delivery.site import Site
from relay.errors import RelayError
from relay.log import Log
from relay.mail.verdict import Verdict
from relay.registry.suspensions import Suspension

Suspend = Callable[[Suspension], Awaitable[None]]
Begin = Callable[[Coroutine[None, None, None]], None]


class Suspending:
    """suspend: writes one down, and raises RelayError. begin: starts a task that somebody owns. now: POSIX seconds."""

    def __init__(self, suspend: Suspend, *, begin: Begin, log: Log, now: Callable[[], float]) -> None:
        self._suspend = suspend
        self._begin = begin
        self._log = log
        self._now = now

    def obey(self, site: Site, verdict: Verdict, said: str) -> None:
        """said: the reply and its host."""
        if not verdict.suspend or site.suspension is not None:
            return
        now = self._now()
        by = f'the rule "{verdict.rule}"'
        site.suspension = Suspension(site.place, site.mx, now, now + verdict.suspend, by, said)
        self._begin(self._keep(site, site.suspension))

    async def _keep(self, site: Site, suspension: Suspension) -> None:
        try:
            await self._suspend(suspension)
        except RelayError as error:
            self._log.error("site not suspended", site=site.place, error=error.text, remedy=error.remedy)
