"""Layers that keep or compute in integers, and how a trained model gets them.

| | weights | inputs | the product runs in |
|---|---|---|---|
| `WeightOnlyLinear` | integers | float | float, after the weights are turned back |
| `DynamicLinear` | integers | integers, range taken from each input | int8 × int8 → int32 |
| `StaticLinear` | integers | integers, range fixed by calibration | int8 × int8 → int32 |
| `FakeQuantLinear` | float, rounded | float, rounded if asked for | float; for training |

Sources: Jacob et al. 2018 (arXiv:1712.05877), sections 2.2 to 2.4 for integer products and 3 for
training; Dettmers et al. 2022 (arXiv:2208.07339), sections 3.1 and 3.2 for vector-wise scales and
the mixed product; Bengio et al. 2013 (arXiv:1308.3432) for the straight-through estimator.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.deploy.quantize import (
    Granularity,
    QuantizedTensor,
    RangeObserver,
    dequantize,
    integer_range,
    pack_int4,
    quantize,
    quantize_matrix,
    scale_and_zero_point,
    unpack_int4,
)

Range = tuple[Tensor, Tensor]


def integer_matmul(a: Tensor, b: Tensor) -> Tensor:
    """int8 (m, k) times int8 (k, n), summed in int32 (m, n).

    On a CPU this is one call of oneDNN, which uses the processor's int8 instructions where it has
    them (VNNI, AMX). On a GPU it is cuBLAS, which takes sizes that are multiples of 8 and more than
    16 rows; other sizes go through float64, which is exact here.

    Raises:
        TypeError: another dtype.
    """
    if a.dtype != torch.int8 or b.dtype != torch.int8:
        raise TypeError(f"expected int8 and int8, got {a.dtype} and {b.dtype}")
    if a.is_cuda and (len(a) <= 16 or a.shape[1] % 8 or b.shape[1] % 8):
        return (a.double() @ b.double()).to(torch.int32)
    return torch._int_mm(a, b)


# --- weights in integers, the product in float ---------------------------------------------------


class WeightOnlyLinear(nn.Module):
    """A linear layer that stores its weight in 8 or 4 bits and computes in float.

    It saves memory, and time where reading the weights takes longest: in batches of one token, and
    with a kernel that unpacks while it multiplies. This one unpacks first.

    Args:
        linear: a trained layer.
        bits: 2 to 8. Only 8 and 4 are stored tightly: 4 as two numbers in a byte, the others as
            one.
        granularity, group_size: see `quantize_matrix`.
    """

    def __init__(
        self,
        linear: nn.Linear,
        bits: int = 8,
        granularity: Granularity = "channel",
        group_size: int = 32,
    ):
        super().__init__()
        stored = quantize_matrix(linear.weight.detach(), bits, granularity, group_size=group_size)
        self.bits = bits
        self.register_buffer("values", pack_int4(stored.values) if bits == 4 else stored.values)
        self.register_buffer("scale", stored.scale)
        self.bias = _frozen(linear.bias)

    def weight(self) -> Tensor:
        """The weight as the layer uses it: (d_out, d_in), float."""
        values = unpack_int4(self.values) if self.bits == 4 else self.values
        zero_point = torch.zeros_like(self.scale, dtype=torch.int32)
        return QuantizedTensor(values, self.scale, zero_point, self.bits).dequantize()

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        return F.linear(x, self.weight().to(x.dtype), self.bias)


class QuantizedEmbedding(nn.Module):
    """A table of vectors in int8, with one scale for each row.

    Args:
        embedding: a trained table.
    """

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        stored = quantize_matrix(embedding.weight.detach(), 8, "channel")
        self.register_buffer("values", stored.values)
        self.register_buffer("scale", stored.scale)

    def forward(self, ids: Tensor) -> Tensor:
        """ids (...) -> (..., d_model)."""
        return self.values[ids].to(self.scale.dtype) * self.scale[ids]


# --- weights and inputs in integers --------------------------------------------------------------


class IntegerLinear(nn.Module):
    """What `DynamicLinear` and `StaticLinear` share: y = s_x s_w (q_x q_wᵀ - z_x Σ q_w) + b.

    The weight is symmetric, with one scale for each output channel. So its zero point is 0, and of
    the four sums that the product of two grids has, two are left (Jacob et al. 2018, equation 7).
    """

    def __init__(self, linear: nn.Linear, bits: int = 8):
        super().__init__()
        stored = quantize_matrix(linear.weight.detach(), bits, "channel")
        self.register_buffer("values", stored.values)  # (d_out, d_in)
        self.register_buffer("scale", stored.scale[:, 0])  # (d_out,)
        self.register_buffer("sums", stored.values.sum(dim=1, dtype=torch.int32))  # (d_out,)
        self.bias = _frozen(linear.bias)

    def product(self, q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
        """int8 inputs (rows, d_in) with their scale and zero point, (rows, 1) or scalars, ->
        float (rows, d_out)."""
        sums = integer_matmul(q, self.values.T) - zero_point * self.sums  # (rows, d_out), int32
        y = sums * (scale * self.scale)
        return y if self.bias is None else y + self.bias


class DynamicLinear(IntegerLinear):
    """An integer product whose input's range is measured at each call.

    Args:
        linear: a trained layer.
        bits: of weights and inputs.
        per: "token" gives each row of the input its own grid, "tensor" one to all of them.
        threshold: columns of the input that hold a number beyond it, up or down, are left out of
            the integers and multiplied in float (the mixed product of LLM.int8()). None: no such
            columns.
    """

    def __init__(
        self,
        linear: nn.Linear,
        bits: int = 8,
        per: Literal["token", "tensor"] = "token",
        threshold: float | None = None,
    ):
        super().__init__(linear, bits)
        if per not in ("token", "tensor"):
            raise ValueError(f"per={per!r}, expected 'token' or 'tensor'")
        self.bits, self.per, self.threshold = bits, per, threshold

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        flat = x.reshape(-1, x.shape[-1])  # (rows, d_in)
        apart = 0.0
        if self.threshold is not None:
            large = (flat.abs() > self.threshold).any(dim=0)  # (d_in,)
            weight = self.values[:, large] * self.scale[:, None]  # (d_out, few)
            apart = flat[:, large] @ weight.T
            flat = flat.masked_fill(large, 0)
        axes = (1,) if self.per == "token" else (0, 1)
        grid = scale_and_zero_point(
            flat.amin(axes, keepdim=True), flat.amax(axes, keepdim=True), self.bits
        )
        y = self.product(quantize(flat, *grid, self.bits), *grid) + apart
        return y.unflatten(0, x.shape[:-1])


class StaticLinear(IntegerLinear):
    """An integer product whose input's range was fixed beforehand, on calibration data.

    Args:
        linear: a trained layer.
        low, high: the range, as `calibrate` gives it. Inputs beyond it are cut off.
        bits: of weights and inputs.
    """

    def __init__(self, linear: nn.Linear, low: Tensor, high: Tensor, bits: int = 8):
        super().__init__(linear, bits)
        self.bits = bits
        scale, zero_point = scale_and_zero_point(low, high, bits)
        self.register_buffer("input_scale", scale)
        self.register_buffer("input_zero_point", zero_point)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        flat = x.reshape(-1, x.shape[-1])  # (rows, d_in)
        grid = self.input_scale, self.input_zero_point
        return self.product(quantize(flat, *grid, self.bits), *grid).unflatten(0, x.shape[:-1])


# --- a whole model -------------------------------------------------------------------------------


def replace_linears(model: nn.Module, make: Callable[[str, nn.Linear], nn.Module]) -> nn.Module:
    """A copy of a model in which `make(name, layer)` stands for each linear layer.

    Raises:
        ValueError: the model has no linear layer.
    """
    model = copy.deepcopy(model)
    if isinstance(model, nn.Linear):
        return make("", model)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise ValueError(f"{type(model).__name__} has no linear layer")
    for name in names:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, make(name, model.get_submodule(name)))
    return model


def quantize_weights(
    model: nn.Module,
    bits: int = 8,
    granularity: Granularity = "channel",
    *,
    group_size: int = 32,
    embeddings: bool = True,
) -> nn.Module:
    """A copy with `WeightOnlyLinear` layers and, if asked for, int8 tables of embeddings."""
    copied = replace_linears(
        model, lambda _, layer: WeightOnlyLinear(layer, bits, granularity, group_size)
    )
    return _quantize_embeddings(copied) if embeddings else copied


def quantize_dynamic(
    model: nn.Module,
    *,
    per: Literal["token", "tensor"] = "token",
    threshold: float | None = None,
    embeddings: bool = True,
) -> nn.Module:
    """A copy with `DynamicLinear` layers of 8 bits."""
    copied = replace_linears(model, lambda _, layer: DynamicLinear(layer, 8, per, threshold))
    return _quantize_embeddings(copied) if embeddings else copied


def quantize_static(
    model: nn.Module, ranges: Mapping[str, Range], *, embeddings: bool = True
) -> nn.Module:
    """A copy with `StaticLinear` layers of 8 bits.

    Args:
        ranges: of each linear layer's input, from `calibrate`.

    Raises:
        KeyError: a layer without a range.
    """
    copied = replace_linears(model, lambda name, layer: StaticLinear(layer, *ranges[name]))
    return _quantize_embeddings(copied) if embeddings else copied


@torch.no_grad()
def calibrate(
    model: nn.Module,
    batches: Iterable[Mapping[str, Tensor]],
    method: str = "minmax",
    **options: Any,
) -> dict[str, Range]:
    """The range of each linear layer's input, over some batches.

    Args:
        model: a trained model in eval mode.
        batches: keyword arguments of its forward. Where there is an `attention_mask`, padded
            positions do not count.
        method, options: see `RangeObserver`.

    Returns:
        Name of the layer -> (low, high).

    Raises:
        RuntimeError: no batches.
    """
    observers: dict[str, RangeObserver] = {}
    mask: Tensor | None = None

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = inputs[0]
            is_sequence = mask is not None and x.shape[:-1] == mask.shape
            observers[name].observe(x[mask.bool()] if is_sequence else x)

        return hook

    handles = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            observers[name] = RangeObserver(method, **options)
            handles.append(module.register_forward_pre_hook(watch(name)))
    try:
        for batch in batches:
            mask = batch.get("attention_mask")
            model(**batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: observer.range() for name, observer in observers.items()}


def stored_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers; what is shared counts once."""
    tensors = {t.data_ptr(): t for t in (*model.parameters(), *model.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def _quantize_embeddings(model: nn.Module) -> nn.Module:
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Embedding):
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, QuantizedEmbedding(module))
    return model


