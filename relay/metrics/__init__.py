"""metrics: every metric Relay has, counted as plain integers and shown at /metrics.

Each process counts in one `Metrics` (0.1 to 0.3 µs an event); nothing of prometheus_client is touched before a
scrape. Then `snapshot()` gives the counts as JSON-able values, `merge` adds the snapshots of all workers up, and
`render` writes the text. Gauges, and counters that another module keeps anyway, are read from the truth at each
snapshot: `sources` maps a metric's name (one of `SOURCED`) to a callable that gives a number, or numbers by label. A
source that fails is left out of that scrape and counted. `declared` is the list of all metrics.
"""

from relay.metrics.counting import Metrics, Snapshot, Source
from relay.metrics.declared import SOURCED
from relay.metrics.exposition import merge, render, retired

__all__ = ["SOURCED", "Metrics", "Snapshot", "Source", "merge", "render", "retired"]
