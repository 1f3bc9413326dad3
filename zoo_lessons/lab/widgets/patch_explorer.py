"""Patch explorer: an image cut into patches, and what their number costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png
from zoo_lessons.lab.widgets.images import centre_crop, for_plot, image_bytes


class PatchExplorer(ZooWidget):
    """Cut an image into square patches, and see the sequence that a ViT reads, and its price.

    A slider chooses the side of a patch. The pointer or the arrow keys pick a patch: it is shown
    enlarged, with its index and its neighbours in the sequence. Patches are counted from 0, row by
    row from the top left, as `zoo_lessons.layers.patches.image_to_patches` lays them out.

    Args:
        image: float array or tensor (height, width, 3) or (height, width), from 0 to 1. Its middle
            is cropped, if need be, so that every patch size divides both sides.
        patch_sizes: sides to choose from, in pixels.
        patch_size: the first one shown; by default 16, or else the middle one.
        d_model: width of a token, for the costs. The default is ViT-Base.
        d_ff: width of the feed-forward layer, by default four times d_model.
        class_token: whether one more token stands in front.

    Raises:
        TypeError, ValueError: the image is no image, a patch size is not a positive whole number,
            or no part of the image suits all patch sizes.
    """

    _script = "patch_explorer.js"
    _style = "patch_explorer.css"

    patch_size = t.Int(16).tag(sync=True)
    patch = t.Int(0).tag(sync=True)
    _payload = t.Dict().tag(sync=True)

    def __init__(
        self,
        image: Any,
        patch_sizes: Sequence[int] = (4, 8, 16, 32, 64),
        *,
        patch_size: int | None = None,
        d_model: int = 768,
        d_ff: int | None = None,
        class_token: bool = True,
    ) -> None:
        whole = image_bytes(image)
        self.patch_sizes = sizes = sorted({int(size) for size in patch_sizes})
        if not sizes or sizes[0] < 1 or any(size != int(size) for size in patch_sizes):
            raise ValueError(f"patch_sizes={list(patch_sizes)} must be whole numbers from 1 on")
        multiple = math.lcm(*sizes)
        if min(whole.shape[:2]) < multiple:
            raise ValueError(
                f"patch_sizes={sizes} divide only multiples of {multiple}, and the image has "
                f"{whole.shape[0]}×{whole.shape[1]} pixels: leave out a size, or use a larger image"
            )
        self._pixels = centre_crop(whole, multiple)
        self.d_model, self.d_ff = d_model, 4 * d_model if d_ff is None else d_ff
        self.class_token = class_token
        if patch_size is None:
            patch_size = 16 if 16 in sizes else sizes[len(sizes) // 2]
        elif patch_size not in sizes:
            raise ValueError(f"patch_size={patch_size} is none of {sizes}")
        height, width, channels = self._pixels.shape
        rows, columns = height // patch_size, width // patch_size
        super().__init__(
            patch_size=patch_size,
            patch=rows // 2 * columns + columns // 2,
            _payload={
                "pixels": self._pixels.tobytes(),
                "height": height,
                "width": width,
                "channels": channels,
                "given": list(whole.shape[:2]),
                "patch_sizes": sizes,
                "d_model": self.d_model,
                "d_ff": self.d_ff,
                "class_token": class_token,
            },
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        height, width, _ = self._pixels.shape
        return height // self.patch_size, width // self.patch_size

    def costs(self) -> dict[str, int]:
        """What the patch size on show costs in one layer.

        Returns:
            patches; tokens (the sequence length); scores of one head; and the multiply-adds of
            attention (scores and weighted sums of all heads), of the four projections, and of the
            feed-forward layer.
        """
        rows, columns = self.grid
        tokens = rows * columns + self.class_token
        return {
            "patches": rows * columns,
            "tokens": tokens,
            "scores": tokens**2,
            "attention": 2 * tokens**2 * self.d_model,
            "projections": 4 * tokens * self.d_model**2,
            "feed-forward": 2 * tokens * self.d_model * self.d_ff,
        }

    @t.validate("patch_size", "patch")
    def _in_range(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        if name == "patch_size" and value not in self.patch_sizes:
            raise t.TraitError(f"patch_size={value} is none of {self.patch_sizes}")
        if name == "patch" and not 0 <= value < math.prod(self.grid):
            raise t.TraitError(f"patch={value} is outside 0..{math.prod(self.grid) - 1}")
        return value

    @t.observe("patch_size")
    def _keep_patch(self, _change: dict) -> None:
        self.patch = min(self.patch, math.prod(self.grid) - 1)

    def static_text(self) -> str:
        height, width, channels = self._pixels.shape
        costs, (rows, columns), size = self.costs(), self.grid, self.patch_size
        return (
            f"PatchExplorer: an image of {height} x {width} pixels in patches of {size} x {size}: "
            f"{rows} x {columns} = {costs['patches']:,} patches of {channels * size**2:,} numbers, "
            f"sequence length {costs['tokens']:,}, {costs['scores']:,} scores per head, "
            f"attention is {self._share():.1%} of a layer's multiply-adds"
        )

    def _share(self) -> float:
        costs = self.costs()
        return costs["attention"] / sum(
            costs[part] for part in ("attention", "projections", "feed-forward")
        )

    def static_png(self) -> bytes:
        """The image with its patches (left), the picked patch (right)."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        height, width, channels = self._pixels.shape
        (rows, columns), size, costs = self.grid, self.patch_size, self.costs()
        row, column = divmod(self.patch, columns)
        fig = Figure(figsize=(8, 0.5 + min(4.5, 5.6 * height / width)), layout="constrained")
        left, right = fig.subplots(1, 2, width_ratios=(3, 1))
        left.imshow(for_plot(self._pixels), interpolation="nearest")
        fine = 0.3 if columns > 60 else 0.7
        for color, linewidth in (("black", 2 * fine), ("white", fine)):  # for dark and light parts
            lines = dict(color=color, linewidth=linewidth, alpha=0.6)
            left.hlines(np.arange(1, rows) * size - 0.5, -0.5, width - 0.5, **lines)
            left.vlines(np.arange(1, columns) * size - 0.5, -0.5, height - 0.5, **lines)
        corner = (column * size - 0.5, row * size - 0.5)
        left.add_patch(Rectangle(corner, size, size, fill=False, edgecolor="#d55e00", linewidth=2))
        left.set_title(
            f"{rows} × {columns} = {costs['patches']:,} patches of {size} × {size} pixels",
            fontsize=11,
        )
        y, x = row * size, column * size
        right.imshow(for_plot(self._pixels[y : y + size, x : x + size]), interpolation="nearest")
        right.set_title(f"patch {self.patch}: row {row}, column {column}", fontsize=10)
        right.set_xlabel(
            f"{channels * size**2:,} numbers\n\nsequence length {costs['tokens']:,}\n"
            f"{costs['scores']:,} scores per head\nattention: {self._share():.1%} of a layer",
            fontsize=9,
        )
        for axes in (left, right):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_anchor("N")
        return figure_png(fig)
