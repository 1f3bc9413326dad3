"""C34: energy decides what can be deployed. Joules per example, from the hardware's own counters.

Two sources. On Linux, a processor's RAPL counter (`/sys/class/powercap`), where one can be
read: then BERT-Base at batch 1 and 128 tokens runs in float32 and in bfloat16 for ten seconds each,
in turns, and the package's energy is divided by the examples. On a GPU, the rows of
`data/records/gpu/` that have joules. An estimate from a data sheet is not a measurement; so without
a counter there is no figure.

The question is whether the choice of how to run one model changes its energy enough to decide
anything. **Reproduced** if, with some counter, the most frugal way takes at most half of fp32's
energy per example at the same batch size; **partly** if at most 0.9; otherwise **the article is
wrong**. **Not measurable here** without a counter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.c25_gpu import CELL
from zoo_lessons.gpu_bench import BASELINE, BERT_TOKENS, load_gpu_records
from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.records import Verdict, experiment

RAPL = Path("/sys/class/powercap/intel-rapl:0")  # AMD's processors use this name, too
HALF, SOME = 0.5, 0.9
SECONDS, TURNS = 5.0, 2


def rapl_counter(folder: Path = RAPL) -> Callable[[], float] | None:
    """Joules that the processor has used since some moment; None where nobody tells."""
    try:
        (folder / "energy_uj").read_text()
    except OSError:  # there is no counter, or only root may read it
        return None
    return lambda: int((folder / "energy_uj").read_text()) / 1e6


def cpu_joules(counter: Callable[[], float], seconds: float = SECONDS) -> dict[str, float]:
    """Joules per example in float32 and bfloat16. A turn in which the counter wraps is left out."""
    model = BertModel(BertConfig.base()).eval()
    ids = torch.randint(BertConfig.base().vocab_size, (1, BERT_TOKENS))
    models = {BASELINE: model, "bf16": BertModel(BertConfig.base()).eval().bfloat16()}
    used, examples = dict.fromkeys(models, 0.0), dict.fromkeys(models, 0)
    for _ in range(TURNS):
        for name, each in models.items():
            with torch.no_grad():
                each(ids)
                before, end, count = counter(), time.perf_counter() + seconds, 0
                while time.perf_counter() < end:
                    each(ids)
                    count += 1
            joules = counter() - before
            if joules > 0:
                used[name], examples[name] = used[name] + joules, examples[name] + count
    return {name: used[name] / examples[name] for name in models if examples[name]}


def gpu_rows(records: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """For each model and batch size with joules: the most frugal way, and its share of fp32's."""
    found = []
    for name, result in records.items():
        for model, batches in result["results"].items():
            for batch, ways in batches.items():
                joules = {
                    way: row["joules_per_example"]
                    for way, row in ways.items()
                    if row.get("joules_per_example")
                }
                if BASELINE in joules and len(joules) > 1:
                    way = min(joules, key=lambda each: joules[each])
                    found.append(
                        {
                            "device": result["machine"]["device"],
                            "record": name,
                            "model": model,
                            "batch": int(batch),
                            "way": way,
                            "joules": joules[way],
                            "share": joules[way] / joules[BASELINE],
                        }
                    )
    return found


def judge(rows: list[dict[str, Any]]) -> Verdict:
    """By the thresholds of this file's first lines."""
    if not rows:
        return Verdict(
            "not measurable here",
            ours="no counter, no figure",
            explanation="Neither the processor's energy counter (RAPL) nor a GPU's (NVML) can be "
            "read on the machine that made the records.",
            cell=CELL,
        )
    best = min(rows, key=lambda row: row["share"])
    share = best["share"]
    verdict = "reproduced" if share <= HALF else "partly" if share <= SOME else None
    return Verdict(
        verdict or "the article is wrong",
        ours=f"{best['way']} takes {share:.2f} of fp32's energy: {best['joules']:.3g} J an example "
        f"({best['model']}, batch {best['batch']})",
        explanation=f"Counted by {best['device']}.",
        cell=CELL,
    )


@experiment(
    "c34_energy",
    claims=["C34"],
    lesson="20",
    uses=[
        "experiments.c25_gpu",
        "zoo_lessons.gpu_bench",
        "zoo_lessons.models.bert",
    ],
)
def c34_energy() -> dict[str, Any]:
    rows = gpu_rows(load_gpu_records())
    counter = rapl_counter()
    on_cpu = None if counter is None else cpu_joules(counter)
    if on_cpu and len(on_cpu) == 2:
        rows.append(
            {
                "device": "the processor (RAPL)",
                "record": "c34_energy",
                "model": "BERT-Base",
                "batch": 1,
                "way": "bf16",
                "joules": on_cpu["bf16"],
                "share": on_cpu["bf16"] / on_cpu[BASELINE],
            }
        )
    return {"figures": {"rows": rows, "cpu": on_cpu}, "verdicts": {"C34": judge(rows)}}
