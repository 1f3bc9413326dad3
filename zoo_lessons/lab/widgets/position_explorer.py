"""Position explorer: wavelengths of a positional encoding, and what dot products see of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png

BASES = (10, 30, 100, 300, 1000, 3000, 10000, 30000, 100000)
LENGTHS = tuple(range(16, 257, 8))
WIDTHS = tuple(range(8, 129, 8))
_SINUSOIDAL = "sinusoidal"


class PositionExplorer(ZooWidget):
    """Positional encodings as a heat map, as waves, and as dot products against distance.

    Sinusoidal positions are computed in the browser, so that every slider answers at once. Learned
    tables and relative biases come from Python.

    Args:
        tables: name -> array or tensor (length, d_model), for example
            `{"learned": model.positions.weight}`.
        biases: name -> array or tensor (queries, keys), (heads, queries, keys) or
            (1, heads, queries, keys), for example `{"T5": RelativePositionBias(4)(64)}`.
        source: what to show first: "sinusoidal" (default) or a name of the two mappings.
        view: "waves" (frequency and wavelength) or "products" (dot product against distance).
        length, d_model, base: of the sinusoidal table; one of `LENGTHS`, `WIDTHS`, `BASES`.
        pair, position, head: what is selected at first, counted from 0.

    Raises:
        ValueError: an array has the wrong shape or is not finite, a name is taken, or a selection
            lies outside what is shown.
        traitlets.TraitError: another argument outside its values.
    """

    _script = "position_explorer.js"

    source = traitlets.Unicode(_SINUSOIDAL).tag(sync=True)
    view = traitlets.Enum(("waves", "products"), "waves").tag(sync=True)
    length = traitlets.Enum(LENGTHS, 64).tag(sync=True)
    d_model = traitlets.Enum(WIDTHS, 64).tag(sync=True)
    base = traitlets.Enum(BASES, 10000).tag(sync=True)
    pair = traitlets.Int(4, min=0).tag(sync=True)
    position = traitlets.Int(20, min=0).tag(sync=True)
    head = traitlets.Int(0, min=0).tag(sync=True)
    bases = traitlets.List(default_value=list(BASES), read_only=True).tag(sync=True)
    _arrays = traitlets.List().tag(sync=True)  # {name, kind, shape, start} of each array
    _values = traitlets.Bytes().tag(sync=True)  # their float32 values, one after the other

    def __init__(
        self,
        tables: Mapping[str, Any] | None = None,
        biases: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ):
        self._data: dict[str, np.ndarray] = {}
        entries, start = [], 0
        for kind, group in (("table", tables or {}), ("bias", biases or {})):
            for name, array in group.items():
                if name == _SINUSOIDAL or name in self._data:
                    raise ValueError(f"the name {name!r} is taken; give every array its own")
                values = _stack(kind, name, array)  # (heads, rows, columns)
                shape = list(values.shape)
                entries.append({"name": name, "kind": kind, "shape": shape, "start": start})
                start += values.size
                self._data[name] = values
        values = b"".join(array.astype("<f4").tobytes() for array in self._data.values())
        super().__init__(_arrays=entries, _values=values, **kwargs)
        if self.source != _SINUSOIDAL and self.source not in self._data:
            known = ", ".join([_SINUSOIDAL, *self._data])
            raise ValueError(f"source={self.source!r} must be one of: {known}")
        heads, rows, columns = self._shown().shape
        # The defaults suit long tables; a short one starts at its last position instead.
        for name, count in (
            ("position", rows),
            ("head", heads),
            ("pair", max(1, columns // 2)),
        ):
            if getattr(self, name) >= count:
                if name in kwargs:
                    raise ValueError(f"{name}={kwargs[name]} must be below {count}")
                setattr(self, name, count - 1)

    def _shown(self) -> np.ndarray:
        """What is on show: (heads, rows, columns), one head for a table."""
        if self.source in self._data:
            return self._data[self.source]
        from zoo_lessons.layers.positions import sinusoidal_positions

        return sinusoidal_positions(self.length, self.d_model, self.base).numpy()[None]

    def _kind(self) -> str:
        return next((a["kind"] for a in self._arrays if a["name"] == self.source), "table")

    def static_text(self) -> str:
        heads, rows, columns = self._shown().shape
        if self._kind() == "bias":
            what = f"bias of {heads} heads for {rows} queries and {columns} keys; head {self.head}"
        else:
            base = f", base {self.base}" if self.source == _SINUSOIDAL else ""
            what = f"{rows} positions x {columns} dimensions{base}; pair {self.pair}"
        return f"PositionExplorer({self.source}: {what}, position {self.position})"

    def static_png(self) -> bytes:
        fig = Figure(figsize=(9.6, 3.6), layout="constrained")
        left, right = fig.subplots(1, 2)
        values = self._shown()[self.head if self._kind() == "bias" else 0]
        if self._kind() == "table" and self.view == "waves":
            image = left.imshow(values, cmap="cividis", aspect="auto", interpolation="nearest")
            left.set(title=f"Encoding: {self.source}", xlabel="dimension", ylabel="position")
            first, second = 2 * self.pair, 2 * self.pair + 1
            right.plot(values[:, first], color="#0072b2", label=f"dimension {first}")
            right.plot(values[:, second], "--", color="#b34700", label=f"dimension {second}")
            right.axvline(self.position, color="#767676", linewidth=1, linestyle=":")
            right.set(title=f"Pair {self.pair}", xlabel="position", ylabel="value")
        else:
            bias = self._kind() == "bias"
            square = values if bias else values @ values.T
            image = left.imshow(square, cmap="cividis", aspect="auto", interpolation="nearest")
            what = "Bias" if bias else "Dot product"
            left.set(
                title=f"{what}: {self.source}",
                xlabel="key" if bias else "other position",
                ylabel="query" if bias else "position",
            )
            distance = np.arange(square.shape[1]) - self.position
            label = f"{'query' if bias else 'position'} {self.position}"
            right.plot(distance, square[self.position], color="#0072b2", label=label)
            right.set(title=f"{what} against distance", xlabel="distance", ylabel=what.lower())
        fig.colorbar(image, ax=left)
        right.grid(alpha=0.3)
        right.legend(fontsize=8, loc="lower right", framealpha=0.9)
        return figure_png(fig)


def _stack(kind: str, name: str, array: Any) -> np.ndarray:
    """The array as float32 (heads, rows, columns); a table counts as one head."""
    values = np.asarray(array.detach().cpu() if hasattr(array, "detach") else array, np.float32)
    shape = values.shape
    if kind == "bias" and values.ndim == 4 and len(values) == 1:
        values = values[0]
    if values.ndim == 2:
        values = values[None]
    if kind == "table" and (len(shape) != 2 or shape[1] % 2 or 0 in shape):
        raise ValueError(f"table {name!r} has shape {shape}, expected (length, an even d_model)")
    if kind == "bias" and (values.ndim != 3 or 0 in shape):
        raise ValueError(
            f"bias {name!r} has shape {shape}, expected (queries, keys), (heads, queries, keys) "
            "or (1, heads, queries, keys)"
        )
    if not np.isfinite(values).all():
        raise ValueError(f"{kind} {name!r} holds NaN or infinite values")
    return values
