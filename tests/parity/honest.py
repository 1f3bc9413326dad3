"""What makes a parity test honest: random weights everywhere, inputs that matter, tight bounds.

Fresh models hide mistakes: biases and gates start at zero, norms at one. So every parameter and
statistic is drawn anew before two models are compared.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill every parameter with random values: norm weights near 1, all others near 0."""
    generator = torch.Generator().manual_seed(seed)
    norms = {id(m.weight) for m in model.modules() if isinstance(m, nn.LayerNorm)}
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            centre = 1.0 if id(parameter) in norms else 0.0
            parameter.copy_(centre + 0.2 * noise)
    return model.eval()


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """max|ours - theirs| / max|theirs|."""
    assert ours.shape == theirs.shape, f"{tuple(ours.shape)} != {tuple(theirs.shape)}"
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


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
