"""A ViT that reads digits: the checkpoint that lesson 21 serves.

The recipe of `digits_recipe`, seed 0, on the *train* rows of the shuffled split only. The rows of
validation stay unseen, because lesson 21's drift detector takes them for its picture of normal
requests; those of test are what its users send.

Figures: accuracy on validation and test rows, taken from the checkpoint after it was reloaded; and
accuracy on the same test rows changed by each of the shifts that `drift` knows.

This settles no claim, and nothing here is timed: the figures are the same on every run of one
machine.
"""

from __future__ import annotations

from typing import Any

from experiments.digits_recipe import train
from experiments.image_training import accuracy
from zoo_lessons.checkpoints import load_trained, save_trained
from zoo_lessons.datasets.digit_shifts import SHIFTS, shifted
from zoo_lessons.datasets.digits import digits
from zoo_lessons.records import experiment, load_record

NAME, STEPS, SEED = "digits_vit", 900, 0


@experiment(
    "digits_vit",
    lesson="21",
    uses=[
        "experiments.digits_recipe",
        "experiments.image_training",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.digit_shifts",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.models.vit",
    ],
)
def digits_vit() -> dict[str, Any]:
    recipe = load_record("digits_recipe")["figures"]["chosen"]
    model = train(digits("train", new_writers=False), recipe, SEED, STEPS)
    saved = save_trained(NAME, model)
    model = load_trained(NAME)
    held_out = {name: digits(name, new_writers=False) for name in ("validation", "test")}
    images, labels = held_out["test"]
    return {
        "figures": {
            "steps": STEPS,
            "recipe": recipe,
            "accuracy": {name: accuracy(model, *data) for name, data in held_out.items()},
            "shifted": {kind: accuracy(model, shifted(images, kind), labels) for kind in SHIFTS},
            "checkpoint": saved,
        }
    }
