"""Linear layers that call oneDNN with packed weights, in float32 and in INT8.

`nn.Linear` hands its weight to the library as it lies in memory, so the weight is laid out anew at
each call. Weights that stay as they are can be laid out once, for the processor's vector
instructions: that is what inference engines do, and what `torch.compile` does when it freezes a
model. These layers do it without a compiler.

| | weights | inputs | product |
|---|---|---|---|
| `PackedLinear` | float32, packed | float32 | float32 |
| `Int8Linear` | int8, packed, one scale for each output | uint8, range from each input | int32 |
| `StaticInt8Linear` | the same | uint8, range fixed by calibration | int32 |

With fixed ranges, a feed-forward layer needs no pass over memory of its own between its two
products: the first applies the activation and rounds to the grid of the second before it stores
anything (`static_int8_linears`).

The operators are those that PyTorch's own compiler calls for INT8 on a CPU (`torch.ops.onednn`).
Inputs are *unsigned*: the VNNI instruction multiplies uint8 by int8, and for int8 inputs oneDNN has
no fast kernel on processors with VNNI but without AMX.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from zoo_lessons.deploy.quantize import quantize_matrix
from zoo_lessons.deploy.quantized_layers import Range, replace_linears
from zoo_lessons.layers.blocks import FeedForward

LARGEST = 255  # of a uint8
# Activations that oneDNN applies to a product before it stores it: its name and algorithm for each.
FUSED = {"relu": ("relu", ""), "gelu": ("gelu", "none"), "gelu_new": ("gelu", "tanh")}


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


@dataclass(frozen=True)
class Grid:
    """256 evenly spaced numbers, stored as uint8: q stands for scale · (q - zero_point)."""

    scale: float
    zero_point: int

    @classmethod
    def over(cls, low: float, high: float) -> Grid:
        """From the smallest to the largest number; 0 always lies on it.

        A range of nothing but 0 gets the scale 1.
        """
        low, high = min(low, 0.0), max(high, 0.0)
        scale = (high - low) / LARGEST or 1.0
        return cls(scale, round(-low / scale))

    def round(self, x: Tensor) -> Tensor:
        """Float (...) -> uint8 (...), contiguous; numbers beyond the ends are cut off."""
        on_grid = torch.add(float(self.zero_point), x.contiguous(), alpha=1 / self.scale).round_()
        return on_grid.clamp_(0, LARGEST).to(torch.uint8)


class _Int8Product(nn.Module):
    """What `Int8Linear` and `StaticInt8Linear` share: a packed weight, and oneDNN's product."""

    def __init__(self, linear: nn.Linear, rows: int):
        super().__init__()
        if not is_available():
            raise RuntimeError("this PyTorch was built without oneDNN, expected an x86 CPU build")
        stored = quantize_matrix(linear.weight.detach().float(), 8, "channel")
        self.scale = stored.scale[:, 0].contiguous()  # (d_out)
        self.packed = torch.ops.onednn.qlinear_prepack(stored.values, [rows, linear.in_features])
        self.bias = None if linear.bias is None else linear.bias.detach().float()

    def product(
        self,
        q: Tensor,
        grid: Grid,
        activation: tuple[str, str] = ("none", ""),
        output: Grid | None = None,
    ) -> Tensor:
        """uint8 (..., d_in) on a grid -> float32 (..., d_out), or uint8 on the grid `output`."""
        name, algorithm = activation
        return torch.ops.onednn.qlinear_pointwise(
            q,
            grid.scale,
            grid.zero_point,
            self.packed,
            self.scale,
            None,  # the weight's zero points: it is symmetric
            self.bias,
            1.0 if output is None else output.scale,
            0 if output is None else output.zero_point,
            torch.float32 if output is None else torch.uint8,
            name,
            [],
            algorithm,
        )


class Int8Linear(_Int8Product):
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
        super().__init__(linear, rows)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out), float32."""
        grid = Grid.over(*(end.item() for end in torch.aminmax(x)))
        return self.product(grid.round(x), grid)


class StaticInt8Linear(_Int8Product):
    """A trained linear layer that multiplies in INT8, with the input's range fixed beforehand.

    For inference on a CPU, as `Int8Linear`.

    Args:
        linear: a trained layer.
        low, high: the input's range, as `quantized_layers.calibrate` gives it. Inputs beyond it are
            cut off.
        rows: rows of the inputs to come, for which the layout is chosen.
        activation: applied to the output inside the kernel, a key of `FUSED`; None: none.
        output: a grid to round the output to inside the kernel; None leaves it in float32.

    Raises:
        RuntimeError: this PyTorch has no such operators.
    """

    def __init__(
        self,
        linear: nn.Linear,
        low: Tensor | float,
        high: Tensor | float,
        rows: int = 128,
        *,
        activation: str | None = None,
        output: Grid | None = None,
    ):
        super().__init__(linear, rows)
        self.grid, self.output = Grid.over(float(low), float(high)), output
        self.activation = ("none", "") if activation is None else FUSED[activation]

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in), float or already uint8 on this layer's grid -> (..., d_out)."""
        q = x if x.dtype == torch.uint8 else self.grid.round(x)
        return self.product(q, self.grid, self.activation, self.output)


def pack_linears(model: nn.Module, rows: int = 128) -> nn.Module:
    """A copy of a model with `PackedLinear` layers."""
    return replace_linears(model, lambda _, layer: PackedLinear(layer, rows))


def int8_linears(model: nn.Module, rows: int = 128) -> nn.Module:
    """A copy of a model with `Int8Linear` layers."""
    return replace_linears(model, lambda _, layer: Int8Linear(layer, rows))


def static_int8_linears(
    model: nn.Module, ranges: Mapping[str, Range], rows: int = 128
) -> nn.Module:
    """A copy of a model with `StaticInt8Linear` layers.

    Each `FeedForward` whose activation is one of `FUSED` becomes two products with nothing between
    them: its first layer applies the activation and stores uint8 on the grid of the second.

    Args:
        model: a trained model in eval mode.
        ranges: of each linear layer's input, from `quantized_layers.calibrate`.
        rows: rows of the inputs to come.

    Raises:
        KeyError: a layer without a range.
        ValueError: a model in training mode: its dropout would be lost.
    """
    if any(module.training for module in model.modules()):
        raise ValueError(f"{type(model).__name__} is in training mode: call model.eval() first")
    fused = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, FeedForward) and module.activation in FUSED
    }

    def make(name: str, layer: nn.Linear) -> StaticInt8Linear:
        parent, _, last = name.rpartition(".")
        if parent in fused and last == "up":
            down = Grid.over(*(float(end) for end in ranges[f"{parent}.down"]))
            activation = fused[parent].activation
            return StaticInt8Linear(layer, *ranges[name], rows, activation=activation, output=down)
        return StaticInt8Linear(layer, *ranges[name], rows)

    made = replace_linears(model, make)
    for name in fused:
        parent, _, last = name.rpartition(".")
        module = made.get_submodule(name)
        setattr(made.get_submodule(parent), last, nn.Sequential(module.up, module.down))
    return made
