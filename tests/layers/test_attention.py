"""The attention formula, the multi-head layer, and the two ways to look inside a model."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.parity.honest import randomise, relative_difference
from zoo_lessons.layers import (
    EncoderBlock,
    MultiHeadAttention,
    ablate_heads,
    causal_mask,
    padding_mask,
    record_attention,
    scaled_dot_product_attention,
)
from zoo_lessons.weights import from_torch


def qkv(*shape, keys=None, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    *lead, queries, width = shape
    make = lambda n, w: torch.randn(*lead, n, w, generator=generator, dtype=dtype)  # noqa: E731
    keys = keys or queries
    return make(queries, width), make(keys, width), make(keys, width + 3)


def test_formula_by_hand():
    q, k = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    v = torch.tensor([[10.0], [20.0]])
    output, weights = scaled_dot_product_attention(q, k, v)
    first = math.exp(1 / math.sqrt(2)) / (math.exp(1 / math.sqrt(2)) + 1)
    torch.testing.assert_close(weights, torch.tensor([[first, 1 - first]]))
    torch.testing.assert_close(output, torch.tensor([[10 * first + 20 * (1 - first)]]))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("biased", [False, True])
def test_formula_agrees_with_pytorch(masked, biased):
    q, k, v = qkv(2, 3, 5, 8, keys=7)
    mask = torch.rand(2, 1, 5, 7, generator=torch.Generator().manual_seed(1)) > 0.4
    bias = torch.randn(1, 3, 5, 7, dtype=torch.float64)
    output, weights = scaled_dot_product_attention(
        q, k, v, mask if masked else None, bias if biased else None
    )
    additive = bias if biased else torch.zeros(1, 3, 5, 7, dtype=torch.float64)
    if masked:
        additive = additive.masked_fill(~mask, -math.inf)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=additive)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 5, dtype=torch.float64))
    if masked:
        assert (weights[(~mask).expand_as(weights)] == 0).all()


def test_query_without_keys_gets_zeros():
    q, k, v = qkv(2, 4, 8)
    mask = torch.ones(4, 4, dtype=torch.bool)
    mask[1] = False
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    assert not output.isnan().any() and (output[:, 1] == 0).all() and (weights[:, 1] == 0).all()
    torch.testing.assert_close(output, F.scaled_dot_product_attention(q, k, v, attn_mask=mask))


def test_causal_mask():
    assert causal_mask(3).tolist() == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    # one new query with a cache of four keys sees them all
    assert causal_mask(1, 4).tolist() == [[True] * 4]
    assert causal_mask(2, 4).tolist() == [[True, True, True, False], [True] * 4]
    with pytest.raises(ValueError, match="2 keys for 3 queries"):
        causal_mask(3, 2)


def test_padding_mask():
    mask = padding_mask(torch.tensor([[1, 1, 0]]))
    assert mask.shape == (1, 1, 1, 3) and mask.dtype == torch.bool
    with pytest.raises(ValueError, match=r"expected \(batch, keys\)"):
        padding_mask(torch.ones(3))
    with pytest.raises(ValueError, match="expected only 1"):
        padding_mask(torch.tensor([[0.0, -math.inf]]))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"k": torch.randn(2, 4, 9)}, ValueError, "same width d_k"),
        ({"v": torch.randn(2, 5, 8)}, ValueError, "same number of keys"),
        ({"q": torch.randn(8)}, ValueError, "at least two axes"),
        ({"q": torch.full((2, 4, 8), math.nan)}, ValueError, "q holds 64 NaN"),
        ({"mask": torch.ones(4, 4)}, TypeError, "expected torch.bool"),
        ({"mask": torch.ones(4, 5, dtype=torch.bool)}, ValueError, "broadcasts"),
    ],
)
def test_formula_errors(change, error, message):
    arguments = {name: torch.randn(2, 4, 8) for name in "qkv"} | change
    with pytest.raises(error, match=message):
        scaled_dot_product_attention(**arguments)


def test_layer_agrees_with_pytorch_self_attention():
    theirs = randomise(nn.MultiheadAttention(24, 4, batch_first=True, dtype=torch.float64))
    ours = from_torch(MultiHeadAttention(24, 4).double(), theirs)
    x = torch.randn(3, 7, 24, dtype=torch.float64)
    attention_mask = torch.tensor([[1] * 7, [1] * 3 + [0] * 4, [1] * 6 + [0]])
    mask = padding_mask(attention_mask) & causal_mask(7)
    with record_attention(ours) as maps:
        recorded = ours(x, mask=mask)
    expected, weights = theirs(
        x,
        x,
        x,
        key_padding_mask=attention_mask == 0,
        attn_mask=~causal_mask(7),
        average_attn_weights=False,
    )
    assert relative_difference(ours(x, mask=mask), expected) <= 1e-9
    assert relative_difference(recorded, expected) <= 1e-9
    assert relative_difference(maps[0].weights, weights) <= 1e-9


def test_layer_agrees_with_pytorch_cross_attention():
    theirs = randomise(nn.MultiheadAttention(24, 4, batch_first=True, dtype=torch.float64))
    ours = from_torch(MultiHeadAttention(24, 4, d_memory=24).double(), theirs)
    x, memory = torch.randn(2, 5, 24, dtype=torch.float64), torch.randn(2, 9, 24).double()
    assert relative_difference(ours(x, memory), theirs(x, memory, memory)[0]) <= 1e-9


def test_cross_attention_reads_another_width():
    layer = MultiHeadAttention(24, 4, d_memory=10, head_dim=5)
    assert layer(torch.randn(2, 5, 24), torch.randn(2, 9, 10)).shape == (2, 5, 24)
    assert layer.kv.weight.shape == (2 * 4 * 5, 10)


def test_layer_errors():
    with pytest.raises(
        ValueError, match=r"d_model=10 must be divisible by num_heads=3 \(remainder 1"
    ):
        MultiHeadAttention(10, 3)
    layer, cross = MultiHeadAttention(8, 2), MultiHeadAttention(8, 2, d_memory=6)
    x = torch.randn(2, 5, 8)
    with pytest.raises(ValueError, match=r"x has shape \(2, 5, 7\), expected .* last axis 8"):
        layer(x[..., :7])
    with pytest.raises(ValueError, match="x holds 80 NaN"):
        layer(x * math.nan)
    with pytest.raises(TypeError, match=r"padding_mask\(attention_mask\)"):
        layer(x, mask=torch.ones(2, 5, dtype=torch.long))
    with pytest.raises(ValueError, match="self-attention layer"):
        layer(x, x)
    with pytest.raises(ValueError, match=r"memory is missing, expected \(batch, keys, 6\)"):
        cross(x)
    with pytest.raises(ValueError, match="memory has shape"):
        cross(x, x)


def test_dropout_only_in_training():
    layer = MultiHeadAttention(8, 2, dropout=0.5)
    x = torch.randn(1, 6, 8)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


class TwoBlocks(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(EncoderBlock(8, 2, 16) for _ in range(2))

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x


def test_record_attention():
    model, x = TwoBlocks().eval(), torch.randn(3, 4, 8)
    plain = model(x)
    with record_attention(model) as maps:
        watched = model(x)
    assert [m.name for m in maps] == ["layers.0.attention", "layers.1.attention"]
    assert maps.stack().shape == (2, 3, 2, 4, 4) and not maps[0].weights.requires_grad
    assert maps.stack("layers.1").shape[0] == 1
    torch.testing.assert_close(watched, plain)
    model(x)  # nobody is looking any more
    assert len(maps) == 2
    with pytest.raises(ValueError, match="'decoder'; recorded: layers.0"):
        maps.stack("decoder")
    with pytest.raises(ValueError, match="Linear has no attention layer"):
        with record_attention(nn.Linear(2, 2)):
            pass


def test_record_attention_stops_after_an_error():
    model = TwoBlocks()
    with pytest.raises(RuntimeError), record_attention(model):
        raise RuntimeError("a learner's mistake")
    assert all(layer.attention.attention.recorder is None for layer in model.layers)


def test_ablate_heads():
    model, x = TwoBlocks().eval(), torch.randn(3, 4, 8)
    plain = model(x)
    with ablate_heads(model, {"layers.1.attention": [0]}):
        silenced = model(x)
    assert not torch.allclose(silenced, plain) and torch.equal(model(x), plain)
    # Silencing a head is the same as removing its columns of W^O.
    with torch.no_grad():
        model.layers[1].attention.out.weight[:, :4] = 0
    torch.testing.assert_close(model(x), silenced)
    with pytest.raises(ValueError, match="no attention layer 'layers.7'"):
        with ablate_heads(model, {"layers.7": [0]}):
            pass
    with pytest.raises(ValueError, match=r"heads 0 to 1, got \[2\]"):
        with ablate_heads(model, {"layers.0.attention": [2]}):
            pass
