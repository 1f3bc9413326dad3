"""BERT: Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers" (2018).

An encoder alone, post-norm, over the sum of word, position and segment embeddings; then one small
head per task. The heads return logits only: a lesson computes the loss it needs.

| | paper | this file | `transformers` |
|---|---|---|---|
| activation | GELU | exact GELU (erf) | exact GELU; others by config |
| LayerNorm epsilon | not given | 1e-12 | 1e-12 |
| pooler | tanh of a linear layer on [CLS] | the same | the same |
| query, key, value | three matrices | one fused matrix | three matrices |
| dropout | 0.1 everywhere | one rate | separate rates for attention and for classifiers |
| scores of the vocabulary | not spelled out | word embedding, plus a bias | the same |
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import padding_mask
from zoo_lessons.layers.blocks import ACTIVATIONS, EncoderBlock
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
    num_labels: int = 2  # classes of a classification head

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
            num_labels=config.num_labels,
        )


@dataclass
class BertOutput:
    """What the encoder returns."""

    last_hidden_state: Tensor  # (batch, length, d_model)
    pooler_output: Tensor | None  # (batch, d_model); None without a pooler


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


# transformers' names -> ours
ENCODER_RULES = [
    (r"LayerNorm\.gamma", "LayerNorm.weight"),  # the names in the oldest published files
    (r"LayerNorm\.beta", "LayerNorm.bias"),
    (r"embeddings\.word_embeddings", "embeddings.word"),
    (r"embeddings\.position_embeddings", "embeddings.positions"),
    (r"embeddings\.token_type_embeddings", "embeddings.segment"),
    (r"embeddings\.LayerNorm", "embeddings.norm"),
    (r"encoder\.layer\.", "layers."),
    (r"attention\.self\.(q|k|v)(?:uery|ey|alue)", r"attention.\1"),
    (r"attention\.output\.dense", "attention.out"),
    (r"attention\.output\.LayerNorm", "residual1.norm"),
    (r"intermediate\.dense", "feed_forward.up"),
    (r"(?<!attention\.)output\.dense", "feed_forward.down"),
    (r"(?<!attention\.)output\.LayerNorm", "residual2.norm"),
    (r"pooler\.dense", "pooler"),
]


class BertModel(nn.Module):
    """The encoder.

    Args:
        config: sizes.
        pooler: whether the first token's vector passes through one more layer, for a head that
            judges the sequence as a whole. Heads that judge each token do without.
    """

    hf_rules = [(r"^bert\.", ""), *ENCODER_RULES]
    hf_skip = [r"position_ids$", r"^cls\."]
    hf_optional = ["pooler"]  # some files of bare encoders lack it

    def __init__(self, config: BertConfig, *, pooler: bool = True):
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
        self.pooler = nn.Linear(c.d_model, c.d_model) if pooler else None
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
        pooled = None if self.pooler is None else torch.tanh(self.pooler(x[:, 0]))
        return BertOutput(x, pooled)


@dataclass
class BertLogits:
    """What the models with one head return."""

    logits: Tensor  # per sequence (batch, classes), or per token (batch, length, classes)


@dataclass
class BertPreTrainingLogits:
    """What pre-training predicts."""

    prediction_logits: Tensor  # (batch, length, vocab_size)
    seq_relationship_logits: Tensor  # (batch, 2): B follows A, B is a random sentence


@dataclass
class BertSpanLogits:
    """Where an answer may start and end."""

    start_logits: Tensor  # (batch, length)
    end_logits: Tensor  # (batch, length)


class BertWithHead(nn.Module):
    """What the five models below share: the encoder `bert`, and a way to take it ready-made.

    Each adds its own layers, and `head`, which turns the encoder's output into logits.
    """

    needs_pooler = False
    hf_rules = ENCODER_RULES
    # Parts of published files that these models have no use for.
    hf_skip = [r"position_ids$", r"^cls\.", r"^bert\.pooler"]

    def __init__(self, config: BertConfig):
        super().__init__()
        self.config = config
        self.bert = BertModel(config, pooler=self.needs_pooler)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> BertLogits | BertPreTrainingLogits | BertSpanLogits:
        """Encode, then apply the model's own `head`. Arguments are those of `BertModel`."""
        return self.head(self.bert(input_ids, attention_mask, token_type_ids))

    @classmethod
    def from_encoder(cls, bert: BertModel, *, num_labels: int | None = None) -> Self:
        """A fresh head on a copy of a pretrained encoder.

        The head's weights come from PyTorch's global random numbers: set their seed before. So do
        the pooler's, if the head needs one and `bert` has none. `bert` itself stays as it is.

        Args:
            bert: the encoder, for example `load_pretrained("minilm")`.
            num_labels: number of classes; by default that of the encoder's config.

        Returns:
            The model with the encoder's dtype and device, training or evaluating as the encoder.

        Raises:
            TypeError: `bert` is not a `BertModel`.
        """
        if not isinstance(bert, BertModel):
            raise TypeError(
                f"bert is a {type(bert).__name__}, expected a BertModel"
                + (": pass its encoder, model.bert" if isinstance(bert, BertWithHead) else "")
            )
        config = bert.config
        model = cls(config if num_labels is None else replace(config, num_labels=num_labels))
        model.to(bert.embeddings.word.weight)
        weights = model.bert.state_dict()
        weights.update({name: w for name, w in bert.state_dict().items() if name in weights})
        model.bert.load_state_dict(weights)
        return model.train(bert.training)


