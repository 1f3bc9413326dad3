"""Early exit: easy examples leave an encoder before its last layer.

Every layer gets a small classifier. An example leaves when its prediction has stayed the same for
some layers in a row (patience), or when a classifier is sure enough (confidence).

Sources: Zhou et al., "BERT Loses Patience: Fast and Robust Inference with Early Exit" (PABEE,
2020), section 3; the rule by confidence is that of BranchyNet (Teerapittayanon et al., 2016), with
the probability of the likeliest class in place of the entropy.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import padding_mask
from zoo_lessons.layers.checks import require_ids


@dataclass
class EarlyExitOutput:
    """What all classifiers say about all examples."""

    logits: Tensor  # (batch, num_labels), the last layer's
    layer_logits: Tensor  # (layers, batch, num_labels)


@dataclass
class Exits:
    """Where each example left, and what was predicted there."""

    logits: Tensor  # (batch, num_labels)
    layers: Tensor  # (batch), how many layers each example went through: 1 to all


class EarlyExit(nn.Module):
    """A text encoder with a classifier on the first token of each layer.

    Args:
        encoder: a BERT, DistilBERT or ALBERT of this library, or another model with `embeddings`
            and a list `layers` whose entries take (x, mask). It is used as it is, not copied.
        num_labels: number of classes.

    Raises:
        TypeError: a model without such parts.
    """

    def __init__(self, encoder: nn.Module, num_labels: int):
        super().__init__()
        if not all(hasattr(encoder, part) for part in ("embeddings", "layers", "config")):
            raise TypeError(
                f"encoder is a {type(encoder).__name__}, expected one with embeddings, layers and "
                "config, as BertModel has"
            )
        self.encoder = encoder
        self.dropout = nn.Dropout(encoder.config.dropout)
        self.classifiers = nn.ModuleList(
            nn.Linear(encoder.config.d_model, num_labels) for _ in encoder.layers
        )
        self.classifiers.to(next(encoder.parameters()))

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> EarlyExitOutput:
        """Go through all layers and ask every classifier: for training, and to choose a rule.

        Arguments are those of the encoder.
        """
        x, mask = self._start(input_ids, attention_mask, token_type_ids)
        found = []
        for layer, classifier in zip(self.encoder.layers, self.classifiers, strict=True):
            x = layer(x, mask)
            found.append(classifier(self.dropout(x[:, 0])))
        return EarlyExitOutput(found[-1], torch.stack(found))

    @torch.no_grad()
    def predict(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        *,
        patience: int | None = None,
        confidence: float | None = None,
    ) -> Exits:
        """Classify, and compute no layer for an example that has left.

        The examples that leave are taken out of the batch; the others go on together. Call
        `eval()` first.

        Args:
            input_ids, attention_mask, token_type_ids: those of the encoder.
            patience: an example leaves at the first layer where this many layers in a row have
                confirmed the prediction of the one before.
            confidence: or: at the first layer that gives some class this probability.

        Raises:
            ValueError: not exactly one rule, or one out of range.
        """
        rule = _Rule(patience, confidence)
        x, mask = self._start(input_ids, attention_mask, token_type_ids)
        rows = torch.arange(len(x), device=x.device)  # the examples that are still in the batch
        layers = torch.zeros_like(rows)
        logits = x.new_zeros(len(x), self.classifiers[0].out_features)
        last = len(self.classifiers)
        for depth, (layer, classifier) in enumerate(
            zip(self.encoder.layers, self.classifiers, strict=True), start=1
        ):
            x = layer(x, mask)
            found = classifier(x[:, 0])  # (still here, num_labels)
            leave = rule.leave(found) | (depth == last)
            if not leave.any():
                continue
            logits[rows[leave]], layers[rows[leave]] = found[leave], depth
            stay = ~leave
            if not stay.any():
                break
            rows, x = rows[stay], x[stay]
            mask = None if mask is None else mask[stay]
            rule.keep(stay)
        return Exits(logits, layers)

    def _start(
        self, input_ids: Tensor, attention_mask: Tensor | None, token_type_ids: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        require_ids("input_ids", input_ids, self.encoder.config.vocab_size)
        segments = () if token_type_ids is None else (token_type_ids,)
        mask = None if attention_mask is None else padding_mask(attention_mask)
        return self.encoder.embeddings(input_ids, *segments), mask


def early_exit_loss(layer_logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of all classifiers, the j-th weighted with j (PABEE, section 3).

    Args:
        layer_logits: (layers, batch, num_labels).
        labels: (batch).
    """
    layers = len(layer_logits)
    losses = torch.stack([F.cross_entropy(logits, labels) for logits in layer_logits])
    weight = torch.arange(1, layers + 1, device=losses.device, dtype=losses.dtype)
    return (weight * losses).sum() / weight.sum()


def exits(
    layer_logits: Tensor, *, patience: int | None = None, confidence: float | None = None
) -> Exits:
    """Where examples would leave, read off from the logits of all layers.

    It saves no time, but one pass through all layers is enough to try every rule.

    Args:
        layer_logits: (layers, batch, num_labels), as `EarlyExit` returns them.
        patience, confidence: as in `EarlyExit.predict`.

    Raises:
        ValueError: not exactly one rule, or one out of range.
    """
    rule = _Rule(patience, confidence)
    leave = torch.stack([rule.leave(logits) for logits in layer_logits])  # (layers, batch)
    leave[-1] = True
    first = leave.int().argmax(dim=0)  # the first layer that says so, (batch)
    return Exits(layer_logits[first, torch.arange(len(first), device=first.device)], first + 1)


class _Rule:
    """Decides, layer after layer, which examples leave."""

    def __init__(self, patience: int | None, confidence: float | None):
        if (patience is None) == (confidence is None):
            raise ValueError(
                f"patience={patience} and confidence={confidence}, expected exactly one of them"
            )
        if patience is not None and patience < 1:
            raise ValueError(f"patience={patience}, expected at least 1 layer that confirms")
        if confidence is not None and not 0 < confidence <= 1:
            raise ValueError(f"confidence={confidence}, expected a probability above 0, at most 1")
        self.patience, self.confidence = patience, confidence
        self.previous: Tensor | None = None  # (batch), the layer before's predictions
        self.confirmed: Tensor | None = None  # (batch), how many layers in a row agreed

    def leave(self, logits: Tensor) -> Tensor:
        """True for examples that leave after these logits (batch, num_labels)."""
        if self.patience is None:
            return logits.softmax(dim=-1).amax(dim=-1) >= self.confidence
        prediction = logits.argmax(dim=-1)
        if self.previous is None:
            self.confirmed = torch.zeros_like(prediction)
        else:
            same = prediction == self.previous
            self.confirmed = torch.where(same, self.confirmed + 1, 0)
        self.previous = prediction
        return self.confirmed >= self.patience

    def keep(self, stay: Tensor) -> None:
        """Forget the examples that have left."""
        if self.previous is not None:
            self.previous, self.confirmed = self.previous[stay], self.confirmed[stay]
