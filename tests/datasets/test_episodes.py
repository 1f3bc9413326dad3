"""Few-shot episodes: nothing can be memorised, and the shots tell the answer."""

from collections import Counter

import pytest
import torch

from zoo_lessons.datasets.episodes import (
    IMAGE_TOKEN,
    KINDS,
    MADE_UP_WORDS,
    Episodes,
    episode_tokenizer,
    word_targets,
)
from zoo_lessons.datasets.shapes import HELD_OUT_PAIRS, SPLITS, split_of

TOKENIZER = episode_tokenizer()


def few(split="test", size=40, **options):
    return Episodes(split, size, **{"num_pictures": 200, "kinds": ("shape", "color"), **options})


def test_made_up_words():
    assert len(set(MADE_UP_WORDS)) == len(MADE_UP_WORDS) == 140
    assert all(word.isalpha() and len(word) == 5 for word in MADE_UP_WORDS)


def test_splits_share_no_scene():
    for split in SPLITS:
        for episode in few(split, size=20):
            assert {split_of(item.scene) for item in episode.items} == {split}
            assert {item.word for item in episode.items} <= set(MADE_UP_WORDS)


def test_composition_shows_pairs_that_no_other_split_has():
    for split in SPLITS:
        pairs = {item.scene.objects[0].pair for e in few(split, size=20) for item in e.items}
        assert pairs <= HELD_OUT_PAIRS if split == "composition" else not pairs & HELD_OUT_PAIRS


@pytest.mark.parametrize("order", ["any", "turns"])
@pytest.mark.parametrize("ways", [2, 4, 7])
@pytest.mark.parametrize("shots", [0, 1, 5, 8])
def test_an_episode_is_a_binding(shots, ways, order):
    for episode in few(shots=shots, ways=ways, order=order):
        assert len(episode.shots) == shots and len(episode.items) == shots + 1
        assert len({item.picture for item in episode.items}) == shots + 1
        binding = {}
        for item in episode.items:
            (thing,) = item.scene.objects
            assert item.name == (thing.shape if episode.kind == "shape" else thing.color)
            assert binding.setdefault(item.name, item.word) == item.word
        assert len(set(binding.values())) == len(binding) <= ways
        shown = Counter(shot.name for shot in episode.shots)
        assert episode.answerable == (episode.query.name in shown)
        if order == "turns":
            assert len(shown) == min(shots, ways)
            assert shots < ways or max(shown.values()) - min(shown.values()) <= 1


def test_any_order_repeats_at_once():
    assert any(len({shot.name for shot in e.shots}) == 1 for e in few(shots=2))


@pytest.mark.parametrize("order", ["any", "turns"])
def test_shots_buy_what_they_show(order):
    """What a perfect reader can answer: 1 - (3/4)^s of the queries, or s/4 in turns."""
    for shots in range(5):
        share = sum(e.answerable for e in few(size=400, shots=shots, order=order)) / 400
        expected = shots / 4 if order == "turns" else 1 - 0.75**shots
        assert share == pytest.approx(expected, abs=0.08)


def test_a_word_means_another_shape_each_time():
    meanings: dict[str, set[str]] = {}
    for episode in few(size=300):
        for item in episode.items:
            meanings.setdefault(item.word, set()).add(item.name)
    assert sum(map(len, meanings.values())) / len(meanings) > 4


def test_the_same_arguments_give_the_same_episodes():
    first, again, other = few(), few(), few(seed=1)
    assert list(first) == list(again)
    assert list(first) != list(other)
    assert first[-1] == first[39]
    with pytest.raises(IndexError):
        first[40]
    assert torch.equal(first.pixel_values(first[3]), again.pixel_values(again[3]))


def test_text():
    episode = few(shots=2, ways=2)[0]
    a, b, query = (item.word for item in episode.items)
    assert episode.text() == f"<image> {a} <image> {b} <image> {query}"
    assert episode.prompt() == f"<image> {a} <image> {b} <image>"
    x, y, z = (item.name for item in episode.items)
    assert episode.prompt(images=False) == f"{x} {a} {y} {b} {z}"
    assert few(shots=0)[0].prompt() == "<image>"
    assert few().pixel_values(few()[0]).shape == (9, 3, 48, 48)


def test_every_word_is_one_token():
    assert TOKENIZER.token_to_id("[PAD]") == 0 and TOKENIZER.token_to_id(IMAGE_TOKEN) == 4
    for word in (*MADE_UP_WORDS, *KINDS["shape"], *KINDS["color"]):
        assert TOKENIZER.encode(word).tokens == [word]
    for episode in few(size=10):
        for images in (True, False):
            text = episode.text(images=images)
            encoding = TOKENIZER.encode(text)
            assert len(encoding) == 2 * len(episode.items)
            assert TOKENIZER.decode(encoding.ids, skip_special_tokens=False) == text


def test_targets_are_words_that_stood_before():
    a, b, c = 30, 31, 32
    ids = torch.tensor([[1, 5, a, 6, b, 5, a, 6, b], [1, 5, a, 5, a, 6, b, 7, c]])
    assert word_targets(ids).tolist() == [
        [-100, -100, -100, -100, -100, a, -100, b, -100],
        [-100, -100, -100, a, -100, -100, -100, -100, -100],
    ]
    for episode in few(size=20):
        ids = torch.tensor([[1, *TOKENIZER.encode(episode.text(images=False)).ids]])
        targets = word_targets(ids)[0]
        assert (targets[-2] == ids[0, -1]) == episode.answerable
        for place in (targets != -100).nonzero().flatten().tolist():
            assert targets[place] == ids[0, place + 1]
            assert ids[0, place] in ids[0, :place]  # the name stood before, too


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "dev"}, "split='dev' must be one of 'train', 'validation'"),
        ({"order": "random"}, "order='random' must be one of 'any', 'turns'"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"shots": -1}, "shots=-1 must be at least 0"),
        ({"ways": 1}, "ways=1, expected"),
        ({"ways": 9}, "ways=9, expected"),
        ({"kinds": ()}, r"kinds=\(\)"),
        ({"kinds": ("size",)}, "kinds='size' must be one of 'shape', 'color'"),
        ({"num_pictures": 10, "shots": 8}, "pictures show .*, expected at least 9: raise"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        few(**options)
