"""Exercises of lesson 00: a warm-up that shows how checks work."""

from __future__ import annotations

import torch
from torch import Tensor

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case


def rows_to_one(x: Tensor) -> Tensor:
    return x / x.sum(dim=1, keepdim=True)


def _cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "3 rows, 5 columns": (3, 5),
        "a square, where both axes fit": (4, 4),
        "a single row": (1, 6),
    }
    return tuple(
        Case((torch.rand(*shape, generator=generator) * 9 + 0.5,), label=label)
        for label, shape in shapes.items()
    )


EXERCISES = (
    Exercise(
        id="00.rows_to_one",
        title="Rows that sum to one",
        reference=rows_to_one,
        cases=_cases,
        mistakes=(
            Mistake(
                "divided by the sums of the columns",
                lambda x: x / x.sum(dim=0, keepdim=True),
                "Print `x.sum(dim=0).shape`: one sum per column. A row's sum adds along the other "
                "axis.",
            ),
            Mistake(
                "divided by the sum of the whole table",
                lambda x: x / x.sum(),
                "Now the whole table sums to 1. Each row on its own should: how many sums do you "
                "need?",
            ),
            Mistake(
                "softmax instead of division",
                lambda x: x.softmax(dim=1),
                "Softmax also makes rows that sum to 1, but of the exponentials. Divide the "
                "numbers themselves.",
            ),
            Mistake(
                "divided by the largest number of each row",
                lambda x: x / x.amax(dim=1, keepdim=True),
                "The largest number of each row is now 1. The sum of the row should be.",
            ),
        ),
    ),
)
