"""The look-up comparison: what differs between the kinds, and what is judged."""

from __future__ import annotations

import pytest
import torch

from experiments.look_up_range import (
    BANDS,
    BLANKS,
    CROWDS,
    FULL,
    GLOBAL,
    HIERARCHICAL,
    LENGTH,
    LINEAR,
    NEAR,
    NUM_KEYS,
    NUM_LAYERS,
    RADIUS,
    RANDOM_FEATURES,
    UNION,
    WINDOW,
    LookUpModel,
    accuracy,
    computed_pairs,
    judge,
    kinds,
    texts,
    train,
)
from zoo_lessons.layers import record_attention
from zoo_lessons.layers.sparse_attention import replace_attention


def batch(size=2):
    return texts(size, torch.Generator().manual_seed(0))


def test_patterns_are_those_that_the_model_uses():
    assert list(kinds()) == list(computed_pairs())
    for kind, share in computed_pairs().items():
        model = replace_attention(LookUpModel(), kinds()[kind]).eval()
        with torch.no_grad(), record_attention(model) as maps:
            model(batch())
        seen = maps.stack()[:, 0, 0] > 0  # (layers, queries, keys)
        assert seen.shape == (NUM_LAYERS, LENGTH, LENGTH)
        if share is not None:
            assert seen.double().mean().item() == pytest.approx(share)
        else:
            assert kind in (LINEAR, RANDOM_FEATURES) and seen.all()
    shares = computed_pairs()
    assert shares[WINDOW] < shares[GLOBAL] < shares[UNION] < shares[HIERARCHICAL] < shares[FULL]


def test_all_kinds_start_from_the_same_weights():
    weights = [train(kind, 0, 0.0, steps=1).state_dict() for kind in (FULL, WINDOW, LINEAR)]
    for name, value in weights[0].items():
        assert all(torch.equal(value, other[name]) for other in weights[1:])


class Oracle(torch.nn.Module):
    """Right up to a distance, wrong beyond."""

    def __init__(self, reach: int):
        super().__init__()
        self.reach = reach

    def forward(self, texts):
        right = torch.nn.functional.one_hot(texts.answers.clamp(min=0), 8).float()
        return torch.where((texts.distances <= self.reach)[..., None], right, -right)


def test_accuracy_counts_questions_at_their_distance():
    assert judge(Oracle(LENGTH), 0) == {
        "near": 1.0,
        "far": 1.0,
        "bands": [1.0] * len(BANDS),
        "crowds": [1.0] * len(CROWDS),
    }
    found = judge(Oracle(NEAR), 0)
    assert (found["near"], found["far"]) == (1.0, 0.0)
    assert found["bands"] == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert 0 < accuracy(Oracle(NEAR), batch()) < 1


def test_texts_begin_with_blanks():
    text = batch()
    assert (text.keys[:, :BLANKS] == NUM_KEYS).all() and (text.keys[:, BLANKS:] < NUM_KEYS).all()
    assert NUM_LAYERS * RADIUS < 17  # far is out of two windows' reach
