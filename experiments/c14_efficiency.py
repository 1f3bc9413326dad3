"""C14: state spaces cost linear time, fitted kernels help, and so does adaptive depth.

Nothing is measured here: the verdict is drawn from the records of lessons 16, 17 and 20. The
article's claim has three parts, and each is judged by itself, by thresholds set beforehand:

- *linear cost*: Mamba's time to read grows as n^p with p at most 1.25, attention's with p at least
  1.5 (`ssm_cost`); and the hybrid of both is right at least as often as attention alone on
  selective copying and on induction (`ssm_tasks`), so that nothing is lost for it;
- *kernels fitted to the hardware*: from 1,024 tokens on, fused attention takes less time than the
  same formula written out, forward and in training, the whole interval of each ratio below 1; and
  its memory grows with p at most 1.25, that of the written-out form with p at least 1.5
  (`attention_memory`);
- *adaptive depth and heads*: with early exit, for some patience, the accuracy (mean over seeds) is
  at most one point below the full model's and the whole interval of its time below 1; the same for
  a model without half of its heads (`c08_distillation`, `smaller_models_time`, batches of 30).
  Either is enough for this part to help; which ones do is said.

**Reproduced** if all three hold, **partly** if one or two do; otherwise **the article is wrong**.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo_lessons.records import Verdict, experiment, load_record

FROM = 1024
NEARLY_LINEAR, CLEARLY_MORE = 1.25, 1.5
POINTS = 0.01  # of accuracy that may be lost
TASKS = ("selective copying", "induction")
BATCHES = "batches of 30"
WRITTEN, FUSED = "written out", "fused"
PASSES = ("forward", "forward and backward")
Figures = Mapping[str, Any]


def linear_cost(cost: Figures, tasks: Figures) -> dict[str, Any]:
    """The exponents, the hybrid's accuracy, and whether this part holds."""
    exponents = {
        name: cost["reading"]["exponent"][name]["value"] for name in ("Mamba", "attention")
    }
    accuracy = {
        task: {name: tasks["tasks"][task][name]["mean"] for name in ("attention", "hybrid")}
        for task in TASKS
    }
    holds = exponents["Mamba"] <= NEARLY_LINEAR and exponents["attention"] >= CLEARLY_MORE
    holds &= all(each["hybrid"] >= each["attention"] for each in accuracy.values())
    return {"exponents": exponents, "accuracy": accuracy, "holds": holds}


def fitted_kernels(attention: Figures) -> dict[str, Any]:
    """Ratios from `FROM` tokens on, exponents of memory, and whether this part holds."""
    first = attention["lengths"].index(FROM)
    found: dict[str, Any] = {"lengths": attention["lengths"][first:]}
    holds = True
    for which in PASSES:
        figures = attention[which]
        memory = {name: figures["exponent_of_memory"][name]["value"] for name in (WRITTEN, FUSED)}
        intervals = figures["interval"][FUSED][first:]
        found[which] = {"ratio": figures["ratio"][FUSED][first:], "exponent_of_memory": memory}
        holds &= all(high < 1 for _, high in intervals)
        holds &= memory[FUSED] <= NEARLY_LINEAR and memory[WRITTEN] >= CLEARLY_MORE
    return {**found, "holds": holds}


def adaptive(quality: Figures, time: Figures) -> dict[str, Any]:
    """Which of early exit and pruned heads keep the accuracy and save time."""
    full = _mean(quality["accuracy"]["teacher"])
    times = time["times"][BATCHES]
    rows: dict[str, dict[str, Any]] = {}
    for place, row in enumerate(quality["early_exit"][0]["patience"]):
        name = f"patience {row['patience']}"
        if name in times:
            seeds = [seed["patience"][place]["accuracy"] for seed in quality["early_exit"]]
            rows[name] = {"accuracy": _mean(seeds), **times[name]}
    half = quality["pruning"]["counts"].index(6)
    seeds = [seed["accuracy"]["least important"][half] for seed in quality["pruning"]["seeds"]]
    rows["half of the heads"] = {"accuracy": _mean(seeds), **times["half of the heads"]}
    for row in rows.values():
        row["helps"] = row["accuracy"] >= full - POINTS and row["interval"][1] < 1
    helps = [name for name, row in rows.items() if row["helps"]]
    return {"full": full, "ways": rows, "helps": helps, "holds": bool(helps)}


def judge(parts: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """By the thresholds of this file's first lines."""
    held = [name for name, part in parts.items() if part["holds"]]
    verdict = "reproduced" if len(held) == len(parts) else "partly"
    verdict = verdict if held else "the article is wrong"
    exponents = parts["linear cost"]["exponents"]
    forward, both = (parts["fitted kernels"][which]["ratio"][-1] for which in PASSES)
    longest = parts["fitted kernels"]["lengths"][-1]
    ways = parts["adaptive depth and heads"]
    best = ", ".join(
        f"{name} {row['ratio']:.2f} of the time at {100 * (row['accuracy'] - ways['full']):+.1f} "
        "points"
        for name, row in ways["ways"].items()
        if row["helps"]
    )
    failed = ", ".join(name for name in parts if name not in held)
    return Verdict(
        verdict,
        ours=f"time n^{exponents['Mamba']:.2f} (Mamba) and n^{exponents['attention']:.2f} "
        f"(attention); fused attention takes {forward:.2f} (forward) and {both:.2f} (training) of "
        f"the written-out form's time at {longest:,} tokens; {best or 'no adaptive way helps'}",
        explanation=(
            f"Held: {', '.join(held) or 'none'}."
            + (f" Not held: {failed}." if failed else "")
            + " Drawn from the records of lessons 16, 17 and 20."
        ),
        cell="20#Claim-C14",
    )


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


@experiment("c14_efficiency", claims=["C14"], lesson="20")
def c14_efficiency() -> dict[str, Any]:
    records = (
        "ssm_cost",
        "ssm_tasks",
        "attention_memory",
        "c08_distillation",
        "smaller_models_time",
    )
    cost, tasks, attention, quality, time = (load_record(name)["figures"] for name in records)
    parts = {
        "linear cost": linear_cost(cost, tasks),
        "fitted kernels": fitted_kernels(attention),
        "adaptive depth and heads": adaptive(quality, time),
    }
    return {"figures": parts, "verdicts": {"C14": judge(parts)}}
