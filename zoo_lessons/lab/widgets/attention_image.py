"""The image side of the attention explorer: patches as tokens, and the static picture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo_lessons.lab.widgets.base import figure_png, plot_text
from zoo_lessons.lab.widgets.images import for_plot, image_bytes, patch_grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class ImageTokens:
    """An image whose patches are a model's tokens.

    pixels: uint8 (height, width, 1 or 3).
    grid: rows and columns of patches.
    class_token: whether a class token comes first.
    """

    pixels: np.ndarray
    grid: tuple[int, int]
    class_token: bool

    @classmethod
    def of(
        cls,
        image: Any,
        shape: tuple[int, ...],
        grid: tuple[int, int] | None,
        class_token: bool,
    ) -> ImageTokens:
        """Check an image against maps of shape (layers, heads, queries, keys).

        Raises:
            TypeError, ValueError: as in `AttentionExplorer`.
        """
        pixels = image_bytes(image)
        height, width, _ = pixels.shape
        queries, keys = shape[2:]
        if queries != keys:
            raise ValueError(
                f"on an image the queries must be the keys, got {queries} queries and {keys} keys"
            )
        patches = keys - class_token
        rows, columns = grid = patch_grid(height, width, patches) if grid is None else tuple(grid)
        if rows < 1 or columns < 1 or rows * columns != patches:
            kind = "with" if class_token else "without"
            raise ValueError(
                f"a grid of {rows}×{columns} has {rows * columns} patches, but the maps have "
                f"{keys} tokens, {kind} a class token"
            )
        if height % rows or width % columns:
            raise ValueError(
                f"a grid of {rows}×{columns} does not divide an image of {height}×{width} pixels"
            )
        return cls(pixels, grid, class_token)

    def names(self) -> list[str]:
        """A name per token, as an explorer's titles use it."""
        columns = self.grid[1]
        patches = range(self.grid[0] * columns)
        first = ["the class token"] if self.class_token else []
        return first + [f"patch {i} (row {i // columns}, column {i % columns})" for i in patches]

    def packed(self) -> dict:
        """What the script needs."""
        height, width, channels = self.pixels.shape
        return {
            "pixels": self.pixels.tobytes(),
            "height": height,
            "width": width,
            "channels": channels,
            "rows": self.grid[0],
            "columns": self.grid[1],
            "class_token": self.class_token,
        }


def picture_on_image(
    image: ImageTokens, weights: np.ndarray, query: int, color_map: str, explorer: Any
) -> bytes:
    """The image with the query, the weights on show over it, and all heads from that query."""
    from matplotlib.figure import Figure

    height, width, _ = image.pixels.shape
    rows, columns = image.grid
    first = int(image.class_token)
    fig = Figure(figsize=(9, 0.9 + min(4.5, 3.0 * height / width)), layout="constrained")
    left, middle, overview = fig.subplots(1, 3)
    left.imshow(for_plot(image.pixels), interpolation="nearest")
    left.set_title(plot_text(f"query: {explorer.tokens[query]}"), fontsize=9)

    heads = explorer.weights[:, :, query, first:].reshape(
        *explorer.weights.shape[:2], rows, columns
    )
    heads = np.concatenate([heads.mean(axis=1, keepdims=True), heads], axis=1)
    if explorer.scale_to_maximum:
        heads = heads / np.maximum(heads.max(axis=(2, 3), keepdims=True), 1e-12)
    layers, count = heads.shape[:2]
    tiles = np.full((layers, count, rows + 1, columns + 1), np.nan, np.float32)  # 1 for a gap
    tiles[:, :, :rows, :columns] = heads
    mosaic = tiles.transpose(0, 2, 1, 3).reshape(layers * (rows + 1), count * (columns + 1))
    overview.imshow(mosaic, cmap=color_map, vmin=0, vmax=1, interpolation="nearest")
    overview.set_title("all heads from there", fontsize=9)
    overview.set_xlabel("mean, then heads", fontsize=8)
    overview.set_ylabel("layers", fontsize=8)

    patches = weights[first:].reshape(rows, columns)
    grey = for_plot(image.pixels).mean(axis=2)
    middle.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    heat = middle.imshow(
        patches,
        cmap=color_map,
        vmin=0,
        vmax=float(patches.max()) or 1.0 if explorer.scale_to_maximum else 1.0,
        alpha=explorer.opacity,
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        interpolation="nearest",
    )
    fig.colorbar(heat, ax=middle, shrink=0.7)
    title = explorer.view_title().rsplit(", from", 1)[0]
    itself = f"\non the class token: {weights[0]:.3f}" if first else ""
    middle.set_title(plot_text(title + itself), fontsize=9)
    if query >= first:
        for axes in (left, middle):
            _mark(axes, *divmod(query - first, columns), height / rows, width / columns)
    for axes in (left, middle, overview):
        axes.set_xticks([])
        axes.set_yticks([])
    return figure_png(fig)


def _mark(axes: Axes, row: int, column: int, height: float, width: float) -> None:
    from matplotlib.patches import Rectangle

    corner = (column * width - 0.5, row * height - 0.5)
    axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="#d55e00", linewidth=2))