def _frozen(bias: Tensor | None) -> nn.Parameter | None:
    return None if bias is None else nn.Parameter(bias.detach().clone(), requires_grad=False)


# --- training with rounding ----------------------------------------------------------------------


class _RoundStraightThrough(torch.autograd.Function):
    """Rounds on the way forward; on the way back, the gradient passes as if it did not."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def fake_quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, bits: int = 8, symmetric: bool = False
) -> Tensor:
    """Quantize and turn back at once, with a gradient for training.

    The gradient with respect to x is 1 inside the grid's range and 0 beyond its ends: the
    straight-through estimator (Bengio et al. 2013, section 4; Jacob et al. 2018, section 3).

    Args:
        x, scale, zero_point: as for `quantize`. The scale gets no gradient here.
    """
    smallest, largest = integer_range(bits, symmetric)
    scale = scale.detach()
    on_grid = _RoundStraightThrough.apply(x / scale) + zero_point
    return dequantize(on_grid.clamp(smallest, largest), scale, zero_point)


class FakeQuantLinear(nn.Module):
    """A linear layer that trains float weights which it rounds at each use.

    Args:
        linear: the layer to start from; its parameters are used, not copied.
        bits: of the weight, with one symmetric grid for each output channel.
        input_bits: of the input, with one grid for each token; None leaves it as it is.
    """

    def __init__(self, linear: nn.Linear, bits: int = 4, input_bits: int | None = None):
        super().__init__()
        self.linear, self.bits, self.input_bits = linear, bits, input_bits

    def weight(self) -> Tensor:
        """The rounded weight (d_out, d_in)."""
        weight = self.linear.weight
        ends = weight.amin(1, keepdim=True), weight.amax(1, keepdim=True)
        grid = scale_and_zero_point(*ends, self.bits, symmetric=True)
        return fake_quantize(weight, *grid, self.bits, symmetric=True)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_in) -> (..., d_out)."""
        if self.input_bits is not None:
            ends = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
            x = fake_quantize(x, *scale_and_zero_point(*ends, self.input_bits), self.input_bits)
        return F.linear(x, self.weight(), self.linear.bias)
