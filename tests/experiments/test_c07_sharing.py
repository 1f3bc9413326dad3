"""The sharing experiment: counts, holes and the verdict's rule."""

import pytest
import torch

from experiments import c07_sharing as c07
from experiments.bert_tasks import world
from zoo_lessons.datasets.masking import IGNORED


@pytest.fixture(scope="module")
def data():
    return world({"train": 20, "test": 8})


def test_sharing_cuts_what_it_should(data):
    count = {
        name: c07.parameters(c07.Filler(c07.config(data.vocab_size, name)))
        for name in (*c07.SHARINGS, "one layer")
    }
    d = c07.WIDTH
    attention, feed_forward, norms = 4 * d * d + 4 * d, 8 * d * d + 5 * d, 4 * d
    spare = c07.LAYERS - 1
    assert count["none"] - count["attention"] == spare * attention
    assert count["none"] - count["all"] == spare * (attention + feed_forward + norms)
    assert count["one layer"] == count["all"]


def test_base_sizes_are_those_of_bert_and_albert():
    sizes = c07.base_sizes()
    widen = 768 * 768 + 768  # ALBERT's second embedding matrix, which BERT lacks
    assert sizes["none"] - widen == 109_482_240
    assert sizes["none"] - sizes["attention"] == 11 * (4 * 768 * 768 + 4 * 768)
    assert round(sizes["ALBERT-base"] / 1e6, 1) == 11.7


def test_training_and_judging(data):
    held_out = c07.holes(data, "test", slice(10), torch.Generator().manual_seed(0))
    assert (held_out.labels != IGNORED).any()
    model = c07.train(data, "attention", 0, steps=3)
    first, *others = model.encoder.layers
    assert all(layer.attention is first.attention for layer in others)
    assert 0 <= c07.accuracy(model, held_out) <= 1


@pytest.mark.parametrize(("attention", "said"), [(0.70, "reproduced"), (0.67, "partly")])
def test_the_verdict_follows_the_rule(attention, said):
    accuracy = {"none": [0.7], "attention": [attention], "all": [0.6], "one layer": [0.5]}
    base = {"none": 110e6, "attention": 84e6, "all": 32e6}
    assert c07.verdict({"base": base, "accuracy": accuracy}).verdict == said
