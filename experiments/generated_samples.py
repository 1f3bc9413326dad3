"""Do drawn digits help a classifier? A small CNN with and without the samples of GAN and diffusion.

The task is that of `digits_labels` and `augment_images`: a few labelled digits, tested on new
writers; the same CNN, steps, batches and learning rate, and the same labelled digits for a seed.
Each generator learned from exactly these digits, so it knows nothing that the classifier could not
know. With 200 labels, both are trained anew for each seed. With all 1,157, every seed has the same
digits: all draw from the checkpoints of `digits_generators`, each its own samples.

Half of the digits that the classifier sees are real, half are drawn, `DRAWN` different ones of each
generator. The drawn ones keep the class that they were drawn for, whatever they look like.
"samples only" sees no real digit. All move and turn the digits a little ("shifts"), as the
generators' training did; they are compared with real digits alone, moved in the same way.

Figures: accuracy on the test writers, and under attack (PGD of 20 steps from a random start, ε 0.1
of the range from paper to ink), [seed][number of labels]; the effects, paired over seeds; for each
generator, how far its samples are from the digits that it learned from (the median of the distance
to the nearest), beside the test writers' distance to the same digits.

Nothing was tuned here: the classifier's learning rate is the one that `digits_labels` chose.
Nothing is timed.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

from experiments.augmented_training import classifier, shifts, train_augmented
from experiments.digits_generators import (
    NAMES,
    drawn,
    nearest,
    train_diffusion,
    train_digits_gan,
)
from experiments.digits_labels import labelled
from experiments.effects import effect
from experiments.image_training import SmallCNN, accuracy
from zoo_lessons.adversarial import robust_accuracy
from zoo_lessons.checkpoints import load_trained
from zoo_lessons.datasets.digits import Digits, digits
from zoo_lessons.records import experiment

LABELS = (200, 1157)
SEEDS = range(4)
CLASSIFIER = {"steps": 300, "lr": 3e-3}
GENERATOR_STEPS = {"GAN": 500, "diffusion": 1000}
DRAWN = 600  # different samples of each generator, 60 of each class
EPSILON = 0.1
SOURCES = ("GAN", "diffusion")


def generators(train: Digits, seed: int) -> dict[str, torch.nn.Module]:
    """GAN and diffusion model that know these digits only."""
    if len(train.labels) == max(LABELS):
        return {source: load_trained(NAMES[source]) for source in SOURCES}
    return {
        "GAN": train_digits_gan(train, steps=GENERATOR_STEPS["GAN"], seed=seed)[0],
        "diffusion": train_diffusion(train, steps=GENERATOR_STEPS["diffusion"], seed=seed)[0],
    }


def with_samples(train: Digits, samples: Digits) -> Digits:
    """Both, each repeated until there are about as many of one as of the other."""
    longest = max(len(train.labels), len(samples.labels))

    def repeated(data: Digits) -> Digits:
        times = round(longest / len(data.labels))
        return Digits(data.images.repeat(times, 1, 1, 1), data.labels.repeat(times))

    parts = repeated(train), repeated(samples)
    return Digits(*(torch.cat(pair) for pair in zip(*parts, strict=True)))


def training_sets(train: Digits, samples: dict[str, Digits]) -> dict[str, Digits]:
    """{method: digits to learn from}."""
    sets = {"shifts": train}
    for source, found in samples.items():
        sets[f"{source} samples"] = with_samples(train, found)
        sets[f"{source} samples only"] = found
    return sets


def measure(seeds: range = SEEDS, counts: tuple[int, ...] = LABELS) -> dict[str, Any]:
    """{"accuracy", "robust": {method: [seed][count]}, "nearest": {source: [seed][count]}}."""
    everything, test = digits("train"), digits("test")
    found: dict[str, dict[str, list[list[float]]]] = {"accuracy": {}, "robust": {}, "nearest": {}}

    def keep(figure: str, name: str, row: int, value: float) -> None:
        found[figure].setdefault(name, [[] for _ in seeds])[row].append(round(value, 4))

    for count, (row, seed) in itertools.product(counts, enumerate(seeds)):
        train = labelled(everything, count, seed)
        labels = torch.arange(DRAWN) % 10
        samples = {
            source: Digits(drawn(model, labels, seed), labels)
            for source, model in generators(train, seed).items()
        }
        pictures = {source: each.images for source, each in samples.items()}
        for name, images in {"test writers": test.images, **pictures}.items():
            keep("nearest", name, row, nearest(images, train.images).median().item())
        for method, data in training_sets(train, samples).items():
            model = train_augmented(SmallCNN, *data, seed=seed, views=shifts, **CLASSIFIER)
            keep("accuracy", method, row, accuracy(model, *test))
            attack = torch.Generator().manual_seed(seed)
            share = robust_accuracy(
                classifier(model), *test, epsilon=EPSILON, steps=20, generator=attack
            )
            keep("robust", method, row, share)
    return found


def effects(found: dict[str, Any], counts: tuple[int, ...] = LABELS) -> list[dict[str, Any]]:
    """What the samples of each generator add to real digits and shifts, in points."""
    methods = [f"{source} samples{only}" for source in SOURCES for only in ("", " only")]
    rows = []
    for kind in ("accuracy", "robust"):
        for at, count in enumerate(counts):
            for method in methods:
                new, old = ([run[at] for run in found[kind][name]] for name in (method, "shifts"))
                about = {"task": "digits", "model": "CNN", "labels": count, "against": "shifts"}
                rows.append(effect(method, new, old, kind=kind, **about))
    return rows


@experiment(
    "generated_samples",
    lesson="18",
    uses=[
        "experiments.augmented_training",
        "experiments.digits_generators",
        "experiments.digits_labels",
        "experiments.effects",
        "experiments.image_training",
        "zoo_lessons.adversarial",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.diffusion",
        "zoo_lessons.models.diffusion_transformer",
        "zoo_lessons.models.gan",
        "zoo_lessons.training.augment",
        "zoo_lessons.training.gan",
    ],
)
def generated_samples() -> dict[str, Any]:
    found = measure()
    about = {
        "labels": list(LABELS),
        "seeds": len(SEEDS),
        "epsilon": EPSILON,
        "drawn": DRAWN,
        "generator_steps": GENERATOR_STEPS,
    }
    return {"figures": {**about, "effects": effects(found), **found}}
