"""Patches: how an image becomes a sequence of tokens.

Source: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020), section 3.1 and equation 1.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.checks import require_divisible


def image_to_patches(images: Tensor, patch_size: int) -> Tensor:
    """Cut images into squares, and lay each square out as one row of numbers.

    Patches come row by row from the top left. Inside a patch the channels come first, then rows,
    then columns: the order of a convolution's weights.

    Args:
        images: (batch, channels, height, width).
        patch_size: side of a patch in pixels.

    Returns:
        (batch, patches, channels * patch_size²).

    Raises:
        ValueError: not four axes, or a side that the patch size does not divide.
    """
    _require_images(images, patch_size)
    x = images.unflatten(2, (-1, patch_size)).unflatten(4, (-1, patch_size))
    # (batch, channels, rows, patch_size, columns, patch_size)
    return x.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def patches_to_image(patches: Tensor, patch_size: int, height: int, width: int) -> Tensor:
    """Put patches back together: the inverse of `image_to_patches`.

    Args:
        patches: (batch, patches, channels * patch_size²).
        patch_size: side of a patch in pixels.
        height, width: of the image, in pixels.

    Returns:
        (batch, channels, height, width).

    Raises:
        ValueError: sizes that do not fit together.
    """
    require_divisible(height=height, patch_size=patch_size)
    require_divisible(width=width, patch_size=patch_size)
    require_divisible(**{"patch width": patches.shape[-1], "patch_size²": patch_size**2})
    rows, columns = height // patch_size, width // patch_size
    if patches.shape[-2] != rows * columns:
        raise ValueError(
            f"got {patches.shape[-2]} patches for an image of {height}×{width} pixels in patches "
            f"of {patch_size}, expected {rows} × {columns} = {rows * columns}"
        )
    x = patches.unflatten(1, (rows, columns)).unflatten(3, (-1, patch_size, patch_size))
    # (batch, rows, columns, channels, patch_size, patch_size)
    return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class PatchEmbedding(nn.Module):
    """One linear map for every patch, written as a convolution whose stride is its size.

    Args:
        patch_size: side of a patch in pixels.
        d_model: width of a token.
        num_channels: of the image.
    """

    def __init__(self, patch_size: int, d_model: int, num_channels: int = 3):
        super().__init__()
        self.patch_size, self.num_channels = patch_size, num_channels
        self.projection = nn.Conv2d(num_channels, d_model, patch_size, stride=patch_size)

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (batch, channels, height, width) -> (batch, patches, d_model).

        Raises:
            ValueError: another number of channels, or a side that the patch size does not divide.
        """
        _require_images(pixel_values, self.patch_size)
        if pixel_values.shape[1] != self.num_channels:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected "
                f"(batch, {self.num_channels}, height, width)"
            )
        return self.projection(pixel_values).flatten(2).transpose(1, 2)


def interpolate_positions(positions: Tensor, rows: int, columns: int) -> Tensor:
    """Stretch position embeddings learnt on a square grid to another grid (section 3.2).

    Args:
        positions: (1, side², d_model), without a class token.
        rows, columns: of the new grid.

    Returns:
        (1, rows * columns, d_model), bicubic.

    Raises:
        ValueError: the given positions do not form a square.
    """
    side = round(positions.shape[1] ** 0.5)
    if side**2 != positions.shape[1]:
        raise ValueError(f"{positions.shape[1]} positions do not form a square grid")
    if (rows, columns) == (side, side):
        return positions
    grid = positions.unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, d_model, side, side)
    grid = F.interpolate(grid, size=(rows, columns), mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2)


def _require_images(images: Tensor, patch_size: int) -> None:
    if images.ndim != 4:
        raise ValueError(
            f"images have shape {tuple(images.shape)}, expected (batch, channels, height, width)"
        )
    for name, size in zip(("height", "width"), images.shape[-2:], strict=True):
        require_divisible(**{name: size, "patch_size": patch_size})
