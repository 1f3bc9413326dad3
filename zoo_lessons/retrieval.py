"""Search: scores of passages for a question, and how good a ranking is.

Two ways to score. `BM25` counts shared words; `sentence_embeddings` compares meanings. A third,
`fused`, joins their rankings.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def mean_pooled(hidden: Tensor, attention_mask: Tensor) -> Tensor:
    """The mean of the tokens' vectors, padding left out, scaled to length 1.

    This is how the model card of all-MiniLM-L6-v2 makes one vector of a sentence; the model was
    trained so that the dot product of two such vectors says how close the sentences are (Reimers &
    Gurevych 2019, arXiv:1908.10084, section 3).

    Args:
        hidden: (batch, length, d_model).
        attention_mask: 0/1 (batch, length).

    Returns:
        (batch, d_model).

    Raises:
        ValueError: shapes that do not fit, or a row without a token.
    """
    if attention_mask.shape != hidden.shape[:2]:
        raise ValueError(
            f"attention_mask has shape {tuple(attention_mask.shape)}, expected (batch, length) = "
            f"{tuple(hidden.shape[:2])}"
        )
    mask = attention_mask.to(hidden.dtype)[:, :, None]
    counts = mask.sum(dim=1)
    if (counts == 0).any():
        raise ValueError("attention_mask has a row without a token: nothing to average")
    return F.normalize((hidden * mask).sum(dim=1) / counts, dim=-1)


@torch.inference_mode()
def sentence_embeddings(
    model: nn.Module,
    tokenizer,
    texts: Sequence[str],
    *,
    max_length: int = 256,
    batch_size: int = 32,
) -> Tensor:
    """One vector of length 1 for each text: (texts, d_model).

    Texts of like length share a batch, so that little is padded.

    Args:
        model: an encoder such as `load_pretrained("minilm")`.
        tokenizer: the `tokenizers.Tokenizer` that belongs to it.
        texts: sentences or short passages.
        max_length: tokens to read; the rest of a longer text is not seen. MiniLM was trained with
            at most 256.
        batch_size: texts at a time.

    Raises:
        ValueError: there are no texts.
    """
    if not texts:
        raise ValueError("there are no texts to embed")
    ids = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
    ids = [one if len(one) <= max_length else [*one[: max_length - 1], one[-1]] for one in ids]
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    vectors: dict[int, Tensor] = {}
    for first in range(0, len(order), batch_size):
        chosen = order[first : first + batch_size]
        batch = nn.utils.rnn.pad_sequence([torch.tensor(ids[i]) for i in chosen], batch_first=True)
        lengths = torch.tensor([len(ids[i]) for i in chosen])
        mask = (torch.arange(batch.shape[1]) < lengths[:, None]).long()  # (batch, length)
        pooled = mean_pooled(model(batch, mask).last_hidden_state, mask)
        vectors.update(zip(chosen, pooled, strict=True))
    return torch.stack([vectors[i] for i in range(len(ids))])


class BM25:
    """Search by words: Robertson & Zaragoza, "The Probabilistic Relevance Framework" (2009), 3.4.

    A word of the question counts for a passage that has it. Rare words count more (inverse document
    frequency), the tenth time counts hardly more than the third (k1), and long passages get less
    for each (b). The inverse document frequency has a 1 added, so that it stays positive.

    Args:
        texts: the passages.
        k1, b: the usual values.

    Raises:
        ValueError: there are no passages.
    """

    def __init__(self, texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75):
        if not texts:
            raise ValueError("there are no passages to search")
        counts = [Counter(words(text)) for text in texts]
        self.places = {word: i for i, word in enumerate(sorted({w for c in counts for w in c}))}
        table = torch.zeros(len(texts), len(self.places))  # how often each passage has each word
        for row, count in enumerate(counts):
            for word, times in count.items():
                table[row, self.places[word]] = times
        passages_with = (table > 0).sum(dim=0)
        rarity = ((len(texts) - passages_with + 0.5) / (passages_with + 0.5) + 1).log()
        lengths = table.sum(dim=1, keepdim=True)
        self.weights = rarity * table / (table + k1 * (1 - b + b * lengths / lengths.mean()))

    def scores(self, question: str) -> Tensor:
        """How well each passage fits the question: (passages,), 0 where no word is shared."""
        known = [self.places[word] for word in words(question) if word in self.places]
        return self.weights[:, known].sum(dim=1)


def words(text: str) -> list[str]:
    """Lower-case words as BM25 counts them; `__slots__` is one."""
    return re.findall(r"\w+", text.lower())


def fused(*scores: Tensor, k: int = 60) -> Tensor:
    """Reciprocal rank fusion: a score from rankings alone, as the scales cannot be compared.

    Each ranking gives its passage of rank r (1 is best) the score 1 / (k + r); the scores are added
    (Cormack, Clarke & Büttcher 2009). k = 60 is theirs.

    Args:
        scores: tensors (..., passages) of one shape; higher is better. Ties keep their order.

    Returns:
        The same shape.

    Raises:
        ValueError: no scores, or different shapes.
    """
    if not scores or len({one.shape for one in scores}) != 1:
        raise ValueError(f"scores must have one shape, got {[tuple(s.shape) for s in scores]}")
    return sum(1 / (k + ranks(one)) for one in scores)


def ranks(scores: Tensor) -> Tensor:
    """The rank of each passage, 1 for the best: scores (..., passages) -> the same shape."""
    order = scores.argsort(dim=-1, descending=True, stable=True)
    places = torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    return torch.empty_like(order).scatter_(-1, order, places.expand_as(order))


def first_ranks(scores: Tensor, answers: Sequence[Sequence[int]]) -> list[int]:
    """For each question, the rank of its best-ranked right passage.

    From these come recall@k, the share of questions with a rank of at most k, and the mean
    reciprocal rank, the mean of 1 / rank.

    Args:
        scores: (questions, passages), higher is better.
        answers: for each question the passages that are right.

    Raises:
        ValueError: a question without a right passage, or another number of questions.
    """
    if len(answers) != len(scores) or not all(len(right) for right in answers):
        raise ValueError(f"expected right passages for each of {len(scores)} questions")
    places = ranks(scores)
    return [int(row[list(right)].min()) for row, right in zip(places, answers, strict=True)]
