from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from zoo_lessons.datasets.shapes import (
    COLORS,
    HELD_OUT_PAIRS,
    SHAPES,
    SPLITS,
    Scene,
    ShapeObject,
    canonical_caption,
    sample_scene,
    split_of,
    translation_pairs,
)

RED_CIRCLE = ShapeObject("circle", "red", "small", "left")
BLUE_RING = ShapeObject("ring", "blue", "large", "right")


@pytest.mark.parametrize("field", ["shape", "color", "size", "place"])
def test_unknown_words_are_refused(field: str) -> None:
    values = {"shape": "ring", "color": "red", "size": "small", "place": "top"} | {field: "mauve"}
    with pytest.raises(ValueError, match=f"{field}='mauve' must be one of"):
        ShapeObject(**values)


@pytest.mark.parametrize(
    "objects, message",
    [
        ((), "1 to 3 objects, got 0"),
        ((BLUE_RING, RED_CIRCLE), "neither a row"),
        ((RED_CIRCLE, ShapeObject("ring", "blue", "large", "bottom")), "neither a row"),
        ((RED_CIRCLE, ShapeObject("circle", "red", "large", "right")), "must differ"),
        ((RED_CIRCLE,) * 4, "1 to 3 objects, got 4"),
    ],
)
def test_impossible_scenes_are_refused(objects: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scene(objects)


def test_relation_follows_from_the_places() -> None:
    assert Scene((RED_CIRCLE,)).relation == "alone"
    assert Scene((RED_CIRCLE, BLUE_RING)).relation == "left to right"
    top, bottom = (ShapeObject("star", "red", "small", place) for place in ("top", "bottom"))
    with pytest.raises(ValueError, match="must differ"):
        Scene((top, bottom))
    bottom = ShapeObject("star", "grey", "small", "bottom")
    assert Scene((top, bottom)).relation == "top to bottom"


def test_each_colour_and_each_shape_is_held_out_once() -> None:
    assert sorted(color for color, _ in HELD_OUT_PAIRS) == sorted(COLORS)
    assert sorted(shape for _, shape in HELD_OUT_PAIRS) == sorted(SHAPES)


@pytest.mark.parametrize("split", SPLITS)
def test_sampled_scenes_belong_to_their_split(split: str) -> None:
    rng = np.random.default_rng(0)
    scenes = [sample_scene(rng, split) for _ in range(600)]
    assert {split_of(scene) for scene in scenes} == {split}
    held_out = [any(t.pair in HELD_OUT_PAIRS for t in scene.objects) for scene in scenes]
    assert all(held_out) if split == "composition" else not any(held_out)
    counts = Counter(len(scene.objects) for scene in scenes)
    assert min(counts[n] for n in (1, 2, 3)) > 120
    words = {word for scene in scenes for t in scene.objects for word in (t.color, t.shape)}
    assert words == {*COLORS, *SHAPES}


def test_eight_tenths_of_the_scenes_train() -> None:
    drawn = Counter(
        split_of(Scene((ShapeObject(shape, color, size, place),)))
        for shape in SHAPES
        for color in COLORS
        for size in ("small", "large")
        for place in ("top", "left", "centre", "right", "bottom")
    )
    del drawn["composition"]
    total = sum(drawn.values())
    assert 0.74 < drawn["train"] / total < 0.86
    assert min(drawn["validation"], drawn["test"]) / total > 0.06


def test_there_are_thousands_of_distinct_captions() -> None:
    rng = np.random.default_rng(0)
    captions = {canonical_caption(sample_scene(rng, "train")).english for _ in range(8000)}
    assert len(captions) > 5000
    pairs = {
        canonical_caption(sample_scene(rng, "train", num_objects=(2,))).english for _ in range(8000)
    }
    assert len(pairs) > 6000


def test_sampling_is_deterministic_and_ignores_global_state() -> None:
    np.random.seed(0)
    first = [sample_scene(np.random.default_rng([3, i])) for i in range(20)]
    np.random.seed(1)
    assert [sample_scene(np.random.default_rng([3, i])) for i in range(20)] == first


@pytest.mark.parametrize("numbers", [(), (0,), (4,), (1, 5)])
def test_numbers_of_objects_are_checked(numbers: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must hold numbers from 1 to 3"):
        sample_scene(np.random.default_rng(0), num_objects=numbers)
    with pytest.raises(ValueError, match="must hold numbers from 1 to 3"):
        translation_pairs("train", 5, num_objects=numbers)


def test_unknown_split_is_refused() -> None:
    with pytest.raises(ValueError, match="split='dev' must be one of 'train', 'validation'"):
        sample_scene(np.random.default_rng(0), "dev")
    with pytest.raises(ValueError, match="split='dev'"):
        translation_pairs("dev", 5)


def test_translation_splits_share_no_sentence_in_either_language() -> None:
    pairs = {split: translation_pairs(split, 1500, seed=1) for split in SPLITS}
    assert translation_pairs("train", 1500, seed=1) == pairs["train"]
    assert translation_pairs("train", 1500, seed=2) != pairs["train"]
    for language in (0, 1):
        sentences = [pair[language] for split in SPLITS for pair in pairs[split]]
        assert len(set(sentences)) == len(sentences) == 6000


def test_translation_composition_sentences_name_a_held_out_pair() -> None:
    def names_one(english: str) -> bool:
        return any(f"{color} {shape}" in english for color, shape in HELD_OUT_PAIRS)

    assert all(names_one(english) for english, _ in translation_pairs("composition", 1000))
    for split in ("train", "validation", "test"):
        assert not any(names_one(english) for english, _ in translation_pairs(split, 1000))


def test_asking_for_more_sentences_than_exist_fails_clearly() -> None:
    with pytest.raises(ValueError, match=r"found only \d+ distinct sentences of split='test'"):
        translation_pairs("test", 700, num_objects=(1,))
    with pytest.raises(ValueError, match="size=0"):
        translation_pairs("test", 0)
