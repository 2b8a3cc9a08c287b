"""server.retention: the days of a shard's journal that are past their time are deleted, whole files, once an hour.
Those of the site log too, by whichever shard's looks first.

Never anything of the queue. It goes on for a shard that was adopted and is empty: its journal is still there.
"""

from collections.abc import Callable
from datetime import UTC, date, datetime

from relay.journal.site_log import SiteLog
from relay.journal.store import Journal
from relay.log import Log

LOOK_EVERY = 3600.0


class Retention:
    """One shard's. days: asked each time, so that a reload counts."""

    def __init__(
        self, journal: Journal, site_log: SiteLog, *, days: Callable[[], int], now: Callable[[], float], log: Log
    ) -> None:
        self._journal = journal
        self._site_log = site_log
        self._days = days
        self._now = now
        self._log = log

    async def look(self) -> None:
        """Raises SpoolError."""
        for day in await self._journal.expire(today=self._today(), retention_days=self._days()):
            self._log.info("journal day deleted", day=day.isoformat())
        try:
            self._site_log.expire(today=self._today(), retention_days=self._days())
        except OSError as error:
            self._log.warning("site log not tidied", error=str(error))

    def _today(self) -> date:
        return datetime.fromtimestamp(self._now(), tz=UTC).date()
