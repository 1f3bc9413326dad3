"""The plain window of sparse attention, with as little copying as it takes.

`sparse_attention` gathers the blocks that each block of queries sees, since random blocks may lie
anywhere, and makes their mask at each call. A window needs neither: the keys of neighbouring blocks
overlap in memory, so they can be *viewed* without a copy, and the mask depends on the length only.
Source of the pattern: Beltagy et al., "Longformer" (2020), section 3.1.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.layers.sparse_attention import SparseAttention, SparsePattern


class WindowAttention(SparseAttention):
    """`SparseAttention` with a window only: the same numbers in less time.

    Texts with padding, and attention that is being recorded, go the general way.

    Args:
        radius: how many tokens to each side a token sees.
        block: how many queries share one piece of keys; by default as many as the radius.

    Raises:
        ValueError: a negative radius, or an empty block.
    """

    def __init__(self, radius: int, block: int | None = None):
        super().__init__(SparsePattern(radius, block=max(1, radius) if block is None else block))

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """q, k, v (batch, heads, length, head_dim) -> the same shape; see `SparseAttention`."""
        if self.recorder is not None or mask is not None or bias is not None:
            return super().forward(q, k, v, mask, bias)
        batch, _, length, _ = q.shape
        radius, block = self.pattern.radius, self.pattern.block
        blocks = -(-length // block)
        padding = blocks * block - length
        q = F.pad(q, (0, 0, 0, padding)).unflatten(2, (blocks, block))
        # Views: (batch, heads, blocks, block + 2 · radius, head_dim), neighbours overlapping.
        k, v = (
            F.pad(x, (0, 0, radius, radius + padding)).unfold(2, block + 2 * radius, block).mT
            for x in (k, v)
        )
        # (batch · blocks) small attentions: the fused kernels take four axes.
        q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
        allowed = _window_bias(length, radius, block, q.dtype, q.device)
        allowed = allowed.expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
        output = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
        output = output.unflatten(0, (batch, blocks)).transpose(1, 2)
        return output.flatten(2, 3)[:, :, :length]


@lru_cache(maxsize=8)
def _window_bias(
    length: int, radius: int, block: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """0 where a query sees a key of its block's piece, -inf elsewhere.

    (1, blocks, block, block + 2 · radius). The queries that only fill up the last block see the
    last token's window, so that no row is empty.
    """
    with torch.inference_mode(False):  # it is kept, and may be needed in training later
        blocks = -(-length // block)
        query = torch.arange(blocks * block).clamp(max=length - 1).view(blocks, block, 1)
        first = torch.arange(blocks)[:, None, None] * block - radius
        key = first + torch.arange(block + 2 * radius)
        allowed = ((query - key).abs() <= radius) & (key >= 0) & (key < length)
        bias = torch.zeros(allowed.shape, dtype=dtype).masked_fill(~allowed, -torch.inf)
        return bias[None].to(device)
