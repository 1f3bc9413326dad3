"""Masked image explorer: what a masked autoencoder sees, what it paints, and how far off it is."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.images import for_plot, patch_grid, to_bytes


class MaskedImageExplorer(ZooWidget):
    """An image, its visible patches, the reconstruction, and the loss of each hidden patch.

    A slider goes through mask ratios, a button through the random masks of that ratio. All
    reconstructions are made beforehand and sent once, as 8-bit numbers; `bytes_sent` says how many.

    Args:
        images: (images, height, width, 3) or (images, height, width), from 0 to 1.
        reconstructions: what the model painted for all patches:
            (images, ratios, masks, height, width, 3), or without the last axis for grey images.
            Values outside 0 to 1 are cut for the picture only.
        masks: (images, ratios, masks, patches), 1 or True where a patch was hidden. Patches are
            squares, counted row by row.
        ratios: share of hidden patches, ascending.
        losses: (images, ratios, masks, patches), the loss of each patch in the space that the model
            was trained in. Without it: mean squared difference of the pixels.
        names: one name per image.
        image, ratio, draw: what is shown at first: places in `images`, `ratios` and the masks.
        paste: show the visible patches as they are in the reconstruction, not as they were painted.

    Raises:
        TypeError: arrays that hold no numbers.
        ValueError: shapes that do not fit each other, or masks that do not hide their ratio.
        traitlets.TraitError: a place out of range.
    """

    _script = "masked_image_explorer.js"
    _style = "masked_image_explorer.css"

    image = t.Int(0, min=0).tag(sync=True)
    ratio = t.Int(0, min=0).tag(sync=True)
    draw = t.Int(0, min=0).tag(sync=True)
    paste = t.Bool(True).tag(sync=True)
    patch = t.Int(0, min=0).tag(sync=True)
    _payload = t.Dict().tag(sync=True)

    def __init__(
        self,
        images: Any,
        reconstructions: Any,
        masks: Any,
        ratios: Sequence[float],
        losses: Any = None,
        *,
        names: Sequence[str] | None = None,
        image: int = 0,
        ratio: int | None = None,
        draw: int = 0,
        paste: bool = True,
    ) -> None:
        self._images, given = _images(images, reconstructions)
        self._painted = to_bytes(given, "reconstructions", clip=True)
        count, height, width, channels = self._images.shape
        self.ratios = [float(value) for value in ratios]
        if not self.ratios or sorted(self.ratios) != self.ratios:
            raise ValueError(f"ratios={self.ratios} must be one or more, ascending")
        self._masks = _masks(masks, self.ratios)
        draws, patches = self._masks.shape[2:]
        expected = (count, len(self.ratios), draws)
        for name, shape in {
            "masks": self._masks.shape[:3],
            "reconstructions": self._painted.shape[:3],
        }.items():
            if shape != expected:
                raise ValueError(
                    f"{name} start with {shape}, expected (images, ratios, masks) = {expected}"
                )
        self.grid = patch_grid(height, width, patches)
        self._losses = self._pixel_losses(given) if losses is None else _array(losses, "losses")
        if self._losses.shape != self._masks.shape:
            raise ValueError(
                f"losses have shape {self._losses.shape}, expected that of masks, "
                f"{self._masks.shape}"
            )
        if not np.isfinite(self._losses).all() or self._losses.min() < 0:
            raise ValueError("losses must be finite and not negative")
        self.names = [str(name) for name in names or [f"image {i}" for i in range(count)]]
        if len(self.names) != count:
            raise ValueError(f"got {count} images but {len(self.names)} names")
        if ratio is None:  # the paper's choice
            ratio = int(np.abs(np.array(self.ratios) - 0.75).argmin())
        binary = {
            "images": self._images.tobytes(),
            "reconstructions": self._painted.tobytes(),
            "masks": np.packbits(self._masks, axis=-1).tobytes(),
            "losses": self._losses.astype("<f4").tobytes(),
        }
        self.bytes_sent = sum(map(len, binary.values()))
        super().__init__(
            image=image,
            ratio=ratio,
            draw=draw,
            paste=paste,
            _payload={
                **binary,
                "names": self.names,
                "ratios": self.ratios,
                "draws": draws,
                "height": height,
                "width": width,
                "channels": channels,
                "rows": self.grid[0],
                "columns": self.grid[1],
                "size": self.bytes_sent,
            },
        )

    @property
    def mask(self) -> np.ndarray:
        """The mask on show, bool (rows, columns), True = hidden."""
        return self._masks[self.image, self.ratio, self.draw].reshape(self.grid)

    @property
    def patch_losses(self) -> np.ndarray:
        """The loss of each patch on show, float32 (rows, columns), visible patches included."""
        return self._losses[self.image, self.ratio, self.draw].reshape(self.grid)

    @property
    def loss(self) -> float:
        """Mean loss of the hidden patches, which is what MAE trains on; NaN if none is hidden."""
        hidden = self.patch_losses[self.mask]
        return float(hidden.mean()) if hidden.size else float("nan")

    def _pixel_losses(self, painted: np.ndarray) -> np.ndarray:
        """(images, ratios, masks, patches): mean squared difference of the pixels."""
        count, height, width, channels = self._images.shape
        rows, columns = self.grid
        error = (painted - self._images[:, None, None] / np.float32(255)) ** 2
        split = (*error.shape[:3], rows, height // rows, columns, width // columns, channels)
        return error.reshape(split).mean(axis=(4, 6, 7)).reshape(*error.shape[:3], -1)

    @t.validate("image", "ratio", "draw", "patch")
    def _in_range(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        count = dict(zip(("image", "ratio", "draw", "patch"), self._masks.shape, strict=True))[name]
        if not 0 <= value < count:
            raise t.TraitError(f"{name}={value} is outside 0..{count - 1}")
        return value

    def static_text(self) -> str:
        rows, columns = self.grid
        count, ratios, draws, patches = self._masks.shape
        return (
            f"MaskedImageExplorer: {count} images, {ratios} ratios, {draws} masks each; showing "
            f"{self.names[self.image]} with {self.mask.sum()} of {rows} x {columns} = {patches} "
            f"patches hidden ({self.ratios[self.ratio]:.0%}); {self.bytes_sent / 1e6:.1f} MB sent"
        )

    def _pictures(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The image, what is left of it, and the reconstruction, uint8 (height, width, 3)."""
        image = for_plot(self._images[self.image])
        painted = for_plot(self._painted[self.image, self.ratio, self.draw])
        block = np.ones((image.shape[0] // self.grid[0], image.shape[1] // self.grid[1]), bool)
        hidden = np.kron(self.mask, block)[:, :, None]
        stripes = np.add.outer(*(np.arange(side) for side in image.shape[:2])) % 4 < 2
        seen = np.where(hidden, np.where(stripes, 118, 138)[:, :, None].astype(np.uint8), image)
        return image, seen, np.where(hidden, painted, image) if self.paste else painted

    def static_png(self) -> bytes:
        """The image, its visible patches, the reconstruction, and the loss per hidden patch."""
        from matplotlib.figure import Figure

        height, width = self._images.shape[1:3]
        fig = Figure(figsize=(9, 1.1 + 2.1 * height / width), layout="constrained")
        panels = fig.subplots(1, 4)
        titles = (
            self.names[self.image],
            f"{self.mask.sum()} of {self.mask.size} patches hidden",
            "reconstruction" + (", visible pasted" if self.paste else ""),
        )
        for axes, picture, title in zip(panels, self._pictures(), titles, strict=False):
            axes.imshow(picture, interpolation="nearest")
            axes.set_title(plot_text(textwrap.fill(title, 28)), fontsize=9)
        shown = np.where(self.mask, self.patch_losses, np.nan)
        panels[3].set_facecolor("#dddddd")
        most = self._most()
        heat = panels[3].imshow(shown, cmap="cividis", vmin=0, vmax=most)
        panels[3].set_title(f"loss per hidden patch\nmean {self.loss:.4f}", fontsize=9)
        fig.colorbar(heat, ax=panels[3], shrink=0.8, extend="max")
        for axes in panels:
            axes.set_xticks([])
            axes.set_yticks([])
        return figure_png(fig)

    def _most(self) -> float:
        """End of the colour scale, the same for all masks of an image: few patches exceed it."""
        hidden = self._losses[self.image][self._masks[self.image]]
        return float(np.quantile(hidden, 0.98)) or 1.0 if hidden.size else 1.0


def _array(values: Any, name: str) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().float().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array.astype(np.float32)


def _images(images: Any, reconstructions: Any) -> tuple[np.ndarray, np.ndarray]:
    """uint8 images (images, height, width, channels), and float32 reconstructions to fit."""
    pixels, painted = to_bytes(images, "images"), _array(reconstructions, "reconstructions")
    if getattr(reconstructions, "dtype", None) == np.uint8:
        painted = painted / np.float32(255)
    grey = pixels.ndim == 3
    if grey:
        pixels, painted = pixels[..., None], painted[..., None]
    if pixels.ndim != 4 or pixels.shape[3] not in (1, 3):
        raise ValueError(
            f"images have shape {pixels.shape}, expected (images, height, width, 3) or "
            "(images, height, width)"
        )
    if painted.ndim != 6 or painted.shape[3:] != pixels.shape[1:]:
        given, size = painted.shape[: -1 if grey else None], pixels.shape[1 : 3 if grey else None]
        raise ValueError(
            f"reconstructions have shape {given}, expected (images, ratios, masks, "
            f"{', '.join(map(str, size))})"
        )
    return pixels, painted


def _masks(masks: Any, ratios: list[float]) -> np.ndarray:
    array = _array(masks, "masks")
    if array.ndim != 4:
        raise ValueError(
            f"masks have shape {array.shape}, expected (images, ratios, masks, patches)"
        )
    if not np.isin(array, (0, 1)).all():
        raise ValueError("masks must be 1 (hidden) or 0 (visible)")
    if array.shape[1] != len(ratios):
        raise ValueError(f"got {len(ratios)} ratios, but masks have shape {array.shape}")
    hidden = array.sum(axis=3)
    wrong = np.abs(hidden - np.array(ratios)[:, None] * array.shape[3]) >= 1
    if wrong.any():
        image, ratio, draw = np.argwhere(wrong)[0]
        raise ValueError(
            f"mask {draw} of image {image} hides {hidden[image, ratio, draw]:.0f} of "
            f"{array.shape[3]} patches, which is not the ratio {ratios[ratio]:g}"
        )
    return array.astype(bool)
