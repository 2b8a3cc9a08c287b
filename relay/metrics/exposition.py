"""metrics.exposition: the snapshots of several workers as one, and that one as the text of /metrics.

A dead worker's last snapshot is `retired` (gauges are left out: it has no sessions any more) and from then on merged
with the others', so no counter goes back.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from relay.metrics.counting import Snapshot
from relay.metrics.declared import BOUNDS, BY_NAME, DECLARED, Declared, Labels, Type


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """One snapshot of several: counters and histograms added; a gauge is the sum, the least or the greatest."""
    numbers: dict[str, dict[Labels, list[float]]] = {}
    histograms: dict[str, list[Any]] = {}
    for snapshot in snapshots:
        for name, rows in snapshot["values"].items():
            for labels, value in rows:
                numbers.setdefault(name, {}).setdefault(tuple(labels), []).append(value)
        for name, (counts, total) in snapshot["histograms"].items():
            before, sum_before = histograms.get(name, ([0] * len(counts), 0.0))
            histograms[name] = [[a + b for a, b in zip(before, counts, strict=True)], sum_before + total]
    values = {
        name: [[list(labels), BY_NAME[name].together(found)] for labels, found in rows.items()]
        for name, rows in numbers.items()
    }
    return {"values": values, "histograms": histograms}


def retired(snapshot: Snapshot) -> Snapshot:
    """What stays of a dead worker's last snapshot: what it counted, not what it had."""
    values = {name: rows for name, rows in snapshot["values"].items() if BY_NAME[name].type is Type.COUNTER}
    return {"values": values, "histograms": snapshot["histograms"]}


def render(snapshot: Snapshot) -> bytes:
    """The text of /metrics (text/plain; version=0.0.4)."""
    registry = CollectorRegistry()
    registry.register(_Collector(snapshot))
    return generate_latest(registry)


class _Collector(Collector):
    """prometheus_client's way to be given metrics."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def collect(self) -> Iterator[Metric]:
        for declared in DECLARED:
            if declared.type is Type.HISTOGRAM and declared.name in self._snapshot["histograms"]:
                yield _histogram_family(declared, *self._snapshot["histograms"][declared.name])
            elif rows := self._snapshot["values"].get(declared.name):
                yield _family(declared, rows)


def _family(declared: Declared, rows: list[Any]) -> Metric:
    kind = CounterMetricFamily if declared.type is Type.COUNTER else GaugeMetricFamily
    family = kind(declared.name, declared.help, labels=declared.labels)
    for labels, value in rows:
        family.add_metric(labels, value)
    return family


def _histogram_family(declared: Declared, counts: Sequence[int], total: float) -> Metric:
    names = [*(str(bound) for bound in BOUNDS[declared.name]), "+Inf"]
    buckets = [(name, float(count)) for name, count in zip(names, accumulate(counts), strict=True)]
    family = HistogramMetricFamily(declared.name, declared.help)
    family.add_metric([], buckets=buckets, sum_value=total)
    return family
