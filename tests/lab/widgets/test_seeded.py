"""The random numbers that scripts and Python share."""

from __future__ import annotations

import numpy as np
import pytest

from zoo_lessons.lab.widgets.seeded import uniforms


def mulberry32(seed: int):
    """The generator as published, one number at a time, with plain integers."""
    mask = 0xFFFFFFFF
    while True:
        seed = (seed + 0x6D2B79F5) & mask
        t = ((seed ^ (seed >> 15)) * (seed | 1)) & mask
        t ^= (t + (((t ^ (t >> 7)) * (t | 61)) & mask)) & mask
        yield ((t ^ (t >> 14)) & mask) / 2**32


@pytest.mark.parametrize("seed", [0, 1, -3, 2**31, 2**40 + 7])
def test_numbers_are_mulberry32s(seed):
    generator = mulberry32(seed % 2**32)
    expected = [next(generator) for _ in range(20)]
    np.testing.assert_array_equal(uniforms(seed, 20), expected)
    np.testing.assert_array_equal(uniforms(seed, 5, start=15), expected[15:])


def test_numbers_are_uniform():
    draws = uniforms(0, 100_000)
    assert (draws.min() >= 0) and (draws.max() < 1)
    shares = np.histogram(draws, bins=20, range=(0, 1))[0] / len(draws)
    np.testing.assert_allclose(shares, 0.05, atol=0.004)
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.02
