"""C17: does the class token represent the whole image? Class token against mean pooling.

A small ViT learns scikit-learn's digits. In one variant the classifier reads the last vector of the
class token, in another the mean of the patches' last vectors. A third has the class token and no
position embeddings: it sees the same patches as a heap. Everything else is equal, the learning rate
included. The test digits are by writers who wrote nothing in training.

Figures: accuracy [seed] for each variant.

**Reproduced** if the class token reaches 0.9 in every seed and is on average at most 0.02 behind
the mean of the patches; **partly** if it reaches 0.9 but lags by more; otherwise the article is
wrong.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from experiments.image_training import accuracy, digits_vit, train_classifier
from experiments.intervals import mean_interval
from zoo_lessons.datasets.digits import digits
from zoo_lessons.records import Verdict, experiment

SEEDS = range(4)
STEPS = 500
RATE = 3e-3
GOOD, BEHIND = 0.9, 0.02


def without_positions() -> nn.Module:
    """A ViT with a class token whose position embeddings are zero and stay so."""
    model = digits_vit()
    nn.init.zeros_(model.embeddings.positions)
    model.embeddings.positions.requires_grad_(False)
    return model


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "class token": digits_vit,
    "mean of patches": lambda: digits_vit("mean"),
    "class token, no positions": without_positions,
}


def measure(seeds: range = SEEDS, *, steps: int = STEPS) -> dict[str, list[float]]:
    """Accuracy on the test writers: {variant: [seed]}."""
    train, test = digits("train"), digits("test")
    return {
        name: [
            accuracy(train_classifier(build, *train, seed=seed, steps=steps, lr=RATE), *test)
            for seed in seeds
        ]
        for name, build in VARIANTS.items()
    }


def judge(accuracies: dict[str, list[float]]) -> Verdict:
    """The verdict by the thresholds above."""
    token, mean = accuracies["class token"], accuracies["mean of patches"]
    gap, low, high = mean_interval([one - other for one, other in zip(token, mean, strict=True)])
    works, keeps_up = min(token) >= GOOD, gap >= -BEHIND
    result = "reproduced" if works and keeps_up else "partly" if works else "the article is wrong"

    def text(name: str) -> str:
        average, lowest, highest = mean_interval(accuracies[name])
        return f"{name} {average:.3f} ({lowest:.3f} to {min(highest, 1):.3f})"

    return Verdict(
        result,
        ours=(
            f"accuracy on new writers: {text('class token')}, {text('mean of patches')}; "
            f"difference {gap:+.3f} ({low:+.3f} to {high:+.3f}) over {len(token)} seeds"
        ),
        explanation=(
            "The class token does represent the image, because training makes the classifier read "
            "it. The mean of the patches can do the same without an extra token."
        ),
        cell="09#Claim-C17:-class-token-or-mean?",
    )


@experiment(
    "c17_class_token",
    claims=["C17"],
    lesson="09",
    uses=[
        "experiments.image_training",
        "experiments.intervals",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.augment",
    ],
)
def c17_class_token() -> dict[str, Any]:
    accuracies = measure()
    about = {"seeds": len(SEEDS), "steps": STEPS, "rate": RATE}
    return {
        "figures": {**about, "accuracy": accuracies},
        "verdicts": {"C17": judge(accuracies)},
    }
