"""Mask explorer: which query may attend to which key, and what that costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as t

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text
from zoo_lessons.lab.widgets.seeded import uniforms

# The rules the script draws, for the static picture. query and key are index grids that broadcast
# to (length, length), s is the explorer. A browser test compares the two.
Rule = Callable[[np.ndarray, np.ndarray, "MaskExplorer"], np.ndarray]


def _near(query: np.ndarray, key: np.ndarray, s: MaskExplorer) -> np.ndarray:
    return abs(query - key) <= s.window


def _global(query: np.ndarray, key: np.ndarray, s: MaskExplorer) -> np.ndarray:
    return (query < s.global_tokens) | (key < s.global_tokens)


def _drawn(query: np.ndarray, key: np.ndarray, s: MaskExplorer) -> np.ndarray:
    """True where the key's block is one of those that the query's block has drawn."""
    blocks = -(-s.length // s.block)
    chance = uniforms(_SEED, blocks * blocks).reshape(blocks, blocks)
    ranks = chance.argsort(axis=1).argsort(axis=1)
    return (ranks < s.random_blocks)[query // s.block, key // s.block]


PATTERNS: dict[str, Rule] = {
    "full": lambda query, key, s: (query >= 0) & (key >= 0),
    "causal": lambda query, key, s: key <= query,
    "padding": lambda query, key, s: (query >= 0) & (key < s.length - s.padding),
    "causal + padding": lambda query, key, s: (key <= query) & (key < s.length - s.padding),
    "sliding window": _near,
    "causal sliding window": lambda query, key, s: (key <= query) & (query - key <= s.window),
}
# Lesson 15's: offered when asked for.
SPARSE_PATTERNS: dict[str, Rule] = {
    "window + global": lambda query, key, s: _near(query, key, s) | _global(query, key, s),
    "window + random": lambda query, key, s: _near(query, key, s) | _drawn(query, key, s),
    "window + global + random": lambda query, key, s: (
        _near(query, key, s) | _global(query, key, s) | _drawn(query, key, s)
    ),
}
_LONGEST, _MOST_LAYERS, _SEED = 64, 8, 15
_THREE_COLORS = ["#ececec", "#99c7e0", "#0072b2"]  # masked, connected by layers, may attend


class MaskExplorer(ZooWidget):
    """See an attention mask as a grid: row i is query i, column j is key j, filled = may attend.

    Beside the grid stand the share of allowed pairs, how many keys each query sees, and the
    multiply-adds of one head. Click a cell or use the arrow keys to read it.

    With `sparse`, global tokens and random blocks join, and a slider stacks layers: pale cells are
    pairs that a few layers connect though one layer does not.

    Args:
        length: number of tokens of the built-in patterns, 1 to 64. A slider changes it, unless
            `tokens` fixes it.
        tokens: one label per token; gives the length.
        masks: your own masks by name, each a bool array or tensor (queries, keys), True = may
            attend. Axes of length 1 in front, as in (batch, 1, queries, keys), are dropped.
        pattern: what is shown at first; by default the first of `masks`, else "causal". One of
            "full", "causal", "padding", "causal + padding", "sliding window",
            "causal sliding window", or a name in `masks`; with `sparse` also "window + global",
            "window + random", "window + global + random".
        padding: how many tokens at the end are padding.
        window: how many tokens to each side the sliding windows reach.
        head_dim: d_k, for the multiply-adds.
        sparse: also offer lesson 15's patterns and layers.
        global_tokens: how many tokens at the start see all and are seen by all.
        random_blocks: how many blocks of keys each block of queries draws.
        block: tokens in a block.
        layers: 1 to 8. A token also keeps what it knows (the residual path).

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
    sparse = t.Bool(False).tag(sync=True)
    global_tokens = t.Int(1).tag(sync=True)
    random_blocks = t.Int(1).tag(sync=True)
    block = t.Int(4).tag(sync=True)
    layers = t.Int(1).tag(sync=True)
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
        sparse: bool = False,
        global_tokens: int = 1,
        random_blocks: int = 1,
        block: int = 4,
        layers: int = 1,
    ) -> None:
        tokens = [str(token) for token in tokens or []]
        length = len(tokens) or length
        self._arrays = {str(name): _mask(name, mask) for name, mask in (masks or {}).items()}
        self._rules = {**PATTERNS, **(SPARSE_PATTERNS if sparse else {})}
        taken = sorted(set(self._arrays) & {*PATTERNS, *SPARSE_PATTERNS})
        if taken:
            raise ValueError(f"{taken[0]!r} is a built-in pattern: give your mask another name")
        pattern = pattern or next(iter(self._arrays), "causal")
        numbers = {
            "length": length,
            "padding": padding,
            "window": window,
            "head_dim": head_dim,
            "global_tokens": global_tokens,
            "random_blocks": random_blocks,
            "block": block,
            "layers": layers,
        }
        for name, value in {"pattern": pattern, **numbers}.items():
            self._require(name, value, length)
        super().__init__(
            pattern=pattern,
            **numbers,
            sparse=sparse,
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
            choices = [*self._arrays, *self._rules]
            if value not in choices:
                raise ValueError(f"pattern={value!r} is none of {choices}")
            return
        low, high = {
            "length": (1, _LONGEST),
            "padding": (0, length),
            "window": (0, _LONGEST),
            "head_dim": (1, 2**20),
            "global_tokens": (0, _LONGEST),
            "random_blocks": (0, _LONGEST),
            "block": (1, _LONGEST),
            "layers": (1, _MOST_LAYERS),
        }[name]
        if not low <= value <= high:
            raise ValueError(f"{name}={value} must be between {low} and {high}")

    @t.validate(
        "pattern",
        "length",
        "padding",
        "window",
        "head_dim",
        "global_tokens",
        "random_blocks",
        "block",
        "layers",
    )
    def _valid(self, proposal: dict) -> Any:
        # While another length is on its way, padding is held to the longest there can be.
        self._require(proposal["trait"].name, proposal["value"], _LONGEST)
        return proposal["value"]

    def mask(self) -> np.ndarray:
        """The mask on show, bool (queries, keys), True = may attend."""
        if self.pattern in self._arrays:
            return self._arrays[self.pattern]
        index = np.arange(self.length)
        allowed = self._rules[self.pattern](index[:, None], index[None, :], self)
        return np.broadcast_to(allowed, (self.length, self.length))

    def reach(self) -> np.ndarray:
        """What the output of a query depends on after all layers, bool (queries, keys).

        An own mask that is not square cannot be stacked: there it is the mask itself.
        """
        mask = self.mask()
        if self.layers == 1 or mask.shape[0] != mask.shape[1]:
            return mask
        one = mask | np.eye(len(mask), dtype=bool)  # the residual path
        return np.linalg.matrix_power(one.astype(float), self.layers) > 0

    def static_text(self) -> str:
        mask = self.mask()
        queries, keys = mask.shape
        text = (
            f"MaskExplorer: {self.pattern}, {queries} queries x {keys} keys, "
            f"{int(mask.sum())} of {mask.size} pairs allowed ({mask.mean():.0%})"
        )
        if self.layers == 1:
            return text
        seen = self.reach().sum(axis=1)
        return f"{text}; after {self.layers} layers a query reaches {seen.min()} to {seen.max()}"

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
            mask if self.layers == 1 else np.where(mask, 1.0, 0.5 * self.reach()),
            cmap=ListedColormap(["#ececec", "#0072b2"] if self.layers == 1 else _THREE_COLORS),
            vmin=0,
            vmax=1,
            edgecolors="white",
            linewidth=0.6,
        )
        left.invert_yaxis()
        left.set_aspect("equal")
        left.set_anchor("N")
        pale = "" if self.layers == 1 else f"\npale: connected by {self.layers} layers"
        left.set_title(f"{self.pattern}: {mask.mean():.0%} of pairs allowed{pale}", fontsize=11)
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
