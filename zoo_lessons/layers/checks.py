"""Input checks shared by the layers: each says what came and what was expected."""

from __future__ import annotations

import torch
from torch import Tensor


class NaNError(ValueError):
    """A layer was given NaN. `training.fit` takes it for what it mostly is: a run that diverged."""


def require_divisible(**sizes: int) -> None:
    """Check that the first keyword's value is a multiple of the second's.

    Example: `require_divisible(d_model=512, num_heads=8)`.

    Raises:
        ValueError: either is not positive, or the division leaves a remainder.
    """
    (whole_name, whole), (part_name, part) = sizes.items()
    if whole < 1 or part < 1:
        raise ValueError(f"{whole_name}={whole} and {part_name}={part} must both be at least 1")
    if whole % part:
        raise ValueError(
            f"{whole_name}={whole} must be divisible by {part_name}={part} "
            f"(remainder {whole % part})"
        )


def require_width(
    name: str, tensor: Tensor, width: int, axes: str = "batch, length, width"
) -> None:
    """Check that `tensor` has one axis per name in `axes` and that its last axis is `width` long.

    Raises:
        ValueError: the number of axes or the last size differs.
    """
    if tensor.ndim != len(axes.split(",")) or tensor.shape[-1] != width:
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}, expected ({axes}) with last axis {width}"
        )


def require_ids(name: str, ids: Tensor, vocab_size: int, *, size_name: str = "vocab_size") -> None:
    """Check that `ids` is an integer tensor (batch, length) with values in [0, vocab_size).

    The range is read on the CPU only: on a GPU it would stall the queue, and the embedding
    look-up reports it there. `size_name` is what the message calls the vocabulary's size.

    Raises:
        TypeError: not an integer tensor.
        ValueError: not two axes, or an id outside the vocabulary.
    """
    if ids.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"{name} has dtype {ids.dtype}, expected integer token ids (torch.int64)")
    if ids.ndim != 2:
        raise ValueError(f"{name} has shape {tuple(ids.shape)}, expected (batch, length)")
    if _can_read_values(ids) and ids.numel():
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= vocab_size:
            raise ValueError(
                f"{name} holds ids from {low} to {high}, "
                f"expected 0 to {vocab_size - 1} ({size_name}={vocab_size})"
            )


def require_finite(name: str, tensor: Tensor) -> None:
    """Check that no value is NaN. One NaN would silently spread to every token it meets.

    Infinities are left alone: softmax handles -inf. Skipped on a GPU, where reading a value
    stalls the queue, and while PyTorch compiles or exports, where values are not known.

    Raises:
        NaNError: the tensor holds a NaN.
    """
    if _can_read_values(tensor) and tensor.isnan().any():
        bad = int(tensor.isnan().sum())
        raise NaNError(
            f"{name} holds {bad} NaN values of {tensor.numel()}, expected none: look for a "
            "division by zero, a log of zero, or a diverged training step before this layer"
        )


def require_mask(mask: Tensor | None, shape: tuple[int, ...]) -> None:
    """Check that `mask` is Boolean and can be broadcast to the shape of the scores.

    Args:
        mask: True where a query may attend to a key.
        shape: shape of the scores, (..., queries, keys).

    Raises:
        TypeError: the mask is not Boolean, e.g. a 0/1 `attention_mask` or an additive mask.
        ValueError: its shape does not fit.
    """
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise TypeError(
            f"mask has dtype {mask.dtype}, expected torch.bool with True = may attend. "
            "Turn a 0/1 attention_mask (batch, length) into one with padding_mask(attention_mask), "
            "and pass additive scores as bias"
        )
    try:
        fits = torch.broadcast_shapes(mask.shape, shape) == tuple(shape)
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, expected one that broadcasts to the scores' "
            f"{tuple(shape)} (..., queries, keys)"
        )


def _can_read_values(tensor: Tensor) -> bool:
    return tensor.device.type == "cpu" and not (
        torch.compiler.is_compiling() or torch.jit.is_tracing()
    )
