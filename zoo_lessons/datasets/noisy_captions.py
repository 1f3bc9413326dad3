"""Captions of the shapes world of which some are false, as alt texts on the web are.

Who learns from the web learns from captions that describe something else. Here the share of false
ones is known, and so is each caption's truth: a filter can be judged, and an oracle built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zoo_lessons.datasets.shapes.captions import Caption, write
from zoo_lessons.datasets.shapes.captions import wordings as wordings_of
from zoo_lessons.datasets.shapes.scenes import COLORS, HELD_OUT_PAIRS, PLACES, Scene

# How a caption can be false. Each is about as plausible as the truth, from the words alone.
KINDS = ("another image", "wrong colour", "wrong relation")
# Wordings that say where things stand. The others stay true when things change places.
_SAY_WHERE = {
    1: ("canonical", "there is", "place first", "the ... is", "size last"),
    2: (
        *("canonical", "converse", "there is", "place first"),
        *("the ... is", "the ... is, converse", "size last"),
    ),
    3: ("canonical",),
}


class NoisyCaption(NamedTuple):
    """A caption as a learner finds it, and what only an oracle knows."""

    text: str
    truth: str  # the true caption that it was, or that it replaced
    kind: str  # one of KINDS; "" if the text is true

    @property
    def is_true(self) -> bool:
        return not self.kind


def noisy_captions(
    scenes: Sequence[Scene], captions: Sequence[Caption], *, share: float = 0.4, seed: int = 0
) -> list[NoisyCaption]:
    """Replace a share of the English captions by false ones, a third of each kind.

    - "another image": the caption of another scene of the list that has no object in common;
    - "wrong colour": one object gets a colour that makes it an object the scene does not have;
    - "wrong relation": objects change places; a single object moves.

    A false caption never names one of the colour-shape pairs that training holds out, unless its
    scene or list does. The same arguments give the same captions.

    Args:
        scenes, captions: of a `ShapesDataset`.
        share: of captions to replace, 0 to 1, rounded to a whole number of captions.
        seed: chooses which, and how.

    Raises:
        ValueError: a share outside 0 to 1, lists of different lengths, or no scene without an
            object in common.
    """
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share={share}, expected a share from 0 to 1")
    if len(scenes) != len(captions):
        raise ValueError(
            f"got {len(scenes)} scenes and {len(captions)} captions, expected one for each"
        )
    rng = np.random.default_rng([seed, 13])
    false = rng.permutation(len(scenes))[: round(share * len(scenes))]
    kinds = {int(row): KINDS[place % len(KINDS)] for place, row in enumerate(false)}
    found = []
    for row, (scene, caption) in enumerate(zip(scenes, captions, strict=True)):
        kind = kinds.get(row, "")
        if kind == "another image":
            text = captions[_another(rng, scenes, row)].english
        elif kind == "wrong colour":
            text = _write_like(caption, _recoloured(rng, scene))
        elif kind == "wrong relation":
            text = _write_like(caption, _rearranged(rng, scene), _SAY_WHERE[len(scene.objects)])
        else:
            text = caption.english
        found.append(NoisyCaption(text, caption.english, kind))
    return found


def _another(rng: np.random.Generator, scenes: Sequence[Scene], row: int) -> int:
    """A scene without one of this scene's coloured shapes: its captions are false here."""
    here = {thing.pair for thing in scenes[row].objects}
    for other in rng.permutation(len(scenes)):
        if here.isdisjoint(thing.pair for thing in scenes[other].objects):
            return int(other)
    raise ValueError(
        f"every one of the {len(scenes)} scenes shares an object with scene {row}: no caption of "
        "another image is surely false; use more scenes"
    )


def _recoloured(rng: np.random.Generator, scene: Scene) -> Scene:
    place = int(rng.integers(len(scene.objects)))
    thing = scene.objects[place]
    taken = {other.pair for other in scene.objects}
    taken |= frozenset() if scene.has_held_out_pair else HELD_OUT_PAIRS
    colors = [color for color in COLORS if (color, thing.shape) not in taken]
    objects = list(scene.objects)
    objects[place] = replace(thing, color=colors[int(rng.integers(len(colors)))])
    return Scene(tuple(objects))


def _rearranged(rng: np.random.Generator, scene: Scene) -> Scene:
    objects, places = scene.objects, scene.places
    if len(objects) == 1:
        others = [place for place in PLACES if place != places[0]]
        return Scene((replace(objects[0], place=others[int(rng.integers(len(others)))]),))
    order = np.arange(len(objects))
    while (order == np.arange(len(objects))).all():
        order = rng.permutation(len(objects))
    moved = (
        replace(objects[index], place=place) for index, place in zip(order, places, strict=True)
    )
    return Scene(tuple(moved))


def _write_like(caption: Caption, scene: Scene, allowed: Sequence[str] | None = None) -> str:
    """A caption of another scene in the given caption's wording, or in the canonical one."""
    by_name = {wording.name: wording for wording in wordings_of(scene)}
    name = caption.wording if allowed is None or caption.wording in allowed else "canonical"
    return write(scene, by_name[name]).english
