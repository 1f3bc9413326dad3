"""C06's encoders, its count of pairs, and its verdict."""

from __future__ import annotations

import pytest
import torch

from experiments.c06_hierarchical import (
    D_MODEL,
    FULL,
    HIERARCHICAL,
    LOCAL_LAYERS,
    WINDOW,
    computed_pairs,
    encoder,
    judge,
    passes,
)
from zoo_lessons.layers import record_attention


def test_the_low_layers_see_windows_and_the_top_one_sees_all():
    torch.manual_seed(0)
    x = torch.randn(1, 150, D_MODEL)
    for name, local in LOCAL_LAYERS.items():
        model = encoder(local)
        with torch.no_grad(), record_attention(model) as maps:
            model(x)
        seen = maps.stack()[:, 0, 0] > 0  # (layers, queries, keys)
        assert [layer.all().item() for layer in seen] == [False] * local + [True] * (4 - local)
        share = seen.double().mean().item()
        assert share == pytest.approx(computed_pairs(local, 150))
        assert passes({name: model}, x)[name]().shape == x.shape


def quality(far: float, full: float = 1.0) -> dict:
    accuracies = {FULL: full, HIERARCHICAL: far, WINDOW: 0.1}
    return {
        name: {"near": [1.0, 1.0, 1.0], "far": [value, value, value]}
        for name, value in accuracies.items()
    }


def test_verdict():
    assert judge(True, 0.3, 0.5, quality(0.96)).verdict == "reproduced"
    assert judge(True, 0.3, 0.5, quality(0.9)).verdict == "partly"
    assert judge(True, 0.3, 0.5, quality(0.9, full=0.94)).verdict == "reproduced"
    assert judge(False, 0.3, 0.9, quality(0.96)).verdict == "partly"
    assert judge(True, 0.6, 0.5, quality(0.96)).verdict == "partly"
    assert judge(False, 0.3, 0.9, quality(0.5)).verdict == "the article is wrong"
