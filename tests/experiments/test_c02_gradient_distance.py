"""The gradient-distance experiment: its gradients, its fits and its verdict."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments import c02_gradient_distance as c02
from zoo_lessons.training import seed_everything


def test_gradients_agree_with_finite_differences():
    seed_everything(0)
    model = c02.ATTENDING["attention"]().double()
    seed_everything(1)
    norms = c02.gradient_norms(model, distance=3)

    seed_everything(1)
    x = torch.randn(1, 4, c02.D_MODEL, dtype=torch.float64)
    direction = torch.nn.functional.normalize(torch.randn(c02.D_MODEL, dtype=torch.float64), dim=0)
    gradient = np.zeros(c02.D_MODEL)
    with torch.no_grad():
        for column in range(c02.D_MODEL):
            shifted = [x.clone(), x.clone()]
            for copy, shift in zip(shifted, (1e-5, -1e-5), strict=True):
                copy[0, 0, column] += shift
            high, low = (model(copy)[0, -1] @ direction for copy in shifted)
            gradient[column] = (high - low) / 2e-5
    assert norms[0] == pytest.approx(np.linalg.norm(gradient), rel=1e-6)


def test_the_rnn_forgets_and_attention_does_not():
    seed_everything(0)
    rnn = c02.gradient_norms(c02.RECURRENT["RNN"]().double(), 32)
    attention = c02.gradient_norms(c02.ATTENDING["attention"]().double(), 32)
    assert rnn[0] / rnn[-1] < 1e-6
    assert attention[0] / attention.mean() > 0.3


def test_the_forget_bias_is_one_in_all():
    seed_everything(0)
    layer = c02.lstm_that_remembers().layer
    width = c02.D_MODEL
    bias = layer.bias_ih_l0 + layer.bias_hh_l0
    assert torch.equal(bias[width : 2 * width], torch.ones(width))
    assert bias[:width].abs().max() < 1


def made_up(recurrent, attention, share):
    """Figures in which the recurrent gradients halve and attention's falls like 1/n."""
    distances = np.array(c02.DISTANCES, dtype=float)
    models = {}
    for name in c02.RECURRENT:
        gradient = [(0.5 ** (distances / recurrent)).tolist()] * 3
        halving = c02.tokens_per_halving(gradient)
        assert halving == pytest.approx(recurrent)
        models[name] = {"gradient": gradient, "tokens_per_halving": halving}
    models["attention"] = {
        "gradient": [(attention / distances).tolist()] * 3,
        "share": [[share] * len(distances)] * 3,
        "exponent": {"value": -1.0},
    }
    return models


@pytest.mark.parametrize(
    ("recurrent", "attention", "share", "verdict"),
    [
        (2.0, 1.0, 0.9, "reproduced"),
        (2.0, 1.0, 0.1, "partly"),
        (100.0, 100.0, 0.9, "partly"),
        (1000.0, 1.0, 0.9, "the article is wrong"),
    ],
)
def test_the_verdict_follows_the_figures(recurrent, attention, share, verdict):
    assert c02.judge(made_up(recurrent, attention, share)).verdict == verdict
