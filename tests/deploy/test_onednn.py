"""oneDNN's linear layers give what `nn.Linear` gives, and INT8 what integers by hand give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo_lessons.deploy.onednn import (
    Int8Linear,
    PackedLinear,
    int8_linears,
    is_available,
    pack_linears,
    to_uint8,
)
from zoo_lessons.deploy.quantize import quantize_matrix
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.training import seed_everything

pytestmark = pytest.mark.skipif(not is_available(), reason="this PyTorch has no oneDNN operators")


@pytest.fixture(autouse=True)
def _seed():
    seed_everything(0)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (1, 1, 24)])
def test_packed_is_the_linear_layer(bias, shape):
    linear, x = nn.Linear(24, 40, bias=bias), torch.randn(*shape)
    torch.testing.assert_close(PackedLinear(linear)(x), linear(x).detach())


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (1, 1, 24)])
def test_int8_is_the_integers_by_hand(bias, shape):
    """sum of (q_x - z)(q_w), times both scales, plus the bias: in int64 and float64."""
    linear, x = nn.Linear(24, 40, bias=bias), 3 * torch.randn(*shape) + 1
    q, scale, zero_point = to_uint8(x)
    stored = quantize_matrix(linear.weight.detach(), 8, "channel")
    sums = (q.long() - zero_point) @ stored.values.long().T
    by_hand = sums.double() * scale * stored.scale[:, 0].double()
    if bias:
        by_hand = by_hand + linear.bias.detach().double()
    found = Int8Linear(linear)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), by_hand, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(found, linear(x).detach(), atol=1e-4)  # rounded, not float32


def test_large_sums_do_not_overflow():
    """4096 products of 255 and 127 need 28 bits: a sum in 16 bits would wrap around."""
    linear = nn.Linear(4096, 3, bias=False)
    with torch.no_grad():
        linear.weight.fill_(1.0)
    x = torch.ones(2, 4096)
    torch.testing.assert_close(Int8Linear(linear)(x), torch.full((2, 3), 4096.0))


@pytest.mark.parametrize(
    "x",
    [
        torch.tensor([[-3.0, 0.0, 5.0]]),
        torch.tensor([[2.0, 3.0, 4.0]]),  # 0 is on the grid, though no number is 0
        torch.tensor([[-4.0, -2.0]]),
        torch.zeros(1, 3),
    ],
)
def test_the_grid_holds_zero_and_both_ends(x):
    q, scale, zero_point = to_uint8(x)
    assert q.dtype == torch.uint8
    assert 0 <= zero_point <= 255
    back = (q.float() - zero_point) * scale
    torch.testing.assert_close(back, x, rtol=0, atol=0.51 * scale)


def test_a_whole_model_and_its_original():
    block = EncoderBlock(32, 4, 64).eval()
    x = torch.randn(2, 9, 32)
    packed, int8 = pack_linears(block), int8_linears(block)
    with torch.no_grad():
        expected = block(x)
        torch.testing.assert_close(packed(x), expected, rtol=1e-4, atol=1e-5)
        error = (int8(x) - expected).norm() / expected.norm()
    assert 1e-4 < error < 0.05
    kinds = [type(m) for m in int8.modules() if isinstance(m, Int8Linear | nn.Linear)]
    assert kinds == [Int8Linear] * 4
    assert isinstance(block.attention.qkv, nn.Linear)  # the original is left as it was
