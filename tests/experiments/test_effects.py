from __future__ import annotations

import pytest

from experiments.effects import effect, outcome


def row(gains: list[float]) -> dict:
    without = [0.5] * len(gains)
    with_ = [0.5 + gain / 100 for gain in gains]
    return effect("MixUp", with_, without, task="digits", model="CNN", labels=50)


def test_a_row_is_the_mean_paired_difference_in_points():
    found = row([1.0, 2.0, 3.0])
    assert found["gain_points"] == 2.0 and found["seeds"] == 3
    assert found["kind"] == "accuracy" and found["against"] == "none"
    # Student's t with 2 degrees of freedom: 4.303 · 1 / √3
    assert found["low"] == pytest.approx(2 - 2.484, abs=0.01)
    assert found["high"] == pytest.approx(2 + 2.484, abs=0.01)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [
        ([2.0, 2.1, 1.9], "helps"),
        ([-2.0, -2.1, -1.9], "hurts"),
        ([2.0, -2.1, 0.4], "no clear effect"),
        ([0.0, 0.0, 0.0], "no clear effect"),
    ],
)
def test_outcome_needs_the_whole_interval_on_one_side(gains, expected):
    assert outcome(row(gains)) == expected


def test_errors_say_what_came():
    with pytest.raises(ValueError, match="kind='speed' must be one of 'accuracy', 'robust'"):
        effect("x", [0.1, 0.2], [0.1, 0.2], task="t", model="m", labels=1, kind="speed")
    with pytest.raises(ValueError, match="3 runs with 'x' and 2 without"):
        effect("x", [0.1, 0.2, 0.3], [0.1, 0.2], task="t", model="m", labels=1)
