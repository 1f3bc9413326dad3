"""Which kinds of attention learn to look up what is near, and what is far.

Texts of 64 tokens: four blanks, then 30 entries and 30 questions in turn (`datasets.look_up`). A
small encoder without positions, two layers, reads them; only its attention changes:

- full in both layers; a window of 4 tokens to each side in both; a window below and full attention
  above (hierarchical);
- the window with the four blanks as global tokens; the same with 2 random blocks of 4 tokens;
- linear attention with elu + 1, and with 64 positive random features.

Two windows reach 8 tokens, so questions count as near up to 4 tokens (one layer's window), and as
far from 17 on, out of reach. Steps are the same for all; of two rates each kind gets the one that
is better on validation texts, by the mean of near and far. Judged on other texts: accuracy, where
guessing is right in 1 of 8; and, with the same weights, on texts of fewer entries. Pairs that
attention computes are counted from the patterns.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.intervals import mean_interval
from zoo_lessons.datasets.look_up import NO_ANSWER, LookUpBatch, look_up_batch
from zoo_lessons.layers.attention import DotProductAttention
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.linear_attention import LinearAttention, RandomFeatures
from zoo_lessons.layers.sparse_attention import SparseAttention, SparsePattern, replace_attention
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything

PAIRS, BLANKS, NUM_KEYS, NUM_VALUES = 30, 4, 48, 8
LENGTH = BLANKS + 2 * PAIRS
D_MODEL, NUM_HEADS, NUM_LAYERS, D_FF = 32, 2, 2, 64
RADIUS, BLOCK, RANDOM, FEATURES = 4, 4, 2, 64
STEPS, BATCH, RATES, SEEDS = 300, 32, (3e-3, 6e-3), range(3)
JUDGED = 400
CROWDS = (2, 4, 8, 15, PAIRS)  # entries in a text
BANDS = ((1, 4), (5, 8), (9, 16), (17, 32), (33, LENGTH))
NEAR, FAR = 4, 17
FULL, WINDOW, HIERARCHICAL = "full", "window", "hierarchical"
GLOBAL, UNION = "window + global", "window + global + random"
LINEAR, RANDOM_FEATURES = "linear (elu + 1)", "linear (random features)"


class LookUpModel(nn.Module):
    """Two embeddings, encoder blocks, a layer that scores the values."""

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Embedding(NUM_KEYS + 1, D_MODEL)
        self.value = nn.Embedding(NUM_VALUES + 1, D_MODEL)
        self.layers = nn.ModuleList(
            EncoderBlock(D_MODEL, NUM_HEADS, D_FF, norm="pre", activation="gelu")
            for _ in range(NUM_LAYERS)
        )
        self.norm = nn.LayerNorm(D_MODEL)
        self.head = nn.Linear(D_MODEL, NUM_VALUES)

    def forward(self, batch: LookUpBatch) -> Tensor:
        """Logits (batch, length, num_values)."""
        x = self.key(batch.keys) + self.value(batch.values)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


def patterns() -> dict[str, SparsePattern]:
    """The three sparse patterns."""
    blanks = tuple(range(BLANKS))
    return {
        WINDOW: SparsePattern(RADIUS, block=BLOCK),
        GLOBAL: SparsePattern(RADIUS, block=BLOCK, global_tokens=blanks),
        UNION: SparsePattern(RADIUS, False, blanks, RANDOM, BLOCK),
    }


def kinds() -> dict[str, list[DotProductAttention | None]]:
    """For each kind what `replace_attention` puts into the layers, from below; None is full."""
    sparse = {name: SparseAttention(pattern) for name, pattern in patterns().items()}
    directions = torch.Generator().manual_seed(0)
    features = RandomFeatures(D_MODEL // NUM_HEADS, FEATURES, generator=directions)
    return {
        FULL: [None] * NUM_LAYERS,
        HIERARCHICAL: [sparse[WINDOW]] * (NUM_LAYERS - 1) + [None],
        **{name: [layer] * NUM_LAYERS for name, layer in sparse.items()},
        LINEAR: [LinearAttention()] * NUM_LAYERS,
        RANDOM_FEATURES: [LinearAttention(features)] * NUM_LAYERS,
    }


def texts(batch_size: int, generator: torch.Generator, pairs: int = PAIRS) -> LookUpBatch:
    return look_up_batch(
        batch_size, pairs, generator, num_keys=NUM_KEYS, num_values=NUM_VALUES, blanks=BLANKS
    )


def loss(model: nn.Module, batch: LookUpBatch) -> Tensor:
    """Cross-entropy at the questions."""
    return F.cross_entropy(
        model(batch).flatten(0, 1), batch.answers.flatten(), ignore_index=NO_ANSWER
    )


def train(kind: str, seed: int, rate: float, *, steps: int = STEPS) -> LookUpModel:
    """A model of one kind."""
    seed_everything(seed)
    model = LookUpModel()
    replace_attention(model, kinds()[kind])
    chance = torch.Generator().manual_seed(seed)
    fit(
        model,
        lambda step: texts(BATCH, chance),
        loss,
        steps=steps,
        lr=rate,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval()


@torch.no_grad()
def accuracy(model: nn.Module, batch: LookUpBatch, low: int = 1, high: int = LENGTH) -> float:
    """Share of right answers to the questions at these distances."""
    inside = (batch.distances >= low) & (batch.distances <= high)  # 0 where nothing is asked
    right = model(batch).argmax(dim=-1) == batch.answers
    return round(right[inside].double().mean().item(), 4)


def judge(model: nn.Module, seed: int) -> dict[str, Any]:
    """Accuracy near, far, in each band of distances, and among fewer entries."""
    chance = torch.Generator().manual_seed(seed)
    batch = texts(JUDGED, chance)
    return {
        "near": accuracy(model, batch, 1, NEAR),
        "far": accuracy(model, batch, FAR),
        "bands": [accuracy(model, batch, low, high) for low, high in BANDS],
        "crowds": [accuracy(model, texts(JUDGED, chance, pairs)) for pairs in CROWDS],
    }


def computed_pairs() -> dict[str, float | None]:
    """Share of all pairs that attention computes, mean over layers; None where none is computed."""
    share = {name: pattern.density(LENGTH) for name, pattern in patterns().items()}
    above = 1.0  # the top layer of the hierarchy
    hierarchical = (share[WINDOW] * (NUM_LAYERS - 1) + above) / NUM_LAYERS
    whole = {FULL: 1.0, HIERARCHICAL: hierarchical, **share}
    return {name: whole.get(name) for name in kinds()}


@experiment(
    "look_up_range",
    lesson="15",
    uses=[
        "experiments.intervals",
        "zoo_lessons.datasets.look_up",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.linear_attention",
        "zoo_lessons.layers.sparse_attention",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.loop",
        "zoo_lessons.training.random_state",
    ],
)
def look_up_range() -> dict[str, Any]:
    results: dict[str, Any] = {}
    for kind in kinds():
        first = {rate: train(kind, SEEDS[0], rate) for rate in RATES}
        validation = {rate: judge(model, seed=101) for rate, model in first.items()}
        best = max(RATES, key=lambda rate: validation[rate]["near"] + validation[rate]["far"])
        models = [first[best], *(train(kind, seed, best) for seed in SEEDS[1:])]
        runs = [judge(model, seed=102) for model in models]
        results[kind] = {
            "rate": best,
            "validation": {str(rate): validation[rate] for rate in RATES},
            "runs": runs,
            **{
                name: [round(x, 4) for x in mean_interval([run[name] for run in runs])]
                for name in ("near", "far")
            },
        }
    figures = {
        "length": LENGTH,
        "steps": STEPS,
        "batch": BATCH,
        "seeds": len(SEEDS),
        "layers": NUM_LAYERS,
        "radius": RADIUS,
        "near_up_to": NEAR,
        "far_from": FAR,
        "bands": [list(band) for band in BANDS],
        "crowds": list(CROWDS),
        "guessing": 1 / NUM_VALUES,
        "parameters": sum(p.numel() for p in LookUpModel().parameters()),
        "computed_pairs": computed_pairs(),
        "kinds": results,
    }
    return {"figures": figures}
