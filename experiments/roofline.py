"""The roofline of this machine, and operations of BERT-Base placed under it.

The bounds: the rate of the product of two 1,024 × 1,024 matrices (float32, bfloat16, int8), and the
bandwidth of a copy that is far larger than the caches. Also the bandwidth of smaller copies, which
find their data in a cache.

The operations: float32, BERT-Base's sizes, forward. For each, the FLOPs of its formula, the bytes
that it must read and write once (for attention, those that pass between its kernels), and its best
time of several calls. Each call gets other inputs: the copies together exceed every cache. Both
the bounds and the operations are taken at their best, as a bound asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.deploy.quantized_layers import integer_matmul
from zoo_lessons.deploy.roofline import (
    Cost,
    Roofline,
    best_seconds,
    copy_bandwidth,
    count_traffic,
    elementwise_cost,
    matmul_cost,
    matmul_rate,
    rotate,
)
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

WIDTH, D_FF, HEADS, HEAD_DIM, TOKENS = 768, 3072, 12, 64, 512
ROWS = 4096  # tokens in the elementwise operations: 12.6 MB a tensor
COPIED = [2**power for power in range(14, 28)]  # bytes: 16 KiB to 128 MiB
MEMORY = 2**27  # bytes copied to measure main memory, and in all copies of an operation's inputs
PEAK, ROUNDS = 1024, 7
LINEAR_TOKENS = (1, 8, 64, 512)


def attention_written_out(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """The formula, one kernel a step. All (heads, tokens, head_dim)."""
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1) @ v


def attention_flops(heads: int, tokens: int, head_dim: int) -> int:
    """Two products of 2 · tokens² · head_dim; per score a division and 4 for the softmax."""
    return heads * tokens**2 * (4 * head_dim + 5)


def operations() -> dict[str, tuple[Cost, Callable[..., Tensor], list[tuple[int, ...]]]]:
    """Name -> cost, function, and the shapes of its inputs."""
    rows = (ROWS, WIDTH)
    n = ROWS * WIDTH
    found: dict[str, tuple[Cost, Callable[..., Tensor], list[tuple[int, ...]]]] = {
        "add": (elementwise_cost(n, inputs=2), torch.add, [rows, rows]),
        "GELU": (elementwise_cost(n, flops_each=5), F.gelu, [rows]),
        "LayerNorm": (
            elementwise_cost(n, flops_each=7),
            lambda x: F.layer_norm(x, (WIDTH,)),
            [rows],
        ),
        "softmax": (elementwise_cost(n, flops_each=4), lambda x: x.softmax(dim=-1), [rows]),
    }
    for tokens in LINEAR_TOKENS:
        name = f"Linear, {tokens} token" + "s" * (tokens > 1)
        shapes = [(tokens, WIDTH), (D_FF, WIDTH)]
        found[name] = (matmul_cost(tokens, WIDTH, D_FF), F.linear, shapes)
    heads = (1, HEADS, TOKENS, HEAD_DIM)
    for name, attention in {
        "attention, written out": attention_written_out,
        "attention, fused": F.scaled_dot_product_attention,
    }.items():
        inputs = torch.randn(3, *heads)
        traffic = count_traffic(lambda call=attention, given=inputs: call(*given))
        cost = Cost(attention_flops(HEADS, TOKENS, HEAD_DIM), traffic.read, traffic.written)
        found[name] = (cost, attention, [heads] * 3)
    return found


def copies_of(shapes: list[tuple[int, ...]]) -> list[list[Tensor]]:
    """As many random inputs as fill `MEMORY` bytes together; at least two."""
    size = 4 * sum(torch.Size(shape).numel() for shape in shapes)
    return [[torch.randn(shape) for shape in shapes] for _ in range(max(2, MEMORY // size))]


def place(roof: Roofline) -> list[dict[str, Any]]:
    """Each operation's intensity, rate, and share of what the roof allows."""
    placed = []
    for name, (cost, function, shapes) in operations().items():
        call = rotate(copies_of(shapes), lambda given, run=function: run(*given))
        seconds = best_seconds(call, rounds=4 * ROUNDS)
        placed.append(
            {
                "name": name,
                "flops": cost.flops,
                "bytes": cost.bytes,
                "intensity": cost.intensity,
                "seconds": seconds,
                "flops_per_second": cost.flops / seconds,
                "share_of_roof": roof.seconds(cost) / seconds,
            }
        )
    return placed


def int8_rate() -> float:
    a, b = torch.randint(-127, 128, (2, PEAK, PEAK), dtype=torch.int8)
    seconds = best_seconds(lambda: integer_matmul(a, b), ROUNDS)
    return matmul_cost(PEAK, PEAK, PEAK).flops / seconds


@experiment(
    "roofline",
    lesson="20",
    uses=[
        "zoo_lessons.deploy.quantized_layers",
        "zoo_lessons.deploy.roofline",
        "zoo_lessons.training.random_state",
    ],
)
def roofline() -> dict[str, Any]:
    seed_everything(0)
    rates = {
        "fp32": matmul_rate(PEAK, torch.float32, ROUNDS),
        "bf16": matmul_rate(PEAK, torch.bfloat16, ROUNDS),
        "int8": int8_rate(),
    }
    bandwidths = [copy_bandwidth(size, rounds=ROUNDS) for size in COPIED]
    roof = Roofline(rates["fp32"], copy_bandwidth(MEMORY, rounds=ROUNDS))
    with torch.no_grad():
        placed = place(roof)
    return {
        "figures": {
            "flops_per_second": rates,
            "bytes_per_second": roof.bytes_per_second,
            "ridge": roof.ridge,
            "copies": {"bytes": COPIED, "bytes_per_second": bandwidths},
            "operations": placed,
        }
    }
