"""The grammar accepts the captions, all of them and nothing else."""

from __future__ import annotations

import random
import re
from itertools import permutations, product

import pytest

from zoo_lessons.datasets.shapes import PLACES, SIZES, Scene, ShapeObject, captions
from zoo_lessons.datasets.shapes.grammar import CaptionGrammar
from zoo_lessons.datasets.shapes.scenes import COLORS, SHAPES, places_for
from zoo_lessons.datasets.shapes.splits import translation_pairs

GRAMMAR = CaptionGrammar()


def split(sentence: str) -> list[str]:
    return re.findall(r"[\w-]+|,", sentence)


def join(words: list[str]) -> str:
    return " ".join(words).replace(" ,", ",")


def can_be_drawn(sentence: str) -> bool:
    """Whether some scene has this caption, found by trying all scenes that name its objects."""
    pairs = re.findall(rf"({'|'.join(COLORS)}) ({'|'.join(SHAPES)})", sentence)
    count = len(pairs)
    if count == 1:
        layouts = [(place,) for place in PLACES]
    else:
        layouts = [places_for(count, name) for name in ("left to right", "top to bottom")]
    for order, sizes, layout in product(permutations(pairs), product(SIZES, repeat=count), layouts):
        try:
            scene = Scene(
                tuple(
                    ShapeObject(shape, color, size, place)
                    for (color, shape), size, place in zip(order, sizes, layout, strict=True)
                )
            )
        except ValueError:  # two equal objects
            continue
        if any(caption.english == sentence for caption in captions(scene)):
            return True
    return False


@pytest.mark.parametrize("part", ["train", "composition"])
def test_every_caption_is_accepted_and_none_of_its_beginnings_is_a_dead_end(part):
    for sentence, _ in translation_pairs(part, 300):
        words = split(sentence)
        for end in range(len(words)):
            assert words[end] in GRAMMAR.next_words(words[:end]), sentence
        assert GRAMMAR.accepts(words), sentence


def test_every_walk_through_the_grammar_can_be_drawn():
    chooser = random.Random(0)
    seen = set()
    for _ in range(300):
        words: list[str] = []
        while word := chooser.choice(sorted(GRAMMAR.next_words(words))):
            words.append(word)
        assert can_be_drawn(join(words)), join(words)
        seen.add(len(split(join(words))))
    assert len(seen) > 5


@pytest.mark.parametrize(
    "sentence",
    [
        "the cat sat on the mat",
        "a small red circle",  # where?
        "an red circle is on the left",
        "a orange circle on the left",
        "a small red circle above a large red circle",  # two objects of one colour and shape
        "the red circle is above the red circle",
        "a small red circle above a large blue star above a small red ring",
        "",
    ],
)
def test_other_sentences_are_refused(sentence):
    assert not GRAMMAR.accepts(split(sentence))


def test_numbers_of_objects_and_wordings_can_be_chosen():
    two = CaptionGrammar((2,), ["canonical"])
    assert two.accepts(split("a small red circle above a large blue star"))
    assert not two.accepts(split("the red circle is above the blue star"))
    assert not two.accepts(split("a small red circle on the left"))
    assert two.next_words([]) == {"a"}
    assert two.next_words(["the"]) == set()
    with pytest.raises(ValueError, match="no caption has num_objects=\\(4,\\)"):
        CaptionGrammar((4,))
