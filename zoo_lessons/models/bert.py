"""BERT: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2018).

An encoder alone, post-norm, over the sum of word, position and segment embeddings.

| | paper | this file | `transformers` |
|---|---|---|---|
| activation | GELU | exact GELU (erf) | exact GELU; others by config |
| LayerNorm epsilon | not given | 1e-12 | 1e-12 |
| pooler | tanh of a linear layer on [CLS] | the same | the same |
| query, key, value | three matrices | one fused matrix | three matrices |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import padding_mask
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.layers.positions import LearnedPositions


@dataclass(frozen=True)
class BertConfig:
    """Sizes and choices. The defaults are BERT-Base (section 3)."""

    vocab_size: int = 30522
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    max_length: int = 512
    type_vocab_size: int = 2
    activation: str = "gelu"
    dropout: float = 0.1
    eps: float = 1e-12
    pad_token_id: int = 0

    @classmethod
    def base(cls) -> BertConfig:
        """BERT-Base, uncased."""
        return cls()

    @classmethod
    def large(cls) -> BertConfig:
        """BERT-Large, uncased."""
        return cls(d_model=1024, num_layers=24, num_heads=16, d_ff=4096)

    @classmethod
    def minilm(cls) -> BertConfig:
        """all-MiniLM-L6-v2: BERT's layout at half the width and depth."""
        return cls(d_model=384, num_layers=6, num_heads=12, d_ff=1536)

    @classmethod
    def from_hf(cls, config: Any) -> BertConfig:
        """Read a `transformers.BertConfig`.

        Raises:
            ValueError: a decoder, or cross-attention: this file has the encoder only.
        """
        for option in ("is_decoder", "add_cross_attention"):
            if getattr(config, option, False):
                raise ValueError(f"unsupported BERT config: {option}=True, expected an encoder")
        return cls(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            d_ff=config.intermediate_size,
            max_length=config.max_position_embeddings,
            type_vocab_size=config.type_vocab_size,
            activation=config.hidden_act,
            dropout=config.hidden_dropout_prob,
            eps=config.layer_norm_eps,
            pad_token_id=config.pad_token_id or 0,
        )


@dataclass
class BertOutput:
    """What the encoder returns."""

    last_hidden_state: Tensor  # (batch, length, d_model)
    pooler_output: Tensor  # (batch, d_model)


class BertEmbeddings(nn.Module):
    """Word + position + segment, then LayerNorm (figure 2 of the paper)."""

    def __init__(self, c: BertConfig):
        super().__init__()
        self.word = nn.Embedding(c.vocab_size, c.d_model, padding_idx=c.pad_token_id)
        self.positions = LearnedPositions(c.max_length, c.d_model)
        self.segment = nn.Embedding(c.type_vocab_size, c.d_model)
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Two id tensors (batch, length) -> (batch, length, d_model). Segments default to 0."""
        if token_type_ids is None:
            token_type_ids = torch.zeros_like(input_ids)
        x = self.word(input_ids) + self.segment(token_type_ids)
        return self.dropout(self.norm(self.positions(x)))


class BertModel(nn.Module):
    """The encoder with its pooler."""

    hf_rules = [
        (r"^bert\.", ""),
        (r"LayerNorm\.gamma", "LayerNorm.weight"),  # the names in the oldest published files
        (r"LayerNorm\.beta", "LayerNorm.bias"),
        (r"embeddings\.word_embeddings", "embeddings.word"),
        (r"embeddings\.position_embeddings", "embeddings.positions"),
        (r"embeddings\.token_type_embeddings", "embeddings.segment"),
        (r"embeddings\.LayerNorm", "embeddings.norm"),
        (r"^encoder\.layer\.", "layers."),
        (r"attention\.self\.(q|k|v)(?:uery|ey|alue)", r"attention.\1"),
        (r"attention\.output\.dense", "attention.out"),
        (r"attention\.output\.LayerNorm", "residual1.norm"),
        (r"intermediate\.dense", "feed_forward.up"),
        (r"(?<!attention\.)output\.dense", "feed_forward.down"),
        (r"(?<!attention\.)output\.LayerNorm", "residual2.norm"),
        (r"pooler\.dense", "pooler"),
    ]
    hf_skip = [r"position_ids$", r"^cls\."]

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = BertEmbeddings(c)
        self.layers = nn.ModuleList(
            EncoderBlock(
                c.d_model,
                c.num_heads,
                c.d_ff,
                norm="post",
                activation=c.activation,
                dropout=c.dropout,
                eps=c.eps,
            )
            for _ in range(c.num_layers)
        )
        self.pooler = nn.Linear(c.d_model, c.d_model)
        self.apply(_initialise)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> BertOutput:
        """Encode token ids.

        Args:
            input_ids: (batch, length).
            attention_mask: 0/1 (batch, length), 0 hides padding.
            token_type_ids: (batch, length), 0 for the first sentence and 1 for the second.
        """
        require_ids("input_ids", input_ids, self.config.vocab_size)
        if token_type_ids is not None:
            require_ids("token_type_ids", token_type_ids, self.config.type_vocab_size)
        mask = None if attention_mask is None else padding_mask(attention_mask)
        x = self.embeddings(input_ids, token_type_ids)
        for layer in self.layers:
            x = layer(x, mask)
        return BertOutput(x, torch.tanh(self.pooler(x[:, 0])))


def _initialise(module: nn.Module) -> None:
    """Normal with standard deviation 0.02, as in the published code; biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
