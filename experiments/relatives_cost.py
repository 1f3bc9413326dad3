"""What image size costs ViT and its relatives: FLOPs, memory and time, and how they grow.

The models are those of C19, each with about 60,000 parameters (ViT has more at larger sizes, since
it learns a vector for every position). For images of 32 to 256 pixels a side:

- FLOPs are counted by PyTorch's counter, and so is attention's share of them;
- memory is the growth of PyTorch's memory in one forward pass, counted by `bench.peak_memory`;
- the times of a forward pass and of a training step are measured side by side, with one image.

An exponent p says that the cost grows as (number of pixels)ᵖ: 1 is linear. It is fitted from 64
pixels on, because below that a single image is so little work that fixed costs rule its time. One
exponent for all sizes hides that ViT's grows with the image; `slope` has one for each two
neighbouring sizes.

Last, inference at the size of C19's task, in batches: what its plot of accuracy needs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import log
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.c19_relatives import (
    BASELINE,
    IMAGE_SIZE,
    MODELS,
    NUM_LABELS,
    count_flops,
    count_parameters,
)
from zoo_lessons.bench import CONTROL, Comparison, compare, fit_exponent, peak_memory
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

SIZES = [32, 64, 96, 128, 192, 256]
TRAINING_SIZES = [32, 64, 96, 128, 192]
FITTED_FROM = 64  # pixels a side
TASK_BATCH = 64
ROUNDS = 7


def forward_pass(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """A function that makes one forward pass without gradients."""
    model.eval()

    @torch.no_grad()
    def run() -> None:
        model(images)

    return run


def training_step(model: nn.Module, images: Tensor) -> Callable[[], None]:
    """A function that makes one training step: forward, backward, update."""
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    labels = torch.arange(len(images)) % NUM_LABELS

    def run() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(images).logits, labels).backward()
        optimizer.step()

    return run


def candidates(
    make: Callable[[nn.Module, Tensor], Callable[[], None]], size: int, batch: int = 1
) -> dict[str, Callable[[], None]]:
    """One function a model, on the same images."""
    seed_everything(0)
    images = torch.rand(batch, 3, size, size)
    return {name: make(build(size), images) for name, build in MODELS.items()}


def counted(sizes: list[int]) -> dict[str, Any]:
    """What needs no clock: parameters, FLOPs, attention's share, memory; [size] for each model."""
    figures: dict[str, dict[str, list]] = {
        key: {name: [] for name in MODELS}
        for key in ("parameters", "flops", "attention_share", "memory")
    }
    for size in sizes:
        passes = candidates(forward_pass, size)
        for name, build in MODELS.items():
            flops, share = count_flops(build(size), size)
            figures["parameters"][name].append(count_parameters(build(size)))
            figures["flops"][name].append(flops)
            figures["attention_share"][name].append(round(share, 4))
            figures["memory"][name].append(peak_memory(passes[name]))
    return figures


def summary(comparisons: list[Comparison]) -> dict[str, Any]:
    """Seconds, and ratios to ViT with their intervals; [size] for each model."""
    return {
        "seconds": {name: [c.median(name) for c in comparisons] for name in MODELS},
        "ratio": {name: [c.ratio(name) for c in comparisons] for name in MODELS},
        "interval": {name: [list(c.interval(name)) for c in comparisons] for name in MODELS},
        "control_interval": [list(c.interval(CONTROL)) for c in comparisons],
    }


def exponents(sizes: list[int], costs: dict[str, list[float]]) -> dict[str, Any]:
    """The exponent of each model's cost in the number of pixels, with its interval."""
    found = {}
    for name, values in costs.items():
        pairs = zip(sizes, values, strict=True)
        pixels, fitted = zip(*((n**2, cost) for n, cost in pairs if n >= FITTED_FROM), strict=True)
        value, interval = fit_exponent(pixels, fitted)
        found[name] = {"value": round(value, 3), "interval": [round(end, 3) for end in interval]}
    return found


def slopes(sizes: list[int], costs: list[float]) -> list[float]:
    """The exponent between each two neighbouring sizes."""
    pairs = zip(pairwise(sizes), pairwise(costs), strict=True)
    return [round(log(b / a) / log((large / small) ** 2), 3) for (small, large), (a, b) in pairs]


def half(sizes: list[int], shares: list[float]) -> int | None:
    """The smallest size at which attention makes at least half of the FLOPs, if there is one."""
    return next((size for size, share in zip(sizes, shares, strict=True) if share >= 0.5), None)


def at_task(comparison: Comparison, batch: int) -> dict[str, Any]:
    """Inference on a batch of the task's images."""
    return {
        "batch": batch,
        "seconds_per_image": {name: comparison.median(name) / batch for name in MODELS},
        "ratio": {name: comparison.ratio(name) for name in MODELS},
        "interval": {name: list(comparison.interval(name)) for name in MODELS},
        "control_interval": list(comparison.interval(CONTROL)),
    }


@experiment(
    "relatives_cost",
    lesson="10",
    uses=[
        "experiments.c19_relatives",
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.patches",
        "zoo_lessons.models.cvt",
        "zoo_lessons.models.mobilevit",
        "zoo_lessons.models.swin",
        "zoo_lessons.models.t2t_vit",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.random_state",
    ],
)
def relatives_cost() -> dict[str, Any]:
    counts = counted(SIZES)
    forward = summary([compare(candidates(forward_pass, size), rounds=ROUNDS) for size in SIZES])
    training = summary(
        [compare(candidates(training_step, size), rounds=ROUNDS) for size in TRAINING_SIZES]
    )
    task = compare(candidates(forward_pass, IMAGE_SIZE, TASK_BATCH), rounds=ROUNDS)
    figures = {
        "sizes": SIZES,
        "training_sizes": TRAINING_SIZES,
        "first": BASELINE,
        "rounds": ROUNDS,
        "fitted_from": FITTED_FROM,
        **counts,
        "forward": forward,
        "training": training,
        "exponent": {
            "flops": exponents(SIZES, counts["flops"]),
            "memory": exponents(SIZES, counts["memory"]),
            "forward": exponents(SIZES, forward["seconds"]),
            "training": exponents(TRAINING_SIZES, training["seconds"]),
        },
        "slope": {
            "flops": {name: slopes(SIZES, values) for name, values in counts["flops"].items()},
            "forward": {name: slopes(SIZES, values) for name, values in forward["seconds"].items()},
        },
        "half": {name: half(SIZES, shares) for name, shares in counts["attention_share"].items()},
        "at_task": at_task(task, TASK_BATCH),
    }
    return {"figures": figures}
