"""The tagging experiment: baselines by hand, and the same head from the same seed."""

from __future__ import annotations

import torch

from experiments.tagging import (
    labels_of,
    most_frequent_tags,
    recall_by_acquaintance,
    rule_tags,
    train,
)
from zoo_lessons.datasets.references import Reference
from zoo_lessons.tagging import entities


def reference(text: str, tags: str) -> Reference:
    return Reference(tuple(text.split()), tuple(tags.split()), "numpy")


ONE = reference(
    "L . Breiman , Bagging predictors , Machine Learning 24 .",
    "B-AUTHORS I-AUTHORS I-AUTHORS O B-TITLE I-TITLE O B-VENUE I-VENUE O O",
)


def test_the_rule_finds_an_easy_reference():
    words = "L . Breiman ( 1996 ) , Bagging of many predictors , Machine Learning 24 .".split()
    found = [(name, " ".join(words[a:b])) for name, a, b in entities(rule_tags(words))]
    assert found == [
        ("AUTHORS", "L . Breiman"),
        ("TITLE", "Bagging of many predictors"),
        ("VENUE", "Machine Learning"),
    ]


def test_most_frequent_tags():
    (tags,) = most_frequent_tags([ONE, ONE], [reference("MACHINE bagging unheard", "O O O")])
    assert tags == ["B-VENUE", "B-TITLE", "O"]  # O is the most frequent of all


def test_recall_by_acquaintance():
    other = reference(
        "Roe , New things , Machine Learning",
        "B-AUTHORS O B-TITLE I-TITLE O B-VENUE I-VENUE",
    )
    guess = ["B-AUTHORS", "O", "O", "O", "O", "B-VENUE", "I-VENUE"]
    found = recall_by_acquaintance([ONE], [other], [guess])
    assert found == {"seen": 1.0, "unseen": 0.5, "share seen": 0.3333}


def test_training_is_repeatable_and_learns():
    generator = torch.Generator().manual_seed(0)
    labels = labels_of([ONE] * 4)
    features = [torch.randn(len(ONE.words), 64, generator=generator)] * 4
    for crf in (False, True):
        heads = [train(features, labels, crf=crf, seed=3, steps=100) for _ in range(2)]
        assert all(
            torch.equal(a, b)
            for a, b in zip(heads[0].parameters(), heads[1].parameters(), strict=True)
        )
        assert heads[0].predict(features) == [list(ONE.tags)] * 4
