"""Language models that only count: the baselines that a Transformer has to beat.

`NGram` predicts the next token from the few before it, with interpolated modified Kneser-Ney
smoothing: the best of the count-based methods that Chen & Goodman compared ("An empirical study of
smoothing techniques for language modeling", TR-10-98, Harvard 1998, section 3). The idea that
lower orders count contexts rather than tokens is Kneser & Ney's (ICASSP 1995).
`TwoSidedBigram` predicts a hidden token from its two neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

Sequences = Tensor | Iterable[Sequence[int]]

_CLASSES = 3  # discounts differ for counts of 1, of 2, and of 3 or more


class NGram:
    """An n-gram model with interpolated modified Kneser-Ney smoothing.

    For a context h (the order - 1 tokens before w), and h' without its first token:

        p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h) + mass(h) * p(w | h')

    mass(h) is what the discounts D took from the words seen after h, so the probabilities of all
    words sum to 1. c(h w) counts how often h w occurs at the highest order; below, how many
    different tokens occur before h w. The lowest order is interpolated with 1 / vocab_size. A
    context that was never seen leaves the prediction to h'. The beginning of a sequence is a token
    of the context, and is never predicted.

    Args:
        order: how many tokens a counted group has; 1 ignores the context, 3 is a trigram.
        vocab_size: token ids lie in [0, vocab_size).

    Attributes:
        discounts: float64 (order, 3), from the lowest order to the highest, for counts of 1, of 2,
            and of 3 or more.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, order: int, vocab_size: int) -> None:
        if order < 1 or vocab_size < 1:
            raise ValueError(f"order={order} and vocab_size={vocab_size} must be at least 1")
        self.order = order
        self.vocab_size = vocab_size
        self.discounts = np.zeros((order, _CLASSES))
        self._tables: list[_Table] = []

    def fit(self, sequences: Sequences, validation: Sequences | None = None) -> NGram:
        """Count, and choose the discounts.

        Args:
            sequences: token ids: a tensor (sequences, length), or lists of any lengths.
            validation: other sequences, on which to tune the discounts. Without them, the discounts
                are those that Chen & Goodman (section 3) estimate from the counts.

        Returns:
            The model itself.

        Raises:
            ValueError: no tokens, or ids outside the vocabulary.
        """
        stream, real = self._stream(sequences)
        groups = stream  # the group of tokens that ends at each place, as an index
        seen = np.arange(self.vocab_size + 1)
        levels = []  # of each order: all groups, and at each place the one that ends there
        for order in range(1, self.order + 1):
            if order > 1:
                keys = self._keys(groups, stream)
                seen, groups = np.unique(keys, return_inverse=True)
            levels.append((seen, groups))

        self._tables = []
        for order in range(1, self.order + 1):
            seen, groups = levels[order - 1]
            if order == self.order:
                counts = np.bincount(groups[real], minlength=len(seen))
            else:  # how many different groups, one token longer, end in this group
                _, longer = levels[order]
                _, first = np.unique(longer[real], return_index=True)
                counts = np.bincount(groups[real][first], minlength=len(seen))
            contexts = len(levels[order - 2][0]) if order > 1 else 1
            self._tables.append(_Table(seen, counts, contexts, self.vocab_size + 1))
        self.discounts = np.array([table.estimated_discounts() for table in self._tables])
        if validation is not None:
            self._tune(validation)
        return self

    def token_log_probabilities(self, sequences: Sequences) -> list[Tensor]:
        """The log-probability (natural logarithm) of each token, given those before it.

        Returns:
            One float64 tensor (length,) per sequence.

        Raises:
            RuntimeError: before `fit`.
            ValueError: no tokens, or ids outside the vocabulary.
        """
        self._require_fit()
        sequences = _as_arrays(sequences)
        probability = self._probabilities(self._evidence(sequences), self.discounts)
        log_probability = torch.from_numpy(np.log(probability))
        return list(log_probability.split([len(sequence) for sequence in sequences]))

    def perplexity(self, sequences: Sequences, first: int = 0) -> float:
        """exp of the mean negative log-likelihood per token.

        Args:
            sequences: token ids.
            first: leave out each sequence's tokens before this position. With 1, the tokens are
                those that a Transformer predicts, which needs one token to begin with.

        Raises:
            RuntimeError: before `fit`.
            ValueError: no tokens to predict, or ids outside the vocabulary.
        """
        rows = [row[first:] for row in self.token_log_probabilities(sequences)]
        log_probability = torch.cat(rows)
        if not len(log_probability):
            raise ValueError(f"first={first} leaves no token to predict")
        return math.exp(-log_probability.mean().item())

    def log_probabilities(self, context: Sequence[int] | Tensor) -> Tensor:
        """The log-probability of each token of the vocabulary to come next.

        Args:
            context: the tokens so far; the last order - 1 count. A shorter one is the beginning of
                a sequence.

        Returns:
            float64 (vocab_size,); its exponential sums to 1.

        Raises:
            RuntimeError: before `fit`.
            ValueError: ids outside the vocabulary.
        """
        self._require_fit()
        context = self._checked(np.asarray(context, dtype=np.int64).reshape(-1))
        context = np.concatenate([np.full(self.order - 1, self.vocab_size), context])
        return torch.from_numpy(np.log(self._next(context)))

    def _next(self, context: np.ndarray) -> np.ndarray:
        """The distribution after the last tokens of a context, (vocab_size,)."""
        probability = np.full(self.vocab_size, 1 / self.vocab_size)
        for length, table in enumerate(self._tables[: len(context) + 1]):  # of the context
            discounts = self.discounts[length]
            index = self._find(context[len(context) - length :])
            if index < 0 or table.totals[index] == 0:
                break
            words, counts = table.after(index)
            mass = table.classes[index] @ discounts
            probability = probability * mass
            probability[words] += _discounted(counts, discounts)
            probability /= table.totals[index]
        return probability

    def _find(self, group: np.ndarray) -> int:
        """The index of one group of tokens, 0 for the empty one, -1 if it was never seen."""
        index = 0
        for order, token in enumerate(group, start=1):
            index = int(token) if order == 1 else self._tables[order - 1].find(index, token)
            if index < 0:
                return -1
        return int(index)

    def _keys(self, groups: np.ndarray, stream: np.ndarray) -> np.ndarray:
        """A number for the group before each place together with the token there."""
        before = np.concatenate([[self.vocab_size], groups[:-1]])
        return before * (self.vocab_size + 1) + stream

    def _stream(self, sequences: Sequences) -> tuple[np.ndarray, np.ndarray]:
        """All tokens in a row, each sequence after its beginnings, and which ones are tokens."""
        start = np.full(max(self.order - 1, 1), self.vocab_size)
        parts = [
            part
            for sequence in _as_arrays(sequences)
            for part in (start, self._checked(np.asarray(sequence)))
        ]
        stream = np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)
        real = stream < self.vocab_size
        if not real.any():
            raise ValueError("sequences must hold at least one token, got none")
        return stream, real

    def _checked(self, ids: np.ndarray) -> np.ndarray:
        if ids.size and not 0 <= ids.min() <= ids.max() < self.vocab_size:
            raise ValueError(
                f"token ids lie between {ids.min()} and {ids.max()}, but vocab_size is "
                f"{self.vocab_size}"
            )
        return ids

    def _evidence(self, sequences: Sequences) -> list[tuple[np.ndarray, ...]]:
        """What the prediction of each token needs at each order, whatever the discounts.

        Returns:
            Per order: count of the group (tokens,), total of its context (tokens,), and the
            context's number of followers per class (tokens, 3).
        """
        stream, real = self._stream(sequences)
        evidence = []
        contexts = np.zeros(len(stream), dtype=np.int64)  # the empty context has index 0
        for order, table in enumerate(self._tables, start=1):
            groups = stream if order == 1 else table.find(contexts, stream)
            known = contexts[real] >= 0
            counts = np.where(groups[real] >= 0, table.counts[groups[real]], 0)
            totals = np.where(known, table.totals[contexts[real]], 0)
            classes = np.where(known[:, None], table.classes[contexts[real]], 0)
            evidence.append((counts, totals, classes))
            contexts = np.concatenate([[-1], groups[:-1]])
        return evidence

    def _probabilities(
        self, evidence: list[tuple[np.ndarray, ...]], discounts: np.ndarray
    ) -> np.ndarray:
        probability = np.full(len(evidence[0][0]), 1 / self.vocab_size)
        for (counts, totals, classes), row in zip(evidence, discounts, strict=True):
            mixed = _discounted(counts, row) + (classes @ row) * probability
            probability = np.where(totals > 0, mixed / np.maximum(totals, 1), probability)
        return probability

    def _tune(self, validation: Sequences) -> None:
        """Choose the discounts that make the validation sequences most likely."""
        evidence = self._evidence(validation)

        def loss(flat: np.ndarray) -> float:
            probability = self._probabilities(evidence, flat.reshape(self.discounts.shape))
            return -np.log(probability).mean()

        # A discount may not exceed its count, and one of 0 would forbid what was never seen.
        bounds = [(0.01, count - 0.01) for count in (1, 2, 3)] * self.order
        found = minimize(loss, self.discounts.reshape(-1), method="L-BFGS-B", bounds=bounds)
        if found.fun < loss(self.discounts.reshape(-1)):
            self.discounts = found.x.reshape(self.discounts.shape)

    def _require_fit(self) -> None:
        if not self._tables:
            raise RuntimeError(f"{type(self).__name__} has counted nothing yet: call fit first")


