"""Quantization explorer: bits and granularity against errors and against a model's quality."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as t
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text

GRANULARITIES = ("tensor", "channel", "group")
BINS, LOWEST, HIGHEST = 50, -4.0, 1.0  # of log10(error / standard deviation)
_COLORS = {"tensor": "#0072b2", "channel": "#b34700", "group": "#00795a"}
_SHORT = {"tensor": "tensor", "channel": "row", "group": "group"}


def rounded(
    x: np.ndarray, bits: int, granularity: str, symmetric: bool, group_size: int
) -> np.ndarray:
    """The matrix (rows, columns) after it went onto its grids and back; as in the script."""
    columns = x.shape[1]
    width = group_size if granularity == "group" else columns
    grouped = x.reshape(len(x), columns // width, width)
    axes = None if granularity == "tensor" else 2
    low = np.minimum(grouped.min(axes, keepdims=True), 0)
    high = np.maximum(grouped.max(axes, keepdims=True), 0)
    largest = 2 ** (bits - 1) - 1
    if symmetric:
        scale, smallest, zero = np.maximum(-low, high) / largest, -largest, 0
        scale = np.where(scale > 0, scale, 1)
    else:
        smallest = -largest - 1
        scale = (high - low) / (largest - smallest)
        scale = np.where(scale > 0, scale, 1)
        zero = np.clip(smallest - np.round(low / scale), smallest, largest)
    q = np.clip(np.round(grouped / scale) + zero, smallest, largest)
    return ((q - zero) * scale).reshape(x.shape)


class QuantizationExplorer(ZooWidget):
    """Matrices on a grid: how large the errors are, and what a model made of it.

    The left chart is a histogram of the errors, computed as the reader moves the controls; the
    right one shows the quality of the whole model, which must be measured beforehand.

    Args:
        matrices: name -> (rows, columns) of float numbers. A row is an output channel of a weight,
            or a token of an input; groups are `group_size` numbers of a row.
        quality: one mapping for each measured setting, with "of" (a name of `matrices`),
            "granularity" ("tensor", "channel" or "group"), "symmetric", "bits" and "accuracy" (a
            number, or a list of which the mean is shown). Every combination must be there.
        reference: the accuracy without quantization.
        guessing: the accuracy of guessing.
        group_size: must divide the columns.
        of, bits, granularity, symmetric: to start with.

    Raises:
        ValueError: shapes that do not fit, or a setting without quality.
        traitlets.TraitError: an unknown granularity.
    """

    _script = "quantization_explorer.js"

    of = t.Unicode().tag(sync=True)
    bits = t.Int(8).tag(sync=True)
    granularity = t.Enum(GRANULARITIES, "tensor").tag(sync=True)
    symmetric = t.Bool(True).tag(sync=True)
    names = t.List(t.Unicode()).tag(sync=True)
    shapes = t.List(t.List(t.Int())).tag(sync=True)
    numbers = t.Bytes().tag(sync=True)  # float32, one matrix after the other
    choices = t.List(t.Int()).tag(sync=True)  # of bits, rising
    quality = t.Dict().tag(sync=True)  # "of|granularity|symmetric|bits" -> mean accuracy
    reference = t.Float().tag(sync=True)
    guessing = t.Float().tag(sync=True)
    group_size = t.Int(32).tag(sync=True)
    bins = t.List([BINS, LOWEST, HIGHEST], read_only=True).tag(sync=True)

    def __init__(
        self,
        matrices: Mapping[str, Any],
        quality: Sequence[Mapping[str, Any]],
        *,
        reference: float,
        guessing: float,
        group_size: int = 32,
        of: str | None = None,
        bits: int = 8,
        granularity: str = "tensor",
        symmetric: bool = True,
    ) -> None:
        self._matrices = {
            name: np.ascontiguousarray(np.asarray(matrix, dtype="<f4"))
            for name, matrix in matrices.items()
        }
        for name, matrix in self._matrices.items():
            if matrix.ndim != 2 or matrix.shape[1] % group_size:
                raise ValueError(
                    f"{name!r} has shape {matrix.shape}, expected (rows, columns) with columns "
                    f"divisible by group_size={group_size}"
                )
        table = {
            _key(row["of"], row["granularity"], row["symmetric"], row["bits"]): round(
                float(np.mean(row["accuracy"])), 5
            )
            for row in quality
        }
        choices = sorted({int(row["bits"]) for row in quality})
        missing = [
            key
            for name in self._matrices
            for kind in GRANULARITIES
            for even in (True, False)
            for number in choices
            if (key := _key(name, kind, even, number)) not in table
        ]
        if missing or not table:
            raise ValueError(f"no quality for {missing[:3]}, {len(missing)} settings in all")
        of = next(iter(self._matrices)) if of is None else of
        if of not in self._matrices or bits not in choices:
            raise ValueError(
                f"of={of!r} and bits={bits}, expected one of {list(self._matrices)} and one of "
                f"{choices}"
            )
        super().__init__(
            of=of,
            bits=bits,
            granularity=granularity,
            symmetric=symmetric,
            names=list(self._matrices),
            shapes=[list(matrix.shape) for matrix in self._matrices.values()],
            numbers=b"".join(matrix.tobytes() for matrix in self._matrices.values()),
            choices=choices,
            quality=table,
            reference=reference,
            guessing=guessing,
            group_size=group_size,
        )

    def errors(self, granularity: str | None = None) -> np.ndarray:
        """|x̂ - x| of all numbers of the chosen matrix: (rows, columns)."""
        x = self._matrices[self.of].astype(float)
        kind = self.granularity if granularity is None else granularity
        return np.abs(rounded(x, self.bits, kind, self.symmetric, self.group_size) - x)

    def histogram(self, granularity: str | None = None) -> np.ndarray:
        """Share of the numbers in each bin of log10(error / standard deviation): (BINS,)."""
        relative = self.errors(granularity) / self._matrices[self.of].astype(float).std()
        place = (np.log10(np.maximum(relative, 1e-30)) - LOWEST) / (HIGHEST - LOWEST) * BINS
        bins = np.clip(np.floor(place), 0, BINS - 1).astype(int)
        return np.bincount(bins.ravel(), minlength=BINS) / bins.size

    def facts(self) -> dict[str, float]:
        """Of this setting: rms error over the standard deviation, share of zeros, accuracy."""
        x = self._matrices[self.of].astype(float)
        back = rounded(x, self.bits, self.granularity, self.symmetric, self.group_size)
        return {
            "error": float(np.sqrt(np.square(back - x).mean()) / x.std()),
            "zeros": float((back == 0).mean()),
            "accuracy": self.quality[_key(self.of, self.granularity, self.symmetric, self.bits)],
        }

    def static_text(self) -> str:
        facts = self.facts()
        return (
            f"QuantizationExplorer of {self.of}: {self.bits} bits, one grid per "
            f"{_SHORT[self.granularity]}, "
            f"{'symmetric' if self.symmetric else 'asymmetric'}: error "
            f"{100 * facts['error']:.2g} % of the standard deviation, {100 * facts['zeros']:.0f} % "
            f"of the numbers become 0, accuracy {100 * facts['accuracy']:.1f} % "
            f"(float32: {100 * self.reference:.1f} %)"
        )

    def static_png(self) -> bytes:
        fig = Figure(figsize=(9.6, 3.6), layout="constrained")
        left, right = fig.subplots(1, 2)
        edges = np.linspace(LOWEST, HIGHEST, BINS + 1)
        for kind in GRANULARITIES:
            chosen = kind == self.granularity
            width = 2 if chosen else 0.8
            left.stairs(self.histogram(kind), edges, color=_COLORS[kind], linewidth=width,
                        label=f"per {_SHORT[kind]}")  # fmt: skip
            curve = [self.quality[_key(self.of, kind, self.symmetric, b)] for b in self.choices]
            right.plot(self.choices, curve, "o-", color=_COLORS[kind], linewidth=width,
                       markersize=4, label=f"per {_SHORT[kind]}")  # fmt: skip
        left.set_xticks(range(-4, 2), ["0.0001", "0.001", "0.01", "0.1", "1", "10"])
        left.set(
            title=plot_text(f"Errors of {self.of}, {self.bits} bits"),
            xlabel="error / standard deviation of the numbers",
            ylabel="share of numbers",
        )
        right.axhline(self.reference, color="#767676", linestyle="--", linewidth=1)
        right.axhline(self.guessing, color="#767676", linestyle=":", linewidth=1)
        right.axvline(self.bits, color="#bbbbbb", linewidth=1)
        right.set(title="Quality of the whole model", xlabel="bits", ylabel="accuracy")
        for ax in (left, right):
            ax.grid(alpha=0.3)
            ax.legend(frameon=False, fontsize=8)
        return figure_png(fig)


def _key(of: str, granularity: str, symmetric: bool, bits: int) -> str:
    return f"{of}|{granularity}|{int(bool(symmetric))}|{bits}"
