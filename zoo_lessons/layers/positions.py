"""Four ways to tell a Transformer where a token stands: sinusoidal, learned, relative, rotary."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from zoo_lessons.layers.checks import require_ids, require_width


def sinusoidal_positions(
    length: int, d_model: int, base: float = 10000.0, *, interleaved: bool = True
) -> Tensor:
    """The fixed table of Vaswani et al. (2017), section 3.5.

    Dimension pair i turns with angle `position / base^(2i/d_model)`; the pair holds its sine and
    cosine.

    Args:
        length: number of positions.
        d_model: width, even.
        base: sets the longest wavelength, 2π·base.
        interleaved: True puts sine and cosine side by side as the paper does; False puts all
            sines first, as Marian and Tensor2Tensor do. The layers above can learn either.

    Returns:
        (length, d_model), float32.

    Raises:
        ValueError: an odd d_model.
    """
    if d_model % 2:
        raise ValueError(f"d_model={d_model} must be even: each sine has its cosine")
    position = torch.arange(length, dtype=torch.float64)[:, None]  # (length, 1)
    frequency = base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    angle = position * frequency  # (length, d_model / 2)
    pairs = torch.stack([angle.sin(), angle.cos()], dim=-1)  # (length, d_model / 2, 2)
    table = pairs.flatten(1) if interleaved else pairs.transpose(1, 2).flatten(1)
    return table.float()


class SinusoidalPositions(nn.Module):
    """Adds the sinusoidal table to token vectors of any length."""

    def __init__(
        self,
        d_model: int,
        max_length: int = 512,
        base: float = 10000.0,
        *,
        interleaved: bool = True,
    ):
        super().__init__()
        self.d_model, self.base, self.interleaved = d_model, base, interleaved
        self.register_buffer("table", self._table(max_length), persistent=False)

    def _table(self, length: int) -> Tensor:
        return sinusoidal_positions(length, self.d_model, self.base, interleaved=self.interleaved)

    def forward(self, x: Tensor) -> Tensor:
        """x (batch, length, d_model) -> the same shape. The table grows when x is longer."""
        require_width("x", x, self.d_model, "batch, length, d_model")
        if x.shape[1] > len(self.table):
            self.table = self._table(x.shape[1]).to(self.table)
        return x + self.table[: x.shape[1]].to(x.dtype)


class LearnedPositions(nn.Module):
    """Adds one trained vector per position, as in BERT, GPT-2 and ViT."""

    def __init__(self, max_length: int, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(max_length, d_model))
        nn.init.normal_(self.weight, std=0.02)  # Devlin et al. (2018) initialise all weights so

    def forward(self, x: Tensor, position_ids: Tensor | None = None) -> Tensor:
        """x (batch, length, d_model) -> the same shape.

        `position_ids` (batch or 1, length) names the row of the table that each vector gets; by
        default they are 0, 1, 2, ...

        Raises:
            ValueError: x is longer than the table: there is no vector for the last positions.
        """
        max_length, d_model = self.weight.shape
        require_width("x", x, d_model, "batch, length, d_model")
        if position_ids is not None:
            require_ids("position_ids", position_ids, max_length, size_name="max_length")
            return x + self.weight[position_ids]
        if x.shape[1] > max_length:
            raise ValueError(
                f"x has {x.shape[1]} positions, expected at most max_length={max_length}: "
                "learned positions end with their table"
            )
        return x + self.weight[: x.shape[1]]


def relative_position_bucket(
    distance: Tensor, num_buckets: int = 32, max_distance: int = 128, bidirectional: bool = True
) -> Tensor:
    """Sort distances into buckets: exact when near, logarithmically wider when far.

    Source: Raffel et al., "T5" (2020), section 2.1.

    Args:
        distance: integer tensor, key position minus query position.
        num_buckets: number of buckets in all.
        max_distance: all distances from here on share the last bucket.
        bidirectional: half of the buckets for keys after the query. False (a causal decoder)
            puts all later keys in bucket 0.

    Returns:
        Bucket indices, same shape as `distance`.
    """
    bucket = torch.zeros_like(distance)
    if bidirectional:
        num_buckets //= 2
        bucket = bucket + (distance > 0) * num_buckets
        distance = distance.abs()
    else:
        distance = (-distance).clamp(min=0)
    exact = num_buckets // 2  # the first half of the buckets hold one distance each
    log_ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = exact + (log_ratio * (num_buckets - exact)).long()
    far = far.clamp(max=num_buckets - 1)
    return bucket + torch.where(distance < exact, distance, far)


class RelativePositionBias(nn.Module):
    """T5's relative positions: one trained number per head and bucket, added to the scores."""

    def __init__(
        self,
        num_heads: int,
        num_buckets: int = 32,
        max_distance: int = 128,
        bidirectional: bool = True,
    ):
        super().__init__()
        smallest = 4 if bidirectional else 2
        if num_buckets < smallest or max_distance <= num_buckets // smallest:
            raise ValueError(
                f"num_buckets={num_buckets} and max_distance={max_distance}: expected at least "
                f"{smallest} buckets and a max_distance beyond the exact ones"
            )
        self.num_buckets, self.max_distance = num_buckets, max_distance
        self.bidirectional = bidirectional
        self.weight = nn.Parameter(torch.empty(num_buckets, num_heads))
        nn.init.normal_(self.weight, std=0.02)

    def forward(self, queries: int, keys: int | None = None) -> Tensor:
        """The bias for all pairs: (1, num_heads, queries, keys)."""
        keys = queries if keys is None else keys
        device = self.weight.device
        key, query = torch.arange(keys, device=device), torch.arange(queries, device=device)
        distance = key[None, :] - query[:, None]  # (queries, keys)
        bucket = relative_position_bucket(
            distance, self.num_buckets, self.max_distance, self.bidirectional
        )
        return self.weight[bucket].permute(2, 0, 1)[None]  # (1, heads, queries, keys)


