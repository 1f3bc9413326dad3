"""Linear attention: replace exp(q·k) by φ(q)·φ(k), and the order of multiplication is free.

(φ(Q) φ(K)ᵀ) V costs length² · width; φ(Q) (φ(K)ᵀ V) costs length · width². With causality, the sum
in brackets runs over the tokens so far: a state of fixed size, and the model is a recurrent one.

Sources: Katharopoulos et al., "Transformers are RNNs" (2020), sections 3.2 to 3.4; Choromanski et
al., "Rethinking Attention with Performers" (2021), section 2 (positive random features).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import DotProductAttention, causal_mask
from zoo_lessons.layers.checks import require_mask
from zoo_lessons.layers.sparse_attention import keys_to_keep


def elu_features(x: Tensor) -> Tensor:
    """elu(x) + 1: positive, and not far from exp(x) below 0 (Katharopoulos et al., equation 7)."""
    return F.elu(x) + 1


class RandomFeatures(nn.Module):
    """Features whose products are exp(q·k / √d) on average (FAVOR+, section 2).

    φ(x) = exp(ω·x' - |x'|² / 2) / √m for m random directions ω, where x' = x / d^(1/4). They are
    positive, so that no weight is, and orthogonal within each group of d, which lowers the error.

    Args:
        head_dim: width d of queries and keys.
        num_features: m. More features, smaller error.
        generator: source of the directions.

    Raises:
        ValueError: num_features below 1.
    """

    directions: Tensor

    def __init__(
        self, head_dim: int, num_features: int, *, generator: torch.Generator | None = None
    ):
        super().__init__()
        if num_features < 1:
            raise ValueError(f"num_features={num_features} must be at least 1")
        groups = []
        for _ in range(math.ceil(num_features / head_dim)):
            gaussian = torch.randn(head_dim, head_dim, generator=generator)
            orthogonal, upper = torch.linalg.qr(gaussian)
            # QR prefers some signs; with them undone, all directions are equally likely.
            orthogonal = orthogonal * upper.diagonal().sign()
            # As long as a Gaussian vector would be, each for itself.
            lengths = torch.randn(head_dim, head_dim, generator=generator).norm(dim=1)
            groups.append(lengths[:, None] * orthogonal.T)
        self.register_buffer("directions", torch.cat(groups)[:num_features])

    def forward(self, x: Tensor) -> Tensor:
        """x (..., head_dim) -> (..., num_features).

        Raises:
            ValueError: a vector so long that products of its features would be rounded to zero.
        """
        num_features, head_dim = self.directions.shape
        x = x / head_dim**0.25
        exponent = x @ self.directions.T - x.square().sum(dim=-1, keepdim=True) / 2
        features = exponent.exp() / num_features**0.5
        smallest = torch.finfo(features.dtype).tiny ** 0.5
        if features.numel() and features.amax(dim=-1).min() < smallest:
            longest = (x * head_dim**0.25).norm(dim=-1).max().item()
            raise ValueError(
                f"a vector of length {longest:.3g} has features below {smallest:.1g}, whose "
                f"products vanish in {features.dtype}; scale queries and keys down, or use "
                "elu_features"
            )
        return features


def feature_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The definition, with the whole matrix: weights φ(q)·φ(k), divided by their sum.

    Args:
        q, k: features, positive, (..., queries, features) and (..., keys, features).
        v: values (..., keys, d_v).
        mask: Boolean, broadcastable to (..., queries, keys). True = the query may attend.

    Returns:
        The output (..., queries, d_v) and the weights (..., queries, keys).
    """
    scores = q @ k.transpose(-2, -1)
    require_mask(mask, scores.shape)
    if mask is not None:
        scores = scores.masked_fill(~mask, 0.0)
    weights = _divide(scores, scores.sum(dim=-1))
    return weights @ v, weights


class LinearState(NamedTuple):
    """What the tokens so far amount to: its size does not depend on their number."""

    kv: Tensor  # Σ φ(k) vᵀ, (..., features, d_v)
    k: Tensor  # Σ φ(k), (..., features)


