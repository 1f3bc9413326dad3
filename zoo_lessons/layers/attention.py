"""Attention: the formula, the layer that every model of the zoo shares, and ways to look inside.

Sources: Vaswani et al., "Attention Is All You Need" (2017), section 3.2; equation 1 is
`scaled_dot_product_attention`, the unnumbered equation of section 3.2.2 is `MultiHeadAttention`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.checks import (
    require_divisible,
    require_finite,
    require_mask,
    require_width,
)

if TYPE_CHECKING:
    from zoo_lessons.layers.cache import LayerCache
    from zoo_lessons.layers.positions import Rotary


def scaled_dot_product_attention(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, bias: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / √d_k) v, written as in the paper (equation 1).

    Args:
        q: queries (..., queries, d_k).
        k: keys (..., keys, d_k).
        v: values (..., keys, d_v).
        mask: Boolean, broadcastable to (..., queries, keys). True = the query may attend.
        bias: added to the scaled scores, e.g. a relative position bias.

    Returns:
        The output (..., queries, d_v) and the weights (..., queries, keys). A row of weights sums
        to 1, or is all zeros where the mask leaves a query nothing to attend to.

    Raises:
        ValueError: sizes that do not fit together, or NaN in q, k or v.
        TypeError: a mask that is not Boolean.
    """
    _require_qkv(q, k, v)
    d_k = q.shape[-1]
    scores = q @ k.transpose(-2, -1) / math.sqrt(d_k)  # (..., queries, keys)
    if bias is not None:
        scores = scores + bias
    require_mask(mask, scores.shape)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        # softmax over a row of -inf is 0/0: a query that may see nothing gets zeros, not NaN.
        weights = weights.masked_fill(~mask.any(dim=-1, keepdim=True), 0.0)
    return weights @ v, weights


def causal_mask(
    queries: int, keys: int | None = None, device: torch.device | None = None
) -> Tensor:
    """True where a query may look: at its own position and at earlier ones.

    With more keys than queries the queries are the last positions, as in generation with a cache.

    Returns:
        Boolean (queries, keys), lower triangular when square.

    Raises:
        ValueError: fewer keys than queries.
    """
    keys = queries if keys is None else keys
    if keys < queries:
        raise ValueError(
            f"causal_mask got {keys} keys for {queries} queries, expected at least as many"
        )
    return torch.ones(queries, keys, dtype=torch.bool, device=device).tril(keys - queries)


def padding_mask(attention_mask: Tensor) -> Tensor:
    """Turn a tokenizer's 0/1 `attention_mask` (batch, keys) into a mask (batch, 1, 1, keys).

    Raises:
        ValueError: not two axes, or values other than 0 and 1.
    """
    if attention_mask.ndim != 2:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected (batch, keys)"
        )
    allowed = attention_mask.bool()
    if attention_mask.device.type == "cpu" and not torch.compiler.is_compiling():
        if not torch.equal(allowed.to(attention_mask.dtype), attention_mask):
            raise ValueError(
                f"attention_mask holds values from {attention_mask.min().item()} to "
                f"{attention_mask.max().item()}, expected only 1 (token) and 0 (padding)"
            )
    return allowed[:, None, None, :]


class DotProductAttention(nn.Module):
    """The attention formula as a layer without parameters: the one place where weights are made.

    It uses PyTorch's fused kernel, which never stores the weights. Only while `record_attention`
    watches does it write the formula out.
    """

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.dropout = dropout
        self.recorder: Callable[[Tensor], None] | None = None

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """q (batch, heads, queries, head_dim), k and v with keys instead -> the shape of q."""
        if self.recorder is not None:
            output, weights = scaled_dot_product_attention(q, k, v, mask, bias)
            self.recorder(weights)
            return output
        require_mask(mask, (*q.shape[:-1], k.shape[-2]))
        if bias is not None:
            bias = bias.to(q.dtype)
            mask = bias if mask is None else bias.masked_fill(~mask, -math.inf)
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


