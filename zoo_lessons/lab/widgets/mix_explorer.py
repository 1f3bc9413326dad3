"""Mix explorer: two images, λ, and what MixUp or CutMix make of them and of their labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.images import for_plot, to_bytes
from zoo_lessons.training.mixing import Box, cut_box

METHODS = ("MixUp", "CutMix")


class MixExplorer(ZooWidget):
    """Two images and their mixture; a slider sets λ, and CutMix's box can be moved over the edge.

    The label bar shows the shares of the two labels. For CutMix they are recomputed from the part
    of the box that lies inside the image.

    Args:
        images: two or more, (images, height, width, 3) or (images, height, width), from 0 to 1.
        labels: one text per image.
        method: "MixUp" or "CutMix".
        lam: λ, the share of the first image, from 0 to 1.
        first, second: which two images.
        row, column: the centre of CutMix's box, in pixels; the middle by default.

    Raises:
        TypeError: images that hold no numbers.
        ValueError: shapes or labels that do not fit.
        traitlets.TraitError: a method, λ or place out of range.
    """

    _script = "mix_explorer.js"
    _style = "mix_explorer.css"

    method = t.Enum(METHODS, "CutMix").tag(sync=True)
    lam = t.Float(0.5, min=0.0, max=1.0).tag(sync=True)
    first = t.Int(0, min=0).tag(sync=True)
    second = t.Int(1, min=0).tag(sync=True)
    row = t.Int(0, min=0).tag(sync=True)
    column = t.Int(0, min=0).tag(sync=True)
    _payload = t.Dict().tag(sync=True)

    def __init__(
        self,
        images: Any,
        labels: Sequence[str],
        *,
        method: str = "CutMix",
        lam: float = 0.5,
        first: int = 0,
        second: int = 1,
        row: int | None = None,
        column: int | None = None,
    ) -> None:
        pixels = to_bytes(images, "images")
        if pixels.ndim == 3:
            pixels = pixels[..., None]
        if pixels.ndim != 4 or pixels.shape[3] not in (1, 3) or len(pixels) < 2:
            raise ValueError(
                f"images have shape {pixels.shape}, expected two or more, (images, height, width, "
                "3) or (images, height, width)"
            )
        self.labels = [str(label) for label in labels]
        if len(self.labels) != len(pixels):
            raise ValueError(f"got {len(pixels)} images but {len(self.labels)} labels")
        self._images = pixels
        _, height, width, channels = pixels.shape
        super().__init__(
            method=method,
            lam=lam,
            first=first,
            second=second,
            row=height // 2 if row is None else row,
            column=width // 2 if column is None else column,
            _payload={
                "images": pixels.tobytes(),
                "labels": self.labels,
                "height": height,
                "width": width,
                "channels": channels,
            },
        )

    @t.validate("first", "second", "row", "column")
    def _in_range(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        count, height, width, _ = self._images.shape
        most = {"first": count, "second": count, "row": height, "column": width}[name] - 1
        if not 0 <= value <= most:
            raise t.TraitError(f"{name}={value} is outside 0..{most}")
        return value

    @property
    def box(self) -> Box:
        """CutMix's box, as the edge clips it."""
        _, height, width, _ = self._images.shape
        return cut_box(height, width, self.lam, (self.row, self.column))

    @property
    def kept(self) -> float:
        """The share of the first label."""
        if self.method == "MixUp":
            return self.lam
        _, height, width, _ = self._images.shape
        return 1 - self.box.area / (height * width)

    @property
    def mixture(self) -> np.ndarray:
        """The mixed image, uint8 (height, width, channels)."""
        one, other = self._images[self.first], self._images[self.second]
        if self.method == "MixUp":
            mixed = self.lam * one.astype(float) + (1 - self.lam) * other
            return np.floor(mixed + 0.5).astype(np.uint8)
        mixed, box = one.copy(), self.box
        inside = slice(box.top, box.bottom), slice(box.left, box.right)
        mixed[inside] = other[inside]
        return mixed

    def _says(self) -> str:
        one, other = self.labels[self.first], self.labels[self.second]
        if self.first == self.second or one == other:
            return f"label: {one} 1.00"
        return f"label: {one} {self.kept:.2f}, {other} {1 - self.kept:.2f}"

    def static_text(self) -> str:
        where = ""
        if self.method == "CutMix":
            box = self.box
            where = (
                f", box of {box.bottom - box.top} x {box.right - box.left} pixels at row "
                f"{box.top}, column {box.left}"
            )
        return f"MixExplorer, {self.method}, λ {self.lam:.2f}{where}; {self._says()}"

    def static_png(self) -> bytes:
        """Both images, their mixture, and the shares of the labels."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        height, width = self._images.shape[1:3]
        fig = Figure(figsize=(8, 1.3 + 2.4 * height / width), layout="constrained")
        axes = fig.subplot_mosaic([["one", "other", "mixed"], ["bar"] * 3], height_ratios=(6, 1))
        pictures = {
            "one": (self._images[self.first], f"first: {self.labels[self.first]}"),
            "other": (self._images[self.second], f"second: {self.labels[self.second]}"),
            "mixed": (self.mixture, f"{self.method}, λ = {self.lam:.2f}"),
        }
        box = self.box
        for name, (pixels, title) in pictures.items():
            axes[name].imshow(for_plot(pixels), interpolation="nearest")
            axes[name].set_title(plot_text(title), fontsize=10)
            axes[name].set_xticks([])
            axes[name].set_yticks([])
            if self.method == "CutMix" and box.area:
                corner = (box.left - 0.5, box.top - 0.5)
                frame = {"fill": False, "edgecolor": "#e8501e", "linewidth": 2}
                axes[name].add_patch(
                    Rectangle(corner, box.right - box.left, box.bottom - box.top, **frame)
                )
        bar = axes["bar"]
        bar.barh(0, self.kept, color="#0072b2")
        bar.barh(0, 1 - self.kept, left=self.kept, color="#e69f00")
        bar.set_xlim(0, 1)
        bar.set_yticks([])
        bar.set_xlabel(plot_text(self._says()), fontsize=9)
        return figure_png(fig)
