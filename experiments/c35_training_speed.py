"""C35: does a Transformer train faster than an RNN because it computes in parallel?

Two models of equal width and nearly equal size, a Transformer encoder and an LSTM, read the same
tokens and learn the same thing (which token stands at each place). Their training steps are timed
side by side over the length of the sequence, and their forward passes alone, too.

An LSTM layer of width d has 8 d² weights; an encoder block has 4 d² for attention and 2 d · d_ff
for its feed-forward part. With d_ff = 2 d they are equal. The LSTM is PyTorch's own, which is
fused: the comparison is with a good one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.bench import CONTROL, Comparison, compare, fit_exponent
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.positions import SinusoidalPositions
from zoo_lessons.records import Verdict, experiment
from zoo_lessons.training import seed_everything

LENGTHS = [16, 32, 64, 128, 256, 512]
BATCH, D_MODEL, NUM_HEADS, NUM_LAYERS, VOCABULARY = 8, 128, 4, 2, 64
ROUNDS = 15


class LSTMTagger(nn.Module):
    """Embedding, LSTM layers, linear head: (batch, length) -> (batch, length, vocabulary)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, D_MODEL)
        self.layers = nn.LSTM(D_MODEL, D_MODEL, NUM_LAYERS, batch_first=True)
        self.head = nn.Linear(D_MODEL, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        states, _ = self.layers(self.embedding(input_ids))
        return self.head(states)


class TransformerTagger(nn.Module):
    """The same with encoder blocks: (batch, length) -> (batch, length, vocabulary)."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, D_MODEL)
        self.positions = SinusoidalPositions(D_MODEL, max(LENGTHS))
        self.layers = nn.Sequential(
            *(EncoderBlock(D_MODEL, NUM_HEADS, 2 * D_MODEL) for _ in range(NUM_LAYERS))
        )
        self.head = nn.Linear(D_MODEL, VOCABULARY)

    def forward(self, input_ids: Tensor) -> Tensor:
        return self.head(self.layers(self.positions(self.embedding(input_ids))))


def training_step(model: nn.Module, input_ids: Tensor) -> Callable[[], None]:
    """A function that makes one training step: forward, backward, update."""
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        F.cross_entropy(model(input_ids).flatten(0, 1), input_ids.flatten()).backward()
        optimizer.step()

    return step


def forward_pass(model: nn.Module, input_ids: Tensor) -> Callable[[], None]:
    """A function that makes one forward pass without gradients."""

    @torch.no_grad()
    def run() -> None:
        model(input_ids)

    return run


def summary(comparisons: list[Comparison]) -> dict[str, Any]:
    """Ratios and seconds per token over the length, and how a step's time grows with it."""
    result: dict[str, Any] = {
        "ratio": [c.ratio("Transformer") for c in comparisons],
        "interval": [list(c.interval("Transformer")) for c in comparisons],
        "control_interval": [list(c.interval(CONTROL)) for c in comparisons],
        "verdict": [c.verdict("Transformer") for c in comparisons],
        "seconds_per_token": {},
        "exponent": {},
    }
    for name in ("LSTM", "Transformer"):
        seconds = [c.median(name) for c in comparisons]
        per_token = [s / (BATCH * length) for s, length in zip(seconds, LENGTHS, strict=True)]
        result["seconds_per_token"][name] = per_token
        exponent, interval = fit_exponent(LENGTHS, seconds)
        result["exponent"][name] = {"value": exponent, "interval": list(interval)}
    return result


def judge(training: dict[str, Any], device: str) -> Verdict:
    """Reproduced if the Transformer is clearly faster at every length, partly if at some.

    At none, a GPU refutes the claim. A CPU does not: the claim is about computing in parallel, and
    a few cores cannot do much at once.
    """
    faster = [
        n for n, verdict in zip(LENGTHS, training["verdict"], strict=True) if verdict == "faster"
    ]
    if len(faster) == len(LENGTHS):
        result, where = "reproduced", "at every length"
    elif faster:
        result, where = "partly", f"only at lengths {', '.join(map(str, faster))}"
    elif device == "cuda":
        result, where = "the article is wrong", "at no length"
    else:
        result, where = "not measurable here", "at no length"
    low, high = min(training["ratio"]), max(training["ratio"])
    return Verdict(
        result,
        ours=f"a training step takes {low:.2f} to {high:.2f} times as long as the LSTM's",
        explanation=(
            "Against an LSTM of equal width and size, the Transformer trains clearly faster "
            f"{where} from {LENGTHS[0]} to {LENGTHS[-1]} tokens on this machine. The LSTM must "
            "take one step after another, however many processors there are; the more a device "
            "can do at once, the more that costs."
        ),
        cell="04#Training-time-per-token",
    )


@experiment(
    "c35_training_speed",
    claims=["C35"],
    lesson="04",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.positions",
        "zoo_lessons.training.random_state",
    ],
)
def training_speed() -> dict[str, Any]:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    seed_everything(0)
    models = {"LSTM": LSTMTagger().to(device), "Transformer": TransformerTagger().to(device)}
    training, forward = [], []
    for length in LENGTHS:
        input_ids = torch.randint(VOCABULARY, (BATCH, length), device=device)
        steps = {name: training_step(model, input_ids) for name, model in models.items()}
        passes = {name: forward_pass(model, input_ids) for name, model in models.items()}
        training.append(compare(steps, rounds=ROUNDS))
        forward.append(compare(passes, rounds=ROUNDS))
    figures = {
        "device": device,
        "lengths": LENGTHS,
        "batch": BATCH,
        "d_model": D_MODEL,
        "layers": NUM_LAYERS,
        "parameters": {
            name: sum(p.numel() for p in model.parameters()) for name, model in models.items()
        },
        "training": summary(training),
        "forward": summary(forward),
    }
    return {"figures": figures, "verdicts": {"C35": judge(figures["training"], device)}}
