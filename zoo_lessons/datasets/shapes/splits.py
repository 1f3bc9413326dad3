"""Which scene and which sentence belongs to which split, and how scenes are drawn."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from zoo_lessons.datasets.shapes.captions import canonical_caption, wordings, write
from zoo_lessons.datasets.shapes.scenes import (
    COLORS,
    HELD_OUT_PAIRS,
    MAX_OBJECTS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    ShapeObject,
    places_for,
    require_at_least,
    require_choice,
)

SPLITS = ("train", "validation", "test", "composition")
# Eight of ten sentences train; the other two buckets are held out.
_BUCKETS = ("test", "validation", *["train"] * 8)
_ALL_PAIRS = tuple((color, shape) for color in COLORS for shape in SHAPES)
_SEEN_PAIRS = tuple(pair for pair in _ALL_PAIRS if pair not in HELD_OUT_PAIRS)
_UNSEEN_PAIRS = tuple(pair for pair in _ALL_PAIRS if pair in HELD_OUT_PAIRS)


def split_of(scene: Scene) -> str:
    """The one split that a scene belongs to.

    Composition, if any object's colour and shape form a held-out pair; otherwise train, validation
    or test, chosen by a hash of the canonical caption (8 : 1 : 1).
    """
    return split_of_sentence(canonical_caption(scene).english, scene)


def split_of_sentence(english: str, scene: Scene) -> str:
    """The one split that an English sentence about the scene belongs to.

    Two scenes that share a sentence, because it leaves out a size, agree on the sentence's split.
    """
    if scene.has_held_out_pair:
        return "composition"
    digest = blake2b(english.encode(), digest_size=8).digest()
    return _BUCKETS[int.from_bytes(digest, "big") % len(_BUCKETS)]


def sample_scene(
    rng: np.random.Generator, split: str = "train", num_objects: tuple[int, ...] = (1, 2, 3)
) -> Scene:
    """Draw one scene of a split.

    Args:
        rng: the only source of chance.
        split: one of SPLITS.
        num_objects: the numbers of objects to choose from, each equally likely.

    Raises:
        ValueError: an unknown split, or a number of objects outside 1 to 3.
    """
    require_choice("split", split, SPLITS)
    _require_num_objects(num_objects)
    while True:
        scene = _draw(rng, split == "composition", num_objects)
        if split_of(scene) == split:
            return scene


def translation_pairs(
    split: str = "train",
    size: int = 20_000,
    *,
    num_objects: tuple[int, ...] = (1, 2, 3),
    seed: int = 0,
) -> list[tuple[str, str]]:
    """Distinct (English, French) sentence pairs in every wording.

    No sentence is in two splits, in either language, whatever the sizes and seeds. Every sentence
    of `composition` names a colour and a shape that no sentence of the other splits puts together.

    Args:
        split: one of SPLITS.
        size: how many pairs.
        num_objects: the numbers of objects to choose from, each equally likely.
        seed: another seed gives other sentences of the same split.

    Raises:
        ValueError: an unknown split, or more pairs asked for than could be found.
    """
    require_choice("split", split, SPLITS)
    _require_num_objects(num_objects)
    require_at_least("size", size, 1)
    require_at_least("seed", seed, 0)
    rng = np.random.default_rng([seed, SPLITS.index(split)])
    pairs: dict[str, str] = {}
    attempts = 0
    while len(pairs) < size:
        if attempts > 40 * size + 5000:
            raise ValueError(
                f"found only {len(pairs)} distinct sentences of split={split!r} with "
                f"num_objects={num_objects}, but size={size}"
            )
        attempts += 1
        scene = _draw(rng, split == "composition", num_objects)
        choices = wordings(scene)
        caption = write(scene, choices[_index(rng, len(choices))])
        if split_of_sentence(caption.english, scene) == split:
            pairs[caption.english] = caption.french
    return list(pairs.items())


def _draw(rng: np.random.Generator, unseen: bool, num_objects: tuple[int, ...]) -> Scene:
    """A scene from seen pairs only, or with at least one held-out pair."""
    count = num_objects[_index(rng, len(num_objects))]
    if count == 1:
        places: tuple[str, ...] = (PLACES[_index(rng, len(PLACES))],)
    else:
        places = places_for(count, RELATIONS[1 + _index(rng, 2)])
    special = _index(rng, count) if unseen else None
    pairs: list[tuple[str, str]] = []
    for position in range(count):
        pool = _UNSEEN_PAIRS if position == special else _ALL_PAIRS if unseen else _SEEN_PAIRS
        pairs.append(pool[_index(rng, len(pool))])
    sizes = [SIZES[_index(rng, len(SIZES))] for _ in range(count)]
    if len(set(pairs)) < count:
        return _draw(rng, unseen, num_objects)
    return Scene(
        tuple(
            ShapeObject(shape, color, size, place)
            for (color, shape), size, place in zip(pairs, sizes, places, strict=True)
        )
    )


def _index(rng: np.random.Generator, count: int) -> int:
    return int(rng.integers(count))


def _require_num_objects(num_objects: tuple[int, ...]) -> None:
    if not num_objects or not all(1 <= count <= MAX_OBJECTS for count in num_objects):
        raise ValueError(f"num_objects={num_objects} must hold numbers from 1 to {MAX_OBJECTS}")
