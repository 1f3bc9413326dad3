"""Student's interval, against scipy's own and against a case that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from experiments.intervals import mean_interval


def test_interval_equals_scipys():
    values = [0.1, 0.5, 0.2, 0.9]
    mean, low, high = mean_interval(values)
    expected = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (low, high) == pytest.approx(expected)
    assert mean == pytest.approx(0.425)


def test_equal_values_have_no_width():
    assert mean_interval([2.0, 2.0, 2.0]) == (2.0, 2.0, 2.0)


def test_one_value_gives_no_interval():
    with pytest.raises(ValueError, match="at least 2"):
        mean_interval([1.0])
