"""C09: how time and memory of attention grow with the length, from 256 to 16,384 tokens.

One head of width 64, one text, forward only, random numbers. Six ways:

- full attention, written out (the formula, with its matrix of length × length) and fused (PyTorch's
  kernel, which makes the matrix in tiles and keeps none);
- a window of 64 tokens to each side; the same with 64 global tokens and 2 random blocks of 64;
- linear attention with elu + 1, and the same with causality, in chunks of 64.

All are timed side by side at each length. Memory is the peak of what PyTorch allocates during one
call; inputs do not count, the output does. The exponents p of cost = constant · length^p are fitted
by least squares on the logarithms: over all lengths, and from 1,024 tokens on, where the constant
cost of starting some dozens of operations no longer hides how the rest grows. For the longest text,
the share of the processor's time that is the system's is taken, too: it hands out the memory.

**Reproduced** if, from 1,024 tokens on, the exponents of both full ways' time and of the
written-out way's memory lie within 0.25 of 2, and those of the sparse and linear ways are at most
1.15, in time and in memory. **Partly** if this holds in time or in memory only. Otherwise the
article is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psutil
import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.bench import CONTROL, Comparison, compare, fit_exponent, peak_memory
from zoo_lessons.layers.attention import scaled_dot_product_attention
from zoo_lessons.layers.linear_attention import (
    causal_linear_attention,
    elu_features,
    linear_attention,
)
from zoo_lessons.layers.sparse_attention import SparsePattern, sparse_attention
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.training import seed_everything

LENGTHS = [256, 512, 1024, 2048, 4096, 8192, 16384]
FROM = 1024  # the exponents that decide are fitted from here on
HEAD_DIM, RADIUS, GLOBALS, RANDOM = 64, 64, 64, 2
ROUNDS, TARGET_SECONDS = 5, 0.005
FUSED, WRITTEN = "full, fused", "full, written out"
WINDOW, UNION = "window", "window + global + random"
LINEAR, CAUSAL = "linear", "linear, causal"
FULL, CHEAP = (FUSED, WRITTEN), (WINDOW, UNION, LINEAR, CAUSAL)
SLACK, AT_MOST = 0.25, 1.15


def ways(length: int) -> dict[str, Callable[[], Tensor]]:
    """A function without arguments for each way, all on the same q, k and v."""
    q, k, v = torch.randn(3, 1, 1, length, HEAD_DIM)
    window = SparsePattern(RADIUS, block=RADIUS)
    union = SparsePattern(RADIUS, False, tuple(range(GLOBALS)), RANDOM, RADIUS)
    return {
        FUSED: lambda: F.scaled_dot_product_attention(q, k, v),
        WRITTEN: lambda: scaled_dot_product_attention(q, k, v)[0],
        WINDOW: lambda: sparse_attention(q, k, v, window),
        UNION: lambda: sparse_attention(q, k, v, union),
        LINEAR: lambda: linear_attention(elu_features(q), elu_features(k), v),
        CAUSAL: lambda: causal_linear_attention(elu_features(q), elu_features(k), v)[0],
    }


def exponents(
    costs: Mapping[str, Sequence[float]], lengths: Sequence[int] = LENGTHS, start: int = FROM
) -> dict[str, dict[str, Any]]:
    """For each way the exponent with its interval, over all lengths and from `start` on."""
    found: dict[str, dict[str, Any]] = {}
    first = next(i for i, length in enumerate(lengths) if length >= start)
    for name, values in costs.items():
        found[name] = {}
        for key, cut in {"all": 0, "long": first}.items():
            value, interval = fit_exponent(lengths[cut:], values[cut:])
            found[name][key] = {
                "value": round(value, 3),
                "interval": [round(x, 3) for x in interval],
            }
    return found


def system_share(function: Callable[[], Any], calls: int = 5) -> float:
    """Share of the processor's time that the operating system takes, over several calls."""
    process = psutil.Process()
    before = process.cpu_times()
    for _ in range(calls):
        function()
    after = process.cpu_times()
    system, user = after.system - before.system, after.user - before.user
    return round(system / max(1e-9, system + user), 3)


