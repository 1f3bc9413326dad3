"""Similarity explorer: the matrix of a contrastive loss, its temperature, and the gradient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.images import for_plot, to_bytes

VIEWS = {
    "cosine": "cosine",
    "rows": "rows: image finds text",
    "columns": "columns: text finds image",
    "gradient": "gradient of the loss",
}
COLDEST, WARMEST = 0.01, 1.0
MOST = 24


@dataclass(frozen=True)
class ContrastiveNumbers:
    """What one temperature makes of the cosines.

    Attributes:
        rows: softmax over the texts of each image, (images, texts).
        columns: softmax over the images of each text, (images, texts).
        find_text, find_image: the two halves of the loss, in nats.
        loss: their mean.
        gradient: of the loss with respect to the cosines, (images, texts).
        temperature_gradient: of the loss with respect to the logarithm of the temperature.
    """

    rows: np.ndarray
    columns: np.ndarray
    find_text: float
    find_image: float
    loss: float
    gradient: np.ndarray
    temperature_gradient: float


def contrastive_numbers(
    cosines: np.ndarray, temperature: float, same: np.ndarray
) -> ContrastiveNumbers:
    """The symmetric contrastive loss and its gradients, for cosines (n, n).

    `same` is Boolean (n, n), True where image i and text j match: their target is shared evenly.
    """
    logits = cosines / temperature
    log_rows = logits - _log_sum_exp(logits, 1)
    log_columns = logits - _log_sum_exp(logits, 0)
    row_targets = same / same.sum(1, keepdims=True)
    column_targets = same / same.sum(0, keepdims=True)
    find_text = -(row_targets * log_rows).sum(1).mean()
    find_image = -(column_targets * log_columns).sum(0).mean()
    rows, columns = np.exp(log_rows), np.exp(log_columns)
    by_logit = ((rows - row_targets) + (columns - column_targets)) / (2 * len(cosines))
    return ContrastiveNumbers(
        rows,
        columns,
        float(find_text),
        float(find_image),
        float((find_text + find_image) / 2),
        by_logit / temperature,
        float(-(by_logit * logits).sum()),
    )


class SimilarityExplorer(ZooWidget):
    """Images against texts: cosines, what the temperature makes of them, the loss, its gradient.

    Args:
        cosines: (n, n), image i with text j, from -1 to 1. Text i belongs to image i.
        captions: n texts.
        images: (n, height, width, 3), from 0 to 1 or uint8; drawn beside the rows if given.
        same: Boolean (n, n), True where image i and text j match. Equal captions, by default.
        temperature: to start with, from 0.01 to 1.
        share: whether matching pairs share the target. Otherwise only pairs (i, i) are right.
        view: "cosine", "rows", "columns" or "gradient".

    Raises:
        ValueError: shapes that do not fit each other, cosines out of range, more than 24 pairs.
        traitlets.TraitError: a temperature or a view that there is not.
    """

    _script = "similarity_explorer.js"
    _style = "similarity_explorer.css"

    temperature = t.Float(0.07, min=COLDEST, max=WARMEST).tag(sync=True)
    view = t.Enum(list(VIEWS), "cosine").tag(sync=True)
    share = t.Bool(False).tag(sync=True)
    cell = t.Int(0, min=0).tag(sync=True)
    _payload = t.Dict().tag(sync=True)

    def __init__(
        self,
        cosines: Any,
        captions: Sequence[str],
        images: Any = None,
        *,
        same: Any = None,
        temperature: float = 0.07,
        share: bool = False,
        view: str = "cosine",
    ) -> None:
        self._cosines = _numbers(cosines)
        self.captions = [str(caption) for caption in captions]
        count = len(self.captions)
        if self._cosines.shape != (count, count) or not 2 <= count <= MOST:
            raise ValueError(
                f"cosines have shape {self._cosines.shape} for {count} captions, expected "
                f"(captions, captions), 2 to {MOST} of them"
            )
        if not np.abs(self._cosines).max() <= 1.0001:  # NaN fails, too
            raise ValueError("cosines must lie between -1 and 1: divide embeddings by their norms")
        self.same = np.equal.outer(self.captions, self.captions) if same is None else _numbers(same)
        self.same = self.same.astype(bool)
        if self.same.shape != (count, count) or not self.same.diagonal().all():
            raise ValueError(f"same must be ({count}, {count}) with True on its diagonal")
        self._images = None if images is None else to_bytes(images, "images")
        if self._images is not None and (
            self._images.ndim != 4 or self._images.shape[::3] != (count, 3)
        ):
            raise ValueError(
                f"images have shape {self._images.shape}, expected ({count}, height, width, 3)"
            )
        shape = (0, 0) if self._images is None else self._images.shape[1:3]
        super().__init__(
            temperature=temperature,
            view=view,
            share=share,
            _payload={
                "cosines": self._cosines.astype("<f4").tobytes(),
                "same": self.same.astype(np.uint8).tobytes(),
                "images": b"" if self._images is None else self._images.tobytes(),
                "height": shape[0],
                "width": shape[1],
                "captions": self.captions,
                "views": list(VIEWS.items()),
                "range": [COLDEST, WARMEST],
            },
        )

    @property
    def numbers(self) -> ContrastiveNumbers:
        """Probabilities, loss and gradients at the temperature on show."""
        return contrastive_numbers(self._cosines, self.temperature, self._targets())

    def losses(self, temperatures: np.ndarray) -> np.ndarray:
        """The loss at each of these temperatures."""
        targets = self._targets()
        found = [contrastive_numbers(self._cosines, each, targets).loss for each in temperatures]
        return np.array(found)

    @t.validate("cell")
    def _in_range(self, proposal: dict) -> int:
        if not 0 <= proposal["value"] < self._cosines.size:
            raise t.TraitError(f"cell={proposal['value']} is outside 0..{self._cosines.size - 1}")
        return proposal["value"]

    def _targets(self) -> np.ndarray:
        return self.same if self.share else np.eye(len(self.captions), dtype=bool)

    def _shown(self) -> np.ndarray:
        numbers = self.numbers
        return {
            "cosine": self._cosines,
            "rows": numbers.rows,
            "columns": numbers.columns,
            "gradient": numbers.gradient,
        }[self.view]

    def static_text(self) -> str:
        numbers, count = self.numbers, len(self.captions)
        return (
            f"SimilarityExplorer: {count} images against {count} texts, showing {self.view}; "
            f"temperature {self.temperature:.3g}, loss {numbers.loss:.3f} (image finds text "
            f"{numbers.find_text:.3f}, text finds image {numbers.find_image:.3f})"
        )

    def static_png(self) -> bytes:
        """The matrix on show, and the loss against the temperature."""
        from matplotlib.figure import Figure

        count, shown = len(self.captions), self._shown()
        fig = Figure(figsize=(9, 4), layout="constrained")
        left, right = fig.subplots(1, 2, width_ratios=(1, 1))
        low, high = _limits(self.view, shown)
        signed = self.view == "gradient"
        picture = left.imshow(shown, cmap="coolwarm" if signed else "cividis", vmin=low, vmax=high)
        fig.colorbar(picture, ax=left, shrink=0.8)
        left.set_title(plot_text(VIEWS[self.view]), fontsize=9)
        left.set_xlabel("text")
        left.set_ylabel("image")
        left.set_xticks(range(count), range(1, count + 1))
        left.set_yticks(range(count), range(1, count + 1))
        if self._images is not None and count <= 12:
            left.set_yticks([])
            left.set_ylabel("")
            for row, image in enumerate(self._images):
                place = (-0.11, 1 - (row + 0.95) / count, 0.1, 0.9 / count)
                small = left.inset_axes(place)
                small.imshow(for_plot(image))
                small.axis("off")
        grid, guessing = np.geomspace(COLDEST, WARMEST, 101), np.log(count)
        right.plot(grid, self.losses(grid))
        right.plot([self.temperature], [self.numbers.loss], "o")
        right.axhline(guessing, linestyle="--", linewidth=1, color="grey")
        right.set_xscale("log")
        most = max(1.15 * self.losses(grid).max(), 1.05 * guessing)
        right.set_ylim(0, min(most, 3 * guessing))
        right.set_xlabel("temperature (logarithmic)")
        right.set_title(
            f"loss in nats: {self.numbers.loss:.3f} at {self.temperature:.3g}; dashed: guessing",
            fontsize=9,
        )
        return figure_png(fig)


def _limits(view: str, shown: np.ndarray) -> tuple[float, float]:
    if view == "cosine":
        return min(0.0, float(shown.min())), 1.0
    if view == "gradient":
        most = float(np.abs(shown).max()) or 1.0
        return -most, most
    return 0.0, 1.0


def _log_sum_exp(values: np.ndarray, axis: int) -> np.ndarray:
    top = values.max(axis, keepdims=True)
    return top + np.log(np.exp(values - top).sum(axis, keepdims=True))


def _numbers(values: Any) -> np.ndarray:
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"expected numbers, got dtype {array.dtype}")
    # What the script computes with, so that both show the same digits.
    return array.astype(np.float32).astype(np.float64)
