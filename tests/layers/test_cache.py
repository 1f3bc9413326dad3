"""The key-value cache: step by step with it equals all at once without it."""

import pytest
import torch

from zoo_lessons.layers import (
    DecoderBlock,
    EncoderBlock,
    KeyValueCache,
    LayerCache,
    MultiHeadAttention,
    Rotary,
    causal_mask,
    record_attention,
)


def steps(length, sizes):
    """Slices that cut `length` tokens into parts of the given sizes."""
    assert sum(sizes) == length
    start = 0
    for size in sizes:
        yield slice(start, start + size)
        start += size


@pytest.mark.parametrize("sizes", [[1] * 6, [3, 1, 2], [6]])
@pytest.mark.parametrize("rotary", [None, Rotary(8), Rotary(8, interleaved=True)])
def test_self_attention_step_by_step(rotary, sizes):
    layer, x = MultiHeadAttention(16, 2).double(), torch.randn(3, 6, 16, dtype=torch.float64)
    expected = layer(x, mask=causal_mask(6), rotary=rotary)
    cache, parts = LayerCache(), []
    for part in steps(6, sizes):
        mask = causal_mask(part.stop - part.start, part.stop)
        parts.append(layer(x[:, part], mask=mask, rotary=rotary, cache=cache))
        assert cache.length == part.stop
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_encoder_block_step_by_step(norm):
    block, x = EncoderBlock(16, 2, 24, norm=norm).double(), torch.randn(2, 5, 16).double()
    cache = LayerCache()
    parts = [block(x[:, i : i + 1], cache=cache) for i in range(5)]
    torch.testing.assert_close(torch.cat(parts, dim=1), block(x, causal_mask(5)))


def test_decoder_block_reads_memory_once():
    block = DecoderBlock(16, 2, 24).double()
    x, memory = torch.randn(2, 5, 16).double(), torch.randn(2, 3, 16).double()
    projected = []
    handle = block.cross_attention.kv.register_forward_hook(lambda *_: projected.append(1))
    expected = block(x, memory, causal_mask(5))
    projected.clear()
    cache, memory_cache = LayerCache(), LayerCache()
    parts = [
        block(x[:, i : i + 1], memory, cache=cache, memory_cache=memory_cache) for i in range(5)
    ]
    handle.remove()
    torch.testing.assert_close(torch.cat(parts, dim=1), expected)
    assert len(projected) == 1
    assert (cache.length, memory_cache.length) == (5, 3)
    with pytest.raises(ValueError, match=r"memory has shape \(2, 4, 16\), expected .* = \(2, 3\)"):
        block(x[:, :1], torch.randn(2, 4, 16).double(), cache=cache, memory_cache=memory_cache)


def test_recorded_maps_grow_by_one_key():
    layer, x, cache = MultiHeadAttention(16, 2), torch.randn(1, 4, 16), LayerCache()
    with record_attention(layer) as maps:
        for i in range(4):
            layer(x[:, i : i + 1], cache=cache)
    assert [tuple(m.weights.shape) for m in maps] == [(1, 2, 1, n) for n in (1, 2, 3, 4)]


def test_gradient_flows_through_the_cache():
    layer, x = MultiHeadAttention(16, 2), torch.randn(1, 2, 16, requires_grad=True)
    cache = LayerCache()
    layer(x[:, :1], cache=cache)
    layer(x[:, 1:], cache=cache).sum().backward()
    assert x.grad[:, 0].abs().max() > 0


def test_size_and_reorder():
    cache = KeyValueCache(3)
    assert (len(cache), cache.length, cache.nbytes) == (3, 0, 0)
    cache.reorder(torch.tensor([0]))  # nothing to reorder yet
    k, v = torch.randn(2, 4, 5, 8), torch.randn(2, 4, 5, 6)
    for i in range(3):
        cache[i].append(k + i, v - i)
    assert cache.length == 5
    assert cache.nbytes == 3 * 2 * 4 * 5 * (8 + 6) * 4  # float32
    cache.reorder(torch.tensor([1, 1, 0]))
    for i in range(3):
        assert torch.equal(cache[i].keys, k[[1, 1, 0]] + i)
        assert torch.equal(cache[i].values, v[[1, 1, 0]] - i)
    with pytest.raises(ValueError, match="num_layers=0, expected at least 1"):
        KeyValueCache(0)


def test_errors():
    cache = LayerCache()
    with pytest.raises(ValueError, match=r"k has shape \(1, 2, 3\) and v \(1, 2, 3\), expected"):
        cache.append(torch.ones(1, 2, 3), torch.ones(1, 2, 3))
    with pytest.raises(ValueError, match="the same batch, heads and new"):
        cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 2, 4))
    cache.append(torch.ones(1, 2, 3, 4), torch.ones(1, 2, 3, 4))
    for shape in [(2, 2, 1, 4), (1, 3, 1, 4), (1, 2, 1, 5)]:
        with pytest.raises(ValueError, match=r"the cache holds \(1, 2, 3, 4\), .* a new cache"):
            cache.append(torch.ones(shape), torch.ones(shape))
    assert cache.length == 3  # an error leaves the cache as it was
    layer = MultiHeadAttention(8, 2, d_memory=8)
    with pytest.raises(ValueError, match="rotary was given to a cross-attention layer"):
        layer(torch.randn(1, 2, 8), torch.randn(1, 3, 8), rotary=Rotary(4))
