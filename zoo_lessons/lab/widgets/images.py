"""Images for widgets: checked, and as the bytes that a script draws."""

from __future__ import annotations

import math
from typing import Any

import numpy as np


def to_bytes(images: Any, name: str = "image", *, clip: bool = False) -> np.ndarray:
    """Images as 8-bit numbers, of the same shape.

    Args:
        images: array or tensor: uint8, or floats from 0 (black) to 1.
        name: what an error calls them.
        clip: cut what lies outside 0 to 1, as a model's output may, instead of refusing it.

    Raises:
        TypeError: no numbers.
        ValueError: NaN, infinite, or outside 0 to 1.
    """
    if hasattr(images, "detach"):
        images = images.detach().float().cpu().numpy() if images.is_floating_point() else images
    array = np.asarray(images)
    if array.dtype == np.uint8:
        return np.ascontiguousarray(array)
    if array.dtype.kind not in "fb":
        raise TypeError(f"{name} must hold floats from 0 to 1, or uint8, got {array.dtype}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds NaN or infinite values")
    slack = 1e-4  # what resampling or a normalisation that was undone may miss by
    if not clip and array.size and (array.min() < -slack or array.max() > 1 + slack):
        raise ValueError(
            f"{name} has values from {array.min():.3g} to {array.max():.3g}, expected 0 to 1; "
            "undo the normalisation first"
        )
    return np.rint(array.clip(0, 1) * 255).astype(np.uint8)


def image_bytes(image: Any, name: str = "image") -> np.ndarray:
    """One image as uint8 (height, width, channels), with 3 channels or, if grey, 1.

    Args:
        image: (height, width, 3) or (height, width); values as in `to_bytes`.

    Raises:
        TypeError, ValueError: as in `to_bytes`, or another shape.
    """
    array = to_bytes(image, name)
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        first = array.ndim == 3 and array.shape[0] in (1, 3)
        hint = "; move the channels last, as in image.permute(1, 2, 0)" if first else ""
        raise ValueError(
            f"{name} has shape {array.shape}, expected (height, width, 3) or (height, width){hint}"
        )
    return np.ascontiguousarray(array)


def patch_grid(height: int, width: int, patches: int) -> tuple[int, int]:
    """Rows and columns of the square patches that an image was cut into.

    Raises:
        ValueError: no square patches of whole pixels give that number.
    """
    size = math.isqrt(height * width // patches) if patches > 0 else 0
    if size < 1 or size**2 * patches != height * width or height % size or width % size:
        raise ValueError(
            f"{patches} square patches do not fill an image of {height}×{width} pixels"
        )
    return height // size, width // size


def centre_crop(image: np.ndarray, multiple: int) -> np.ndarray:
    """The largest middle part of (height, width, ...) whose sides `multiple` divides.

    Raises:
        ValueError: a side is shorter than `multiple`.
    """
    height, width = image.shape[:2]
    if min(height, width) < multiple:
        raise ValueError(f"an image of {height}×{width} pixels is smaller than {multiple}")
    top, left = height % multiple // 2, width % multiple // 2
    bottom, right = top + height - height % multiple, left + width - width % multiple
    return np.ascontiguousarray(image[top:bottom, left:right])


def for_plot(pixels: np.ndarray) -> np.ndarray:
    """uint8 (height, width, 1 or 3) as matplotlib's imshow takes it, always in colour."""
    return np.broadcast_to(pixels, (*pixels.shape[:2], 3))
