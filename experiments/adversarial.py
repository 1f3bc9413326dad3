"""What does adversarial training change, and can robustness curves be believed? A CNN on digits.

The CNN, the labelled digits, seeds, starts, batches, steps and rate are those of `augment_images`,
whose record gives the models trained without attacks. Here are added

- "adversarial training": each batch is replaced by what PGD (`TRAINING_STEPS` steps, ε = `EPSILON`)
  makes of it against the model as it is (Madry et al. 2018, section 2.1);
- "random noise": each pixel is moved by up to ε at random instead. A control: is it the attack that
  teaches, or any change of that size?

*Gradient masking.* A model may look robust because its gradients lead attacks astray. For one seed
and all labels, models trained in four ways are attacked in more ways: random noise, FGSM, PGD with
5, 20 and 50 steps, PGD with 3 random starts, PGD without limit (ε = 1), and images that were made
to fool another model. Signs of masking (Athalye et al. 2018, section 3.1; that more steps or starts
find more is ours), each with `SLACK` points of leeway: noise or FGSM does more harm than PGD; 50
steps, or more starts, find much more than 20 steps; PGD without limit leaves more than 0; another
model's images do more harm than its own.

Figures: accuracy and robust accuracy [seed] under `runs["CNN"][labels][method]`, the curve for all
labels; "effects" against "none"; for each model of the second part its accuracy under each attack,
and the signs of masking that were found.

This settles no claim by itself: C13's experiment reads this record. Nothing here is timed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from experiments.augment_images import (
    EPSILON,
    SEEDS,
    STEPS,
    measure,
    methods,
)
from experiments.augmented_training import attacked, classifier, train_augmented
from experiments.digits_labels import labelled
from experiments.effects import effect
from experiments.image_training import SmallCNN
from zoo_lessons.adversarial import fgsm, is_right, pgd, robust_accuracy
from zoo_lessons.datasets.digits import digits
from zoo_lessons.records import experiment, load_record

LABELS = (1157,)
TRAINING_STEPS = 3
SLACK = 2.0  # points


def noisy(
    model: nn.Module, images: Tensor, targets: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Each pixel moved by up to ε at random."""
    noise = 2 * torch.rand(images.shape, generator=draw) - 1
    return (images + EPSILON * noise).clamp(0, 1), targets


def many_attacks(model: nn.Module, other: nn.Module, seed: int) -> dict[str, float]:
    """Accuracy on the test writers under each attack; `other` makes the transferred images."""
    images, labels = digits("test")
    own = classifier(model)

    def draw() -> torch.Generator:
        return torch.Generator().manual_seed(seed)

    def under(changed: Tensor) -> float:
        return round(is_right(own, changed, labels).float().mean().item(), 4)

    found = {"none": under(images), "noise": under(noisy(model, images, labels, draw())[0])}
    found["FGSM"] = under(fgsm(own, images, labels, epsilon=EPSILON))
    for steps in (5, 20, 50):
        attack = {"epsilon": EPSILON, "steps": steps, "generator": draw()}
        found[f"PGD {steps}"] = round(robust_accuracy(own, images, labels, **attack), 4)
    attack = {"epsilon": EPSILON, "restarts": 3, "generator": draw()}
    found["PGD 20, 3 starts"] = round(robust_accuracy(own, images, labels, **attack), 4)
    found["PGD without limit"] = under(pgd(own, images, labels, epsilon=1.0, generator=draw()))
    attack = {"epsilon": EPSILON, "generator": draw()}
    found["transferred"] = under(pgd(classifier(other), images, labels, **attack))
    return found


def masking_signs(found: Mapping[str, float]) -> list[str]:
    """What speaks for masked gradients, by the docstring's rules."""
    pgd_20, slack = found["PGD 20"], SLACK / 100
    signs = {
        "noise is stronger than PGD": found["noise"] < pgd_20 - slack,
        "one step is stronger than many": found["FGSM"] < pgd_20 - slack,
        "50 steps find much more than 20": found["PGD 50"] < pgd_20 - slack,
        "more starts find much more": found["PGD 20, 3 starts"] < pgd_20 - slack,
        "without limit, some images withstand": found["PGD without limit"] > slack,
        "another model's images are stronger": found["transferred"] < pgd_20 - slack,
    }
    return [sign for sign, shows in signs.items() if shows]


def inspect(
    views: Mapping[str, Any], rate: float, *, seed: int = 0, steps: int = STEPS
) -> dict[str, dict[str, Any]]:
    """{method: {"attacks": {attack: accuracy}, "signs": [...]}}, with all labels."""

    def train(view: Any, own_seed: int) -> nn.Module:
        data = labelled(digits("train"), max(LABELS), own_seed)
        return train_augmented(SmallCNN, *data, seed=own_seed, steps=steps, lr=rate, views=view)

    other = train(None, seed + 1)
    found = {}
    for name, view in views.items():
        attacks = many_attacks(train(view, seed), other, seed)
        found[name] = {"attacks": attacks, "signs": masking_signs(attacks)}
    return found


def effects(runs: Mapping[str, Any], beside: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The gains over "none", which `beside`, the record of `augment_images`, holds."""
    rows = []
    for count, found in runs["CNN"].items():
        without = beside["runs"]["CNN"][count]["none"]
        for name, row in found.items():
            for kind in ("accuracy", "robust"):
                about = {"task": "digits", "model": "CNN", "labels": int(count), "kind": kind}
                rows.append(effect(name, row[kind], without[kind], **about))
    return rows


def measure_all(
    rate: float, *, seeds: Sequence[int] = SEEDS, steps: int = STEPS
) -> dict[str, dict[str, Any]]:
    """{labels: {method: accuracies}}, as `augment_images.measure` gives them."""
    views = {"adversarial training": attacked(EPSILON, TRAINING_STEPS), "random noise": noisy}
    return measure("CNN", views, rate, seeds=seeds, counts=LABELS, steps=steps)


@experiment(
    "adversarial",
    lesson="18",
    uses=[
        "experiments.augment_images",
        "experiments.augmented_training",
        "experiments.digits_labels",
        "experiments.effects",
        "experiments.image_training",
        "experiments.intervals",
        "zoo_lessons.adversarial",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.training.mixing",
    ],
)
def adversarial() -> dict[str, Any]:
    rate = load_record("digits_labels")["figures"]["rates"]["CNN"]
    runs = {"CNN": measure_all(rate)}
    beside = load_record("augment_images")["figures"]
    trained = methods({name: row["alpha"] for name, row in beside["alphas"].items()})
    views = {name: trained[name] for name in ("none", "MixUp", "CutMix")}
    views["adversarial training"] = attacked(EPSILON, TRAINING_STEPS)
    return {
        "figures": {
            "labels": list(LABELS),
            "seeds": len(SEEDS),
            "steps": STEPS,
            "epsilon": EPSILON,
            "training_steps": TRAINING_STEPS,
            "slack_points": SLACK,
            "runs": runs,
            "effects": effects(runs, beside),
            "masking": inspect(views, rate),
        }
    }
