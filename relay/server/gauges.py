"""server.gauges: what /metrics shows as it is now, read from where it is true.

Most are numbers that another part keeps anyway and are read at each snapshot. The queue's totals look at every
recipient on disk, so they are asked for before a snapshot that somebody waits for, and at most every five seconds.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from relay.metrics import Source
from relay.resolver import Resolver
from relay.server.machine import DiskSpace
from relay.spool import Spool, StatusTotal, Totals
from relay.submission.server import SubmissionServer

TOTALS_KEPT = 5.0


class Gauges:
    """One worker's. now: POSIX seconds."""

    def __init__(
        self,
        *,
        spools: Sequence[Spool],
        submission: SubmissionServer,
        resolver: Resolver,
        disk: Callable[[], DiskSpace],
        now: Callable[[], float],
    ) -> None:
        self._spools = spools
        self._submission = submission
        self._resolver = resolver
        self._disk = disk
        self._now = now
        self._totals: list[Totals] = []
        self._totals_at = 0.0

    async def refresh(self) -> None:
        """Before a snapshot that somebody waits for. Raises SpoolError."""
        if self._now() - self._totals_at >= TOTALS_KEPT:
            self._totals_at = self._now()
            self._totals = list(await asyncio.gather(*(spool.totals() for spool in self._spools)))

    def sources(self) -> Mapping[str, Source]:
        """For `Metrics`."""
        return {
            "relay_queue_recipients": lambda: {
                status: sum(each.count for each in of) for status, of in self._by_status()
            },
            "relay_queue_oldest_age_seconds": lambda: {status: self._age(of) for status, of in self._by_status()},
            "relay_sessions_unauthenticated": lambda: self._submission.unauthenticated,
            "relay_dns_questions": lambda: self._resolver.questions,
            "relay_dns_cache_hits": lambda: self._resolver.cache_hits,
            "relay_dns_failures": lambda: self._resolver.failures,
            "relay_spool_commits": lambda: sum(each.measures.commits for each in self._spools),
            "relay_spool_operations": lambda: sum(each.measures.operations for each in self._spools),
            "relay_spool_commit_seconds": lambda: sum(each.measures.commit_seconds for each in self._spools),
            "relay_spool_refusals": lambda: sum(each.measures.refused_groups for each in self._spools),
            "relay_spool_wal_bytes": lambda: sum(each.measures.wal_octets for each in self._spools),
            "relay_disk_free_bytes": lambda: self._disk().free,
            "relay_disk_free_ratio": lambda: self._disk().free / (self._disk().total or 1),
            "relay_disk_free_inodes_ratio": self._free_inodes,
            "relay_certificate_expiry_timestamp_seconds": self._expiries,
            "relay_workers": lambda: 1,
        }

    def _by_status(self) -> Sequence[tuple[str, list[StatusTotal]]]:
        totals = self._totals
        return (
            ("queued", [each.queued for each in totals]),
            ("deferred", [each.deferred for each in totals]),
            ("held", [each.held for each in totals]),
        )

    def _age(self, totals: Sequence[StatusTotal]) -> float:
        oldest = [each.oldest for each in totals if each.oldest]
        return max(0.0, self._now() - min(oldest)) if oldest else 0.0

    def _free_inodes(self) -> Mapping[str, float] | float:
        disk = self._disk()
        return disk.free_inodes / disk.inodes if disk.inodes else {}

    def _expiries(self) -> Mapping[str, float]:
        certificates = self._submission.certificates
        if certificates is None:
            return {}
        return {str(each.pair.certificate): each.expires_at for each in certificates.loaded}
