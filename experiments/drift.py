"""Drift detection on the digit reader's own vectors: false alarms, catches, and retraining.

Reference: the vectors of the 258 validation digits. A window holds 150 vectors.

- **False alarms**, where nothing has changed: validation and test digits are put together and split
  at random into reference and window, 300 times, alpha = 0.01. Kolmogorov-Smirnov with Bonferroni's
  correction, without it, and maximum mean discrepancy.
- **Catches**: four kinds of change at four strengths; 20 windows each of changed test digits,
  against the accuracy that the change costs.
- **A day of the service**: six clean windows, then tilted digits, through `DriftMonitor`, which
  wants two windows in a row; how many digits pass between the change and the alarm, 20 days.
- **Retraining** after the alarm, on 200 labelled tilted digits: with and without old ones in the
  batches, accuracy on tilted and on usual test digits, three seeds.

This settles no claim by itself (C29 reads it), and nothing here is timed: the figures are the same
on every run of one machine.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from experiments.image_training import accuracy
from zoo_lessons.checkpoints import load_trained
from zoo_lessons.datasets.digit_shifts import SHIFTS, shifted
from zoo_lessons.datasets.digits import digits
from zoo_lessons.deploy.serving.drift import DriftMonitor, drift_test
from zoo_lessons.deploy.serving.retrain import retrain
from zoo_lessons.records import experiment

ALPHA, WINDOW, SPLITS, WINDOWS, DAYS = 0.01, 150, 300, 20, 20
STRENGTHS = (0.25, 0.5, 0.75, 1.0)
TESTS = {
    "KS, corrected": {"test": "ks"},
    "KS, uncorrected": {"test": "ks", "correct": False},
    "MMD": {"test": "mmd", "permutations": 200},
}
CHANGE, LABELLED, SEEDS = "tilted", 200, range(3)


@torch.inference_mode()
def features(model: torch.nn.Module, images: Tensor) -> np.ndarray:
    """Vectors of the class token, as the service's replica gives them: (n, d_model)."""
    return model(2 * images - 1).last_hidden_state[:, 0].numpy()


def false_alarms(both: np.ndarray, reference: int, splits: int = SPLITS) -> dict[str, float]:
    """Share of random splits that each test takes for a change."""
    generator = np.random.default_rng(0)
    alarms = dict.fromkeys(TESTS, 0)
    for _ in range(splits):
        order = generator.permutation(len(both))
        first, second = both[order[:reference]], both[order[reference : reference + WINDOW]]
        for name, options in TESTS.items():
            alarms[name] += drift_test(first, second, alpha=ALPHA, **options).drifted
    return {name: round(count / splits, 4) for name, count in alarms.items()}


def catches(
    model: torch.nn.Module, reference: np.ndarray, images: Tensor, labels: Tensor
) -> list[dict[str, Any]]:
    """A row for each kind and strength: accuracy, and the share of windows that were caught."""
    rows = []
    for kind in SHIFTS:
        for strength in STRENGTHS:
            changed = shifted(images, kind, strength=strength)
            vectors, generator = features(model, changed), np.random.default_rng(1)
            found = dict.fromkeys(("KS, corrected", "MMD"), 0)
            for _ in range(WINDOWS):
                window = vectors[generator.permutation(len(vectors))[:WINDOW]]
                for name in found:
                    found[name] += drift_test(reference, window, alpha=ALPHA, **TESTS[name]).drifted
            caught = {name: count / WINDOWS for name, count in found.items()}
            score = accuracy(model, changed, labels)
            rows.append({"kind": kind, "strength": strength, "accuracy": score, "caught": caught})
    return rows


def day(reference: np.ndarray, clean: np.ndarray, changed: np.ndarray, seed: int) -> dict[str, Any]:
    """Alarms before the change, and digits between the change and the alarm (None: never)."""
    generator = np.random.default_rng(seed)
    monitor = DriftMonitor(reference, window=WINDOW, alpha=ALPHA)
    early = 0
    for vector in clean[generator.integers(len(clean), size=6 * WINDOW)]:
        early += monitor.add(vector) is not None and monitor.alarm
    for count, row in enumerate(generator.integers(len(changed), size=6 * WINDOW), start=1):
        if monitor.add(changed[row]) is not None and monitor.alarm:
            return {"early": early, "delay": count}
    return {"early": early, "delay": None}


def retrained(model: torch.nn.Module, seed: int) -> dict[str, dict[str, float]]:
    """Accuracy {what it learned from: {test digits: accuracy}}."""
    images, labels = digits("train", new_writers=False)
    chosen = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))[:LABELLED]
    new = shifted(images[chosen], CHANGE), labels[chosen]
    test_images, test_labels = digits("test", new_writers=False)
    found = {}
    for name, old in {"new only": None, "new and old": (images, labels)}.items():
        student = retrain(model, new, old, seed=seed)
        found[name] = {
            "tilted": accuracy(student, shifted(test_images, CHANGE), test_labels),
            "usual": accuracy(student, test_images, test_labels),
        }
    return found


@experiment(
    "drift",
    lesson="21",
    uses=[
        "experiments.digits_vit",
        "experiments.image_training",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.digit_shifts",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.deploy.serving.drift",
        "zoo_lessons.deploy.serving.retrain",
    ],
)
def drift() -> dict[str, Any]:
    model = load_trained("digits_vit")
    reference_images = digits("validation", new_writers=False).images
    images, labels = digits("test", new_writers=False)
    reference, clean = features(model, reference_images), features(model, images)
    changed = features(model, shifted(images, CHANGE))
    return {
        "figures": {
            "alpha": ALPHA,
            "window": WINDOW,
            "reference": len(reference),
            "dimensions": reference.shape[1],
            "splits": SPLITS,
            "false_alarms": false_alarms(np.concatenate([reference, clean]), len(reference)),
            "windows": WINDOWS,
            "clean_accuracy": accuracy(model, images, labels),
            "catches": catches(model, reference, images, labels),
            "days": [day(reference, clean, changed, seed) for seed in range(DAYS)],
            "before": {
                "tilted": accuracy(model, shifted(images, CHANGE), labels),
                "usual": accuracy(model, images, labels),
            },
            "labelled": LABELLED,
            "retrained": [retrained(model, seed) for seed in SEEDS],
        }
    }
