"""State-space explorer: one number of state, its pole, and what it remembers of an input."""

from __future__ import annotations

import numpy as np
import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png

METHODS = ("zoh", "mamba", "euler")
SIGNALS = ("impulse", "constant")
STEPS = 40
# Step lengths, and rates at which the state fades, evenly spread on a logarithmic scale.
DELTAS = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0)
DECAYS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)


class StateSpaceExplorer(ZooWidget):
    """h'(t) = A h(t) + x(t), y(t) = the real part of h(t), in steps of length Δ.

    A is one complex number, -decay + i · frequency. The left picture shows it after discretisation,
    Ā, in the unit circle; the right one the response to an input, in steps and exactly.

    Args:
        delta: the step length Δ, one of `DELTAS`.
        decay: how fast the state fades, one of `DECAYS`.
        frequency: how fast it swings, 0 to 6, in radians per unit of time.
        method: "zoh" (zero-order hold), "mamba" (its Ā, but B̄ = Δ) or "euler" (Ā = 1 + ΔA).
        signal: "impulse" is 1 during the first step and 0 after it; "constant" stays 1.
        step: the number of steps after which the state is read out, 0 to `STEPS`.

    Raises:
        traitlets.TraitError: an argument outside its values.
    """

    _script = "state_space_explorer.js"

    delta = traitlets.Enum(DELTAS, 0.1).tag(sync=True)
    decay = traitlets.Enum(DECAYS, 1.0).tag(sync=True)
    frequency = traitlets.Float(0.0, min=0.0, max=6.0).tag(sync=True)
    method = traitlets.Enum(METHODS, "zoh").tag(sync=True)
    signal = traitlets.Enum(SIGNALS, "impulse").tag(sync=True)
    step = traitlets.Int(10, min=0, max=STEPS).tag(sync=True)
    deltas = traitlets.List(default_value=list(DELTAS), read_only=True).tag(sync=True)
    decays = traitlets.List(default_value=list(DECAYS), read_only=True).tag(sync=True)
    steps = traitlets.Int(STEPS, read_only=True).tag(sync=True)

    def discrete(self) -> tuple[complex, complex]:
        """Ā and B̄ (B is 1)."""
        A = complex(-self.decay, self.frequency)
        if self.method == "euler":
            return 1 + self.delta * A, complex(self.delta)
        A_bar = np.exp(self.delta * A)
        return A_bar, (A_bar - 1) / A if self.method == "zoh" else complex(self.delta)

    def response(self) -> np.ndarray:
        """The output after 0, 1, ..., `STEPS` steps."""
        A_bar, B_bar = self.discrete()
        h, states = 0j, [0j]
        for step in range(STEPS):
            h = A_bar * h + B_bar * (self.signal == "constant" or step == 0)
            states.append(h)
        return np.real(states)

    def exact(self, steps: np.ndarray) -> np.ndarray:
        """The solution of the differential equation after `steps` steps, which may be fractions."""
        A = complex(-self.decay, self.frequency)
        time = np.asarray(steps) * self.delta
        fed = time if self.signal == "constant" else np.minimum(time, self.delta)
        return np.real(np.exp(A * (time - fed)) * (np.exp(A * fed) - 1) / A)

    def static_text(self) -> str:
        A_bar, B_bar = self.discrete()
        return (
            f"StateSpaceExplorer(delta={self.delta:g}, decay={self.decay:g}, "
            f"frequency={self.frequency:g}, {self.method}, {self.signal}): |A_bar| = "
            f"{abs(A_bar):.3f}, |B_bar| = {abs(B_bar):.3f}, output "
            f"{self.response()[self.step]:.3f} after {self.step} steps"
        )

    def static_png(self) -> bytes:
        fig = Figure(figsize=(9.6, 3.4), layout="constrained")
        plane, right = fig.subplots(1, 2, width_ratios=(1, 1.9))
        turn = np.linspace(0, 2 * np.pi, 200)
        plane.plot(np.cos(turn), np.sin(turn), color="#bbbbbb", linewidth=1)
        A = complex(-self.decay, self.frequency)
        path = np.exp(np.linspace(0, self.delta, 100) * A)
        plane.plot(path.real, path.imag, ":", color="#0072b2", linewidth=1)
        A_bar, _ = self.discrete()
        plane.plot(A_bar.real, A_bar.imag, "X", color="#b34700", markersize=9)
        plane.set(title="Ā in the unit circle", aspect="equal", xlabel="real", ylabel="imaginary")
        plane.set(xlim=(-1.3, 1.3), ylim=(-1.3, 1.3), xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        steps = np.linspace(0, STEPS, 20 * STEPS + 1)
        exact = self.exact(steps)
        right.plot(steps, exact, color="#0072b2", label="exact")
        right.plot(self.response(), "o", color="#b34700", markersize=4, label="in steps")
        low, high = _limits(exact)
        right.set(title=f"Response to: {self.signal}", xlabel="steps", ylabel="output y")
        right.set_ylim(low, high)
        right.grid(alpha=0.3)
        right.legend(frameon=False, fontsize=8)
        return figure_png(fig)


def _limits(exact: np.ndarray) -> tuple[float, float]:
    """Room for the exact curve and some error around it; the script has the same rule."""
    low, high = min(0.0, exact.min()), exact.max()
    margin = 0.25 * (high - low)
    return low - margin, high + margin
