"""The translators' figures: what they count, and a training run in small."""

import pytest

from experiments.translators import (
    chrf,
    judge,
    smoothed,
    tokenizer_for_everyday,
    train,
    words_kept,
)
from zoo_lessons.datasets.everyday import sentence_pairs
from zoo_lessons.translation import Translator


def test_chrf():
    assert chrf("le chat dort", "le chat dort") == 1
    assert chrf("xyz", "le chat") == 0
    assert 0.3 < chrf("le chat dort", "le chat court") < 1
    assert chrf("le", "le chat dort") < chrf("le chat", "le chat dort")
    # one-letter example by hand: n = 1 only; precision 1, recall 1/2, F2 = 5 / (4 + 2)
    assert chrf("a", "ab") == pytest.approx(5 * 0.5 / (4 * 1 + 0.5))


def test_words_kept():
    assert words_kept("the cat saw the dog", "the dog ran") == pytest.approx(2 / 5)
    assert words_kept("a b", "b a") == 1


def test_smoothed():
    assert smoothed([1.0] * 50 + [3.0] * 50) == [1.0, 3.0]


def test_training_lowers_the_loss_and_can_be_judged():
    pairs = sentence_pairs("train", 300)
    english, french = ([p.english for p in pairs], [p.french for p in pairs])
    tokenizer = tokenizer_for_everyday()
    model, history = train(english, french, tokenizer, steps=12, batch=16)
    assert history.loss[-3:].mean() < 0.9 * history.loss[:3].mean()
    found = judge(Translator(model, tokenizer), english[:4], french[:4])
    assert set(found) == {"exact", "chrF"} and 0 <= found["chrF"] <= 1
