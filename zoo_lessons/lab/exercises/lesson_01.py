"""Exercises of lesson 01: attention, its masks, a bug, and a prediction."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from zoo_lessons.lab.exercises import Case, Exercise, Mistake, Verdict
from zoo_lessons.layers import causal_mask, padding_mask, scaled_dot_product_attention

# Scaled dot-product attention


def _attention(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    return scaled_dot_product_attention(q, k, v)


def _attention_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(1)

    def normal(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64).to(dtype)

    # Widths and lengths all differ, so that no wrong axis or wrong size can pass by chance.
    return (
        Case((normal(3, 4), normal(5, 4), normal(5, 2)), label="3 queries, 5 keys, d_k = 4"),
        Case((normal(2, 3, 7, 6), normal(2, 3, 4, 6), normal(2, 3, 4, 5)), label="two more axes"),
        Case((normal(4, 4), normal(4, 4), normal(4, 4)), label="all sizes are 4"),
        Case((normal(1, 9), normal(6, 9), normal(6, 3)), label="a single query"),
        Case(
            (30 * normal(3, 8), 30 * normal(5, 8), normal(5, 2)),
            label="large scores, where the softmax saturates",
        ),
        Case(
            (normal(6, 5).T, normal(6, 3).T, normal(2, 3).T),
            label="transposed, non-contiguous inputs",
        ),
        Case(
            tuple(
                normal(*shape, dtype=torch.float64) for shape in ((2, 3, 5), (2, 6, 5), (2, 6, 4))
            ),
            label="float64",
        ),
    )


def _variant(
    scale: Callable[[Tensor, Tensor], float], dim: int = -1, after: bool = False
) -> Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]:
    """A wrong attention that multiplies the scores, or the weights, by `scale(q, k)`."""

    def answer(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        scores = q @ k.transpose(-2, -1)
        weights = (scores if after else scores * scale(q, k)).softmax(dim=dim)
        weights = weights * scale(q, k) if after else weights
        return weights @ v, weights

    return answer


def _root(q: Tensor, k: Tensor) -> float:
    return 1 / math.sqrt(q.shape[-1])


ATTENTION = Exercise(
    id="01.attention",
    title="Scaled dot-product attention",
    reference=_attention,
    cases=_attention_cases,
    mistakes=(
        Mistake(
            "the scores are not divided by √d_k",
            _variant(lambda q, k: 1.0),
            "Print `scores.std()` for d_k = 4 and for d_k = 400 with random q and k. The formula "
            "keeps it near 1; where does your code do so?",
        ),
        Mistake(
            "the scores are divided by d_k, not by its square root",
            _variant(lambda q, k: 1 / q.shape[-1]),
            "The variance of a score grows like d_k. Which number brings the standard deviation "
            "back to 1?",
        ),
        Mistake(
            "the scores are multiplied by √d_k",
            _variant(lambda q, k: math.sqrt(q.shape[-1])),
            "The scale is there to make wide vectors' scores smaller. Yours makes them larger.",
        ),
        Mistake(
            "the scale uses the number of keys instead of the width",
            _variant(lambda q, k: 1 / math.sqrt(k.shape[-2])),
            "d_k is the width of a query and a key, their last axis. You took the axis that counts "
            "the keys.",
        ),
        Mistake(
            "softmax over the queries",
            _variant(_root, dim=-2),
            "Print `weights.sum(dim=-1)`. Each query shares out a weight of 1 among the keys, so "
            "every row must sum to 1; yours sums to 1 down the columns.",
        ),
        Mistake(
            "the scale comes after the softmax",
            _variant(_root, after=True),
            "Print `weights.sum(dim=-1)`: it is not 1. The scale belongs to the scores.",
        ),
        Mistake(
            "the output mixes the keys instead of the values",
            lambda q, k, v: (
                (w := (q @ k.transpose(-2, -1) * _root(q, k)).softmax(dim=-1)) @ k,
                w,
            ),
            "The weights are right. Keys are for finding, values are for handing over: which of "
            "the two do you average?",
        ),
        Mistake(
            "only the output is returned",
            lambda q, k, v: scaled_dot_product_attention(q, k, v)[0],
            "Return two things, the output and the weights: `return output, weights`.",
        ),
    ),
)

# Which rows have lost their gradient?

ROWS = {
    "a": (0.0, 0.0, 0.0, 0.0),
    "b": (9.0, 0.0, 0.0, 0.0),
    "c": (9.0, 9.0, 0.0, 0.0),
    "d": (-9.0, -9.0, -9.0, -9.0),
    "e": (99.0, 100.0, 98.0, 99.0),
    "f": (0.0, 9.0, -9.0, 18.0),
}
_DEAD = frozenset("bf")
_DEAD_MISTAKES = (
    Mistake(
        "large scores count as saturated",
        "bcef",
        "Adding the same number to all scores of a row changes nothing. Look at the gaps, and at "
        "how many scores share the lead.",
    ),
    Mistake(
        "a tie counts as saturated",
        "bcf",
        "Two keys with equal scores share the weight, half each. Push one score up a little: does "
        "the weight move?",
    ),
    Mistake(
        "very negative scores count as dead",
        "bdf",
        "Softmax looks only at differences within a row. What are the weights when all scores are "
        "-9?",
    ),
    Mistake(
        "the rows whose gradient is alive",
        "acde",
        "These are the rows that still learn. The question asks for the others.",
    ),
    Mistake(
        "equal scores count as dead",
        "ad",
        "With equal scores the weights are equal too, and any change moves them: that is where the "
        "softmax is most alive.",
    ),
)


def _grade_dead(answer: Any) -> Verdict:
    """Accept "bf", "b, f", {"b", "f"}, ["F", "b"]."""
    letters = answer.replace(",", "").replace(" ", "") if isinstance(answer, str) else answer
    chosen = frozenset(str(letter).lower() for letter in letters)
    unknown = sorted(chosen - set(ROWS))
    if unknown:
        raise ValueError(f"there is no row {unknown[0]!r}; the rows are {', '.join(ROWS)}")
    if chosen == _DEAD:
        return Verdict(
            True, "Right: only b and f have one clear winner. Ties and offsets are safe."
        )
    for mistake in _DEAD_MISTAKES:
        if chosen == frozenset(mistake.answer):
            return Verdict(False, mistake=mistake.name)
    hits = len(chosen & _DEAD)
    return Verdict(
        False, f"{hits} of your {len(chosen)} rows have lost their gradient. Look again."
    )


DEAD_ROWS = Exercise(
    id="01.dead_rows",
    title="Which rows have lost their gradient?",
    reference="bf",
    grade=_grade_dead,
    mistakes=_DEAD_MISTAKES,
)

# Masks

PADDING_MASK = Exercise(
    id="01.padding_mask",
    title="Padding mask",
    reference=lambda attention_mask: padding_mask(attention_mask),
    cases=(
        Case((torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]]),), label="the lesson's batch"),
        Case((torch.tensor([[1, 1, 0], [1, 0, 0], [1, 1, 1]]),), label="as many sentences as keys"),
        Case((torch.tensor([[0, 0, 1, 1, 1]]),), label="one sentence, padded on the left"),
        Case((torch.ones(4, 7, dtype=torch.long),), label="no padding at all"),
        Case(
            (torch.tensor([[1, 1, 1, 1], [1, 0, 0, 0]]).float(),),
            label="an attention_mask of floats",
        ),
    ),
    mistakes=(
        Mistake(
            "True where a token is hidden",
            lambda attention_mask: (attention_mask == 0)[:, None, None, :],
            "In this course, True means: may be looked at. Which of your entries are True?",
        ),
        Mistake(
            "the padding is hidden as query, not as key",
            lambda attention_mask: attention_mask.bool()[:, None, :, None],
            "The scores have shape (batch, heads, queries, keys). Padding must not be looked at, "
            "so the tokens belong on the axis of the keys.",
        ),
        Mistake(
            "the axes for heads and queries are missing",
            lambda attention_mask: attention_mask.bool(),
            "A mask (batch, keys) lines up with (queries, keys) of the scores, from the right: "
            "sentence 1 would mask query 1. Insert axes of size 1.",
        ),
        Mistake(
            "one axis is missing",
            lambda attention_mask: attention_mask.bool()[:, None, :],
            "(batch, 1, keys) lines up with (heads, queries, keys) of the scores, from the right: "
            "your batch lands on the heads. One more axis of size 1 is needed.",
        ),
        Mistake(
            "numbers instead of True and False",
            lambda attention_mask: attention_mask[:, None, None, :],
            "The shape is right. Print the dtype: the library wants torch.bool, since 0 and 1 "
            "could also be numbers to add to the scores.",
        ),
        Mistake(
            "padding is hidden as query as well",
            lambda attention_mask: (
                attention_mask.bool()[:, None, None, :] & attention_mask.bool()[:, None, :, None]
            ),
            "A query with nothing to look at has no weights that sum to 1. Hide the keys only; "
            "what a padding query computes is thrown away later.",
        ),
    ),
)

CAUSAL_MASK = Exercise(
    id="01.causal_mask",
    title="Causal mask",
    reference=lambda length: causal_mask(length),
    cases=tuple(
        Case((length,), label=f"length {length}" + (", a single token" if length == 1 else ""))
        for length in (6, 1, 2, 9)
    ),
    mistakes=(
        Mistake(
            "a token may not look at itself",
            lambda length: torch.ones(length, length).tril(-1).bool(),
            "Print row 0: it has no True at all. The first token needs something to look at.",
        ),
        Mistake(
            "a token may look one step into the future",
            lambda length: torch.ones(length, length).tril(1).bool(),
            "Print row 0: the first token sees the second one, which it should predict.",
        ),
        Mistake(
            "tokens look at the future instead of the past",
            lambda length: torch.ones(length, length).triu().bool(),
            "Row i belongs to the query at position i. Its True entries must be at columns up to "
            "i.",
        ),
        Mistake(
            "True where attention is forbidden",
            lambda length: torch.ones(length, length).triu(1).bool(),
            "In this course, True means: may be looked at. Row 0 of yours is True everywhere but "
            "at itself.",
        ),
        Mistake(
            "numbers instead of True and False",
            lambda length: torch.ones(length, length).tril(),
            "The pattern is right. Print the dtype: the library wants torch.bool.",
        ),
        Mistake(
            "0 and -inf instead of True and False",
            lambda length: torch.zeros(length, length).masked_fill(
                torch.ones(length, length).triu(1).bool(), -math.inf
            ),
            "This is what gets added to the scores later. The mask itself only says where: a "
            "torch.bool tensor.",
        ),
    ),
)

# Find the bug


def leaky_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """The faulty function of "find the bug": it masks after the softmax."""
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    weights = scores.softmax(dim=-1)
    weights = weights * mask
    return weights @ v


def _masked_scores(fill: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def answer(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return fill(scores, mask).softmax(dim=-1) @ v

    return answer


def _renormalised(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    weights = scores.softmax(dim=-1) * mask
    return weights / weights.sum(dim=-1, keepdim=True) @ v


def _leak_cases() -> tuple[Case, ...]:
    draw = torch.Generator().manual_seed(2)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    q, k, v = normal(4, 6), normal(4, 6), normal(4, 3)
    loud = k.clone()
    loud[3] = 400 * q[0]  # a hidden key whose score leaves nothing for the others
    lengths = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]])
    return (
        Case((q, k, v, causal_mask(4)), label="causal mask, 4 tokens"),
        Case(
            (normal(2, 3, 5, 7), normal(2, 3, 5, 7), normal(2, 3, 5, 4), padding_mask(lengths)),
            label="padding mask, a batch of two",
        ),
        Case((q, loud, v, causal_mask(4)), label="a hidden key with a very large score"),
        Case((q - 4, k + 4, v, causal_mask(4)), label="all scores far below zero"),
        Case((normal(2, 3), normal(5, 3), normal(5, 2), torch.ones(2, 5).bool()), label="no mask"),
    )


MASK_BUG = Exercise(
    id="01.mask_bug",
    title="Find the bug: hidden, but not silent",
    reference=lambda q, k, v, mask: scaled_dot_product_attention(q, k, v, mask)[0],
    cases=_leak_cases,
    start=leaky_attention,
    mistakes=(
        Mistake(
            "the rows are rescaled after the softmax",
            _renormalised,
            "On paper this is right. Now give a hidden key a score 200 above the others: the "
            "visible weights round to 0, and 0 / 0 is NaN. Keep hidden scores out of the softmax.",
        ),
        Mistake(
            "hidden scores become 0",
            _masked_scores(lambda scores, mask: scores * mask),
            "A score of 0 is a score like any other: its exponential is 1, so the hidden key still "
            "gets weight. Which score has the exponential 0?",
        ),
        Mistake(
            "the visible scores are hidden",
            _masked_scores(lambda scores, mask: scores.masked_fill(mask, -math.inf)),
            "`masked_fill` writes where its mask is True, and True means may be looked at. Which "
            "entries do you want to overwrite?",
        ),
        Mistake(
            "the penalty for hidden keys is too small",
            _masked_scores(lambda scores, mask: scores.masked_fill(~mask, -10.0)),
            "-10 hides a key only while the other scores are well above it. Which value is below "
            "every score?",
        ),
        Mistake(
            "a penalty is added that a large score outweighs",
            _masked_scores(lambda scores, mask: scores - 10.0 * ~mask),
            "A hidden key with a score of 200 is still at 190. Which value can no score outweigh?",
        ),
        Mistake(
            "the scale was lost",
            lambda q, k, v, mask: scaled_dot_product_attention(
                q * math.sqrt(q.shape[-1]), k, v, mask
            )[0],
            "The masking is right now. Compare the first line with the one you started from.",
        ),
    ),
)

EXERCISES = (ATTENTION, DEAD_ROWS, PADDING_MASK, CAUSAL_MASK, MASK_BUG)
