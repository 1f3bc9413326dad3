"""Patience explorer: which examples leave a model early, and what that saves and costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets as t
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png

_ROWS = 8  # examples that are shown at a time


def exit_layers(predictions: np.ndarray, patience: int) -> np.ndarray:
    """How many layers each example uses, by the rule of `zoo_lessons.early_exit`.

    Args:
        predictions: (layers, examples).
        patience: how many layers in a row must confirm; as many as there are layers: all are used.

    Returns:
        int (examples,), 1 to the number of layers.
    """
    layers, examples = predictions.shape
    left = np.full(examples, layers)
    confirmed = np.zeros(examples, dtype=int)
    for layer in range(1, layers):
        same = predictions[layer] == predictions[layer - 1]
        confirmed = np.where(same, confirmed + 1, 0)
        left = np.where((left == layers) & (confirmed >= patience), layer + 1, left)
    return left


class PatienceExplorer(ZooWidget):
    """Slide the patience: where each example leaves, how many are right, how many layers are used.

    Args:
        predictions: number of the predicted class, (layers, examples).
        labels: number of the right class, (examples).
        classes: names of the classes.
        confidence: probability of the predicted class, (layers, examples).
        names: what to call the examples, such as their text; "example 1" by default.
        patience: to start with, 1 to the number of layers, which means no early exit.

    Raises:
        ValueError: shapes that do not fit, or class numbers outside the list.
        traitlets.TraitError: a patience outside its range.
    """

    _script = "patience_explorer.js"
    _style = "patience_explorer.css"

    patience = t.Int(2, min=1).tag(sync=True)
    first = t.Int(0, min=0).tag(sync=True)  # of the examples that are shown
    which = t.Enum(("all", "right", "wrong"), "all").tag(sync=True)
    classes = t.List(t.Unicode()).tag(sync=True)
    names = t.List(t.Unicode()).tag(sync=True)
    labels = t.List(t.Int()).tag(sync=True)
    predictions = t.List(t.List(t.Int())).tag(sync=True)
    confidence = t.List(t.List(t.Float())).tag(sync=True)
    rows = t.Int(_ROWS, read_only=True).tag(sync=True)

    def __init__(
        self,
        predictions: Any,
        labels: Any,
        classes: Sequence[str],
        confidence: Any,
        *,
        names: Sequence[str] | None = None,
        patience: int = 2,
    ) -> None:
        found, right = np.asarray(predictions), np.asarray(labels)
        sure = np.asarray(confidence, dtype=float)
        if found.ndim != 2 or 0 in found.shape or sure.shape != found.shape:
            raise ValueError(
                f"predictions {found.shape} and confidence {sure.shape} must both be "
                "(layers, examples)"
            )
        layers, examples = found.shape
        if right.shape != (examples,):
            raise ValueError(f"labels have shape {right.shape}, expected ({examples},)")
        for name, numbers in (("predictions", found), ("labels", right)):
            if numbers.min() < 0 or numbers.max() >= len(classes):
                raise ValueError(
                    f"{name} go from {numbers.min()} to {numbers.max()}, expected classes 0 to "
                    f"{len(classes) - 1}"
                )
        names = [f"example {i + 1}" for i in range(examples)] if names is None else list(names)
        if len(names) != examples:
            raise ValueError(f"{len(names)} names for {examples} examples, expected as many")
        if not 1 <= patience <= layers:
            raise ValueError(f"patience={patience}, expected 1 to {layers}")
        super().__init__(
            patience=patience,
            classes=list(classes),
            names=names,
            labels=right.tolist(),
            predictions=found.tolist(),
            confidence=np.round(sure, 4).tolist(),
        )

    def trade(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean layers used and accuracy at each patience, from 1 to the number of layers."""
        found, labels = np.array(self.predictions), np.array(self.labels)
        columns = np.arange(found.shape[1])
        used, right = [], []
        for patience in range(1, len(found) + 1):
            left = exit_layers(found, patience)
            used.append(left.mean())
            right.append((found[left - 1, columns] == labels).mean())
        return np.array(used), np.array(right)

    def static_text(self) -> str:
        used, right = self.trade()
        i = min(self.patience, len(used)) - 1
        return (
            f"PatienceExplorer, patience {self.patience}, {len(self.labels)} examples: "
            f"{right[i]:.1%} right with {used[i]:.2f} of {len(used)} layers on average; "
            f"all layers: {right[-1]:.1%}"
        )

    def static_png(self) -> bytes:
        used, right = self.trade()
        layers, i = len(used), min(self.patience, len(used)) - 1
        fig = Figure(figsize=(9.6, 3.2), layout="constrained")
        curve, bars = fig.subplots(1, 2)
        curve.plot(used, right, "-o", color="#0072b2", markersize=4, label="patience 1, 2, ...")
        curve.plot(used[i], right[i], "o", color="#b34700", markersize=9,
                   label=f"patience {self.patience}")  # fmt: skip
        curve.set(title="Accuracy against layers used", xlabel="layers used, mean",
                  ylabel="share right", xlim=(0.8, layers + 0.2))  # fmt: skip
        curve.legend(frameon=False, fontsize=8)
        left = exit_layers(np.array(self.predictions), self.patience)
        counts = np.bincount(left, minlength=layers + 1)[1:]
        bars.bar(np.arange(1, layers + 1), counts, color="#0072b2")
        bars.set(title=f"Where examples leave, patience {self.patience}", xlabel="after layer",
                 ylabel="examples")  # fmt: skip
        return figure_png(fig)
