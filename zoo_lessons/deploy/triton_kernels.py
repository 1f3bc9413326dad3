"""GELU(LayerNorm(x)) as one kernel, written in Triton.

On an NVIDIA GPU, Triton compiles the kernel. Without one, its interpreter runs the same lines with
NumPy: slowly, but so that the kernel can be read, changed and checked on any Linux machine.

Source: Tillet et al., "Triton: an intermediate language and compiler for tiled neural network
computations" (2019).
"""

from __future__ import annotations

import torch
from torch import Tensor

import zoo_lessons.deploy.fuse  # noqa: F401  (asks Triton for its interpreter, before its import)

# isort: split
import triton
import triton.language as tl

if not torch.cuda.is_available() and isinstance(tl.sum, triton.JITFunction):
    raise ImportError(
        "Triton was imported before its interpreter was asked for: restart Python, and import "
        "zoo_lessons.deploy.fuse first"
    )


@triton.jit
def norm_gelu_kernel(x_ptr, weight_ptr, bias_ptr, out_ptr, width, eps, BLOCK: tl.constexpr):
    """One program takes one row, of which it reads and writes each number once."""
    row = tl.program_id(0)
    column = tl.arange(0, BLOCK)  # BLOCK is a power of 2, and may be wider than the row
    inside = column < width
    x = tl.load(x_ptr + row * width + column, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(x, axis=0) / width
    centred = tl.where(inside, x - mean, 0.0)  # beyond the row, 0 - mean must not count
    variance = tl.sum(centred * centred, axis=0) / width
    weight = tl.load(weight_ptr + column, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=inside, other=0.0).to(tl.float32)
    y = centred * tl.rsqrt(variance + eps) * weight + bias
    out = 0.5 * y * (1 + tl.erf(y * 0.7071067811865476))  # y / √2
    tl.store(out_ptr + row * width + column, out, mask=inside)


def norm_gelu(x: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """GELU(LayerNorm(x)) in one kernel; float32 inside, whatever the inputs' dtype.

    x (..., width), weight and bias (width,) -> (..., width), contiguous.

    Raises:
        ValueError: weight or bias have another width than x.
    """
    width = x.shape[-1]
    if weight.shape != (width,) or bias.shape != (width,):
        raise ValueError(
            f"weight {tuple(weight.shape)} and bias {tuple(bias.shape)} must have x's width {width}"
        )
    x = x.contiguous()
    out = torch.empty_like(x)
    rows = x.numel() // width
    if rows:
        norm_gelu_kernel[(rows,)](
            x,
            weight.contiguous(),
            bias.contiguous(),
            out,
            width,
            eps,
            triton.next_power_of_2(width),
        )
    return out
