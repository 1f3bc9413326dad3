"""The two attention masks of XLNet: Yang et al. 2019, arXiv:1906.08237, section 2.3."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def two_stream_masks(order: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Who may look at whom when tokens are predicted in an order other than left to right.

    The content stream h encodes a token that is already known: it sees the tokens before it in
    `order` and itself. The query stream g predicts a token: it sees those before it, not itself.

    Args:
        order: the positions in the order in which they are predicted; `order[0]` comes first.

    Returns:
        (content, query), both Boolean (length, length), True where the row's token may look at the
        column's.

    Raises:
        ValueError: `order` does not hold each of 0 ... length - 1 once.
    """
    if sorted(order) != list(range(len(order))):
        raise ValueError(f"order must hold each of 0 to {len(order) - 1} once, got {list(order)}")
    turn = torch.empty(len(order), dtype=torch.long)
    turn[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
    content = turn[None, :] <= turn[:, None]  # (length, length)
    query = turn[None, :] < turn[:, None]
    return content, query
