"""Mask explorer: which query may attend to which key, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text

# The rules the script draws, for the static picture. query and key are index grids that
# broadcast to (length, length). A browser test compares the two.
PATTERNS: dict[str, Callable[[np.ndarray, np.ndarray, int, int, int], np.ndarray]] = {
    "full": lambda query, key, length, padding, window: (query >= 0) & (key >= 0),
    "causal": lambda query, key, length, padding, window: key <= query,
    "padding": lambda query, key, length, padding, window: (query >= 0) & (key < length - padding),
    "causal + padding": lambda query, key, length, padding, window: (
        (key <= query) & (key < length - padding)
    ),
    "sliding window": lambda query, key, length, padding, window: abs(query - key) <= window,
    "causal sliding window": lambda query, key, length, padding, window: (
        (key <= query) & (query - key <= window)
    ),
}
_LONGEST = 64


class MaskExplorer(ZooWidget):
    """See an attention mask as a grid: row i is query i, column j is key j, filled = may attend.

    Beside the grid stand the share of allowed pairs, how many keys each query sees, and the
    multiply-adds of one head. Click a cell or use the arrow keys to read it.

    Args:
        length: number of tokens of the built-in patterns, 1 to 64. A slider changes it, unless
            `tokens` fixes it.
        tokens: one label per token; gives the length.
        masks: your own masks by name, each a bool array or tensor (queries, keys), True = may
            attend. Axes of length 1 in front, as in (batch, 1, queries, keys), are dropped.
        pattern: what is shown at first; by default the first of `masks`, else "causal". One of
            "full", "causal", "padding", "causal + padding", "sliding window",
            "causal sliding window", or a name in `masks`.
        padding: how many tokens at the end are padding.
        window: how many tokens to each side the sliding windows reach.
        head_dim: d_k, for the multiply-adds.

    Raises:
        TypeError: a mask is not boolean.
        ValueError: a mask has the wrong shape, or a number is out of range.
    """

    _script = "mask_explorer.js"
    _style = "mask_explorer.css"

    pattern = t.Unicode("causal").tag(sync=True)
    length = t.Int(12).tag(sync=True)
    padding = t.Int(3).tag(sync=True)
    window = t.Int(2).tag(sync=True)
    head_dim = t.Int(64).tag(sync=True)
    tokens = t.List(t.Unicode()).tag(sync=True)
    _masks = t.List(t.Dict()).tag(sync=True)  # {name, queries, keys, allowed: one byte per pair}

    def __init__(
        self,
        length: int = 12,
        tokens: Sequence[str] | None = None,
        masks: Mapping[str, Any] | None = None,
        *,
        pattern: str | None = None,
        padding: int = 3,
        window: int = 2,
        head_dim: int = 64,
    ) -> None:
        tokens = [str(token) for token in tokens or []]
        length = len(tokens) or length
        self._arrays = {str(name): _mask(name, mask) for name, mask in (masks or {}).items()}
        taken = sorted(set(self._arrays) & set(PATTERNS))
        if taken:
            raise ValueError(f"{taken[0]!r} is a built-in pattern: give your mask another name")
        pattern = pattern or next(iter(self._arrays), "causal")
        numbers = {"length": length, "padding": padding, "window": window, "head_dim": head_dim}
        for name, value in {"pattern": pattern, **numbers}.items():
            self._require(name, value, length)
        super().__init__(
            pattern=pattern,
            length=length,
            padding=padding,
            window=window,
            head_dim=head_dim,
            tokens=tokens,
            _masks=[
                {
                    "name": name,
                    "queries": mask.shape[0],
                    "keys": mask.shape[1],
                    "allowed": mask.astype(np.uint8).tobytes(),
                }
                for name, mask in self._arrays.items()
            ],
        )

    def _require(self, name: str, value: Any, length: int) -> None:
        """Raise ValueError if a trait's value is out of range."""
        if name == "pattern":
            choices = [*self._arrays, *PATTERNS]
            if value not in choices:
                raise ValueError(f"pattern={value!r} is none of {choices}")
            return
        low, high = {
            "length": (1, _LONGEST),
            "padding": (0, length),
            "window": (0, _LONGEST),
            "head_dim": (1, 2**20),
        }[name]
        if not low <= value <= high:
            raise ValueError(f"{name}={value} must be between {low} and {high}")

    @t.validate("pattern", "length", "padding", "window", "head_dim")
    def _valid(self, proposal: dict) -> Any:
        # While another length is on its way, padding is held to the longest there can be.
        self._require(proposal["trait"].name, proposal["value"], _LONGEST)
        return proposal["value"]

    def mask(self) -> np.ndarray:
        """The mask on show, bool (queries, keys), True = may attend."""
        if self.pattern in self._arrays:
            return self._arrays[self.pattern]
        index = np.arange(self.length)
        rule = PATTERNS[self.pattern]
        allowed = rule(index[:, None], index[None, :], self.length, self.padding, self.window)
        return np.broadcast_to(allowed, (self.length, self.length))

    def static_text(self) -> str:
        mask = self.mask()
        queries, keys = mask.shape
        return (
            f"MaskExplorer: {self.pattern}, {queries} queries x {keys} keys, "
            f"{int(mask.sum())} of {mask.size} pairs allowed ({mask.mean():.0%})"
        )

    def static_png(self) -> bytes:
        """The mask on show (left) and how many keys each query sees (right)."""
        from matplotlib.colors import ListedColormap
        from matplotlib.figure import Figure

        mask = self.mask()
        queries, keys = mask.shape
        fig = Figure(figsize=(8, 4.6), layout="constrained")
        left, right = fig.subplots(1, 2, width_ratios=(1.6, 1), sharey=True)
        left.pcolormesh(
            np.arange(keys + 1) - 0.5,
            np.arange(queries + 1) - 0.5,
            mask,
            cmap=ListedColormap(["#ececec", "#0072b2"]),
            vmin=0,
            vmax=1,
            edgecolors="white",
            linewidth=0.6,
        )
        left.invert_yaxis()
        left.set_aspect("equal")
        left.set_anchor("N")
        left.set_title(f"{self.pattern}: {mask.mean():.0%} of pairs allowed", fontsize=11)
        left.set_xlabel("key")
        left.set_ylabel("query")
        if len(self.tokens) == keys == queries:
            labels = list(map(plot_text, self.tokens))
            left.set_xticks(range(keys), labels, rotation=90, fontsize=8)
            left.set_yticks(range(queries), labels, fontsize=8)
        right.barh(range(queries), mask.sum(1), color="#0072b2")
        right.set_xlim(0, keys)
        right.set_title("keys each query sees", fontsize=11)
        right.set_xlabel("keys")
        return figure_png(fig)


def _mask(name: str, mask: Any) -> np.ndarray:
    array = np.asarray(mask.detach().cpu() if hasattr(mask, "detach") else mask)
    if array.dtype != bool:
        raise TypeError(
            f"mask {name!r} must be boolean (True = may attend), got dtype {array.dtype}"
        )
    while array.ndim > 2 and array.shape[0] == 1:
        array = array[0]
    if array.ndim != 2:
        raise ValueError(f"mask {name!r} must have shape (queries, keys), got {array.shape}")
    if not all(1 <= size <= _LONGEST for size in array.shape):
        raise ValueError(
            f"mask {name!r} has shape {array.shape}; both sides must be 1 to {_LONGEST}"
        )
    return np.ascontiguousarray(array)
