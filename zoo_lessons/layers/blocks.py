"""Feed-forward layer and the encoder and decoder blocks, post-norm and pre-norm.

Sources: Vaswani et al. (2017), sections 3.1 and 3.3 (post-norm); Xiong et al., "On Layer
Normalization in the Transformer Architecture" (2020) (pre-norm).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import MultiHeadAttention
from zoo_lessons.layers.cache import LayerCache
from zoo_lessons.layers.positions import Rotary

Norm = Literal["post", "pre"]


def _quick_gelu(x: Tensor) -> Tensor:
    return x * torch.sigmoid(1.702 * x)  # Hendrycks & Gimpel (2016), section 2


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "gelu": F.gelu,
    "gelu_new": partial(F.gelu, approximate="tanh"),
    "quick_gelu": _quick_gelu,
    "silu": F.silu,
}


class FeedForward(nn.Module):
    """Two linear layers with an activation between, at each position alone (section 3.3).

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str = "gelu", dropout: float = 0.0):
        super().__init__()
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {activation!r} is unknown, expected one of {', '.join(ACTIVATIONS)}"
            )
        self.up = nn.Linear(d_model, d_ff)
        self.down = nn.Linear(d_ff, d_model)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., d_model), by way of (..., d_ff)."""
        return self.down(self.dropout(ACTIVATIONS[self.activation](self.up(x))))


class Residual(nn.Module):
    """x + f(x) with its LayerNorm: after the sum (post), or on f's input (pre)."""

    def __init__(self, d_model: int, norm: Norm, dropout: float, eps: float):
        super().__init__()
        if norm not in ("post", "pre"):
            raise ValueError(f"norm={norm!r}, expected 'post' or 'pre'")
        self.where = norm
        self.norm = nn.LayerNorm(d_model, eps)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, f: Callable[[Tensor], Tensor]) -> Tensor:
        if self.where == "post":
            return self.norm(x + self.dropout(f(x)))
        return x + self.dropout(f(self.norm(x)))


class EncoderBlock(nn.Module):
    """Self-attention, then feed-forward, each inside a residual connection.

    Args:
        d_model, num_heads, d_ff: sizes.
        norm: "post" as in the 2017 paper and BERT, "pre" as in GPT-2 and ViT.
        activation: a key of `ACTIVATIONS`.
        dropout: on each sub-layer's output, on attention weights and inside the feed-forward.
        eps: LayerNorm's epsilon.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        norm: Norm = "post",
        activation: str = "relu",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.attention = MultiHeadAttention(d_model, num_heads, dropout=dropout)
        self.residual1 = Residual(d_model, norm, dropout, eps)
        self.feed_forward = FeedForward(d_model, d_ff, activation, dropout)
        self.residual2 = Residual(d_model, norm, dropout, eps)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        rotary: Rotary | None = None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """x (batch, length, d_model) -> the same shape. The rest is as in `MultiHeadAttention`."""
        x = self.residual1(
            x, lambda y: self.attention(y, mask=mask, bias=bias, rotary=rotary, cache=cache)
        )
        return self.residual2(x, self.feed_forward)


class DecoderBlock(nn.Module):
    """Masked self-attention, cross-attention to the encoder's output, then feed-forward.

    Arguments are as for `EncoderBlock`; `d_memory` is the width of the encoder's output,
    d_model by default.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        d_memory: int | None = None,
        norm: Norm = "post",
        activation: str = "relu",
        dropout: float = 0.0,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.self_attention = MultiHeadAttention(d_model, num_heads, dropout=dropout)
        self.residual1 = Residual(d_model, norm, dropout, eps)
        self.cross_attention = MultiHeadAttention(
            d_model, num_heads, d_memory=d_memory or d_model, dropout=dropout
        )
        self.residual2 = Residual(d_model, norm, dropout, eps)
        self.feed_forward = FeedForward(d_model, d_ff, activation, dropout)
        self.residual3 = Residual(d_model, norm, dropout, eps)

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        *,
        cache: LayerCache | None = None,
        memory_cache: LayerCache | None = None,
    ) -> Tensor:
        """x (batch, length, d_model), memory (batch, keys, d_memory) -> the shape of x.

        `mask` and `cache` are for self-attention (the mask causal and padding), `memory_mask` and
        `memory_cache` for cross-attention.
        """
        x = self.residual1(x, lambda y: self.self_attention(y, mask=mask, cache=cache))
        x = self.residual2(
            x,
            lambda y: self.cross_attention(y, memory, mask=memory_mask, cache=memory_cache),
        )
        return self.residual3(x, self.feed_forward)
