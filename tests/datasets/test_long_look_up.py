"""Long texts hold what short ones do, farther apart."""

from __future__ import annotations

import pytest
import torch

from zoo_lessons.datasets.long_look_up import long_look_up_batch
from zoo_lessons.datasets.look_up import NO_ANSWER

SIZES = {"num_keys": 12, "num_values": 5, "num_fillers": 7}


def draw(batch=6, length=90, pairs=10, seed=0):
    return long_look_up_batch(batch, length, pairs, torch.Generator().manual_seed(seed), **SIZES)


def test_every_question_has_its_answer_so_many_tokens_before():
    batch = draw()
    assert batch.keys.shape == (6, 90)
    for keys, values, answers, distances in zip(*batch, strict=True):
        asked = (answers != NO_ANSWER).nonzero().flatten().tolist()
        assert len(asked) == 10
        for place in asked:
            entry = place - int(distances[place])
            assert 0 <= entry < place
            assert keys[entry] == keys[place] < SIZES["num_keys"]
            assert values[entry] - 1 == answers[place]
            assert values[place] == 0
            same = (keys == keys[place]) & (values > 0)
            assert same.sum() == 1  # it stands in one place only


def test_the_rest_means_nothing():
    batch = draw()
    filler = batch.keys >= SIZES["num_keys"]
    assert (filler.sum(dim=1) == 90 - 20).all()
    assert batch.keys.max() < SIZES["num_keys"] + SIZES["num_fillers"]
    assert (batch.values[filler] == 0).all()
    assert (batch.answers[filler] == NO_ANSWER).all()
    assert (batch.distances[filler] == 0).all()
    assert len(batch.keys[filler].unique()) == SIZES["num_fillers"]


def test_longer_texts_have_longer_distances_and_places_differ():
    short, long = draw(length=20), draw(length=2000)
    assert long.distances.max() > 10 * short.distances.max()
    assert not torch.equal((long.values > 0)[0], (long.values > 0)[1])
    assert torch.equal(draw(seed=3).keys, draw(seed=3).keys)
    assert not torch.equal(draw(seed=3).keys, draw(seed=4).keys)


def test_errors_say_what_came():
    with pytest.raises(ValueError, match="length=19 .* expected at least 20"):
        draw(length=19)
    with pytest.raises(ValueError, match="num_keys=12"):
        draw(pairs=13)
