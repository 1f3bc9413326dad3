"""ALBERT: Lan et al., "ALBERT: A Lite BERT for Self-supervised Learning of Language
Representations" (2019).

BERT with far fewer parameters and as much computation: one layer is used again and again, and words
have short vectors, which one matrix widens. `sharing` decides what the layers share.

| | paper | this file | `transformers` |
|---|---|---|---|
| what layers share | all, attention, feed-forward or none (4.5) | the same | all, or in groups |
| activation | GELU | its tanh approximation | the same; others by config |
| dropout | removed (4.8) | 0 by default | 0 by default |
| query, key, value | three matrices | one fused matrix | three matrices |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import padding_mask
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.models.bert import BertConfig, BertEmbeddings

Sharing = Literal["all", "attention", "feed_forward", "none"]


@dataclass(frozen=True)
class AlbertConfig:
    """Sizes and choices. The defaults are ALBERT-base (table 1).

    Attributes:
        d_embedding: width of a word's vector before it is widened to d_model.
        sharing: which part of the first layer all others use, too. LayerNorms are shared with
            "all" only.

    Raises:
        ValueError: unknown sharing.
    """

    vocab_size: int = 30000
    d_embedding: int = 128
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    max_length: int = 512
    type_vocab_size: int = 2
    activation: str = "gelu_new"
    dropout: float = 0.0
    eps: float = 1e-12
    pad_token_id: int = 0
    sharing: Sharing = "all"

    def __post_init__(self) -> None:
        if self.sharing not in get_args(Sharing):
            raise ValueError(
                f"sharing={self.sharing!r}, expected one of {', '.join(get_args(Sharing))}"
            )

    @classmethod
    def base(cls) -> AlbertConfig:
        """11.7 M parameters."""
        return cls()

    @classmethod
    def large(cls) -> AlbertConfig:
        """17.7 M parameters."""
        return cls(d_model=1024, num_layers=24, num_heads=16, d_ff=4096)

    @classmethod
    def from_hf(cls, config: Any) -> AlbertConfig:
        """Read a `transformers.AlbertConfig`.

        Raises:
            ValueError: several groups of layers, or several layers in a group.
        """
        for option in ("num_hidden_groups", "inner_group_num"):
            if getattr(config, option) != 1:
                raise ValueError(
                    f"unsupported ALBERT config: {option}={getattr(config, option)}, expected 1"
                )
        return cls(
            vocab_size=config.vocab_size,
            d_embedding=config.embedding_size,
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
class AlbertOutput:
    """What the encoder returns."""

    last_hidden_state: Tensor  # (batch, length, d_model)
    pooler_output: Tensor  # (batch, d_model)


class AlbertEmbeddings(nn.Module):
    """BERT's embeddings, narrow, then widened: V · E + E · H numbers, not V · H (section 3.1)."""

    def __init__(self, c: AlbertConfig):
        super().__init__()
        self.narrow = BertEmbeddings(
            BertConfig(
                vocab_size=c.vocab_size,
                d_model=c.d_embedding,
                max_length=c.max_length,
                type_vocab_size=c.type_vocab_size,
                dropout=c.dropout,
                eps=c.eps,
                pad_token_id=c.pad_token_id,
            )
        )
        self.widen = nn.Linear(c.d_embedding, c.d_model)

    def forward(self, input_ids: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Two id tensors (batch, length) -> (batch, length, d_model)."""
        return self.widen(self.narrow(input_ids, token_type_ids))


class AlbertModel(nn.Module):
    """The encoder, with the pooler. `layers` has as many entries as steps; with shared layers they
    are one and the same."""

    hf_rules = [
        (r"^albert\.", ""),
        (r"embeddings\.word_embeddings", "embeddings.narrow.word"),
        (r"embeddings\.position_embeddings", "embeddings.narrow.positions"),
        (r"embeddings\.token_type_embeddings", "embeddings.narrow.segment"),
        (r"embeddings\.LayerNorm", "embeddings.narrow.norm"),
        (r"encoder\.embedding_hidden_mapping_in", "embeddings.widen"),
        (r"encoder\.albert_layer_groups\.0\.albert_layers\.0\.", "layers.0."),
        (r"attention\.(q|k|v)(?:uery|ey|alue)", r"attention.\1"),
        (r"attention\.dense", "attention.out"),
        (r"attention\.LayerNorm", "residual1.norm"),
        (r"ffn\.", "feed_forward.up."),
        (r"ffn_output\.", "feed_forward.down."),
        (r"full_layer_layer_norm", "residual2.norm"),
    ]
    # Heads that a published file may hold beside the encoder.
    hf_skip = [r"position_ids$", r"^predictions\.", r"^sop_classifier\."]

    def __init__(self, config: AlbertConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = AlbertEmbeddings(c)

        def block() -> EncoderBlock:
            return EncoderBlock(
                c.d_model,
                c.num_heads,
                c.d_ff,
                norm="post",
                activation=c.activation,
                dropout=c.dropout,
                eps=c.eps,
            )

        first = block()
        if c.sharing == "all":
            layers = [first] * c.num_layers
        else:
            layers = [first, *(block() for _ in range(c.num_layers - 1))]
        if c.sharing in ("attention", "feed_forward"):
            for layer in layers:
                setattr(layer, c.sharing, getattr(first, c.sharing))
        self.layers = nn.ModuleList(layers)
        self.pooler = nn.Linear(c.d_model, c.d_model)
        self.apply(_initialise)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> AlbertOutput:
        """Encode token ids. Arguments are those of `BertModel`."""
        require_ids("input_ids", input_ids, self.config.vocab_size)
        if token_type_ids is not None:
            require_ids("token_type_ids", token_type_ids, self.config.type_vocab_size)
        mask = None if attention_mask is None else padding_mask(attention_mask)
        x = self.embeddings(input_ids, token_type_ids)
        for layer in self.layers:
            x = layer(x, mask)
        return AlbertOutput(x, torch.tanh(self.pooler(x[:, 0])))


def _initialise(module: nn.Module) -> None:
    """Normal with standard deviation 0.02, as BERT; biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
