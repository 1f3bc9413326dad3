"""C02: how much gradient reaches the first token from the last output, over the distance?

Models at initialisation, without training, read random tokens. For each distance n between the
first token and the last, the output at the last place is projected onto a random unit vector, and
the norm of the gradient of that number with respect to the first token's embedding is taken.
Medians and quartiles are over seeds (weights, tokens and direction).

Next to it stands the gradient's *share*: the norm at the first token over the mean norm at all
tokens. An attention layer splits its gradient between all tokens, so each one's part falls like
1/n, but none is forgotten because it is far away. A recurrent layer multiplies by its Jacobian once
per step (Pascanu et al. 2013, section 2.1), which falls exponentially. Two recurrent models start
in the way that is known to help them.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo_lessons.bench import fit_exponent
from zoo_lessons.layers.attention import MultiHeadAttention
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.training import seed_everything

DISTANCES = [1, 2, 4, 8, 16, 32, 64, 128, 256]
D_MODEL, NUM_HEADS = 64, 4
SEEDS = 20


FITTED_FROM = 16  # the laws are fitted at this distance and beyond


class Recurrent(nn.Module):
    """The states of a recurrent layer: (batch, length, width) -> (batch, length, width)."""

    def __init__(self, layer: nn.RNN | nn.LSTM) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x)[0]


def orthogonal_rnn() -> Recurrent:
    """An RNN whose recurrent matrix starts orthogonal, so that it alone shrinks nothing."""
    layer = nn.RNN(D_MODEL, D_MODEL, batch_first=True)
    nn.init.orthogonal_(layer.weight_hh_l0)  # Saxe et al. 2014, section 3
    return Recurrent(layer)


def lstm_that_remembers() -> Recurrent:
    """An LSTM whose forget gates start at sigmoid(1) (Gers et al. 2000; Jozefowicz et al. 2015)."""
    layer = nn.LSTM(D_MODEL, D_MODEL, batch_first=True)
    with torch.no_grad():
        # PyTorch adds two biases, each ordered: input, forget, cell, output.
        layer.bias_ih_l0[D_MODEL : 2 * D_MODEL] = 1.0
        layer.bias_hh_l0[D_MODEL : 2 * D_MODEL] = 0.0
    return Recurrent(layer)


RECURRENT: dict[str, Callable[[], nn.Module]] = {
    "RNN": lambda: Recurrent(nn.RNN(D_MODEL, D_MODEL, batch_first=True)),
    "RNN, orthogonal": orthogonal_rnn,
    "LSTM": lambda: Recurrent(nn.LSTM(D_MODEL, D_MODEL, batch_first=True)),
    "LSTM, forget bias 1": lstm_that_remembers,
}
ATTENDING: dict[str, Callable[[], nn.Module]] = {
    "attention": lambda: MultiHeadAttention(D_MODEL, NUM_HEADS),
    "Transformer block": lambda: EncoderBlock(D_MODEL, NUM_HEADS, 4 * D_MODEL),
}


def gradient_norms(model: nn.Module, distance: int) -> np.ndarray:
    """Norm of the last output's gradient at each of `distance + 1` tokens."""
    embeddings = torch.randn(1, distance + 1, D_MODEL, dtype=torch.float64, requires_grad=True)
    direction = nn.functional.normalize(torch.randn(D_MODEL, dtype=torch.float64), dim=0)
    output = model(embeddings)[0, -1]  # (width,)
    (gradient,) = torch.autograd.grad(output @ direction, embeddings)
    return gradient[0].norm(dim=-1).numpy()  # (distance + 1,)


def measure(make_model: Callable[[], nn.Module]) -> dict[str, Any]:
    """Quartiles over the seeds of the first token's gradient and of its share, per distance."""
    first, share = np.zeros((2, SEEDS, len(DISTANCES)))
    for seed in range(SEEDS):
        for column, distance in enumerate(DISTANCES):
            seed_everything(seed)
            norms = gradient_norms(make_model().double(), distance)
            first[seed, column] = norms[0]
            share[seed, column] = norms[0] / norms.mean()
    return {
        "gradient": np.quantile(first, [0.25, 0.5, 0.75], axis=0).tolist(),
        "share": np.quantile(share, [0.25, 0.5, 0.75], axis=0).tolist(),
    }


def far_medians(gradient: list[list[float]]) -> tuple[list[int], list[float]]:
    """The distances from `FITTED_FROM` on, and the median gradients there."""
    far = [(d, g) for d, g in zip(DISTANCES, gradient[1], strict=True) if d >= FITTED_FROM]
    distances, medians = zip(*far, strict=True)
    return list(distances), list(medians)


def tokens_per_halving(gradient: list[list[float]]) -> float:
    """Over how many tokens an exponentially falling gradient halves."""
    distances, medians = far_medians(gradient)
    slope, _ = np.polyfit(distances, np.log2(medians), 1)
    return float(-1 / slope)


def judge(models: dict[str, Any]) -> Verdict:
    """Reproduced if attention beats the best recurrent model by far and forgets no token."""
    gradient = {name: values["gradient"][1][-1] for name, values in models.items()}  # medians
    best = max(RECURRENT, key=lambda name: gradient[name])
    share = models["attention"]["share"][1][-1]
    if gradient["attention"] > 1000 * gradient[best] and share > 0.5:
        result = "reproduced"
    else:
        result = "partly" if gradient["attention"] > gradient[best] else "the article is wrong"
    powers = {name: f"10^{math.log10(value):.0f}" for name, value in gradient.items()}
    return Verdict(
        result,
        ours=(
            f"gradient at distance {DISTANCES[-1]}: attention {powers['attention']}, "
            f"LSTM {powers['LSTM']}, RNN {powers['RNN']}"
        ),
        explanation=(
            f"The gradient halves every {models['RNN']['tokens_per_halving']:.1f} tokens in the "
            f"RNN and every {models[best]['tokens_per_halving']:.1f} in the best recurrent model "
            f"({best}). Attention splits it between all tokens, in proportion to "
            f"n^{models['attention']['exponent']['value']:.2f}, but the first token gets "
            f"{share:.2f} times an average token's part, however far away it is."
        ),
        cell="04#Gradients-over-distance",
    )


@experiment(
    "c02_gradient_distance",
    claims=["C02"],
    lesson="04",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.training.random_state",
    ],
)
def gradient_distance() -> dict[str, Any]:
    models = {name: measure(make) for name, make in {**RECURRENT, **ATTENDING}.items()}
    for name in RECURRENT:
        models[name]["tokens_per_halving"] = tokens_per_halving(models[name]["gradient"])
    for name in ATTENDING:
        exponent, interval = fit_exponent(*far_medians(models[name]["gradient"]))
        models[name]["exponent"] = {"value": exponent, "interval": list(interval)}
    figures = {
        "distances": DISTANCES,
        "fitted_from": FITTED_FROM,
        "seeds": SEEDS,
        "d_model": D_MODEL,
        "models": models,
    }
    return {"figures": figures, "verdicts": {"C02": judge(models)}}
