"""A window seen without copies gives what sparse attention gives, forwards and backwards."""

from __future__ import annotations

import pytest
import torch

from zoo_lessons.layers.attention import MultiHeadAttention, record_attention
from zoo_lessons.layers.sparse_attention import SparseAttention, SparsePattern, replace_attention
from zoo_lessons.layers.window_attention import WindowAttention


def random_qkv(length: int, batch: int = 2, heads: int = 3, head_dim: int = 8):
    chance = torch.Generator().manual_seed(length)
    shape = (3, batch, length, heads, head_dim)
    # As `MultiHeadAttention` makes them: views, in which heads are not contiguous.
    return tuple(torch.randn(shape, generator=chance).transpose(2, 3))


@pytest.mark.parametrize(
    ("length", "radius", "block"),
    [(64, 8, None), (61, 8, None), (50, 7, 16), (50, 16, 5), (5, 8, None), (1, 2, 4), (9, 0, None)],
)
def test_equals_sparse_attention(length, radius, block):
    window = WindowAttention(radius, block)
    general = SparseAttention(SparsePattern(radius, block=block or 4))
    found, expected = [], []
    for layer, results in ((window, found), (general, expected)):
        q, k, v = (x.clone().requires_grad_() for x in random_qkv(length))
        output = layer(q, k, v)
        output.square().sum().backward()
        results += [output.detach(), q.grad, k.grad, v.grad]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_training_after_inference_of_the_same_length():
    """The mask is kept between calls; one made in inference mode would not serve training."""
    layer = WindowAttention(5)
    with torch.inference_mode():
        expected = layer(*random_qkv(37))
    q, k, v = (x.requires_grad_() for x in random_qkv(37))
    output = layer(q, k, v)
    output.sum().backward()
    torch.testing.assert_close(output, expected)


def test_padding_and_recording_go_the_general_way():
    module = MultiHeadAttention(16, 2).eval()
    x = torch.randn(2, 20, 16)
    keep = torch.ones(2, 1, 1, 20, dtype=torch.bool)
    keep[1, :, :, 12:] = False
    general = replace_attention(module, [SparseAttention(SparsePattern(4, block=4))])
    with torch.no_grad():
        padded, plain = general(x, mask=keep), general(x)
    window = replace_attention(module, [WindowAttention(4)])
    with torch.no_grad():
        torch.testing.assert_close(window(x, mask=keep), padded)
        with record_attention(window) as maps:
            torch.testing.assert_close(window(x), plain)
    weights = maps[0].weights
    assert weights.shape == (2, 2, 20, 20)
    assert not weights[..., SparsePattern(4).mask(20).logical_not()].any()


def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="radius=-1"):
        WindowAttention(-1)
    q, k, v = random_qkv(8)
    with pytest.raises(ValueError, match="bias"):
        WindowAttention(2)(q, k, v, bias=torch.zeros(8, 8))
