"""C12: INT8, fused operators and dynamic batching, put together from three records.

- **INT8** helps if BERT-Base's file shrinks to at most 35 % of float32's, and its fastest INT8 form
  is at least 1.5 times as fast as the faster of the two float32 forms, for one text of 128 tokens
  (record `int8_latency`).
- **Fusion** helps if LayerNorm + GELU in one compiled kernel is faster than PyTorch's two kernels
  at one size at least, and slower at none (record `fusion_time`; "faster" and "slower" by 95 %
  intervals). Its chain of four elementwise steps, which does next to no arithmetic, is reported
  beside it.
- **Dynamic batching** helps if, at the highest rate, batches of up to 16 answer at least 1.3 times
  as many requests per second as no batching, or halve p99; and it is a *balance* if the longest
  window costs more than the shortest at the lowest rate, in the median (record `serving_load`).

**Reproduced** if all three help; **partly** if one or two do; otherwise the article is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.serving_load import NO_BATCHING
from zoo_lessons.records import Verdict, experiment, load_record

SIZE_AT_MOST, SPEEDUP_AT_LEAST = 0.35, 1.5
RATE_AT_LEAST, P99_AT_MOST = 1.3, 0.5
PAIR, CHAIN = "LayerNorm + GELU", "elementwise"


def int8(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Size and speed of BERT-Base in INT8, relative to float32."""
    sizes = figures["sizes"]["BERT-Base"]
    size = sizes["ONNX Runtime INT8, dynamic"] / sizes["ONNX Runtime fp32"]
    ways = next(
        case["ways"]
        for case in figures["cases"]
        if (case["model"], case["batch"], case["tokens"]) == ("BERT-Base", 1, 128)
    )
    speedups = {name: way["speedup"] for name, way in ways.items() if "INT8" in name}
    best = max(speedups, key=speedups.__getitem__)
    helps = size <= SIZE_AT_MOST and speedups[best] >= SPEEDUP_AT_LEAST
    return {"size": size, "speedup": speedups[best], "way": best, "helps": helps}


def fusion(figures: Mapping[str, Any]) -> dict[str, Any]:
    """One kernel instead of several: the best ratio of times over the sizes; does it help?"""
    found: dict[str, Any] = {}
    for kind in (PAIR, CHAIN):
        said = figures["verdict"][kind]["compiled"]
        found[kind] = {
            "ratio": min(figures["ratio"][kind]["compiled"]),
            "helps": "faster" in said and "slower" not in said,
        }
    return {**found, "helps": found[PAIR]["helps"]}


def batching(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Any]:
    """What batches gain where it is crowded, and what a long window costs where it is not."""
    alone = curves[NO_BATCHING][-1]
    windows = {name: rows for name, rows in curves.items() if name != NO_BATCHING}
    best = max(windows, key=lambda name: windows[name][-1]["rate"])
    crowded = windows[best][-1]
    names = list(windows)  # from the shortest window to the longest
    cost = windows[names[-1]][0]["p50"] - windows[names[0]][0]["p50"]
    rate, p99 = crowded["rate"] / max(1e-9, alone["rate"]), crowded["p99"] / alone["p99"]
    return {
        "way": best,
        "rate": rate,
        "p99": p99,
        "window_costs_ms": cost,
        "helps": (rate >= RATE_AT_LEAST or p99 <= P99_AT_MOST) and cost > 0,
    }


def judge(parts: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """By the thresholds of this file's first lines."""
    helping = [name for name, part in parts.items() if part["helps"]]
    verdict = (
        "reproduced"
        if len(helping) == len(parts)
        else "partly"
        if helping
        else "the article is wrong"
    )
    quantized, fused, batched = parts["INT8"], parts["fusion"], parts["batching"]
    return Verdict(
        verdict,
        ours=(
            f"INT8: {quantized['size']:.0%} of the size, {quantized['speedup']:.1f} times as fast; "
            f"fused LayerNorm + GELU: at best {fused[PAIR]['ratio']:.2f} of the time; batches: "
            f"{batched['rate']:.1f} times the throughput and {batched['p99']:.2f} of the p99 "
            "under load"
        ),
        explanation=(
            f"By thresholds stated beforehand, these help: {', '.join(helping) or 'none'}. A fused "
            f"chain of cheap steps takes at best {fused[CHAIN]['ratio']:.2f} of the time: fusion "
            "saves memory traffic, and GELU is arithmetic. The longest window costs "
            f"{batched['window_costs_ms']:.0f} ms where few requests come."
        ),
        cell="21#Latency-against-throughput",
    )


@experiment(
    "c12_deployment",
    claims=["C12"],
    lesson="21",
    uses=["experiments.int8_latency", "experiments.fusion_time", "experiments.serving_load"],
)
def c12_deployment() -> dict[str, Any]:
    parts = {
        "INT8": int8(load_record("int8_latency")["figures"]),
        "fusion": fusion(load_record("fusion_time")["figures"]),
        "batching": batching(load_record("serving_load")["figures"]["curves"]),
    }
    return {"figures": parts, "verdicts": {"C12": judge(parts)}}
