"""C01: does the division by √d_k matter?

Random queries, each with 16 keys; all entries are standard normal, as in the footnote with which
Vaswani et al. (2017, section 3.2.1) motivate the scale. At each width we record, with and without
the division,

- `entropy`: mean entropy of the weights in nats; log 16 if all are equal, 0 if one takes all;
- `jacobian`: median norm of the softmax's Jacobian, diag(w) - w wᵀ;
- `saturated`: share of queries whose Jacobian's norm is below 0.01;
- `query_median`, `query_mean`, `query_p10`, `query_p90`: norm of the weights' derivative with
  respect to the *query*. It also counts that wide keys pass more on, and that the division takes
  some away, so it is what training sees.

The claim is **reproduced** if, at the largest width, the division keeps entropy and `query_median`
within 10 % of their values at d_k = 16, and `query_median` without it is below a tenth of that with
it. If only the entropy or only the gradient does so, **partly**; if neither, the article is wrong.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from zoo_lessons.records import Verdict, experiment

WIDTHS = (4, 16, 64, 256, 1024)
NUM_KEYS = 16
DRAWS = 1000
SEEDS = range(8)
SATURATED = 0.01


def softmax_statistics(q: Tensor, k: Tensor, scale: float) -> dict[str, float]:
    """The figures above for one width.

    Args:
        q: (draws, d_k).
        k: (draws, keys, d_k).
        scale: multiplies the scores.
    """
    scores = (k @ q[..., None]).squeeze(-1) * scale  # (draws, keys)
    weights = scores.softmax(dim=-1)
    jacobian = torch.diag_embed(weights) - weights[..., :, None] * weights[..., None, :]
    slope = torch.linalg.matrix_norm(jacobian)  # (draws,)
    at_query = torch.linalg.matrix_norm(scale * jacobian @ k)  # (draws,)
    low, middle, high = at_query.quantile(torch.tensor([0.1, 0.5, 0.9], dtype=q.dtype)).tolist()
    return {
        "entropy": torch.special.entr(weights).sum(dim=-1).mean().item(),
        "jacobian": slope.median().item(),
        "saturated": (slope < SATURATED).double().mean().item(),
        "query_median": middle,
        "query_mean": at_query.mean().item(),
        "query_p10": low,
        "query_p90": high,
    }


def measure(widths: tuple[int, ...], draws: int, seeds: range) -> dict[str, Any]:
    """{"divided" or "not divided": {statistic: [seed][width]}}."""
    names = ("divided", "not divided")
    figures: dict[str, Any] = {name: {} for name in names}
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        rows: dict[str, list[dict[str, float]]] = {name: [] for name in names}
        for d_k in widths:
            q = torch.randn(draws, d_k, generator=generator, dtype=torch.float64)
            k = torch.randn(draws, NUM_KEYS, d_k, generator=generator, dtype=torch.float64)
            rows["divided"].append(softmax_statistics(q, k, 1 / math.sqrt(d_k)))
            rows["not divided"].append(softmax_statistics(q, k, 1.0))
        for name in names:
            for statistic in rows[name][0]:
                values = [float(f"{row[statistic]:.4g}") for row in rows[name]]
                figures[name].setdefault(statistic, []).append(values)
    return figures


def judge(figures: dict[str, Any], widths: tuple[int, ...]) -> Verdict:
    """The verdict by the thresholds above, from means over the seeds."""

    def mean(name: str, statistic: str, d_k: int) -> float:
        values = [row[widths.index(d_k)] for row in figures[name][statistic]]
        return sum(values) / len(values)

    widest = widths[-1]
    steady = all(
        abs(mean("divided", statistic, widest) / mean("divided", statistic, 16) - 1) < 0.1
        for statistic in ("entropy", "query_median")
    )
    with_it, without = (mean(name, "query_median", widest) for name in ("divided", "not divided"))
    dies = without < 0.1 * with_it
    result = {2: "reproduced", 1: "partly", 0: "the article is wrong"}[steady + dies]
    entropy = {name: mean(name, "entropy", widest) for name in figures}
    return Verdict(
        result,
        ours=(
            f"d_k = {widest}: entropy {entropy['divided']:.2f} with and "
            f"{entropy['not divided']:.2f} without the division (nats, at most "
            f"{math.log(NUM_KEYS):.2f}); median gradient at the query {with_it:.2f} and "
            f"{without:.1g}"
        ),
        explanation=(
            f"With the division the median gradient is {mean('divided', 'query_median', 16):.2f} "
            f"at d_k = 16 and {with_it:.2f} at {widest}. Without it the softmax of "
            f"{100 * mean('not divided', 'saturated', 64):.0f} % of the queries is saturated at "
            f"d_k = 64 and of {100 * mean('not divided', 'saturated', widest):.0f} % at {widest}; "
            f"the mean gradient, {mean('not divided', 'query_mean', widest):.1f}, is that of a few "
            "near ties."
        ),
        cell="01#Claim-C01,-measured",
    )


@experiment("c01_scale", claims=["C01"], lesson="01")
def c01_scale() -> dict[str, Any]:
    figures = measure(WIDTHS, DRAWS, SEEDS)
    about = {"widths": list(WIDTHS), "keys": NUM_KEYS, "draws": DRAWS, "seeds": len(SEEDS)}
    return {"figures": {**about, **figures}, "verdicts": {"C01": judge(figures, WIDTHS)}}
