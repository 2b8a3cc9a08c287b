"""delivery.outcomes: what became of each site's mail since this process began, for whoever looks twice: `relay top`.

Metrics name the busiest sites alone, since a label must not go away; here a site that was quiet for longest makes room,
and begins anew when it is back. A count that is lower than it was is told from nothing again.
"""

from collections import OrderedDict
from collections.abc import Mapping

from msgspec import Struct

from relay.mail.event import Kind

MOST = 1000  # sites


class Outcomes(Struct):
    """Recipients. deferred: attempts that are to be repeated. failed: ended undelivered."""

    delivered: int = 0
    deferred: int = 0
    failed: int = 0


class SiteOutcomes:
    """One shard's. by_site: the one quiet for longest first."""

    def __init__(self) -> None:
        self._by_site: OrderedDict[str, Outcomes] = OrderedDict()

    @property
    def by_site(self) -> Mapping[str, Outcomes]:
        return self._by_site

    def note(self, site: str, kind: Kind, *, final: bool) -> None:
        """Of one recipient. site: "" for mail that had come to none, which is not counted."""
        if not site:
            return
        counts = self._by_site.get(site)
        if counts is None:
            counts = self._by_site[site] = Outcomes()
            if len(self._by_site) > MOST:
                self._by_site.popitem(last=False)
        self._by_site.move_to_end(site)
        if kind is Kind.DELIVERED:
            counts.delivered += 1
        elif final:
            counts.failed += 1
        else:
            counts.deferred += 1
