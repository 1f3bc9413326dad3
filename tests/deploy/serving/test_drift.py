"""Drift detection: alarms where there is drift, and hardly any where there is none."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_lessons.deploy.serving.drift import DriftMonitor, drift_test

GENERATOR = np.random.default_rng


def normal(rows: int, seed: int, shift: float = 0.0, dimensions: int = 20) -> np.ndarray:
    return GENERATOR(seed).normal(size=(rows, dimensions)) + shift


def false_alarms(tries: int, **options) -> int:
    reference = normal(200, 0)
    return sum(
        drift_test(reference, normal(100, 1 + i), seed=i, **options).drifted for i in range(tries)
    )


def test_correction_keeps_false_alarms_near_alpha() -> None:
    assert false_alarms(100, alpha=0.05) <= 14
    assert false_alarms(100, alpha=0.05, correct=False) > 40  # 20 tests at 5 % each


def test_mmd_keeps_false_alarms_near_alpha() -> None:
    assert false_alarms(40, test="mmd", alpha=0.05, permutations=99) <= 8


@pytest.mark.parametrize("test", ["ks", "mmd"])
def test_a_shift_is_seen(test) -> None:
    assert drift_test(normal(200, 0), normal(100, 1, shift=0.6), test=test).drifted


def test_only_mmd_sees_a_change_of_the_correlation_alone() -> None:
    x = GENERATOR(0).normal(size=(300, 2))
    y = GENERATOR(1).normal(size=(300, 1)) @ np.ones((1, 2))  # the same in each dimension
    assert not drift_test(x, y, test="ks").drifted
    assert drift_test(x, y, test="mmd").drifted


def test_the_dimension_that_differs_is_named() -> None:
    window = normal(100, 1)
    window[:, 7] += 2
    report = drift_test(normal(200, 0), window)
    assert (report.drifted, report.dimension) == (True, 7)
    assert report.threshold == pytest.approx(0.01 / 20)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test": "t"}, "must be one of"),
        ({"test": "mmd", "permutations": 50}, "below alpha"),
    ],
)
def test_options_that_make_no_sense(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        drift_test(normal(20, 0), normal(20, 1), **options)


def test_shapes_must_fit() -> None:
    with pytest.raises(ValueError, match=r"\(20, 20\).*\(20, 3\)"):
        drift_test(normal(20, 0), normal(20, 1, dimensions=3))


def test_a_monitor_needs_several_windows_in_a_row() -> None:
    monitor = DriftMonitor(normal(200, 0), window=50, patience=2)
    stream = np.concatenate([normal(50, 1), normal(50, 2, shift=2), normal(50, 3, shift=2)])
    alarms = []
    for vector in stream:
        if monitor.add(vector) is not None:
            alarms.append(monitor.alarm)
    assert alarms == [False, False, True]
    for vector in normal(50, 4):
        monitor.add(vector)
    assert not monitor.alarm
    assert [report.drifted for report in monitor.reports] == [False, True, True, False]


@pytest.mark.parametrize("options", [{"window": 0}, {"patience": 0}])
def test_a_monitor_without_a_window(options) -> None:
    with pytest.raises(ValueError, match="at least 1"):
        DriftMonitor(normal(20, 0), **options)
