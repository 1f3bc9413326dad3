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

from statistics import median
from typing import Any

from zoo_lessons.deploy.parallel_run import launch
from zoo_lessons.deploy.timetables import bubble_share
from zoo_lessons.records import experiment

MICRO_BATCHES = (1, 2, 4, 8, 16)
REPEATS, ROUNDS = 5, 9
ALONE = "one process"


def bubbles(found: dict[str, Any]) -> dict[str, list[float]]:
    """Measured idle shares, and under "formula" what they should be."""
    stages = found["stages"]
    shares = {
        schedule: [round(1 - found["work"] / seconds, 4) for seconds in rows.values()]
        for schedule, rows in found["seconds"].items()
    }
    shares["formula"] = [round(bubble_share(stages, m), 4) for m in MICRO_BATCHES]
    return shares


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
    uses=["zoo_lessons.deploy.parallel", "zoo_lessons.deploy.parallel_run"],
)
def parallel_time() -> dict[str, Any]:
    options = {"waiting": MICRO_BATCHES, "repeats": REPEATS, "schedules": ["GPipe", "1F1B"]}
    waiting = launch(["bubble"], options=options)["bubble"]
    shared = launch(["speed"], processes=2, options={"repeats": ROUNDS})["speed"]
    return {
        "figures": {
            "stages": waiting["stages"],
            "micro_batches": list(MICRO_BATCHES),
            "idle": bubbles(waiting),
            "processes": shared["processes"],
            "parameters": shared["parameters"],
            "batch": shared["batch"],
            "gains": gains(shared["seconds"]),
        }
    }
