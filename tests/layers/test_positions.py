"""Positions: the paper's formula, and parity with transformers for T5's bias and RoPE."""

import math

import pytest
import torch
import transformers
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as gptj_rotate
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding, apply_rotary_pos_emb
from transformers.models.t5.modeling_t5 import T5Attention

from tests.parity.honest import relative_difference
from zoo_lessons.layers import (
    LearnedPositions,
    MultiHeadAttention,
    RelativePositionBias,
    Rotary,
    SinusoidalPositions,
    relative_position_bucket,
    sinusoidal_positions,
)


def test_sinusoidal_formula():
    table = sinusoidal_positions(50, 16)
    for position in (0, 1, 37):
        for i in range(8):
            angle = position / 10000 ** (2 * i / 16)
            assert table[position, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[position, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-6)


def test_sinusoidal_layouts_hold_the_same_numbers():
    halves = sinusoidal_positions(9, 6, interleaved=False)
    torch.testing.assert_close(
        halves, torch.cat([sinusoidal_positions(9, 6)[:, s::2] for s in (0, 1)], dim=1)
    )


def test_sinusoidal_dot_product_depends_on_distance_only():
    table = sinusoidal_positions(60, 32).double()
    products = table @ table.T
    for distance in (0, 3, 20):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), rtol=0, atol=1e-5)


def test_sinusoidal_table_grows():
    layer = SinusoidalPositions(8, max_length=4)
    x = torch.zeros(2, 11, 8)
    torch.testing.assert_close(layer(x)[0], sinusoidal_positions(11, 8))
    assert not layer.state_dict()  # nothing to store: the table is a formula
    with pytest.raises(ValueError, match="d_model=7 must be even"):
        sinusoidal_positions(4, 7)


def test_learned_positions():
    layer = LearnedPositions(6, 8)
    x = torch.randn(2, 4, 8)
    torch.testing.assert_close(layer(x) - x, layer.weight[:4].expand(2, 4, 8))
    with pytest.raises(ValueError, match="7 positions, expected at most max_length=6"):
        layer(torch.zeros(1, 7, 8))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "farthest"), [(32, 128), (12, 40)])
def test_buckets_as_in_t5(bidirectional, buckets, farthest):
    distance = torch.arange(-300, 301)
    ours = relative_position_bucket(distance, buckets, farthest, bidirectional)
    theirs = T5Attention._relative_position_bucket(distance, bidirectional, buckets, farthest)
    assert torch.equal(ours, theirs)
    assert ours.min() == 0 and ours.max() == buckets - 1


@pytest.mark.parametrize("bidirectional", [True, False])
def test_bias_as_in_t5(bidirectional):
    config = transformers.T5Config(
        d_model=24, d_kv=6, num_heads=4, relative_attention_num_buckets=16,
        relative_attention_max_distance=50, is_decoder=not bidirectional,
    )  # fmt: skip
    theirs = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    theirs.relative_attention_bias.weight.data.normal_()
    ours = RelativePositionBias(4, 16, 50, bidirectional)
    ours.weight.data.copy_(theirs.relative_attention_bias.weight)
    assert torch.equal(ours(70), theirs.compute_bias(70, 70))
    with pytest.raises(ValueError, match="num_buckets=2"):
        RelativePositionBias(4, 2)


def test_rotary_as_in_llama():
    config = transformers.LlamaConfig(hidden_size=64, num_attention_heads=4, rope_theta=500.0)
    q, k = torch.randn(2, 4, 9, 16), torch.randn(2, 4, 9, 16)
    cos, sin = LlamaRotaryEmbedding(config)(q, torch.arange(9)[None])
    theirs = apply_rotary_pos_emb(q, k, cos, sin)
    base = config.rope_parameters["rope_theta"]
    for ours, expected in zip(Rotary(16, base)(q, k), theirs, strict=True):
        assert relative_difference(ours, expected) <= 1e-6


def test_rotary_as_in_gptj():
    q = torch.randn(2, 9, 4, 16)  # GPT-J rotates (batch, length, heads, head_dim)
    angle = torch.arange(9.0)[:, None] * 10000 ** (-torch.arange(0, 16, 2) / 16)
    expected = gptj_rotate(q, angle.sin()[None], angle.cos()[None])
    ours = Rotary(16, interleaved=True).rotate(q.transpose(1, 2)).transpose(1, 2)
    assert relative_difference(ours, expected) <= 1e-6


@pytest.mark.parametrize("interleaved", [True, False])
def test_rotary_keeps_distance_only(interleaved):
    rotary = Rotary(8, interleaved=interleaved)
    q, k = torch.randn(1, 8, dtype=torch.float64), torch.randn(1, 8, dtype=torch.float64)
    at = lambda m, n: (rotary.rotate(q, m) @ rotary.rotate(k, n).T).item()  # noqa: E731
    assert at(7, 3) == pytest.approx(at(107, 103)) and at(7, 3) != pytest.approx(at(7, 4))
    assert rotary.rotate(q, 5).norm() == pytest.approx(q.norm())


def test_rotary_with_cached_keys():
    rotary = Rotary(8)
    q, k = torch.randn(1, 2, 6, 8), torch.randn(1, 2, 6, 8)
    all_q, all_k = rotary(q, k)
    new_q, again_k = rotary(q[:, :, -1:], k)
    torch.testing.assert_close(new_q, all_q[:, :, -1:])
    torch.testing.assert_close(again_k, all_k)


def test_rotary_in_attention_and_errors():
    layer, x = MultiHeadAttention(16, 2), torch.randn(2, 5, 16)
    assert not torch.allclose(layer(x, rotary=Rotary(8)), layer(x))
    with pytest.raises(ValueError, match="head_dim=7 must be even"):
        Rotary(7)
    with pytest.raises(ValueError, match="width 8, expected head_dim=4"):
        layer(x, rotary=Rotary(4))


def test_attention_alone_is_a_bag_of_words():
    layer, x = MultiHeadAttention(16, 2).eval(), torch.randn(1, 5, 16)
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(layer(x)[:, order], layer(x[:, order]))
    bias = RelativePositionBias(2)(5)
    moved = layer(x[:, order], bias=bias)
    assert not torch.allclose(layer(x, bias=bias)[:, order], moved)
