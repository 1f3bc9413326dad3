"""8, 12 and 16 heads at equal width: the same parameters, and what else?

*Quality.* A sequence of 16 random symbols goes through one attention layer of width 48. Each place
has to name the ten symbols before it (the first place follows the last). A head makes one set of
weights per place, so it looks in one direction at a time; with h heads each is 48 / h wide.
`accuracy` holds, for each seed, the share of symbols that are right in fresh sequences; guessing
gives 1/16. Every number of heads uses the learning rate, of two, that is better for it with a seed
that does not count.

*Cost.* Layers of width 384, MiniLM's, on 128 tokens: parameters, floating point operations as
PyTorch counts them, and time, taken side by side. `weights_bytes` is what the attention weights
would take if they were kept.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from zoo_lessons.bench import compare
from zoo_lessons.layers import LearnedPositions, MultiHeadAttention, record_attention
from zoo_lessons.records import experiment

HEADS = (1, 2, 4, 8, 12, 16)
SYMBOLS, LENGTH, LOOK_UPS, D_MODEL = 16, 16, 10, 48
STEPS, BATCH, LEARNING_RATES = 400, 64, (1e-2, 2e-2)
SEEDS = range(5)
TUNING_SEED = 99
TEST_SEQUENCES = 500
COST_HEADS, COST_WIDTH, COST_LENGTH = (8, 12, 16), 384, 128


class OneLayer(nn.Module):
    """Embedding and positions, one attention layer, and one read-out for each look-up."""

    def __init__(self, num_heads: int):
        super().__init__()
        self.symbols = nn.Embedding(SYMBOLS, D_MODEL)
        self.positions = LearnedPositions(LENGTH, D_MODEL)
        nn.init.normal_(self.positions.weight)  # as large as the symbols, so that both can be read
        self.attention = MultiHeadAttention(D_MODEL, num_heads)
        self.read = nn.Linear(D_MODEL, LOOK_UPS * SYMBOLS)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, length) -> logits (batch, length, look_ups, symbols)."""
        y = self.attention(self.positions(self.symbols(x)))
        return self.read(y).unflatten(-1, (-1, SYMBOLS))


def draw_sequences(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Symbols (batch, length) and the symbols before each place (batch, length, look_ups)."""
    x = torch.randint(SYMBOLS, (batch, LENGTH), generator=generator)
    before = (torch.arange(LENGTH)[:, None] - torch.arange(1, LOOK_UPS + 1)) % LENGTH
    return x, x[:, before]


def train(num_heads: int, seed: int, lr: float, steps: int) -> float:
    """Accuracy of a layer trained with Adam and a one-cycle schedule."""
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    model = OneLayer(num_heads)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        x, before = draw_sequences(BATCH, generator)
        loss = F.cross_entropy(model(x).flatten(0, 2), before.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        x, before = draw_sequences(TEST_SEQUENCES, generator)
        return (model(x).argmax(dim=-1) == before).double().mean().item()


def measure_quality(heads: tuple[int, ...], seeds: range, steps: int) -> dict[str, Any]:
    """{heads: {"lr": its learning rate, "accuracy": [per seed]}}."""
    figures: dict[str, Any] = {}
    for num_heads in heads:
        tuned = {lr: train(num_heads, TUNING_SEED, lr, steps) for lr in LEARNING_RATES}
        lr = max(tuned, key=tuned.__getitem__)
        accuracy = [round(train(num_heads, seed, lr, steps), 4) for seed in seeds]
        figures[str(num_heads)] = {"lr": lr, "accuracy": accuracy}
    return figures


@torch.no_grad()
def measure_cost(rounds: int = 21) -> dict[str, Any]:
    """Parameters, operations, bytes of the weights, and times side by side."""
    x = torch.randn(1, COST_LENGTH, COST_WIDTH, generator=torch.Generator().manual_seed(0))
    layers = {f"{count} heads": MultiHeadAttention(COST_WIDTH, count) for count in COST_HEADS}
    counted = {}
    for name, layer in layers.items():
        # Recorded, so that the counter sees the formula's matrix products, not the fused kernel.
        with record_attention(layer) as maps, FlopCounterMode(display=False) as flops:
            layer(x)
        counted[name] = {
            "parameters": sum(p.numel() for p in layer.parameters()),
            "flops": flops.get_total_flops(),
            "weights_bytes": maps[0].weights.nbytes,
        }
    times = compare({name: partial(layer, x) for name, layer in layers.items()}, rounds=rounds)
    return {"counted": counted, "times": times.as_dict()}


@experiment(
    "head_counts",
    lesson="02",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.positions",
    ],
)
def head_counts() -> dict[str, Any]:
    about = {"steps": STEPS, "seeds": len(SEEDS), "d_model": D_MODEL, "chance": 1 / SYMBOLS}
    cost = {"width": COST_WIDTH, "length": COST_LENGTH, **measure_cost()}
    return {"figures": {**about, "accuracy": measure_quality(HEADS, SEEDS, STEPS), "cost": cost}}
