"""delivery.telling: changes of what sites may have, in the log and in the site log (`journal.site_log`).

Of a site's lowerings one is told at once, and of its growth one, then not more than one each in ten seconds; the next
line says how many were left out. `relay site show` has the last of them all. A breaker that trips or closes is told
each time: there are quarters of an hour between.
"""

from collections.abc import Callable

from relay.delivery.feedback import Change
from relay.delivery.machine_breakers import BreakerChange
from relay.journal.site_log import SiteLog
from relay.log import Log
from relay.mail.site import place_parts

EVERY = 10.0  # seconds
_WATCHED = 10_000  # sites, twice


class Telling:
    """Of a site under the name by which it is counted, for one of our addresses. steady: seconds that never jump."""

    def __init__(self, log: Log, site_log: SiteLog, steady: Callable[[], float]) -> None:
        self._log = log
        self._site_log = site_log
        self._steady = steady
        self._told: dict[tuple[str, str, bool], tuple[float, int]] = {}  # when last, and how many were left out since

    def __call__(self, site: str, change: Change | BreakerChange) -> None:
        if isinstance(change, BreakerChange):
            self._tell_of_breaker(site, change)
        else:
            self._tell_of_limit(site, change)

    def _tell_of_breaker(self, site: str, change: BreakerChange) -> None:
        scope = change.scope
        told = {"site": site, "source": scope.source, "scope": scope.sender_domain or "our address"}
        whose = f"mail of {scope.sender_domain}" if scope.sender_domain else "all mail from our address"
        if change.pause:
            self._log.warning("breaker tripped", **told, cause=change.cause, probe_in=round(change.pause))
            detail = f"{whose} waits {round(change.pause / 60)} min for a probe: {change.cause}"
            self._site_log.note(site, scope.source, "breaker tripped", detail)
        else:
            self._log.info("breaker closed", **told)
            self._site_log.note(site, scope.source, "breaker closed", f"{whose} goes on: {change.cause}")

    def _tell_of_limit(self, site: str, change: Change) -> None:
        key, now = (site, change.what, change.is_lowering), self._steady()
        told_at, left_out = self._told.get(key, (float("-inf"), 0))
        if now - told_at < EVERY:
            self._told[key] = (told_at, left_out + 1)
            return
        if len(self._told) >= _WATCHED:
            self._told.clear()
        self._told[key] = (now, 0)
        name, source = place_parts(site)
        what = "slowed" if change.is_lowering else "sped up"
        more = f" (and {left_out} more since the last)" if left_out else ""
        self._site_log.note(name, source, what, f"{change}{more}")
        self._log.info(
            f"site {what}",
            site=name,
            source=source,
            what=change.what,
            before=round(change.before, 3),
            after=round(change.after, 3),
            cause=change.cause,
            left_out=left_out,
        )
