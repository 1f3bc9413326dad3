"""Schedule explorer: learning-rate schedules side by side, and the rate at one update."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import traitlets
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png
from zoo_lessons.training.schedules import SCHEDULES, Schedule

RATES = tuple(float(f"{digit}e{power}") for power in (-5, -4, -3, -2) for digit in (1, 2, 3, 5))
TOTALS = (50, 100, 200, 300, 500, 1000, 2000, 5000, 10000, 20000, 50000, 100000)
_STYLES = {
    "constant": ("#0072b2", ":"),
    "warmup_inverse_sqrt": ("#b34700", "--"),
    "warmup_cosine": ("#00795a", (0, (4, 3))),
    "warmup_linear": ("#a64d84", "-."),
}


class ScheduleExplorer(ZooWidget):
    """The schedules of `zoo_lessons.training.schedules`, drawn while their settings move.

    Args:
        schedule: the one to start with, a key of `schedules.SCHEDULES`.
        warmup_steps: updates over which the rate rises, at least 1 and below `total_steps`.
        total_steps: updates in the run, one of `TOTALS`.
        peak_rate: the largest rate, one of `RATES`.
        final_fraction: share of the peak left at the end (cosine and linear), 0 to 1.
        step: the update that is read out, 0 for the first.

    Raises:
        ValueError: `warmup_steps` or `step` not below `total_steps`.
        traitlets.TraitError: another argument outside its values.
    """

    _script = "schedule_explorer.js"

    schedule = traitlets.Enum(tuple(SCHEDULES), "warmup_cosine").tag(sync=True)
    warmup_steps = traitlets.Int(100, min=1).tag(sync=True)
    total_steps = traitlets.Enum(TOTALS, 1000).tag(sync=True)
    peak_rate = traitlets.Enum(RATES, 1e-3).tag(sync=True)
    final_fraction = traitlets.Float(0.0, min=0.0, max=1.0).tag(sync=True)
    step = traitlets.Int(300, min=0).tag(sync=True)
    rates = traitlets.List(default_value=list(RATES), read_only=True).tag(sync=True)
    totals = traitlets.List(default_value=list(TOTALS), read_only=True).tag(sync=True)

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        for name, least in (("warmup_steps", 1), ("step", 0)):
            if getattr(self, name) >= self.total_steps:
                if name in kwargs:
                    raise ValueError(
                        f"{name}={kwargs[name]} must be below total_steps={self.total_steps}"
                    )
                setattr(self, name, max(least, self.total_steps // 10))

    def schedule_function(self, name: str | None = None) -> Schedule:
        """A schedule with the current settings, ready for `fit(..., schedule=...)`.

        Args:
            name: a key of `schedules.SCHEDULES`; the one on show if left out.
        """
        name = name or self.schedule
        options = {"warmup_steps": self.warmup_steps}
        if name in ("warmup_cosine", "warmup_linear"):
            options |= {"total_steps": self.total_steps, "final_fraction": self.final_fraction}
        return partial(SCHEDULES[name], **options)

    def rate(self) -> float:
        """The learning rate at `step`."""
        return self.peak_rate * self.schedule_function()(self.step)

    def static_text(self) -> str:
        return (
            f"ScheduleExplorer({self.schedule}, warmup_steps={self.warmup_steps}, "
            f"total_steps={self.total_steps}, peak_rate={self.peak_rate:.0e}, "
            f"final_fraction={self.final_fraction:g}): rate {self.rate():.2e} at step {self.step}"
        )

    def static_png(self) -> bytes:
        fig = Figure(figsize=(8, 3.4), layout="constrained")
        axes = fig.subplots()
        corner = [self.warmup_steps - 1, self.warmup_steps]
        steps = np.unique(np.r_[np.linspace(0, self.total_steps - 1, 500).astype(int), corner])
        for name, (color, dash) in _STYLES.items():
            function = self.schedule_function(name)
            rates = [self.peak_rate * function(int(step)) for step in steps]
            width, style = (3, "-") if name == self.schedule else (1.25, dash)
            axes.plot(steps, rates, linestyle=style, color=color, linewidth=width, label=name)
        axes.axvline(corner[0], color="#767676", linewidth=1, linestyle=":")
        axes.plot(self.step, self.rate(), "o", color=_STYLES[self.schedule][0])
        axes.set(title="Learning rate of each update", xlabel="update", ylabel="learning rate")
        axes.set_ylim(0, 1.08 * self.peak_rate)
        axes.grid(alpha=0.3)
        axes.legend(frameon=False, fontsize=8)
        return figure_png(fig)
