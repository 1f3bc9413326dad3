"""C25: half precision raises ViT-Base's throughput on a GPU 2.3 times.

The article's figure is FP16 with TensorRT; it names neither the GPU nor the baseline. Ours come
from `python -m zoo_lessons.bench gpu`, which anybody can run on a GPU and commit under
`data/records/gpu/`. Judged on the first record there (by name) that has ViT-Base: the best ratio of
throughput to fp32 with TF32 switched off, over all batch sizes, of every way that runs in fp16.

**Reproduced** if that ratio is at least 2.3; **partly** if at least 1.3; otherwise **the article is
wrong**. **Not measurable here** while there is no record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zoo_lessons.gpu_bench import load_gpu_records
from zoo_lessons.records import Verdict, experiment

MODEL, CLAIMED, SOME = "ViT-Base", 2.3, 1.3
CELL = "20#Claims-C25-and-C34"


def best_fp16(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fp16 row with the highest ratio to fp32, with its batch size and way."""
    rows = [
        {"batch": int(batch), "way": way, "ratio": row["ratio"]}
        for batch, ways in result["results"].get(MODEL, {}).items()
        for way, row in ways.items()
        if way.startswith("fp16") and "ratio" in row
    ]
    return max(rows, key=lambda row: row["ratio"], default=None)


def judge(records: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], Verdict]:
    """By the thresholds of this file's first lines."""
    for name, result in records.items():
        best = best_fp16(result)
        if best is None:
            continue
        ratio = best["ratio"]
        verdict = "reproduced" if ratio >= CLAIMED else "partly" if ratio >= SOME else None
        return {"record": name, "best": best}, Verdict(
            verdict or "the article is wrong",
            ours=f"{ratio:.2f} times fp32's throughput ({best['way']}, batch {best['batch']})",
            explanation=f"On {result['machine']['device']}, {result['date']}, torch "
            f"{result['software']['torch']}; fp32 without TF32.",
            cell=CELL,
        )
    return {"record": None, "best": None}, Verdict(
        "not measurable here",
        ours="no recorded result yet",
        explanation="This needs an NVIDIA GPU. `python -m zoo_lessons.bench gpu` measures it and "
        "writes data/records/gpu/; with that file, this verdict is computed from it.",
        cell=CELL,
    )


@experiment("c25_gpu", claims=["C25"], lesson="20", uses=["zoo_lessons.gpu_bench"])
def c25_gpu() -> dict[str, Any]:
    figures, verdict = judge(load_gpu_records())
    return {"figures": figures, "verdicts": {"C25": verdict}}
