"""How long MiniLM, its halves and its early exits take: the times of lesson 17's Pareto plot.

The same teacher as in `c08_distillation`, trained again with seed 0 at the rate that its record
names, and asked about the same passages. Time does not depend on a student's weights, so an
untrained one stands for all. Early exit's time does depend on what the classifiers say; so it is
measured on real passages, in batches of 30 and one by one. Examples that leave are taken out of the
batch. "classifiers only" asks every classifier and lets nobody leave: what early exit costs before
it saves anything.

- "6 layers", "3 layers": teacher without classifiers in between, and student;
- "half of the heads": the 6 least important heads of each layer are cut out;
- "patience 1" to "patience 4".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from experiments.c08_distillation import (
    TESTED,
    Passages,
    encode,
    importance_of_heads,
    new_student,
    train_teacher,
    training_passages,
    without,
)
from zoo_lessons.bench import Comparison, compare
from zoo_lessons.datasets.topics import passages_by_topic
from zoo_lessons.early_exit import EarlyExit
from zoo_lessons.records import experiment, load_record

BATCHES = {"batches of 30": (30, 2), "one by one": (1, 16)}  # size, how many of them
PATIENCES = (1, 2, 3, 4)
ROUNDS = 9
FULL = "6 layers"


def ways(
    teacher: EarlyExit, pruned: EarlyExit, parts: list[Passages]
) -> dict[str, Callable[[], Any]]:
    """Functions that classify all `parts`, one after the other."""
    student = new_student(0).eval()

    def last(model: EarlyExit, part: Passages) -> Any:
        hidden = model.encoder(part.ids, part.mask).last_hidden_state
        return model.classifiers[-1](hidden[:, 0])

    each: dict[str, Callable[[Passages], Any]] = {
        FULL: lambda part: last(teacher, part),
        "3 layers": lambda part: student(part.ids, part.mask),
        "half of the heads": lambda part: last(pruned, part),
        "classifiers only": lambda part: teacher.predict(part.ids, part.mask, patience=99),
    }
    for patience in PATIENCES:
        each[f"patience {patience}"] = lambda part, patience=patience: teacher.predict(
            part.ids, part.mask, patience=patience
        )

    def over_all(classify: Callable[[Passages], Any]) -> Callable[[], None]:
        @torch.no_grad()
        def run() -> None:
            for part in parts:
                classify(part)

        return run

    return {name: over_all(classify) for name, classify in each.items()}


def summary(comparison: Comparison) -> dict[str, Any]:
    """Times as shares of the full model's, with intervals."""
    return {
        name: {
            "ratio": round(comparison.ratio(name), 3),
            "interval": [round(x, 3) for x in comparison.interval(name)],
        }
        for name in comparison.names
    }


@experiment(
    "smaller_models_time",
    lesson="17",
    uses=[
        "experiments.c08_distillation",
        "zoo_lessons.bench",
        "zoo_lessons.datasets.topics",
        "zoo_lessons.early_exit",
        "zoo_lessons.models.bert",
        "zoo_lessons.models.distilbert",
        "zoo_lessons.pruning",
    ],
)
def smaller_models_time() -> dict[str, Any]:
    labelled, _ = training_passages(0)
    teacher = train_teacher(
        labelled, 0, rate=load_record("c08_distillation")["figures"]["rates"]["teacher"]
    )
    order = {
        name: row.argsort().tolist() for name, row in importance_of_heads(teacher, labelled).items()
    }
    pruned = without(teacher, order, 6).eval()
    test = encode(passages_by_topic("test", TESTED))
    times, layers = {}, {}
    for name, (size, count) in BATCHES.items():
        parts = test[: size * count].parts(size)
        times[name] = summary(compare(ways(teacher, pruned, parts), rounds=ROUNDS))
        layers[name] = {
            f"patience {patience}": round(
                torch.cat([teacher.predict(p.ids, p.mask, patience=patience).layers for p in parts])
                .double()
                .mean()
                .item(),
                3,
            )
            for patience in PATIENCES
        }
    return {
        "figures": {
            "full": FULL,
            "batches": {name: list(size) for name, size in BATCHES.items()},
            "times": times,
            "layers": layers,
            "parameters": {
                FULL: sum(p.numel() for p in teacher.parameters()),
                "3 layers": sum(p.numel() for p in new_student(0).parameters()),
                "half of the heads": sum(p.numel() for p in pruned.parameters()),
            },
        }
    }
