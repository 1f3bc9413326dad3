"""Grids, granularity, packing and calibration, against loops in exact arithmetic and PyTorch."""

from __future__ import annotations

import math

import pytest
import torch

from zoo_lessons.deploy.quantize import (
    CALIBRATIONS,
    RangeObserver,
    dequantize,
    integer_range,
    pack_int4,
    quantize,
    quantize_matrix,
    scale_and_zero_point,
    unpack_int4,
)


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("bits", "symmetric", "expected"),
    [(8, False, (-128, 127)), (8, True, (-127, 127)), (4, False, (-8, 7)), (2, True, (-1, 1))],
)
def test_integer_range(bits, symmetric, expected):
    assert integer_range(bits, symmetric) == expected


@pytest.mark.parametrize("bits", [1, 9])
def test_other_bits_are_refused(bits):
    with pytest.raises(ValueError, match=f"bits={bits} must lie between 2 and 8"):
        integer_range(bits)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
def test_symmetric_grid_covers_the_larger_end(bits):
    scale, zero_point = scale_and_zero_point(
        torch.tensor([-3.0, -0.5]), torch.tensor([1.0, 2.0]), bits, symmetric=True
    )
    largest = 2 ** (bits - 1) - 1
    assert torch.allclose(scale * largest, torch.tensor([3.0, 2.0]))
    assert zero_point.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("low", "high"), [(-1.0, 3.0), (0.0, 6.0), (0.5, 6.0), (-6.0, -2.0), (-0.17, 24.6)]
)
def test_asymmetric_grid_holds_zero_exactly_and_both_ends_nearly(low, high):
    grid = scale_and_zero_point(torch.tensor(low), torch.tensor(high))
    zero = quantize(torch.zeros(()), *grid)
    assert dequantize(zero, *grid) == 0
    for end in (low, high):
        back = dequantize(quantize(torch.tensor(end), *grid), *grid)
        assert abs(back - end) <= grid[0] * 0.51


def test_quantize_equals_a_loop():
    x = 3 * random(200)
    scale, zero_point = scale_and_zero_point(torch.tensor(-2.0), torch.tensor(3.5))
    s, z = scale.item(), zero_point.item()
    loop = [min(127, max(-128, round(value / s) + z)) for value in x.tolist()]
    assert quantize(x, scale, zero_point).tolist() == loop
    assert {-128, 127} <= set(loop)  # both ends saturate


def test_quantize_equals_pytorch():
    x = 2 * random(64, 16)
    scale, zero_point = scale_and_zero_point(x.min(), x.max())
    theirs = torch.fake_quantize_per_tensor_affine(x, scale, zero_point, -128, 127)
    assert torch.allclose(dequantize(quantize(x, scale, zero_point), scale, zero_point), theirs)


def test_error_inside_the_range_is_at_most_half_a_step():
    x = random(1000)
    grid = scale_and_zero_point(x.min(), x.max())
    error = (dequantize(quantize(x, *grid), *grid) - x).abs().max()
    assert error <= grid[0] * 0.5001


def test_a_row_of_zeros_stays_zero():
    for symmetric in (True, False):
        found = quantize_matrix(torch.zeros(2, 4), symmetric=symmetric)
        assert torch.equal(found.dequantize(), torch.zeros(2, 4))


def test_ranges_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="must not lie above"):
        scale_and_zero_point(torch.tensor(2.0), torch.tensor(1.0))
    with pytest.raises(ValueError, match="must be finite"):
        scale_and_zero_point(torch.tensor(0.0), torch.tensor(math.inf))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(
    ("granularity", "shape"), [("tensor", (1, 1)), ("channel", (6, 1)), ("group", (6, 4))]
)
def test_granularity(granularity, shape, symmetric):
    x = random(6, 32) * torch.logspace(-2, 1, 6)[:, None]  # rows of very different size
    found = quantize_matrix(x, 4, granularity, group_size=8, symmetric=symmetric)
    assert found.scale.shape == found.zero_point.shape == shape
    assert found.values.dtype == torch.int8
    blocks = {"tensor": x[None], "channel": x[:, None], "group": x.view(24, 1, 8)}[granularity]
    expected = []
    for block in blocks:
        grid = scale_and_zero_point(block.min(), block.max(), 4, symmetric)
        expected.append(dequantize(quantize(block, *grid, 4, symmetric), *grid))
    assert torch.allclose(found.dequantize(), torch.stack(expected).view(6, 32))


