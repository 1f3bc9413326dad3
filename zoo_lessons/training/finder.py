"""The learning-rate finder: one short run over all rates, from far too small to far too large."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import numpy as np
from torch import nn

from zoo_lessons.training.batches import Batches
from zoo_lessons.training.fit import fit
from zoo_lessons.training.loop import LossFunction
from zoo_lessons.training.random_state import get_random_state, set_random_state

SMOOTHING = 0.9  # weight of the past in the running mean of the loss


@dataclass(frozen=True)
class RateFinderResult:
    """What the finder saw, as arrays over its steps.

    Attributes:
        rates: learning rate of each step; it grows by the same factor from step to step.
        losses: loss of each step, before its update.
        smoothed: running mean of the losses.
        suggestion: a tenth of the rate at which the smoothed loss was lowest.
    """

    rates: np.ndarray = field(repr=False)
    losses: np.ndarray = field(repr=False)
    smoothed: np.ndarray = field(repr=False)
    suggestion: float


def learning_rate_finder(
    model: nn.Module,
    batches: Batches,
    loss_fn: LossFunction,
    *,
    min_rate: float = 1e-6,
    max_rate: float = 1.0,
    steps: int = 100,
    **fit_options: object,
) -> RateFinderResult:
    """Raise the learning rate from step to step and watch the loss.

    The learning-rate range test of Smith 2017, "Cyclical Learning Rates for Training Neural
    Networks", section 3.3, with the rate growing exponentially: at first nothing is learned, then
    the loss falls, then it explodes. A good peak rate lies well before the explosion. Losses that
    are no longer finite are left out.

    The model, its mode and the random generators are afterwards what they were before. An iterator
    given as `batches` has of course moved on.

    Args:
        model, batches, loss_fn: as for `fit`.
        min_rate, max_rate: first and last learning rate.
        steps: number of rates tried; at least 10.
        **fit_options: passed to `fit`: `clip_norm`, `precision`, `device`, `progress`, ...

    Raises:
        ValueError: the rates are not 0 < min_rate < max_rate, there are fewer than 10 steps, or the
            loss is not finite before step 10.
    """
    if not 0 < min_rate < max_rate:
        raise ValueError(f"expected 0 < min_rate < max_rate, got {min_rate} and {max_rate}")
    if steps < 10:
        raise ValueError(f"steps={steps} must be at least 10 to show where the loss falls")
    weights = copy.deepcopy(model.state_dict())
    random_state = get_random_state()
    try:
        history = fit(
            model,
            batches,
            loss_fn,
            steps=steps,
            lr=max_rate,
            schedule=lambda step: (min_rate / max_rate) ** (1 - step / (steps - 1)),
            on_divergence="continue",
            **fit_options,
        )
    finally:
        model.load_state_dict(weights)
        set_random_state(random_state)
    finite = history.diverged_at if history.diverged else steps
    if finite < 10:
        raise ValueError(f"the loss is not finite after {finite} steps: lower min_rate={min_rate}")
    rates, losses = history.lr[:finite], history.loss[:finite]
    smoothed = smooth(losses)
    return RateFinderResult(rates, losses, smoothed, suggest_rate(rates, smoothed))


def smooth(losses: np.ndarray) -> np.ndarray:
    """Exponential running mean, corrected for its start as Adam corrects its moments."""
    mean, means = 0.0, []
    for step, loss in enumerate(losses, start=1):
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        means.append(mean / (1 - SMOOTHING**step))
    return np.array(means)


def suggest_rate(rates: np.ndarray, smoothed: np.ndarray) -> float:
    """A tenth of the rate at which the smoothed loss is lowest.

    The loss is lowest shortly before it explodes; the factor ten is the margin. (The steepest fall
    is often taken instead, but where batches differ, noise among the small rates is steeper.)
    """
    return float(rates[np.argmin(smoothed)]) / 10
