"""server.gauges: what /metrics shows as it is now, read from where it is true.

Most are numbers that another part keeps anyway and are read at each snapshot. The queue's totals look at every
recipient on disk, so they are asked for before a snapshot that somebody waits for, and at most every five seconds.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

from relay.metrics import Source
from relay.resolver import Resolver
from relay.server.machine import DiskSpace
from relay.spool import StatusTotal, Totals
from relay.spool.measures import Measures
from relay.spool.spool import Spool
from relay.submission.server import SubmissionServer

TOTALS_KEPT = 5.0


class Gauges:
    """One worker's. spools: those it owns now. smarthosts: whether each takes mail, by shard. our_addresses: whether
    each can send. waiting_for_warm_ups: domains whose mail does. disk: the space there is. suspended: sites that are
    now. now: POSIX seconds.
    """

    def __init__(
        self,
        *,
        spools: Callable[[], Sequence[Spool]],
        smarthosts: Callable[[], Sequence[Mapping[str, bool]]],
        our_addresses: Callable[[], Mapping[str, bool]],
        waiting_for_warm_ups: Callable[[], int],
        submission: SubmissionServer,
        resolver: Resolver,
        disk: Callable[[], DiskSpace],
        suspended: Callable[[], int],
        now: Callable[[], float],
    ) -> None:
        self._spools = spools
        self._smarthosts = smarthosts
        self._our_addresses = our_addresses
        self._waiting_for_warm_ups = waiting_for_warm_ups
        self._submission = submission
        self._resolver = resolver
        self._disk = disk
        self._suspended = suspended
        self._now = now
        self._totals: list[Totals] = []
        self._totals_at = 0.0
        self._counting = asyncio.Lock()
        self._measures: dict[int, Measures] = {}  # of shards let go of too: no counter goes back

    async def refresh(self) -> None:
        """Before a snapshot that somebody waits for; who comes while the disk is asked waits as well. Raises
        SpoolError.
        """
        async with self._counting:
            if not 0 <= self._now() - self._totals_at < TOTALS_KEPT:
                self._totals = list(await asyncio.gather(*(spool.totals() for spool in self._spools())))
                self._totals_at = self._now()

    def sources(self) -> Mapping[str, Source]:
        """For `Metrics`."""
        return {
            "relay_queue_recipients": self._recipients,
            "relay_queue_oldest_age_seconds": self._ages,
            "relay_sessions_unauthenticated": lambda: self._submission.unauthenticated,
            "relay_smarthost_takes_mail": self._taking_mail,
            "relay_source_can_send": lambda: {name: float(can) for name, can in self._our_addresses().items()},
            "relay_warm_up_waiting_domains": self._waiting_for_warm_ups,
            "relay_sites_suspended": self._suspended,
            "relay_dns_questions": lambda: self._resolver.questions,
            "relay_dns_cache_hits": lambda: self._resolver.cache_hits,
            "relay_dns_failures": lambda: self._resolver.failures,
            "relay_spool_commits": lambda: sum(each.commits for each in self._measured()),
            "relay_spool_operations": lambda: sum(each.operations for each in self._measured()),
            "relay_spool_commit_seconds": lambda: sum(each.commit_seconds for each in self._measured()),
            "relay_spool_refusals": lambda: sum(each.refused_groups for each in self._measured()),
            "relay_spool_cures": lambda: sum(each.cures for each in self._measured()),
            "relay_spool_wal_bytes": lambda: sum(each.measures.wal_octets for each in self._spools()),
            "relay_disk_free_bytes": lambda: self._disk().free,
            "relay_disk_free_ratio": lambda: self._disk().free / (self._disk().total or 1),
            "relay_disk_free_inodes_ratio": self._free_inodes,
            "relay_certificate_expiry_timestamp_seconds": self._expiries,
        }

    def _measured(self) -> Iterable[Measures]:
        self._measures |= {spool.shard: spool.measures for spool in self._spools()}
        return self._measures.values()

    def _recipients(self) -> Mapping[str, float]:
        return {status: sum(each.count for each in totals) for status, totals in self._by_status()}

    def _ages(self) -> Mapping[str, float]:
        return {status: self._age(totals) for status, totals in self._by_status()}

    def _by_status(self) -> Sequence[tuple[str, list[StatusTotal]]]:
        totals = self._totals
        return (
            ("queued", [each.queued for each in totals]),
            ("deferred", [each.deferred for each in totals]),
            ("held", [each.held for each in totals]),
            ("damaged", [each.damaged for each in totals]),
        )

    def _age(self, totals: Sequence[StatusTotal]) -> float:
        oldest = [each.oldest for each in totals if each.oldest]
        return max(0.0, self._now() - min(oldest)) if oldest else 0.0

    def _taking_mail(self) -> Mapping[str, float]:
        known = self._smarthosts()
        return {name: min(float(each[name]) for each in known if name in each) for each in known for name in each}

    def _free_inodes(self) -> Mapping[str, float] | float:
        disk = self._disk()
        return disk.free_inodes / disk.inodes if disk.inodes else {}

    def _expiries(self) -> Mapping[str, float]:
        certificates = self._submission.certificates
        if certificates is None:
            return {}
        return {str(each.pair.certificate): each.expires_at for each in certificates.loaded}
