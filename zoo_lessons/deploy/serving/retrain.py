"""What a drift alarm sets off: learn from what the new inputs turned out to be."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.augment import random_affine


def retrain(
    model: nn.Module,
    new: tuple[Tensor, Tensor],
    old: tuple[Tensor, Tensor] | None,
    *,
    steps: int = 150,
    lr: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
) -> nn.Module:
    """A copy of a digit reader that has gone on learning.

    Half of each batch are old digits, so that what it knew is not forgotten.

    Args:
        model: stays as it is.
        new: images (n, 1, 8, 8) from 0 to 1 and labels (n,), of the kind that raised the alarm.
        old: the same from before; None shows what is forgotten without them.
        steps, lr, batch_size, seed: of the training.
    """
    seed_everything(seed)
    student = copy.deepcopy(model)
    draw = torch.Generator().manual_seed(seed)
    sources = [new] if old is None else [new, old]

    def batch(step: int) -> tuple[Tensor, Tensor]:
        parts = []
        for images, labels in sources:
            rows = torch.randint(len(labels), (batch_size // len(sources),), generator=draw)
            parts.append((images[rows], labels[rows]))
        images, labels = (torch.cat(column) for column in zip(*parts, strict=True))
        return 2 * random_affine(images, draw) - 1, labels

    fit(
        student,
        batch,
        lambda student, batch: F.cross_entropy(student(batch[0]).logits, batch[1]),
        steps=steps,
        lr=lr,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return student.eval()
