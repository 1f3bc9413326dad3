"""Parallel pieces in one process: shares and stages. Real processes: test_parallel_run."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from zoo_lessons.deploy.parallel import (
    ViTStage,
    layers_of_stage,
    part_of,
    qkv_outputs,
    split_block,
)
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.models.vit import ViT, ViTConfig

CONFIG = ViTConfig(
    image_size=8, patch_size=4, d_model=12, num_layers=5, num_heads=4, d_ff=20, num_labels=3
)


class OneRank:
    """A team whose other members are played by the test: it keeps what this one puts into sums."""

    def __init__(self, rank, size):
        self.rank, self.size, self.sent = rank, size, []

    def sum(self, x):
        self.sent.append(x)
        return x


def model(config=CONFIG):
    torch.manual_seed(0)
    found = ViT(config).double()
    for parameter in found.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return found


def test_shares_are_neighbours_and_cover_everything():
    parts = [part_of(12, rank, 3).tolist() for rank in range(3)]
    assert parts[1] == [4, 5, 6, 7]
    assert sum(parts, []) == list(range(12))
    with pytest.raises(ValueError, match="must be divisible"):
        part_of(10, 0, 3)


def test_each_rank_gets_queries_keys_and_values_of_its_heads():
    assert qkv_outputs(2, 3, 1, 2).tolist() == [3, 4, 5, 9, 10, 11, 15, 16, 17]
    everything = torch.cat([qkv_outputs(4, 3, rank, 2) for rank in range(2)])
    assert sorted(everything.tolist()) == list(range(36))


@pytest.mark.parametrize("size", [2, 4])
def test_the_ranks_parts_of_a_feed_forward_layer_sum_to_the_whole(size):
    block = model().layers[0]
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    bias = block.feed_forward.down.bias
    parts = [split_block(block, OneRank(rank, size)).feed_forward for rank in range(size)]
    y = sum(part(x) - bias for part in parts) + bias
    torch.testing.assert_close(y, block.feed_forward(x))
    assert all(part.up.weight.shape == (20 // size, 12) for part in parts)


@pytest.mark.parametrize("size", [2, 4])
def test_the_ranks_heads_sum_to_the_whole_attention(size):
    block = model().layers[0]
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    bias = block.attention.out.bias
    parts = [split_block(block, OneRank(rank, size)).attention for rank in range(size)]
    y = sum(part(x) - bias for part in parts) + bias
    torch.testing.assert_close(y, block.attention(x))
    assert [part.num_heads for part in parts] == [4 // size] * size


def test_a_split_block_sums_twice_forward_and_twice_backward():
    team = OneRank(0, 2)
    part = split_block(model().layers[0], team)
    part(torch.randn(1, 3, 12, dtype=torch.float64, requires_grad=True)).sum().backward()
    assert len(team.sent) == 4
    assert {tuple(x.shape) for x in team.sent} == {(1, 3, 12)}


def test_the_whole_block_stays_whole():
    block = model().layers[0]
    before = {name: p.clone() for name, p in block.named_parameters()}
    part = split_block(block, OneRank(1, 2))
    with torch.no_grad():
        part.feed_forward.up.weight += 1
    assert all(torch.equal(p, before[name]) for name, p in block.named_parameters())


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="dropout 0.1"):
        split_block(EncoderBlock(12, 4, 20, dropout=0.1), OneRank(0, 2))
    with pytest.raises(ValueError, match="must be divisible"):
        split_block(EncoderBlock(12, 4, 20), OneRank(0, 3))


@pytest.mark.parametrize("pooling", ["class", "mean"])
@pytest.mark.parametrize("stages", [1, 2, 3, 5])
def test_stages_in_a_row_are_the_model(stages, pooling):
    whole = model(ViTConfig(**{**vars(CONFIG), "pooling": pooling}))
    images = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    x = images
    names = []
    for stage in range(stages):
        part = ViTStage(whole, stage, stages)
        names += [name for name, _ in part.named_parameters()]
        x = part(x)
    assert torch.equal(x, whole(images).logits)
    assert sorted(names) == sorted(name for name, _ in whole.named_parameters())


def test_layers_are_dealt_out_evenly():
    assert [list(layers_of_stage(5, stage, 2)) for stage in range(2)] == [[0, 1, 2], [3, 4]]
    with pytest.raises(ValueError, match="stage=2 of stages=2"):
        layers_of_stage(5, 2, 2)
    with pytest.raises(ValueError, match="num_layers=5"):
        layers_of_stage(5, 0, 6)


def test_one_way_back_per_copy():
    """With both ranks played, the gradients of what enters sum to the whole layer's."""
    block = model().layers[0]
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    target = torch.randn(2, 5, 12, dtype=torch.float64)
    whole_x = x.clone().requires_grad_()
    F.mse_loss(block.feed_forward(whole_x), target).backward()
    gradient = torch.autograd.grad(
        F.mse_loss(block.feed_forward(x), target), block.feed_forward.down.bias
    )[0]  # of the bias, where ranks agree
    teams = [OneRank(rank, 2) for rank in range(2)]
    parts = [split_block(block, team).feed_forward for team in teams]
    y = block.feed_forward(x).detach().requires_grad_()
    F.mse_loss(y, target).backward()
    for part in parts:
        part(x.clone().requires_grad_()).backward(y.grad)
    torch.testing.assert_close(teams[0].sent[1] + teams[1].sent[1], whole_x.grad)
    torch.testing.assert_close(parts[0].down.bias.grad, gradient)
