"""What a method adds: paired differences over seeds, as rows that several records share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.intervals import mean_interval

KINDS = ("accuracy", "robust")


def effect(
    method: str,
    with_: Sequence[float],
    without: Sequence[float],
    *,
    task: str,
    model: str,
    labels: int,
    kind: str = "accuracy",
    against: str = "none",
) -> dict[str, Any]:
    """One row: how many points a method adds, with the 95 % interval of the mean over seeds.

    Args:
        method: its name.
        with_, without: accuracies from 0 to 1 [seed], of the same seeds.
        task: what was classified.
        model: the classifier.
        labels: how many labelled examples, all classes together.
        kind: "accuracy" on unchanged examples, or "robust" under attack.
        against: what `without` was trained with.

    Raises:
        ValueError: another kind, or seeds that do not pair.
    """
    if kind not in KINDS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(map(repr, KINDS))}")
    if len(with_) != len(without):
        raise ValueError(f"got {len(with_)} runs with {method!r} and {len(without)} without")
    gains = [100 * (new - old) for new, old in zip(with_, without, strict=True)]
    gain, low, high = (round(value, 2) for value in mean_interval(gains))
    return {
        "method": method,
        "task": task,
        "model": model,
        "against": against,
        "kind": kind,
        "labels": labels,
        "gain_points": gain,
        "low": low,
        "high": high,
        "seeds": len(gains),
    }


def outcome(row: dict[str, Any]) -> str:
    """Whether it helps or hurts: the whole interval must lie on one side of zero to say so."""
    if row["low"] > 0:
        return "helps"
    return "hurts" if row["high"] < 0 else "no clear effect"
