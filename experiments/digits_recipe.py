"""Which recipe trains the ViT of lesson 09, and how far does it get on known and on new writers?

The recipes differ in learning rate and dropout; steps, batches and augmentation are those of the
lesson. Each is tried on the usual shuffled split of the digits, and the one with the lowest mean
loss on the *validation* digits is chosen (on 258 digits, accuracies are too coarse to choose by).
Only then are the test digits looked at: models of the chosen recipe learn from training and
validation digits together, once on the shuffled split and once with the digits split by people, so
that the difference is what new writers cost.

Figures: for each recipe the validation loss and accuracy [seed]; the chosen recipe; test accuracy
[seed] for both splits.

This settles no claim, and nothing here is timed: the figures are the same on every run of one
machine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from experiments.image_training import DIGITS_VIT, accuracy, prepared, train_classifier
from zoo_lessons.datasets.digits import Digits, digits
from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.records import experiment

STEPS = 900
RECIPES = tuple({"lr": lr, "dropout": dropout} for dropout in (0.0, 0.1) for lr in (3e-3, 6e-3))
TUNING_SEEDS, SEEDS = range(100, 102), range(3)


def train(data: Digits, recipe: dict[str, float], seed: int, steps: int) -> nn.Module:
    """A ViT that learned the digits."""
    config = ViTConfig(**{**vars(DIGITS_VIT), "dropout": recipe["dropout"]})
    return train_classifier(lambda: ViT(config), *data, seed=seed, steps=steps, lr=recipe["lr"])


@torch.no_grad()
def loss(model: nn.Module, data: Digits) -> float:
    """Mean cross-entropy in nats."""
    logits = model.eval()(prepared(data.images)).logits
    return round(F.cross_entropy(logits, data.labels).item(), 4)


def try_recipes(seeds: range = TUNING_SEEDS, *, steps: int = STEPS) -> list[dict[str, Any]]:
    """[{"lr", "dropout", "loss": [seed], "accuracy": [seed]}], on the validation digits."""
    known, held_out = (digits(split, new_writers=False) for split in ("train", "validation"))
    found = []
    for recipe in RECIPES:
        models = [train(known, recipe, seed, steps) for seed in seeds]
        scores = {
            "loss": [loss(model, held_out) for model in models],
            "accuracy": [accuracy(model, *held_out) for model in models],
        }
        found.append({**recipe, **scores})
    return found


def choose(found: list[dict[str, Any]]) -> dict[str, float]:
    """The recipe with the lowest mean loss."""
    best = min(found, key=lambda row: sum(row["loss"]))
    return {name: best[name] for name in RECIPES[0]}


def measure(
    recipe: dict[str, float], seeds: range = SEEDS, *, steps: int = STEPS
) -> dict[str, list[float]]:
    """Test accuracy {split: [seed]} after learning from training and validation digits."""
    found = {}
    for name, new_writers in {"shuffled": False, "new writers": True}.items():
        parts = [digits(split, new_writers=new_writers) for split in ("train", "validation")]
        both = Digits(*(torch.cat(columns) for columns in zip(*parts, strict=True)))
        test = digits("test", new_writers=new_writers)
        found[name] = [accuracy(train(both, recipe, seed, steps), *test) for seed in seeds]
    return found


@experiment(
    "digits_recipe",
    lesson="09",
    uses=[
        "experiments.image_training",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.augment",
    ],
)
def digits_recipe() -> dict[str, Any]:
    found = try_recipes()
    recipe = choose(found)
    return {
        "figures": {
            "steps": STEPS,
            "recipes": found,
            "chosen": recipe,
            "accuracy": measure(recipe),
        }
    }
