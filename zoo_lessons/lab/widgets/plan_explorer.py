"""Plan explorer: move the limits, and see which plans keep them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import traitlets as t
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png, plot_text

# Figure of a plan -> whether its limit is a least one, and how it is written.
FIGURES = {"accuracy": True, "p99": False, "throughput": True, "kilobytes": False}
_FORMATS = {
    "accuracy": lambda value: f"{100 * value:.1f} %",
    "p99": lambda value: f"{value:.2f}",
    "throughput": lambda value: f"{value:.0f}×",
    "kilobytes": lambda value: f"{value:.0f} KB",
}


class PlanExplorer(ZooWidget):
    """Four limits, a chart of accuracy against p99, and a table that says who misses what.

    Args:
        plans: one mapping for each, with "name", "accuracy" (0 to 1), "interval" of the accuracy
            (low, high), "p99", "throughput" and "kilobytes" (above 0).
        limits: the four to start with, by the names of the figures; p99 and kilobytes at most,
            accuracy and throughput at least.

    Raises:
        ValueError: no plans, a figure that is missing or not above 0, or a missing limit.
    """

    _script = "plan_explorer.js"
    _style = "plan_explorer.css"

    plans = t.List(t.Dict()).tag(sync=True)
    limits = t.Dict().tag(sync=True)
    ranges = t.Dict().tag(sync=True)  # figure -> [lowest, highest, step] of its slider

    def __init__(
        self, plans: Sequence[Mapping[str, Any]], limits: Mapping[str, float], **traits: Any
    ) -> None:
        if not plans:
            raise ValueError("plans is empty, expected at least one plan")
        absent = [name for name in FIGURES if name not in limits]
        if absent:
            raise ValueError(f"limits has no {', '.join(absent)}")
        rows = []
        for plan in plans:
            wrong = [name for name in FIGURES if not plan.get(name, 0) > 0]
            if wrong:
                raise ValueError(f"{plan.get('name')!r}: {', '.join(wrong)} must be above 0")
            low, high = plan["interval"]
            figures = {name: float(plan[name]) for name in FIGURES}
            rows.append(
                {"name": str(plan["name"]), "low": float(low), "high": float(high), **figures}
            )
        super().__init__(
            plans=rows,
            limits={name: float(limits[name]) for name in FIGURES},
            ranges={
                name: _range(name, [row[name] for row in rows], limits[name]) for name in FIGURES
            },
            **traits,
        )

    def misses(self, plan: Mapping[str, Any]) -> list[str]:
        """The figures in which a plan misses its limit."""
        return [
            name
            for name, least in FIGURES.items()
            if (plan[name] < self.limits[name] if least else plan[name] > self.limits[name])
        ]

    def kept(self) -> list[str]:
        """Names of the plans that keep all limits."""
        return [plan["name"] for plan in self.plans if not self.misses(plan)]

    def static_text(self) -> str:
        limits = ", ".join(
            f"{name} at {'least' if least else 'most'} {_FORMATS[name](self.limits[name])}"
            for name, least in FIGURES.items()
        )
        kept = "; ".join(self.kept()) or "none"
        return f"PlanExplorer, {len(self.plans)} plans. Limits: {limits}. Kept by: {kept}"

    def static_png(self) -> bytes:
        fig = Figure(figsize=(9.6, 4.4), layout="constrained")
        ax = fig.subplots()
        for number, plan in enumerate(self.plans, start=1):
            kept, place = not self.misses(plan), (plan["p99"], plan["accuracy"])
            ax.vlines(plan["p99"], plan["low"], plan["high"], color="#bbbbbb", linewidth=1)
            ax.scatter(
                *place,
                s=8 * plan["kilobytes"] ** 0.75,
                facecolors="#0072b2" if kept else "white",
                edgecolors="#0072b2",
                alpha=0.85,
                zorder=2,
            )
            color = "white" if kept else "black"
            ax.annotate(str(number), place, fontsize=8, ha="center", va="center", color=color)
        ax.axvline(self.limits["p99"], color="#767676", linestyle="--", linewidth=1)
        ax.axhline(self.limits["accuracy"], color="#767676", linestyle="--", linewidth=1)
        ax.set(title="Filled: keeps all four limits", xscale="log", ylabel="accuracy")
        ax.set_xlabel("p99 / the reference's p99")
        ax.minorticks_off()
        low, high = ax.get_xlim()
        ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5) if low < tick < high]
        ax.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        ax.grid(alpha=0.3)
        names = [f"{number}  {plan['name']}" for number, plan in enumerate(self.plans, start=1)]
        fig.legend(
            [Line2D([], [], linestyle="")] * len(names),
            [plot_text(name) for name in names],
            loc="outside right upper",
            fontsize=8,
            frameon=False,
            handlelength=0,
        )
        return figure_png(fig)


def _range(name: str, values: Sequence[float], limit: float) -> list[float]:
    """[lowest, highest, step] of a slider that reaches past all plans."""
    step = {"accuracy": 0.0025, "p99": 0.01, "throughput": 1.0, "kilobytes": 5.0}[name]
    low, high = min(*values, limit), max(*values, limit)
    places = np.floor(low / step) * step, np.ceil(high / step) * step
    return [round(float(place), 6) for place in places] + [step]
