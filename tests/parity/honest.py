"""What makes a parity test honest: random weights everywhere, inputs that matter, tight bounds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from zoo_lessons.parity import randomise, relative_difference
from zoo_lessons.weights import load_pretrained

__all__ = [
    "assert_image_matters",
    "assert_inputs_matter",
    "assert_same",
    "assert_same_from_file",
    "randomise",
    "relative_difference",
]


def assert_same(ours: object, theirs: object, fields: list[str], bound: float, rows=...) -> None:
    """Compare the named output fields within `bound`, at `rows` only (a mask, for padding)."""
    for field in fields:
        a, b = getattr(ours, field), getattr(theirs, field)
        if rows is not ... and a.shape[:2] == rows.shape:
            a, b = a[rows], b[rows]
        found = relative_difference(a, b)
        assert found <= bound, f"{field}: relative difference {found:.2e} > {bound:.0e}"


def assert_inputs_matter(run: Callable[..., Tensor], inputs: dict[str, Tensor], changed: dict):
    """Each input, when it changes, must change the output: otherwise parity shows nothing."""
    before = run(**inputs)
    for name, value in changed.items():
        after = run(**{**inputs, name: value})
        assert (after - before).abs().max() > 1e-3, f"the output does not depend on {name}"


def assert_image_matters(ours: nn.Module, pixel_values: Tensor) -> None:
    """A classifier of images gives other logits for the mirrored images."""
    with torch.no_grad():
        assert_inputs_matter(
            lambda pixel_values: ours(pixel_values).logits,
            {"pixel_values": pixel_values},
            {"pixel_values": pixel_values.flip(-1)},
        )


def assert_same_from_file(theirs: nn.Module, pixel_values: Tensor, folder: Path) -> None:
    """A classifier of images loads from the names that `save_pretrained` writes to a file."""
    theirs.save_pretrained(folder)
    with torch.no_grad():
        assert_same(load_pretrained(folder)(pixel_values), theirs(pixel_values), ["logits"], 1e-5)
