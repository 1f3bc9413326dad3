"""Counters in Prometheus' format, and how to read them.

Counters only ever grow; rates are differences between two readings. Latencies go into *buckets*:
these can be added over replicas and over time before a percentile is taken, which percentiles
themselves cannot (lesson 21, exercise 4).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

BUCKETS = tuple(
    round(0.001 * 1.5**i, 6) for i in range(24)
)  # 1 ms to 11 s, each half as long again
SIZES = (1, 2, 4, 8, 16, 32, 64)


class RouterMetrics:
    """What the router counts; `text()` is what `/metrics` answers."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

        self.registry = CollectorRegistry()
        options = {"registry": self.registry}
        labels = ["model", "version", "status"]
        self.requests = Counter("zoo_requests", "Requests, by HTTP status", labels, **options)
        self.latency = Histogram(
            "zoo_latency_seconds", "From arrival to answer", ["model"], buckets=BUCKETS, **options
        )
        self.batch = Histogram(
            "zoo_batch_size", "Inputs that shared a batch", ["model"], buckets=SIZES, **options
        )
        self.cache = Counter("zoo_cache", "Look-ups, by result", ["result"], **options)
        self.retries = Counter("zoo_retries", "Requests given to another replica", **options)
        self.in_flight = Gauge("zoo_in_flight", "Requests under way", ["model"], **options)
        self.cache_up = Gauge("zoo_cache_up", "1 while Redis answers", **options)
        self.drift_windows = Counter("zoo_drift_windows", "Windows tested", ["result"], **options)
        self.drift_alarm = Gauge("zoo_drift_alarm", "1 while inputs have drifted", **options)
        self.rollbacks = Counter("zoo_rollbacks", "Canaries sent back", **options)

    def text(self) -> str:
        from prometheus_client import generate_latest

        return generate_latest(self.registry).decode()


@dataclass(frozen=True)
class Reading:
    """One reading of `/metrics`: name and sorted labels -> value."""

    values: Mapping[tuple[str, tuple[tuple[str, str], ...]], float] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Reading:
        """Raises ValueError if the text is not in Prometheus' format."""
        from prometheus_client.parser import text_string_to_metric_families

        values = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                values[sample.name, tuple(sorted(sample.labels.items()))] = sample.value
        return cls(values)

    def total(self, name: str, **labels: str) -> float:
        """Sum over all series of this name whose labels include these."""
        wanted = set(labels.items())
        return sum(
            value
            for (found, pairs), value in self.values.items()
            if found == name and wanted <= set(pairs)
        )

    def since(self, earlier: Reading) -> Reading:
        """What was added between two readings. A counter that restarted counts from 0."""
        return Reading(
            {
                key: value - earlier.values.get(key, 0.0)
                if value >= earlier.values.get(key, 0.0)
                else value
                for key, value in self.values.items()
            }
        )

    def quantile(self, name: str, q: float, **labels: str) -> float:
        """A quantile of a histogram, by straight lines within a bucket; NaN if it is empty.

        Args:
            name: of the histogram, without "_bucket".
            q: from 0 to 1.
            labels: only series with these.
        """
        edges = sorted(
            {
                float(dict(pairs)["le"])
                for (found, pairs), _ in self.values.items()
                if found == f"{name}_bucket"
            }
        )
        counts = [
            sum(
                self.total(f"{name}_bucket", le=text, **labels)
                for text in {
                    dict(pairs)["le"]
                    for (found, pairs), _ in self.values.items()
                    if found == f"{name}_bucket" and float(dict(pairs)["le"]) == edge
                }
            )
            for edge in edges
        ]
        if not counts or counts[-1] == 0:
            return math.nan
        target, low, below = q * counts[-1], 0.0, 0.0
        for edge, count in zip(edges, counts, strict=True):
            if count >= target and count > below:
                if math.isinf(edge):
                    return low
                return low + (edge - low) * (target - below) / (count - below)
            low, below = edge, count
        return low
