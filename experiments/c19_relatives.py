"""C19: do CvT, Swin and T2T-ViT bring locality back into the ViT? Five relatives at equal size.

ViT, CvT, Swin, T2T-ViT, MobileViT and, as an outside reference, a plain CNN name the one shape in
an image of the shapes world, wherever it is and whatever its colour. All have 60,000 parameters,
within 2 %; the same images, batches, steps, schedule and weight decay; and the same first weights,
Xavier uniform, because the published ones suit wide models. The learning rate is chosen for each
model on validation images, with a seed that is not used again. Parameters are equal, FLOPs are not:
they are counted beside.

A ranking does not show that locality is its reason. So each model learns a second time, on images
whose 4×4 patches lie in another order, the same one in every image. A ViT with 4×4 patches loses
nothing by that: its position embeddings can learn any order. A model that relies on what lies
beside what must lose.

Figures: accuracy on test images, natural [number of training images][seed] and shuffled [seed];
accuracy on images of the training set, which tells a model that has not finished learning from one
that does not generalise; means over the seeds, with intervals, of the gain over ViT, of the drop
from natural to shuffled images, and of the drop beyond ViT's.

A relative *is local* if its drop exceeds ViT's, and *gains* if it is more accurate than ViT on
natural images; either with the whole 95 % interval, at the largest number of training images. The
claim is **reproduced** if CvT, Swin and T2T-ViT all are local and gain, **partly** if at least one
of them is local; otherwise the article is wrong.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.image_training import ClassifierOutput, accuracy, train_classifier
from experiments.intervals import mean_interval
from zoo_lessons.datasets.shapes import SHAPES, ShapesDataset
from zoo_lessons.layers.patches import image_to_patches, patches_to_image
from zoo_lessons.models.cvt import CvT, CvTConfig
from zoo_lessons.models.mobilevit import MobileViT, MobileViTConfig
from zoo_lessons.models.swin import Swin, SwinConfig
from zoo_lessons.models.t2t_vit import T2TViT, T2TViTConfig
from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.records import Verdict, experiment

IMAGE_SIZE, PATCH_SIZE, NUM_LABELS = 32, 4, len(SHAPES)
DIFFICULTY = "medium"
TRAIN_IMAGES = (500, 2000)
VALIDATION_IMAGES = TEST_IMAGES = 1000
SEEDS = range(3)
TUNING_SEED = 100
STEPS, BATCH = 1000, 32  # steps with the largest training set
RATES = (3e-3, 6e-3)
BUDGET, TOLERANCE = 60_000, 0.02
RELATIVES = ("CvT", "Swin", "T2T-ViT")  # of whom the claim speaks
BASELINE = "ViT"


class PlainCNN(nn.Module):
    """Four convolutions of 3×3, the resolution halved after each but the last, then their mean."""

    def __init__(self, channels: tuple[int, ...] = (16, 32, 50, 88)):
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in channels:
            layers += [nn.MaxPool2d(2)] if layers else []
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
            before = width
        self.convolutions = nn.Sequential(*layers)
        self.head = nn.Linear(before, NUM_LABELS)

    def forward(self, pixel_values: Tensor) -> ClassifierOutput:
        """pixel_values (batch, 3, height, width)."""
        return ClassifierOutput(self.head(self.convolutions(pixel_values).mean(dim=(-2, -1))))


def vit(image_size: int = IMAGE_SIZE) -> nn.Module:
    """Three blocks over patches of 4×4."""
    return ViT(
        ViTConfig(
            image_size=image_size,
            patch_size=PATCH_SIZE,
            d_model=48,
            num_layers=3,
            num_heads=4,
            d_ff=88,
            num_labels=NUM_LABELS,
            eps=1e-6,
        )
    )


def cvt(image_size: int = IMAGE_SIZE) -> nn.Module:
    """Three stages, on grids of 16, 8 and 4 in an image of 32. It takes any size."""
    return CvT(
        CvTConfig(
            patch_sizes=(5, 3, 3),
            patch_strides=(2, 2, 2),
            patch_paddings=(2, 1, 1),
            d_model=(16, 24, 48),
            num_heads=(1, 2, 4),
            depths=(1, 1, 2),
            mlp_ratio=1.5,
            num_labels=NUM_LABELS,
        )
    )


def swin(image_size: int = IMAGE_SIZE) -> nn.Module:
    """Two stages with windows of 4×4, on grids of 8 and 4 in an image of 32. It takes any size."""
    return Swin(
        SwinConfig(
            patch_size=PATCH_SIZE,
            d_model=24,
            depths=(2, 2),
            num_heads=(2, 4),
            window_size=4,
            mlp_ratio=2.5,
            num_labels=NUM_LABELS,
        )
    )


def t2t_vit(image_size: int = IMAGE_SIZE) -> nn.Module:
    """Three soft splits, then three blocks.

    The splits overlap as published. The last two have stride 1 instead of 2, so that the grid is as
    fine as ViT's.
    """
    return T2TViT(
        T2TViTConfig(
            image_size=image_size,
            splits=((7, 4, 2), (3, 1, 1), (3, 1, 1)),
            d_token=14,
            d_model=44,
            num_layers=3,
            num_heads=4,
            mlp_ratio=1.5,
            num_labels=NUM_LABELS,
        )
    )


def mobilevit(image_size: int = IMAGE_SIZE) -> nn.Module:
    """One Transformer layer in each of three stages, on grids of 8, 4 and 4 in an image of 32.

    It takes any size. The published strides would leave one place of such an image.
    """
    return MobileViT(
        MobileViTConfig(
            channels=(8, 12, 16, 16, 20, 22, 48),
            strides=(2, 1, 2, 1, 2, 1),
            d_model=(20, 24, 28),
            num_layers=(1, 1, 1),
            expand_ratio=2.0,
            dropout=0.0,
            classifier_dropout=0.0,
            num_labels=NUM_LABELS,
        )
    )


def cnn(image_size: int = IMAGE_SIZE) -> nn.Module:
    """The outside reference; it takes any size."""
    return PlainCNN()


MODELS: dict[str, Callable[..., nn.Module]] = {
    BASELINE: vit,
    "CvT": cvt,
    "Swin": swin,
    "T2T-ViT": t2t_vit,
    "MobileViT": mobilevit,
    "CNN": cnn,
}


def count_parameters(model: nn.Module) -> int:
    """Numbers that training changes."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@torch.no_grad()