class _Table:
    """The counted groups of one order.

    keys: int64 (groups,), sorted: the index of a group's context times `base`, plus its last token.
    counts: int64 (groups,).
    totals: int64 (contexts,), the sum of the counts after each context.
    classes: int64 (contexts, 3), how many tokens follow it with a count of 1, 2, and 3 or more.
    """

    def __init__(self, keys: np.ndarray, counts: np.ndarray, contexts: int, base: int) -> None:
        self.keys, self.counts, self.base = keys, counts, base
        owners = keys // base
        self.totals = np.bincount(owners, weights=counts, minlength=contexts).astype(np.int64)
        self.classes = np.stack(
            [
                np.bincount(owners[rows], minlength=contexts)
                for rows in (counts == 1, counts == 2, counts >= 3)
            ],
            axis=-1,
        )

    def find(self, contexts: np.ndarray | int, tokens: np.ndarray | int) -> np.ndarray:
        """Indices of groups, -1 for those never seen."""
        wanted = np.asarray(contexts, dtype=np.int64) * self.base + tokens
        index = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((np.asarray(contexts) >= 0) & (self.keys[index] == wanted), index, -1)

    def after(self, context: int) -> tuple[np.ndarray, np.ndarray]:
        """The tokens that follow a context, and their counts."""
        start, end = np.searchsorted(self.keys, [context * self.base, (context + 1) * self.base])
        counts = self.counts[start:end]
        return self.keys[start:end][counts > 0] % self.base, counts[counts > 0]

    def estimated_discounts(self) -> np.ndarray:
        """Chen & Goodman's estimate (section 3), with a safe value where it is undefined."""
        once, twice, thrice, four = (int((self.counts == count).sum()) for count in (1, 2, 3, 4))
        if not once or not twice:
            return np.array([0.5, 0.75, 1.0])
        y = once / (once + 2 * twice)
        estimates = (
            1 - 2 * y * twice / once,
            2 - 3 * y * thrice / twice,
            3 - 4 * y * four / thrice if thrice else 1.5,
        )
        return np.clip(estimates, 0.01, np.array([1, 2, 3]) - 0.01)


