"""C03: sentences are what they claim to be, kinds follow their rules, and so does the verdict."""

from __future__ import annotations

import pytest
import torch

from experiments.c03_heads import (
    EVERYONE,
    FOLLOWS,
    NEITHER,
    PLACE,
    RELATIONS,
    Movement,
    Reader,
    draw_words,
    judge,
    kind_of,
    layer_name,
    place_of,
    random_sets,
    weights_of,
)


@pytest.fixture(scope="module")
def reader():
    return Reader()


@pytest.mark.parametrize("relation", RELATIONS, ids=lambda relation: relation.name)
def test_every_template_has_one_token_per_word_and_another_distance(reader, relation):
    fillings = draw_words(50)

    def distance(template):
        return place_of(relation.belongs_to, template) - place_of(relation.asks, template)

    for template in (relation.base, *relation.moved):
        assert reader.ids(template, fillings).shape == (50, len(template.split()) + 2)
    assert distance(relation.base) not in [distance(template) for template in relation.moved]


def test_a_word_in_pieces_is_refused(reader):
    with pytest.raises(ValueError, match="single token"):
        reader.ids("the {noun} slept", [{"noun": "aardvark"}])


def test_the_previous_word_head_keeps_its_place(reader):
    mean = {k: v.mean(0) for k, v in weights_of(reader, RELATIONS[0], draw_words(4)).items()}
    assert mean["base"][0, 2] > 0.95
    assert mean["moved_word"][0, 2] < 0.05
    assert mean["moved_place"][0, 2] > 0.95


def test_silencing_nothing_removes_nothing_and_silencing_all_removes_the_influence(reader):
    movement = Movement(reader, RELATIONS[1], draw_words(2))
    everything = {layer_name(layer): range(12) for layer in range(6)}
    assert movement.effect({}) == pytest.approx(0, abs=1e-6)
    # Without any attention a word hears nothing of the others.
    assert movement.effect(everything) == pytest.approx(1, abs=1e-5)


def test_random_sets_take_as_many_other_heads_from_each_layer(reader):
    shown = [(0, 2), (5, 11), (5, 3)]
    for heads in random_sets(reader, shown):
        assert {name: len(chosen) for name, chosen in heads.items()} == {
            layer_name(0): 1,
            layer_name(5): 2,
        }
        assert 2 not in heads[layer_name(0)]
        assert not {3, 11} & set(heads[layer_name(5)])


@pytest.mark.parametrize(
    "base, moved_word, moved_place, others, expected",
    [
        (0.4, 0.4, 0.1, 0.3, EVERYONE),
        (0.4, 0.3, 0.1, 0.1, FOLLOWS),
        (0.9, 0.0, 0.9, 0.0, PLACE),
        (0.6, 0.1, 0.2, 0.0, PLACE),
        (0.6, 0.2, 0.1, 0.0, NEITHER),
    ],
)
def test_kinds_follow_their_rules(base, moved_word, moved_place, others, expected):
    assert kind_of(base, moved_word, moved_place, others) == expected


def relation(kind: str, effect: float) -> dict:
    effects = torch.linspace(0, 0.1, 72).reshape(6, 12).tolist()
    head = {"layer": 0, "head": 0, "kind": kind, "base": 0.9, "moved_word": 0.8, "effect": effect}
    return {"heads": [head], "effect": effects, "together": {"shown": 0.5, "random": [0.0, 0.1]}}


@pytest.mark.parametrize(
    "cat, mat, expected",
    [
        (relation(FOLLOWS, 0.5), relation(FOLLOWS, 0.5), "reproduced"),
        (relation(FOLLOWS, 0.5), relation(FOLLOWS, 0.01), "partly"),
        (relation(PLACE, 0.5), relation(FOLLOWS, 0.5), "partly"),
        (relation(PLACE, 0.5), relation(EVERYONE, 0.5), "the article is wrong"),
    ],
)
def test_verdict_follows_the_rules(cat, mat, expected):
    assert judge({"cat-sat": cat, "on-mat": mat}).verdict == expected
