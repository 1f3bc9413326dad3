"""Ways in which tomorrow's digits may differ from today's: for tests of drift detection.

Each is something that happens to a scanner: a new lamp, a dirty glass, paper fed at an angle.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

SHIFTS = ("faint", "dirty", "tilted", "inverted")


def shifted(images: Tensor, kind: str, *, strength: float = 1.0, seed: int = 0) -> Tensor:
    """The same digits as another scanner would deliver them.

    Args:
        images: (n, 1, height, width), from 0 (paper) to 1 (ink).
        kind: "faint" (ink loses up to half of its darkness), "dirty" (noise), "tilted" (turned by
            up to 40 degrees, all the same way), "inverted" (white on black).
        strength: from 0, no change, to 1.
        seed: of the noise.

    Returns:
        The same shape, from 0 to 1.

    Raises:
        ValueError: an unknown kind, a strength outside [0, 1], or another shape.
    """
    if kind not in SHIFTS:
        raise ValueError(f"kind={kind!r} must be one of {', '.join(map(repr, SHIFTS))}")
    if not 0 <= strength <= 1:
        raise ValueError(f"strength={strength} must lie between 0 and 1")
    if images.ndim != 4:
        raise ValueError(f"images have shape {tuple(images.shape)}, expected (n, 1, height, width)")
    if kind == "faint":
        return images * (1 - 0.5 * strength)
    if kind == "dirty":
        noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(seed))
        return (images + 0.35 * strength * noise).clamp(0, 1)
    if kind == "tilted":
        return _turned(images, math.radians(40 * strength))
    return (1 - strength) * images + strength * (1 - images)


def _turned(images: Tensor, angle: float) -> Tensor:
    """Turned about the centre by `angle` (radians); paper comes in from outside."""
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor([[cos, -sin, 0.0], [sin, cos, 0.0]]).expand(len(images), 2, 3)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, align_corners=False)
