"""Questions about a scene, each with exactly one right answer."""

from __future__ import annotations

from hashlib import blake2b
from itertools import combinations, permutations
from typing import NamedTuple

from zoo_lessons.datasets.shapes.captions import (
    ENGLISH_RELATIONS,
    canonical_caption,
    english_phrases,
)
from zoo_lessons.datasets.shapes.scenes import COLORS, HELD_OUT_PAIRS, SHAPES, Scene, ShapeObject

NUMBERS = ("zero", "one", "two", "three")
# How much a model must put together: one attribute of one object; several objects, or a colour
# bound to its shape; two objects and the relation between them.
LEVELS = {
    "color": "easy",
    "shape": "easy",
    "size": "easy",
    "place": "easy",
    "count": "medium",
    "exists": "medium",
    "relation": "hard",
    "compare": "hard",
}


class Question(NamedTuple):
    """A question, its one right answer, and its kind (a key of LEVELS)."""

    text: str
    answer: str
    kind: str

    @property
    def level(self) -> str:
        """easy, medium or hard."""
        return LEVELS[self.kind]


def questions(scene: Scene) -> tuple[Question, ...]:
    """Every question that this scene answers without doubt, in a fixed order.

    "What colour is the circle?" appears only when there is one circle, and "what shape is to the
    left of ..." only when one shape is. Half of the "is there ..." questions are answered no, and
    where the scene allows it these swap the scene's own colours and shapes, so that a model cannot
    answer from the bag of words.
    """
    return (
        *attribute_questions(scene),
        *counting_questions(scene),
        *existence_questions(scene),
        *relation_questions(scene),
        *comparison_questions(scene),
    )


def attribute_questions(scene: Scene) -> list[Question]:
    found = []
    for thing in scene.objects:
        the = english_phrases(thing).the_short
        if [other.shape for other in scene.objects].count(thing.shape) == 1:
            found.append(Question(f"what colour is the {thing.shape}?", thing.color, "color"))
        if [other.color for other in scene.objects].count(thing.color) == 1:
            found.append(Question(f"which shape is {thing.color}?", thing.shape, "shape"))
        found.append(Question(f"what size is {the}?", thing.size, "size"))
        found.append(Question(f"where is {the}?", thing.place, "place"))
    return found


def counting_questions(scene: Scene) -> list[Question]:
    found = [Question("how many shapes are there?", NUMBERS[len(scene.objects)], "count")]
    colors = [thing.color for thing in scene.objects]
    shapes = [thing.shape for thing in scene.objects]
    for color in (*dict.fromkeys(colors), absent(scene, COLORS, colors)):
        count = NUMBERS[colors.count(color)]
        found.append(Question(f"how many {color} shapes are there?", count, "count"))
    for shape in (*dict.fromkeys(shapes), absent(scene, SHAPES, shapes)):
        plural = shape + ("es" if shape.endswith("s") else "s")
        found.append(
            Question(f"how many {plural} are there?", NUMBERS[shapes.count(shape)], "count")
        )
    return found


def existence_questions(scene: Scene) -> list[Question]:
    present = [thing.pair for thing in scene.objects]
    # Asking a training scene for a held-out pair would teach that the answer to it is always no.
    taboo = frozenset() if scene.has_held_out_pair else HELD_OUT_PAIRS
    colors, shapes = zip(*present, strict=True)
    swaps = [(color, shape) for color in colors for shape in shapes]
    near = [(color, shape) for color in colors for shape in SHAPES]
    near += [(color, shape) for shape in shapes for color in COLORS]
    found = []
    wrong: list[tuple[str, str]] = []
    for pair in present:
        found.append(Question(f"is there {a_pair(pair)}?", "yes", "exists"))
        known = {*present, *wrong, *taboo}
        candidates = [swap for swap in dict.fromkeys(swaps) if swap not in known]
        candidates = candidates or [other for other in dict.fromkeys(near) if other not in known]
        wrong.append(candidates[pick(scene, "exists", len(wrong)) % len(candidates)])
        found.append(Question(f"is there {a_pair(wrong[-1])}?", "no", "exists"))
    return found


def relation_questions(scene: Scene) -> list[Question]:
    if scene.relation == "alone":
        return []
    before, after, _ = ENGLISH_RELATIONS[scene.relation]
    found = []
    for index, thing in enumerate(scene.objects):
        the = english_phrases(thing).the_short
        sides = ((before, scene.objects[:index]), (after, scene.objects[index + 1 :]))
        for side, others in sides:
            if len(others) == 1:
                text = f"what shape is {side} {the}?"
                found.append(Question(text, others[0].shape, "relation"))
                text = f"what colour is the shape {side} {the}?"
                found.append(Question(text, others[0].color, "relation"))
    return found


def comparison_questions(scene: Scene) -> list[Question]:
    def the(thing: ShapeObject) -> str:
        return english_phrases(thing).the_short

    found = []
    for one, other in combinations(scene.objects, 2):
        same = "yes" if one.size == other.size else "no"
        found.append(Question(f"are {the(one)} and {the(other)} the same size?", same, "compare"))
    for one, other in permutations(scene.objects, 2):
        answer = "yes" if scene.objects.index(one) < scene.objects.index(other) else "no"
        before = ENGLISH_RELATIONS[scene.relation][0]
        found.append(Question(f"is {the(one)} {before} {the(other)}?", answer, "compare"))
    return found


def a_pair(pair: tuple[str, str]) -> str:
    return english_phrases(ShapeObject(pair[1], pair[0], "small", "centre")).a_short


def absent(scene: Scene, choices: tuple[str, ...], present: list[str]) -> str:
    """One of the choices that does not occur in the scene."""
    left = [choice for choice in choices if choice not in present]
    return left[pick(scene, "absent", len(choices)) % len(left)]


def pick(scene: Scene, purpose: str, number: int) -> int:
    """A number that looks random but depends on nothing but the arguments."""
    text = f"{canonical_caption(scene).english}|{purpose}|{number}"
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "big")
