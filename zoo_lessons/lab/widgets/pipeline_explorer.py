"""Pipeline explorer: stages, micro-batches and a schedule, their timetable, bubble and memory."""

from __future__ import annotations

from typing import Any

import traitlets as t
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from zoo_lessons.deploy.timetables import (
    bubble_share,
    most_alive,
    timetable,
)
from zoo_lessons.lab.widgets.base import ZooWidget, figure_png

MAX_STAGES, MAX_MICRO_BATCHES = 8, 24
BACKWARD = 2  # times a forward pass
COLORS = {"forward": "#0072b2", "backward": "#b34700"}


class PipelineExplorer(ZooWidget):
    """Cut a model into stages and a batch into micro-batches; see who works when.

    Args:
        schedule: "GPipe" or "1F1B".
        stages: 1 to 8.
        micro_batches: 1 to 24.

    Raises:
        traitlets.TraitError: a value outside these.
    """

    _script = "pipeline_explorer.js"

    schedule = t.Enum(("GPipe", "1F1B"), "GPipe").tag(sync=True)
    stages = t.Int(4, min=1, max=MAX_STAGES).tag(sync=True)
    micro_batches = t.Int(4, min=1, max=MAX_MICRO_BATCHES).tag(sync=True)
    limits = t.List(t.Int(), [MAX_STAGES, MAX_MICRO_BATCHES], read_only=True).tag(sync=True)
    backward = t.Int(BACKWARD, read_only=True).tag(sync=True)

    def kept(self) -> list[int]:
        """Micro-batches whose activations each stage keeps at the worst moment."""
        slots = self._slots()
        return [most_alive(slots, stage) for stage in range(self.stages)]

    def _slots(self) -> list[Any]:
        return timetable(self.schedule, self.stages, self.micro_batches, backward=BACKWARD)

    def static_text(self) -> str:
        idle = bubble_share(self.stages, self.micro_batches)
        kept = self.kept()
        return (
            f"PipelineExplorer, {self.schedule}, {self.stages} stages, {self.micro_batches} "
            f"micro-batches: {idle:.1%} of the time is idle; the first stage keeps the "
            f"activations of {kept[0]} micro-batches, the last of {kept[-1]}"
        )

    def static_png(self) -> bytes:
        slots = self._slots()
        fig = Figure(figsize=(9.6, 1.4 + 0.42 * self.stages), layout="constrained")
        ax = fig.subplots()
        for slot in slots:
            ax.add_patch(
                Rectangle(
                    (slot.start, slot.stage - 0.42), slot.end - slot.start, 0.84,
                    facecolor=COLORS[slot.kind], edgecolor="white", linewidth=0.8,
                )
            )  # fmt: skip
            if self.micro_batches <= 12:
                middle = (slot.start + slot.end) / 2
                ax.text(middle, slot.stage, slot.micro_batch + 1, color="white", fontsize=7,
                        ha="center", va="center")  # fmt: skip
        end = max(slot.end for slot in slots)
        ax.set(
            xlim=(0, end),
            ylim=(self.stages - 0.5, -0.5),
            xlabel="time, in forward passes of a micro-batch (blue forward, orange backward)",
            ylabel="stage",
            title=f"{self.schedule}: {bubble_share(self.stages, self.micro_batches):.1%} idle",
        )
        ax.set_yticks(range(self.stages), [str(s + 1) for s in range(self.stages)])
        ax.spines[["top", "right"]].set_visible(False)
        return figure_png(fig)