class Rotary(nn.Module):
    """Rotary positions: turn q and k by an angle that grows with the position.

    The dot product of a query at m and a key at n then depends on m - n only.
    Source: Su et al., "RoFormer" (2021), section 3.2.2, equation 15.

    Args:
        head_dim: width of one head, even.
        base: frequency i is base^(-2i/head_dim).
        interleaved: which dimensions form a pair. True: (0, 1), (2, 3), ... as in the paper and
            GPT-J. False: (0, d/2), (1, d/2 + 1), ... as in Llama. The two differ by a fixed
            permutation of the dimensions.
    """

    def __init__(self, head_dim: int, base: float = 10000.0, *, interleaved: bool = False):
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"head_dim={head_dim} must be even: rotation acts on pairs")
        self.head_dim, self.base, self.interleaved = head_dim, base, interleaved

    def forward(self, q: Tensor, k: Tensor, offset: int = 0) -> tuple[Tensor, Tensor]:
        """Rotate q (..., queries, head_dim) and k (..., keys, head_dim).

        `offset` is the position of the first key. Queries are the last positions, so that a
        single new query lines up with cached keys.
        """
        keys, queries = k.shape[-2], q.shape[-2]
        return self.rotate(q, offset + keys - queries), self.rotate(k, offset)

    def rotate(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate x (..., length, head_dim), whose first row stands at position `start`."""
        if x.shape[-1] != self.head_dim:
            raise ValueError(f"x has width {x.shape[-1]}, expected head_dim={self.head_dim}")
        # Angles in at least float32: in half precision, positions beyond 256 would collide.
        exact = {"device": x.device, "dtype": torch.promote_types(x.dtype, torch.float32)}
        position = torch.arange(start, start + x.shape[-2], **exact)
        frequency = self.base ** (-torch.arange(0, self.head_dim, 2, **exact) / self.head_dim)
        angle = position[:, None] * frequency  # (length, pairs)
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
        if self.interleaved:
            a, b = x[..., 0::2], x[..., 1::2]
            return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)
        a, b = x.chunk(2, dim=-1)
        return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=-1)
