"""How many patches to hide? Masked autoencoders of the digits with different mask ratios.

Each ratio pre-trains for the same number of steps, so that low ratios cost more time: their encoder
sees more patches. Judged is what the encoder has learned, not its loss, which is another task at
each ratio: a linear probe, and fine-tuning with `LABELLED` labels as in `c18_after_mae`, with fewer
steps of both trainings.

Figures: accuracy [ratio][seed] of probe and fine-tuning on the test writers, and of the probe on an
untrained encoder.
"""

from __future__ import annotations

from typing import Any

from experiments.digits_labels import labelled
from experiments.image_training import accuracy, train_classifier
from experiments.mae_digits import digits_mae, linear_probe, pretrain
from zoo_lessons.datasets.digits import digits
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

RATIOS = (0.25, 0.5, 0.75, 0.875)  # 4, 8, 12 and 14 of 16 patches
SEEDS = range(3)
PRETRAINING_STEPS = 1200
LABELLED, STEPS, FINE_TUNING_RATE = 100, 300, 3e-3


def measure(
    seeds: range = SEEDS,
    ratios: tuple[float, ...] = RATIOS,
    *,
    steps: int = STEPS,
    pretraining_steps: int = PRETRAINING_STEPS,
) -> dict[str, Any]:
    """{"probe": [ratio][seed], "fine-tuned": [ratio][seed], "untrained probe": [seed]}."""
    everything, validation, test = (digits(split) for split in ("train", "validation", "test"))
    subsets = {seed: labelled(everything, LABELLED, seed) for seed in seeds}
    found: dict[str, list] = {"probe": [], "fine-tuned": [], "untrained probe": []}
    for seed in seeds:
        seed_everything(seed)
        probe = linear_probe(digits_mae(), subsets[seed], validation)
        found["untrained probe"].append(probe.accuracy(*test))
    for ratio in ratios:
        probed, tuned = [], []
        for seed in seeds:
            model = pretrain(everything.images, seed, mask_ratio=ratio, steps=pretraining_steps)
            probed.append(linear_probe(model, subsets[seed], validation).accuracy(*test))
            classifier = train_classifier(
                lambda model=model: model.to_vit(10, pooling="mean"),
                *subsets[seed],
                seed=seed,
                steps=steps,
                lr=FINE_TUNING_RATE,
            )
            tuned.append(accuracy(classifier, *test))
        found["probe"].append(probed)
        found["fine-tuned"].append(tuned)
    return found


@experiment(
    "mae_ratio",
    lesson="11",
    uses=[
        "experiments.digits_labels",
        "experiments.image_training",
        "experiments.mae_digits",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.models.mae",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.augment",
        "zoo_lessons.training.random_state",
    ],
)
def mae_ratio() -> dict[str, Any]:
    about = {
        "ratios": list(RATIOS),
        "seeds": len(SEEDS),
        "labels": LABELLED,
        "steps": STEPS,
        "pretraining_steps": PRETRAINING_STEPS,
    }
    return {"figures": {**about, **measure()}}
