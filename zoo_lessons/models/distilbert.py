"""DistilBERT: Sanh et al., "DistilBERT, a distilled version of BERT" (2019).

BERT with half of the layers, no segments and no pooler. It starts from layers of its teacher, and
learns from the teacher's predictions and hidden states; `distil_from` makes the start.

| | paper | this file | `transformers` |
|---|---|---|---|
| starts from | one layer out of two | layers 0, 2, 4, ..., or as given | published weights only |
| the teacher's segments | removed | segment 0 is added to the positions | removed |
| classifier's hidden layer | not given | linear, ReLU | linear, ReLU |
| LayerNorm epsilon | not given | 1e-12, or the teacher's | 1e-12 |
| dropout | not given | one rate | separate rates for attention and the classifier |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import padding_mask
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.layers.positions import LearnedPositions
from zoo_lessons.models.bert import BertModel


@dataclass(frozen=True)
class DistilBertConfig:
    """Sizes and choices. The defaults are the published model (section 3)."""

    vocab_size: int = 30522
    d_model: int = 768
    num_layers: int = 6
    num_heads: int = 12
    d_ff: int = 3072
    max_length: int = 512
    activation: str = "gelu"
    dropout: float = 0.1
    eps: float = 1e-12
    pad_token_id: int = 0
    num_labels: int = 2  # classes of a classification head

    @classmethod
    def base(cls) -> DistilBertConfig:
        """66 M parameters, 40 % fewer than BERT-Base."""
        return cls()

    @classmethod
    def from_hf(cls, config: Any) -> DistilBertConfig:
        """Read a `transformers.DistilBertConfig`.

        Sinusoidal positions are stored as weights like any others, so both kinds load.
        """
        return cls(
            vocab_size=config.vocab_size,
            d_model=config.dim,
            num_layers=config.n_layers,
            num_heads=config.n_heads,
            d_ff=config.hidden_dim,
            max_length=config.max_position_embeddings,
            activation=config.activation,
            dropout=config.dropout,
            pad_token_id=config.pad_token_id or 0,
            num_labels=config.num_labels,
        )


@dataclass
class DistilBertOutput:
    """What the encoder returns."""

    last_hidden_state: Tensor  # (batch, length, d_model)


@dataclass
class DistilBertLogits:
    """What the classifier returns."""

    logits: Tensor  # (batch, num_labels)


class DistilBertEmbeddings(nn.Module):
    """Word + position, then LayerNorm."""

    def __init__(self, c: DistilBertConfig):
        super().__init__()
        self.word = nn.Embedding(c.vocab_size, c.d_model, padding_idx=c.pad_token_id)
        self.positions = LearnedPositions(c.max_length, c.d_model)
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, input_ids: Tensor) -> Tensor:
        """(batch, length) -> (batch, length, d_model)."""
        return self.dropout(self.norm(self.positions(self.word(input_ids))))


# transformers' names -> ours
ENCODER_RULES = [
    (r"embeddings\.word_embeddings", "embeddings.word"),
    (r"embeddings\.position_embeddings", "embeddings.positions"),
    (r"embeddings\.LayerNorm", "embeddings.norm"),
    (r"transformer\.layer\.", "layers."),
    (r"attention\.(q|k|v|out)_lin", r"attention.\1"),
    (r"sa_layer_norm", "residual1.norm"),
    (r"ffn\.lin1", "feed_forward.up"),
    (r"ffn\.lin2", "feed_forward.down"),
    (r"output_layer_norm", "residual2.norm"),
]


class DistilBertModel(nn.Module):
    """The encoder."""

    hf_rules = [(r"^distilbert\.", ""), *ENCODER_RULES]
    # Heads that a published file may hold beside the encoder.
    hf_skip = [r"position_ids$", r"^vocab_", r"^(pre_)?classifier\.", r"^qa_outputs\."]

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = DistilBertEmbeddings(c)
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
        self.apply(_initialise)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> DistilBertOutput:
        """Encode token ids (batch, length); attention_mask is 0/1, 0 hides padding."""
        require_ids("input_ids", input_ids, self.config.vocab_size)
        mask = None if attention_mask is None else padding_mask(attention_mask)
        x = self.embeddings(input_ids)
        for layer in self.layers:
            x = layer(x, mask)
        return DistilBertOutput(x)


class DistilBertForSequenceClassification(nn.Module):
    """One label per sequence, from the first token."""

    hf_rules = ENCODER_RULES
    hf_skip = [r"position_ids$", r"^vocab_", r"^qa_outputs\."]

    def __init__(self, config: DistilBertConfig):
        super().__init__()
        self.config = config
        self.distilbert = DistilBertModel(config)
        self.pre_classifier = nn.Linear(config.d_model, config.d_model)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        _initialise(self.pre_classifier)
        _initialise(self.classifier)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> DistilBertLogits:
        """Encode, then classify. Arguments are those of `DistilBertModel`."""
        x = self.distilbert(input_ids, attention_mask).last_hidden_state[:, 0]
        return DistilBertLogits(self.classifier(self.dropout(F.relu(self.pre_classifier(x)))))

    @classmethod
    def from_encoder(cls, encoder: DistilBertModel, *, num_labels: int | None = None) -> Self:
        """A fresh head on a copy of an encoder, as `BertWithHead.from_encoder` for BERT.

        Raises:
            TypeError: `encoder` is not a `DistilBertModel`.
        """
        if not isinstance(encoder, DistilBertModel):
            raise TypeError(f"encoder is a {type(encoder).__name__}, expected a DistilBertModel")
        config = encoder.config
        model = cls(config if num_labels is None else replace(config, num_labels=num_labels))
        model.to(encoder.embeddings.word.weight)
        model.distilbert.load_state_dict(encoder.state_dict())
        return model.train(encoder.training)


def distil_from(teacher: BertModel, layers: Sequence[int] | None = None) -> DistilBertModel:
    """A student that starts as copies of the teacher's embeddings and of some of its layers.

    The teacher's tokens all carry segment 0's vector, which a student has no place for: it is added
    to the student's positions. So a student with all layers computes what its teacher does.

    Args:
        teacher: a BERT; it stays as it is.
        layers: which of its layers, in their order. By default 0, 2, 4, ...; the authors' code
            takes 0, 2, 4, 7, 9 and 11 of twelve.

    Returns:
        The student, same dtype, on the same device, training or evaluating as the teacher.

    Raises:
        TypeError: the teacher is not a `BertModel`.
        ValueError: layers that the teacher does not have, none, or out of order.
    """
    if not isinstance(teacher, BertModel):
        raise TypeError(f"teacher is a {type(teacher).__name__}, expected a BertModel")
    c = teacher.config
    chosen = list(range(0, c.num_layers, 2) if layers is None else layers)
    inside = all(0 <= i < c.num_layers for i in chosen)
    if not chosen or not inside or chosen != sorted(set(chosen)):
        raise ValueError(
            f"layers={chosen}, expected some of 0 to {c.num_layers - 1} in rising order"
        )
    student = DistilBertModel(
        DistilBertConfig(
            vocab_size=c.vocab_size,
            d_model=c.d_model,
            num_layers=len(chosen),
            num_heads=c.num_heads,
            d_ff=c.d_ff,
            max_length=c.max_length,
            activation=c.activation,
            dropout=c.dropout,
            eps=c.eps,
            pad_token_id=c.pad_token_id,
            num_labels=c.num_labels,
        )
    ).to(teacher.embeddings.word.weight)
    for name in ("word", "norm"):
        part = getattr(teacher.embeddings, name)
        getattr(student.embeddings, name).load_state_dict(part.state_dict())
    with torch.no_grad():
        segment = teacher.embeddings.segment.weight[0]
        student.embeddings.positions.weight.copy_(teacher.embeddings.positions.weight + segment)
    for own, i in zip(student.layers, chosen, strict=True):
        own.load_state_dict(teacher.layers[i].state_dict())
    return student.train(teacher.training)


def _initialise(module: nn.Module) -> None:
    """Normal with standard deviation 0.02, as BERT; biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