def first_faster(seconds: Mapping[str, Sequence[float]]) -> dict[str, int | None]:
    """For each cheap way, the length from which on it took less time than fused full attention."""
    result: dict[str, int | None] = {}
    for name in CHEAP:
        result[name] = None
        for length, ours, full in reversed(
            list(zip(LENGTHS, seconds[name], seconds[FUSED], strict=True))
        ):
            if ours >= full:
                break
            result[name] = length
    return result


def judge(
    time: Mapping[str, Any], memory: Mapping[str, Any], system: Mapping[str, float]
) -> Verdict:
    """By the thresholds of this file's first lines."""

    def p(kind: Mapping[str, Any], name: str) -> float:
        return kind[name]["long"]["value"]

    in_time = all(abs(p(time, name) - 2) <= SLACK for name in FULL)
    in_time &= all(p(time, name) <= AT_MOST for name in CHEAP)
    in_memory = abs(p(memory, WRITTEN) - 2) <= SLACK
    in_memory &= all(p(memory, name) <= AT_MOST for name in CHEAP)
    verdict = (
        "reproduced"
        if in_time and in_memory
        else "partly"
        if in_time or in_memory
        else "the article is wrong"
    )
    cheap = [p(time, name) for name in CHEAP]
    return Verdict(
        verdict,
        ours=f"time grows as n^{p(time, FUSED):.2f} (full, fused), n^{p(time, WRITTEN):.2f} (full, "
        f"written out) and n^{min(cheap):.2f} to n^{max(cheap):.2f} (sparse and linear)",
        explanation=(
            f"Fitted from {FROM:,} to {LENGTHS[-1]:,} tokens, one head of width {HEAD_DIM}. Memory "
            f"grows as n^{p(memory, WRITTEN):.2f} where the matrix of weights is made, but as "
            f"n^{p(memory, FUSED):.2f} in a fused kernel: full attention need not cost O(n²) "
            f"memory. At {LENGTHS[-1]:,} tokens {system[WRITTEN]:.0%} of the written-out way's "
            "processor time is the system's, which has to hand out fresh memory "
            f"({system[FUSED]:.0%} of the fused way's): so its time may grow faster than n²."
        ),
        cell="15#Time-and-memory-against-length",
    )


@experiment(
    "c09_length",
    claims=["C09"],
    lesson="15",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.linear_attention",
        "zoo_lessons.layers.sparse_attention",
        "zoo_lessons.training.random_state",
    ],
)
def c09_length() -> dict[str, Any]:
    seed_everything(0)
    comparisons: list[Comparison] = []
    peaks: dict[str, list[int]] = {name: [] for name in (*FULL, *CHEAP)}
    with torch.no_grad():
        for length in LENGTHS:
            functions = ways(length)
            comparisons.append(
                compare(functions, rounds=ROUNDS, warmup=1, target_seconds=TARGET_SECONDS)
            )
            for name, function in functions.items():
                peaks[name].append(peak_memory(function))
        longest = ways(LENGTHS[-1])
        system = {name: system_share(function) for name, function in longest.items()}
    seconds = {name: [c.median(name) for c in comparisons] for name in peaks}
    time, memory = exponents(seconds), exponents(peaks)
    figures = {
        "lengths": LENGTHS,
        "from": FROM,
        "head_dim": HEAD_DIM,
        "radius": RADIUS,
        "globals": GLOBALS,
        "random_blocks": RANDOM,
        "rounds": ROUNDS,
        "seconds": seconds,
        "ratio_to_fused": {name: [c.ratio(name) for c in comparisons] for name in peaks},
        "intervals": {name: [list(c.interval(name)) for c in comparisons] for name in peaks},
        "control_interval": [list(c.interval(CONTROL)) for c in comparisons],
        "peak_bytes": peaks,
        "exponent_of_time": time,
        "exponent_of_memory": memory,
        "faster_than_fused_from": first_faster(seconds),
        "system_share": system,  # at the longest
    }
    return {"figures": figures, "verdicts": {"C09": judge(time, memory, system)}}
