"""Layers in integers against the same sums in float64, and a whole model."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo_lessons.deploy.quantize import quantize_matrix, scale_and_zero_point
from zoo_lessons.deploy.quantized_layers import (
    DynamicLinear,
    FakeQuantLinear,
    QuantizedEmbedding,
    StaticLinear,
    WeightOnlyLinear,
    calibrate,
    fake_quantize,
    integer_matmul,
    quantize_dynamic,
    quantize_static,
    quantize_weights,
    replace_linears,
    stored_bytes,
)
from zoo_lessons.models.bert import BertConfig, BertModel

CONFIG = BertConfig(
    vocab_size=50, d_model=32, num_layers=2, num_heads=4, d_ff=64, max_length=16, dropout=0.0
)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def linear():
    return nn.Linear(24, 10)


@pytest.fixture
def bert():
    return BertModel(CONFIG).eval()


def batch(rows: int = 3, length: int = 9) -> dict[str, torch.Tensor]:
    mask = torch.ones(rows, length, dtype=torch.long)
    mask[1, 5:] = 0
    return {"input_ids": torch.randint(1, 50, (rows, length)), "attention_mask": mask}


@pytest.mark.parametrize("shape", [(1, 3, 1), (5, 30, 7), (40, 512, 16)])
def test_integer_matmul_is_exact(shape):
    m, k, n = shape
    a, b = torch.randint(-128, 128, (m, k)), torch.randint(-128, 128, (k, n))
    found = integer_matmul(a.to(torch.int8), b.to(torch.int8))
    assert found.dtype == torch.int32
    assert torch.equal(found.long(), a @ b)


def test_integer_matmul_does_not_overflow_at_the_extremes():
    a = torch.full((2, 4096), -128, dtype=torch.int8)
    assert integer_matmul(a, a.T).unique().tolist() == [4096 * 128 * 128]


def test_integer_matmul_wants_int8():
    with pytest.raises(TypeError, match=r"got torch\.float32 and torch\.int8"):
        integer_matmul(torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int8))


@pytest.mark.parametrize("per", ["token", "tensor"])
def test_dynamic_linear_is_the_product_of_the_dequantized(linear, per):
    x = torch.randn(2, 5, 24) + 1  # not centred: the zero point counts
    found = DynamicLinear(linear, per=per)(x)
    flat = x.view(10, 24)
    grid = quantize_matrix(flat, 8, "channel" if per == "token" else "tensor", symmetric=False)
    weight = quantize_matrix(linear.weight.detach(), 8, "channel")
    expected = grid.dequantize().double() @ weight.dequantize().double().T + linear.bias.double()
    assert torch.allclose(found.double(), expected.view(2, 5, 10), atol=1e-5)
    assert torch.allclose(found, linear(x), atol=0.05)


def test_static_linear_is_the_product_of_the_dequantized_and_cuts_off(linear):
    x = 2 * torch.randn(7, 24)
    low, high = torch.tensor(-1.5), torch.tensor(2.0)
    found = StaticLinear(linear, low, high)(x)
    scale, zero_point = scale_and_zero_point(low, high)
    seen = ((x.clamp(-1.51, 2.01) / scale).round() + zero_point).clamp(-128, 127)
    seen = (seen - zero_point) * scale
    weight = quantize_matrix(linear.weight.detach(), 8, "channel").dequantize()
    assert torch.allclose(found, seen @ weight.T + linear.bias, atol=1e-5)


def test_layers_without_bias():
    linear = nn.Linear(8, 4, bias=False)
    x = torch.randn(3, 8)
    for layer in (
        WeightOnlyLinear(linear),
        DynamicLinear(linear),
        StaticLinear(linear, x.min(), x.max()),
    ):
        assert layer.bias is None
        assert torch.allclose(layer(x), linear(x), atol=0.05)


@pytest.mark.parametrize(("bits", "byte_share"), [(8, 1), (4, 0.5)])
@pytest.mark.parametrize("granularity", ["tensor", "channel", "group"])
def test_weight_only_linear(linear, bits, byte_share, granularity):
    layer = WeightOnlyLinear(linear, bits, granularity, group_size=8)
    expected = quantize_matrix(linear.weight.detach(), bits, granularity, group_size=8)
    assert torch.equal(layer.weight(), expected.dequantize())
    x = torch.randn(2, 3, 24)
    assert torch.allclose(layer(x), x @ expected.dequantize().T + linear.bias, atol=1e-6)
    assert layer.values.numel() == byte_share * linear.weight.numel()


def test_outlier_columns_in_float_repair_the_rest(linear):
    x = torch.randn(6, 24)
    x[:, 7] = 80.0
    weight = quantize_matrix(linear.weight.detach(), 8, "channel").dequantize()
    expected = x @ weight.T + linear.bias  # only the inputs' rounding is left to compare
    plain, mixed = (
        (DynamicLinear(linear, threshold=threshold)(x) - expected).abs().mean()
        for threshold in (None, 6.0)
    )
    assert mixed < plain / 10
    quiet = torch.randn(4, 24).clamp(-5, 5)
    assert torch.equal(DynamicLinear(linear)(quiet), DynamicLinear(linear, threshold=6.0)(quiet))


def test_unknown_per_is_refused(linear):
    with pytest.raises(ValueError, match="expected 'token' or 'tensor'"):
        DynamicLinear(linear, per="row")


def test_embedding(bert):
    table = bert.embeddings.word
    ids = torch.randint(0, 50, (2, 4))
    found = QuantizedEmbedding(table)(ids)
    assert found.shape == (2, 4, 32)
    step = table.weight.detach().abs().amax(1)[ids] / 127
    assert ((found - table(ids)).abs().amax(-1) <= 0.501 * step).all()


def test_models_keep_their_outputs_nearly_and_shrink(bert):
    inputs = batch()
    with torch.no_grad():
        expected = bert(**inputs).last_hidden_state
        ranges = calibrate(bert, [inputs])
        for made, most in (
            (quantize_weights(bert), 0.3),
            (quantize_weights(bert, 4, "group"), 0.3),
            (quantize_dynamic(bert), 0.3),
            (quantize_dynamic(bert, per="tensor"), 0.3),
            (quantize_static(bert, ranges), 0.3),
        ):
            found = made(**inputs).last_hidden_state
            assert not torch.equal(found, expected)
            assert (found - expected).norm() / expected.norm() < 0.15
            assert stored_bytes(made) < most * stored_bytes(bert) + 40 * 500
            assert not any(isinstance(m, (nn.Linear, nn.Embedding)) for m in made.modules())
    assert isinstance(bert.pooler, nn.Linear)  # the model itself is unchanged


def test_embeddings_can_stay(bert):
    assert isinstance(quantize_dynamic(bert, embeddings=False).embeddings.word, nn.Embedding)


def test_calibration_leaves_padding_out(bert):
    inputs = batch()
    ranges = calibrate(bert, [inputs])
    assert set(ranges) == {n for n, m in bert.named_modules() if isinstance(m, nn.Linear)}
    seen = {}
    handle = bert.layers[1].feed_forward.up.register_forward_pre_hook(
        lambda _, args: seen.update(x=args[0])
    )
    bert(**inputs)
    handle.remove()
    kept = seen["x"][inputs["attention_mask"].bool()]
    low, high = ranges["layers.1.feed_forward.up"]
    assert (low, high) == (kept.min(), kept.max())
    # no hook is left behind
    assert not any(module._forward_pre_hooks for module in bert.modules())


def test_calibration_needs_data(bert):
    with pytest.raises(RuntimeError, match="nothing was observed"):
        calibrate(bert, [])


def test_replace_linears_wants_linears(linear):
    with pytest.raises(ValueError, match="LayerNorm has no linear layer"):
        replace_linears(nn.LayerNorm(3), lambda _, layer: layer)
    assert isinstance(quantize_weights(linear, embeddings=False), WeightOnlyLinear)


def test_stored_bytes_counts_shared_tensors_once():
    shared = nn.Linear(4, 4, bias=False)
    assert stored_bytes(nn.Sequential(shared, shared)) == 4 * 4 * 4


def test_fake_quantize_rounds_forward_and_passes_gradients_back():
    x = torch.tensor([-3.0, -0.26, 0.1, 0.9, 5.0], requires_grad=True)
    scale, zero_point = torch.tensor(0.5), torch.tensor(0)
    found = fake_quantize(x, scale, zero_point, 3, symmetric=True)
    assert found.tolist() == [-1.5, -0.5, 0.0, 1.0, 1.5]
    found.sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 1, 0]


@pytest.mark.parametrize("input_bits", [None, 8])
def test_fake_quant_linear_is_what_will_be_stored(linear, input_bits):
    x = torch.randn(4, 24)
    layer = FakeQuantLinear(linear, bits=3, input_bits=input_bits)
    stored = WeightOnlyLinear(linear, bits=3)
    assert torch.allclose(layer.weight(), stored.weight())
    seen = x if input_bits is None else quantize_matrix(x, 8, symmetric=False).dequantize()
    assert torch.allclose(layer(x), stored(seen), atol=1e-5)
    layer(x).square().sum().backward()
    assert linear.weight.grad.abs().sum() > 0
