"""The text experiment in small: nested draws, worth in real sentences, three classifiers."""

import pytest

from experiments.augment_text import (
    METHODS,
    Draw,
    accuracy,
    effects,
    small_transformer,
    tf_idf,
    three_word_runs,
    worth,
)
from zoo_lessons.datasets.what_happened import LABELS, messages


@pytest.fixture
def draw():
    drawn = Draw(0, messages("train", 8))
    drawn.rounds["synonyms"] = [[f"{m.text} {n}" for m in drawn.copied] for n in range(2)]
    return drawn


def test_fewer_sentences_are_part_of_more_and_copies_follow(draw):
    texts, labels = draw.sentences(3, "synonyms", 2)
    number = 3 * len(LABELS)
    assert len(texts) == len(labels) == 3 * number
    assert texts[:number] == [message.text for message in draw.messages[:number]]
    assert texts[number : 2 * number] == [f"{text} 0" for text in texts[:number]]
    assert labels == labels[:number] * 3
    assert draw.sentences(3)[0] == texts[:number]


def test_worth_interpolates_on_a_logarithmic_axis():
    real = {5: 0.4, 20: 0.6, 80: 0.7}
    assert worth(real, 0.5, 5) == pytest.approx(10)  # half way from 5 to 20
    assert worth(real, 0.6, 5) == 20
    assert worth(real, 0.65, 20) == 40
    assert worth(real, 0.4, 5) is None  # no gain
    assert worth(real, 0.9, 5) is None  # more than was tried


@pytest.mark.parametrize(("fitted", "setting"), [(tf_idf, 10.0), (small_transformer, 3e-3)])
def test_classifiers_learn_their_training_sentences(draw, fitted, setting):
    train = draw.sentences(8)
    assert accuracy(fitted(train, setting, 0), draw.messages) > 0.8


def test_one_effect_for_each_model_method_and_count():
    one = {"none": {5: [0.3, 0.4, 0.5]}, **{method: {5: [0.4, 0.5, 0.6]} for method in METHODS}}
    rows = effects({"TF-IDF": one})
    assert [row["method"] for row in rows] == list(METHODS)
    assert all(row["gain_points"] == 10 and row["labels"] == 30 for row in rows)


def test_three_word_runs():
    assert three_word_runs("a b, c d") == [("a", "b", "c"), ("b", "c", "d")]
