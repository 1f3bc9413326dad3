from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo_lessons.datasets.shapes import (
    SPLITS,
    ShapesDataset,
    canonical_caption,
    captions,
    distinct_caption_batches,
    questions,
    split_of,
)


def test_an_example_holds_everything() -> None:
    dataset = ShapesDataset("train", 5, image_size=32, seed=3)
    example = dataset[2]
    assert set(example) == {"pixel_values", "caption", "caption_fr", "questions", "scene"}
    assert example["pixel_values"].shape == (3, 32, 32)
    assert example["pixel_values"].min() >= -1 and example["pixel_values"].max() <= 1
    assert (example["caption"], example["caption_fr"]) == canonical_caption(example["scene"])[1:]
    assert example["questions"] == questions(example["scene"])


def test_same_arguments_same_examples() -> None:
    one, same = ShapesDataset("test", 6, seed=1), ShapesDataset("test", 6, seed=1)
    assert one.scenes == same.scenes
    assert torch.equal(one.pixel_values(), same.pixel_values())
    longer = ShapesDataset("test", 9, seed=1)
    assert longer.scenes[:6] == one.scenes
    assert ShapesDataset("test", 6, seed=2).scenes != one.scenes


def test_equal_scenes_are_drawn_differently() -> None:
    dataset = ShapesDataset("train", 900, num_objects=(1,))
    first: dict = {}
    for index, scene in enumerate(dataset.scenes):
        if scene in first:
            assert not np.array_equal(dataset.image(index), dataset.image(first[scene]))
            return
        first[scene] = index
    pytest.fail("no scene came twice")


def test_difficulty_changes_the_image_but_not_the_scene() -> None:
    datasets = [ShapesDataset("train", 4, difficulty=d) for d in ("easy", "medium", "hard")]
    assert datasets[0].scenes == datasets[1].scenes == datasets[2].scenes
    assert not np.array_equal(datasets[0].image(0), datasets[2].image(0))


def test_splits_share_no_scene() -> None:
    datasets = {split: ShapesDataset(split, 1500) for split in SPLITS}
    for split, dataset in datasets.items():
        assert {split_of(scene) for scene in dataset.scenes} == {split}
    scenes = [scene for dataset in datasets.values() for scene in set(dataset.scenes)]
    assert len(set(scenes)) == len(scenes)


def test_any_wording_varies_and_stays_with_its_scene() -> None:
    dataset = ShapesDataset("train", 300, wording="any")
    assert len({caption.wording for caption in dataset.captions}) >= 8
    for scene, caption in zip(dataset.scenes, dataset.captions, strict=True):
        assert caption in captions(scene)


def test_indexing_like_a_list() -> None:
    dataset = ShapesDataset("train", 3)
    assert len(dataset) == 3
    assert torch.equal(dataset[-1]["pixel_values"], dataset[2]["pixel_values"])
    assert len(list(dataset)) == 3
    with pytest.raises(IndexError):
        dataset[3]
    some = dataset.pixel_values([2, 0])
    assert torch.equal(some[0], dataset[2]["pixel_values"])
    assert some.shape == (2, 3, 48, 48)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"split": "dev"}, "split='dev' must be one of"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"difficulty": "brutal"}, "difficulty='brutal' must be one of"),
        ({"image_size": 12}, "image_size=12 must be at least 24"),
        ({"wording": "poetic"}, "wording='poetic' must be one of"),
        ({"num_objects": (4,)}, "must hold numbers from 1 to 3"),
        ({"seed": -1}, "seed=-1 must be at least 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ShapesDataset(**arguments)


def test_batches_hold_no_caption_twice() -> None:
    keys = [f"caption {i % 30}" for i in range(300)]
    batches = list(distinct_caption_batches(keys, 16, seed=4))
    assert all(len(batch) == 16 == len({keys[i] for i in batch}) for batch in batches)
    used = [i for batch in batches for i in batch]
    assert len(set(used)) == len(used) > 250
    assert batches == list(distinct_caption_batches(keys, 16, seed=4))
    assert batches != list(distinct_caption_batches(keys, 16, seed=5))


def test_batches_use_every_example_when_all_captions_differ() -> None:
    batches = list(distinct_caption_batches(range(64), 16))
    assert sorted(i for batch in batches for i in batch) == list(range(64))


def test_a_frequent_caption_cannot_fill_a_batch() -> None:
    keys = ["same"] * 50 + ["a", "b", "c"]
    batches = list(distinct_caption_batches(keys, 2))
    assert len(batches) == 3
    assert all(len({keys[i] for i in batch}) == 2 for batch in batches)


@pytest.mark.parametrize("batch_size", [0, 4])
def test_impossible_batches_are_refused_at_once(batch_size: int) -> None:
    with pytest.raises(ValueError, match="number of distinct captions, 3"):
        distinct_caption_batches(["a", "b", "c", "a"], batch_size)