def count_flops(model: nn.Module, image_size: int = IMAGE_SIZE) -> tuple[int, float]:
    """FLOPs of one image's forward pass, and attention's share of them.

    PyTorch's counter counts matrix products, convolutions and attention, a multiplication and an
    addition as two; it leaves out norms, activations and softmax. Attention's share are its two
    products, of queries with keys and of weights with values. The model's tensors become `meta`:
    they have shapes and no values, so that nothing is computed or stored.
    """
    model = model.to("meta").eval()
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, image_size, image_size, device="meta"))
    total = counter.get_total_flops()
    # Off the CPU's fused kernel, attention is the only batched matrix product of these models.
    return total, counter.get_flop_counts()["Global"].get(torch.ops.aten.bmm, 0) / total


def task(split: str, size: int) -> tuple[Tensor, Tensor]:
    """Images (size, 3, 32, 32) from 0 to 1 of one shape each, and which of `SHAPES` it is."""
    world = ShapesDataset(
        split, size, image_size=IMAGE_SIZE, difficulty=DIFFICULTY, num_objects=(1,)
    )
    labels = [SHAPES.index(scene.objects[0].shape) for scene in world.scenes]
    return world.pixel_values() / 2 + 0.5, torch.tensor(labels)


def shuffle_patches(images: Tensor, patch_size: int = PATCH_SIZE) -> Tensor:
    """All images (batch, channels, height, width) with their patches in one other order."""
    patches = image_to_patches(images, patch_size)
    order = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(0))
    return patches_to_image(patches[:, order], patch_size, *images.shape[-2:])


def same_start(module: nn.Module) -> None:
    """Xavier uniform for every linear layer and convolution; biases zero."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def trained(
    build: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    steps: int,
    lr: float,
) -> nn.Module:
    """A model from `build`, trained by the recipe that all share."""
    return train_classifier(
        lambda: build().apply(same_start),
        images,
        labels,
        seed=seed,
        steps=steps,
        lr=lr,
        batch_size=BATCH,
        augment=False,
    )


def choose_rates(
    train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor], *, steps: int
) -> dict[str, list[float]]:
    """Accuracy on the validation images: {model: [rate of RATES]}."""
    return {
        name: [
            accuracy(trained(build, *train, seed=TUNING_SEED, steps=steps, lr=rate), *validation)
            for rate in RATES
        ]
        for name, build in MODELS.items()
    }


def measure(
    seeds: range = SEEDS,
    sizes: tuple[int, ...] = TRAIN_IMAGES,
    *,
    steps: int = STEPS,
    held_out: int = TEST_IMAGES,
) -> dict[str, Any]:
    """Validation, chosen rates and accuracies, as the record holds them.

    Smaller training sets are the beginnings of the largest, and are gone through as often.
    """
    images, labels = task("train", sizes[-1])
    validation, (test_images, test_labels) = task("validation", held_out), task("test", held_out)
    validated = choose_rates((images, labels), validation, steps=steps)
    rates = {name: RATES[scores.index(max(scores))] for name, scores in validated.items()}

    def scores(name: str, count: int, view: Callable[[Tensor], Tensor]) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {"test": [], "train": []}
        few, few_labels = view(images[: sizes[0]]), labels[: sizes[0]]
        for seed in seeds:
            train = view(images[:count]), labels[:count]
            model = trained(
                MODELS[name], *train, seed=seed, steps=steps * count // sizes[-1], lr=rates[name]
            )
            found["test"].append(accuracy(model, view(test_images), test_labels))
            found["train"].append(accuracy(model, few, few_labels))
        return found

    natural = {name: [scores(name, count, lambda x: x) for count in sizes] for name in MODELS}
    shuffled = {name: scores(name, sizes[-1], shuffle_patches) for name in MODELS}
    return {
        "validation": validated,
        "rate": rates,
        "accuracy": {name: [each["test"] for each in rows] for name, rows in natural.items()},
        "train_accuracy": {
            name: [each["train"] for each in rows] for name, rows in natural.items()
        },
        "shuffled": {name: each["test"] for name, each in shuffled.items()},
    }


def compare_with_vit(
    accuracies: dict[str, list[list[float]]], shuffled: dict[str, list[float]]
) -> dict[str, dict[str, dict[str, float]]]:
    """Gain over ViT, drop from natural to shuffled images, and drop beyond ViT's, seed by seed."""
    natural = {name: rows[-1] for name, rows in accuracies.items()}
    drop = {name: _minus(natural[name], shuffled[name]) for name in natural}
    others = [name for name in natural if name != BASELINE]
    return {
        "gain": {name: _interval(_minus(natural[name], natural[BASELINE])) for name in others},
        "drop": {name: _interval(values) for name, values in drop.items()},
        "extra_drop": {name: _interval(_minus(drop[name], drop[BASELINE])) for name in others},
    }


