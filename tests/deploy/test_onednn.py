"""oneDNN's linear layers give what `nn.Linear` gives, and INT8 what integers by hand give."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo_lessons.deploy.onednn import (
    FUSED,
    Grid,
    Int8Linear,
    PackedLinear,
    StaticInt8Linear,
    int8_linears,
    is_available,
    pack_linears,
    static_int8_linears,
)
from zoo_lessons.deploy.quantize import quantize_matrix
from zoo_lessons.deploy.quantized_layers import calibrate
from zoo_lessons.layers.blocks import ACTIVATIONS, EncoderBlock
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


def product_by_hand(linear: nn.Linear, x: torch.Tensor, low: float, high: float) -> torch.Tensor:
    """An integer product on the input's grid from low to high, scaled back: float64."""
    grid = Grid.over(low, high)
    stored = quantize_matrix(linear.weight.detach(), 8, "channel")
    sums = (grid.round(x).long() - grid.zero_point) @ stored.values.long().T
    scaled = sums.double() * grid.scale * stored.scale[:, 0].double()
    return scaled if linear.bias is None else scaled + linear.bias.detach().double()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 24), (2, 7, 24), (1, 1, 24)])
def test_int8_is_the_integers_by_hand(bias, shape):
    """sum of (q_x - z)(q_w), times both scales, plus the bias: in int64 and float64."""
    linear, x = nn.Linear(24, 40, bias=bias), 3 * torch.randn(*shape) + 1
    by_hand = product_by_hand(linear, x, x.min().item(), x.max().item())
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
    grid = Grid.over(x.min().item(), x.max().item())
    q = grid.round(x)
    assert q.dtype == torch.uint8
    assert 0 <= grid.zero_point <= 255
    back = (q.float() - grid.zero_point) * grid.scale
    torch.testing.assert_close(back, x, rtol=0, atol=0.51 * grid.scale)


def test_numbers_beyond_the_ends_are_cut_off():
    grid = Grid.over(-1.0, 4.1)  # steps of 0.02
    assert grid.round(torch.tensor([-9.0, -1.0, 0.0, 4.1, 9.0])).tolist() == [0, 0, 50, 255, 255]


@pytest.mark.parametrize("bias", [True, False])
def test_static_has_its_range_from_before(bias):
    linear, x = nn.Linear(24, 40, bias=bias), 3 * torch.randn(2, 7, 24)
    layer = StaticInt8Linear(linear, -2.0, torch.tensor(5.0))
    found = layer(x)
    torch.testing.assert_close(
        found.double(), product_by_hand(linear, x, -2.0, 5.0), rtol=1e-5, atol=1e-5
    )
    assert torch.equal(layer(Grid.over(-2.0, 5.0).round(x)), found)  # rounded by someone else


@pytest.mark.parametrize("activation", FUSED)
def test_activation_and_rounding_inside_the_kernel(activation):
    """The same integers as after a float product, the activation, and a rounding of its own."""
    linear, x = nn.Linear(24, 40), 3 * torch.randn(7, 24)
    apart = ACTIVATIONS[activation](product_by_hand(linear, x, -5.0, 5.0))
    grid = Grid.over(apart.min().item(), 0.8 * apart.max().item())
    layer = StaticInt8Linear(linear, -5.0, 5.0, activation=activation, output=grid)
    expected, found = grid.round(apart.float()).int(), layer(x).int()
    assert (found - expected).abs().max() <= 1  # halves may go either way
    assert (found == expected).double().mean() > 0.95


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


@pytest.mark.parametrize(("activation", "fused"), [("gelu", True), ("relu", True), ("silu", False)])
def test_a_whole_model_with_fixed_ranges(activation, fused):
    block = EncoderBlock(32, 4, 64, activation=activation).eval()
    x = torch.randn(2, 9, 32)
    ranges = calibrate(block, [{"x": x}])
    made = static_int8_linears(block, ranges)
    with torch.no_grad():
        expected = block(x)
        error = (made(x) - expected).norm() / expected.norm()
    assert 1e-4 < error < 0.05
    assert sum(isinstance(m, StaticInt8Linear) for m in made.modules()) == 4
    assert isinstance(made.feed_forward, nn.Sequential) == fused
    assert isinstance(block.feed_forward.up, nn.Linear)  # the original is left as it was


def test_fixed_ranges_need_a_range_for_each_layer_and_eval_mode():
    block = EncoderBlock(32, 4, 64)
    ranges = calibrate(block.eval(), [{"x": torch.randn(2, 9, 32)}])
    with pytest.raises(ValueError, match=r"EncoderBlock is in training mode: call model.eval\(\)"):
        static_int8_linears(block.train(), ranges)
    del ranges["feed_forward.down"]
    with pytest.raises(KeyError, match="feed_forward.down"):
        static_int8_linears(block.eval(), ranges)
