"""Small classifiers of images, trained alike: what the experiments of lesson 09 share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.augment import random_affine

DIGITS_VIT = ViTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    d_model=48,
    num_layers=3,
    num_heads=4,
    d_ff=96,
    num_labels=10,
)


@dataclass
class ClassifierOutput:
    logits: Tensor  # (batch, num_labels)


class SmallCNN(nn.Module):
    """Three convolutions of 3 × 3 and one pooling, for 8 × 8 images; as large as `DIGITS_VIT`."""

    def __init__(self, num_labels: int = 10):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(64 * 2 * 2, num_labels)

    def forward(self, pixel_values: Tensor) -> ClassifierOutput:
        """pixel_values (batch, 1, 8, 8)."""
        return ClassifierOutput(self.head(self.convolutions(pixel_values).flatten(1)))


def train_classifier(
    build: Callable[[], nn.Module],
    images: Tensor,
    labels: Tensor,
    *,
    seed: int,
    steps: int,
    lr: float,
    batch_size: int = 64,
    augment: bool = True,
) -> nn.Module:
    """A model from `build`, trained with random batches; each seed has its own start and batches.

    Args:
        build: makes the untrained model, whose output has `logits`.
        images: (n, channels, height, width), from 0 to 1; or word ids (n, length).
        labels: (n,).
        augment: move and turn each image a little, anew in each batch.
    """
    seed_everything(seed)
    model = build()
    draw = torch.Generator().manual_seed(seed)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(labels), (batch_size,), generator=draw)
        chosen = images[rows]
        return prepared(random_affine(chosen, draw) if augment else chosen), labels[rows]

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
    return model


def digits_vit(pooling: str = "class") -> ViT:
    """An untrained ViT for the digits."""
    return ViT(ViTConfig(**{**vars(DIGITS_VIT), "pooling": pooling}))


def prepared(images: Tensor) -> Tensor:
    """Pixels from -1 to 1, as ViT was published with; word ids as they are."""
    return 2 * images - 1 if images.is_floating_point() else images


@torch.no_grad()
def accuracy(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """Share of images whose highest logit is their label's."""
    right = model.eval()(prepared(images)).logits.argmax(dim=-1) == labels
    return round(right.float().mean().item(), 4)
