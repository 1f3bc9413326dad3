"""`look_up` in a long text: entries and questions, far apart, among words that mean nothing.

`m9 m4 d=3 m4 m1 d? m7 ...`: a question asks for a value that stands in one place only, some tokens
or some thousand tokens before it. So a model that answers must find one token among all of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_lessons.datasets.look_up import NO_ANSWER, LookUpBatch, look_up_batch


def long_look_up_batch(
    batch_size: int,
    length: int,
    pairs: int,
    generator: torch.Generator,
    *,
    num_keys: int = 48,
    num_values: int = 8,
    num_fillers: int = 100,
) -> LookUpBatch:
    """Draw texts of `length` tokens: `pairs` entries and as many questions, scattered.

    Args:
        batch_size: how many.
        length: tokens in each text.
        pairs: entries in a text; a question follows each, not at once.
        generator: source of randomness.
        num_keys, num_values: sizes of the two vocabularies. Guessing is right in 1 / num_values.
        num_fillers: words that mean nothing; their keys are num_keys to num_keys + num_fillers - 1.

    Returns:
        As `look_up_batch`; distances are those in the long text.

    Raises:
        ValueError: a text too short for its entries and questions, or sizes that `look_up_batch`
            refuses.
    """
    if length < 2 * pairs or num_fillers < 1:
        raise ValueError(
            f"length={length} and num_fillers={num_fillers}, expected at least "
            f"{2 * pairs} (two tokens for each of {pairs} pairs) and 1"
        )
    short = look_up_batch(batch_size, pairs, generator, num_keys=num_keys, num_values=num_values)
    chance = torch.rand(batch_size, length, generator=generator)
    places = chance.argsort(dim=1)[:, : 2 * pairs].sort(dim=1).values  # (batch, 2 · pairs)
    entry = torch.arange(2 * pairs) - short.distances  # where each question's entry stands
    apart = places - places.gather(1, entry)

    def spread(values: Tensor, background: Tensor) -> Tensor:
        return background.scatter(1, places, values)

    nothing = torch.zeros(batch_size, length, dtype=torch.long)
    fillers = torch.randint(num_fillers, nothing.shape, generator=generator) + num_keys
    return LookUpBatch(
        spread(short.keys, fillers),
        spread(short.values, nothing),
        spread(short.answers, nothing + NO_ANSWER),
        spread(apart * (short.distances > 0), nothing),
    )
