"""Masked autoencoders on scikit-learn's digits: what the experiments of lesson 11 share.

The encoder has the sizes of lesson 09's ViT for digits, so that the two can be compared. A decoder
of one narrow layer is thrown away after pre-training. Pre-training sees the 1,157 digits of the
training writers, moved and turned a little anew in each batch, and none of their labels.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from experiments.image_training import DIGITS_VIT, prepared
from zoo_lessons.models.mae import MAE, MAEConfig
from zoo_lessons.models.vit import ViTConfig
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.augment import random_affine

PRETRAINING_STEPS, BATCH, RATE = 2000, 64, 3e-3


def digits_mae(mask_ratio: float = 0.75) -> MAE:
    """An untrained masked autoencoder for the digits: 16 patches of 2 × 2 pixels."""
    shared = {f.name for f in fields(MAEConfig)} & {f.name for f in fields(ViTConfig)}
    sizes = {name: getattr(DIGITS_VIT, name) for name in shared}
    return MAE(
        MAEConfig(
            **sizes,
            decoder_d_model=32,
            decoder_num_layers=1,
            decoder_num_heads=4,
            decoder_d_ff=64,
            mask_ratio=mask_ratio,
        )
    )


def pretrain(
    images: Tensor, seed: int, *, mask_ratio: float = 0.75, steps: int = PRETRAINING_STEPS
) -> MAE:
    """A masked autoencoder trained on images (n, 1, 8, 8), from 0 to 1."""
    seed_everything(seed)
    model = digits_mae(mask_ratio)
    draw = torch.Generator().manual_seed(seed)

    def batch(step: int) -> Tensor:
        rows = torch.randint(len(images), (BATCH,), generator=draw)
        return prepared(random_affine(images[rows], draw))

    fit(
        model,
        batch,
        lambda model, images: model(images).loss,
        steps=steps,
        lr=RATE,
        weight_decay=0.05,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval()


@torch.no_grad()
def features(model: MAE, images: Tensor) -> Tensor:
    """The mean of the encoded patches of whole images (n, 1, 8, 8), from 0 to 1: (n, d_model)."""
    return model.encode(prepared(images), mask_ratio=0.0)[0][:, 1:].mean(dim=1)


class LinearProbe:
    """A frozen encoder with a linear classifier on top."""

    def __init__(self, model: MAE, classifier: Any, mean: Tensor, deviation: Tensor):
        self.model, self.classifier, self.mean, self.deviation = model, classifier, mean, deviation

    def accuracy(self, images: Tensor, labels: Tensor) -> float:
        """Share of images (n, 1, 8, 8) that are classified as labelled."""
        seen = (features(self.model, images) - self.mean) / self.deviation
        predicted = torch.from_numpy(self.classifier.predict(seen.numpy()))
        return round((predicted == labels).float().mean().item(), 4)


def linear_probe(
    model: MAE, train: tuple[Tensor, Tensor], validation: tuple[Tensor, Tensor]
) -> LinearProbe:
    """Logistic regression on frozen, standardised features; its penalty suits the validation."""
    from sklearn.linear_model import LogisticRegression

    known = features(model, train[0])
    mean, deviation = known.mean(dim=0), known.std(dim=0) + 1e-6
    best, best_score = None, -1.0
    for penalty in (0.01, 0.1, 1.0, 10.0):
        probe = LogisticRegression(C=penalty, max_iter=200)
        probe.fit(((known - mean) / deviation).numpy(), train[1].numpy())
        judged = LinearProbe(model, probe, mean, deviation)
        score = judged.accuracy(*validation)
        if score > best_score:
            best, best_score = judged, score
    return best
