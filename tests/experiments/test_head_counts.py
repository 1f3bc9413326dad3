"""8, 12 and 16 heads: the task is what it says, and only the weights' size differs."""

from __future__ import annotations

import torch

from experiments.head_counts import LOOK_UPS, draw_sequences, measure_cost, train


def test_every_place_names_the_symbols_before_it():
    x, before = draw_sequences(2, torch.Generator().manual_seed(0))
    assert before.shape == (*x.shape, LOOK_UPS)
    for look_up in range(LOOK_UPS):
        assert torch.equal(before[..., look_up], x.roll(look_up + 1, dims=1))


def test_more_heads_find_more_of_the_symbols():
    assert train(8, seed=0, lr=1e-2, steps=150) > train(1, seed=0, lr=1e-2, steps=150) + 0.1


def test_only_the_weights_depend_on_the_number_of_heads():
    rows = list(measure_cost(rounds=3)["counted"].values())
    assert len({row["parameters"] for row in rows}) == 1
    assert len({row["flops"] for row in rows}) == 1
    assert [row["weights_bytes"] for row in rows] == [4 * h * 128 * 128 for h in (8, 12, 16)]
