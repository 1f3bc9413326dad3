"""Fused against separate kernels: bytes that pass through memory, and time.

Two chains of operations, float32, forward:

- "LayerNorm + GELU", on rows of 768 (BERT-Base's width): as PyTorch's two kernels, written out in
  14 steps, and each of them as the one kernel that `torch.compile` makes of it. The two kernels
  come first: they are what a model that was not compiled runs, and each is tuned by hand.
- "elementwise": y · relu(2x + 1), four steps with next to no arithmetic: separate, and compiled.

At three sizes: 64 rows (0.2 MB a tensor, in a core's cache), 512 (1.6 MB), and 4,096 (12.6 MB), for
which the inputs change from call to call, so that they come from memory.

Claim C12 reads `figures["ratio"]["LayerNorm + GELU"]["compiled"]`, one ratio to the two kernels for
each of `figures["rows"]`, with `figures["interval"]` and `figures["verdict"]` in the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from zoo_lessons.bench import CONTROL, Comparison, compare
from zoo_lessons.deploy.fuse import fused_cost, norm_gelu, norm_gelu_written_out
from zoo_lessons.deploy.roofline import count_traffic, elementwise_cost, rotate
from zoo_lessons.records import experiment
from zoo_lessons.training import seed_everything

ROWS, WIDTH = (64, 512, 4096), 768
TOGETHER = 2**26  # bytes of all inputs that a large size is called with in turn
ROUNDS = 15
NORM_GELU, CHAIN = "LayerNorm + GELU", "elementwise"
SEPARATE, WRITTEN, COMPILED = "separate", "written out", "compiled"
FROM_STEPS = "written out, compiled"


def chain(x: Tensor, y: Tensor) -> Tensor:
    """y · relu(2x + 1): four kernels if not compiled."""
    return y * torch.relu(2 * x + 1)


def forms(kind: str) -> dict[str, Callable[..., Tensor]]:
    """The separate kernels first, then what is compared with them."""
    if kind == CHAIN:
        return {SEPARATE: chain, COMPILED: torch.compile(chain, dynamic=False)}
    return {
        SEPARATE: norm_gelu,
        COMPILED: torch.compile(norm_gelu, dynamic=False),
        WRITTEN: norm_gelu_written_out,
        FROM_STEPS: torch.compile(norm_gelu_written_out, dynamic=False),
    }


def inputs(kind: str, rows: int) -> Sequence[list[Tensor]]:
    """Arguments to call with in turn: one set that stays in the cache, or many that do not fit."""
    size = 4 * rows * WIDTH
    count = max(2, TOGETHER // size) if rows == max(ROWS) else 1
    if kind == CHAIN:
        return [list(torch.randn(2, rows, WIDTH)) for _ in range(count)]
    weight, bias = torch.randn(2, WIDTH)
    return [[torch.randn(rows, WIDTH), weight, bias] for _ in range(count)]


def traffic(kind: str, rows: int) -> dict[str, float]:
    """Bytes that each form moves between its kernels and memory."""
    given = inputs(kind, rows)[0]
    found: dict[str, float] = {}
    n = rows * WIDTH
    fused = fused_cost(rows, WIDTH) if kind == NORM_GELU else elementwise_cost(n, inputs=2)
    for name, form in forms(kind).items():
        is_fused = name in (COMPILED, FROM_STEPS)
        apart = None if is_fused else count_traffic(lambda form=form: form(*given))
        found[name] = fused.bytes if apart is None else apart.bytes
    return found


def timed(kind: str, rows: int) -> Comparison:
    given = inputs(kind, rows)
    functions = {
        name: rotate(given, lambda arguments, form=form: form(*arguments))
        for name, form in forms(kind).items()
    }
    return compare(functions, rounds=ROUNDS)


@experiment(
    "fusion_time",
    lesson="20",
    uses=[
        "zoo_lessons.bench",
        "zoo_lessons.deploy.fuse",
        "zoo_lessons.deploy.roofline",
        "zoo_lessons.training.random_state",
    ],
)
def fusion_time() -> dict[str, Any]:
    from torch._inductor import config

    seed_everything(0)
    figures: dict[str, Any] = {"rows": list(ROWS), "width": WIDTH}
    # The compiler fits a kernel to the number of threads; an older one must not come from a cache.
    with torch.no_grad(), config.patch(force_disable_caches=True):
        for kind in (NORM_GELU, CHAIN):
            comparisons = [timed(kind, rows) for rows in ROWS]
            names = comparisons[0].names
            columns: dict[str, Callable[[Comparison, str], Any]] = {
                "seconds": Comparison.median,
                "ratio": Comparison.ratio,
                "interval": lambda c, name: list(c.interval(name)),
                "verdict": Comparison.verdict,
            }
            for column, read in columns.items():
                figures.setdefault(column, {})[kind] = {
                    name: [read(c, name) for c in comparisons] for name in names
                }
            figures.setdefault("control_interval", {})[kind] = [
                list(c.interval(CONTROL)) for c in comparisons
            ]
            moved = [traffic(kind, rows) for rows in ROWS]
            figures.setdefault("bytes", {})[kind] = {
                name: [m[name] for m in moved] for name in names
            }
    return {"figures": figures}
