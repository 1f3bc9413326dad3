"""Filling holes in images without learning: what a masked autoencoder has to beat."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.layers.patches import image_to_patches, patches_to_image


def hidden_pixels(mask: Tensor, patch_size: int, height: int, width: int) -> Tensor:
    """A mask over patches (batch, patches), 1 = hidden, as one over pixels.

    Returns:
        (batch, 1, height, width), of the mask's dtype.

    Raises:
        ValueError: sizes that do not fit together.
    """
    return patches_to_image(mask[..., None].repeat(1, 1, patch_size**2), patch_size, height, width)


def fill_with_mean(images: Tensor, mask: Tensor, patch_size: int) -> Tensor:
    """Give every hidden pixel the mean colour of the visible ones.

    Args:
        images: (batch, channels, height, width).
        mask: (batch, patches), 1 = hidden; at least one patch of each image is visible.
        patch_size: side of a patch in pixels.

    Returns:
        The images, with their hidden patches filled.
    """
    visible = 1 - hidden_pixels(mask, patch_size, *images.shape[-2:])
    mean = (images * visible).sum((2, 3), keepdim=True) / visible.sum((2, 3), keepdim=True)
    return torch.where(visible.bool(), images, mean)


def fill_smoothly(images: Tensor, mask: Tensor, patch_size: int, iterations: int = 200) -> Tensor:
    """Let colours flow from the visible pixels into the holes until they are smooth.

    Every hidden pixel becomes the mean of its four neighbours, over and over: the discrete Laplace
    equation, whose solution has no bump that the visible pixels do not force on it.

    Args:
        images, mask, patch_size: as for `fill_with_mean`, where it also starts from.
        iterations: how far colours flow, in pixels. Beyond the largest hole, more change little.
    """
    hidden = hidden_pixels(mask, patch_size, *images.shape[-2:]).bool()
    filled = fill_with_mean(images, mask, patch_size)
    cross = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).to(images) / 4
    channels = images.shape[1]
    kernel = cross.expand(channels, 1, 3, 3)
    for _ in range(iterations):
        padded = F.pad(filled, (1, 1, 1, 1), mode="replicate")
        filled = torch.where(hidden, F.conv2d(padded, kernel, groups=channels), filled)
    return filled


def masked_error(painted: Tensor, images: Tensor, mask: Tensor, patch_size: int) -> Tensor:
    """Mean squared error of each image over its hidden patches: (batch,).

    Args:
        painted, images: (batch, channels, height, width).
        mask: (batch, patches), 1 = hidden; at least one patch of each image is hidden.
        patch_size: side of a patch in pixels.
    """
    error = image_to_patches((painted - images).square(), patch_size).mean(dim=-1)
    return (error * mask).sum(dim=-1) / mask.sum(dim=-1)
