"""Numbers on a grid: scale and zero point, granularity, calibration, four bits to the half byte.

A quantized number is an integer q that stands for the real number s · (q - z): s is the scale, the
distance between two points of the grid, and z the zero point, the integer that stands for 0
(Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 2.1). A symmetric grid has z = 0.

The layers that compute with such numbers are in `quantized_layers`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from zoo_lessons.layers.checks import require_finite

Granularity = Literal["tensor", "channel", "group"]
GRANULARITIES: tuple[Granularity, ...] = ("tensor", "channel", "group")
CALIBRATIONS = ("minmax", "percentile", "mse")


def integer_range(bits: int, symmetric: bool = False) -> tuple[int, int]:
    """The smallest and the largest integer of a grid.

    A symmetric grid leaves the lowest integer out, so that -x is there for each x: 8 bits give
    -127 to 127. An asymmetric one uses all: -128 to 127.

    Raises:
        ValueError: fewer than 2 or more than 8 bits.
    """
    if not 2 <= bits <= 8:
        raise ValueError(f"bits={bits} must lie between 2 and 8")
    high = 2 ** (bits - 1) - 1
    return (-high if symmetric else -high - 1), high


def scale_and_zero_point(
    low: Tensor, high: Tensor, bits: int = 8, symmetric: bool = False
) -> tuple[Tensor, Tensor]:
    """The grid that covers the real numbers from `low` to `high`.

    0 is always a point of the grid, so that padding and the zeros of a ReLU stay exact: an
    asymmetric range is first widened to hold 0 (Jacob et al. 2018, section 2.1).

    Args:
        low, high: the range, of any shape; one grid for each element.
        bits: 2 to 8.
        symmetric: a grid around 0, whose scale comes from the larger of |low| and |high|.

    Returns:
        The scale (float, positive) and the zero point (int32), of the shape of `low`. Where the
        range is empty, as for a row of zeros, the scale is 1.

    Raises:
        ValueError: `low` lies above `high`, or the range is not finite.
    """
    low, high = torch.as_tensor(low), torch.as_tensor(high)
    if not (low.isfinite().all() and high.isfinite().all()):
        raise ValueError("low and high must be finite: the numbers hold NaN or infinity")
    if (low > high).any():
        raise ValueError(f"low={low.max().item():g} must not lie above high={high.min().item():g}")
    smallest, largest = integer_range(bits, symmetric)
    if symmetric:
        scale = torch.maximum(low.abs(), high.abs()) / largest
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
        return scale, torch.zeros_like(scale, dtype=torch.int32)
    low, high = low.clamp(max=0), high.clamp(min=0)
    scale = (high - low) / (largest - smallest)
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero_point = smallest - (low / scale).round()
    return scale, zero_point.clamp(smallest, largest).to(torch.int32)


def quantize(
    x: Tensor, scale: Tensor, zero_point: Tensor, bits: int = 8, symmetric: bool = False
) -> Tensor:
    """The nearest point of the grid for each number: round(x / s) + z, cut off at the ends.

    Args:
        x: real numbers.
        scale, zero_point: broadcastable to x.

    Returns:
        int8, of the shape of x. Halves are rounded to the even neighbour, as IEEE 754 does.
    """
    smallest, largest = integer_range(bits, symmetric)
    return ((x / scale).round() + zero_point).clamp(smallest, largest).to(torch.int8)


def dequantize(q: Tensor, scale: Tensor, zero_point: Tensor) -> Tensor:
    """The real numbers that the integers stand for: s · (q - z)."""
    return (q.to(scale.dtype) - zero_point) * scale


# --- one scale for how many numbers --------------------------------------------------------------


@dataclass(frozen=True)
class QuantizedTensor:
    """A matrix of integers and its scales.

    Attributes:
        values: int8 (rows, columns).
        scale, zero_point: (1, 1) for one grid, (rows, 1) for one in each row, (rows, groups) for
            one in each group of a row.
        bits: how many bits of each int8 are used.
    """

    values: Tensor
    scale: Tensor
    zero_point: Tensor
    bits: int

    def dequantize(self) -> Tensor:
        """(rows, columns), float."""
        rows, columns = self.values.shape
        groups = self.scale.shape[1]
        grouped = self.values.view(rows, groups, columns // groups)
        return dequantize(grouped, self.scale[..., None], self.zero_point[..., None]).flatten(1)

    @property
    def stored_bits(self) -> float:
        """Bits for each number, packed, with scales in float32; an asymmetric grid's zero points
        take `bits` more."""
        scales = self.scale.numel() * (32 + (self.bits if self.zero_point.any() else 0))
        return self.bits + scales / self.values.numel()


def quantize_matrix(
    x: Tensor,
    bits: int = 8,
    granularity: Granularity = "channel",
    *,
    group_size: int = 32,
    symmetric: bool = True,
) -> QuantizedTensor:
    """Quantize a matrix with one grid for all of it, for each row, or for each group of a row.

    A row of a linear layer's weight makes one output channel; a row of its input is one token.

    Args:
        x: (rows, columns).
        bits: 2 to 8.
        granularity: "tensor", "channel" (each row) or "group" (each `group_size` numbers of a row).
        group_size: must divide the columns; only for groups.
        symmetric: see `scale_and_zero_point`.

    Raises:
        ValueError: x is no matrix, an unknown granularity, or groups that do not fit.
    """
    if x.ndim != 2:
        raise ValueError(f"x has shape {tuple(x.shape)}, expected a matrix (rows, columns)")
    if granularity not in GRANULARITIES:
        raise ValueError(
            f"granularity {granularity!r} is unknown, expected one of {', '.join(GRANULARITIES)}"
        )
    rows, columns = x.shape
    if granularity == "group" and (group_size < 1 or columns % group_size):
        raise ValueError(f"group_size={group_size} must divide the {columns} columns")
    groups = columns // group_size if granularity == "group" else 1
    grouped = x.reshape(rows, groups, columns // groups)
    axes = (0, 1, 2) if granularity == "tensor" else (2,)
    low, high = grouped.amin(axes, keepdim=True), grouped.amax(axes, keepdim=True)
    scale, zero_point = scale_and_zero_point(low, high, bits, symmetric)
    values = quantize(grouped, scale, zero_point, bits, symmetric).reshape(rows, columns)
    return QuantizedTensor(values, scale[..., 0], zero_point[..., 0], bits)


# --- two numbers in a byte -----------------------------------------------------------------------


def pack_int4(values: Tensor) -> Tensor:
    """Integers from -8 to 7, two to a byte: int8 (..., columns) -> uint8 (..., columns / 2).

    The first of each pair takes the lower half.

    Raises:
        ValueError: an odd number of columns, or values that need more than 4 bits.
    """
    if values.shape[-1] % 2:
        raise ValueError(f"{values.shape[-1]} columns cannot be paired, expected an even number")
    if values.min() < -8 or values.max() > 7:
        raise ValueError(
            f"values from {values.min().item()} to {values.max().item()} do not fit into 4 bits "
            "(-8 to 7)"
        )
    halves = (values.to(torch.int16) & 0xF).to(torch.uint8)
    return halves[..., 0::2] | (halves[..., 1::2] << 4)


def unpack_int4(packed: Tensor) -> Tensor:
    """The inverse of `pack_int4`: uint8 (..., n) -> int8 (..., 2n)."""
    halves = torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(-2).to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)


# --- calibration ---------------------------------------------------------------------------------


class RangeObserver:
    """Watches numbers go by and says which range a grid should cover.

    - "minmax": all that was seen.
    - "percentile": without the outermost numbers; (1 - `share`) / 2 of them at each end.
    - "mse": the range, shrunk in steps, whose grid gives the smallest mean squared error.

    The last two work on a sample: of each call's numbers, at most `sample` drawn at random. The
    extremes are always kept.

    Args:
        method: one of `CALIBRATIONS`.
        bits: of the grid, for "mse".
        share: for "percentile".
        sample: numbers to keep of each call.

    Raises:
        ValueError: an unknown method.
    """

    def __init__(
        self, method: str = "minmax", *, bits: int = 8, share: float = 0.9999, sample: int = 20_000
    ):
        if method not in CALIBRATIONS:
            raise ValueError(
                f"method {method!r} is unknown, expected one of {', '.join(CALIBRATIONS)}"
            )
        self.method, self.bits, self.share, self.sample = method, bits, share, sample
        self.low = torch.tensor(float("inf"))
        self.high = torch.tensor(float("-inf"))
        self.kept: list[Tensor] = []
        self._draw = torch.Generator().manual_seed(0)

    def observe(self, x: Tensor) -> None:
        """Take in the numbers of a tensor of any shape.

        Raises:
            ValueError: NaN.
        """
        require_finite("x", x)
        flat = x.detach().float().flatten().cpu()
        self.low, self.high = (
            torch.minimum(self.low, flat.min()),
            torch.maximum(self.high, flat.max()),
        )
        if self.method != "minmax":
            if len(flat) > self.sample:
                flat = flat[torch.randint(len(flat), (self.sample,), generator=self._draw)]
            self.kept.append(flat)

    def range(self) -> tuple[Tensor, Tensor]:
        """The lowest and the highest number that the grid should hold.

        Raises:
            RuntimeError: nothing was observed.
        """
        if self.low > self.high:
            raise RuntimeError("nothing was observed: run the model on some inputs first")
        if self.method == "minmax":
            return self.low, self.high
        seen = torch.cat(self.kept).sort().values
        if self.method == "percentile":
            cut = round((1 - self.share) / 2 * (len(seen) - 1))
            return seen[cut], seen[len(seen) - 1 - cut]
        tried = [(self.low * share, self.high * share) for share in torch.linspace(0.02, 1, 50)]
        return min(tried, key=lambda ends: self._error(seen, *ends))

    def _error(self, seen: Tensor, low: Tensor, high: Tensor) -> float:
        grid = scale_and_zero_point(low, high, self.bits)
        return (dequantize(quantize(seen, *grid, self.bits), *grid) - seen).square().mean().item()
