"""Blocks: the residual's two forms, activations, and that decoder masks hide the future."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo_lessons.layers import DecoderBlock, EncoderBlock, FeedForward, causal_mask
from zoo_lessons.layers.blocks import ACTIVATIONS, Residual


def test_residual_forms():
    x, f = torch.randn(2, 3, 8), nn.Linear(8, 8)
    norm = nn.LayerNorm(8)
    torch.testing.assert_close(Residual(8, "post", 0.0, 1e-5)(x, f), norm(x + f(x)))
    torch.testing.assert_close(Residual(8, "pre", 0.0, 1e-5)(x, f), x + f(norm(x)))
    with pytest.raises(ValueError, match="norm='sandwich', expected 'post' or 'pre'"):
        Residual(8, "sandwich", 0.0, 1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_feed_forward(name):
    layer, x = FeedForward(8, 20, name), torch.randn(2, 3, 8)
    expected = layer.down(ACTIVATIONS[name](layer.up(x)))
    torch.testing.assert_close(layer(x), expected)


def test_activations():
    x = torch.linspace(-4, 4, 101)
    torch.testing.assert_close(ACTIVATIONS["gelu_new"](x), F.gelu(x, approximate="tanh"))
    assert (ACTIVATIONS["quick_gelu"](x) - F.gelu(x)).abs().max() < 0.03
    with pytest.raises(ValueError, match="'swish' is unknown, expected one of relu"):
        FeedForward(8, 8, "swish")


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_decoder_block_hides_the_future(norm):
    block = DecoderBlock(8, 2, 16, norm=norm).eval()
    x, memory = torch.randn(1, 5, 8), torch.randn(1, 4, 8)
    changed = x.clone()
    changed[:, 3:] += 1
    before, after = (block(y, memory, causal_mask(5)) for y in (x, changed))
    torch.testing.assert_close(before[:, :3], after[:, :3])
    assert not torch.allclose(before[:, 3:], after[:, 3:])
    assert not torch.allclose(before, block(x, memory + 1, causal_mask(5)))


def test_parameter_counts():
    d, f = 8, 16
    norm, attention, feed_forward = 2 * d, 4 * (d * d + d), 2 * d * f + d + f
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert count(EncoderBlock(d, 2, f)) == attention + feed_forward + 2 * norm
    assert count(DecoderBlock(d, 2, f)) == 2 * attention + feed_forward + 3 * norm
