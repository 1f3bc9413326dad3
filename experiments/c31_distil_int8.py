"""C31: distillation and quantization together, and a choice between four models under limits.

The four models of `distil_times_int8`, timed side by side in ONNX Runtime, one passage of 24 tokens
at a time and in batches of 30. Random weights of the same sizes take the same time.

A model is on the Pareto front if no other is at least as accurate and as fast, and better in one of
the two. The choice, with limits stated beforehand: a latency of at most 40 % of the teacher's in
float32, at batch 1, and at least 95 % of its accuracy; of the models that keep both, the smallest.

**Reproduced** if distillation and INT8 together keep both limits and are on the front; **partly**
if another model but the teacher keeps both; otherwise the article is wrong. ("The article" names
medical images; we have none, and take topics of texts.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from experiments.c08_distillation import encode, new_student
from experiments.distil_times_int8 import STUDENT, TEACHER, LastClassifier, four_files
from zoo_lessons.bench import CONTROL, compare
from zoo_lessons.datasets.topics import TOPICS, passages_by_topic
from zoo_lessons.deploy.export import OnnxModel
from zoo_lessons.early_exit import EarlyExit
from zoo_lessons.records import Verdict, experiment, load_record
from zoo_lessons.training import seed_everything
from zoo_lessons.weights import load_pretrained

BATCHES = {"one by one": 1, "batches of 30": 30}
ROUNDS = 15
BASELINE, BOTH = f"{TEACHER}, fp32", f"{STUDENT}, INT8"
AT_MOST, AT_LEAST = 0.40, 0.95  # of the teacher's time, of its accuracy


def pareto(points: Mapping[str, tuple[float, float]]) -> list[str]:
    """Names of those points (time, accuracy) that no other point beats; the fastest first."""

    def beaten(name: str) -> bool:
        time, accuracy = points[name]
        return any(
            other != points[name] and other[0] <= time and other[1] >= accuracy
            for other in points.values()
        )

    kept = [name for name in points if not beaten(name)]
    return sorted(kept, key=lambda name: points[name])


def choose(
    points: Mapping[str, tuple[float, float]], sizes: Mapping[str, int]
) -> tuple[list[str], str | None]:
    """Which models keep both limits, and the smallest of them."""
    time, accuracy = points[BASELINE]
    within = [
        name
        for name, (own, right) in points.items()
        if own <= AT_MOST * time and right >= AT_LEAST * accuracy
    ]
    return within, min(within, key=lambda name: sizes[name], default=None)


def judge(
    points: Mapping[str, tuple[float, float]], within: list[str], front: list[str]
) -> Verdict:
    """By the thresholds of this file's first lines; points are (ratio of time, accuracy)."""
    if BOTH in within and BOTH in front:
        verdict = "reproduced"
    else:
        verdict = "partly" if within else "the article is wrong"
    accuracy = points[BASELINE][1]
    kept = {name: right / accuracy for name, (_, right) in points.items()}
    said = "; ".join(
        f"{name}: {points[name][0]:.2f} of the time, {kept[name]:.1%} of the accuracy"
        for name in points
        if name != BASELINE
    )
    return Verdict(
        verdict,
        ours=said,
        explanation=(
            f"Against MiniLM fine-tuned in float32, {accuracy:.1%} right. Limits: at most "
            f"{AT_MOST:.0%} of its time and at least {AT_LEAST:.0%} of its accuracy; kept by "
            f"{' and '.join(within) or 'none'}."
        ),
        cell="19#Distilled-or-not,-INT8-or-not",
    )


@experiment(
    "c31_distil_int8",
    claims=["C31"],
    lesson="19",
    uses=[
        "experiments.c08_distillation",
        "experiments.distil_times_int8",
        "zoo_lessons.bench",
        "zoo_lessons.datasets.topics",
        "zoo_lessons.deploy.export",
        "zoo_lessons.early_exit",
        "zoo_lessons.models.bert",
        "zoo_lessons.models.distilbert",
        "zoo_lessons.training.random_state",
    ],
)
def c31_distil_int8() -> dict[str, Any]:
    seed_everything(0)
    quality = load_record("distil_times_int8")["figures"]["variants"]
    test = encode(passages_by_topic("test", 5))
    teacher = LastClassifier(EarlyExit(load_pretrained("minilm"), len(TOPICS)))
    models = {TEACHER: teacher.eval(), STUDENT: new_student(0).eval()}
    times = {}
    with four_files(models, test[:4]) as files:
        ready = {name: OnnxModel(path) for name, path in files.items()}
        for where, size in BATCHES.items():
            inputs = {"input_ids": test.ids[:size], "attention_mask": test.mask[:size]}
            run = {
                name: (lambda model=model, inputs=inputs: model(**inputs))
                for name, model in ready.items()
            }
            compared = compare(run, rounds=ROUNDS)
            times[where] = {
                "milliseconds": {name: 1e3 * compared.median(name) for name in run},
                "ratio": {name: compared.ratio(name) for name in run},
                "interval": {name: list(compared.interval(name)) for name in run},
                "control_interval": list(compared.interval(CONTROL)),
            }
    ratio = times["one by one"]["ratio"]
    points = {name: (ratio[name], quality[name]["mean"]) for name in ratio}
    sizes = {name: quality[name]["bytes"] for name in points}
    front = pareto(points)
    within, chosen = choose(points, sizes)
    figures = {
        "baseline": BASELINE,
        "rounds": ROUNDS,
        "times": times,
        "accuracy": {name: right for name, (_, right) in points.items()},
        "bytes": sizes,
        "limits": {"time": AT_MOST, "accuracy": AT_LEAST},
        "front": front,
        "within": within,
        "chosen": chosen,
    }
    return {"figures": figures, "verdicts": {"C31": judge(points, within, front)}}
