"""Online softmax and attention in blocks, against the formula: outputs, gradients, memory."""

from __future__ import annotations

import math

import pytest
import torch

from zoo_lessons.bench import peak_memory
from zoo_lessons.layers import causal_mask, scaled_dot_product_attention
from zoo_lessons.layers.online_softmax import OnlineSoftmax, flash_attention


def qkv(queries=13, keys=17, d_k=5, d_v=3, scale=2.0):
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return scale * torch.randn(2, 3, *shape, generator=generator, dtype=torch.float64)

    return draw(queries, d_k), draw(keys, d_k), draw(keys, d_v)


def some_mask(queries=13, keys=17):
    """Half of the pairs; query 4 sees nothing, query 5 only the last key."""
    generator = torch.Generator().manual_seed(1)
    mask = torch.rand(2, 1, queries, keys, generator=generator) < 0.5
    mask[:, :, 4], mask[:, :, 5] = False, False
    mask[:, :, 5, -1] = True
    return mask


# --- the running sum ----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[17], [1] * 17, [5, 5, 5, 2], [16, 1]])
def test_any_blocks_give_the_softmax(sizes):
    q, k, v = qkv()
    scores = 10 * q @ k.transpose(-2, -1)
    state = OnlineSoftmax.start(q, v.shape[-1])
    for part, values in zip(scores.split(sizes, dim=-1), v.split(sizes, dim=-2), strict=True):
        state = state.update(part, values)
    torch.testing.assert_close(state.output(), scores.softmax(dim=-1) @ v)
    torch.testing.assert_close(state.logsumexp(), scores.logsumexp(dim=-1))
    assert state.total.ge(1).all()  # the largest score counts exp(0)


def test_it_can_say_at_any_time_what_the_keys_so_far_give():
    q, k, v = qkv()
    scores = q @ k.transpose(-2, -1)
    state = OnlineSoftmax.start(q, v.shape[-1])
    assert state.output().eq(0).all()
    for n in range(1, 18):
        state = state.update(scores[..., n - 1 : n], v[..., n - 1 : n, :])
        expected = scores[..., :n].softmax(dim=-1) @ v[..., :n, :]
        torch.testing.assert_close(state.output(), expected)


def test_scores_beyond_the_range_of_exp():
    scores = torch.tensor([[1e4, -1e4], [1e4 + 1, 0.0]])
    v = torch.tensor([[1.0], [2.0]])
    state = OnlineSoftmax.start(torch.zeros(1, 1), 1)
    for row in scores:
        state = state.update(row[None], v)
    expected = torch.tensor([0.0, 1.0]).softmax(dim=0)
    torch.testing.assert_close(state.output(), torch.ones(1, 1) * expected.sum())
    assert state.logsumexp().item() == pytest.approx(1e4 + 1 + math.log1p(math.exp(-1)))


def test_wholly_masked_blocks_before_and_after():
    v = torch.tensor([[1.0], [3.0]])
    nothing, something = torch.full((1, 2), -math.inf), torch.zeros(1, 2)
    for order in ([nothing, something], [something, nothing], [nothing, nothing, something]):
        state = OnlineSoftmax.start(torch.zeros(1, 1), 1)
        for scores in order:
            state = state.update(scores, v)
        assert state.output().item() == 2.0


# --- attention ----------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [1, 4, 13, 64])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("causal", [False, True])
def test_equal_to_the_formula(block, masked, causal):
    q, k, v = (x.requires_grad_() for x in qkv())
    mask = some_mask() if masked else None
    both = mask
    if causal:
        both = causal_mask(13, 17) if mask is None else mask & causal_mask(13, 17)
    ours = flash_attention(q, k, v, mask, causal=causal, block=block)
    expected, _ = scaled_dot_product_attention(q, k, v, both)
    torch.testing.assert_close(ours, expected)
    generator = torch.Generator().manual_seed(2)
    weight = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    found = torch.autograd.grad((weight * ours).sum(), (q, k, v))
    wanted = torch.autograd.grad((weight * expected).nan_to_num().sum(), (q, k, v))
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other.nan_to_num())


def test_masks_that_broadcast():
    q, k, v = qkv()
    keep = torch.arange(17) < 11
    ours = flash_attention(q, k, v, keep, block=4)
    torch.testing.assert_close(ours, flash_attention(q, k[..., :11, :], v[..., :11, :], block=4))


def test_gradcheck():
    inputs = [x[:1, :1, :4].clone().requires_grad_() for x in qkv(4, 4, scale=1.0)]
    assert torch.autograd.gradcheck(lambda *x: flash_attention(*x, causal=True, block=3), inputs)


def test_memory_grows_with_the_length_and_not_with_its_square():
    def step(attention, length):
        inputs = [torch.randn(1, 2, length, 8, requires_grad=True) for _ in range(3)]
        return lambda: torch.autograd.grad(attention(*inputs).sum(), inputs)

    def peak(attention, length):
        return peak_memory(step(attention, length))

    def blocks(*x):
        return flash_attention(*x, block=32)

    def formula(*x):
        return scaled_dot_product_attention(*x)[0]

    assert peak(blocks, 512) < 2.2 * peak(blocks, 256)
    assert peak(formula, 512) > 3.5 * peak(formula, 256)
    assert peak(blocks, 512) < peak(formula, 512) / 10


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(2, 3, 17, 4)}, "one width"),
        ({"v": torch.zeros(2, 3, 16, 3)}, "one number of keys"),
        ({"q": torch.zeros(2, 13, 5)}, "same leading axes"),
        ({"q": torch.full((2, 3, 13, 5), math.nan)}, "NaN"),
        ({"block": 0}, "block=0"),
        ({"mask": torch.ones(2, 3, 13, 16, dtype=torch.bool)}, "broadcasts"),
        ({"q": torch.zeros(2, 3, 18, 5), "causal": True}, "17 keys for 18 queries"),
    ],
)
def test_refuses(change, message):
    q, k, v = (x.float() for x in qkv())
    with pytest.raises(ValueError, match=message):
        flash_attention(**{"q": q, "k": k, "v": v, **change})


def test_a_mask_must_be_boolean():
    with pytest.raises(TypeError, match=r"torch\.bool"):
        flash_attention(*qkv(), torch.ones(13, 17))
