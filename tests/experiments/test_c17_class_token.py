"""C17: the verdict follows its thresholds; without positions, patches are a heap."""

from __future__ import annotations

import pytest
import torch

from experiments.c17_class_token import VARIANTS, judge, measure, without_positions


def accuracies(token: float, mean: float) -> dict[str, list[float]]:
    values = {"class token": token, "mean of patches": mean, "class token, no positions": 0.5}
    return {name: [values[name], values[name] + 0.01] for name in VARIANTS}


@pytest.mark.parametrize(
    ("token", "mean", "expected"),
    [
        (0.93, 0.94, "reproduced"),
        (0.93, 0.90, "reproduced"),
        (0.93, 0.96, "partly"),
        (0.89, 0.80, "the article is wrong"),
    ],
)
def test_verdict_follows_the_thresholds(token, mean, expected):
    assert judge(accuracies(token, mean)).verdict == expected


def test_without_positions_the_order_of_patches_does_not_matter():
    model = without_positions().eval()
    images = torch.rand(2, 1, 8, 8)
    moved = images.roll(4, dims=3)  # whole patches change places
    with torch.no_grad():
        assert torch.allclose(model(images).logits, model(moved).logits, atol=1e-5)
    assert not model.embeddings.positions.requires_grad


def test_same_seeds_give_the_same_figures():
    once, again = (measure(range(1), steps=2) for _ in range(2))
    assert once == again and set(once) == set(VARIANTS)
