"""Learning-rate schedules: pure functions from the step to a share of the peak rate.

Every schedule maps `step` (0 for the first update) to a multiplier in [0, 1]. The rate of an
update is `peak_rate * schedule(step)`. Because a schedule keeps no state, it can be plotted without
a model, resumed at any step, and given to `torch.optim.lr_scheduler.LambdaLR` as it is:

    schedule = partial(warmup_cosine, warmup_steps=100, total_steps=1000)
    fit(model, batches, loss_fn, steps=1000, lr=3e-4, schedule=schedule)

All of them warm up in a straight line: `(step + 1) / warmup_steps`. The first update therefore has
a small rate rather than none, and update number `warmup_steps` has the peak rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

Schedule = Callable[[int], float]


def constant(step: int, *, warmup_steps: int = 0) -> float:
    """The peak rate throughout, after an optional warm-up.

    Args:
        step: number of updates made so far; 0 for the first update.
        warmup_steps: updates over which the rate rises to its peak.

    Raises:
        ValueError: a negative `step` or `warmup_steps`.
    """
    _require_counts(step, warmup_steps)
    return _warmup(step, warmup_steps)


def warmup_inverse_sqrt(step: int, *, warmup_steps: int) -> float:
    """Warm up, then fall with the inverse square root: `sqrt(warmup_steps / (step + 1))`.

    The schedule of Vaswani et al. 2017, "Attention Is All You Need", section 5.3, equation 3,

        rate = d_model^-0.5 * min(s^-0.5, s * warmup_steps^-1.5),   s = step + 1,

    divided by its own peak `(d_model * warmup_steps)^-0.5`, so that it is 1 where the warm-up ends.

    Args:
        step: number of updates made so far; 0 for the first update.
        warmup_steps: updates over which the rate rises; at least 1, since the fall starts there.

    Raises:
        ValueError: a negative `step`, or `warmup_steps` below 1.
    """
    _require_counts(step, warmup_steps)
    if warmup_steps < 1:
        raise ValueError(f"warmup_inverse_sqrt needs warmup_steps >= 1, got {warmup_steps}")
    return min(_warmup(step, warmup_steps), math.sqrt(warmup_steps / (step + 1)))


def warmup_cosine(
    step: int, *, warmup_steps: int, total_steps: int, final_fraction: float = 0.0
) -> float:
    """Warm up, then fall along half a cosine to `final_fraction` at `total_steps`.

    The fall is equation 5 of Loshchilov & Hutter 2017, "SGDR: Stochastic Gradient Descent with Warm
    Restarts", with a single period (no restart).

    Args:
        step: number of updates made so far; 0 for the first update.
        warmup_steps: updates over which the rate rises to its peak; may be 0.
        total_steps: where the fall ends. Later steps stay at `final_fraction`.
        final_fraction: share of the peak rate that is left at the end, in [0, 1].

    Raises:
        ValueError: a negative count, `total_steps` not above `warmup_steps`, or `final_fraction`
            outside [0, 1].
    """
    progress = _decay_progress(step, warmup_steps, total_steps, final_fraction)
    decay = final_fraction + (1 - final_fraction) * (1 + math.cos(math.pi * progress)) / 2
    return min(_warmup(step, warmup_steps), decay)


def warmup_linear(
    step: int, *, warmup_steps: int, total_steps: int, final_fraction: float = 0.0
) -> float:
    """Warm up, then fall in a straight line to `final_fraction` at `total_steps`.

    BERT was trained this way (Devlin et al. 2019, appendix A.2). Arguments and errors are those
    of `warmup_cosine`.
    """
    progress = _decay_progress(step, warmup_steps, total_steps, final_fraction)
    decay = 1 - (1 - final_fraction) * progress
    return min(_warmup(step, warmup_steps), decay)


SCHEDULES: dict[str, Callable[..., float]] = {
    function.__name__: function
    for function in (constant, warmup_inverse_sqrt, warmup_cosine, warmup_linear)
}


def schedule_by_name(name: str, total_steps: int, warmup_steps: int | None = None) -> Schedule:
    """The schedule called `name`, ready for a run of `total_steps` updates.

    Args:
        name: a key of `SCHEDULES`.
        total_steps: length of the run, in updates.
        warmup_steps: length of the warm-up. By default a tenth of the run, and none for "constant".

    Raises:
        ValueError: an unknown name.
    """
    if name not in SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}: expected one of {', '.join(SCHEDULES)}")
    if warmup_steps is None:
        warmup_steps = 0 if name == "constant" else total_steps // 10
    if name == "constant":
        return partial(constant, warmup_steps=warmup_steps)
    if name == "warmup_inverse_sqrt":
        return partial(warmup_inverse_sqrt, warmup_steps=max(1, warmup_steps))
    return partial(SCHEDULES[name], warmup_steps=warmup_steps, total_steps=total_steps)


def _warmup(step: int, warmup_steps: int) -> float:
    return 1.0 if step + 1 >= warmup_steps else (step + 1) / warmup_steps


def _decay_progress(step: int, warmup_steps: int, total_steps: int, final_fraction: float) -> float:
    """How far the fall has come: 0 at the end of the warm-up, 1 at `total_steps` and beyond."""
    _require_counts(step, warmup_steps)
    if total_steps <= warmup_steps:
        raise ValueError(
            f"total_steps={total_steps} must be larger than warmup_steps={warmup_steps}, "
            "or nothing is left for the decay"
        )
    if not 0 <= final_fraction <= 1:
        raise ValueError(f"final_fraction={final_fraction} must lie between 0 and 1")
    return min(1.0, max(0, step - warmup_steps) / (total_steps - warmup_steps))


def _require_counts(step: int, warmup_steps: int) -> None:
    if step < 0:
        raise ValueError(f"step={step} must not be negative; the first update is step 0")
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps={warmup_steps} must not be negative")
