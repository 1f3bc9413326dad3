"""Run a learner's function on a case, and keep everything it did: result, error, side effects."""

from __future__ import annotations

import copy
import inspect
import linecache
import random
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import zoo_lessons
from zoo_lessons.lab.exercises.compare import EXACT, Tolerance, difference

# Folders whose lines are not the learner's: this library, Python's own, and installed packages.
_LIBRARIES = (
    str(Path(zoo_lessons.__file__).parent),
    sysconfig.get_path("stdlib"),
    "site-packages",
)


@dataclass(frozen=True)
class Case:
    """One input on which a learner's function must agree with the reference.

    Attributes:
        args, kwargs: what the function is called with. Each call gets its own copy.
        label: what is special about this input; a failing check shows it.
        inputs: only where the exercise asks for a module. The function then builds the module
            from `args` and `kwargs`, gets the reference's weights, and is called on `inputs`.
    """

    args: tuple = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    label: str = ""
    inputs: tuple | None = None

    def __post_init__(self) -> None:
        if not self.label:
            raise ValueError("a case needs a label that says what is special about it")
        for name in ("args", "inputs"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, tuple):
                raise TypeError(f"Case {name} must be a tuple, got {type(value).__name__}")


@dataclass(frozen=True)
class Outcome:
    """What one call did: its value or its error, and the arguments that it changed."""

    value: Any = None
    error: Exception | None = None
    changed: tuple[str, ...] = ()

    def differs_from(self, expected: Outcome, tolerance: Tolerance) -> str | None:
        """None when this outcome is as good as the expected one, otherwise what is wrong."""
        if self.error is not None or expected.error is not None:
            return _error_difference(self.error, expected.error)
        problem = difference(expected.value, self.value, tolerance)
        if problem is None and self.changed != expected.changed:
            names = ", ".join(f"`{name}`" for name in self.changed) or "nothing"
            return (
                f"The result is right, but it changed {names} in place. "
                "The caller still needs the old values."
            )
        return problem


class WeightsDoNotFit(Exception):
    """The reference's weights cannot be loaded into the module that the learner built."""


def is_stub_error(error: Exception | None) -> bool:
    """True for the `raise NotImplementedError` of an untouched stub.

    PyTorch raises the same class for operations that a dtype does not support, so the line that
    raised it must say so.
    """
    if type(error) is not NotImplementedError:
        return False
    frame = traceback.extract_tb(error.__traceback__)[-1]
    line = linecache.getline(frame.filename, frame.lineno).strip()
    return line.startswith("raise NotImplementedError") if line else not error.args


def run_case(fn: Callable, case: Case, reference: Callable, *, seed: int = 0) -> Outcome:
    """Call `fn` on a copy of the case's inputs, with random generators set to `seed`."""
    args, kwargs, inputs = (copy.deepcopy(part) for part in (case.args, case.kwargs, case.inputs))
    with _random_state(seed):
        try:
            if inputs is None:
                value = fn(*args, **kwargs)
            else:
                value = _run_module(fn, reference, args, kwargs, inputs)
        except Exception as error:  # whatever a learner's code raises becomes a message
            return Outcome(error=error)
    if inputs is None:
        before, after = _named(reference, case.args, case.kwargs), _named(reference, args, kwargs)
    else:
        before, after = (_numbered(case.inputs), _numbered(inputs))
    changed = [name for name, item in before.items() if _was_changed(item, after[name])]
    return Outcome(value, changed=tuple(changed))


def _run_module(
    build: Callable, reference: Callable, args: tuple, kwargs: Mapping, inputs: tuple
) -> Any:
    module = build(*args, **kwargs)
    if not isinstance(module, nn.Module):
        return module
    weights = _weights(reference, args, kwargs)
    _require_same_parameters(weights, module.state_dict())
    module.load_state_dict(weights)
    with torch.no_grad():
        return module.eval()(*inputs)


def _weights(reference: Callable, args: tuple, kwargs: Mapping) -> dict[str, torch.Tensor]:
    """Random weights for the reference, biases and norms included: zeros and ones hide mistakes."""
    with _random_state(0):
        state = reference(*copy.deepcopy(args), **copy.deepcopy(kwargs)).state_dict()
        generator = torch.Generator().manual_seed(0)
        return {
            name: value + 0.3 * torch.randn(value.shape, generator=generator).to(value)
            if value.is_floating_point()
            else value
            for name, value in state.items()
        }


def _require_same_parameters(expected: Mapping, got: Mapping) -> None:
    missing = [f"`{name}`" for name in expected if name not in got]
    extra = [f"`{name}`" for name in got if name not in expected]
    if missing or extra:
        parts = [f"it lacks {', '.join(missing)}"] if missing else []
        parts += [f"it has {', '.join(extra)}, which was not asked for"] if extra else []
        raise WeightsDoNotFit(f"The parameters differ: {'; '.join(parts)}.")
    for name, value in expected.items():
        if got[name].shape != value.shape:
            raise WeightsDoNotFit(
                f"Parameter `{name}`: expected shape {tuple(value.shape)}, "
                f"got {tuple(got[name].shape)}."
            )


def _named(fn: Callable, args: tuple, kwargs: Mapping) -> dict[str, Any]:
    """The arguments by the reference's parameter names, where it tells them."""
    try:
        return dict(inspect.signature(fn).bind(*args, **kwargs).arguments)
    except ValueError:  # functions written in C have no signature
        return {**_numbered(args), **kwargs}


def _numbered(args: tuple) -> dict[str, Any]:
    return {f"input {index}": item for index, item in enumerate(args)}


def _was_changed(before: Any, after: Any) -> bool:
    if isinstance(before, nn.Module):
        before, after = before.state_dict(), after.state_dict()
    if callable(before):
        return False
    return difference(before, after, EXACT) is not None


@contextmanager
def _random_state(seed: int) -> Iterator[None]:
    """Fixed random generators inside, the caller's untouched outside."""
    python, numpy = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)


def _error_difference(error: Exception | None, expected: Exception | None) -> str | None:
    if error is None:
        return f"It should raise {type(expected).__name__} here, and did not."
    if type(error) is type(expected) and not isinstance(error, WeightsDoNotFit):
        return None
    if isinstance(error, WeightsDoNotFit):
        return None if str(error) == str(expected) else str(error)
    text = str(error).strip()
    first_line = text.splitlines()[0] if text else ""
    said = f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
    if expected is not None:
        return f"It should raise {type(expected).__name__} here, and raised {said}"
    where = _own_line(error)
    return f"It raised {said}" + (f"\n{where}" if where else "")


def _own_line(error: Exception) -> str:
    """The learner's line that led to the error, without the libraries' part of the traceback."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(part in frame.filename for part in _LIBRARIES) and frame.line
    ]
    return f"Line {own[-1].lineno} of your cell: `{own[-1].line}`" if own else ""
