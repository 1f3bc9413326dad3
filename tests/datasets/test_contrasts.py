"""True captions beside false ones of almost the same words, and prompts for classes."""

from collections import Counter

import pytest

from zoo_lessons.datasets.shapes import (
    COLORS,
    HELD_OUT_PAIRS,
    Scene,
    ShapeObject,
    ShapesDataset,
    canonical_caption,
)
from zoo_lessons.datasets.shapes.contrasts import KINDS, contrast, contrasts
from zoo_lessons.datasets.shapes.prompts import PAIRS, full_prompts, pair_labels, short_prompt

SCENES = ShapesDataset("test", 400).scenes


def words(text):
    return Counter(text.replace(",", "").split())


@pytest.mark.parametrize("kind", KINDS)
def test_the_false_caption_is_false(kind):
    found = dict(contrasts(SCENES, kind))
    assert len(found) >= 20
    for index, pair in found.items():
        assert pair.true == canonical_caption(SCENES[index]).english != pair.false


@pytest.mark.parametrize("kind", ["binding", "relation", "order"])
def test_the_words_are_the_same(kind):
    for _, pair in contrasts(SCENES, kind):
        assert words(pair.true) == words(pair.false)


def test_a_word_differs():
    for _, pair in contrasts(SCENES, "word"):
        added, lost = words(pair.false) - words(pair.true), words(pair.true) - words(pair.false)
        assert len(added) == len(lost) == 1 and set(added) | set(lost) <= set(COLORS)


def test_a_count_differs():
    for _, pair in contrasts(SCENES, "count"):
        assert set(words(pair.true)) == set(words(pair.false))
        colors = [sorted(words(text)[color] for color in COLORS) for text in pair]
        assert colors[0] == colors[1] == [0] * 6 + [1, 2]
        assert words(pair.true) != words(pair.false)


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_no_false_caption_shows_a_held_out_pair(kind):
    held_out = [f"{color} {shape}" for color, shape in HELD_OUT_PAIRS]
    for _, pair in contrasts(SCENES, kind):
        assert not any(text in pair.false for text in held_out)


def test_scenes_that_have_no_contrast():
    alone = Scene((ShapeObject("circle", "red", "small", "top"),))
    assert all(contrast(alone, kind) is None for kind in ("binding", "relation", "count"))
    two = (("circle", "left"), ("moon", "right"))
    alike = Scene(tuple(ShapeObject(shape, "red", "small", place) for shape, place in two))
    assert contrast(alike, "binding") is None
    assert contrast(alike, "relation").false == (
        "a small red moon to the left of a small red circle"
    )
    with pytest.raises(ValueError, match="kind='size'"):
        contrast(alone, "size")


def test_prompts():
    assert len(PAIRS) == len(set(PAIRS)) == 64
    assert short_prompt(("orange", "ring")) == "an orange ring"
    assert short_prompt(("red", "ring")) == "a red ring"
    full = full_prompts(("red", "ring"))
    assert len(set(full)) == 18 and full[-5] == "a large red ring in the centre"
    assert len(set(full_prompts(("red", "ring"), wordings=True))) == 90


def test_labels():
    data = ShapesDataset("composition", 30, num_objects=(1,))
    for label, scene in zip(pair_labels(data.scenes), data.scenes, strict=True):
        assert PAIRS[label] == scene.objects[0].pair
    with pytest.raises(ValueError, match="one object each"):
        pair_labels(SCENES)
