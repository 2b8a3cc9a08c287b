"""cli.top_looks: what `relay top` shows of one moment, and the rates between two.

The server counts what became of each site's mail; two looks at the counts make a rate. A count that is lower than
before is another process's, or a site's that was forgotten meanwhile: then all of it came since.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from relay.cli import invocation, printing, shards, site_facts
from relay.cli.invocation import Invocation
from relay.cli.site_facts import SiteFacts, Waiting

_KINDS = ("delivered", "deferred", "failed")
Counts = Mapping[tuple[int, str], Mapping[str, int]]  # by shard and site


class Sort(StrEnum):
    """By what the sites are put in order, the largest first; names from a to z."""

    QUEUED = "queued"
    RATE = "rate"
    DEFERRED = "deferred"
    OLDEST = "oldest"
    CONNECTIONS = "connections"
    NAME = "name"


@dataclass(frozen=True, slots=True)
class Look:
    """at: POSIX seconds. owners: shards that a server owns, of so many. unknown: what waits for domains whose site
    nobody has asked for.
    """

    at: float
    owners: int
    shards: int
    sites: list[SiteFacts]
    unknown: Waiting
    counts: Counts

    @property
    def server(self) -> str:
        if not self.owners:
            return "stopped"
        return "running" if self.owners == self.shards else "partly running"


@dataclass(frozen=True, slots=True)
class Row:
    """One site. oldest: seconds. delivered, deferred, failed: recipients per second since the look before. site: ""
    stands for the domains whose site nobody has asked for.
    """

    site: str
    state: str
    queued: int
    oldest: float
    connections: int
    delivered: float
    deferred: float
    failed: float
    last_error: str

    @property
    def deferred_share(self) -> float:
        """Of the recipients that were delivered, failed or put off."""
        tried = self.delivered + self.deferred + self.failed
        return self.deferred / tried if tried else 0.0

    def as_value(self) -> dict[str, Any]:
        """Stable fields."""
        return {
            "site": self.site or None,
            "state": self.state,
            "queued": self.queued,
            "oldest_seconds": round(self.oldest, 3) if self.queued else None,
            "connections": self.connections,
            "delivered_per_second": round(self.delivered, 3),
            "deferred_per_second": round(self.deferred, 3),
            "failed_per_second": round(self.failed, 3),
            "deferred_share": round(self.deferred_share, 4),
            "last_error": self.last_error or None,
        }


@dataclass(frozen=True, slots=True)
class Frame:
    """What is shown. rows: all sites where something goes on, in order."""

    at: float
    server: str
    rows: list[Row]

    @property
    def total(self) -> Row:
        """Of all sites together; its site and state say nothing."""
        rows = self.rows
        return Row(
            site="",
            state="",
            queued=sum(row.queued for row in rows),
            oldest=max((row.oldest for row in rows), default=0.0),
            connections=sum(row.connections for row in rows),
            delivered=sum(row.delivered for row in rows),
            deferred=sum(row.deferred for row in rows),
            failed=sum(row.failed for row in rows),
            last_error="",
        )

    def as_value(self, *, limit: int) -> dict[str, Any]:
        """Stable fields."""
        total = self.total.as_value()
        names = ("queued", "connections", "delivered_per_second", "deferred_per_second", "failed_per_second")
        return {
            "time": printing.iso(self.at),
            "server": self.server,
            **{name: total[name] for name in names},
            "sites": [row.as_value() for row in self.rows[:limit]],
        }


def look(here: Invocation) -> Look:
    """Now. Raises RelayError."""
    answers = invocation.run(shards.ask_owners(here, "status"))
    owned = {shard: answer for shard, answer in answers.items() if answer is not None}
    sites, unknown = site_facts.at_work(here, owned.values())
    counts = {(shard, site): each for shard, answer in owned.items() for site, each in answer["outcomes"].items()}
    return Look(here.now(), len(owned), len(answers), sites, unknown, counts)


def frame(before: Look, after: Look, *, sort: Sort) -> Frame:
    """Of the later look, with what came since the earlier."""
    seconds = max(after.at - before.at, 0.001)
    came = _came(before.counts, after.counts)
    sites: dict[str, list[SiteFacts]] = {}
    for site in after.sites:  # one for each of our addresses
        sites.setdefault(site.name, []).append(site)
    rows = [_row(sites.get(name, []), name, came.get(name, {}), after, seconds) for name in sites.keys() | came.keys()]
    if after.unknown.queued:
        rows.append(_unknown(after))
    shown = [row for row in rows if row.state != "idle" or row.connections or row.site in came]
    return Frame(after.at, after.server, sorted(shown, key=_ORDERS[sort]))


def _came(before: Counts, after: Counts) -> dict[str, dict[str, int]]:
    """By site, where there was anything: what ended or was put off since."""
    found: dict[str, dict[str, int]] = {}
    for key, counts in after.items():
        earlier = before.get(key, {})
        if any(counts[kind] < earlier.get(kind, 0) for kind in _KINDS):
            earlier = {}
        new = {kind: counts[kind] - earlier.get(kind, 0) for kind in _KINDS}
        if any(new.values()):
            total = found.setdefault(key[1], dict.fromkeys(_KINDS, 0))
            for kind in _KINDS:
                total[kind] += new[kind]
    return found


def _row(sites: Sequence[SiteFacts], name: str, came: Mapping[str, int], after: Look, seconds: float) -> Row:
    """sites: the one, from each of our addresses."""
    waiting = sites[0].waiting if sites else Waiting()
    states = [site.state for site in sites] or ["idle"]
    return Row(
        site=name,
        state="sending" if "sending" in states else states[0],
        queued=waiting.queued,
        oldest=after.at - waiting.oldest if waiting.queued else 0.0,
        connections=sum(site.connections for site in sites),
        delivered=came.get("delivered", 0) / seconds,
        deferred=came.get("deferred", 0) / seconds,
        failed=came.get("failed", 0) / seconds,
        last_error=next((site.last_error for site in sites if site.last_error), ""),
    )


def _unknown(after: Look) -> Row:
    unknown = after.unknown
    return Row("", "waiting", unknown.queued, after.at - unknown.oldest, 0, 0.0, 0.0, 0.0, unknown.last_reply)


_ORDERS: Mapping[Sort, Callable[[Row], tuple[float, str]]] = {
    Sort.QUEUED: lambda row: (-row.queued, row.site),
    Sort.RATE: lambda row: (-row.delivered, row.site),
    Sort.DEFERRED: lambda row: (-row.deferred_share, row.site),
    Sort.OLDEST: lambda row: (-row.oldest, row.site),
    Sort.CONNECTIONS: lambda row: (-row.connections, row.site),
    Sort.NAME: lambda row: (0.0, row.site),
}
