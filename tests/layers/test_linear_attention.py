"""Linear attention: parallel, chunked and recurrent forms against the matrix of weights."""

import pytest
import torch

from zoo_lessons.layers import EncoderBlock, causal_mask, padding_mask, record_attention
from zoo_lessons.layers.linear_attention import (
    LinearAttention,
    RandomFeatures,
    causal_linear_attention,
    elu_features,
    feature_attention,
    linear_attention,
)
from zoo_lessons.layers.sparse_attention import replace_attention


def qkv(length=13, d=4):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, 2, 3, length, d, generator=generator, dtype=torch.float64).unbind(0)


def features(kind, d=4):
    if kind == "elu":
        return elu_features
    return RandomFeatures(d, 11, generator=torch.Generator().manual_seed(1)).double()


both = pytest.mark.parametrize("kind", ["elu", "random"])


def some_padding(length=13):
    keep = torch.ones(2, length, dtype=torch.bool)
    keep[0, 9:] = False
    keep[1, :4] = False
    return keep


@both
@pytest.mark.parametrize("padding", [False, True])
def test_parallel_form(kind, padding):
    q, k, v = qkv()
    q, k = map(features(kind), (q, k))
    keep = some_padding() if padding else None
    expected, weights = feature_attention(q, k, v, padding_mask(keep) if padding else None)
    found = linear_attention(q, k, v, keep[:, None] if padding else None)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 3, 13).double())


@both
@pytest.mark.parametrize("padding", [False, True])
@pytest.mark.parametrize("chunk", [1, 4, 13, 64])
def test_causal_forms(kind, chunk, padding):
    """Chunks of one token are the recurrence, one chunk of all is the matrix."""
    q, k, v = qkv()
    q, k = map(features(kind), (q, k))
    keep = some_padding() if padding else None
    mask = causal_mask(13) & padding_mask(keep) if padding else causal_mask(13)
    expected, _ = feature_attention(q, k, v, mask)
    found, state = causal_linear_attention(q, k, v, keep[:, None] if padding else None, chunk=chunk)
    torch.testing.assert_close(found, expected)
    assert state.kv.shape == (2, 3, k.shape[-1], 4) and state.k.shape == (2, 3, k.shape[-1])


def test_recurrence_by_hand():
    q, k, v = qkv()
    q, k = elu_features(q), elu_features(k)
    expected, last = causal_linear_attention(q, k, v)
    kv, k_sum = torch.zeros(2, 3, 4, 4).double(), torch.zeros(2, 3, 4).double()
    for t in range(13):
        kv = kv + k[:, :, t, :, None] * v[:, :, t, None, :]
        k_sum = k_sum + k[:, :, t]
        top = torch.einsum("bhf,bhfd->bhd", q[:, :, t], kv)
        bottom = (q[:, :, t] * k_sum).sum(dim=-1, keepdim=True)
        torch.testing.assert_close(expected[:, :, t], top / bottom)
    torch.testing.assert_close(last.kv, kv)


@both
def test_going_on_from_a_state(kind):
    q, k, v = qkv()
    q, k = map(features(kind), (q, k))
    expected, last = causal_linear_attention(q, k, v)
    state, outputs = None, []
    for part in (slice(0, 6), slice(6, 7), slice(7, 13)):
        output, state = causal_linear_attention(
            q[:, :, part], k[:, :, part], v[:, :, part], state=state, chunk=2
        )
        outputs.append(output)
    torch.testing.assert_close(torch.cat(outputs, dim=2), expected)
    torch.testing.assert_close(state, last)


def test_the_future_changes_nothing():
    q, k, v = qkv()
    layer = LinearAttention(causal=True, chunk=4)
    before = layer(q, k, v)
    for changed in (k, v):
        changed[:, :, 8:] += 1
    after = layer(q, k, v)
    assert torch.equal(before[:, :, :8], after[:, :, :8])
    assert (before != after)[:, :, 8:].any(dim=-1).all()


