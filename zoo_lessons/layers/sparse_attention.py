"""Sparse attention: each token looks at a few others, and no (queries × keys) matrix is made.

A `SparsePattern` joins up to three kinds of looking: a window of neighbours, global tokens, which
see all and are seen by all, and random blocks. `SparsePattern.mask` says so in the plainest way, as
a Boolean matrix; `sparse_attention` computes the same from blocks, in memory that grows linearly.

Sources: Beltagy et al., "Longformer" (2020), section 3.1 (window and global tokens); Zaheer et al.,
"Big Bird" (2020), section 2 and appendix D (random blocks, computation in blocks).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import (
    DotProductAttention,
    MultiHeadAttention,
    causal_mask,
    scaled_dot_product_attention,
)


@dataclass(frozen=True)
class SparsePattern:
    """Which tokens attend to which.

    Attributes:
        radius: how many tokens to each side a token sees.
        causal: whether the keys after a query are hidden.
        global_tokens: positions that see all tokens and that all see; -1 is the last.
        random_blocks: how many blocks of keys each block of queries sees beyond its window, the
            same in all heads.
        block: tokens in a block. Without random blocks or whole blocks it only decides how the
            computation is cut up, not its result.
        whole_blocks: whether the window is that of a token's whole block, as in BigBird: then all
            tokens of a block see the same keys, and radius counts from the block's ends.
        seed: of the random blocks.

    Raises:
        ValueError: a number out of range, or a radius that is not whole blocks.
    """

    radius: int
    causal: bool = False
    global_tokens: tuple[int, ...] = ()
    random_blocks: int = 0
    block: int = 64
    whole_blocks: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.radius < 0 or self.block < 1 or self.random_blocks < 0:
            raise ValueError(
                f"radius={self.radius}, block={self.block} and random_blocks={self.random_blocks}, "
                "expected at least 0, 1 and 0"
            )
        if self.whole_blocks and self.radius % self.block:
            raise ValueError(
                f"radius={self.radius} must be a multiple of block={self.block} with whole_blocks"
            )

    @classmethod
    def bigbird(cls, length: int, block: int = 64, random_blocks: int = 3) -> SparsePattern:
        """BigBird-ITC as published: a window of three blocks, random ones, first and last global.

        Raises:
            ValueError: the length is not a multiple of the block, or shorter than two.
        """
        if length % block or length < 2 * block:
            raise ValueError(
                f"length={length}, expected a multiple of block={block} and at least two of them"
            )
        first_and_last = (*range(block), *range(-block, 0))
        return cls(block, False, first_and_last, random_blocks, block, whole_blocks=True)

    def is_global(self, length: int) -> Tensor:
        """True at the global tokens, (length).

        Raises:
            ValueError: a position outside the text.
        """
        found = torch.zeros(length, dtype=torch.bool)
        for position in self.global_tokens:
            if not -length <= position < length:
                raise ValueError(f"global token {position} is outside a text of {length} tokens")
            found[position] = True
        return found

    def mask(self, length: int) -> Tensor:
        """The pattern as a matrix, Boolean (length, length): the union of its three parts.

        For small lengths, to look at and to test with: this is what `sparse_attention` never makes.
        """
        allowed = window_mask(length, self.radius, self.block if self.whole_blocks else 1)
        allowed |= global_mask(self.is_global(length))
        allowed |= random_block_mask(self.key_blocks(length), self.block, length)
        return allowed & causal_mask(length) if self.causal else allowed

    def density(self, length: int) -> float:
        """Share of all pairs of tokens that the pattern computes."""
        return self.mask(length).double().mean().item()

    def key_blocks(self, length: int) -> Tensor:
        """The random blocks: for each block of queries, which blocks of keys it sees.

        Returns:
            (blocks, random_blocks), -1 where there are not that many left to choose from.
        """
        return _random_blocks(self, length)


def window_mask(length: int, radius: int, block: int = 1) -> Tensor:
    """True where query and key are at most `radius` apart, Boolean (length, length).

    With block > 1, whole blocks are at most radius / block apart.
    """
    place = torch.arange(length) // block
    return (place[:, None] - place[None, :]).abs() <= radius // block


def global_mask(is_global: Tensor) -> Tensor:
    """True where the query or the key is global; is_global (length) -> (length, length)."""
    return is_global[:, None] | is_global[None, :]


def random_block_mask(key_blocks: Tensor, block: int, length: int) -> Tensor:
    """True where the key's block is one that the query's block has drawn, (length, length)."""
    place = torch.arange(length) // block
    drawn = key_blocks[place]  # (length, random_blocks): a row for each query
    return (drawn[:, None, :] == place[None, :, None]).any(dim=-1)


@lru_cache(maxsize=32)
def _random_blocks(pattern: SparsePattern, length: int) -> Tensor:
    """Blocks outside the window and not wholly global; before the query's, if causal."""
    blocks, reach = -(-length // pattern.block), -(-pattern.radius // pattern.block)
    generator = random.Random(pattern.seed)
    known = [part.all().item() for part in pattern.is_global(length).split(pattern.block)]
    found = torch.full((blocks, pattern.random_blocks), -1)
    if not pattern.random_blocks:
        return found
    for i in range(blocks):
        last = i if pattern.causal else blocks
        others = [j for j in range(last) if abs(i - j) > reach and not known[j]]
        drawn = generator.sample(others, min(pattern.random_blocks, len(others)))
        found[i, : len(drawn)] = torch.tensor(sorted(drawn), dtype=torch.long)
    return found


def sparse_attention(
    q: Tensor, k: Tensor, v: Tensor, pattern: SparsePattern, keep: Tensor | None = None
) -> Tensor:
    """Attention under `pattern.mask(length)`, computed from blocks.

    Args:
        q, k, v: (batch, heads, length, head_dim), one sequence.
        pattern: who looks at whom.
        keep: True for tokens, False for padding, (batch, length).

    Returns:
        (batch, heads, length, head_dim).

    Raises:
        ValueError: shapes that do not fit.
    """
    length = q.shape[2]
    is_global = pattern.is_global(length).to(q.device)
    positions = is_global.nonzero().flatten()  # (globals)
    if not len(positions):
        return banded_attention(q, k, v, pattern, keep=keep)
    seen = torch.ones(1, length, dtype=torch.bool, device=q.device) if keep is None else keep
    # Every query sees the global keys. They leave the window, or they would count twice.
    shared_mask = seen[:, None, positions].expand(-1, length, -1)  # (batch or 1, length, globals)
    if pattern.causal:
        earlier = positions <= torch.arange(length, device=q.device)[:, None]
        shared_mask = shared_mask & earlier
    output = banded_attention(
        q,
        k,
        v,
        pattern,
        keep=seen & ~is_global,
        shared=(k[:, :, positions], v[:, :, positions]),
        shared_mask=shared_mask,
    )
    # And the global queries see every key: a few full rows.
    rows = seen[:, None, None, :]
    if pattern.causal:
        rows = rows & (torch.arange(length, device=q.device) <= positions[:, None])
    full = F.scaled_dot_product_attention(q[:, :, positions], k, v, attn_mask=rows)
    return output.index_copy(2, positions, full)


def banded_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    pattern: SparsePattern,
    *,
    keep: Tensor | None = None,
    shared: tuple[Tensor, Tensor] | None = None,
    shared_mask: Tensor | None = None,
) -> Tensor:
    """The window and the random blocks of a pattern, and keys that all queries share.

    Each block of queries gets a copy of the blocks of keys that it may need, and a small mask says
    which of them each query sees. One softmax runs over those and the shared keys.

    Args:
        q, k, v: (batch, heads, length, head_dim).
        pattern: its global tokens are left out: `sparse_attention` handles them.
        keep: True for keys that may be seen in window and random blocks, (batch or 1, length).
        shared: more keys and values, each (batch, heads, shared, head_dim).
        shared_mask: which of them each query sees, (batch or 1, length, shared).

    Returns:
        (batch, heads, length, head_dim); zeros for a query that sees nothing.

    Raises:
        ValueError: shapes that do not fit.
    """
    if q.ndim != 4 or q.shape != k.shape or k.shape[:3] != v.shape[:3]:
        raise ValueError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)}, expected "
            "(batch, heads, length, head_dim) of one sequence"
        )
    batch, heads, length, _ = q.shape
    block, device = pattern.block, q.device
    if keep is not None and keep.shape not in {(batch, length), (1, length)}:
        raise ValueError(
            f"keep has shape {tuple(keep.shape)}, expected (batch, length) = {(batch, length)}"
        )
    blocks, reach = -(-length // block), -(-pattern.radius // block)
    padding = blocks * block - length
    q, k, v = (F.pad(x, (0, 0, 0, padding)).unflatten(2, (blocks, block)) for x in (q, k, v))

    # Which blocks of keys each block of queries gets: its neighbours, then its random ones.
    own = torch.arange(blocks, device=device)[:, None]
    ahead = 0 if pattern.causal else reach
    neighbours = own + torch.arange(-reach, ahead + 1, device=device)  # (blocks, window blocks)
    drawn = pattern.key_blocks(length).to(device)
    chosen = torch.cat([neighbours, drawn], dim=1)  # (blocks, m)

    # Which keys of these each query sees.
    inside = torch.arange(block, device=device)
    query = own * block + inside  # (blocks, block)
    key = (chosen[..., None] * block + inside).flatten(1)  # (blocks, m · block)
    unit = block if pattern.whole_blocks else 1
    apart = (query[..., None] // unit - key[:, None] // unit).abs()
    is_drawn = torch.arange(key.shape[1], device=device) >= neighbours.shape[1] * block
    allowed = (apart <= pattern.radius // unit) | is_drawn
    allowed &= ((key >= 0) & (key < length))[:, None]
    if pattern.causal:
        allowed &= key[:, None] <= query[..., None]
    allowed = allowed[None]  # (1, blocks, block, m · block)
    if keep is not None:
        allowed = allowed & keep[:, key.clamp(0, length - 1)][:, :, None]

    chosen = chosen.clamp(0, blocks - 1)  # what lies outside is masked
    k, v = (x[:, :, chosen].flatten(3, 4) for x in (k, v))  # (batch, heads, blocks, m · block, d)
    if shared is not None:
        more = (x[:, :, None].expand(-1, -1, blocks, -1, -1) for x in shared)
        k, v = (torch.cat([x, y], dim=3) for x, y in zip((k, v), more, strict=True))
        shared_mask = F.pad(shared_mask, (0, 0, 0, padding)).unflatten(1, (blocks, block))
        both = torch.broadcast_shapes(allowed.shape[:3], shared_mask.shape[:3])
        allowed = torch.cat([x.expand(*both, -1) for x in (allowed, shared_mask)], dim=-1)

    # (batch · blocks) small attentions: the fused kernels take four axes.
    q, k, v = (x.transpose(1, 2).flatten(0, 1) for x in (q, k, v))
    allowed = allowed.expand(batch, -1, -1, -1).flatten(0, 1)[:, None]
    output = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    output = output.masked_fill(~allowed.any(dim=-1, keepdim=True), 0.0)
    output = output.unflatten(0, (batch, blocks)).transpose(1, 2)
    return output.flatten(2, 3)[:, :, :length]


class SparseAttention(DotProductAttention):
    """`sparse_attention` as a layer that fits into `MultiHeadAttention`; see `replace_attention`.

    While `record_attention` watches, it uses the plain form and records the whole matrix.
    """

    def __init__(self, pattern: SparsePattern):
        super().__init__()
        self.pattern = pattern

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
        keep = keys_to_keep(mask, bias, "SparseAttention")
        if self.recorder is None:
            return sparse_attention(q, k, v, self.pattern, keep)
        allowed = self.pattern.mask(q.shape[2]).to(q.device)
        allowed = allowed if mask is None else allowed & mask
        output, weights = scaled_dot_product_attention(q, k, v, allowed)
        self.recorder(weights)
        return output


def keys_to_keep(mask: Tensor | None, bias: Tensor | None, name: str) -> Tensor | None:
    """A mask (batch, 1, 1, keys) as (batch, keys), for attention that makes no matrix of scores.

    Raises:
        ValueError: a mask with queries or heads, or a bias.
    """
    if bias is not None:
        raise ValueError(f"{name} was given a bias, expected None: it has no matrix to add it to")
    if mask is None:
        return None
    if mask.ndim != 4 or mask.shape[1:3] != (1, 1):
        raise ValueError(
            f"mask has shape {tuple(mask.shape)}, expected (batch, 1, 1, keys), which hides "
            f"padding only: {name} itself says which other keys a query sees"
        )
    return mask[:, 0, 0]


def replace_attention(model: nn.Module, layers: Sequence[DotProductAttention | None]) -> nn.Module:
    """Give the attention layers of a model another formula; projections and weights stay.

    With windows in the low layers and None in the high ones, attention becomes hierarchical.

    Args:
        model: any model whose attention is `MultiHeadAttention`.
        layers: for each of them, in order, the new formula, or None to leave it as it is.

    Returns:
        The same model.

    Raises:
        ValueError: as many layers as the model has are needed.
    """
    found = [module for module in model.modules() if isinstance(module, MultiHeadAttention)]
    if len(found) != len(layers):
        raise ValueError(f"got {len(layers)} layers, expected {len(found)} as the model has")
    for module, layer in zip(found, layers, strict=True):
        if layer is not None:
            module.attention = layer
    return model
