"""Operator fusion: LayerNorm and GELU as separate kernels, compiled into one, and written as one.

LayerNorm and GELU do little arithmetic on much data. Separate kernels write what the next one reads
again; a fused kernel reads each number once and writes it once. The Triton kernel stands in
`triton_kernels.py`, because importing it needs Triton.

Sources: Ba et al., "Layer Normalization" (2016), equation 4; Hendrycks & Gimpel, "Gaussian Error
Linear Units" (2016), section 2.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.deploy.roofline import Cost

# Operations of the formulas per number: 7 for LayerNorm, 5 for GELU. erf counts as one, though a
# processor needs a dozen instructions for it.
FLOPS_EACH = 12

# torch.compile imports Triton where it is installed, and Triton reads this once, at its first
# import: without it, the kernel of `triton_kernels.py` could no longer be interpreted.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def norm_gelu_written_out(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """GELU(LayerNorm(x)), with one PyTorch operation for each step of the formulas.

    x (..., width), weight and bias (width,) -> (..., width).
    """
    mean = x.mean(dim=-1, keepdim=True)
    centred = x - mean
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    y = centred * torch.rsqrt(variance + eps) * weight + bias
    return 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))


def norm_gelu(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """GELU(LayerNorm(x)), as PyTorch's two kernels. Shapes as in `norm_gelu_written_out`."""
    return F.gelu(F.layer_norm(x, x.shape[-1:], weight, bias, eps))


def fused_cost(rows: int, width: int, bytes_per_number: float = 4) -> Cost:
    """GELU(LayerNorm(x)) in one kernel: x, weight and bias are read once, the result is written."""
    numbers = rows * width
    return Cost(
        FLOPS_EACH * numbers, bytes_per_number * (numbers + 2 * width), bytes_per_number * numbers
    )


# --- the compiler --------------------------------------------------------------------------------


def cpp_compiler() -> str | None:
    """The C++ compiler that `torch.compile` would use on a CPU, or None where there is none."""
    from torch._inductor import config

    named = config.cpp.cxx
    for name in named if isinstance(named, (list, tuple)) else [named]:
        if name and shutil.which(name):
            return shutil.which(name)
    return shutil.which("clang++")


def generated_kernels(function: Callable[..., Any], *inputs: Any) -> tuple[Any, list[str]]:
    """Compile a function for these inputs.

    Returns:
        What it gives for them, and the names of the kernels that the compiler made; a name lists
        what was fused into the kernel.

    Raises:
        RuntimeError: there is no C++ compiler (on a GPU none is needed).
    """
    if cpp_compiler() is None and not torch.cuda.is_available():
        raise RuntimeError(
            "torch.compile writes C++ on a CPU and found no compiler: install g++ or clang++"
        )
    from torch._inductor.utils import run_and_get_code

    with torch.no_grad():
        result, sources = run_and_get_code(torch.compile(function), *inputs)
    names = re.findall(
        r"\b((?:cpp|triton)_[a-z]*_?fused_\w+?)(?:_\d+)? = async_compile", sources[0]
    )
    return result, names


# --- CUDA graphs ---------------------------------------------------------------------------------


def cuda_graph(function: Callable[..., Tensor], *inputs: Tensor) -> Callable[..., Tensor]:
    """Record a function's kernels once; the result launches all of them with a single call.

    The recorded kernels read and write fixed places. So a call copies its arguments there, and the
    next call overwrites what it returned. Shapes cannot change, and nothing in the function may
    depend on a value on the CPU.

    Raises:
        RuntimeError: there is no NVIDIA GPU.
    """
    if not torch.cuda.is_available():
        raise RuntimeError("CUDA graphs need an NVIDIA GPU, and PyTorch sees none")
    places = [x.clone() for x in inputs]
    # Warm up beside the main stream: libraries set themselves up, which cannot be recorded.
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.no_grad(), torch.cuda.stream(stream):
        for _ in range(3):
            function(*places)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.no_grad(), torch.cuda.graph(graph):
        result = function(*places)

    def replay(*arguments: Tensor) -> Tensor:
        for place, argument in zip(places, arguments, strict=True):
            place.copy_(argument)
        graph.replay()
        return result

    return replay
