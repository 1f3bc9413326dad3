"""The tools of the parity tests themselves."""

import pytest
import torch
from torch import nn

from zoo_lessons.parity import randomise, relative_difference


def test_randomise_leaves_nothing_at_its_start():
    model = nn.Sequential(nn.Linear(50, 40), nn.LayerNorm(40), nn.Embedding(9, 30, padding_idx=0))
    before = [p.clone() for p in model.parameters()]
    assert randomise(model) is model and not model.training
    for old, new in zip(before, model.parameters(), strict=True):
        assert not (old == new).any()
    assert abs(model[1].weight.mean() - 1) < 0.2 and abs(model[0].weight.mean()) < 0.1
    first = model[0].weight.clone()
    assert torch.equal(randomise(model)[0].weight, first)
    assert not torch.equal(randomise(model, seed=1)[0].weight, first)


def test_relative_difference():
    ours, theirs = torch.tensor([1.0, -8.0]), torch.tensor([2.0, -8.0])
    assert relative_difference(ours, theirs) == 1 / 8
    with pytest.raises(ValueError, match=r"\(2,\) and \(1,\)"):
        relative_difference(ours, theirs[:1])
