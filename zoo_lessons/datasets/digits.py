"""Real images that scikit-learn carries: 1,797 handwritten digits and two photographs.

The digits are the test part of "Optical recognition of handwritten digits" (Alpaydin & Kaynak,
1998, UCI Machine Learning Repository): 8 × 8 pixels, 17 grey levels.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")


class Digits(NamedTuple):
    """Images and what they show.

    images: float32 (n, 1, 8, 8), from 0 (paper) to 1 (ink).
    labels: int64 (n,), 0 to 9.
    """

    images: Tensor
    labels: Tensor


def digits(split: str | None = None, *, new_writers: bool = True) -> Digits:
    """The handwritten digits, or one split of them.

    The rows are in the order in which people wrote them. Each person began with 0 to 9 three times,
    which shows where one ends and the next begins. With `new_writers` the people of validation and
    test wrote nothing in train: the question that matters in use. Without, the rows are shuffled
    first, as most reports do; a model may then have seen the very hand that it is tested on, and
    scores higher.

    Args:
        split: "train" (1,157 digits), "validation" (258), "test" (382), or None for all.
        new_writers: split by people; False splits at random, with the same sizes.

    Raises:
        ValueError: an unknown split.
    """
    if split is not None and split not in SPLITS:
        raise ValueError(f"split={split!r} must be one of {', '.join(map(repr, SPLITS))}")
    images, labels = _all_digits()
    if split is None:
        return Digits(images, labels)
    starts = writer_starts()
    ends = {"train": (0, starts[-4]), "validation": (starts[-4], starts[-2])}
    first, last = ends.get(split, (starts[-2], len(labels)))
    rows = torch.arange(first, last)
    if not new_writers:
        rows = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[rows]
    return Digits(images[rows], labels[rows])


def writer_starts() -> list[int]:
    """The rows at which a new person surely begins: 0 to 9, written three times over.

    There are thirteen people, according to the data set's description, and twelve such rows: one
    or two of the pieces between them may hold more than one person.
    """
    _, labels = _all_digits()
    beginning = torch.arange(10).repeat(3)
    windows = labels.unfold(0, len(beginning), 1)  # (rows, 30)
    return (windows == beginning).all(dim=1).nonzero()[:, 0].tolist()


def photographs() -> dict[str, Tensor]:
    """Two photographs, "china" (a temple) and "flower" (a dahlia).

    Returns:
        name -> float32 (3, 427, 640), red, green and blue from 0 to 1.
    """
    from sklearn.datasets import load_sample_image

    return {
        name: torch.from_numpy(load_sample_image(f"{name}.jpg").copy()).permute(2, 0, 1) / 255
        for name in ("china", "flower")
    }


@lru_cache
def _all_digits() -> Digits:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images.astype(np.float32))[:, None] / 16
    return Digits(images, torch.from_numpy(data.target.astype(np.int64)))
