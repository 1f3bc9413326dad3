"""Linear layers that call oneDNN with packed weights, in float32 and in INT8.

`nn.Linear` hands its weight to the library as it lies in memory, so the weight is laid out anew at
each call. Weights that stay as they are can be laid out once, for the processor's vector
instructions: that is what inference engines do, and what `torch.compile` does when it freezes a
model. These layers do it without a compiler.

| | weights | inputs | product |
|---|---|---|---|
| `PackedLinear` | float32, packed | float32 | float32 |
| `Int8Linear` | int8, packed, one scale for each output | uint8, range from each input | int32 |

The operators are those that PyTorch's own compiler calls for INT8 on a CPU (`torch.ops.onednn`).
Inputs are *unsigned*: the VNNI instruction multiplies uint8 by int8, and for int8 inputs oneDNN has
no fast kernel on processors with VNNI but without AMX.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo_lessons.deploy.quantize import quantize_matrix
from zoo_lessons.deploy.quantized_layers import replace_linears

LARGEST = 255  # of a uint8


def is_available() -> bool:
    """Whether this PyTorch has oneDNN's operators: on x86, and in most builds for ARM."""
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_prepack")


class PackedLinear(nn.Module):
    """A trained linear layer in float32 whose weight is laid out once.

    For inference on a CPU: it has no parameters, and a state that cannot be saved.

    Args:
        linear: a trained layer.
        rows: rows of the inputs to come (batch · length), for which the layout is chosen. Other
            inputs give the same numbers.
    """

    def __init__(self, linear: nn.Linear, rows: int = 128):
        super().__init__()
        weight = linear.weight.detach().float().contiguous()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")


class Int8Linear(nn.Module):
    """A trained linear layer that multiplies in INT8, with the input's range taken at each call.

    The input gets one grid of 256 steps, from its smallest to its largest number (and 0, which must
    be on the grid exactly). The weight gets one scale for each output, and -127 to 127. oneDNN
    removes the zero point's share, multiplies by the scales and adds the bias in the same kernel.

    For inference on a CPU: it has no parameters, and a state that cannot be saved.

    Args:
        linear: a trained layer.
        rows: rows of the inputs to come, for which the layout is chosen.

    Raises:
        RuntimeError: this PyTorch has no such operators.
    """

    def __init__(self, linear: nn.Linear, rows: int = 128):
        super().__init__()
        if not is_available():
            raise RuntimeError("this PyTorch was built without oneDNN, expected an x86 CPU build")
        stored = quantize_matrix(linear.weight.detach().float(), 8, "channel")
        self.scale = stored.scale[:, 0].contiguous()  # (d_out)
        self.packed = torch.ops.onednn.qlinear_prepack(stored.values, [rows, linear.in_features])
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out), float32."""
        q, scale, zero_point = to_uint8(x)
        return torch.ops.onednn.qlinear_pointwise(
            q,
            scale,
            zero_point,
            self.packed,
            self.scale,
            None,  # the weight's zero points: it is symmetric
            self.bias,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        )


def to_uint8(x: Tensor) -> tuple[Tensor, float, int]:
    """A tensor on its own grid of 256 steps: (uint8 values, scale, zero point).

    The range always holds 0. A tensor of zeros gets the scale 1.
    """
    low, high = (end.item() for end in torch.aminmax(x))
    low, high = min(low, 0.0), max(high, 0.0)
    scale = (high - low) / LARGEST or 1.0
    zero_point = round(-low / scale)
    on_grid = torch.add(float(zero_point), x.contiguous(), alpha=1 / scale).round_()
    return on_grid.clamp_(0, LARGEST).to(torch.uint8), scale, zero_point


def pack_linears(model: nn.Module, rows: int = 128) -> nn.Module:
    """A copy of a model with `PackedLinear` layers."""
    return replace_linears(model, lambda _, layer: PackedLinear(layer, rows))


def int8_linears(model: nn.Module, rows: int = 128) -> nn.Module:
    """A copy of a model with `Int8Linear` layers."""
    return replace_linears(model, lambda _, layer: Int8Linear(layer, rows))
