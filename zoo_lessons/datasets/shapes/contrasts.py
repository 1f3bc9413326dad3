"""True captions beside false ones that use almost the same words.

A model that takes a caption for a bag of words cannot tell these pairs apart: Yuksekgonul et al.,
"When and Why Vision-Language Models Behave Like Bags-Of-Words" (2022), measure the same with
photographs. `word` replaces one word by another, which a bag of words does notice: the control.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zoo_lessons.datasets.shapes.captions import canonical_caption
from zoo_lessons.datasets.shapes.scenes import COLORS, Scene, ShapeObject, require_choice

KINDS = ("word", "binding", "relation", "count", "order")


class Contrast(NamedTuple):
    """A scene's caption, and one that is false of it."""

    true: str
    false: str


def contrast(scene: Scene, kind: str, seed: int = 0) -> Contrast | None:
    """A contrast of one kind, or None if the scene has none.

    Kinds:
        "word": the first object gets a colour that the scene does not have.
        "binding": two objects of different colours and shapes swap their colours.
        "relation": the two objects of a pair swap their places; all words stay.
        "count": of three objects in two colours, the lone colour becomes the frequent one:
            "red, red, blue" and "red, blue, blue" name the same colours, another number of times.
        "order": the same words, shuffled. It is no sentence, so nothing can be true of it.

    Args:
        scene: what the image shows.
        kind: one of KINDS.
        seed: for the shuffle.

    Raises:
        ValueError: an unknown kind.
    """
    require_choice("kind", kind, KINDS)
    true = canonical_caption(scene).english
    if kind == "order":
        return Contrast(true, _shuffled(true, seed))
    changed = {"word": _word, "binding": _binding, "relation": _relation, "count": _count}[kind](
        scene.objects
    )
    if changed is None or len({thing.pair for thing in changed}) < len(changed):
        return None
    false = Scene(changed)
    # A pair that training never showed would give the false caption away.
    if false.has_held_out_pair and not scene.has_held_out_pair:
        return None
    return Contrast(true, canonical_caption(false).english)


def contrasts(scenes: list[Scene], kind: str, seed: int = 0) -> Iterator[tuple[int, Contrast]]:
    """(place in `scenes`, contrast) for every scene that has one of this kind."""
    for index, scene in enumerate(scenes):
        found = contrast(scene, kind, seed + index)
        if found is not None:
            yield index, found


def _word(objects: tuple[ShapeObject, ...]) -> tuple[ShapeObject, ...]:
    used = {thing.color for thing in objects}
    first = COLORS.index(objects[0].color)
    color = next(
        COLORS[(first + 3 + i) % 8] for i in range(8) if COLORS[(first + 3 + i) % 8] not in used
    )
    return replace(objects[0], color=color), *objects[1:]


def _binding(objects: tuple[ShapeObject, ...]) -> tuple[ShapeObject, ...] | None:
    if len(objects) < 2:
        return None
    one, other, *rest = objects
    if one.color == other.color or one.shape == other.shape:
        return None
    return replace(one, color=other.color), replace(other, color=one.color), *rest


def _relation(objects: tuple[ShapeObject, ...]) -> tuple[ShapeObject, ...] | None:
    if len(objects) != 2:
        return None
    one, other = objects
    return replace(other, place=one.place), replace(one, place=other.place)


def _count(objects: tuple[ShapeObject, ...]) -> tuple[ShapeObject, ...] | None:
    colors = [thing.color for thing in objects]
    if len(objects) != 3 or len(set(colors)) != 2:
        return None
    lone = next(color for color in colors if colors.count(color) == 1)
    changed = next(index for index, color in enumerate(colors) if color != lone)
    return tuple(
        replace(thing, color=lone) if index == changed else thing
        for index, thing in enumerate(objects)
    )


def _shuffled(text: str, seed: int) -> str:
    words = text.replace(",", "").split()
    draw = np.random.default_rng(seed)
    while True:
        order = draw.permutation(len(words)).tolist()
        if [words[i] for i in order] != words:
            return " ".join(words[i] for i in order)