class MultiHeadAttention(nn.Module):
    """Several attentions in parallel sub-spaces, joined by W^O (Vaswani et al., section 3.2.2).

    Self-attention takes q, k and v from the same sequence and makes them in one matrix product
    (`qkv`). Cross-attention takes k and v from a second sequence, `memory` (`q` and `kv`).

    Args:
        d_model: width of the input and output.
        num_heads: number of heads.
        d_memory: width of `memory` for cross-attention. None makes this self-attention.
        head_dim: width of one head, d_model / num_heads by default.
        bias: whether the projections have a bias.
        dropout: probability of dropping an attention weight in training.

    Raises:
        ValueError: num_heads does not divide d_model and no head_dim is given.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        d_memory: int | None = None,
        head_dim: int | None = None,
        bias: bool = True,
        dropout: float = 0.0,
    ):
        super().__init__()
        if head_dim is None:
            require_divisible(d_model=d_model, num_heads=num_heads)
            head_dim = d_model // num_heads
        self.d_model, self.num_heads, self.head_dim, self.d_memory = (
            d_model,
            num_heads,
            head_dim,
            d_memory,
        )
        inner = num_heads * head_dim
        if d_memory is None:
            self.qkv = nn.Linear(d_model, 3 * inner, bias=bias)
        else:
            self.q = nn.Linear(d_model, inner, bias=bias)
            self.kv = nn.Linear(d_memory, 2 * inner, bias=bias)
        self.attention = DotProductAttention(dropout)
        self.out = nn.Linear(inner, d_model, bias=bias)  # W^O

    def forward(
        self,
        x: Tensor,
        memory: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
        rotary: Rotary | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """Attend from `x` to itself, or to `memory` in cross-attention.

        Args:
            x: (batch, queries, d_model).
            memory: (batch, keys, d_memory), cross-attention only.
            mask: Boolean, broadcastable to (batch, heads, queries, keys). True = may attend.
            bias: added to the scores, same shape rule as the mask.
            rotary: rotates q and k by their position, self-attention only.
            cache: keys and values of earlier calls. In self-attention `x` holds the new tokens
                only, and the keys are all tokens so far; in cross-attention the first call stores
                what it made of `memory`, and later calls use it again.

        Returns:
            (batch, queries, d_model).

        Raises:
            ValueError: shapes that do not fit the layer or the cache, or `memory` or `rotary` where
                it does not belong.
        """
        require_width("x", x, self.d_model, "batch, queries, d_model")
        require_finite("x", x)
        if (memory is None) != (self.d_memory is None):
            raise ValueError(
                f"memory is missing, expected (batch, keys, {self.d_memory}) for cross-attention"
                if memory is None
                else "memory was given to a self-attention layer, expected None (or set d_memory)"
            )
        if memory is None:
            q, k, v = self._split_heads(self.qkv(x), 3)
            if rotary is not None:
                q, k = rotary(q, k, offset=0 if cache is None else cache.length)
            if cache is not None:
                k, v = cache.append(k, v)  # from here on, keys of all tokens so far
        else:
            if rotary is not None:
                raise ValueError("rotary was given to a cross-attention layer, expected None")
            (q,) = self._split_heads(self.q(x), 1)
            k, v = self._read_memory(memory, cache)
        heads = self.attention(q, k, v, mask, bias)  # (batch, heads, queries, head_dim)
        return self.out(heads.transpose(1, 2).flatten(2))  # (batch, queries, d_model)

    def _read_memory(self, memory: Tensor, cache: LayerCache | None) -> tuple[Tensor, Tensor]:
        """Keys and values of `memory`, which stays the same while the queries move on."""
        require_width("memory", memory, self.d_memory, "batch, keys, d_memory")
        if cache is None or cache.length == 0:
            k, v = self._split_heads(self.kv(memory), 2)
            return (k, v) if cache is None else cache.append(k, v)
        stored = (cache.keys.shape[0], cache.length)
        if stored != memory.shape[:2]:
            raise ValueError(
                f"memory has shape {tuple(memory.shape)}, expected (batch, keys) = {stored} as the "
                "cache holds: start a new cache for a new memory"
            )
        return cache.keys, cache.values

    def _split_heads(self, x: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(batch, length, parts * heads * head_dim) -> parts × (batch, heads, length, head_dim)."""
        x = x.unflatten(-1, (parts, self.num_heads, self.head_dim))
        return x.permute(2, 0, 3, 1, 4).unbind(0)


