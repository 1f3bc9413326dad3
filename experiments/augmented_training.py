"""Training a classifier of images whose batches are changed first: moved, mixed, or attacked.

Without any change, and with crops and shifts alone, this is the training of lesson 09's
`experiments.image_training.train_classifier`, except that targets are probabilities.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.image_training import prepared
from zoo_lessons.adversarial import Classify, pgd
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.augment import random_affine
from zoo_lessons.training.mixing import random_cutmix, random_mixup

# (model, images from 0 to 1, targets (batch, classes), generator) -> images, targets
Views = Callable[[nn.Module, Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def train_augmented(
    build: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    steps: int,
    lr: float,
    views: Views | None = None,
    batch_size: int = 64,
    num_labels: int = 10,
) -> nn.Module:
    """A model from `build`, trained with random batches; each seed has its own start and batches.

    Args:
        build: makes the untrained model, whose output has `logits`.
        images: (n, channels, height, width), from 0 to 1.
        labels: (n,).
        views: changes each batch; without it, images come as they are.
    """
    seed_everything(seed)
    model = build()
    # Rows and changes are drawn apart, so that all views of one seed see the same batches.
    draw, change = (torch.Generator().manual_seed(2 * seed + part) for part in (0, 1))
    targets = F.one_hot(labels, num_labels).to(images.dtype)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(labels), (batch_size,), generator=draw)
        chosen = images[rows], targets[rows]
        seen, wanted = views(model, *chosen, change) if views else chosen
        return prepared(seen), wanted

    fit(
        model,
        batch,
        lambda model, batch: F.cross_entropy(model(batch[0]).logits, batch[1]),
        steps=steps,
        lr=lr,
        weight_decay=0.05,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval()


def classifier(model: nn.Module) -> Classify:
    """The model as the attacks want it: images from 0 to 1 -> logits."""
    return lambda images: model(prepared(images)).logits


def shifts(
    model: nn.Module, images: Tensor, targets: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Each image moved, turned, resized and slanted a little."""
    return random_affine(images, draw).clamp(0, 1), targets


def mixed(alpha: float) -> Views:
    """MixUp, with λ from Beta(α, α)."""
    return lambda model, images, targets, draw: random_mixup(images, targets, draw, alpha=alpha)


def cut(alpha: float) -> Views:
    """CutMix, with λ from Beta(α, α)."""
    return lambda model, images, targets, draw: random_cutmix(images, targets, draw, alpha=alpha)


def attacked(epsilon: float, steps: int) -> Views:
    """Each image replaced by what PGD makes of it against the model as it is now."""

    def views(
        model: nn.Module, images: Tensor, targets: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        labels = targets.argmax(dim=-1)
        attack = {"epsilon": epsilon, "steps": steps, "generator": draw}
        return pgd(classifier(model), images, labels, **attack), targets

    return views


def one_after_another(*parts: Views) -> Views:
    """All of these, each on what the one before made."""

    def views(
        model: nn.Module, images: Tensor, targets: Tensor, draw: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        for part in parts:
            images, targets = part(model, images, targets, draw)
        return images, targets

    return views
