"""Seeded random numbers that a widget's script and its Python side share."""

from __future__ import annotations

import numpy as np


def uniforms(seed: int, count: int, start: int = 0) -> np.ndarray:
    """Uniform numbers in [0, 1), the same ones that `uniforms` in common.js gives.

    JavaScript has no seeded generator, so both sides use mulberry32: a 32-bit counter that is
    hashed. It is good enough for pictures, and any number can be had without those before it.

    Args:
        seed: any whole number; seeds that differ by a multiple of 2**32 are the same.
        count: how many numbers.
        start: index of the first.

    Returns:
        float64 (count,).
    """
    step = np.arange(start + 1, start + count + 1, dtype=np.uint64)
    state = ((np.uint64(seed % 2**32) + step * 0x6D2B79F5) & 0xFFFFFFFF).astype(np.uint32)
    mixed = (state ^ (state >> 15)) * (state | 1)
    mixed ^= mixed + (mixed ^ (mixed >> 7)) * (mixed | 61)
    return (mixed ^ (mixed >> 14)) / 2**32
