"""Claim C27: tensor and pipeline parallelism for ViT-G/14.

Four processes share a small ViT: two pipeline stages, each of them split in two. They train for
three steps of Adam on the same images as one process does, with both schedules, in float64, so that
rounding cannot hide a mistake. Each process counts the bytes of its weights, gradients, Adam's
state and the activations that its blocks keep, and what it sends; `planner.plan` has said all of
these before.

ViT-G/14 itself does not fit into a laptop. The same planner plans it.

Verdict: "reproduced" if with both schedules outputs and gradients differ from one process's by at
most 1e-12, relative to their largest value, and so do the three losses; and on every rank each
counted figure is within 1 % of the plan. "partly" if only the first holds. Otherwise "not
measurable here". Nothing here is timed.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from zoo_lessons.deploy.parallel_run import launch
from zoo_lessons.deploy.planner import A100, plan, vit_giant
from zoo_lessons.records import Verdict, experiment

SCHEDULES = ("GPipe", "1F1B")
LIMIT = 1e-12
COUNTED = (
    "parameters",
    "weights",
    "gradients",
    "optimizer",
    "activations",
    "tensor_calls",
    "tensor_bytes",
    "pipeline_bytes",
)
WITHIN = 0.01


def worst_difference(run: dict[str, Any]) -> float:
    """The largest relative difference of a run from one process."""
    pairs = zip(run["losses"], run["whole_losses"], strict=True)
    losses = [abs(ours - theirs) / theirs for ours, theirs in pairs]
    return max(run["output"], run["gradients"], *losses)


def plan_error(run: dict[str, Any]) -> float:
    """The largest relative difference of a counted figure from the plan, over all ranks."""
    return max(
        abs(rank[name] - rank["planned"][name]) / rank["planned"][name]
        for rank in run["ranks"]
        for name in COUNTED
    )


def giant() -> dict[str, Any]:
    """ViT-G/14 on a 2 × 2 mesh: each stage's bytes and the seconds of a step."""
    planned = plan(vit_giant(), tensor=2, pipeline=2, images=8, micro_batches=16, schedule="1F1B")
    return {
        "ranks": [{**asdict(rank), "memory": rank.memory} for rank in planned.ranks],
        "batch": planned.batch,
        "hardware": A100.name,
        "seconds": planned.times(A100).total,
    }


def verdict(figures: dict[str, Any]) -> Verdict:
    runs = figures["runs"].values()
    difference, error = max(map(worst_difference, runs)), max(map(plan_error, runs))
    equal, planned = difference <= LIMIT, error <= WITHIN
    said = "reproduced" if equal and planned else "partly" if equal else "not measurable here"
    memory = max(rank["memory"] for rank in figures["giant"]["ranks"])
    ours = (
        f"2 × 2 mesh against one process: largest difference {difference:.1e}; bytes per rank "
        f"against the plan: {100 * error:.2f} % off at most; ViT-G/14 on such a mesh, on paper: "
        f"{memory / 1e9:.1f} GB per rank"
    )
    explanation = (
        "Outputs, gradients and three steps of training, with GPipe and 1F1B, in float64, on four "
        "processes of one machine. A small ViT was run; ViT-G/14 was planned only."
    )
    return Verdict(said, ours, explanation, "22#6-·-Claim-C27:-a-mesh-of-four")


@experiment(
    "c27_mesh",
    claims=["C27"],
    lesson="22",
    uses=[
        "zoo_lessons.deploy.parallel",
        "zoo_lessons.deploy.parallel_run",
        "zoo_lessons.deploy.planner",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.models.vit",
    ],
)
def c27_mesh() -> dict[str, Any]:
    runs = {
        schedule: launch(["mesh"], options={"schedule": schedule})["mesh"] for schedule in SCHEDULES
    }
    figures = {"runs": runs, "giant": giant()}
    return {"figures": figures, "verdicts": {"C27": verdict(figures)}}