def judge(figures: dict[str, Any]) -> Verdict:
    """The verdict by the rule above."""
    gain, extra = figures["gain"], figures["extra_drop"]
    local = [name for name in RELATIVES if extra[name]["low"] > 0]
    gains = [name for name in RELATIVES if gain[name]["low"] > 0]
    if set(local) == set(gains) == set(RELATIVES):
        result = "reproduced"
    else:
        result = "partly" if local else "the article is wrong"

    def mean(values: list[float]) -> str:
        return f"{sum(values) / len(values):.2f}"

    scores = ", ".join(
        f"{name} {mean(rows[-1])} ({mean(figures['shuffled'][name])} shuffled)"
        for name, rows in figures["accuracy"].items()
    )
    return Verdict(
        result,
        ours=f"accuracy at {BUDGET:,} parameters, natural and with shuffled patches: {scores}",
        explanation=(
            f"Shuffling costs more than it costs ViT: {', '.join(local) or 'none'}. More accurate "
            f"than ViT on natural images: {', '.join(gains) or 'none'}. Small images, "
            f"{figures['steps']} steps and one task: the order may differ at scale."
        ),
        cell="10#7-·-Equal-budgets",
    )


def _minus(one: list[float], other: list[float]) -> list[float]:
    return [a - b for a, b in zip(one, other, strict=True)]


def _interval(values: list[float]) -> dict[str, float]:
    mean, low, high = mean_interval(values)
    return {"mean": round(mean, 4), "low": round(low, 4), "high": round(high, 4)}


@experiment(
    "c19_relatives",
    claims=["C19"],
    lesson="10",
    uses=[
        "experiments.image_training",
        "experiments.intervals",
        "zoo_lessons.datasets.shapes.dataset",
        "zoo_lessons.datasets.shapes.drawing",
        "zoo_lessons.datasets.shapes.scenes",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.layers.patches",
        "zoo_lessons.models.cvt",
        "zoo_lessons.models.mobilevit",
        "zoo_lessons.models.swin",
        "zoo_lessons.models.t2t_vit",
        "zoo_lessons.models.vit",
    ],
)
def c19_relatives() -> dict[str, Any]:
    parameters = {name: count_parameters(build()) for name, build in MODELS.items()}
    assert all(abs(n - BUDGET) <= TOLERANCE * BUDGET for n in parameters.values()), parameters
    flops = {name: count_flops(build()) for name, build in MODELS.items()}
    about = {
        "image_size": IMAGE_SIZE,
        "labels": NUM_LABELS,
        "difficulty": DIFFICULTY,
        "steps": STEPS,
        "batch": BATCH,
        "seeds": len(SEEDS),
        "train_images": list(TRAIN_IMAGES),
        "validation_images": VALIDATION_IMAGES,
        "test_images": TEST_IMAGES,
        "rates_tried": list(RATES),
        "shuffled_at": TRAIN_IMAGES[-1],
        "train_accuracy_on": TRAIN_IMAGES[0],
        "parameters": parameters,
        "flops": {name: total for name, (total, _) in flops.items()},
        "attention_share": {name: round(share, 4) for name, (_, share) in flops.items()},
    }
    measured = measure()
    figures = {
        **about,
        **measured,
        **compare_with_vit(measured["accuracy"], measured["shuffled"]),
    }
    return {"figures": figures, "verdicts": {"C19": judge(figures)}}
