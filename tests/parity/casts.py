"""References that compute parts of a model in float32, whatever dtype it has.

A comparison in float64 would then stop at float32's precision. So their own code runs with each
such cast turned into one to float64.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch


class _Torch:
    """PyTorch, where float32 means float64."""

    float32 = torch.float64

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


def without_float32(monkeypatch: pytest.MonkeyPatch, modeling: ModuleType) -> None:
    """Let `.to(torch.float32)`, `dtype=torch.float32` and `.float()` mean float64 in `modeling`."""
    monkeypatch.setattr(modeling, "torch", _Torch())
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
