"""C11, second half: what clipping and mixed precision cost or save, and the verdict.

A training step of two encoder blocks (forward, backward, AdamW) is timed side by side in fp32, in
fp32 with clipping, and in bf16 under autocast with clipping, at several widths. Warm-up changes one
number per step and costs nothing that a clock would notice.

The claim has three parts:

- clipping and warm-up make training stabler: each of them alone, added to the hard run of
  `c11_stability`, lowers the final loss on every seed;
- mixed precision does not make it less stable: bf16 alone converges on at least as many seeds;
- mixed precision makes it faster: bf16 is clearly faster at the largest width.

The claim is **reproduced** if all three hold and bf16 is faster at every width, **partly** if at
least one of the three holds; otherwise the article is wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.bench import CONTROL, Comparison, compare
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.records import Verdict, experiment, load_record
from zoo_lessons.training import seed_everything

WIDTHS = [64, 256, 768]
BATCH, LENGTH, LAYERS, ROUNDS, MAX_NORM = 8, 64, 2, 11, 1.0
FP32, CLIPPED, BF16 = "fp32", "fp32, clipped", "bf16, clipped"


def training_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, *, clip: bool, bf16: bool
) -> None:
    """Forward, backward, update, as `fit` does them."""
    with torch.autocast(x.device.type, dtype=torch.bfloat16, enabled=bf16):
        loss = (model(x) - x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    if clip:
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
    optimizer.step()


def steps_at(width: int, device: str) -> dict[str, Callable[[], None]]:
    """The three ways to make a step, each with a model of its own."""
    ways = {
        FP32: {"clip": False, "bf16": False},
        CLIPPED: {"clip": True, "bf16": False},
        BF16: {"clip": True, "bf16": True},
    }
    steps = {}
    for name, options in ways.items():
        seed_everything(0)
        blocks = (EncoderBlock(width, 4, 4 * width, norm="pre") for _ in range(LAYERS))
        model = nn.Sequential(*blocks).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
        x = torch.randn(BATCH, LENGTH, width, device=device)
        steps[name] = partial(training_step, model, optimizer, x, **options)
    return steps


def summary(comparisons: list[Comparison]) -> dict[str, Any]:
    """Ratio to fp32, interval and verdict over the widths."""
    figures: dict[str, Any] = {"control_interval": [list(c.interval(CONTROL)) for c in comparisons]}
    for name in (CLIPPED, BF16):
        figures[name] = {
            "ratio": [c.ratio(name) for c in comparisons],
            "interval": [list(c.interval(name)) for c in comparisons],
            "verdict": [c.verdict(name) for c in comparisons],
        }
    return figures


def lower_on_every_seed(table: dict[str, Any], name: str) -> bool:
    """Whether a remedy alone beats "none" on every seed. A run that ended as NaN (null) loses."""
    pairs = zip(table[name]["loss"], table["none"]["loss"], strict=True)
    return all(ours is not None and (none is None or ours < none) for ours, none in pairs)


def judge(stability: dict[str, Any], sgd: dict[str, Any], timing: dict[str, Any]) -> Verdict:
    """The verdict by the rules above."""
    table, seeds = stability["table"], stability["seeds"]
    converged = {name: each["converged"] for name, each in table.items()}
    warmup = lower_on_every_seed(table, "warm-up")
    clipping = lower_on_every_seed(table, "clipping")
    harmless = converged["bf16"] >= converged["none"]
    speed = timing[BF16]["verdict"]
    parts = (warmup and clipping, harmless, speed[-1] == "faster")
    if all(parts) and set(speed) == {"faster"}:
        verdict = "reproduced"
    else:
        verdict = "partly" if any(parts) else "the article is wrong"
    shares = ", ".join(
        f"{name} {converged[name]} of {seeds}"
        for name in ("none", "clipping", "warm-up", "warm-up + clipping", "bf16")
    )
    ratios = ", ".join(
        f"{ratio:.2f} at width {width}"
        for ratio, width in zip(timing[BF16]["ratio"], timing["widths"], strict=True)
    )
    yes = {True: "lowers the final loss on every seed", False: "does not help on every seed"}
    unlimited, limits = sgd["limits"]["none"], list(sgd["limits"])
    lost = sum(loss is None for loss in unlimited["loss"])
    saved = sgd["limits"][limits[-1]]["converged"]
    return Verdict(
        verdict,
        ours=f"runs that converge: {shares}; time of a bf16 step over fp32: {ratios}",
        explanation=(
            f"Warm-up alone {yes[warmup]}; clipping alone {yes[clipping]}. With SGD at a high "
            f"rate, {lost} of {seeds} runs end as NaN without clipping; with a limit of "
            f"{limits[-1]} {saved} of {seeds} converge. "
            "bf16 is about speed and memory, not stability, and it is faster only where matrix "
            "products are large enough to outweigh the conversions."
        ),
        cell="05#Claim-C11,-measured",
    )


@experiment(
    "c11_timing",
    claims=["C11"],
    lesson="05",
    uses=[
        "experiments.c11_sgd",
        "experiments.c11_stability",
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.training.random_state",
    ],
)
def c11_timing() -> dict[str, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    comparisons = [compare(steps_at(width, device), rounds=ROUNDS) for width in WIDTHS]
    figures = {"device": device, "widths": WIDTHS, "tokens": BATCH * LENGTH, **summary(comparisons)}
    stability = load_record("c11_stability")["figures"]
    sgd = load_record("c11_sgd")["figures"]
    return {"figures": figures, "verdicts": {"C11": judge(stability, sgd, figures)}}
