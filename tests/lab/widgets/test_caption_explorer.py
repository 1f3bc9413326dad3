"""The caption explorer's Python side: what belongs to what, traits, the static picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
import traitlets
from PIL import Image

from zoo_lessons.lab.widgets import CaptionExplorer

WORDS = [["a", "red", "circle"], ["a", "blue", "star", "above", "a", "ring"]]


def maps(words: int, layers: int = 2, heads: int = 3, keys: int = 17, seed: int = 0) -> np.ndarray:
    exp = np.exp(np.random.default_rng(seed).normal(size=(layers, heads, words, keys)))
    return exp / exp.sum(-1, keepdims=True)


def images(count: int = 2) -> list[np.ndarray]:
    return list(np.random.default_rng(1).random((count, 24, 24, 3)))


def explorer(**options) -> CaptionExplorer:
    return CaptionExplorer(images(), WORDS, [maps(3), maps(6, seed=2)], **options)


def test_starts_with_the_last_layer_and_the_mean_of_heads():
    shown = explorer()
    assert (shown.picture, shown.word, shown.layer, shown.head) == (0, 0, 1, -1)
    np.testing.assert_allclose(shown.shown(), maps(3)[1, :, 0].mean(axis=0), rtol=1e-6)
    shown.layer, shown.head, shown.word = 0, 2, 1
    np.testing.assert_allclose(shown.shown(), maps(3)[0, 2, 1], rtol=1e-6)
    shown.picture = 1
    np.testing.assert_allclose(shown.shown(), maps(6, seed=2)[0, 2, 1], rtol=1e-6)


def test_one_caption_needs_no_lists():
    one = CaptionExplorer(images()[0], WORDS[0], maps(3), probabilities=[0.5, 1.0, 0.0])
    assert one.words == [WORDS[0]] and one.grid == (4, 4)
    assert one._payload["captions"][0]["probabilities"] == [0.5, 1.0, 0.0]
    grid = CaptionExplorer(images()[0], WORDS[0], maps(3, keys=36), class_token=False).grid
    assert grid == (6, 6)


def test_the_word_stays_in_the_caption():
    shown = explorer(picture=1, word=5)
    shown.picture = 0
    assert shown.word == 2
    with pytest.raises(traitlets.TraitError, match=r"word=3 is outside 0\.\.2"):
        shown.word = 3
    with pytest.raises(traitlets.TraitError, match=r"head=3 is outside -1\.\.2"):
        shown.head = 3
    shown.set_state({"picture": 1, "word": 4, "layer": 0})  # as the browser sends them
    assert (shown.picture, shown.word, shown.layer) == (1, 4, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"words": [*WORDS, ["a"]]}, "2 images, 3 captions and 2 arrays"),
        ({"words": [["a"], WORDS[1]]}, "attention 0 has 3 rows, but caption 0 has 1 words"),
        ({"attention": [maps(3), maps(6, heads=2)]}, "expected the same layers, heads and keys"),
        ({"attention": [maps(3, keys=16), maps(6, keys=16)]}, "15 square patches do not fill"),
        ({"attention": [2 * maps(3), maps(6)]}, "must sum to 1"),
        ({"images": [images()[0], np.zeros((12, 12, 3))]}, r"image 1 has shape \(12, 12, 3\)"),
        ({"probabilities": [[1.0] * 3, [1.0] * 5]}, r"\[3, 5\] entries, expected .* \[3, 6\]"),
        ({"probabilities": [[1.0] * 3, [2.0] * 6]}, "numbers from 0 to 1"),
        ({"names": ["one"]}, "1 names for 2 images"),
        ({"layer": 2}, r"layer=2 is outside 0\.\.1"),
        ({"word": 3}, r"word=3 is outside 0\.\.2"),
    ],
)
def test_errors(change, message):
    good = {"images": images(), "words": WORDS, "attention": [maps(3), maps(6)]}
    with pytest.raises(ValueError, match=message):
        CaptionExplorer(**{**good, **change})


def test_static_picture_and_text():
    first, second = explorer(word=1), explorer(word=1)
    one, two = first._repr_mimebundle_()[0], second._repr_mimebundle_()[0]
    assert one["image/png"] == two["image/png"]
    assert one["text/plain"] == (
        "CaptionExplorer: “a red circle” (3 words), 2 layers x 3 heads over 4 x 4 patches; showing "
        "“red”: layer 1, mean of heads; 2 images"
    )
    assert explorer(word=2).static_png() != first.static_png()
    picture = np.asarray(Image.open(io.BytesIO(first.static_png())).convert("L"))
    assert 800 <= picture.shape[1] <= 1000 and (picture < 200).mean() > 0.05
