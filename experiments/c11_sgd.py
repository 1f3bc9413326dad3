"""C11, clipping with SGD: how large may the limit be?

With Adam the length of a step hardly depends on the length of the gradient; with SGD it does. So
here the captions model of `c11_stability`, shallow and pre-norm, which is easy to train, is trained
by SGD with momentum at a rate that is too high, and the gradient's norm is limited to several
values, or not at all. The longest step is the rate times the limit (times 10 with momentum 0.9, if
all gradients point the same way).

`limits` holds for each limit the final losses over the seeds, null where the weights stopped being
numbers, and the number of runs that converged.
"""

from __future__ import annotations

from typing import Any

from experiments.c11_stability import (
    SEEDS,
    SGD_MOMENTUM,
    SGD_RATE,
    SGD_STEPS,
    SHALLOW,
    Run,
    final_losses,
    guessing_loss,
    outcome,
)
from zoo_lessons.records import experiment

LIMITS = {"none": None, "2": 2.0, "1": 1.0, "0.5": 0.5, "0.25": 0.25}


@experiment(
    "c11_sgd",
    lesson="05",
    uses=[
        "experiments.c11_stability",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.models.transformer",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.loop",
    ],
)
def c11_sgd() -> dict[str, Any]:
    runs = {
        name: [Run(seed, "pre", SHALLOW, max_norm=limit, optimizer="sgd") for seed in range(SEEDS)]
        for name, limit in LIMITS.items()
    }
    losses = final_losses(run for group in runs.values() for run in group)
    guess = guessing_loss()
    limits = {name: outcome([losses[run] for run in group], guess) for name, group in runs.items()}
    about = {"rate": SGD_RATE, "momentum": SGD_MOMENTUM, "steps": SGD_STEPS, "seeds": SEEDS}
    return {"figures": {**about, "guess": round(guess, 3), "limits": limits}}
