"""Sparse attention: blocks against the masked matrix, patterns against their definition."""

import itertools

import pytest
import torch

from zoo_lessons.layers import (
    EncoderBlock,
    MultiHeadAttention,
    padding_mask,
    record_attention,
    scaled_dot_product_attention,
)
from zoo_lessons.layers.sparse_attention import (
    SparseAttention,
    SparsePattern,
    banded_attention,
    global_mask,
    replace_attention,
    sparse_attention,
    window_mask,
)


def qkv(length, *, batch=3, heads=2, d=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (3, batch, heads, length, d)
    # Large scores: attention that looks at one token too many or too few shows.
    return (2 * torch.randn(*shape, generator=generator, dtype=torch.float64)).unbind(0)


def some_padding(length, batch=3):
    keep = torch.ones(batch, length, dtype=torch.bool)
    keep[0, length // 2 :] = False
    keep[2, : length // 3] = False
    return keep


PATTERNS = {
    "window": SparsePattern(3, block=4),
    "window as wide as blocks": SparsePattern(4, block=4),
    "window wider than blocks": SparsePattern(7, block=3),
    "nothing but itself": SparsePattern(0, block=4),
    "causal window": SparsePattern(3, block=4, causal=True),
    "global": SparsePattern(2, block=4, global_tokens=(0, 9, -1)),
    "causal and global": SparsePattern(2, block=4, global_tokens=(0, 9), causal=True),
    "random": SparsePattern(2, block=4, random_blocks=2),
    "causal and random": SparsePattern(2, block=4, random_blocks=2, causal=True),
    "union": SparsePattern(3, block=4, global_tokens=(0, 5), random_blocks=1, seed=3),
    "union, causal": SparsePattern(3, False, (1, 8), 1, 4, seed=3),
    "BigBird": SparsePattern.bigbird(32, block=4, random_blocks=2),
}
every_pattern = pytest.mark.parametrize("pattern", PATTERNS.values(), ids=PATTERNS)


@every_pattern
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("length", [32, 29, 11])
def test_blocks_equal_the_masked_matrix(pattern, length, padding):
    q, k, v = qkv(length)
    keep = some_padding(length) if padding else None
    mask = pattern.mask(length)
    mask = mask if keep is None else mask & padding_mask(keep)
    expected, _ = scaled_dot_product_attention(q, k, v, mask)
    found = sparse_attention(q, k, v, pattern, keep)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@every_pattern
def test_gradient_equals_that_of_the_masked_matrix(pattern):
    keep, found = some_padding(29), []
    for blocks in (True, False):
        inputs = [t.requires_grad_() for t in qkv(29)]
        if blocks:
            output = sparse_attention(*inputs, pattern, keep)
        else:
            mask = pattern.mask(29) & padding_mask(keep)
            output = scaled_dot_product_attention(*inputs, mask)[0]
        output.square().sum().backward()
        found.append([t.grad for t in inputs])
    torch.testing.assert_close(*found, rtol=1e-9, atol=1e-10)


def test_the_block_does_not_matter_to_a_window():
    q, k, v = qkv(23)
    expected = sparse_attention(q, k, v, SparsePattern(5, block=5))
    for block in (1, 3, 8, 64):
        found = sparse_attention(q, k, v, SparsePattern(5, block=block))
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("causal", [False, True])
def test_window_by_hand(causal):
    mask = SparsePattern(2, causal=causal).mask(9)
    for i, j in itertools.product(range(9), repeat=2):
        assert mask[i, j] == (abs(i - j) <= 2 and (not causal or j <= i))


def test_global_by_hand():
    mask = global_mask(SparsePattern(0, global_tokens=(1, -1)).is_global(5))
    assert mask[1].all() and mask[:, 1].all() and mask[4].all() and mask[:, 4].all()
    assert mask.sum() == 25 - 9


def test_whole_blocks():
    assert torch.equal(
        window_mask(12, 4, block=4),
        window_mask(3, 1).repeat_interleave(4, 0).repeat_interleave(4, 1),
    )


def test_random_blocks_are_new_to_their_queries():
    pattern = SparsePattern(4, block=4, global_tokens=(0, 1, 2, 3), random_blocks=3)
    drawn = pattern.key_blocks(48)
    assert drawn.shape == (12, 3)
    for i, row in enumerate(drawn.tolist()):
        assert len(set(row)) == 3
        assert all(abs(i - j) > 1 and 0 < j < 12 for j in row)  # 0 is global
    assert not torch.equal(
        drawn, SparsePattern(4, False, (0, 1, 2, 3), 3, 4, seed=1).key_blocks(48)
    )
    assert torch.equal(drawn, pattern.key_blocks(48))
    causal = SparsePattern(4, block=4, random_blocks=3, causal=True).key_blocks(48)
    assert causal[:2].eq(-1).all() and causal[2].tolist() == [0, -1, -1]
    assert (causal < torch.arange(12)[:, None]).all()


def test_bigbird():
    """Each token of the middle sees first and last block, its three, and three random ones."""
    mask = SparsePattern.bigbird(640, block=16).mask(640)
    seen = mask.sum(dim=-1)
    assert (seen[:16] == 640).all() and (seen[-16:] == 640).all()
    assert (seen[32:-32] == 8 * 16).all()
    assert SparsePattern.bigbird(640, block=16).density(640) == mask.double().mean()


def test_density_of_a_window():
    assert SparsePattern(1).density(4) == (2 + 3 + 3 + 2) / 16


def test_memory_grows_with_the_length_only():
    """The largest tensor that a window makes: counted, so that no clock is needed."""
    largest = []

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(result):
                if isinstance(tensor, torch.Tensor):
                    largest[-1] = max(largest[-1], tensor.untyped_storage().nbytes())
            return result

    pattern = SparsePattern(16, block=16, global_tokens=(0,), random_blocks=2)
    for length in (512, 1024, 2048):
        largest.append(0)
        with Largest():
            sparse_attention(*qkv(length, batch=1, heads=1), pattern)
    assert largest[1] / largest[0] == pytest.approx(2, rel=0.05)
    assert largest[2] / largest[1] == pytest.approx(2, rel=0.05)
    assert largest[2] < 2048 * 2048  # not even one byte for each pair


@pytest.mark.parametrize("padding", [False, True])
def test_layer_inside_a_block(padding):
    torch.manual_seed(0)
    block = EncoderBlock(8, 2, 16).double().eval()
    x = torch.randn(3, 29, 8, dtype=torch.float64)
    pattern = PATTERNS["union"]
    mask = padding_mask(some_padding(29)) if padding else None
    full = pattern.mask(29)
    expected = block(x, full if mask is None else full & mask)
    replace_attention(block, [SparseAttention(pattern)])
    torch.testing.assert_close(block(x, mask), expected)
    with record_attention(block) as maps:
        torch.testing.assert_close(block(x, mask), expected)
    weights = maps.stack()[0]
    assert weights.shape == (3, 2, 29, 29)
    assert not weights.masked_select(~full).any()
    assert maps[0].name == "attention"


def test_replacing_some_layers():
    model = torch.nn.Sequential(EncoderBlock(8, 2, 16), EncoderBlock(8, 2, 16))
    full = model[1].attention.attention
    assert replace_attention(model, [SparseAttention(SparsePattern(2)), None]) is model
    assert isinstance(model[0].attention.attention, SparseAttention)
    assert model[1].attention.attention is full


def test_errors():
    q, k, v = qkv(8)
    with pytest.raises(ValueError, match="radius=-1, block=64 and random_blocks=0"):
        SparsePattern(-1)
    with pytest.raises(ValueError, match="radius=3 must be a multiple of block=4"):
        SparsePattern(3, block=4, whole_blocks=True)
    with pytest.raises(ValueError, match="length=30, expected a multiple of block=4"):
        SparsePattern.bigbird(30, block=4)
    with pytest.raises(ValueError, match="global token 8 is outside a text of 8 tokens"):
        sparse_attention(q, k, v, SparsePattern(1, global_tokens=(8,)))
    with pytest.raises(ValueError, match="of one sequence"):
        banded_attention(q[:, :, :3], k, v, SparsePattern(1))
    with pytest.raises(ValueError, match=r"keep has shape \(2, 8\), expected .* \(3, 8\)"):
        banded_attention(q, k, v, SparsePattern(1), keep=torch.ones(2, 8, dtype=torch.bool))
    layer = SparseAttention(SparsePattern(1))
    with pytest.raises(ValueError, match="was given a bias"):
        layer(q, k, v, bias=torch.zeros(1))
    with pytest.raises(ValueError, match=r"mask has shape \(8, 8\), expected .batch, 1, 1, keys."):
        layer(q, k, v, window_mask(8, 1))
    with pytest.raises(ValueError, match="got 2 layers, expected 1 as the model has"):
        replace_attention(MultiHeadAttention(8, 2), [layer, layer])
