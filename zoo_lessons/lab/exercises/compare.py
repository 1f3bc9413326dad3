"""Where and how two results differ, said so that a learner can act on it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from numbers import Number
from typing import Any

import numpy as np
import torch

# Room for another order of operations, not for another formula.
_TOLERANCES = {
    torch.float64: (1e-7, 1e-9),
    torch.float32: (1e-4, 1e-5),
    torch.bfloat16: (3e-2, 1e-2),
    torch.float16: (5e-3, 1e-3),
}


@dataclass(frozen=True)
class Tolerance:
    """How far results may be apart: |expected - got| <= atol + rtol * |expected|.

    None takes a value that suits the dtype. `slack` multiplies both.
    """

    rtol: float | None = None
    atol: float | None = None
    slack: float = 1.0

    def of(self, dtype: torch.dtype) -> tuple[float, float]:
        rtol, atol = _TOLERANCES.get(dtype, (0.0, 0.0))
        if not (dtype.is_floating_point or dtype.is_complex):
            return 0.0, 0.0
        rtol = rtol if self.rtol is None else self.rtol
        atol = atol if self.atol is None else self.atol
        return rtol * self.slack, atol * self.slack


EXACT = Tolerance(0.0, 0.0)


def difference(expected: Any, got: Any, tolerance: Tolerance = Tolerance()) -> str | None:
    """None when `got` is as good as `expected`, otherwise one or two sentences that say why not.

    Compares tensors, arrays, numbers, Booleans, strings, None, sequences and mappings of these.
    A list may stand for a tuple, and a tensor of one element for a number.
    """
    if got is None and expected is not None:
        return "It returned None. Did you forget `return`?"
    if isinstance(expected, torch.Tensor):
        return _tensor_difference(expected, got, tolerance)
    if isinstance(expected, np.ndarray):
        if not isinstance(got, np.ndarray):
            return _type_difference("a numpy array", got)
        return _array_difference(expected, got, tolerance)
    if isinstance(expected, (bool, np.bool_)):
        got = _as_number(got)
        if not isinstance(got, (bool, np.bool_)):
            return _type_difference("True or False", got)
        return None if bool(got) == bool(expected) else f"Expected {expected}, got {got}."
    if isinstance(expected, Number):
        return _number_difference(expected, _as_number(got), tolerance)
    if isinstance(expected, Mapping):
        return _mapping_difference(expected, got, tolerance)
    if isinstance(expected, (tuple, list)):
        return _sequence_difference(expected, got, tolerance)
    if type(got) is not type(expected):
        return _type_difference(_kind(expected), got)
    return None if got == expected else f"Expected {expected!r}, got {got!r}."


def _kind(value: Any) -> str:
    if value is None:
        return "None"
    if isinstance(value, torch.Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, np.ndarray):
        return f"a numpy array of shape {value.shape}"
    if isinstance(value, (tuple, list)):
        items = "item" if len(value) == 1 else "items"
        return f"a {type(value).__name__} with {len(value)} {items}"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def _type_difference(expected: str, got: Any) -> str:
    return f"Expected {expected}, got {_kind(got)}."


def _as_number(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.numel() == 1:
        return value.item()
    if isinstance(value, np.ndarray) and value.size == 1:
        return value.item()
    return value


def _number_difference(expected: Any, got: Any, tolerance: Tolerance) -> str | None:
    if isinstance(got, (bool, np.bool_)) or not isinstance(got, Number):
        return _type_difference("a number", got)
    integer = isinstance(expected, (int, np.integer))
    rtol, atol = (0.0, 0.0) if integer else tolerance.of(torch.float64)
    if isinstance(got, complex) or isinstance(expected, complex):
        close = abs(got - expected) <= atol + rtol * abs(expected)
    elif math.isnan(expected) or math.isnan(got):
        close = math.isnan(expected) and math.isnan(got)
    else:
        close = got == expected or abs(got - expected) <= atol + rtol * abs(expected)
    return None if close else f"Expected {expected:.6g}, got {got:.6g}."


def _sequence_difference(expected: Any, got: Any, tolerance: Tolerance) -> str | None:
    if not isinstance(got, (tuple, list)):
        return _type_difference(_kind(expected), got)
    if len(got) != len(expected):
        return f"Expected {len(expected)} items, got {len(got)}."
    for index, (one, other) in enumerate(zip(expected, got, strict=True)):
        if problem := difference(one, other, tolerance):
            return f"Item {index}: {problem}"
    return None


def _mapping_difference(expected: Mapping, got: Any, tolerance: Tolerance) -> str | None:
    if not isinstance(got, Mapping):
        return _type_difference("a dict", got)
    missing = [repr(key) for key in expected if key not in got]
    extra = [repr(key) for key in got if key not in expected]
    if missing or extra:
        parts = [f"missing {', '.join(missing)}"] if missing else []
        parts += [f"not expected {', '.join(extra)}"] if extra else []
        return f"The keys differ: {'; '.join(parts)}."
    for key, one in expected.items():
        if problem := difference(one, got[key], tolerance):
            return f"Key {key!r}: {problem}"
    return None


def _array_difference(expected: np.ndarray, got: np.ndarray, tolerance: Tolerance) -> str | None:
    if expected.dtype.kind not in "biufc":  # strings, objects: no tensor can hold them
        same = expected.shape == got.shape and expected.tolist() == got.tolist()
        return None if same else f"Expected {expected.tolist()}, got {got.tolist()}."
    if got.dtype.kind not in "biufc":
        return f"Expected dtype {expected.dtype}, got {got.dtype}."
    return _tensor_difference(
        torch.from_numpy(expected.copy()), torch.from_numpy(got.copy()), tolerance
    )


def _tensor_difference(expected: torch.Tensor, got: Any, tolerance: Tolerance) -> str | None:
    if not isinstance(got, torch.Tensor):
        return _type_difference("a tensor", got)
    expected, got = expected.detach(), got.detach()
    if got.shape != expected.shape:
        text = f"Expected shape {tuple(expected.shape)}, got {tuple(got.shape)}."
        axes = _swapped(expected, got, tolerance)
        return f"{text} The values are right, but {axes} are swapped." if axes else text
    if got.device != expected.device:
        return f"Expected device {expected.device}, got {got.device}."
    values = _value_difference(expected, got, tolerance)
    if got.dtype != expected.dtype:
        text = f"Expected dtype {_dtype(expected)}, got {_dtype(got)}."
        return text if values else f"{text} The values are right."
    return values


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _close(expected: torch.Tensor, got: torch.Tensor, tolerance: Tolerance) -> torch.Tensor:
    rtol, atol = tolerance.of(expected.dtype)
    wide = torch.complex128 if expected.is_complex() or got.is_complex() else torch.float64
    return torch.isclose(got.to(wide), expected.to(wide), rtol=rtol, atol=atol, equal_nan=True)


def _value_difference(
    expected: torch.Tensor, got: torch.Tensor, tolerance: Tolerance
) -> str | None:
    close = _close(expected, got, tolerance)
    if close.all():
        return None
    if not expected.isnan().any() and got.isnan().any():
        place = got.isnan().nonzero()[0].tolist()
        return (
            f"The result holds NaN, first at {place}: some step divides 0 by 0 or uses inf - inf."
        )
    if not expected.isinf().any() and got.isinf().any():
        return f"The result holds inf, first at {got.isinf().nonzero()[0].tolist()}."
    axes = _swapped(expected, got, tolerance)
    if axes:
        return f"The values are right, but {axes} are swapped."
    ratio = _constant_ratio(expected, got)
    if ratio is not None:
        return f"Every value is {ratio:.4g} times the expected one."
    place = (~close).nonzero()[0]
    index = tuple(place.tolist())
    text = f"{int((~close).sum())} of {close.numel()} values differ"
    where = f", first at {list(index)}" if index else ""
    text += f"{where}: expected {_show(expected[index])}, got {_show(got[index])}."
    if expected.dtype != torch.bool and not expected.is_complex() and not got.is_complex():
        gaps = (expected.double() - got.double()).abs()
        if gaps.isfinite().any():
            text += f" The largest difference is {gaps[gaps.isfinite()].max().item():.3g}."
    return text


def _show(value: torch.Tensor) -> str:
    item = value.item()
    return f"{item:.6g}" if isinstance(item, float) else str(item)


def _swapped(expected: torch.Tensor, got: torch.Tensor, tolerance: Tolerance) -> str:
    if got.ndim != expected.ndim:
        return ""
    for first, second in combinations(range(got.ndim), 2):
        swapped = got.transpose(first, second)
        if swapped.shape == expected.shape and _close(expected, swapped, tolerance).all():
            return f"axes {first} and {second}"
    return ""


def _constant_ratio(expected: torch.Tensor, got: torch.Tensor) -> float | None:
    if expected.numel() < 2 or not (expected.is_floating_point() and got.is_floating_point()):
        return None
    one, other = expected.double().flatten(), got.double().flatten()
    scale = (one @ other) / (one @ one)
    if not scale.isfinite() or scale.abs() < 1e-6:
        return None
    close = torch.allclose(other, scale * one, rtol=1e-3, atol=1e-6 * float(other.abs().max()))
    return scale.item() if close else None
