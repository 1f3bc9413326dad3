"""C36: what do the projections and W^O change?

The claim says that heads attend in parallel subspaces and that their outputs are concatenated. The
overview article's code does only this: head h takes slice h of the vectors as query, key and value,
and the slices of output are put side by side. Vaswani et al. (2017, section 3.2.2) also project
the vectors for each head (W^Q, W^K, W^V) and mix the concatenated outputs (W^O).

The task asks for things that lie in other slices. An example has 8 shapes. Each shape is a vector
of four slices of 8 numbers:

    its name | the shape whose colour is wanted | the shape whose size is wanted | own colour, size

The answer for each shape is the wanted colour (one of 4) and the wanted size (one of 4). It is read
from the last slice of the output as it stands, without any further layer. So a head has to compare
one slice with another, and what it found has to arrive in the last slice. Five layers of four heads
try:

- `slices`: the article's loop; it has no parameters;
- `slices + W^O`;
- `mix + slices + W^O`: one trained linear layer before the loop, the same for q, k and v;
- `projections`: W^Q, W^K and W^V, without W^O;
- `projections + W^O`: the paper's layer.

Each is trained by Adam with a one-cycle schedule, long enough that four times as many steps add
little, and with the learning rate, of two, that is better for it with a seed that does not count.
`accuracy` holds, for each seed, the share of shapes in fresh examples whose colour and size are
both right; guessing gives 1/16.

The claim is **reproduced** if the article's loop reaches an accuracy of 95 %, **partly** if only
the paper's layer does, and otherwise **the article is wrong**.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers import DotProductAttention
from zoo_lessons.records import Verdict, experiment

NUM_SHAPES, NUM_HEADS, SLICE = 8, 4, 8
D_MODEL = NUM_HEADS * SLICE
COLOURS = SIZES = 4
# With unit vectors the scores of bare slices would be too small for a sharp softmax, and the loop
# without parameters must not lose for that reason.
SCALE = 4.0
STEPS, BATCH, LEARNING_RATES = 2000, 64, (1e-2, 3e-2)
SEEDS = range(5)
TUNING_SEED = 99
TEST_EXAMPLES = 1000
ENOUGH = 0.95

# name -> (a mixing layer before the loop, projections, W^O)
LAYERS = {
    "slices": (False, False, False),
    "slices + W^O": (False, False, True),
    "mix + slices + W^O": (True, False, True),
    "projections": (False, True, False),
    "projections + W^O": (False, True, True),
}


class Shapes(NamedTuple):
    """Examples: x (batch, shapes, d_model), and the wanted classes (batch, shapes) of each."""

    x: Tensor
    colour: Tensor
    size: Tensor


def draw_shapes(batch: int, generator: torch.Generator) -> Shapes:
    """Random shapes with distinct names, and pointers to any of them."""
    names = torch.rand(batch, NUM_SHAPES, generator=generator).argsort(dim=-1)
    asks_colour, asks_size = (
        torch.randint(NUM_SHAPES, (batch, NUM_SHAPES), generator=generator) for _ in range(2)
    )
    colour = torch.randint(COLOURS, (batch, NUM_SHAPES), generator=generator)
    size = torch.randint(SIZES, (batch, NUM_SHAPES), generator=generator)
    parts = [
        F.one_hot(names, SLICE),
        F.one_hot(names.gather(1, asks_colour), SLICE),
        F.one_hot(names.gather(1, asks_size), SLICE),
        F.one_hot(colour, COLOURS),
        F.one_hot(size, SIZES),
    ]
    x = SCALE * torch.cat(parts, dim=-1).float()  # (batch, shapes, d_model)
    return Shapes(x, colour.gather(1, asks_colour), size.gather(1, asks_size))


class Heads(nn.Module):
    """Four heads, with or without what the paper adds to the article's loop."""

    def __init__(self, mix: bool, projections: bool, output: bool):
        super().__init__()

        def linear(wanted: bool) -> nn.Module:
            return nn.Linear(D_MODEL, D_MODEL) if wanted else nn.Identity()

        self.mix = linear(mix)
        self.q, self.k, self.v = (linear(projections) for _ in range(3))
        self.attention = DotProductAttention()
        self.out = linear(output)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, shapes, d_model) -> the same shape."""
        x = self.mix(x)
        q, k, v = (
            part.unflatten(-1, (NUM_HEADS, SLICE)).transpose(1, 2)  # (batch, heads, shapes, slice)
            for part in (self.q(x), self.k(x), self.v(x))
        )
        return self.out(self.attention(q, k, v).transpose(1, 2).flatten(2))


def read_answer(output: Tensor) -> tuple[Tensor, Tensor]:
    """Logits of the colour and of the size: the last slice of the output, as it stands."""
    return output[..., -SLICE:].split([COLOURS, SIZES], dim=-1)


def loss(model: nn.Module, shapes: Shapes) -> Tensor:
    colour, size = read_answer(model(shapes.x))
    return F.cross_entropy(colour.flatten(0, 1), shapes.colour.flatten()) + F.cross_entropy(
        size.flatten(0, 1), shapes.size.flatten()
    )


@torch.no_grad()
def accuracy(model: nn.Module, shapes: Shapes) -> float:
    """Share of the shapes whose colour and size are both right."""
    colour, size = read_answer(model(shapes.x))
    right = (colour.argmax(dim=-1) == shapes.colour) & (size.argmax(dim=-1) == shapes.size)
    return right.double().mean().item()


def train(kind: str, seed: int, lr: float, steps: int) -> Heads:
    """One layer, trained on fresh examples at every step."""
    torch.manual_seed(seed)
    model = Heads(*LAYERS[kind])
    parameters = list(model.parameters())
    if not parameters:
        return model
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(parameters, lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model, draw_shapes(BATCH, generator)).backward()
        optimizer.step()
        schedule.step()
    return model


def measure(seeds: range, steps: int) -> dict[str, list[float]]:
    """{kind of layer: [accuracy per seed]}."""
    validation = draw_shapes(TEST_EXAMPLES, torch.Generator().manual_seed(1001))
    test = draw_shapes(TEST_EXAMPLES, torch.Generator().manual_seed(1002))
    figures = {}
    for kind in LAYERS:
        tuned = {
            lr: accuracy(train(kind, TUNING_SEED, lr, steps), validation) for lr in LEARNING_RATES
        }
        lr = max(tuned, key=tuned.__getitem__)
        trained = [train(kind, seed, lr, steps) for seed in seeds]
        figures[kind] = [round(accuracy(model, test), 4) for model in trained]
    return figures


def judge(figures: dict[str, list[float]]) -> Verdict:
    """The verdict by the thresholds above, from means over the seeds."""
    mean = {kind: sum(values) / len(values) for kind, values in figures.items()}
    loop, full = mean["slices"], mean["projections + W^O"]
    if loop >= ENOUGH:
        result = "reproduced"
    else:
        result = "partly" if full >= ENOUGH else "the article is wrong"
    return Verdict(
        result,
        ours=(
            f"{100 * loop:.0f} % with slices alone, {100 * mean['slices + W^O']:.0f} % with W^O "
            f"added, {100 * mean['projections']:.0f} % with projections but no W^O, "
            f"{100 * full:.0f} % with both (guessing: 6 %)"
        ),
        explanation=(
            "Heads work in parallel subspaces, but it is the projections that choose these. A bare "
            "slice can neither be compared with another one nor hand over what stands there. One "
            f"shared layer before the slices gives {100 * mean['mix + slices + W^O']:.0f} %, "
            "because its scores stay symmetric; projections without W^O give "
            f"{100 * mean['projections']:.0f} %, because no head can add to what another one wrote."
        ),
        cell="02#Claim-C36,-measured",
    )


@experiment("c36_projections", claims=["C36"], lesson="02", uses=["zoo_lessons.layers.attention"])
def c36_projections() -> dict[str, Any]:
    figures = measure(SEEDS, STEPS)
    about = {"steps": STEPS, "batch": BATCH, "seeds": len(SEEDS), "chance": 1 / (COLOURS * SIZES)}
    return {"figures": {**about, "accuracy": figures}, "verdicts": {"C36": judge(figures)}}
