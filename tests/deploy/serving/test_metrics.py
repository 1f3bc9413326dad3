"""Reading Prometheus' format: totals, differences, quantiles of buckets."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("prometheus_client")

from zoo_lessons.deploy.serving.metrics import Reading, RouterMetrics


def test_totals_and_differences() -> None:
    metrics = RouterMetrics()
    metrics.requests.labels("digit", "v1", "200").inc(5)
    before = Reading.parse(metrics.text())
    metrics.requests.labels("digit", "v1", "200").inc(2)
    metrics.requests.labels("embed", "v1", "503").inc(1)
    change = Reading.parse(metrics.text()).since(before)
    assert change.total("zoo_requests_total") == 3
    assert change.total("zoo_requests_total", status="200") == 2
    assert change.total("zoo_requests_total", model="caption") == 0


def test_a_restarted_counter_counts_from_zero() -> None:
    old, new = RouterMetrics(), RouterMetrics()
    old.retries.inc(10)
    new.retries.inc(3)
    change = Reading.parse(new.text()).since(Reading.parse(old.text()))
    assert change.total("zoo_retries_total") == 3


def test_quantiles_lie_within_a_bucket_of_the_true_ones() -> None:
    metrics = RouterMetrics()
    waits = np.random.default_rng(0).lognormal(-4, 0.7, size=3000)
    for i, wait in enumerate(waits):
        metrics.latency.labels("digit" if i % 2 else "embed").observe(wait)
    reading = Reading.parse(metrics.text())
    for q in (0.1, 0.5, 0.99):
        found = reading.quantile("zoo_latency_seconds", q)
        assert 1 / 1.5 < found / np.quantile(waits, q) < 1.5
    assert reading.quantile("zoo_latency_seconds", 0.5, model="digit") > 0


def test_an_empty_histogram_has_no_quantile() -> None:
    reading = Reading.parse(RouterMetrics().text())
    assert math.isnan(reading.quantile("zoo_latency_seconds", 0.5))
    assert math.isnan(reading.quantile("nothing", 0.5))