class TwoSidedBigram:
    """Predicts a hidden token from the token on each side: what a masked language model must beat.

    If a text were a chain in which each token depends on the one before it alone, then exactly

        p(w | left, right) = p(w | left) p(right | w) / p(right | left)

    The two factors come from one bigram model; the divisor does not depend on w. Where the left
    neighbour is hidden too, p(w) takes the first factor's place; where the right one is, the second
    factor is left out.

    Args:
        vocab_size: token ids lie in [0, vocab_size).

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size
        self._bigram = NGram(2, vocab_size)
        self._unigram = NGram(1, vocab_size)

    def fit(self, sequences: Sequences, validation: Sequences | None = None) -> TwoSidedBigram:
        """Count; `validation` tunes the bigram's discounts. See `NGram.fit`."""
        sequences = _as_arrays(sequences)
        self._unigram.fit(sequences)
        self._bigram.fit(sequences, validation)
        table, discounts = self._bigram._tables[1], self._bigram.discounts[1]
        totals = np.maximum(table.totals[: self.vocab_size], 1)
        mass = table.classes[: self.vocab_size] @ discounts / totals
        # A token that nothing followed leaves the prediction of its right neighbour to p(right).
        self._mass = np.where(table.totals[: self.vocab_size] > 0, mass, 1.0)
        # The bigrams in the order of their second token, to find what stands before a token.
        first, second = np.divmod(table.keys, table.base)
        rows = np.flatnonzero((table.counts > 0) & (first < self.vocab_size))
        rows = rows[np.argsort(second[rows], kind="stable")]
        self._first, self._second = first[rows], second[rows]
        self._direct = _discounted(table.counts[rows], discounts) / totals[self._first]
        self._lower = self._bigram._next(np.array([], dtype=np.int64))
        return self

    def log_probabilities(self, left: int | None, right: int | None) -> Tensor:
        """The log-probability of each token to stand between two tokens.

        Args:
            left, right: the neighbours' ids, None where a neighbour is hidden or missing.

        Returns:
            float64 (vocab_size,); its exponential sums to 1.

        Raises:
            RuntimeError: before `fit`.
            ValueError: ids outside the vocabulary.
        """
        if left is None:
            scores = self._unigram.log_probabilities([])
        else:
            scores = self._bigram.log_probabilities([left])
        if right is not None:
            self._bigram._checked(np.array([right]))
            followed = self._mass * self._lower[right]  # p(right | w) for each w
            start, end = np.searchsorted(self._second, [right, right + 1])
            followed[self._first[start:end]] += self._direct[start:end]
            scores = scores + torch.from_numpy(np.log(followed))
        return scores.log_softmax(dim=-1)

    def masked_log_probabilities(self, input_ids: Tensor, masked: Tensor) -> Tensor:
        """Predictions for all hidden tokens of a batch. The ids at hidden places are not looked at.

        Args:
            input_ids: int64 (batch, length).
            masked: Boolean (batch, length), True where a token is hidden.

        Returns:
            float32 (hidden tokens, vocab_size), in the order of `input_ids[masked]`.

        Raises:
            RuntimeError: before `fit`.
            ValueError: shapes that differ, or visible ids outside the vocabulary.
        """
        if input_ids.shape != masked.shape or input_ids.dim() != 2:
            raise ValueError(
                f"input_ids {tuple(input_ids.shape)} and masked {tuple(masked.shape)} must both "
                f"be (batch, length)"
            )
        self._bigram._require_fit()
        result = torch.empty(int(masked.sum()), self.vocab_size)
        rows = input_ids.masked_fill(masked, -1).tolist()
        for index, (row, place) in enumerate(masked.nonzero().tolist()):
            ids = [None, *(None if token < 0 else token for token in rows[row]), None]
            result[index] = self.log_probabilities(ids[place], ids[place + 2])
        return result


def _discounted(counts: np.ndarray, discounts: np.ndarray) -> np.ndarray:
    """Counts less the discount of their class; 0 stays 0."""
    return counts - np.concatenate([[0.0], discounts])[np.minimum(counts, _CLASSES)]


def _as_arrays(sequences: Sequences) -> list[np.ndarray]:
    if isinstance(sequences, Tensor):
        return list(sequences.cpu().numpy())
    return [np.asarray(sequence, dtype=np.int64) for sequence in sequences]