@pytest.mark.parametrize("causal", [False, True])
def test_gradient(causal):
    q, k, v = (t.requires_grad_() for t in qkv(5, d=2))
    assert torch.autograd.gradcheck(LinearAttention(causal=causal, chunk=2), (q, k, v))


def test_random_features_approximate_the_softmax():
    """The error falls as 1/√features; orthogonal directions lower it."""
    generator = torch.Generator().manual_seed(2)
    q, k = 0.4 * torch.randn(2, 40, 16, generator=generator, dtype=torch.float64)
    expected = (q @ k.T / 16**0.5).exp()

    def error(num_features, orthogonal=True):
        total = 0.0
        for _ in range(30):
            phi = RandomFeatures(16, num_features, generator=generator).double()
            if not orthogonal:
                phi.directions.normal_(generator=generator)
            total += (phi(q) @ phi(k).T / expected - 1).square().mean().item() / 30
        return total**0.5

    few, many = error(32), error(512)
    assert many < 0.15
    assert few / many == pytest.approx(4, rel=0.3)
    assert error(16) < 0.95 * error(16, orthogonal=False)


def test_vectors_too_long_for_random_features_are_refused():
    phi = RandomFeatures(8, 16, generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 3, 8, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="a vector of length 1.*vanish in torch.float32"):
        phi(x * 100 / x.norm(dim=-1, keepdim=True))
    assert phi(x[:0]).shape == (0, 3, 16)
    with pytest.raises(ValueError, match="num_features=0 must be at least 1"):
        RandomFeatures(8, 0)


def test_causal_attention_wants_as_many_keys_as_queries():
    q, k = torch.rand(2, 5, 4), torch.rand(2, 7, 4)
    with pytest.raises(ValueError, match="5 queries, 7 keys and 7 values"):
        causal_linear_attention(q, k, k)


def test_random_directions_prefer_none():
    """As QR leaves them, the first of each group would point down its axis nearly always."""
    generator = torch.Generator().manual_seed(0)
    phi = RandomFeatures(8, 8 * 500, generator=generator)
    means = phi.directions.view(500, 8, 8).mean(dim=0)  # each number has a deviation of 1
    assert means.abs().max() < 4.5 / 500**0.5


def test_random_directions():
    phi = RandomFeatures(8, 20, generator=torch.Generator().manual_seed(0))
    assert phi.directions.shape == (20, 8)
    products = phi.directions[:8] @ phi.directions[:8].T
    torch.testing.assert_close(products, products.diag().diag(), atol=1e-4, rtol=0)
    assert (phi(torch.randn(5, 8)) > 0).all()
    assert "directions" in phi.state_dict()  # a model that was trained with them needs them


@both
@pytest.mark.parametrize("causal", [False, True])
def test_layer_inside_a_block(kind, causal):
    torch.manual_seed(0)
    block = EncoderBlock(12, 3, 16).double().eval()
    replace_attention(block, [LinearAttention(features(kind), causal=causal, chunk=5)])
    x, mask = torch.randn(2, 13, 12, dtype=torch.float64), padding_mask(some_padding())
    fast = block(x, mask)
    with record_attention(block) as maps:
        torch.testing.assert_close(block(x, mask), fast)
    weights = maps.stack()[0]
    assert weights.shape == (2, 3, 13, 13)
    assert not weights.masked_select(~mask).any()
    assert bool(weights.triu(1).any()) != causal


def test_a_query_that_sees_nothing_gets_zeros():
    q, k, v = qkv()
    keep = torch.zeros(2, 1, 1, 13, dtype=torch.bool)
    for causal in (False, True):
        assert not LinearAttention(causal=causal)(q, k, v, keep).any()


def test_errors():
    q, k, v = qkv()
    with pytest.raises(ValueError, match="chunk=0, expected at least 1"):
        causal_linear_attention(q, k, v, chunk=0)
    with pytest.raises(ValueError, match="LinearAttention was given a bias"):
        LinearAttention()(q, k, v, bias=torch.zeros(1))
    with pytest.raises(ValueError, match="LinearAttention itself says"):
        LinearAttention()(q, k, v, causal_mask(13))
