"""Longformer: Beltagy et al., "Longformer: The Long-Document Transformer" (2020).

A BERT-like encoder whose tokens see a window of neighbours. A few chosen tokens are global: they
see all tokens, by projections of their own, and all tokens see them. Time and memory grow linearly
with the text. A layer whose window is None has full attention: with windows in the low layers and
None in the high ones, attention is hierarchical.

| | paper | this file | `transformers` |
|---|---|---|---|
| window of w | w / 2 tokens to each side | the same | the same |
| dilated windows | in some layers, for generation | none | none |
| full attention in some layers | none | window None | none |
| padding to whole windows | not spelled out | inside each layer | of the ids, in the model |
| positions | copied from RoBERTa's | counted from pad_token_id + 1 | the same |
| softmax | float32, within mixed precision | the model's own | float32 |
| output at padding | not given | means nothing | zeros out of attention |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import (
    DotProductAttention,
    padding_mask,
    scaled_dot_product_attention,
)
from zoo_lessons.layers.blocks import FeedForward, Residual
from zoo_lessons.layers.checks import require_divisible, require_ids, require_width
from zoo_lessons.layers.positions import LearnedPositions
from zoo_lessons.layers.sparse_attention import SparsePattern, banded_attention


@dataclass(frozen=True)
class LongformerConfig:
    """Sizes and choices. The defaults are longformer-base-4096 (section 5).

    Attributes:
        windows: for each layer, how many neighbours a token sees in all, half on each side; None
            for full attention.

    Raises:
        ValueError: a window for each layer is needed, even and positive.
    """

    vocab_size: int = 50265
    d_model: int = 768
    num_heads: int = 12
    d_ff: int = 3072
    windows: tuple[int | None, ...] = (512,) * 12
    max_length: int = 4098  # rows of the table of positions, which starts at pad_token_id + 1
    type_vocab_size: int = 1
    activation: str = "gelu"
    dropout: float = 0.1
    eps: float = 1e-5
    pad_token_id: int = 1

    def __post_init__(self) -> None:
        for layer, window in enumerate(self.windows):
            if window is not None and (window < 2 or window % 2):
                raise ValueError(
                    f"windows[{layer}]={window}, expected an even number, half for each side, or "
                    "None for full attention"
                )

    @property
    def num_layers(self) -> int:
        """Number of layers."""
        return len(self.windows)

    @classmethod
    def base(cls) -> LongformerConfig:
        """149 M parameters."""
        return cls()

    @classmethod
    def large(cls) -> LongformerConfig:
        """435 M parameters."""
        return cls(d_model=1024, num_heads=16, d_ff=4096, windows=(512,) * 24)

    @classmethod
    def from_hf(cls, config: Any) -> LongformerConfig:
        """Read a `transformers.LongformerConfig`."""
        window = config.attention_window
        windows = [window] * config.num_hidden_layers if isinstance(window, int) else window
        return cls(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            num_heads=config.num_attention_heads,
            d_ff=config.intermediate_size,
            windows=tuple(windows),
            max_length=config.max_position_embeddings,
            type_vocab_size=config.type_vocab_size,
            activation=config.hidden_act,
            dropout=config.hidden_dropout_prob,
            eps=config.layer_norm_eps,
            pad_token_id=config.pad_token_id,
        )


@dataclass
class LongformerOutput:
    """What the encoder returns."""

    last_hidden_state: Tensor  # (batch, length, d_model)
    pooler_output: Tensor  # (batch, d_model)


class LongformerAttention(nn.Module):
    """Window attention, and attention of the global tokens by three more projections (3.1).

    Args:
        d_model, num_heads: sizes.
        window: neighbours that a token sees, half on each side; None for all.
    """

    def __init__(self, d_model: int, num_heads: int, window: int | None):
        super().__init__()
        require_divisible(d_model=d_model, num_heads=num_heads)
        self.d_model, self.num_heads, self.window = d_model, num_heads, window
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.q_global = nn.Linear(d_model, d_model)
        self.k_global = nn.Linear(d_model, d_model)
        self.v_global = nn.Linear(d_model, d_model)
        self.attention = DotProductAttention()  # holds the recorder, and is full attention
        self.out = nn.Linear(d_model, d_model)

    def forward(
        self, x: Tensor, keep: Tensor | None = None, is_global: Tensor | None = None
    ) -> Tensor:
        """x (batch, length, d_model) -> the same shape.

        Args:
            x: the tokens' vectors.
            keep: True for tokens, False for padding, (batch, length).
            is_global: True for tokens that see all and are seen by all, (batch, length).
        """
        require_width("x", x, self.d_model, "batch, length, d_model")
        q, k, v = (self._heads(part) for part in self.qkv(x).chunk(3, dim=-1))
        if keep is None:
            keep = x.new_ones(x.shape[:2], dtype=torch.bool)
        is_global = torch.zeros_like(keep) if is_global is None else is_global & keep
        if self.attention.recorder is not None:
            return self.out(self._written_out(x, q, k, v, keep, is_global))
        places, real = _gather_global(is_global)  # (batch, globals) each
        if self.window is None:
            heads = self.attention(q, k, v, padding_mask(keep))
        else:
            radius = self.window // 2
            heads = banded_attention(
                q,
                k,
                v,
                SparsePattern(radius, block=max(radius, 16)),
                keep=keep & ~is_global,
                shared=(_at(k, places), _at(v, places)),
                shared_mask=real[:, None].expand(-1, x.shape[1], -1),
            )
        y = heads.transpose(1, 2).flatten(2)  # (batch, length, d_model)
        if places.shape[1]:
            rows = self.attention(*self._from_global(x, places), padding_mask(keep))
            rows = rows.transpose(1, 2).flatten(2)  # (batch, globals, d_model)
            y = y.masked_scatter(is_global[..., None], rows[real])
        return self.out(y)

    def _from_global(self, x: Tensor, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries of the global tokens, keys and values of all, by the global projections."""
        chosen = x.gather(1, places[..., None].expand(-1, -1, self.d_model))
        return (
            self._heads(self.q_global(chosen)),  # (batch, heads, globals, head_dim)
            self._heads(self.k_global(x)),
            self._heads(self.v_global(x)),
        )

    def _written_out(
        self, x: Tensor, q: Tensor, k: Tensor, v: Tensor, keep: Tensor, is_global: Tensor
    ) -> Tensor:
        """The same with whole matrices, to record the weights."""
        near = torch.ones(1, 1, dtype=torch.bool, device=x.device)
        if self.window is not None:
            near = SparsePattern(self.window // 2).mask(x.shape[1]).to(x.device)
        mask = (near | is_global[:, None]) & keep[:, None]  # (batch, length, length)
        local, local_weights = scaled_dot_product_attention(q, k, v, mask[:, None])
        everyone = torch.arange(x.shape[1], device=x.device).expand(len(x), -1)
        total, total_weights = scaled_dot_product_attention(
            *self._from_global(x, everyone), padding_mask(keep)
        )
        row = is_global[:, None, :, None]
        self.attention.recorder(torch.where(row, total_weights, local_weights))
        return torch.where(row, total, local).transpose(1, 2).flatten(2)

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, d_model) -> (batch, heads, length, head_dim)."""
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


def _gather_global(is_global: Tensor) -> tuple[Tensor, Tensor]:
    """Where the global tokens of each text are, and which of these entries are real.

    The texts may have different numbers of them: all get as many entries as the one with the most.
    """
    most = int(is_global.sum(dim=1).max())
    # A stable sort keeps them in the order of the text.
    places = is_global.int().argsort(dim=1, descending=True, stable=True)[:, :most]
    return places, is_global.gather(1, places)


def _at(x: Tensor, places: Tensor) -> Tensor:
    """The chosen tokens of x (batch, heads, length, d), as (batch, heads, places, d)."""
    batch, heads, _, d = x.shape
    return x.gather(2, places[:, None, :, None].expand(batch, heads, -1, d))


class LongformerBlock(nn.Module):
    """`EncoderBlock`, post-norm, with window attention."""

    def __init__(self, c: LongformerConfig, window: int | None):
        super().__init__()
        self.attention = LongformerAttention(c.d_model, c.num_heads, window)
        self.residual1 = Residual(c.d_model, "post", c.dropout, c.eps)
        self.feed_forward = FeedForward(c.d_model, c.d_ff, c.activation, c.dropout)
        self.residual2 = Residual(c.d_model, "post", c.dropout, c.eps)

    def forward(self, x: Tensor, keep: Tensor | None, is_global: Tensor | None) -> Tensor:
        x = self.residual1(x, lambda y: self.attention(y, keep, is_global))
        return self.residual2(x, self.feed_forward)


class LongformerEmbeddings(nn.Module):
    """Word + position + segment, then LayerNorm."""

    def __init__(self, c: LongformerConfig):
        super().__init__()
        self.pad_token_id = c.pad_token_id
        self.word = nn.Embedding(c.vocab_size, c.d_model, padding_idx=c.pad_token_id)
        self.positions = LearnedPositions(c.max_length, c.d_model)
        self.segment = nn.Embedding(c.type_vocab_size, c.d_model)
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None) -> Tensor:
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        # RoBERTa's count: padding tokens get row pad_token_id, and all others count on from there.
        real = (input_ids != self.pad_token_id).long()
        position_ids = real.cumsum(dim=1) * real + self.pad_token_id
        x = self.word(input_ids) + self.segment(token_type_ids)
        return self.dropout(self.norm(self.positions(x, position_ids)))


class LongformerModel(nn.Module):
    """The encoder, with the pooler."""

    hf_rules = [
        (r"^longformer\.", ""),
        (r"embeddings\.word_embeddings", "embeddings.word"),
        (r"embeddings\.position_embeddings", "embeddings.positions"),
        (r"embeddings\.token_type_embeddings", "embeddings.segment"),
        (r"embeddings\.LayerNorm", "embeddings.norm"),
        (r"encoder\.layer\.", "layers."),
        (r"attention\.self\.(q|k|v)(?:uery|ey|alue)(_global)?", r"attention.\1\2"),
        (r"attention\.output\.dense", "attention.out"),
        (r"attention\.output\.LayerNorm", "residual1.norm"),
        (r"intermediate\.dense", "feed_forward.up"),
        (r"(?<!attention\.)output\.dense", "feed_forward.down"),
        (r"(?<!attention\.)output\.LayerNorm", "residual2.norm"),
        (r"pooler\.dense", "pooler"),
    ]
    hf_skip = [r"position_ids$", r"^lm_head\."]

    def __init__(self, config: LongformerConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = LongformerEmbeddings(c)
        self.layers = nn.ModuleList(LongformerBlock(c, window) for window in c.windows)
        self.pooler = nn.Linear(c.d_model, c.d_model)
        self.apply(_initialise)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        global_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> LongformerOutput:
        """Encode token ids.

        Args:
            input_ids: (batch, length), of any length.
            attention_mask: 0/1 (batch, length), 0 hides padding.
            global_attention_mask: 0/1 (batch, length), 1 for tokens that see all and are seen by
                all. None has no such token. Padding is never global.
            token_type_ids: (batch, length), segments.

        Raises:
            ValueError: ids out of range, a mask of another shape or with other values, or more
                tokens than there are positions.
        """
        c = self.config
        require_ids("input_ids", input_ids, c.vocab_size)
        if token_type_ids is not None:
            require_ids("token_type_ids", token_type_ids, c.type_vocab_size)
        masks = {"attention_mask": attention_mask, "global_attention_mask": global_attention_mask}
        for name, mask in masks.items():
            if mask is not None and mask.shape != input_ids.shape:
                raise ValueError(
                    f"{name} has shape {tuple(mask.shape)}, expected that of input_ids, "
                    f"{tuple(input_ids.shape)}"
                )
        keep, is_global = (
            None if mask is None else padding_mask(mask)[:, 0, 0] for mask in masks.values()
        )
        x = self.embeddings(input_ids, token_type_ids)
        for layer in self.layers:
            x = layer(x, keep, is_global)
        return LongformerOutput(x, torch.tanh(self.pooler(x[:, 0])))


def _initialise(module: nn.Module) -> None:
    """Normal with standard deviation 0.02, as in the published code; biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
