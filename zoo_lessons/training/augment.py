"""Augmentation: other views of the same training images, drawn anew for each batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def random_affine(
    images: Tensor,
    generator: torch.Generator | None = None,
    *,
    shift: float = 0.06,
    turn: float = 6.0,
    scale: float = 0.05,
    shear: float = 0.05,
) -> Tensor:
    """Move, turn, resize and slant each image a little, each by its own random amounts.

    The amounts are uniform between minus and plus the limits below. Pixels between the old ones are
    interpolated (bilinear); what comes in from outside is 0.

    Args:
        images: (batch, channels, height, width).
        generator: of the random amounts.
        shift: limit along each side, as a share of that side.
        turn: limit in degrees; images that are not square are slanted by it too.
        scale: limit along each side, as a share of its size.
        shear: limit of the slant, as a share of the height.

    Returns:
        The shape of `images`.

    Raises:
        ValueError: not four axes, or a negative limit.
    """
    if images.ndim != 4:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, expected (batch, channels, height, width)"
        )
    if min(shift, turn, scale, shear) < 0:
        raise ValueError(
            f"limits must not be negative, got shift={shift}, turn={turn}, scale={scale}, "
            f"shear={shear}"
        )

    def draw(limit: float) -> Tensor:
        amount = 2 * torch.rand(len(images), generator=generator) - 1
        return limit * amount.to(images.device, images.dtype)

    angle, slant = draw(turn * torch.pi / 180), draw(shear)
    along, down = 1 + draw(scale), 1 + draw(scale)
    # One matrix an image: where each pixel of the result comes from, in units of half a side.
    matrix = torch.stack(
        [
            torch.stack([along * angle.cos(), slant - angle.sin(), 2 * draw(shift)], dim=1),
            torch.stack([angle.sin(), down * angle.cos(), 2 * draw(shift)], dim=1),
        ],
        dim=1,
    )  # (batch, 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
