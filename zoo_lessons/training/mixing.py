"""MixUp and CutMix: training images made of two, with labels mixed in the same shares.

Sources: Zhang et al., "mixup: Beyond Empirical Risk Minimization" (2018), section 2; Yun et al.,
"CutMix" (2019), section 3.1. That a box at the edge is clipped, and the shares are taken from what
is left of it, stands in the published code of CutMix, not in the paper.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Box(NamedTuple):
    """A rectangle of pixels: rows from `top` up to `bottom`, columns from `left` up to `right`."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def area(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


def cut_box(height: int, width: int, lam: float, centre: tuple[int, int]) -> Box:
    """The box that CutMix cuts out: 1 - λ of the image, or less where the edge clips it.

    Args:
        height, width: of the image, in pixels.
        lam: λ, the share of the first image that should stay, from 0 to 1.
        centre: row and column, inside the image.

    Raises:
        ValueError: λ or the centre is out of range.
    """
    _check_share(lam)
    row, column = centre
    if not (0 <= row < height and 0 <= column < width):
        raise ValueError(f"centre {centre} must lie inside the image of {height} x {width} pixels")
    tall, wide = (round(side * math.sqrt(1 - lam)) for side in (height, width))
    top, left = row - tall // 2, column - wide // 2
    return Box(max(top, 0), min(top + tall, height), max(left, 0), min(left + wide, width))


def mixup(images: Tensor, targets: Tensor, order: Tensor, lam: float) -> tuple[Tensor, Tensor]:
    """Each image and its partner, laid over each other: λ x_i + (1 - λ) x_j, and so the targets.

    Args:
        images: (batch, ...).
        targets: probabilities of the classes, (batch, classes), such as one-hot labels.
        order: (batch,); the partner of image i is image order[i].
        lam: λ, from 0 to 1.

    Returns:
        The mixed images and targets, of the same shapes.

    Raises:
        ValueError: shapes that do not fit, or λ out of range.
    """
    _check_batch(images, targets, order)
    _check_share(lam)
    return (
        lam * images + (1 - lam) * images[order],
        lam * targets + (1 - lam) * targets[order],
    )


def cutmix(images: Tensor, targets: Tensor, order: Tensor, box: Box) -> tuple[Tensor, Tensor]:
    """Each image with a box from its partner; the targets are mixed by area.

    Args:
        images: (batch, channels, height, width).
        targets: probabilities of the classes, (batch, classes).
        order: (batch,); the partner of image i is image order[i].
        box: inside the image, as `cut_box` gives it.

    Returns:
        The mixed images and targets, of the same shapes. The share of the first label is the share
        of pixels that the first image kept: for a clipped box, more than the λ that it was cut by.

    Raises:
        ValueError: shapes that do not fit, or a box that is not inside the image.
    """
    _check_batch(images, targets, order)
    if images.ndim != 4:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, expected (batch, channels, height, width)"
        )
    height, width = images.shape[-2:]
    if not (0 <= box.top <= box.bottom <= height and 0 <= box.left <= box.right <= width):
        raise ValueError(f"{box} does not lie inside an image of {height} x {width} pixels")
    rows, columns = slice(box.top, box.bottom), slice(box.left, box.right)
    mixed = images.clone()
    mixed[:, :, rows, columns] = images[order][:, :, rows, columns]
    kept = 1 - box.area / (height * width)
    return mixed, kept * targets + (1 - kept) * targets[order]


def random_mixup(
    images: Tensor, targets: Tensor, generator: torch.Generator, *, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`mixup` with partners drawn at random and one λ for the batch, from Beta(α, α).

    Raises:
        ValueError: α is not positive, or shapes do not fit.
    """
    order = torch.randperm(len(images), generator=generator)
    return mixup(images, targets, order, draw_lambda(alpha, generator))


def random_cutmix(
    images: Tensor, targets: Tensor, generator: torch.Generator, *, alpha: float = 1.0
) -> tuple[Tensor, Tensor]:
    """`cutmix` with partners, λ from Beta(α, α), and the box's centre drawn at random.

    Raises:
        ValueError: α is not positive, or shapes do not fit.
    """
    order = torch.randperm(len(images), generator=generator)
    height, width = images.shape[-2:]
    centre = tuple(int(torch.randint(side, (), generator=generator)) for side in (height, width))
    box = cut_box(height, width, draw_lambda(alpha, generator), centre)
    return cutmix(images, targets, order, box)


def draw_lambda(alpha: float, generator: torch.Generator) -> float:
    """λ from Beta(α, α): uniform for α = 1, mostly near 0 or 1 for a small α.

    Raises:
        ValueError: α is not positive.
    """
    if not alpha > 0:
        raise ValueError(f"alpha={alpha} must be positive")
    # PyTorch's Beta takes no generator; NumPy's gets its seed from ours.
    seed = int(torch.randint(2**62, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))


def _check_share(lam: float) -> None:
    if not 0 <= lam <= 1:
        raise ValueError(f"lam={lam} must lie between 0 and 1")


def _check_batch(images: Tensor, targets: Tensor, order: Tensor) -> None:
    if targets.ndim != 2 or not targets.is_floating_point():
        raise ValueError(
            f"targets must be probabilities (batch, classes), got {targets.dtype} "
            f"{tuple(targets.shape)}; make labels one-hot first"
        )
    if not len(images) == len(targets) == len(order):
        raise ValueError(
            f"got {len(images)} images, {len(targets)} targets and {len(order)} partners: "
            "expected as many of each"
        )