def linear_attention(q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:
    """What `feature_attention` gives without a causal mask, in linear time.

    Args:
        q, k, v: as there.
        keep: True for keys, False for padding, broadcastable to (..., keys).
    """
    k = k if keep is None else k * keep[..., None]
    return _divide(q @ (k.transpose(-2, -1) @ v), (q @ k.sum(dim=-2)[..., None]).squeeze(-1))


def causal_linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    keep: Tensor | None = None,
    *,
    chunk: int = 64,
    state: LinearState | None = None,
) -> tuple[Tensor, LinearState]:
    """What `feature_attention` gives with a causal mask, in linear time, chunk by chunk.

    Inside a chunk the small matrix of weights is made; all earlier chunks enter as one state.
    With chunk=1 this is the recurrence, one token after the other, as generation needs it.

    Args:
        q, k: features (..., length, features).
        v: (..., length, d_v).
        keep: True for keys, False for padding, broadcastable to (..., length).
        chunk: tokens in a chunk.
        state: of earlier tokens.

    Returns:
        The output (..., length, d_v) and the state after the last token.

    Raises:
        ValueError: chunk below 1, or queries, keys and values of different lengths.
    """
    if chunk < 1:
        raise ValueError(f"chunk={chunk}, expected at least 1 token")
    if not q.shape[-2] == k.shape[-2] == v.shape[-2]:
        raise ValueError(
            f"{q.shape[-2]} queries, {k.shape[-2]} keys and {v.shape[-2]} values, expected as many "
            "of each: the causal mask compares token by token"
        )
    k = k if keep is None else k * keep[..., None]
    if state is None:
        kv = k.new_zeros(*k.shape[:-2], k.shape[-1], v.shape[-1])
        state = LinearState(kv, kv.sum(dim=-1))
    kv, k_sum = state
    outputs = []
    for q_c, k_c, v_c in zip(*(x.split(chunk, dim=-2) for x in (q, k, v)), strict=True):
        mask = causal_mask(q_c.shape[-2], device=q.device)
        scores = (q_c @ k_c.transpose(-2, -1)).masked_fill(~mask, 0.0)
        total = scores.sum(dim=-1) + (q_c @ k_sum[..., None]).squeeze(-1)
        outputs.append(_divide(scores @ v_c + q_c @ kv, total))
        kv, k_sum = kv + k_c.transpose(-2, -1) @ v_c, k_sum + k_c.sum(dim=-2)
    return torch.cat(outputs, dim=-2), LinearState(kv, k_sum)


def _divide(values: Tensor, total: Tensor) -> Tensor:
    """Zeros, not NaN, for a query that sees nothing."""
    return values / total.clamp(min=torch.finfo(total.dtype).tiny)[..., None]


class LinearAttention(DotProductAttention):
    """Linear attention as a layer that fits into `MultiHeadAttention`; see `replace_attention`.

    While `record_attention` watches, it records the weights that are never made otherwise.

    Args:
        features: what makes queries and keys positive: `elu_features`, or a `RandomFeatures`.
        causal: whether the keys after a query are hidden. The layer needs no mask for it.
        chunk: as in `causal_linear_attention`.
    """

    def __init__(
        self,
        features: Callable[[Tensor], Tensor] = elu_features,
        *,
        causal: bool = False,
        chunk: int = 64,
    ):
        super().__init__()
        self.features, self.causal, self.chunk = features, causal, chunk

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """As `DotProductAttention`, but the mask may only hide keys: (batch, 1, 1, keys).

        Raises:
            ValueError: another mask, or a bias.
        """
        keep = keys_to_keep(mask, bias, "LinearAttention")
        keep = None if keep is None else keep[:, None]  # for all heads
        q, k = self.features(q), self.features(k)
        if self.recorder is not None:
            seen = causal_mask(q.shape[-2], k.shape[-2], q.device) if self.causal else None
            if keep is not None:
                seen = mask if seen is None else seen & mask
            output, weights = feature_attention(q, k, v, seen)
            self.recorder(weights)
            return output
        if self.causal:
            return causal_linear_attention(q, k, v, keep, chunk=self.chunk)[0]
        return linear_attention(q, k, v, keep)
