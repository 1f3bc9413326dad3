"""Softmax playground: what dividing by the square root of d_k does to weights and gradient."""

from __future__ import annotations

import numpy as np
import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png
from zoo_lessons.lab.widgets.seeded import uniforms

D_K_VALUES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)
NUM_KEYS = 8


def standard_normals(seed: int, count: int) -> np.ndarray:
    """`count` standard normal numbers, the same ones that the widget's script draws.

    Box and Muller's transform turns the uniform numbers of `seeded.uniforms` into normal ones.

    Returns:
        float64 (count,).
    """
    uniform = uniforms(seed, 2 * ((count + 1) // 2))
    radius = np.sqrt(-2 * np.log(1 - uniform[0::2]))
    angle = 2 * np.pi * uniform[1::2]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1).ravel()[:count]


def softmax_statistics(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Softmax weights over the last axis, their entropy, and the size of the softmax's gradient.

    Returns:
        weights p, the shape of `scores`; entropy in nats; Frobenius norm of the Jacobian
        diag(p) - p pᵀ. The last two lack the last axis.
    """
    exps = np.exp(scores - scores.max(-1, keepdims=True))
    p = exps / exps.sum(-1, keepdims=True)
    entropy = -np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0).sum(-1)
    jacobian = p[..., :, None] * np.eye(p.shape[-1]) - p[..., :, None] * p[..., None, :]
    return p, entropy, np.sqrt((jacobian**2).sum((-2, -1)))


class SoftmaxPlayground(ZooWidget):
    """Scores, weights, entropy and gradient of a softmax, with and without division by √d_k.

    One random query and eight random keys have entries of mean 0 and variance 1, so the variance
    of a score is d_k. A width of d_k uses the first d_k entries: a wider query only adds products.

    Args:
        d_k: width to start with, one of `D_K_VALUES`.
        scaled: whether the readout describes the divided scores.
        seed: which random draw, 1 to 20.

    Raises:
        traitlets.TraitError: a value outside these.
    """

    _script = "softmax_playground.js"
    _style = "softmax_playground.css"

    d_k = traitlets.Enum(D_K_VALUES, 64).tag(sync=True)
    scaled = traitlets.Bool(False).tag(sync=True)
    seed = traitlets.Int(1, min=1, max=20).tag(sync=True)
    d_k_values = traitlets.List(default_value=list(D_K_VALUES), read_only=True).tag(sync=True)
    num_keys = traitlets.Int(NUM_KEYS, read_only=True).tag(sync=True)
    draws = traitlets.Int(200, read_only=True).tag(sync=True)

    def scores(self) -> np.ndarray:
        """The eight scores q·k of the current draw and width, not divided: (8,)."""
        widest = D_K_VALUES[-1]
        vectors = standard_normals(self.seed, (1 + NUM_KEYS) * widest).reshape(-1, widest)
        return vectors[1:, : self.d_k] @ vectors[0, : self.d_k]

    def averages(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean entropy and gradient over `draws` draws: each (2, widths), not divided first."""
        widest = D_K_VALUES[-1]
        vectors = standard_normals(0, self.draws * (1 + NUM_KEYS) * widest)
        vectors = vectors.reshape(self.draws, 1 + NUM_KEYS, widest)
        products = np.cumsum(vectors[:, 1:] * vectors[:, :1], axis=-1)  # (draws, keys, widest)
        widths = np.array(D_K_VALUES)
        scores = products[..., widths - 1].transpose(2, 0, 1)  # (widths, draws, keys)
        both = np.stack([scores, scores / np.sqrt(widths)[:, None, None]])
        _, entropy, gradient = softmax_statistics(both)
        return entropy.mean(-1), gradient.mean(-1)

    def static_text(self) -> str:
        plain = self.scores()
        parts = []
        for name, scores in (
            ("not divided", plain),
            ("divided by √d_k", plain / np.sqrt(self.d_k)),
        ):
            p, entropy, gradient = softmax_statistics(scores)
            parts.append(
                f"{name}, largest weight {p.max():.2f}, entropy {entropy:.2f} of "
                f"{np.log(NUM_KEYS):.2f} nats, gradient {gradient:.2f}"
            )
        return f"SoftmaxPlayground(d_k={self.d_k}, seed={self.seed}): " + "; ".join(parts)

    def static_png(self) -> bytes:
        fig = Figure(figsize=(9.6, 3.2), layout="constrained")
        bars, entropy_axes, gradient_axes = fig.subplots(1, 3)
        plain = self.scores()
        place = np.arange(NUM_KEYS)
        styles = (("not divided", "#b34700", "--"), ("divided by √d_k", "#0072b2", "-"))
        entropy, gradient = self.averages()
        for i, (name, color, dash) in enumerate(styles):
            weights, _, _ = softmax_statistics(plain / np.sqrt(self.d_k) if i else plain)
            bars.bar(place + 0.4 * i - 0.2, weights, 0.4, color=color, label=name)
            entropy_axes.plot(D_K_VALUES, entropy[i], dash, color=color, label=name)
            gradient_axes.plot(D_K_VALUES, gradient[i], dash, color=color, label=name)
        bars.set(
            title=f"Softmax weights, d_k = {self.d_k}", xlabel="key", ylabel="weight", ylim=(0, 1)
        )
        bars.set_xticks(place, place + 1)
        bars.legend(frameon=False, fontsize=8)
        limit = np.log(NUM_KEYS)
        entropy_axes.axhline(limit, color="#767676", linewidth=0.8, linestyle=":")
        entropy_axes.set(title="Entropy", ylabel="nats", ylim=(0, 1.08 * limit))
        gradient_axes.set(title="Size of the gradient", ylabel="Jacobian norm", ylim=(0, 0.5))
        for axes in (entropy_axes, gradient_axes):
            axes.axvline(self.d_k, color="#767676", linewidth=1, linestyle="--")
            axes.set_xscale("log", base=2)
            axes.set_xticks([1, 4, 16, 64, 256], ["1", "4", "16", "64", "256"])
            axes.set_xlabel(f"width d_k (mean of {self.draws} draws)")
        return figure_png(fig)
