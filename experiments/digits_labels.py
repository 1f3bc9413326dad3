"""How many labels does each model need? Logistic regression, a small CNN and a ViT on digits.

The digits are scikit-learn's, split by people: nobody wrote both for training and for the test. All
three learn from the same labelled digits, as many of each class, drawn anew for each seed. CNN and
ViT have about 58,000 parameters each, the same steps, batches and augmentation. Each model is tuned
on the validation writers: CNN and ViT choose their learning rate at 200 labels with a seed that is
not used again; logistic regression chooses its penalty, and whether to learn from augmented copies
too, for each seed and number of labels. The test writers are looked at once, at the end.

Figures: accuracy [seed][number of labels] for each model; the chosen learning rates.

This settles no claim by itself: C18 also asks what pre-training changes, and its experiment reads
this record. Nothing here is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from experiments.image_training import SmallCNN, accuracy, digits_vit, train_classifier
from zoo_lessons.datasets.digits import Digits, digits
from zoo_lessons.records import experiment
from zoo_lessons.training.augment import random_affine

LABELS = (50, 100, 200, 400, 1157)
SEEDS = range(4)
STEPS = 500
RATES = (1e-3, 3e-3, 6e-3)
TUNED_AT, TUNING_SEED = 200, 100
PENALTIES = (0.1, 1.0, 10.0, 100.0)  # scikit-learn's C: larger is a weaker penalty
COPIES = (0, 8)  # augmented copies of each digit, for logistic regression
NETWORKS: dict[str, Callable[[], nn.Module]] = {"CNN": SmallCNN, "ViT": digits_vit}


def labelled(data: Digits, count: int, seed: int) -> Digits:
    """`count` of the digits, of each class as many as of any other where there are enough."""
    order = torch.randperm(len(data.labels), generator=torch.Generator().manual_seed(seed))
    labels = data.labels[order]
    turn = torch.stack([(labels == label).cumsum(0) for label in range(10)])  # (10, digits)
    rank = turn.gather(0, labels[None])[0]  # the how-manieth digit of its class
    rows = order[rank.argsort(stable=True)[:count]]
    return Digits(data.images[rows], data.labels[rows])


def logistic_regression(train: Digits, validation: Digits, seed: int) -> Callable[[Tensor], Tensor]:
    """The best of all penalties and numbers of copies, by the validation digits."""
    from sklearn.linear_model import LogisticRegression

    generator = torch.Generator().manual_seed(seed)
    best, best_score = None, -1.0
    for copies in COPIES:
        views = [train.images, *(random_affine(train.images, generator) for _ in range(copies))]
        pixels = torch.cat(views).flatten(1).numpy()
        labels = train.labels.repeat(1 + copies).numpy()
        for penalty in PENALTIES:
            model = LogisticRegression(C=penalty / (1 + copies), max_iter=500).fit(pixels, labels)
            score = model.score(validation.images.flatten(1).numpy(), validation.labels.numpy())
            if score > best_score:
                best, best_score = model, score
    return lambda images: torch.from_numpy(best.predict(images.flatten(1).numpy()))


def choose_rate(build: Callable[[], nn.Module], steps: int) -> float:
    """The learning rate with the highest accuracy on the validation writers."""
    train, validation = labelled(digits("train"), TUNED_AT, TUNING_SEED), digits("validation")
    scores = {}
    for rate in RATES:
        model = train_classifier(build, *train, seed=TUNING_SEED, steps=steps, lr=rate)
        scores[rate] = accuracy(model, *validation)
    return max(scores, key=lambda rate: scores[rate])


def measure(
    seeds: range = SEEDS, counts: tuple[int, ...] = LABELS, *, steps: int = STEPS
) -> dict[str, Any]:
    """{"rates": {network: rate}, "accuracy": {model: [seed][number of labels]}}."""
    everything, validation, test = (digits(split) for split in ("train", "validation", "test"))
    rates = {name: choose_rate(build, steps) for name, build in NETWORKS.items()}
    found: dict[str, list[list[float]]] = {"logistic regression": [], "CNN": [], "ViT": []}
    for seed in seeds:
        rows: dict[str, list[float]] = {name: [] for name in found}
        for count in counts:
            train = labelled(everything, count, seed)
            predict = logistic_regression(train, validation, seed)
            right = predict(test.images) == test.labels
            rows["logistic regression"].append(round(right.float().mean().item(), 4))
            for name, build in NETWORKS.items():
                model = train_classifier(build, *train, seed=seed, steps=steps, lr=rates[name])
                rows[name].append(accuracy(model, *test))
        for name, row in rows.items():
            found[name].append(row)
    return {"rates": rates, "accuracy": found}


@experiment(
    "digits_labels",
    lesson="09",
    uses=[
        "experiments.image_training",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.augment",
    ],
)
def digits_labels() -> dict[str, Any]:
    about = {
        "labels": list(LABELS),
        "seeds": len(SEEDS),
        "steps": STEPS,
        "test_digits": len(digits("test").labels),
        "parameters": {
            name: sum(parameter.numel() for parameter in build().parameters())
            for name, build in NETWORKS.items()
        },
    }
    return {"figures": {**about, **measure()}}
