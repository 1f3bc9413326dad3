"""Questions are answered again by a brute-force reader that shares no code with the generator."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest

from zoo_lessons.datasets.shapes import (
    HELD_OUT_PAIRS,
    SHAPES,
    SPLITS,
    Question,
    Scene,
    ShapeObject,
    questions,
    sample_scene,
)
from zoo_lessons.datasets.shapes.questions import LEVELS

RANK = {"left": 0, "top": 0, "centre": 1, "right": 2, "bottom": 2}


def one(things: list[ShapeObject]) -> ShapeObject:
    assert len(things) == 1, f"not exactly one: {things}"
    return things[0]


def the(scene: Scene, words: str) -> ShapeObject:
    color, shape = words.split()
    return one([t for t in scene.objects if (t.color, t.shape) == (color, shape)])


def singular(plural: str) -> str:
    return one([shape for shape in SHAPES if plural in (shape + "s", shape + "es")])


def side(scene: Scene, relation: str, words: str) -> ShapeObject:
    here = RANK[the(scene, words).place]
    step = -1 if relation in ("to the left of", "above") else 1
    return one([t for t in scene.objects if (RANK[t.place] - here) * step > 0])


def answer(scene: Scene, text: str) -> str:
    """Answer by reading the question; asserts that what it refers to exists exactly once."""
    relation = r"(to the left of|to the right of|above|below)"
    readers = {
        r"what colour is the (\w+)\?": lambda shape: (
            one([t for t in scene.objects if t.shape == shape]).color
        ),
        r"which shape is (\w+)\?": lambda color: (
            one([t for t in scene.objects if t.color == color]).shape
        ),
        r"what size is the (\w+ \w+)\?": lambda words: the(scene, words).size,
        r"where is the (\w+ \w+)\?": lambda words: the(scene, words).place,
        r"how many shapes are there\?": lambda: number(len(scene.objects)),
        r"how many (\w+) shapes are there\?": lambda color: number(
            sum(t.color == color for t in scene.objects)
        ),
        r"how many (\w+) are there\?": lambda plural: number(
            sum(t.shape == singular(plural) for t in scene.objects)
        ),
        r"is there an? (\w+) (\w+)\?": lambda color, shape: yes(
            any((t.color, t.shape) == (color, shape) for t in scene.objects)
        ),
        rf"what shape is {relation} the (\w+ \w+)\?": lambda r, w: side(scene, r, w).shape,
        rf"what colour is the shape {relation} the (\w+ \w+)\?": lambda r, w: (
            side(scene, r, w).color
        ),
        r"are the (\w+ \w+) and the (\w+ \w+) the same size\?": lambda a, b: yes(
            the(scene, a).size == the(scene, b).size
        ),
        rf"is the (\w+ \w+) {relation} the (\w+ \w+)\?": lambda a, r, b: yes(
            (RANK[the(scene, a).place] < RANK[the(scene, b).place])
            == (r in ("to the left of", "above"))
        ),
    }
    for pattern, read in readers.items():
        match = re.fullmatch(pattern, text)
        if match:
            return read(*match.groups())
    raise AssertionError(f"no reader for {text!r}")


def number(count: int) -> str:
    return ["zero", "one", "two", "three"][count]


def yes(truth: bool) -> str:
    return "yes" if truth else "no"


@pytest.fixture(scope="module")
def asked() -> list[tuple[Scene, Question]]:
    rng = np.random.default_rng(11)
    scenes = [sample_scene(rng, SPLITS[i % 4]) for i in range(800)]
    return [(scene, question) for scene in scenes for question in questions(scene)]


def test_every_answer_is_the_only_right_one(asked: list[tuple[Scene, Question]]) -> None:
    for scene, question in asked:
        assert answer(scene, question.text) == question.answer, (scene, question)


def test_every_kind_is_asked_and_no_question_twice(asked: list[tuple[Scene, Question]]) -> None:
    assert {question.kind for _, question in asked} == set(LEVELS)
    assert {question.level for _, question in asked} == {"easy", "medium", "hard"}
    seen = {(scene, question.text) for scene, question in asked}
    scenes = {scene for scene, _ in asked}
    assert len(seen) == sum(len(questions(scene)) for scene in scenes)


def test_yes_and_no_are_balanced(asked: list[tuple[Scene, Question]]) -> None:
    exists = Counter(q.answer for _, q in asked if q.kind == "exists")
    assert exists["yes"] == exists["no"]
    order = Counter(q.answer for _, q in asked if q.text.startswith("is the "))
    assert order["yes"] == order["no"]


def test_a_wrong_pair_swaps_what_the_scene_holds() -> None:
    scene = Scene(
        (
            ShapeObject("circle", "red", "small", "left"),
            ShapeObject("ring", "blue", "large", "right"),
        )
    )
    wrong = {q.text for q in questions(scene) if q.kind == "exists" and q.answer == "no"}
    assert wrong == {"is there a red ring?", "is there a blue circle?"}


def test_training_questions_never_name_a_held_out_pair(
    asked: list[tuple[Scene, Question]],
) -> None:
    names = [f"{color} {shape}" for color, shape in HELD_OUT_PAIRS]
    for scene, question in asked:
        if not scene.has_held_out_pair:
            assert not any(name in question.text for name in names)


def test_questions_are_a_function_of_the_scene(asked: list[tuple[Scene, Question]]) -> None:
    for scene, _ in asked[:200]:
        assert questions(scene) == questions(Scene(scene.objects))
