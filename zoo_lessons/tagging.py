"""Sequence tagging: from words to pieces and back, a head with and without a CRF, and its score.

BIO tags (Ramshaw & Marcus 1995): B-X begins an entity of type X, I-X continues it, O is outside.
Scores are those of CoNLL-2003 (Tjong Kim Sang & De Meulder 2003, section 4): an entity counts only
if its type, its first and its last word are all right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence

from zoo_lessons.layers.attention import padding_mask
from zoo_lessons.layers.crf import CRF

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from zoo_lessons.models.bert import BertModel

NO_LABEL = -100  # what PyTorch's cross_entropy leaves out


# --- tags --------------------------------------------------------------------------------------


def is_legal(before: str, after: str) -> bool:
    """Whether the tag `after` may follow `before`: I-X needs B-X or I-X. "O" stands for a start."""
    return not after.startswith("I-") or before[2:] == after[2:]


def has_illegal_step(tags: Sequence[str]) -> bool:
    """Whether an I- tag somewhere continues nothing."""
    return not all(map(is_legal, ["O", *tags], tags))


def entities(tags: Sequence[str]) -> list[tuple[str, int, int]]:
    """The entities that tags mark: (type, first word, word after the last).

    An entity starts at a B- tag and goes on with I- tags of its type. An I- tag that continues
    nothing is illegal, and starts nothing here.
    """
    spans: list[tuple[str, int, int]] = []
    for place, tag in enumerate(tags):
        prefix, _, name = tag.partition("-")
        if prefix == "B":
            spans.append((name, place, place + 1))
        elif prefix == "I" and spans and spans[-1][0] == name and spans[-1][2] == place:
            spans[-1] = (name, spans[-1][1], place + 1)
    return spans


class EntityScores(NamedTuple):
    """precision: share of the found entities that are right. recall: share of the true ones found.
    f1: their harmonic mean, 0 if nothing is right."""

    precision: float
    recall: float
    f1: float


def entity_scores(truth: Sequence[Sequence[str]], found: Sequence[Sequence[str]]) -> EntityScores:
    """Scores over all sentences together; each argument has one tag sequence per sentence.

    Raises:
        ValueError: other numbers of sentences or words.
    """
    if [len(tags) for tags in truth] != [len(tags) for tags in found]:
        raise ValueError("truth and found must have the same sentences, with as many tags each")
    true_spans = {(i, *span) for i, tags in enumerate(truth) for span in entities(tags)}
    found_spans = {(i, *span) for i, tags in enumerate(found) for span in entities(tags)}
    right = len(true_spans & found_spans)
    precision = right / len(found_spans) if found_spans else 0.0
    recall = right / len(true_spans) if true_spans else 0.0
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return EntityScores(precision, recall, f1)


# --- words and pieces --------------------------------------------------------------------------


def first_pieces(word_ids: Sequence[int | None]) -> list[int]:
    """Where each word's first piece stands, in the order of the words.

    Args:
        word_ids: for each piece the number of its word, None for [CLS] and [SEP]: the `word_ids` of
            a `tokenizers.Encoding`.
    """
    return [
        place
        for place, word in enumerate(word_ids)
        if word is not None and (place == 0 or word_ids[place - 1] != word)
    ]


@torch.inference_mode()
def word_features(
    model: BertModel,
    tokenizer: Tokenizer,
    sentences: Sequence[Sequence[str]],
    *,
    block: int,
    batch_size: int = 16,
) -> list[Tensor]:
    """A vector for each word of each sentence: what the encoder says at the word's first piece.

    Args:
        model: in evaluation mode; it is not trained.
        tokenizer: belongs to the model.
        sentences: words.
        block: after how many of the encoder's blocks to read. 0 reads the word embeddings alone,
            which know neither position nor neighbours.
        batch_size: sentences at a time; those of like length share a batch.

    Returns:
        For each sentence (words, d_model).

    Raises:
        ValueError: `block` is out of range, or a word that the tokenizer drops.
    """
    if not 0 <= block <= len(model.layers):
        raise ValueError(f"block={block} must lie between 0 and {len(model.layers)}")
    encoded = tokenizer.encode_batch([list(words) for words in sentences], is_pretokenized=True)
    places = [first_pieces(one.word_ids) for one in encoded]
    for words, found in zip(sentences, places, strict=True):
        if len(words) != len(found):
            raise ValueError(f"the tokenizer drops some of the words {words}")
    order = sorted(range(len(encoded)), key=lambda i: len(encoded[i].ids))
    features: dict[int, Tensor] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        ids = pad_sequence([torch.tensor(encoded[i].ids) for i in chosen], batch_first=True)
        mask = pad_sequence([torch.ones(len(encoded[i].ids)) for i in chosen], batch_first=True)
        x = model.embeddings(ids) if block else model.embeddings.word(ids)
        for layer in model.layers[:block]:
            x = layer(x, padding_mask(mask.long()))  # (batch, pieces, d_model)
        for row, i in enumerate(chosen):
            features[i] = x[row, places[i]].clone()  # (words, d_model)
    return [features[i] for i in range(len(encoded))]


# --- a head ------------------------------------------------------------------------------------


class TaggingHead(nn.Module):
    """Scores each tag at each word (emissions), and picks tags word by word or with a CRF.

    Args:
        width: of the features.
        tags: their names.
        crf: learn transitions between tags too. The CRF never leaves the rules of BIO.
        lstm: hidden units, in each direction, of a bidirectional LSTM before the scores; 0 for none
            (Lample et al. 2016, arXiv:1603.01360, section 2).
        dropout: of the features, and of the LSTM's output.
    """

    def __init__(
        self, width: int, tags: Sequence[str], *, crf: bool, lstm: int = 0, dropout: float = 0.3
    ):
        super().__init__()
        self.tags = tuple(tags)
        self.dropout = nn.Dropout(dropout)
        self.lstm = nn.LSTM(width, lstm, bidirectional=True, batch_first=True) if lstm else None
        self.emit = nn.Linear(2 * lstm or width, len(tags))
        self.crf = bio_crf(tags) if crf else None

    def forward(self, features: Tensor, mask: Tensor) -> Tensor:
        """(batch, words, width) and a Boolean mask -> emissions (batch, words, tags)."""
        x = self.dropout(F.layer_norm(features, features.shape[-1:]))  # one scale for all blocks
        if self.lstm is not None:
            packed = pack_padded_sequence(
                x, mask.sum(1).cpu(), batch_first=True, enforce_sorted=False
            )
            x, _ = pad_packed_sequence(
                self.lstm(packed)[0], batch_first=True, total_length=mask.shape[1]
            )
            x = self.dropout(x)
        return self.emit(x)

    def loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean negative log-likelihood per word; labels (batch, words), `NO_LABEL` for padding."""
        mask = labels != NO_LABEL
        emissions = self(features, mask)
        if self.crf is None:
            return F.cross_entropy(emissions.flatten(0, 1), labels.flatten())
        return self.crf(emissions, labels, mask).sum() / mask.sum()

    @torch.no_grad()
    def predict(
        self,
        features: Sequence[Tensor],
        how: Literal["own", "word by word", "legal only"] = "own",
    ) -> list[list[str]]:
        """Tags for each sentence.

        Args:
            features: for each sentence (words, width).
            how: "word by word" takes the best tag of each word; "legal only" takes the best
                sequence that the rules of BIO allow, without learned transitions; "own" uses the
                CRF if there is one, and goes word by word otherwise.
        """
        lengths = torch.tensor([len(one) for one in features])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        emissions = self(pad_sequence(list(features), batch_first=True), mask)
        if how == "legal only":
            paths = bio_crf(self.tags).decode(emissions.log_softmax(dim=-1), mask)
        elif how == "word by word" or self.crf is None:
            best = emissions.argmax(dim=-1)
            paths = [row[keep].tolist() for row, keep in zip(best, mask, strict=True)]
        else:
            paths = self.crf.decode(emissions, mask)
        return [[self.tags[i] for i in path] for path in paths]


def bio_crf(tags: Sequence[str]) -> CRF:
    """An untrained CRF that forbids what BIO forbids."""
    return CRF(
        len(tags),
        allowed=torch.tensor([[is_legal(before, after) for after in tags] for before in tags]),
        allowed_start=torch.tensor([is_legal("O", tag) for tag in tags]),
    )
