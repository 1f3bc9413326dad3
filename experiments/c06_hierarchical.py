"""C06: do windows in the low layers and full attention in the high ones save compute?

*Compute.* Encoders of four layers (width 128, 4 heads) on one text, forward only: full attention in
all layers, windows of 64 to each side in the lower three and full attention in the top one, and
windows in all. Full attention is PyTorch's fused kernel. Their times are taken side by side over
the length, and the pairs that attention computes are counted.

*Quality.* From the record `look_up_range`: how well the same three answer near and far questions.

**Reproduced** if at the longest text the hierarchical encoder is clearly faster than the full one
(`bench`'s verdict) and computes at most half of its pairs, and its mean accuracy is at least 95 %
of the full one's, near and far. **Partly** if only compute or only quality holds. Otherwise the
article is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.bench import CONTROL, Comparison, compare
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.sparse_attention import SparseAttention, SparsePattern, replace_attention
from zoo_lessons.records import Verdict, experiment, load_record
from zoo_lessons.training import seed_everything

LENGTHS = [512, 1024, 2048, 4096]
D_MODEL, NUM_HEADS, D_FF, NUM_LAYERS, RADIUS = 128, 4, 512, 4, 64
ROUNDS, TARGET_SECONDS = 7, 0.005
FULL, HIERARCHICAL, WINDOW = "full", "hierarchical", "window"
LOCAL_LAYERS = {FULL: 0, HIERARCHICAL: NUM_LAYERS - 1, WINDOW: NUM_LAYERS}  # counted from below
KEEPS, AT_MOST = 0.95, 0.5


def encoder(local_layers: int) -> nn.Sequential:
    """Encoder blocks, the lowest with windows."""
    model = nn.Sequential(
        *(
            EncoderBlock(D_MODEL, NUM_HEADS, D_FF, norm="pre", activation="gelu")
            for _ in range(NUM_LAYERS)
        )
    )
    window = SparseAttention(SparsePattern(RADIUS, block=RADIUS))
    kept = NUM_LAYERS - local_layers
    return replace_attention(model, [window] * local_layers + [None] * kept).eval()


def computed_pairs(local_layers: int, length: int) -> float:
    """Share of all pairs of tokens that attention computes, mean over the layers."""
    local = SparsePattern(RADIUS).density(length)
    return (local_layers * local + NUM_LAYERS - local_layers) / NUM_LAYERS


def passes(models: Mapping[str, nn.Module], x: Tensor) -> dict[str, Callable[[], Tensor]]:
    """A function without arguments for each model's forward pass."""
    return {name: (lambda model=model: model(x)) for name, model in models.items()}


def judge(
    faster: bool, share: float, ratio: float, quality: Mapping[str, Mapping[str, Any]]
) -> Verdict:
    """By the thresholds of this file's first lines.

    Args:
        faster: whether the hierarchical encoder is clearly faster at the longest text.
        share: of the pairs that it computes there.
        ratio: its time over the full one's.
        quality: kind -> near and far, each (mean, low, high).
    """
    ours, full = quality[HIERARCHICAL], quality[FULL]
    saves = faster and share <= AT_MOST
    keeps = all(ours[where][0] >= KEEPS * full[where][0] for where in ("near", "far"))
    verdict = "reproduced" if saves and keeps else "partly" if saves or keeps else None
    local = quality[WINDOW]
    return Verdict(
        verdict or "the article is wrong",
        ours=f"{share:.0%} of the pairs and {ratio:.2f} of the time at {LENGTHS[-1]:,} tokens; far "
        f"questions {ours['far'][0]:.0%} right, with full attention {full['far'][0]:.0%}",
        explanation=(
            f"Three of four layers with windows, against full attention in a fused kernel. With "
            f"windows in all layers, far questions are {local['far'][0]:.0%} right. One full layer "
            "is left, so the cost still grows as n²; it is only divided by a constant."
        ),
        cell="15#Hierarchical-attention:-what-it-saves",
    )


@experiment(
    "c06_hierarchical",
    claims=["C06"],
    lesson="15",
    uses=[
        "experiments.look_up_range",
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.sparse_attention",
        "zoo_lessons.training.random_state",
    ],
)
def c06_hierarchical() -> dict[str, Any]:
    seed_everything(0)
    quality = load_record("look_up_range")["figures"]["kinds"]
    models = {name: encoder(local) for name, local in LOCAL_LAYERS.items()}
    comparisons: list[Comparison] = []
    with torch.no_grad():
        for length in LENGTHS:
            functions = passes(models, torch.randn(1, length, D_MODEL))
            comparisons.append(
                compare(functions, rounds=ROUNDS, warmup=1, target_seconds=TARGET_SECONDS)
            )
    names = (HIERARCHICAL, WINDOW)
    pairs = {
        name: [round(computed_pairs(local, length), 4) for length in LENGTHS]
        for name, local in LOCAL_LAYERS.items()
    }
    figures = {
        "lengths": LENGTHS,
        "layers": NUM_LAYERS,
        "d_model": D_MODEL,
        "radius": RADIUS,
        "parameters": sum(p.numel() for p in models[FULL].parameters()),
        "computed_pairs": pairs,
        "ratio": {name: [c.ratio(name) for c in comparisons] for name in names},
        "intervals": {name: [list(c.interval(name)) for c in comparisons] for name in names},
        "control_interval": [list(c.interval(CONTROL)) for c in comparisons],
        "verdicts": {name: [c.verdict(name) for c in comparisons] for name in names},
        "full_seconds": [c.median(FULL) for c in comparisons],
    }
    verdict = judge(
        figures["verdicts"][HIERARCHICAL][-1] == "faster",
        pairs[HIERARCHICAL][-1],
        figures["ratio"][HIERARCHICAL][-1],
        {name: quality[name] for name in (FULL, HIERARCHICAL, WINDOW)},
    )
    return {"figures": figures, "verdicts": {"C06": verdict}}