class AttentionMap(NamedTuple):
    """The weights that one attention layer computed in one call."""

    name: str
    weights: Tensor  # (batch, heads, queries, keys)


class AttentionMaps(list[AttentionMap]):
    """Attention maps in the order in which the model computed them."""

    def stack(self, contains: str = "") -> Tensor:
        """The maps whose name contains the given text, as (layers, batch, heads, queries, keys).

        Raises:
            ValueError: no name matches, or the matching maps differ in shape.
        """
        found = [m for m in self if contains in m.name]
        if not found:
            names = ", ".join(dict.fromkeys(m.name for m in self)) or "none (was the model called?)"
            raise ValueError(f"no attention map's name contains {contains!r}; recorded: {names}")
        shapes = {tuple(m.weights.shape) for m in found}
        if len(shapes) > 1:
            raise ValueError(f"maps of different shapes cannot be stacked: {sorted(shapes)}")
        return torch.stack([m.weights for m in found])


@contextmanager
def record_attention(model: nn.Module) -> Iterator[AttentionMaps]:
    """Collect every attention map that `model` computes inside the `with` block.

    Outside the block the model keeps using the fused kernel, which stores no weights. The maps
    are detached from the graph. Attention dropout is off while recording.

    Yields:
        `AttentionMaps`: a list of (name, weights), filled as the model runs.

    Raises:
        ValueError: the model has no attention layer of this library.
    """
    maps = AttentionMaps()
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, DotProductAttention)
    }
    if not layers:
        raise ValueError(
            f"{type(model).__name__} has no attention layer of zoo_lessons: convert a transformers "
            "model with zoo_lessons.weights.from_transformers first"
        )

    def recorder(name: str) -> Callable[[Tensor], None]:
        return lambda weights: maps.append(AttentionMap(name, weights.detach()))

    before = {name: layer.recorder for name, layer in layers.items()}
    try:
        for name, layer in layers.items():
            # The parent's name is the one a reader knows: "layers.0.attention".
            layer.recorder = recorder(name.rpartition(".")[0] or name)
        yield maps
    finally:
        for name, layer in layers.items():
            layer.recorder = before[name]


@contextmanager
def ablate_heads(model: nn.Module, heads: Mapping[str, Sequence[int]]) -> Iterator[None]:
    """Silence heads inside the `with` block: their output, before W^O, becomes zero.

    Args:
        model: any model of the zoo.
        heads: layer name, as in `record_attention`, to the indices of the heads to silence.

    Raises:
        ValueError: an unknown layer name or head index.
    """
    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MultiHeadAttention)
    }
    handles = []
    try:
        for name, indices in heads.items():
            if name not in layers:
                raise ValueError(f"no attention layer {name!r}; there are: {', '.join(layers)}")
            count = layers[name].num_heads
            if not all(0 <= i < count for i in indices):
                raise ValueError(f"{name} has heads 0 to {count - 1}, got {list(indices)}")
            keep = torch.ones(count)
            keep[list(indices)] = 0.0
            handles.append(layers[name].attention.register_forward_hook(_scale_heads(keep)))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scale_heads(scale: Tensor) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        return output * scale.to(output)[:, None, None]  # (heads, 1, 1)

    return hook


def _require_qkv(q: Tensor, k: Tensor, v: Tensor) -> None:
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if min(q.ndim, k.ndim, v.ndim) < 2:
        raise ValueError(f"q, k and v need at least two axes (length, width), got {shapes}")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q and k must have the same width d_k, got {shapes}")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"k and v must have the same number of keys, got {shapes}")
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        require_finite(name, tensor)
