"""Accuracy against labels: balanced draws, a tuned baseline, reproducible figures."""

from __future__ import annotations

import torch

from experiments.digits_labels import digits_labels, labelled, logistic_regression, measure
from zoo_lessons.datasets.digits import digits


def test_draws_are_balanced_and_differ_by_seed():
    train = digits("train")
    few, other = labelled(train, 50, 0), labelled(train, 50, 1)
    assert few.labels.bincount().tolist() == [5] * 10
    assert not torch.equal(few.images, other.images)
    assert torch.equal(few.images, labelled(train, 50, 0).images)


def test_larger_draws_contain_the_smaller_ones():
    train = digits("train")
    assert torch.equal(labelled(train, 200, 3).images[:50], labelled(train, 50, 3).images)


def test_all_digits_can_be_drawn_once_each():
    train = digits("train")
    drawn = labelled(train, len(train.labels), 0)
    assert torch.equal(drawn.labels.bincount(), train.labels.bincount())
    assert len({image.numpy().tobytes() for image in drawn.images}) == len(
        {image.numpy().tobytes() for image in train.images}
    )


def test_logistic_regression_learns():
    train, validation, test = (digits(split) for split in ("train", "validation", "test"))
    predict = logistic_regression(labelled(train, 50, 0), validation, 0)
    assert (predict(test.images) == test.labels).float().mean() > 0.6


def test_same_seeds_give_the_same_figures():
    once, again = (measure(range(1), (50,), steps=2) for _ in range(2))
    assert once == again
    assert {len(rows) for rows in once["accuracy"].values()} == {1}
    assert digits_labels.lesson == "09" and not digits_labels.claims
