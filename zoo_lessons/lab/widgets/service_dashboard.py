"""Service dashboard: what a service does while it runs, and what happens to it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import traitlets
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from zoo_lessons.lab.widgets.base import ZooWidget, figure_png

FIELDS = ("time", "rate", "errors", "p50", "p99", "hits", "under_way")
# panel: title, unit, {field: name in the legend}
PANELS = {
    "traffic": ("Answers", "per second", {"rate": "answers", "errors": "errors"}),
    "latency": ("Latency", "milliseconds", {"p50": "p50", "p99": "p99"}),
    "cache": ("Answered by the cache", "%", {"hits": "hits"}),
    "queue": ("Requests under way", "requests", {"under_way": "under way"}),
}
_COLORS = ("#0072b2", "#b34700")


class ServiceDashboard(ZooWidget):
    """Four charts over time, which grow while rows are added, and marks for what was done to it.

    Args:
        rows: readings to begin with, each a mapping as `add` takes it.
        marks: {"time": seconds, "text": what happened}.

    Raises:
        ValueError: a row lacks a field.
    """

    _script = "service_dashboard.js"

    rows = traitlets.List().tag(sync=True)
    marks = traitlets.List().tag(sync=True)
    panels = traitlets.List(read_only=True).tag(sync=True)

    def __init__(self, rows: Any = (), marks: Any = ()):
        super().__init__()
        panels = [
            {"title": title, "unit": unit, "lines": list(lines.items())}
            for title, unit, lines in PANELS.values()
        ]
        self.set_trait("panels", panels)
        self.rows = [_checked(row) for row in rows]
        self.marks = [dict(mark) for mark in marks]

    def add(self, row: Mapping[str, float]) -> None:
        """Show one more reading; may be called from another thread.

        Args:
            row: "time" in seconds; "rate" and "errors" per second; "p50" and "p99" in
                milliseconds and "hits" in percent, None where nobody asked; "under_way".

        Raises:
            ValueError: a field is missing.
        """
        self.rows = [*self.rows, _checked(row)]

    def mark(self, text: str, time: float | None = None) -> None:
        """Draw a line with a text, by default at the latest reading."""
        latest = self.rows[-1]["time"] if self.rows else 0.0
        self.marks = [*self.marks, {"time": latest if time is None else time, "text": text}]

    def static_text(self) -> str:
        if not self.rows:
            return "ServiceDashboard: no readings yet"
        marks = ", ".join(f"{mark['text']} at {mark['time']:.0f} s" for mark in self.marks)
        return (
            f"ServiceDashboard: {len(self.rows)} readings over {self.rows[-1]['time']:.0f} s"
            f"{'; ' + marks if marks else ''}"
        )

    def static_png(self) -> bytes:
        if not self.rows:
            fig = Figure(figsize=(9.6, 0.6))
            fig.text(0.02, 0.4, "Four charts over time appear here once readings come in.")
            return figure_png(fig)
        fig = Figure(figsize=(9.6, 5.0), layout="constrained")
        for ax, panel in zip(fig.subplots(2, 2, sharex=True).flat, PANELS.values(), strict=True):
            self._draw(ax, *panel)
        return figure_png(fig)

    def _draw(self, ax: Axes, title: str, unit: str, lines: Mapping[str, str]) -> None:
        times = [row["time"] for row in self.rows]
        for color, (field, name) in zip(_COLORS, lines.items(), strict=False):
            values = [float("nan") if row[field] is None else row[field] for row in self.rows]
            ax.plot(times, values, color=color, label=name, ls="--" if color != _COLORS[0] else "-")
        for mark in self.marks:
            ax.axvline(mark["time"], color="grey", linestyle=":", linewidth=1)
            ax.text(mark["time"], 0.98, f" {mark['text']}", transform=ax.get_xaxis_transform(),
                    fontsize=7, va="top", rotation=90)  # fmt: skip
        ax.set(title=title, xlabel="seconds", ylabel=unit)
        ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
        if len(lines) > 1:
            ax.legend(frameon=False, fontsize=8)


def _checked(row: Mapping[str, Any]) -> dict[str, float | None]:
    missing = [name for name in FIELDS if name not in row]
    if missing:
        raise ValueError(f"a reading lacks {', '.join(missing)}; it needs {', '.join(FIELDS)}")
    return {name: None if row[name] is None else round(float(row[name]), 3) for name in FIELDS}
