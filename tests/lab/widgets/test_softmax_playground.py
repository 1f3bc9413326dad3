"""Softmax playground: the seeded numbers, the statistics, and what the picture says."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import SoftmaxPlayground
from zoo_lessons.lab.widgets.seeded import uniforms
from zoo_lessons.lab.widgets.softmax_playground import (
    D_K_VALUES,
    softmax_statistics,
    standard_normals,
)


@pytest.mark.parametrize("seed", [0, 1, 20])
def test_normals_are_box_muller_of_the_shared_numbers(seed):
    uniform = iter(uniforms(seed, 8).tolist())
    expected = []
    for _ in range(4):
        radius, angle = math.sqrt(-2 * math.log(1 - next(uniform))), 2 * math.pi * next(uniform)
        expected += [radius * math.cos(angle), radius * math.sin(angle)]
    np.testing.assert_allclose(standard_normals(seed, 7), expected[:7], rtol=1e-12)


def test_normals_have_mean_0_and_variance_1():
    draws = standard_normals(0, 100_000)
    assert abs(draws.mean()) < 0.01
    assert abs(draws.var() - 1) < 0.01


def test_statistics_agree_with_autograd():
    scores = torch.tensor([0.3, -2.0, 1.7, 0.0], dtype=torch.float64)
    p = scores.softmax(0)
    jacobian = torch.autograd.functional.jacobian(lambda s: s.softmax(0), scores)
    weights, entropy, gradient = softmax_statistics(scores.numpy())
    np.testing.assert_allclose(weights, p, rtol=1e-12)
    assert entropy == pytest.approx(torch.distributions.Categorical(probs=p).entropy().item())
    assert gradient == pytest.approx(jacobian.norm().item())


def test_statistics_at_the_extremes():
    _, entropy, gradient = softmax_statistics(np.array([[0.0, 0, 0, 0], [1e4, 0, 0, 0]]))
    np.testing.assert_allclose(entropy, [math.log(4), 0], atol=1e-12)
    np.testing.assert_allclose(gradient, [math.sqrt(3) / 4, 0], atol=1e-12)


def test_variance_of_a_score_is_d_k():
    for d_k in (4, 64, 512):
        scores = np.concatenate([SoftmaxPlayground(d_k=d_k, seed=s).scores() for s in range(1, 21)])
        assert 0.6 < scores.var() / d_k < 1.6


def test_without_division_the_softmax_saturates_and_its_gradient_dies():
    entropy, gradient = SoftmaxPlayground().averages()
    plain, divided = 0, 1
    assert entropy[plain, -1] < 0.1 * entropy[plain, 0]
    assert gradient[plain, -1] < 0.2 * gradient[plain, 0]
    # Divided, neither moves by more than the noise of the draws.
    assert np.ptp(entropy[divided]) < 0.1
    assert np.ptp(gradient[divided]) < 0.03


def test_averages_are_means_over_single_draws():
    widget = SoftmaxPlayground()
    widest = D_K_VALUES[-1]
    vectors = standard_normals(0, widget.draws * 9 * widest).reshape(widget.draws, 9, widest)
    scores = np.einsum("dki,di->dk", vectors[:, 1:, :48], vectors[:, 0, :48])
    at_48 = D_K_VALUES.index(48)
    entropy, gradient = widget.averages()
    for row, divisor in ((0, 1), (1, math.sqrt(48))):
        _, expected_entropy, expected_gradient = softmax_statistics(scores / divisor)
        assert entropy[row, at_48] == pytest.approx(expected_entropy.mean())
        assert gradient[row, at_48] == pytest.approx(expected_gradient.mean())


@pytest.mark.parametrize("bad", [{"d_k": 5}, {"seed": 0}, {"seed": 21}, {"scaled": "yes"}])
def test_other_values_are_refused(bad):
    with pytest.raises(traitlets.TraitError):
        SoftmaxPlayground(**bad)
