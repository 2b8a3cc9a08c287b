"""metrics.counting: plain integers that count on the hot path, and the snapshot of them.

An event costs a method call and an addition or two. Sites get a label of their own once they matter: the first SITES
that reach SITE_COUNTS_FROM outcomes in this process; what came before, and all others, is "other". A site keeps its
label until the process ends, since a counter must not move from one label to another.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from relay import __version__
from relay.mail.event import Kind
from relay.metrics.declared import (
    AUTH_FAILURES,
    BOUNDS,
    BY_NAME,
    LISTENERS,
    NO_VERDICT,
    OTHER,
    OUTCOMES,
    PLAIN,
    REJECTION_CODES,
    REPORTS,
    SESSION_REFUSALS,
    SOURCED,
    STAGES,
    VERDICTS,
)

SITES = 50
SITE_COUNTS_FROM = 20
_SITES_WATCHED = 10_000  # counted towards a label at a time

Source = Callable[[], float | Mapping[Any, float]]
Snapshot = dict[str, Any]


class Tally:
    """Counts by one label out of a closed set."""

    __slots__ = ("counts",)

    def __init__(self, words: Iterable[str]) -> None:
        self.counts = dict.fromkeys((*words, OTHER), 0)

    def add(self, word: str, count: int = 1) -> None:
        counts = self.counts
        if word in counts:
            counts[word] += count
        else:
            counts[OTHER] += count


class Histogram:
    """Counts of values up to each bound, and of those beyond the last."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class SiteLabels:
    """Which sites are named in labels."""

    __slots__ = ("_named", "_watched")

    def __init__(self) -> None:
        self._named: set[str] = set()
        self._watched: dict[str, int] = {}

    def label(self, site: str) -> str:
        if site in self._named:
            return site
        if len(self._named) >= SITES or not site:
            return OTHER
        return self._watch(site)

    def _watch(self, site: str) -> str:
        seen = self._watched.get(site, 0) + 1
        if seen < SITE_COUNTS_FROM:
            if len(self._watched) >= _SITES_WATCHED and site not in self._watched:
                self._watched.clear()  # a busy site is back soon, a spray of domains is not
            self._watched[site] = seen
            return OTHER
        self._watched.pop(site, None)
        self._named.add(site)
        return site


