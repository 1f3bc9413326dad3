"""False captions are false, true ones true, and their shares are what was asked for."""

from collections import Counter

import pytest

from zoo_lessons.datasets.noisy_captions import KINDS, noisy_captions
from zoo_lessons.datasets.shapes import COLORS, HELD_OUT_PAIRS, SHAPES, ShapesDataset, captions
from zoo_lessons.datasets.shapes.grammar import CaptionGrammar
from zoo_lessons.datasets.words import word_tokenizer

DATA = ShapesDataset("train", 900, wording="any")
NOISY = noisy_captions(DATA.scenes, DATA.captions)
GRAMMAR = CaptionGrammar()


def words(text):
    return [word for word, _ in word_tokenizer([text]).pre_tokenizer.pre_tokenize_str(text)]


def named_pairs(text):
    """The (color, shape) pairs that a caption names: a shape's colour stands before it."""
    found = words(text)
    return {(a, b) for a, b in zip(found, found[1:], strict=False) if a in COLORS and b in SHAPES}


def test_shares():
    assert sum(not caption.is_true for caption in NOISY) == 360
    assert Counter(caption.kind for caption in NOISY) == {"": 540, **dict.fromkeys(KINDS, 120)}
    for share in (0.0, 1.0):
        kept = noisy_captions(DATA.scenes, DATA.captions, share=share)
        assert sum(caption.is_true for caption in kept) == round(900 * (1 - share))


def test_truth_is_kept():
    for caption, original in zip(NOISY, DATA.captions, strict=True):
        assert caption.truth == original.english
        assert caption.is_true == (caption.text == caption.truth)


def test_no_false_caption_is_one_of_the_scenes_own():
    for caption, scene in zip(NOISY, DATA.scenes, strict=True):
        own = {each.english for each in captions(scene)}
        assert (caption.text in own) == caption.is_true


def test_another_image_and_wrong_colour_name_an_object_that_is_not_there():
    for caption, scene in zip(NOISY, DATA.scenes, strict=True):
        present = {thing.pair for thing in scene.objects}
        absent = named_pairs(caption.text) - present
        if caption.kind == "another image":
            assert absent == named_pairs(caption.text) != set()
        elif caption.kind == "wrong colour":
            assert len(absent) == 1
        else:
            assert not absent


def test_wrong_relation_changes_places_only():
    changed = [
        (caption, scene)
        for caption, scene in zip(NOISY, DATA.scenes, strict=True)
        if caption.kind == "wrong relation"
    ]
    assert {len(scene.objects) for _, scene in changed} == {1, 2, 3}
    for caption, scene in changed:
        assert named_pairs(caption.text) == {thing.pair for thing in scene.objects}
        if len(scene.objects) == 2:  # the two stand in the other order around the relation
            named = [each for each in words(caption.text) if each in SHAPES]
            relation = {"left", "right", "above", "below"} & set(words(caption.text))
            true = [
                each
                for each in captions(scene)
                if [word for word in words(each.english) if word in SHAPES] == named
                and len(set(named)) == 2
                and relation & set(words(each.english))
            ]
            assert not any(each.english == caption.text for each in true)
            assert relation


def test_false_captions_are_captions():
    assert all(GRAMMAR.accepts(words(caption.text)) for caption in NOISY)


def test_no_held_out_pair_comes_in():
    assert not any(named_pairs(caption.text) & HELD_OUT_PAIRS for caption in NOISY)


def test_repeats_and_depends_on_the_seed():
    assert noisy_captions(DATA.scenes, DATA.captions) == NOISY
    other = noisy_captions(DATA.scenes, DATA.captions, seed=1)
    assert [c.is_true for c in other] != [c.is_true for c in NOISY]


def test_errors():
    with pytest.raises(ValueError, match="share=1.2, expected"):
        noisy_captions(DATA.scenes, DATA.captions, share=1.2)
    with pytest.raises(ValueError, match="900 scenes and 899 captions"):
        noisy_captions(DATA.scenes, DATA.captions[1:])
    with pytest.raises(ValueError, match="every one of the 1 scenes shares an object"):
        noisy_captions(DATA.scenes[:1], DATA.captions[:1], share=1.0)
