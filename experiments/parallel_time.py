"""Times of parallel runs: the bubble of a pipeline, and what two cores gain by sharing one model.

*The bubble.* Four stages on four processes wait instead of computing, as long for every batch
however it is cut, so that the schedule is measured and not the number of this machine's cores. The
idle share is 1 - (seconds of work) / (seconds of the step), beside (p - 1) / (m + p - 1).

*Two cores.* Two processes with one thread each compute a training step of one ViT, forward and
backward, on the same batch: layers split (tensor), images split (data), stages (pipeline, GPipe)
with 1, 2, 4 and 8 micro-batches; beside one process with one thread. In turns, and as ratios of
each round.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from zoo_lessons.deploy.parallel_run import launch
from zoo_lessons.deploy.timetables import bubble_share
from zoo_lessons.records import experiment

STAGES, MICRO_BATCHES = 4, (1, 2, 4, 8, 16)
REPEATS, ROUNDS, BATCH = 5, 7, 8
ALONE = "one process"


def bubble(schedule: str, micro_batches: Sequence[int]) -> dict[str, float]:
    """Measured idle shares by number of micro-batches."""
    options = {"waiting": micro_batches, "repeats": REPEATS, "schedules": [schedule]}
    found = launch(["bubble"], STAGES, options)["bubble"]
    seconds = found["seconds"][schedule]
    return {count: round(1 - found["work"] / taken, 4) for count, taken in seconds.items()}


def gains(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """How many times as fast as one process: median, lowest and highest round."""
    found = {}
    for name, rows in seconds.items():
        if name != ALONE:
            ratios = [a / b for a, b in zip(seconds[ALONE], rows, strict=True)]
            found[name] = {
                "speedup": round(median(ratios), 3),
                "low": round(min(ratios), 3),
                "high": round(max(ratios), 3),
            }
    return found


@experiment(
    "parallel_time",
    lesson="22",
    uses=[
        "zoo_lessons.deploy.parallel",
        "zoo_lessons.deploy.parallel_run",
        "zoo_lessons.deploy.timetables",
    ],
)
def parallel_time() -> dict[str, Any]:
    shared = launch(["speed"], processes=2, options={"repeats": ROUNDS, "batch": BATCH})["speed"]
    # PyTorch's 1F1B asks for at least as many micro-batches as stages.
    enough = [count for count in MICRO_BATCHES if count >= STAGES]
    return {
        "figures": {
            "stages": STAGES,
            "micro_batches": list(MICRO_BATCHES),
            "formula": {str(m): round(bubble_share(STAGES, m), 4) for m in MICRO_BATCHES},
            "idle": {"GPipe": bubble("GPipe", MICRO_BATCHES), "1F1B": bubble("1F1B", enough)},
            "processes": shared["processes"],
            "parameters": shared["parameters"],
            "batch": shared["batch"],
            "gains": gains(shared["seconds"]),
        }
    }
