"""A queue with a batching window, by arithmetic: what batching does, without any process."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np


def batches(
    arrivals: Sequence[float], window: float, max_batch: int, seconds: Callable[[int], float]
) -> list[tuple[int, float, float]]:
    """Which requests one replica computes together, and when.

    The window opens when the replica is free and a request is there. The batch goes off when the
    window is over or the batch is full, whichever comes first.

    Args:
        arrivals: times, ascending.
        window: seconds that the first request of a batch waits for others, at most.
        max_batch: requests in a batch, at most.
        seconds: how long a batch of that many takes.

    Returns:
        For each batch (size, start, end).

    Raises:
        ValueError: a negative window, max_batch below 1, or times that are not ascending.
    """
    if window < 0 or max_batch < 1:
        raise ValueError(f"window={window} must be at least 0 and max_batch={max_batch} at least 1")
    if any(b < a for a, b in zip(arrivals, arrivals[1:], strict=False)):
        raise ValueError("arrivals must be ascending")
    found, first, free = [], 0, 0.0
    while first < len(arrivals):
        opened = max(free, arrivals[first])
        full = first + max_batch - 1
        start = opened + window
        if full < len(arrivals):
            start = min(start, max(opened, arrivals[full]))
        size = sum(1 for time in arrivals[first : first + max_batch] if time <= start)
        free = start + seconds(size)
        found.append((size, start, free))
        first += size
    return found


def latencies(
    arrivals: Sequence[float], window: float, max_batch: int, seconds: Callable[[int], float]
) -> np.ndarray:
    """Seconds from each arrival to the end of its batch."""
    ends = [
        end for size, _, end in batches(arrivals, window, max_batch, seconds) for _ in range(size)
    ]
    return np.asarray(ends) - np.asarray(arrivals)