class MaskedTokenHead(nn.Module):
    """Scores every word of the vocabulary for each token: linear, activation, LayerNorm, decoder.

    The decoder's rows are the word embeddings themselves.
    """

    def __init__(self, c: BertConfig, word: nn.Embedding):
        super().__init__()
        self.dense = nn.Linear(c.d_model, c.d_model)
        self.activation = ACTIVATIONS[c.activation]
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.decoder = nn.Linear(c.d_model, c.vocab_size)
        self.apply(_initialise)
        self.decoder.weight = word.weight

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> (..., vocab_size). It may hold the masked tokens only."""
        return self.decoder(self.norm(self.activation(self.dense(x))))


MASKED_TOKEN_RULES = [
    (r"^cls\.predictions\.transform\.LayerNorm", "predictions.norm"),
    (r"^cls\.predictions\.transform\.", "predictions."),
    (r"^cls\.predictions\.bias", "predictions.decoder.bias"),  # a second name of the same bias
    (r"^cls\.", ""),
]


class BertForMaskedLM(BertWithHead):
    """Predicts the word at each token (section 3.1, task 1)."""

    hf_rules = [*ENCODER_RULES, *MASKED_TOKEN_RULES]
    hf_skip = [r"position_ids$", r"^cls\.seq_relationship", r"^bert\.pooler"]

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.predictions = MaskedTokenHead(config, self.bert.embeddings.word)

    def head(self, encoded: BertOutput) -> BertLogits:
        """-> logits (batch, length, vocab_size)."""
        return BertLogits(self.predictions(encoded.last_hidden_state))


class BertForPreTraining(BertWithHead):
    """Predicts masked words, and whether sentence B follows sentence A (section 3.1)."""

    needs_pooler = True
    hf_rules = BertForMaskedLM.hf_rules
    hf_skip = [r"position_ids$"]

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.predictions = MaskedTokenHead(config, self.bert.embeddings.word)
        self.seq_relationship = nn.Linear(config.d_model, 2)
        _initialise(self.seq_relationship)

    def head(self, encoded: BertOutput) -> BertPreTrainingLogits:
        return BertPreTrainingLogits(
            self.predictions(encoded.last_hidden_state),
            self.seq_relationship(encoded.pooler_output),
        )


class BertForSequenceClassification(BertWithHead):
    """One label per sequence, from the pooled first token (figure 4, a and b)."""

    needs_pooler = True
    hf_skip = [r"position_ids$", r"^cls\."]

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        _initialise(self.classifier)

    def head(self, encoded: BertOutput) -> BertLogits:
        """-> logits (batch, num_labels)."""
        return BertLogits(self.classifier(self.dropout(encoded.pooler_output)))


class BertForTokenClassification(BertWithHead):
    """One label per token (figure 4, d)."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(config.d_model, config.num_labels)
        _initialise(self.classifier)

    def head(self, encoded: BertOutput) -> BertLogits:
        """-> logits (batch, length, num_labels)."""
        return BertLogits(self.classifier(self.dropout(encoded.last_hidden_state)))


class BertForQuestionAnswering(BertWithHead):
    """Finds the answer in a passage: scores each token as its start and as its end (section 4.2).

    The question is segment 0, the passage segment 1. Every token gets scores, those of the question
    and of the padding too: leave them out before you look for the best.

    Raises:
        ValueError: a config with num_labels other than 2.
    """

    def __init__(self, config: BertConfig):
        if config.num_labels != 2:
            raise ValueError(f"num_labels={config.num_labels}, expected 2: start and end")
        super().__init__(config)
        self.qa_outputs = nn.Linear(config.d_model, 2)
        _initialise(self.qa_outputs)

    def head(self, encoded: BertOutput) -> BertSpanLogits:
        start, end = self.qa_outputs(encoded.last_hidden_state).unbind(-1)  # (batch, length) each
        return BertSpanLogits(start, end)


def _initialise(module: nn.Module) -> None:
    """Normal with standard deviation 0.02, as in the published code; biases zero."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
