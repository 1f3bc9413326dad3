"""Plans under limits: what is missed, who is on the front, and how times become ratios."""

from __future__ import annotations

import itertools
import time

import numpy as np
import pytest

from zoo_lessons.deploy import plans
from zoo_lessons.deploy.plans import (
    Limits,
    Measured,
    Plan,
    front,
    missed,
    percentile_ratio,
    ratio_interval,
    table_of,
    time_calls,
    within,
)

LIMITS = Limits(accuracy=0.95, p99=0.25, throughput=8, kilobytes=100)


def plan(name: str) -> Plan:
    return Plan(name, "shifts", "fp32")


def test_missed_says_what_and_by_how_much():
    assert missed(Measured(0.95, 0.25, 8, 100), LIMITS) == {}
    found = missed(Measured(0.90, 0.35, 2, 150), LIMITS)
    assert found == pytest.approx({"accuracy": 0.05, "p99": 0.1, "throughput": 6, "kilobytes": 50})
    assert missed(Measured(0.1, 9, 0.1, 900), Limits()) == {}


def test_within_and_front():
    table = {
        plan("good"): Measured(0.96, 0.1, 20, 80),
        plan("equal"): Measured(0.96, 0.1, 20, 80),
        plan("worse in all"): Measured(0.95, 0.2, 20, 90),
        plan("best, large"): Measured(0.99, 0.3, 20, 900),
        plan("tiny"): Measured(0.80, 0.1, 20, 5),
    }
    assert within(table, LIMITS) == [plan("good"), plan("equal"), plan("worse in all")]
    assert [one.model for one in front(table)] == ["good", "equal", "best, large", "tiny"]


def test_a_table_from_rows():
    row = {"model": "CNN", "training": "shifts", "precision": "INT8", "accuracy": 0.9, "p99": 0.1,
           "throughput": 3.0, "kilobytes": 7.0, "more": [1]}  # fmt: skip
    assert table_of([row]) == {Plan("CNN", "shifts", "INT8"): Measured(0.9, 0.1, 3.0, 7.0)}
    with pytest.raises(ValueError, match="precision='FP8'"):
        Plan("CNN", "shifts", "FP8")


def test_ratio_pools_before_it_divides():
    draw = np.random.default_rng(0)
    seconds, reference = draw.random((6, 50)), 4 * draw.random((6, 50))
    expected = np.percentile(seconds.ravel(), 99) / np.percentile(reference.ravel(), 99)
    assert percentile_ratio(seconds, reference) == pytest.approx(expected)
    low, high = ratio_interval(seconds, reference)
    assert low <= expected <= high < 4 * low


def test_interval_is_wider_with_one_bad_round():
    calm = np.ones((20, 30)) + 0.01 * np.random.default_rng(1).random((20, 30))
    bad = calm.copy()
    bad[3, :10] *= 5
    width = np.diff(ratio_interval(bad, calm))[0]
    assert width > 10 * np.diff(ratio_interval(calm, calm + 1e-9))[0]


def test_calls_are_timed_one_by_one_in_turns():
    order = []

    def call(name, seconds):
        def run():
            order.append(name)
            time.sleep(seconds)

        return run

    found = time_calls(
        {"slow": call("slow", 0.004), "quick": call("quick", 0)}, rounds=4, calls=3, warmup=1
    )
    assert {name: taken.shape for name, taken in found.items()} == {"slow": (4, 3), "quick": (4, 3)}
    assert found["slow"].min() >= 0.004 > np.median(found["quick"])
    turns = [name for name, _ in itertools.groupby(order[2:])]
    assert len(order) >= 2 + 24  # a disturbed call is made again
    assert len(turns) <= 8 and {turns[0], turns[1]} == {"slow", "quick"}


def test_a_disturbed_call_is_timed_again(monkeypatch):
    counts, calls = iter([0, 3, 3, 3, 3, 3, 3, 3]), []
    monkeypatch.setattr(plans, "_interruptions", lambda: next(counts))
    plans._undisturbed(lambda: calls.append(1))
    assert len(calls) == 2
    monkeypatch.setattr(plans, "_interruptions", itertools.count().__next__)
    plans._undisturbed(lambda: calls.append(1), attempts=3)
    assert len(calls) == 5  # it gives up, and takes the last
