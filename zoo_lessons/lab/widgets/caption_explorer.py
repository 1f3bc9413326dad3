"""Caption explorer: where a decoder looks in an image as it writes each word."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.attention_explorer import attention_array
from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.images import for_plot, image_bytes, patch_grid


class CaptionExplorer(ZooWidget):
    """A caption's words, and for each the attention over the image from which it was written.

    Each word has a small picture of where the chosen head looks. Click a word, or use the arrow
    keys, to see it large; the pointer or the arrow keys then read single patches.

    Row t of the maps belongs to words[t], the word that the model *wrote* there. A decoder that
    read `[DEC] a red` and wrote `a red circle` has its maps in that order already: the query that
    stands at [DEC] wrote "a".

    Args:
        images: one image (height, width, 3) or (height, width), from 0 to 1, or a list of them.
        words: the words of its caption, or a list of captions.
        attention: weights that sum to 1 over the keys, as in `AttentionExplorer`: (layers, heads,
            words, keys), or a list with one such array for each caption. Keys are the patches, row
            by row, after a class token.
        probabilities: of each word when it was written, in the same form as `words`.
        class_token: whether the first key is a class token.
        names: one name per image, for the slider.
        picture, word, layer, head: what is on show at first, counted from 0; head -1 is the mean
            over heads. By default the last layer and the mean.
        opacity: of the weights over the image, 0 to 1.

    Raises:
        TypeError, ValueError: maps that are no attention, or sizes that do not fit together.
    """

    _script = "caption_explorer.js"
    _style = "caption_explorer.css"

    _payload = t.Dict().tag(sync=True)
    picture = t.Int(0).tag(sync=True)
    word = t.Int(0).tag(sync=True)
    layer = t.Int(0).tag(sync=True)
    head = t.Int(-1).tag(sync=True)
    opacity = t.Float(0.75, min=0.0, max=1.0).tag(sync=True)

    def __init__(
        self,
        images: Any,
        words: Sequence[str] | Sequence[Sequence[str]],
        attention: Any,
        *,
        probabilities: Any = None,
        class_token: bool = True,
        names: Sequence[str] | None = None,
        picture: int = 0,
        word: int = 0,
        layer: int | None = None,
        head: int = -1,
        opacity: float = 0.75,
    ) -> None:
        if len(words) and isinstance(words[0], str):
            images, words, attention = [images], [words], [attention]
            probabilities = None if probabilities is None else [probabilities]
        self.words = [[str(each) for each in caption] for caption in words]
        self._weights = [attention_array(maps) for maps in attention]
        self._pixels = [image_bytes(image) for image in images]
        self._probabilities = _checked_probabilities(probabilities, self.words)
        self.class_token = class_token
        self._names = [str(name) for name in names] if names is not None else []
        self._require_fitting()
        height, width, _ = self._pixels[0].shape
        keys = self._weights[0].shape[3] - class_token
        self.grid = patch_grid(height, width, keys)
        chosen = {
            "picture": picture,
            "word": word,
            "layer": len(self._weights[0]) - 1 if layer is None else layer,
            "head": head,
        }
        for name, value in chosen.items():
            low, high = self._range(name, picture)
            if not low <= value < high:
                raise ValueError(f"{name}={value} is outside {low}..{high - 1}")
        super().__init__(_payload=self._packed(), opacity=opacity, **chosen)

    def _require_fitting(self) -> None:
        counts = {len(self._pixels), len(self.words), len(self._weights)}
        if len(counts) > 1 or not self.words:
            raise ValueError(
                f"got {len(self._pixels)} images, {len(self.words)} captions and "
                f"{len(self._weights)} arrays of attention, expected at least one and as many of "
                "each"
            )
        if self._names and len(self._names) != len(self.words):
            raise ValueError(f"got {len(self._names)} names for {len(self.words)} images")
        first, size = self._weights[0].shape, self._pixels[0].shape
        for place, (weights, words, pixels) in enumerate(
            zip(self._weights, self.words, self._pixels, strict=True)
        ):
            if weights.shape[2] != len(words):
                raise ValueError(
                    f"attention {place} has {weights.shape[2]} rows, but caption {place} has "
                    f"{len(words)} words"
                )
            if (*weights.shape[:2], weights.shape[3]) != (*first[:2], first[3]):
                raise ValueError(
                    f"attention {place} has shape {weights.shape} and attention 0 {first}, "
                    "expected the same layers, heads and keys"
                )
            if pixels.shape != size:
                raise ValueError(
                    f"image {place} has shape {pixels.shape} and image 0 {size}, expected the same"
                )

    @property
    def weights(self) -> np.ndarray:
        """The maps of the caption on show, float32 (layers, heads, words, keys)."""
        return self._weights[self.picture]

    def shown(self) -> np.ndarray:
        """The weights on show, from the chosen word, float32 (keys,)."""
        heads = self.weights[self.layer, :, self.word]
        return heads.mean(axis=0) if self.head < 0 else heads[self.head]

    def _range(self, name: str, picture: int) -> tuple[int, int]:
        """The lowest value of a trait, and the one after the highest."""
        if name == "picture":
            return 0, len(self.words)
        layers, heads = self._weights[0].shape[:2]
        words = len(self.words[min(max(picture, 0), len(self.words) - 1)])
        return {"word": (0, words), "layer": (0, layers), "head": (-1, heads)}[name]

    @t.validate("picture", "word", "layer", "head")
    def _in_range(self, proposal: dict) -> int:
        name, value = proposal["trait"].name, proposal["value"]
        low, high = self._range(name, self.picture)
        if not low <= value < high:
            raise t.TraitError(f"{name}={value} is outside {low}..{high - 1}")
        return value

    @t.observe("picture")
    def _keep_word(self, _change: dict) -> None:
        self.word = min(self.word, len(self.words[self.picture]) - 1)

    def _packed(self) -> dict:
        height, width, channels = self._pixels[0].shape
        layers, heads, _, keys = self._weights[0].shape
        return {
            "captions": [
                {
                    "pixels": pixels.tobytes(),
                    "words": words,
                    "weights": weights.astype("<f4").tobytes(),
                    "probabilities": probabilities,
                }
                for pixels, words, weights, probabilities in zip(
                    self._pixels, self.words, self._weights, self._probabilities, strict=True
                )
            ],
            "names": self._names,
            "height": height,
            "width": width,
            "channels": channels,
            "rows": self.grid[0],
            "columns": self.grid[1],
            "layers": layers,
            "heads": heads,
            "keys": keys,
            "class_token": self.class_token,
        }

    def view_title(self) -> str:
        """What is on show, such as "“red”: layer 2, mean of heads"."""
        head = "mean of heads" if self.head < 0 else f"head {self.head}"
        return f"“{self.words[self.picture][self.word]}”: layer {self.layer}, {head}"

    def static_text(self) -> str:
        layers, heads, words, _ = self.weights.shape
        rows, columns = self.grid
        more = f"; {len(self.words)} images" if len(self.words) > 1 else ""
        return (
            f"CaptionExplorer: “{' '.join(self.words[self.picture])}” ({words} words), {layers} "
            f"layers x {heads} heads over {rows} x {columns} patches; showing "
            f"{self.view_title()}{more}"
        )

    def static_png(self) -> bytes:
        """The image, then for each word the weights over it."""
        from matplotlib.figure import Figure
        from matplotlib.patches import Rectangle

        pixels = for_plot(self._pixels[self.picture])
        height, width = pixels.shape[:2]
        words, (rows, columns) = self.words[self.picture], self.grid
        heads = self.weights[self.layer]
        maps = heads.mean(axis=0) if self.head < 0 else heads[self.head]  # (words, keys)
        across = min(7, len(words) + 1)
        down = -(-(len(words) + 1) // across)
        fig = Figure(figsize=(9, 0.4 + 1.55 * down * height / width), layout="constrained")
        cells = fig.subplots(down, across, squeeze=False).flatten()
        cells[0].imshow(pixels, interpolation="nearest")
        cells[0].set_title("image", fontsize=9)
        grey = pixels.mean(axis=2)
        for place, (axes, word, row) in enumerate(zip(cells[1:], words, maps, strict=False)):
            patches = row[int(self.class_token) :].reshape(rows, columns)
            axes.imshow(grey, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
            axes.imshow(
                patches,
                cmap="cividis",
                vmin=0,
                vmax=float(patches.max()) or 1.0,
                alpha=self.opacity,
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
                interpolation="nearest",
            )
            axes.set_title(plot_text(word), fontsize=9)
            if place == self.word:
                axes.add_patch(
                    Rectangle((0, 0), width - 1, height - 1, fill=False, edgecolor="#d55e00",
                              linewidth=3)
                )  # fmt: skip
        for axes in cells:
            axes.set_xticks([])
            axes.set_yticks([])
        for axes in cells[len(words) + 1 :]:
            axes.set_visible(False)
        head = "mean of heads" if self.head < 0 else f"head {self.head}"
        fig.supxlabel(
            f"layer {self.layer}, {head}; bright = looked at, each word on its own scale",
            fontsize=9,
        )
        return figure_png(fig)


def _checked_probabilities(
    probabilities: Any, words: Sequence[Sequence[str]]
) -> list[list[float] | None]:
    if probabilities is None:
        return [None] * len(words)
    rows = [[float(p) for p in row] for row in probabilities]
    if [len(row) for row in rows] != [len(caption) for caption in words]:
        raise ValueError(
            f"probabilities have {[len(row) for row in rows]} entries, expected one for each word: "
            f"{[len(caption) for caption in words]}"
        )
    if not all(0.0 <= p <= 1.0 for row in rows for p in row):
        raise ValueError("probabilities must be numbers from 0 to 1")
    return rows
