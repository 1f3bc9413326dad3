"""BERT's tasks on captions: pictures stay in their split, and the judges count what they say."""

from __future__ import annotations

import pytest
import torch

from experiments.bert_tasks import ARMS, measure, pairs_of, train, world
from zoo_lessons.datasets.words import UNK_ID


@pytest.fixture(scope="module")
def data():
    return world({"train": 60, "test": 40})


def test_every_word_is_known_and_none_is_the_mask(data):
    ids = torch.cat([pairs_of(data, split, 0, 0.5).input_ids for split in data.documents])
    assert ids.max() < data.mask_id
    assert not (ids == UNK_ID).any()


def test_no_picture_is_in_two_splits(data):
    train_texts, test_texts = (
        {frozenset(map(tuple, lines)) for lines in data.documents[split]}
        for split in data.documents
    )
    assert not train_texts & test_texts


@pytest.mark.parametrize("arm", ARMS)
def test_figures_are_shares_and_repeat(data, arm):
    once, again = (measure(data, train(data, arm, 0, steps=2)) for _ in range(2))
    assert once == again
    assert all(0 <= value <= 1 for value in once.values())
