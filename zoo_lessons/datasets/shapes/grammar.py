"""The grammar of the English captions: which words may follow, and which sentences are captions.

A caption is one of a few patterns with slots for sizes, colours and shapes. The grammar reads the
patterns from the same wordings that write the captions, so the two cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from zoo_lessons.datasets.shapes.captions import (
    ALONE,
    ENGLISH_PLACES,
    ENGLISH_RELATIONS,
    PAIR,
    PAIR_OF_ONE_SIZE,
    TRIPLE,
    TRIPLE_OF_ONE_SIZE,
    VOWELS,
)
from zoo_lessons.datasets.shapes.scenes import COLORS, MAX_OBJECTS, SHAPES, SIZES

_WORDINGS = {1: ALONE, 2: PAIR + PAIR_OF_ONE_SIZE, 3: TRIPLE + TRIPLE_OF_ONE_SIZE}
_WITH_VOWEL = tuple(color for color in COLORS if color[0] in VOWELS)
_WITHOUT_VOWEL = tuple(color for color in COLORS if color[0] not in VOWELS)


class Slot(NamedTuple):
    """One word of a pattern: the words that can stand here, and what the word is."""

    words: tuple[str, ...]
    kind: str = ""  # "color", "shape" or nothing


class CaptionGrammar:
    """Every English caption of the shapes world, word by word.

    A word is a word of `word_tokenizer`: commas are words of their own.

    Args:
        num_objects: the numbers of objects to allow.
        wordings: names of the wordings to allow, such as "canonical"; all of them by default.

    Raises:
        ValueError: no pattern is left.
    """

    def __init__(
        self, num_objects: Sequence[int] = (1, 2, 3), wordings: Sequence[str] | None = None
    ) -> None:
        self.patterns = [
            pattern
            for count in num_objects
            for wording in _WORDINGS.get(count, ())
            if wordings is None or wording.name in wordings
            for pattern in _patterns(wording.english)
        ]
        if not self.patterns:
            raise ValueError(
                f"no caption has num_objects={tuple(num_objects)} and wordings={wordings}; numbers "
                f"go from 1 to {MAX_OBJECTS}, wordings are "
                f"{', '.join(dict.fromkeys(w.name for group in _WORDINGS.values() for w in group))}"
            )

    def next_words(self, words: Sequence[str]) -> set[str]:
        """The words that may follow `words` in a caption; "" if the caption may end here.

        Empty if no caption begins with `words`.
        """
        allowed: set[str] = set()
        for pattern in self.patterns:
            if not _fits(pattern, words):
                continue
            if len(words) == len(pattern):
                allowed.add("")
                continue
            slot = pattern[len(words)]
            allowed.update(word for word in slot.words if _fits(pattern, [*words, word]))
        return allowed

    def accepts(self, words: Sequence[str]) -> bool:
        """Whether `words` are a whole caption."""
        return "" in self.next_words(words)


def _fits(pattern: Sequence[Slot], words: Sequence[str]) -> bool:
    """Whether `words` begin the pattern, and no two objects have the same colour and shape."""
    if len(words) > len(pattern):
        return False
    pairs, color = [], ""
    for slot, word in zip(pattern, words, strict=False):
        if word not in slot.words:
            return False
        if slot.kind == "color":
            color = word
        elif slot.kind == "shape":
            pairs.append((color, word))
    return len(set(pairs)) == len(pairs)


def _patterns(template: str) -> list[list[Slot]]:
    """The patterns of an English template, one for each choice of place, relation and article."""
    named = {"place": list(ENGLISH_PLACES.values())}
    for index, name in enumerate(("first", "second", "order")):
        named[name] = [phrases[index] for phrases in ENGLISH_RELATIONS.values()]
    parts = re.findall(r"\{[\w.]+\}|[\w-]+|,", template)
    choices = [_choices(part, named) for part in parts]
    return [[slot for part in chosen for slot in part] for chosen in product(*choices)]


def _choices(part: str, named: dict[str, list[str]]) -> list[list[Slot]]:
    """What one part of a template can be: a list of alternatives, each a list of slots."""
    if not part.startswith("{"):
        return [[Slot((part,))]]
    name = part.strip("{}")
    if name in named:
        return [[Slot((word,)) for word in phrase.split()] for phrase in named[name]]
    size, shape = Slot(SIZES), Slot(SHAPES, "shape")
    color = Slot(COLORS, "color")
    return {
        "size": [[size]],
        "a": [[Slot(("a",)), size, color, shape]],
        "the": [[Slot(("the",)), size, color, shape]],
        "the_short": [[Slot(("the",)), color, shape]],
        "a_short": [
            [Slot(("a",)), Slot(_WITHOUT_VOWEL, "color"), shape],
            [Slot(("an",)), Slot(_WITH_VOWEL, "color"), shape],
        ],
    }[name.partition(".")[2]]
