"""A small task that needs word order: for each word, which noun came last before it?

The words are random, so nothing but their order helps. Nouns are rare enough that the last one is
often far away, and a position whose noun has not come yet has no label.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

NOUNS = ("cat", "mat", "dog", "rug", "bird", "tree", "fish", "pond")
FILLERS = ("the", "sat", "on", "a", "slept", "under", "near", "ran")
WORDS = NOUNS + FILLERS  # the vocabulary; an id below len(NOUNS) is a noun
NO_LABEL = -100  # what PyTorch's cross_entropy leaves out


class LastNounBatch(NamedTuple):
    """Random words and, for each, the last noun before it.

    input_ids: int64 (batch, length), indices into `WORDS`.
    labels: int64 (batch, length), indices into `NOUNS`, or `NO_LABEL` up to the first noun.
    """

    input_ids: Tensor
    labels: Tensor


def last_noun_batch(
    batch_size: int, length: int, generator: torch.Generator, *, noun_share: float = 0.25
) -> LastNounBatch:
    """Draw a batch. All nouns are equally frequent, and so are all fillers.

    Raises:
        ValueError: `noun_share` is not a probability, or a size is below 1.
    """
    if batch_size < 1 or length < 1:
        raise ValueError(f"batch_size={batch_size} and length={length} must be at least 1")
    if not 0 <= noun_share <= 1:
        raise ValueError(f"noun_share={noun_share} must lie between 0 and 1")
    shape = (batch_size, length)
    is_noun = torch.rand(shape, generator=generator) < noun_share
    noun = torch.randint(len(NOUNS), shape, generator=generator)
    filler = torch.randint(len(NOUNS), len(WORDS), shape, generator=generator)
    input_ids = torch.where(is_noun, noun, filler)
    return LastNounBatch(input_ids, last_nouns(input_ids))


def last_nouns(input_ids: Tensor) -> Tensor:
    """The labels of `input_ids` (batch, length): the last noun *before* each word."""
    is_noun = input_ids < len(NOUNS)
    place = torch.arange(input_ids.shape[1], device=input_ids.device)
    latest = torch.where(is_noun, place, -1).cummax(dim=1).values  # up to and with each word
    before = torch.cat([torch.full_like(latest[:, :1], -1), latest[:, :-1]], dim=1)
    return input_ids.gather(1, before.clamp(min=0)).masked_fill(before < 0, NO_LABEL)
