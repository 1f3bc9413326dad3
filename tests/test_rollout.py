"""Attention rollout: by hand, by paths, and what it must keep."""

import itertools

import pytest
import torch

from zoo_lessons.rollout import attention_rollout


def random_weights(layers=3, tokens=4):
    generator = torch.Generator().manual_seed(0)
    shape = (layers, 2, 5, tokens, tokens)
    return torch.randn(shape, generator=generator, dtype=torch.float64).softmax(dim=-1)


def test_two_layers_by_hand():
    first = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    second = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    weights = torch.stack([first, second])[:, None, None]  # one image, one head
    expected = second @ first
    torch.testing.assert_close(attention_rollout(weights, residual=False)[0], expected)
    mixed = (0.5 * second + 0.5 * torch.eye(2)) @ (0.5 * first + 0.5 * torch.eye(2))
    torch.testing.assert_close(attention_rollout(weights)[0], mixed)


def test_sum_over_all_paths():
    weights = random_weights()
    mean = weights.mean(dim=2)[:, 0]
    expected = torch.zeros(4, 4, dtype=torch.float64)
    for path in itertools.product(range(4), repeat=4):  # input, after layers 0, 1 and 2
        steps = [mean[layer, path[layer + 1], path[layer]] for layer in range(3)]
        expected[path[3], path[0]] += torch.stack(steps).prod()
    torch.testing.assert_close(attention_rollout(weights, residual=False)[0], expected)


@pytest.mark.parametrize("residual", [True, False])
def test_rows_sum_to_one(residual):
    rollout = attention_rollout(random_weights(), residual)
    assert rollout.shape == (2, 4, 4)
    torch.testing.assert_close(rollout.sum(-1), torch.ones(2, 4, dtype=torch.float64))


def test_no_mixing_leaves_the_input():
    weights = torch.eye(4).expand(3, 1, 2, 4, 4)
    torch.testing.assert_close(attention_rollout(weights)[0], torch.eye(4))


def test_other_shapes():
    with pytest.raises(ValueError, match=r"shape \(1, 2, 3, 4\), expected \(layers, batch, heads"):
        attention_rollout(torch.zeros(1, 2, 3, 4))
    with pytest.raises(ValueError, match="one sequence attending to itself"):
        attention_rollout(torch.zeros(1, 1, 1, 3, 4))
