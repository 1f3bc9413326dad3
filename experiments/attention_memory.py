"""Attention written out against fused: time, memory, traffic against length; forward and training.

Four heads of width 64, one text, random numbers, 256 to 4,096 tokens. Three ways: the formula with
its matrices, PyTorch's fused kernel, and the course's `flash_attention`, which is made of PyTorch
operations on blocks of 128: its memory is that of the algorithm, its time not that of a kernel.

Forward alone, and a training step's forward and backward. What autograd keeps for the backward pass
is what makes the difference there. Time is taken side by side; memory is the peak of what PyTorch
allocates during one call, inputs not counted; traffic is what the forward pass moves between
kernels. Exponents p of cost = constant · length^p are fitted from 512 tokens on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from experiments.roofline import attention_written_out
from zoo_lessons.bench import CONTROL, Comparison, compare, fit_exponent, peak_memory
from zoo_lessons.deploy.roofline import count_traffic
from zoo_lessons.layers.online_softmax import flash_attention
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

LENGTHS = [256, 512, 1024, 2048, 4096]
FROM = 512
HEADS, HEAD_DIM, BLOCK, ROUNDS = 4, 64, 128, 5
WRITTEN, FUSED, BLOCKS = "written out", "fused", "in blocks, in Python"
PASSES = ("forward", "forward and backward")

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]
WAYS: dict[str, Attention] = {
    WRITTEN: attention_written_out,
    FUSED: F.scaled_dot_product_attention,
    BLOCKS: lambda q, k, v: flash_attention(q, k, v, block=BLOCK),
}


def calls(length: int, which: str) -> dict[str, Callable[[], Any]]:
    """A function without arguments for each way, all on the same q, k and v."""
    training = which == PASSES[1]
    shape = (1, HEADS, length, HEAD_DIM)
    inputs = [torch.randn(shape, requires_grad=training) for _ in range(3)]
    grad = torch.randn(shape)

    def step(attention: Attention) -> Any:
        with torch.set_grad_enabled(training):
            output = attention(*inputs)
        return torch.autograd.grad(output, inputs, grad) if training else output

    return {name: lambda attention=attention: step(attention) for name, attention in WAYS.items()}


def exponent(costs: list[float]) -> dict[str, Any]:
    first = LENGTHS.index(FROM)
    value, interval = fit_exponent(LENGTHS[first:], costs[first:])
    return {"value": value, "interval": list(interval)}


def measure(which: str) -> dict[str, Any]:
    """Seconds, ratios to the written-out form, peak bytes and exponents of one pass."""
    comparisons: list[Comparison] = []
    peaks: dict[str, list[int]] = {name: [] for name in WAYS}
    for length in LENGTHS:
        functions = calls(length, which)
        comparisons.append(compare(functions, rounds=ROUNDS, warmup=1, target_seconds=0.005))
        for name, function in functions.items():
            peaks[name].append(peak_memory(function))
    seconds = {name: [c.median(name) for c in comparisons] for name in WAYS}
    return {
        "seconds": seconds,
        "ratio": {name: [c.ratio(name) for c in comparisons] for name in WAYS},
        "interval": {name: [list(c.interval(name)) for c in comparisons] for name in WAYS},
        "control_interval": [list(c.interval(CONTROL)) for c in comparisons],
        "peak_bytes": peaks,
        "exponent_of_time": {name: exponent(values) for name, values in seconds.items()},
        "exponent_of_memory": {name: exponent(values) for name, values in peaks.items()},
    }


def forward_traffic() -> dict[str, list[int]]:
    """Bytes between kernels of one forward pass, at each length."""
    found: dict[str, list[int]] = {name: [] for name in (WRITTEN, FUSED)}
    for length in LENGTHS:
        functions = calls(length, PASSES[0])
        for name, values in found.items():
            values.append(count_traffic(functions[name]).bytes)
    return found


@experiment(
    "attention_memory",
    lesson="20",
    uses=[
        "experiments.roofline",
        "zoo_lessons.bench",
        "zoo_lessons.deploy.roofline",
        "zoo_lessons.layers.online_softmax",
        "zoo_lessons.training.random_state",
    ],
)
def attention_memory() -> dict[str, Any]:
    seed_everything(0)
    return {
        "figures": {
            "lengths": LENGTHS,
            "from": FROM,
            "heads": HEADS,
            "head_dim": HEAD_DIM,
            "block": BLOCK,
            **{which: measure(which) for which in PASSES},
            "traffic": forward_traffic(),
        }
    }
