"""The learning-rate finder: it restores what it touched, and its suggestion trains."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo_lessons.training import fit, learning_rate_finder
from zoo_lessons.training.finder import SMOOTHING, smooth, suggest_rate

INPUTS = torch.randn(256, 8, generator=torch.Generator().manual_seed(0))
TARGETS = torch.tanh(INPUTS @ torch.ones(8, 1))


def batch_at(step):
    rows = torch.arange(step * 32, step * 32 + 32) % 256
    return INPUTS[rows], TARGETS[rows]


def squared_error(model, batch):
    return F.mse_loss(model(batch[0]), batch[1])


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 1))


def test_it_leaves_everything_as_it_was():
    model = network().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    learning_rate_finder(model, batch_at, squared_error, progress=False, seed=1, device="cpu")
    assert torch.equal(torch.rand(3), expected)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_rates_grow_by_one_factor_and_losses_explode():
    found = learning_rate_finder(
        network(),
        batch_at,
        squared_error,
        min_rate=1e-5,
        max_rate=10.0,
        steps=60,
        progress=False,
        device="cpu",
    )
    assert found.rates[0] == pytest.approx(1e-5)
    assert found.rates[-1] == pytest.approx(10.0)
    assert np.allclose(np.diff(np.log(found.rates)), np.log(1e6) / 59)
    assert found.losses[-1] > 2 * found.losses.min()
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 60


def test_the_suggestion_beats_a_hundredth_and_a_hundred_times_it():
    found = learning_rate_finder(network(), batch_at, squared_error, progress=False, device="cpu")

    def final_loss(rate):
        history = fit(network(), batch_at, squared_error, steps=60, lr=rate, progress=False)
        return history.loss[-8:].mean()

    assert final_loss(found.suggestion) < final_loss(found.suggestion / 100)
    assert final_loss(found.suggestion) < final_loss(found.suggestion * 100)


def test_smoothing_is_a_corrected_running_mean():
    losses = np.array([3.0, 1.0, 2.0])
    weights = np.array([SMOOTHING**2, SMOOTHING, 1.0])
    assert smooth(losses)[-1] == pytest.approx((weights * losses).sum() / weights.sum())
    assert smooth(np.full(5, 4.0)) == pytest.approx(np.full(5, 4.0))


def test_the_suggestion_is_a_tenth_of_where_the_loss_is_lowest():
    rates = np.logspace(-5, 0, 6)
    smoothed = np.array([2.0, 1.9, 1.0, 0.9, 9.0, 3.0])
    assert suggest_rate(rates, smoothed) == pytest.approx(1e-3)


def test_weights_come_back_after_an_error():
    model = network()
    before = model[0].weight.clone()

    def broken(model, batch):
        if model[0].weight.ne(before).any():
            raise RuntimeError("broken loss")
        return squared_error(model, batch)

    with pytest.raises(RuntimeError, match="broken loss"):
        learning_rate_finder(model, batch_at, broken, progress=False)
    assert torch.equal(model[0].weight, before)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_rate": 1.0, "max_rate": 0.1}, "0 < min_rate < max_rate, got 1.0 and 0.1"),
        ({"steps": 5}, "steps=5 must be at least 10"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        learning_rate_finder(network(), batch_at, squared_error, **options)
