"""C05: do residual connections and LayerNorm keep the gradient alive through depth?

Stacks of encoder blocks at initialisation read random tokens. The output is projected onto a random
unit vector, and we take the norm of that number's gradient with respect to the input of each block.
The same sub-layers (attention and feed-forward) are joined in five ways:

- `plain`: f(x);
- `norm only`: LN(f(x));
- `residual only`: x + f(x);
- `post-norm`: LN(x + f(x)), the claim's own form;
- `pre-norm`: x + f(LN(x)).

`gradient` is the norm at the first block's input over the norm at the last block's output, for
stacks of different depth: 1 means that depth costs nothing. `profile` is the norm at the input of
each block of the deepest stack, over the norm at its output. `similarity` is the mean cosine
similarity between the output's tokens: at 1 all tokens have become one (Dong et al. 2021 call it
rank collapse), and a gradient cannot tell them apart.

The claim is **reproduced** if at the largest depth the plain stack loses more than 99.9 % of its
gradient and post-norm stays within a factor of 10 of 1. It is **partly** right if post-norm at
least beats the plain stack by a factor of 1000, or if a residual without LayerNorm does as well:
then the norm is not what keeps the gradient alive. Otherwise the article is wrong.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import MultiHeadAttention
from zoo_lessons.layers.blocks import FeedForward
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.training import seed_everything

DEPTHS = [1, 2, 4, 8, 16, 32, 64]
D_MODEL, NUM_HEADS, D_FF, LENGTH = 64, 4, 256, 16
SEEDS = 10

Join = Callable[[Tensor, Callable[[Tensor], Tensor], nn.Module], Tensor]
JOINS: dict[str, Join] = {
    "plain": lambda x, f, norm: f(x),
    "norm only": lambda x, f, norm: norm(f(x)),
    "residual only": lambda x, f, norm: x + f(x),
    "post-norm": lambda x, f, norm: norm(x + f(x)),
    "pre-norm": lambda x, f, norm: x + f(norm(x)),
}


class Block(nn.Module):
    """Attention and feed-forward, each joined to its input in one of the five ways."""

    def __init__(self, join: Join) -> None:
        super().__init__()
        self.join = join
        self.sublayers = nn.ModuleList(
            [MultiHeadAttention(D_MODEL, NUM_HEADS), FeedForward(D_MODEL, D_FF, "relu")]
        )
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL) for _ in range(2))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        for sublayer, norm in zip(self.sublayers, self.norms, strict=True):
            x = self.join(x, sublayer, norm)
        return x


def gradient_by_block(join: Join, depth: int, seed: int) -> tuple[np.ndarray, float]:
    """Norm of the gradient at each block's input and at the output (depth + 1,); similarity."""
    seed_everything(seed)
    states = [torch.randn(1, LENGTH, D_MODEL, dtype=torch.float64, requires_grad=True)]
    for _ in range(depth):
        states.append(Block(join).double()(states[-1]))
    direction = torch.randn(LENGTH, D_MODEL, dtype=torch.float64)
    number = (states[-1][0] * direction / direction.norm()).sum()
    gradients = torch.autograd.grad(number, states)
    norms = np.array([gradient.norm().item() for gradient in gradients])
    return norms, token_similarity(states[-1][0].detach())


def token_similarity(tokens: Tensor) -> float:
    """Mean cosine similarity over all pairs of tokens; tokens (length, width)."""
    directions = nn.functional.normalize(tokens, dim=-1, eps=0.0)
    pairs = (directions @ directions.T)[~torch.eye(len(tokens), dtype=torch.bool)]
    return pairs.mean().item()


def measure(join: Join) -> dict[str, Any]:
    """Quartiles over the seeds: gradient and similarity at each depth, the deepest's profile."""
    reaching, similarity = np.zeros((2, SEEDS, len(DEPTHS)))
    profile = np.zeros((SEEDS, DEPTHS[-1] + 1))
    for seed in range(SEEDS):
        for column, depth in enumerate(DEPTHS):
            norms, similarity[seed, column] = gradient_by_block(join, depth, seed)
            reaching[seed, column] = norms[0] / norms[-1]
        profile[seed] = norms / norms[-1]
    quartiles = {"gradient": reaching, "similarity": similarity, "profile": profile}
    return {
        name: [
            [float(f"{v:.4g}") for v in row] for row in np.quantile(a, [0.25, 0.5, 0.75], axis=0)
        ]
        for name, a in quartiles.items()
    }


def judge(figures: dict[str, Any]) -> Verdict:
    """The verdict by the thresholds above, from medians over the seeds."""
    deepest = {name: each["gradient"][1][-1] for name, each in figures.items()}
    alike = {name: each["similarity"][1][DEPTHS.index(8)] for name, each in figures.items()}
    post, plain, bare = (deepest[name] for name in ("post-norm", "plain", "residual only"))
    alive = 0.1 <= post <= 10
    if alive and plain < 1e-3 and not 0.1 <= bare <= 10:
        verdict = "reproduced"
    elif alive or post > 1000 * plain:
        verdict = "partly"
    else:
        verdict = "the article is wrong"
    shown = ", ".join(f"{name} {value:.2g}" for name, value in deepest.items())
    return Verdict(
        verdict,
        ours=f"gradient that passes {DEPTHS[-1]} blocks, as a factor: {shown}",
        explanation=(
            "The residual keeps the gradient from vanishing, LayerNorm from exploding: a "
            f"residual alone multiplies it by {bare:.2g}. The norm alone passes a gradient too "
            f"({deepest['norm only']:.2g}), but makes all tokens alike (similarity "
            f"{alike['norm only']:.2f} after 8 blocks, {alike['post-norm']:.2f} with post-norm, "
            f"{alike['pre-norm']:.2f} with pre-norm)."
        ),
        cell="04#Gradient-against-depth",
    )


@experiment(
    "c05_gradient_depth",
    claims=["C05"],
    lesson="04",
    uses=[
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.training.random_state",
    ],
)
def c05_gradient_depth() -> dict[str, Any]:
    figures = {name: measure(join) for name, join in JOINS.items()}
    about = {"depths": DEPTHS, "seeds": SEEDS, "d_model": D_MODEL, "length": LENGTH}
    return {"figures": {**about, "joins": figures}, "verdicts": {"C05": judge(figures)}}
