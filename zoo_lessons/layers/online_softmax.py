"""FlashAttention's algorithm: exact attention in blocks, without the matrix of weights.

`OnlineSoftmax` reads keys block by block and can say at any time what attention over the keys so
far gives. `flash_attention` does this for blocks of queries, and computes its backward pass in
blocks too, from the inputs, the output and one number per query. It is here to be read, and to
count what must be kept: each block is a few PyTorch operations, so it is slower than the kernel
behind `F.scaled_dot_product_attention`, which keeps a block in the processor's fast memory.

Sources: Milakov & Gimelshein, "Online normalizer calculation for softmax" (2018), algorithm 3; Dao
et al., "FlashAttention" (2022), algorithms 1 and 4; Dao, "FlashAttention-2" (2023), section 3.1
(divide once, at the end; keep the logsumexp instead of maximum and sum).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from zoo_lessons.layers.attention import causal_mask
from zoo_lessons.layers.checks import require_finite, require_mask


class OnlineSoftmax(NamedTuple):
    """A softmax-weighted sum of values, after some of the keys.

    Attributes:
        maximum: largest score so far (..., queries); -inf before the first key.
        total: sum of exp(score - maximum) so far (..., queries).
        weighted: sum of exp(score - maximum) · value so far (..., queries, d_v).
    """

    maximum: Tensor
    total: Tensor
    weighted: Tensor

    @classmethod
    def start(cls, q: Tensor, d_v: int) -> OnlineSoftmax:
        """Before any key, for queries q (..., queries, d_k)."""
        rows = q.shape[:-1]
        return cls(q.new_full(rows, -math.inf), q.new_zeros(rows), q.new_zeros(*rows, d_v))

    def update(self, scores: Tensor, v: Tensor) -> OnlineSoftmax:
        """After one more block of keys.

        Args:
            scores: (..., queries, keys of the block); -inf where a query may not attend.
            v: values of the block (..., keys of the block, d_v).
        """
        maximum = torch.maximum(self.maximum, scores.amax(dim=-1))
        # A query that has seen no key yet has the maximum -inf, and -inf - -inf is nan. Measured
        # from 0 instead, all its exponentials are exp(-inf) = 0, which is right.
        base = maximum.masked_fill(maximum == -math.inf, 0.0)
        rescale = (self.maximum - base).exp()  # (..., queries); at most 1
        exps = (scores - base[..., None]).exp()  # (..., queries, keys of the block)
        return OnlineSoftmax(
            maximum,
            rescale * self.total + exps.sum(dim=-1),
            rescale[..., None] * self.weighted + exps @ v,
        )

    def output(self) -> Tensor:
        """Attention over the keys so far (..., queries, d_v); zeros for a query that saw none."""
        return self.weighted / self.total.masked_fill(self.total == 0, 1.0)[..., None]

    def logsumexp(self) -> Tensor:
        """log of the sum of exp(score) (..., queries); -inf for a query that saw no key.

        With it, the weight of any score is exp(score - logsumexp): the backward pass needs no
        other memory of the softmax.
        """
        return self.maximum + self.total.log()


def flash_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    *,
    causal: bool = False,
    block: int = 64,
) -> Tensor:
    """softmax(q kᵀ / √d_k) v in blocks of queries and keys; differentiable in q, k and v.

    Args:
        q: queries (..., queries, d_k).
        k: keys (..., keys, d_k), with the same leading axes.
        v: values (..., keys, d_v), with the same leading axes.
        mask: Boolean, broadcastable to (..., queries, keys). True = the query may attend.
        causal: apply `causal_mask` too; blocks that it empties are skipped.
        block: queries and keys in a block.

    Returns:
        The output (..., queries, d_v); zeros for a query that may attend to nothing.

    Raises:
        ValueError: sizes that do not fit, NaN, or a block below 1.
        TypeError: a mask that is not Boolean.
    """
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] or min(q.ndim, k.ndim, v.ndim) < 2:
        raise ValueError(f"q, k and v must have the same leading axes, got {shapes}")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ValueError(f"q and k need one width, k and v one number of keys, got {shapes}")
    if block < 1:
        raise ValueError(f"block={block} must be at least 1")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        require_finite(name, tensor)
    full = (*q.shape[:-1], k.shape[-2])
    require_mask(mask, full)
    # A view: a mask (batch, 1, 1, keys) is looked at as (batch, heads, queries, keys), not copied.
    mask = mask if mask is None else mask.expand(full)
    return _FlashAttention.apply(q, k, v, mask, causal, block)


class _Blocks:
    """The blocks of one call: where they lie, their scores, and their share of the mask."""

    def __init__(self, q: Tensor, k: Tensor, mask: Tensor | None, causal: bool, block: int):
        self.q, self.k, self.mask = q, k, mask
        self.block = block
        self.queries, self.keys = q.shape[-2], k.shape[-2]
        self.scale = 1 / math.sqrt(q.shape[-1])
        self.causal = causal
        if causal and self.keys < self.queries:
            raise ValueError(
                f"causal attention got {self.keys} keys for {self.queries} queries, "
                "expected at least as many"
            )

    def of_queries(self) -> list[slice]:
        return _slices(self.queries, self.block)

    def of_keys(self, rows: slice) -> list[slice]:
        """The blocks of keys that some query of these rows may see."""
        last = self.keys - self.queries + rows.stop if self.causal else self.keys
        return [slice(cut.start, min(cut.stop, last)) for cut in _slices(last, self.block)]

    def scores(self, rows: slice, columns: slice) -> Tensor:
        """(..., queries of the block, keys of the block), -inf where a query may not attend."""
        scores = self.scale * self.q[..., rows, :] @ self.k[..., columns, :].transpose(-2, -1)
        if self.mask is not None:
            scores = scores.masked_fill(~self.mask[..., rows, columns], -math.inf)
        first = self.keys - self.queries + rows.start  # the last key that the first query may see
        if self.causal and columns.stop - 1 > first:
            count = rows.stop - rows.start
            seen = causal_mask(count, first + count, self.q.device)  # (queries, keys so far)
            scores = scores.masked_fill(~seen[:, columns], -math.inf)
        return scores


class _FlashAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, block: int
    ) -> Tensor:
        blocks = _Blocks(q, k, mask, causal, block)
        output = q.new_empty(*q.shape[:-1], v.shape[-1])
        logsumexp = q.new_empty(q.shape[:-1])
        for rows in blocks.of_queries():
            state = OnlineSoftmax.start(q[..., rows, :], v.shape[-1])
            for columns in blocks.of_keys(rows):
                state = state.update(blocks.scores(rows, columns), v[..., columns, :])
            output[..., rows, :], logsumexp[..., rows] = state.output(), state.logsumexp()
        ctx.save_for_backward(q, k, v, output, logsumexp)
        ctx.options = (mask, causal, block)
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, output, logsumexp = ctx.saved_tensors
        blocks = _Blocks(q, k, *ctx.options)
        grad_q, grad_k, grad_v = (torch.zeros_like(x) for x in (q, k, v))
        # The softmax's gradient subtracts, from each weight's gradient, their weighted mean; that
        # mean is grad · output, so it needs no weights (Dao et al. 2022, appendix B.2).
        mean = (grad * output).sum(dim=-1)  # (..., queries)
        base = logsumexp.masked_fill(logsumexp == -math.inf, 0.0)
        for rows in blocks.of_queries():
            grad_rows = grad[..., rows, :]
            for columns in blocks.of_keys(rows):
                weights = (blocks.scores(rows, columns) - base[..., rows, None]).exp()  # again
                grad_v[..., columns, :] += weights.transpose(-2, -1) @ grad_rows
                grad_weights = grad_rows @ v[..., columns, :].transpose(-2, -1)
                grad_scores = blocks.scale * weights * (grad_weights - mean[..., rows, None])
                grad_q[..., rows, :] += grad_scores @ k[..., columns, :]
                grad_k[..., columns, :] += grad_scores.transpose(-2, -1) @ q[..., rows, :]
        return grad_q, grad_k, grad_v, None, None, None


def _slices(length: int, block: int) -> list[slice]:
    return [slice(start, min(start + block, length)) for start in range(0, length, block)]
