"""C04: the verdict follows its thresholds, and the figures are what the docstring says."""

from __future__ import annotations

import pytest
import torch

from experiments.c04_positions import FOUR, LENGTHS, SPAN, VARIANTS, accuracy, judge, measure


def accuracies(at_trained: dict[str, float]) -> dict[str, list[list[float]]]:
    """Two seeds, a little apart; 0.2 on longer sequences."""
    return {
        name: [[at_trained.get(name, 0.3) + slip, 0.2] for slip in (0.0, 0.01)] for name in VARIANTS
    }


@pytest.mark.parametrize(
    ("working", "expected"),
    [(4, "reproduced"), (3, "partly"), (2, "partly"), (1, "the article is wrong")],
)
def test_verdict_follows_the_thresholds(working, expected):
    assert judge(accuracies(dict.fromkeys(FOUR[:working], 0.9))).verdict == expected


def test_one_bad_seed_is_enough():
    figures = accuracies(dict.fromkeys(FOUR, 0.9))
    figures["rotary"][1][0] = 0.5  # 0.19 above the control
    assert judge(figures).verdict == "partly"


def test_accuracy_counts_labelled_words_only():
    right = torch.tensor([[True, False, True, False]])
    counted = torch.tensor([[True, True, False, False]])
    assert accuracy(right & counted, counted) == 0.5


def test_same_seeds_give_the_same_figures():
    once, again = (measure(range(1), steps=2) for _ in range(2))
    assert once == again
    for name in VARIANTS:
        assert len(once["accuracy"][name][0]) == len(LENGTHS)
        assert len(once["by_place"][name][0]) == LENGTHS[-1] // SPAN
