"""Texts that ask for one colour and one shape, for classifying images without training."""

from __future__ import annotations

from zoo_lessons.datasets.shapes.captions import ALONE, canonical_caption, write
from zoo_lessons.datasets.shapes.scenes import COLORS, PLACES, SHAPES, SIZES, Scene, ShapeObject

PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)


def short_prompt(pair: tuple[str, str]) -> str:
    """ "a red circle": it says nothing about size and place."""
    color, shape = pair
    return f"{'an' if color[0] in 'aeiou' else 'a'} {color} {shape}"


def full_prompts(pair: tuple[str, str], *, wordings: bool = False) -> list[str]:
    """One caption for each size and place: "a small red circle at the top left" and so on.

    With `wordings`, every wording of each of them.
    """
    color, shape = pair
    scenes = [
        Scene((ShapeObject(shape, color, size, place),)) for size in SIZES for place in PLACES
    ]
    if wordings:
        return [write(scene, wording).english for scene in scenes for wording in ALONE]
    return [canonical_caption(scene).english for scene in scenes]


def pair_labels(scenes: list[Scene]) -> list[int]:
    """The place in PAIRS of each scene's only object.

    Raises:
        ValueError: a scene with several objects.
    """
    if any(len(scene.objects) != 1 for scene in scenes):
        raise ValueError("pair_labels needs scenes of one object each")
    return [PAIRS.index(scene.objects[0].pair) for scene in scenes]