class Metrics:
    """What one process counts. streams: the names of relay.toml's streams."""

    def __init__(self, *, streams: Iterable[str], sources: Mapping[str, Source] | None = None) -> None:
        names = tuple(streams)
        self._tallies = {
            "relay_messages_accepted": Tally(names),
            "relay_recipients_accepted": Tally(names),
            "relay_accepted_bytes": Tally(names),
            "relay_rejections": Tally(REJECTION_CODES),
            "relay_sessions_opened": Tally(LISTENERS),
            "relay_sessions": Tally(LISTENERS),
            "relay_sessions_refused": Tally(SESSION_REFUSALS),
            "relay_auth_failures": Tally(AUTH_FAILURES),
            "relay_connections_out_failed": Tally(STAGES),
            "relay_reports": Tally(REPORTS),
        }
        self._plain = dict.fromkeys(PLAIN, 0)
        self._outcomes: dict[tuple[Kind, str, str], int] = {}
        self._sites = SiteLabels()
        self._failed_sources: dict[str, int] = {}
        self._histograms = {name: Histogram(bounds) for name, bounds in BOUNDS.items()}
        self._sources: dict[str, Source] = {}
        self.read_from(sources or {})

    def read_from(self, sources: Mapping[str, Source]) -> None:
        """These are read at each snapshot from now on."""
        unknown = sources.keys() - SOURCED
        if unknown:
            raise ValueError(f"no metric is read from a source under this name: {', '.join(sorted(unknown))}")
        self._sources |= sources

    def accepted(self, stream: str, *, recipients: int, octets: int, commit_seconds: float) -> None:
        """A message answered 250. commit_seconds: from its last octet until it was on disk."""
        self._tallies["relay_messages_accepted"].add(stream)
        self._tallies["relay_recipients_accepted"].add(stream, recipients)
        self._tallies["relay_accepted_bytes"].add(stream, octets)
        self._histograms["relay_accept_commit_seconds"].observe(commit_seconds)

    def outcome(self, kind: Kind, *, site: str, verdict: str, seconds: float) -> None:
        """An attempt or the end of one recipient. verdict: a Blame or "". seconds: since the message was accepted."""
        key = (kind, self._sites.label(site), verdict)
        self._outcomes[key] = self._outcomes.get(key, 0) + 1
        if kind is Kind.DELIVERED:
            self._histograms["relay_delivery_seconds"].observe(seconds)

    def settled(self, *, commit_seconds: float) -> None:
        """What became of one attempt. commit_seconds: from its last reply until it was on disk."""
        self._histograms["relay_settle_commit_seconds"].observe(commit_seconds)

    def report_made(self, action: str) -> None:
        self._tallies["relay_reports"].add(action)

    def message_refused(self, code: int) -> None:
        self._tallies["relay_rejections"].add(str(code))

    def long_lines(self, count: int) -> None:
        self._plain["relay_long_lines"] += count

    def session_opened(self, listener: str) -> None:
        self._tallies["relay_sessions_opened"].add(listener)
        self._tallies["relay_sessions"].add(listener)

    def session_closed(self, listener: str) -> None:
        self._tallies["relay_sessions"].add(listener, -1)

    def session_refused(self, reason: str) -> None:
        self._tallies["relay_sessions_refused"].add(reason)

    def tls_failed(self) -> None:
        self._plain["relay_tls_handshake_failures"] += 1

    def auth_succeeded(self) -> None:
        self._plain["relay_auth_successes"] += 1

    def auth_failed(self, reason: str) -> None:
        self._tallies["relay_auth_failures"].add(reason)

    def connection_opened(self) -> None:
        self._plain["relay_connections_out_opened"] += 1
        self._plain["relay_connections_out"] += 1

    def connection_closed(self) -> None:
        self._plain["relay_connections_out"] -= 1

    def connect_failed(self, stage: str) -> None:
        self._tallies["relay_connections_out_failed"].add(stage)

    def smarthost_passed_over(self) -> None:
        self._plain["relay_smarthost_passed_over"] += 1

    def source_passed_over(self) -> None:
        self._plain["relay_source_passed_over"] += 1

    def worker_restarted(self) -> None:
        self._plain["relay_worker_restarts"] += 1

    def snapshot(self) -> Snapshot:
        """All that is counted here and read from the sources now, as values that survive JSON."""
        values = {name: [[[], count]] for name, count in self._plain.items()}
        for name, tally in self._tallies.items():
            values[name] = [[[word], count] for word, count in tally.counts.items()]
        values |= {name: self._outcome_rows(kind, name) for kind, name in OUTCOMES.items()}
        values |= {name: self._read(name, source) for name, source in self._sources.items()}
        values["relay_metric_source_failures"] = [[[name], count] for name, count in self._failed_sources.items()]
        values["relay_build_info"] = [[[__version__, platform.python_version()], 1]]
        histograms = {name: [list(one.counts), one.total] for name, one in self._histograms.items()}
        return {"values": values, "histograms": histograms}

    def _outcome_rows(self, kind: Kind, name: str) -> list[Any]:
        totals: dict[tuple[str, ...], int] = {}
        for (counted, site, verdict), count in self._outcomes.items():
            if counted is kind:
                by_verdict = (site, verdict if verdict in VERDICTS else NO_VERDICT)
                labels = by_verdict if "verdict" in BY_NAME[name].labels else (site,)
                totals[labels] = totals.get(labels, 0) + count
        return [[list(labels), count] for labels, count in totals.items()]

    def _read(self, name: str, source: Source) -> list[Any]:
        try:
            value = source()
        except Exception:  # noqa: BLE001 - whatever broke, the other metrics are worth having, and this is counted
            self._failed_sources[name] = self._failed_sources.get(name, 0) + 1
            return []
        if isinstance(value, Mapping):
            return [[[label] if isinstance(label, str) else list(label), number] for label, number in value.items()]
        return [[[], value]]
