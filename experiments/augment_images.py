"""What do moved and mixed images add where labels are few? A CNN and a ViT on digits.

The digits are split by people, as in lesson 09: nobody wrote both for training and for the test.
The labelled digits of a seed, the start of its model, its batches, steps and learning rate are the
same for all methods; only what happens to a batch differs:

- "none": images as they are;
- "shifts": moved, turned, resized, slanted a little (what lesson 09 does);
- "MixUp" and "CutMix", each with λ from Beta(α, α); α is the one of `ALPHAS` with the higher
  accuracy on the validation writers, with the CNN, `TUNED_AT` labels, and seeds of their own;
- "shifts + mixing": shifts, then MixUp or CutMix, drawn for each batch.

The learning rates are lesson 09's, chosen with shifts. Test writers are looked at once, at the end.
The CNN learns from each number of labels, the ViT from `VIT_LABELS`.

Figures: accuracy [seed] under `runs[network][labels][method]`, and the accuracy that is left under
attack ("robust": PGD, ε = `EPSILON`); for all labels, the CNN's accuracy at each ε of `EPSILONS`;
"effects", one row for each method, network, number of labels, and kind of accuracy: the paired gain
over "none", and over "shifts" for "shifts + mixing".

This settles no claim by itself: C13's experiment reads this record. Nothing here is timed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.augmented_training import (
    Views,
    classifier,
    cut,
    mixed,
    one_after_another,
    shifts,
    train_augmented,
)
from experiments.digits_labels import labelled
from experiments.effects import effect
from experiments.image_training import SmallCNN, accuracy, digits_vit
from zoo_lessons.adversarial import robust_accuracy
from zoo_lessons.datasets.digits import digits
from zoo_lessons.records import experiment, load_record

LABELS = (50, 200, 1157)
VIT_LABELS = (200,)
SEEDS = range(5)
STEPS = 300
ALPHAS = (0.2, 1.0)
TUNED_AT, TUNING_SEEDS = 200, range(100, 102)
EPSILON = 0.1
EPSILONS = (0.0, 0.05, 0.1, 0.15, 0.2)
ATTACK_STEPS = 20
NETWORKS: dict[str, Callable[[], nn.Module]] = {"CNN": SmallCNN, "ViT": digits_vit}


def either(first: Views, second: Views) -> Views:
    """One of the two, drawn for each batch."""

    def views(
        model: nn.Module, images: Tensor, targets: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        chosen = first if torch.rand((), generator=draw) < 0.5 else second
        return chosen(model, images, targets, draw)

    return views


def methods(alphas: dict[str, float]) -> dict[str, Views | None]:
    """name -> what it does to a batch, with the chosen α of MixUp and CutMix."""
    mixing = {"MixUp": mixed(alphas["MixUp"]), "CutMix": cut(alphas["CutMix"])}
    return {
        "none": None,
        "shifts": shifts,
        **mixing,
        "shifts + mixing": one_after_another(shifts, either(*mixing.values())),
    }


def choose_alphas(
    rate: float, *, seeds: range = TUNING_SEEDS, steps: int = STEPS
) -> dict[str, dict[str, Any]]:
    """{method: {"alpha": the chosen one, "validation": {α: accuracy [seed]}}}, with the CNN."""
    everything, validation = digits("train"), digits("validation")
    found = {}
    for name, make in {"MixUp": mixed, "CutMix": cut}.items():
        scores = {}
        for alpha in ALPHAS:
            scores[alpha] = []
            for seed in seeds:
                train = labelled(everything, TUNED_AT, seed)
                model = train_augmented(
                    SmallCNN, *train, seed=seed, steps=steps, lr=rate, views=make(alpha)
                )
                scores[alpha].append(accuracy(model, *validation))
        best = max(ALPHAS, key=lambda alpha: sum(scores[alpha]))
        found[name] = {"alpha": best, "validation": {str(a): s for a, s in scores.items()}}
    return found


def robust_curve(model: nn.Module, seed: int, epsilons: Sequence[float] = EPSILONS) -> list[float]:
    """Accuracy on the test writers under PGD, at each ε."""
    test = digits("test")
    curve = []
    for epsilon in epsilons:
        draw = torch.Generator().manual_seed(seed)
        attack = {"epsilon": epsilon, "steps": ATTACK_STEPS, "generator": draw}
        curve.append(round(robust_accuracy(classifier(model), *test, **attack), 4))
    return curve


def measure(
    network: str,
    views: dict[str, Views | None],
    rate: float,
    *,
    seeds: range = SEEDS,
    counts: Sequence[int] = LABELS,
    steps: int = STEPS,
) -> dict[str, Any]:
    """{labels: {method: {"accuracy": [seed], "robust": [seed], "curve": [seed][ε]}}}; the curve
    for the largest number of labels only."""
    everything = digits("train")
    found: dict[str, Any] = {}
    for count in counts:
        whole = count == max(LABELS)
        epsilons = EPSILONS if whole else (0.0, EPSILON)
        found[str(count)] = {}
        for name, change in views.items():
            curves = []
            for seed in seeds:
                train = labelled(everything, count, seed)
                model = train_augmented(
                    NETWORKS[network], *train, seed=seed, steps=steps, lr=rate, views=change
                )
                curves.append(robust_curve(model, seed, epsilons))
            row = {
                "accuracy": [curve[0] for curve in curves],
                "robust": [curve[epsilons.index(EPSILON)] for curve in curves],
            }
            found[str(count)][name] = {**row, "curve": curves} if whole else row
    return found


def effects(network: str, runs: dict[str, Any]) -> list[dict[str, Any]]:
    """The gains of each method of `measure`."""
    rows = []
    for count, found in runs.items():
        pairs = [(name, "none") for name in found if name != "none"]
        for name, against in [*pairs, ("shifts + mixing", "shifts")]:
            for kind in ("accuracy", "robust"):
                about = {"task": "digits", "model": network, "labels": int(count)}
                values = found[name][kind], found[against][kind]
                rows.append(effect(name, *values, **about, kind=kind, against=against))
    return rows


@experiment(
    "augment_images",
    lesson="18",
    uses=[
        "experiments.augmented_training",
        "experiments.digits_labels",
        "experiments.effects",
        "experiments.image_training",
        "experiments.intervals",
        "zoo_lessons.adversarial",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.augment",
        "zoo_lessons.training.mixing",
    ],
)
def augment_images() -> dict[str, Any]:
    rates = load_record("digits_labels")["figures"]["rates"]
    chosen = choose_alphas(rates["CNN"])
    views = methods({name: found["alpha"] for name, found in chosen.items()})
    runs = {
        network: measure(network, views, rates[network], counts=counts)
        for network, counts in {"CNN": LABELS, "ViT": VIT_LABELS}.items()
    }
    return {
        "figures": {
            "labels": list(LABELS),
            "seeds": len(SEEDS),
            "steps": STEPS,
            "rates": rates,
            "alphas": chosen,
            "epsilon": EPSILON,
            "epsilons": list(EPSILONS),
            "attack_steps": ATTACK_STEPS,
            "test_digits": len(digits("test").labels),
            "runs": runs,
            "effects": [row for name, found in runs.items() for row in effects(name, found)],
        }
    }
