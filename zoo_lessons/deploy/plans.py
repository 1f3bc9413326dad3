"""Choosing under limits: plans, what they were measured at, which limits they miss, and the front.

Lesson 23 chooses a digit reader with these. They know nothing of digits: a plan is a model, a way
to train it and a precision; what it is worth are four numbers, each with a limit.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields

import numpy as np

PRECISIONS = ("fp32", "INT8")


@dataclass(frozen=True, order=True)
class Plan:
    """What would be shipped.

    Attributes:
        model: which one, such as "small CNN".
        training: how it learns, such as "distilled".
        precision: "fp32" or "INT8".

    Raises:
        ValueError: another precision.
    """

    model: str
    training: str
    precision: str

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(
                f"precision={self.precision!r} must be one of {', '.join(map(repr, PRECISIONS))}"
            )

    def __str__(self) -> str:
        return f"{self.model}, {self.training}, {self.precision}"


@dataclass(frozen=True)
class Measured:
    """What a plan is worth.

    Attributes:
        accuracy: share of right answers, from 0 to 1.
        p99: its 99th percentile of the time for one input, in units of the reference's.
        throughput: inputs per second in batches, in units of the reference's one by one.
        kilobytes: size of the file, in units of 1,000 bytes.
    """

    accuracy: float
    p99: float
    throughput: float
    kilobytes: float


@dataclass(frozen=True)
class Limits:
    """`accuracy` and `throughput` at least, `p99` and `kilobytes` at most; in `Measured`'s units.

    What lies exactly on a limit keeps it.
    """

    accuracy: float = 0.0
    p99: float = float("inf")
    throughput: float = 0.0
    kilobytes: float = float("inf")


AT_LEAST, AT_MOST = ("accuracy", "throughput"), ("p99", "kilobytes")


def missed(measured: Measured, limits: Limits) -> dict[str, float]:
    """Which limits are missed, and by how much: positive amounts, in the limit's own units."""
    short = {name: getattr(limits, name) - getattr(measured, name) for name in AT_LEAST}
    over = {name: getattr(measured, name) - getattr(limits, name) for name in AT_MOST}
    both = {**short, **over}
    return {one.name: both[one.name] for one in fields(Measured) if both[one.name] > 0}


def within(table: Mapping[Plan, Measured], limits: Limits) -> list[Plan]:
    """The plans that keep all limits, in the table's order."""
    return [plan for plan, measured in table.items() if not missed(measured, limits)]


def front(table: Mapping[Plan, Measured]) -> list[Plan]:
    """The Pareto front of accuracy, p99 and size: plans that no other one beats.

    One plan beats another if it is at least as good in all three and better in one.
    """

    def cost(measured: Measured) -> tuple[float, float, float]:
        return -measured.accuracy, measured.p99, measured.kilobytes

    def beaten(plan: Plan) -> bool:
        own = cost(table[plan])
        return any(
            cost(other) != own and all(a <= b for a, b in zip(cost(other), own, strict=True))
            for other in table.values()
        )

    return [plan for plan in table if not beaten(plan)]


# --- time ----------------------------------------------------------------------------------------


def time_calls(
    candidates: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 20,
    calls: int = 50,
    warmup: int = 5,
    seed: int = 0,
) -> dict[str, np.ndarray]:
    """Seconds of each single call, side by side.

    Unlike `bench.compare`, which times many calls at once and takes medians, this keeps every call:
    a percentile of what users wait for needs the slow ones. Candidates take turns in an order
    shuffled anew for each round, so that a slow spell of the machine hits all of them. A call
    during which the system gave the processor to another program is timed again, where the system
    tells (Linux): nothing else runs in the box that the figures are for.

    Args:
        candidates: functions without arguments, by name.
        rounds: how often each candidate has its turn.
        calls: in a turn.
        warmup: calls of each candidate before the first round.
        seed: of the order.

    Returns:
        name -> (rounds, calls).
    """
    for function in candidates.values():
        for _ in range(warmup):
            function()
    seconds = {name: np.empty((rounds, calls)) for name in candidates}
    order, shuffler = list(candidates), random.Random(seed)
    for turn in range(rounds):
        shuffler.shuffle(order)
        for name in order:
            function = candidates[name]
            for call in range(calls):
                seconds[name][turn, call] = _undisturbed(function)
    return seconds


def _undisturbed(function: Callable[[], object], attempts: int = 8) -> float:
    """Seconds of one call; the last attempt counts, disturbed or not."""
    for _ in range(attempts):
        before = _interruptions()
        start = time.perf_counter()
        function()
        seconds = time.perf_counter() - start
        if _interruptions() == before:
            break
    return seconds


def _interruptions() -> int:
    """How often this thread has lost the processor against its will; 0 where nobody counts."""
    if sys.platform != "linux":
        return 0
    import resource

    return resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw


def percentile_ratio(seconds: np.ndarray, reference: np.ndarray, percentile: float = 99) -> float:
    """A percentile of all calls over the reference's: pooled first, divided last.

    Args:
        seconds, reference: (rounds, calls).
        percentile: from 0 to 100.
    """
    return float(np.percentile(seconds, percentile) / np.percentile(reference, percentile))


def ratio_interval(
    seconds: np.ndarray, reference: np.ndarray, percentile: float = 99, samples: int = 1000
) -> tuple[float, float]:
    """95 % bootstrap interval of `percentile_ratio`: whole rounds are drawn, with replacement.

    Calls of one round are not independent, since a slow spell lasts longer than a call; so rounds
    are drawn, and the same ones for both.
    """
    rows = np.random.default_rng(0).integers(len(seconds), size=(samples, len(seconds)))
    ratios = [percentile_ratio(seconds[row], reference[row], percentile) for row in rows]
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def table_of(rows: Iterable[Mapping[str, object]]) -> dict[Plan, Measured]:
    """A record's rows, with the names of `Plan`'s and `Measured`'s fields, as a table."""

    def part(kind: type, row: Mapping[str, object]) -> object:
        return kind(**{one.name: row[one.name] for one in fields(kind)})

    return {part(Plan, row): part(Measured, row) for row in rows}
