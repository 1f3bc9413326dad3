"""A task whose range can be chosen: what value did this key have, some tokens ago?

A text is a row of entries and questions in turn. An entry is a key with its value, a question a key
alone: `d=3 d? a=5 d? e=1 a?`. No key has two entries in a text, and keys get new values in each
text, so the answer stands in one place only. How far away that place is differs from question to
question: distances of 1, 3, 5 ... tokens, short and long ones about equally often on a logarithmic
scale. So one text asks for both, what is near and what is far.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

NO_ANSWER = -100  # what PyTorch's cross_entropy leaves out


class LookUpBatch(NamedTuple):
    """Texts of `blanks + 2 · pairs` tokens; each token has a key and a value."""

    keys: Tensor  # (batch, length), below num_keys; num_keys at the blank tokens
    values: Tensor  # (batch, length), 1 to num_values at entries, 0 elsewhere
    answers: Tensor  # (batch, length), below num_values at questions, else NO_ANSWER
    distances: Tensor  # (batch, length), tokens from a question back to its entry, else 0


def look_up_batch(
    batch_size: int,
    pairs: int,
    generator: torch.Generator,
    *,
    num_keys: int = 48,
    num_values: int = 8,
    blanks: int = 0,
) -> LookUpBatch:
    """Draw texts.

    Args:
        batch_size: how many.
        pairs: entries in a text, each followed by one question.
        generator: source of randomness.
        num_keys, num_values: sizes of the two vocabularies. Guessing is right in 1 / num_values.
        blanks: empty tokens in front, which a model may use as global tokens.

    Raises:
        ValueError: a size below 1, or more pairs than keys.
    """
    if min(batch_size, pairs, num_values) < 1 or blanks < 0:
        raise ValueError(
            f"batch_size={batch_size}, pairs={pairs}, num_values={num_values} and blanks={blanks}, "
            "expected at least 1, 1, 1 and 0"
        )
    if pairs > num_keys:
        raise ValueError(f"pairs={pairs}, expected at most num_keys={num_keys}: keys must differ")
    shape = (batch_size, pairs)
    entries = torch.rand(batch_size, num_keys, generator=generator).argsort(dim=1)[:, :pairs]
    values = torch.randint(num_values, shape, generator=generator)
    # How many entries to go back: 0 to i after the entry i, evenly on a logarithmic scale.
    place = torch.arange(pairs)
    back = torch.exp(torch.rand(shape, generator=generator) * (place + 2.0).log()).long() - 1
    back = back.minimum(place)
    asked = place - back  # (batch, pairs)

    def row(at_entries: Tensor, at_questions: Tensor, blank: int) -> Tensor:
        both = torch.stack([at_entries, at_questions], dim=-1).flatten(1)  # entry, question, ...
        return F.pad(both, (blanks, 0), value=blank)

    nothing = torch.zeros_like(values)
    return LookUpBatch(
        row(entries, entries.gather(1, asked), num_keys),
        row(values + 1, nothing, 0),
        row(nothing + NO_ANSWER, values.gather(1, asked), NO_ANSWER),
        row(nothing, 2 * back + 1, 0),
    )


def written(batch: LookUpBatch, text: int = 0) -> str:
    """A text to read: `k7=3` is an entry, `k7?` a question, `·` a blank token."""
    words = []
    for key, value, answer in zip(
        *(row[text].tolist() for row in (batch.keys, batch.values, batch.answers)), strict=True
    ):
        is_question = answer != NO_ANSWER
        words.append(f"k{key}?" if is_question else f"k{key}={value - 1}" if value else "·")
    return " ".join(words)