def test_finer_grids_err_less():
    x = random(16, 64) * torch.logspace(-1, 1, 16)[:, None]
    errors = [
        (quantize_matrix(x, 4, kind, group_size=16).dequantize() - x).square().mean().item()
        for kind in ("tensor", "channel", "group")
    ]
    assert errors[0] > errors[1] > errors[2]


def test_stored_bits_count_the_scales():
    x = random(8, 64)
    assert quantize_matrix(x, 8, "channel").stored_bits == 8 + 32 / 64
    assert quantize_matrix(x, 4, "group", group_size=32).stored_bits == 4 + 32 / 32
    assert quantize_matrix(x, 4, "group", group_size=32, symmetric=False).stored_bits == 5 + 4 / 32


def test_matrix_errors():
    with pytest.raises(ValueError, match="expected a matrix"):
        quantize_matrix(torch.zeros(2, 2, 2))
    with pytest.raises(ValueError, match="granularity 'row' is unknown"):
        quantize_matrix(torch.zeros(2, 2), granularity="row")
    with pytest.raises(ValueError, match="group_size=3 must divide the 8 columns"):
        quantize_matrix(torch.zeros(2, 8), granularity="group", group_size=3)


def test_pack_int4_halves_the_bytes_and_loses_nothing():
    values = torch.arange(-8, 8, dtype=torch.int8).repeat(3).view(4, 12)
    packed = pack_int4(values)
    assert packed.dtype == torch.uint8
    assert packed.shape == (4, 6)
    assert torch.equal(unpack_int4(packed), values)
    with pytest.raises(ValueError, match="3 columns cannot be paired"):
        pack_int4(values[:, :3])
    with pytest.raises(ValueError, match="do not fit into 4 bits"):
        pack_int4(values * 2)


def test_minmax_spans_all_batches():
    observer = RangeObserver()
    observer.observe(torch.tensor([[-1.0, 2.0]]))
    observer.observe(torch.tensor([0.5, 3.0]))
    assert [end.item() for end in observer.range()] == [-1.0, 3.0]


def test_percentile_leaves_the_outermost_numbers_out():
    x = torch.linspace(-1, 1, 10_001)
    x[0], x[-1] = -50, 80
    observer = RangeObserver("percentile", share=0.99, sample=10**6)
    observer.observe(x)
    low, high = observer.range()
    assert low == pytest.approx(-0.99, abs=0.01)
    assert high == pytest.approx(0.99, abs=0.01)


def test_mse_cuts_an_outlier_off_where_bits_are_few():
    x = torch.cat([random(20_000), torch.tensor([60.0])])
    ranges = {}
    for bits in (4, 8):
        observer = RangeObserver("mse", bits=bits, sample=10**6)
        observer.observe(x)
        ranges[bits] = observer.range()[1].item()
        wide = RangeObserver._error(observer, x, observer.low, observer.high)
        assert RangeObserver._error(observer, x, *observer.range()) <= wide
    assert ranges[4] < ranges[8] <= 60


@pytest.mark.parametrize("method", CALIBRATIONS)
def test_observer_repeats_itself(method):
    found = []
    for _ in range(2):
        observer = RangeObserver(method, sample=50)
        observer.observe(random(1000))
        found.append([end.item() for end in observer.range()])
    assert found[0] == found[1]


def test_observer_errors():
    with pytest.raises(ValueError, match="method 'median' is unknown"):
        RangeObserver("median")
    with pytest.raises(RuntimeError, match="nothing was observed"):
        RangeObserver().range()
    with pytest.raises(ValueError, match="NaN"):
        RangeObserver().observe(torch.tensor([math.nan]))
