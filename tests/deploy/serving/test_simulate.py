"""The simulated queue against cases that one can work out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_lessons.deploy.serving.simulate import batches, latencies


def steady(size: int) -> float:
    return 1.0 + 0.1 * size


def test_a_window_gathers_and_a_full_batch_does_not_wait() -> None:
    assert batches([0.0, 0.2, 0.4, 9.0], 0.5, 8, steady) == [(3, 0.5, 1.8), (1, 9.5, 10.6)]
    assert batches([0.0, 0.2, 0.4], 5.0, 2, steady)[0] == (2, 0.2, pytest.approx(1.4))


def test_a_busy_replica_gathers_without_a_window() -> None:
    found = batches([0.0, 0.1, 0.2, 0.3], 0.0, 8, steady)
    assert [size for size, _, _ in found] == [1, 3]


def test_without_load_a_window_costs_its_length() -> None:
    arrivals = np.arange(5) * 10.0
    for window in (0.0, 0.3):
        assert np.allclose(latencies(arrivals, window, 8, steady), window + 1.1)


def test_batches_of_one() -> None:
    assert np.allclose(latencies([0.0, 0.0, 0.0], 0.5, 1, steady), [1.1, 2.2, 3.3])


@pytest.mark.parametrize("wrong", [([0.0], -1.0, 1), ([0.0], 0.0, 0), ([1.0, 0.0], 0.0, 1)])
def test_inputs_that_make_no_sense(wrong) -> None:
    with pytest.raises(ValueError):
        batches(*wrong, steady)
