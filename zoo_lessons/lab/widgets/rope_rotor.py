"""RoPE rotor: rotary positions on the unit circle, and why only the distance counts."""

from __future__ import annotations

from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png
from zoo_lessons.lab.widgets.position_explorer import BASES

HEAD_DIMS = tuple(range(8, 129, 8))
FARTHEST = 128


class RoPERotor(ZooWidget):
    """A query at position m and a key at position n, turned by rotary positions.

    Each pair of dimensions is a unit vector in a plane; pair i turns by θ_i = base^(-2i/head_dim)
    per position (Su et al. 2021, "RoFormer", section 3.2.2).

    Args:
        m, n: positions of query and key, 0 to `FARTHEST`.
        shift: added to both positions, 0 to 1000.
        pair: the pair on the circle, 0 to head_dim / 2 - 1.
        head_dim: width of the head, one of `HEAD_DIMS`.
        base: one of `position_explorer.BASES`.
        vectors: "same" starts with q = k in every pair, "random" with random directions.

    Raises:
        ValueError: `pair` does not exist at this `head_dim`.
        traitlets.TraitError: another argument outside its values.
    """

    _script = "rope_rotor.js"

    m = traitlets.Int(12, min=0, max=FARTHEST).tag(sync=True)
    n = traitlets.Int(4, min=0, max=FARTHEST).tag(sync=True)
    shift = traitlets.Int(0, min=0, max=1000).tag(sync=True)
    pair = traitlets.Int(4, min=0).tag(sync=True)
    head_dim = traitlets.Enum(HEAD_DIMS, 32).tag(sync=True)
    base = traitlets.Enum(BASES, 10000).tag(sync=True)
    vectors = traitlets.Enum(("same", "random"), "same").tag(sync=True)
    angles = traitlets.Dict(read_only=True).tag(sync=True)  # the random directions, per pair
    bases = traitlets.List(default_value=list(BASES), read_only=True).tag(sync=True)
    farthest = traitlets.Int(FARTHEST, read_only=True).tag(sync=True)

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        if self.pair >= self.head_dim // 2:
            raise ValueError(f"pair={self.pair} must be below head_dim / 2 = {self.head_dim // 2}")

    @traitlets.default("angles")
    def _random_angles(self) -> dict[str, list[float]]:
        random = np.random.default_rng(3)
        return {name: random.uniform(0, 2 * np.pi, HEAD_DIMS[-1] // 2).tolist() for name in "qk"}

    def pair_products(self, distance: np.ndarray | int) -> np.ndarray:
        """Product of each pair at a distance m - n: (..., head_dim / 2)."""
        pairs = np.arange(self.head_dim // 2)
        theta = self.base ** (-2 * pairs / self.head_dim)
        start = np.zeros(len(pairs))
        if self.vectors == "random":
            start = np.array(self.angles["q"]) - np.array(self.angles["k"])
        return np.cos(start[: len(pairs)] + np.multiply.outer(distance, theta))

    def static_text(self) -> str:
        products = self.pair_products(self.m - self.n)
        return (
            f"RoPERotor(m={self.m}, n={self.n}, shift={self.shift}, head_dim={self.head_dim}, "
            f"base={self.base}): product of pair {self.pair} {products[self.pair]:.3f}, of all "
            f"{len(products)} pairs {products.sum():.2f}"
        )

    def static_png(self) -> bytes:
        fig = Figure(figsize=(9.6, 3.4), layout="constrained")
        circle, right = fig.subplots(1, 2, width_ratios=(1, 1.9))
        turn = np.linspace(0, 2 * np.pi, 200)
        circle.plot(np.cos(turn), np.sin(turn), color="#bbbbbb", linewidth=1)
        theta = self.base ** (-2 * self.pair / self.head_dim)
        for name, position, color in (("q", self.m, "#0072b2"), ("k", self.n, "#b34700")):
            start = self.angles[name][self.pair] if self.vectors == "random" else np.pi / 6
            for angle, style, label in (
                (start, "--", None),
                (
                    start + (position + self.shift) * theta,
                    "-",
                    f"{name} at {position + self.shift}",
                ),
            ):
                x, y = np.cos(angle), np.sin(angle)
                circle.plot([0, x], [0, y], style, color=color, linewidth=2, label=label)
                if label:
                    circle.plot(x, y, "o", color=color)
        circle.set(title=f"Pair {self.pair} on the unit circle", aspect="equal")
        circle.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.55), xticks=[], yticks=[])
        circle.legend(frameon=False, fontsize=8, loc="upper center", ncols=2)
        distance = np.arange(-FARTHEST, FARTHEST + 1)
        right.plot(distance, self.pair_products(distance).sum(-1), color="#a64d84")
        right.axvline(self.m - self.n, color="#767676", linewidth=1, linestyle="--")
        right.set(
            title=f"Product of all {self.head_dim // 2} pairs against distance",
            xlabel="distance m - n",
            ylabel="q·k",
        )
        right.grid(alpha=0.3)
        return figure_png(fig)
