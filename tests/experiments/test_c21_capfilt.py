"""CapFilt's bookkeeping, the verdicts' thresholds, and short rounds of each."""

from __future__ import annotations

import pytest
import torch

from experiments import c21_capfilt, c33_pseudo_labels
from experiments.blip_shapes import Pictures, exact, new_model, pretrain, tokenizer_for_shapes
from experiments.c21_capfilt import (
    DATA,
    OBJECTS,
    WITHOUT,
    Seen,
    blank,
    capfilt,
    filter_quality,
    training_sets,
    write_about,
)
from zoo_lessons.datasets.noisy_captions import KINDS, noisy_captions

SHORT = {"steps": 2, "batch": 8}


@pytest.fixture(scope="module")
def tokenizer():
    return tokenizer_for_shapes()


@pytest.fixture(scope="module")
def encoder(tokenizer):
    torch.manual_seed(0)
    return new_model(tokenizer).eval()


@pytest.fixture(scope="module")
def web(encoder):
    return Seen(encoder, "train", 60)


@pytest.fixture(scope="module")
def found(web):
    return noisy_captions(web.scenes, web.captions)


def test_a_perfect_filter_and_captioner_make_the_oracles_set(web, found):
    truths = [caption.truth for caption in found]
    right = [caption.is_true for caption in found]
    sets = training_sets(web, found, truths, right, [True] * 60)
    assert set(sets) == set(DATA)
    assert sets["CapFilt"].texts == sets["oracle"].texts == truths
    assert len(sets["noisy"].texts) == 60 and len(sets["filter only"].texts) == 36
    assert len(sets["captioner only"].texts) == 60 + 24  # a true caption that comes twice is one
    for name, true in (("noisy", 36), ("filter only", 36), ("captioner only", 60), ("oracle", 60)):
        assert sum(exact(sets[name].texts, sets[name].scenes)) == true
        assert len(sets[name].tokens) == len(sets[name].texts)


def test_each_text_stays_with_its_image(web, found):
    written = [f"written {row}" for row in range(60)]
    sets = training_sets(web, found, written, [False] * 60, [row % 2 == 0 for row in range(60)])
    kept = sets["CapFilt"]
    assert kept.texts == [f"written {row}" for row in range(0, 60, 2)]
    assert torch.equal(kept.tokens, web.tokens[::2]) and kept.scenes == web.scenes[::2]
    assert sets["filter only"].texts == []


def test_images_are_read_once(encoder, tokenizer, web):
    """The model reads an image's tokens as it would read the image."""
    with torch.no_grad():
        whole = encoder.encode_image(Pictures("train", 3, num_objects=OBJECTS).pixel_values())
        torch.testing.assert_close(web.pixel_values([0, 1, 2]), whole)
    model = blank(tokenizer, seed=1)
    assert torch.equal(model.encode_image(web.pixel_values([4])), web.tokens[[4]])
    again = blank(tokenizer, seed=1)
    for name, value in model.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    texts = write_about(model.eval(), tokenizer, web)
    assert len(texts) == 60 and not any("[" in text for text in texts)


def test_filter_quality(found):
    right = [caption.is_true for caption in found]
    perfect = filter_quality(found, right, [True, False])
    assert perfect["true on the web"] == 0.6 and perfect["true among the kept"] == 1.0
    assert perfect["true among the written"] == 0.5
    assert perfect["keeps true"] == 1.0
    assert all(perfect[f"keeps {kind}"] == 0.0 for kind in KINDS)
    lazy = filter_quality(found, [True] * 60, [True])
    assert lazy["true among the kept"] == 0.6 and lazy["keeps wrong colour"] == 1.0


def test_a_short_round(encoder, web, tokenizer, monkeypatch):
    """Two steps make a filter that keeps all or nothing: here it keeps every third text."""

    def every_third(model, tokenizer, pictures, texts):
        real = keeps(model, tokenizer, pictures, texts)
        assert len(real) == len(texts) and set(map(type, real)) == {bool}
        return [row % 3 == 0 for row in range(len(texts))]

    keeps = c21_capfilt.keeps
    monkeypatch.setattr(c21_capfilt, "keeps", every_third)
    clean = Seen(encoder, "train", 12, seed=100)
    judged = Seen(encoder, "test", 6)
    result = capfilt(web, clean, judged, tokenizer, base_steps=2, tuning_steps=1, **SHORT)
    assert set(result["captions"]) == set(result["pairs"]) == set(DATA)
    assert result["true"]["noisy"] == 0.6 and result["true"]["oracle"] == 1.0
    assert result["pairs"]["filter only"] == 20 and result["pairs"]["oracle"] == 60


def test_losses_are_switched_off(encoder, web, tokenizer, monkeypatch):
    used = []

    def remember(*args, losses, **options):
        used.append(tuple(losses))
        return pretrain(*args, losses=losses, **options)

    monkeypatch.setattr(c21_capfilt, "pretrain", remember)
    judged = Seen(encoder, "test", 4)
    result = c21_capfilt.without_a_loss(web, judged, judged, tokenizer, steps=1, batch=8)
    assert set(result) == set(WITHOUT)
    assert used == [("itc", "itm", "lm"), ("itm", "lm"), ("itc", "lm"), ("itc", "itm")]


def interval(low):
    return {"mean": low + 0.01, "low": low, "high": low + 0.02}


@pytest.mark.parametrize(
    ("capfilt_low", "itm_low", "expected"),
    [
        (0.01, 0.01, "reproduced"),
        (0.01, -0.01, "partly"),
        (0.0, 0.01, "partly"),
        (-0.01, 0.0, "the article is wrong"),
    ],
)
def test_verdict_of_c21(capfilt_low, itm_low, expected):
    gains = {
        "CapFilt over noisy": interval(capfilt_low),
        "ITM over ITC": interval(-0.5),  # does not count
        "ITC on": interval(0.5),
        "ITM on": interval(itm_low),
        "LM on": interval(0.5),
    }
    assert c21_capfilt.judge(gains) == expected


def test_gain_is_paired():
    found = c21_capfilt.gain([0.5, 0.9, 0.7], [0.4, 0.8, 0.6])
    assert found["mean"] == pytest.approx(0.1) and found["high"] - found["low"] < 1e-3


def test_pseudo_labels(encoder, tokenizer):
    trained, searched = Seen(encoder, "train", 16), Seen(encoder, "test", 8, seed=1)
    found = c33_pseudo_labels.few_pairs(trained, searched, tokenizer, **SHORT)
    assert set(found) == set(c33_pseudo_labels.KINDS)
    assert all(0 <= recall <= 1 for recall in found.values())


@pytest.mark.parametrize(
    ("lows", "expected"),
    [
        ((0.1, 0.1), "reproduced"),
        ((0.1, -0.1), "partly"),
        ((0.0, -0.1), "not measurable here"),  # it ends at 0.02: a gain that would matter
        ((-0.05, -0.1), "the article is wrong"),
    ],
)
def test_verdict_of_c33(lows, expected):
    assert c33_pseudo_labels.judge([interval(low) for low in lows]) == expected
