"""Few-shot episodes: nothing can be memorised, and the shots tell the answer."""

from collections import Counter

import pytest
import torch

from zoo_lessons.datasets.episodes import (
    EPISODE_SPLITS,
    FIRST_SYLLABLES,
    IMAGE_TOKEN,
    KINDS,
    SECOND_SYLLABLES,
    Episodes,
    episode_tokenizer,
    made_up_words,
)
from zoo_lessons.datasets.shapes import split_of

TOKENIZER = episode_tokenizer()


def few(split="test", size=40, **options):
    return Episodes(split, size, **{"num_pictures": 200, "kinds": ("shape", "color"), **options})


def test_splits_share_no_word_and_all_syllables():
    words = {split: made_up_words(split) for split in EPISODE_SPLITS}
    assert [len(words[split]) for split in EPISODE_SPLITS] == [1200, 200, 200]
    together = [word for split in EPISODE_SPLITS for word in words[split]]
    assert len(set(together)) == len(together) == len(FIRST_SYLLABLES) * len(SECOND_SYLLABLES)
    for split in EPISODE_SPLITS:
        share = len(words[split]) // 40
        assert Counter(word[:2] for word in words[split]) == dict.fromkeys(FIRST_SYLLABLES, share)
        assert Counter(word[2:] for word in words[split]) == dict.fromkeys(SECOND_SYLLABLES, share)


def test_splits_share_no_scene():
    for split in EPISODE_SPLITS:
        for episode in few(split, size=20):
            assert {split_of(item.scene) for item in episode.items} == {split}
            assert {item.word for item in episode.items} <= set(made_up_words(split))


@pytest.mark.parametrize("ways", [2, 4, 7])
@pytest.mark.parametrize("shots", [0, 1, 5, 8])
def test_an_episode_is_a_binding(shots, ways):
    for episode in few(shots=shots, ways=ways):
        assert len(episode.shots) == shots and len(episode.items) == shots + 1
        assert len({item.picture for item in episode.items}) == shots + 1
        binding = {}
        for item in episode.items:
            (thing,) = item.scene.objects
            assert item.name == (thing.shape if episode.kind == "shape" else thing.color)
            assert binding.setdefault(item.name, item.word) == item.word
        assert len(set(binding.values())) == len(binding) <= ways
        shown = Counter(shot.name for shot in episode.shots)
        if shots >= ways:
            assert len(shown) == ways and max(shown.values()) - min(shown.values()) <= 1
            assert episode.answerable
        else:
            assert set(shown.values()) <= {1}
            assert episode.answerable == (episode.query.name in shown)


def test_shots_buy_what_they_show():
    """With s shots of w ways, a perfect reader can answer min(s / w, 1) of the queries."""
    for shots in range(5):
        share = sum(e.answerable for e in few(size=400, shots=shots)) / 400
        assert share == pytest.approx(shots / 4, abs=0.08)


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


def test_tokens_of_a_made_up_word_are_its_syllables():
    assert TOKENIZER.encode("<image> modit").tokens == [IMAGE_TOKEN, "mo", "##dit"]
    assert TOKENIZER.token_to_id("[PAD]") == 0 and TOKENIZER.token_to_id(IMAGE_TOKEN) == 4
    for kind in KINDS.values():
        for name in kind:
            assert TOKENIZER.encode(name).tokens == [name]
    for split in EPISODE_SPLITS:
        for word in made_up_words(split):
            assert TOKENIZER.encode(word).tokens == [word[:2], f"##{word[2:]}"]
    for episode in few(size=10):
        for images in (True, False):
            text = episode.text(images=images)
            encoding = TOKENIZER.encode(text)
            assert len(encoding) == 3 * len(episode.items)
            assert TOKENIZER.decode(encoding.ids, skip_special_tokens=False) == text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "composition"}, "split='composition' must be one of 'train', 'validation'"),
        ({"size": 0}, "size=0 must be at least 1"),
        ({"shots": -1}, "shots=-1 must be at least 0"),
        ({"ways": 1}, "ways=1, expected"),
        ({"ways": 9}, "ways=9, expected"),
        ({"kinds": ()}, r"kinds=\(\)"),
        ({"kinds": ("size",)}, "kinds='size' must be one of 'shape', 'color'"),
        ({"num_pictures": 10, "shots": 8}, "pictures show .*, expected at least 4: raise"),
    ],
)
def test_wrong_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        few(**options)
    with pytest.raises(ValueError, match="split='dev'"):
        made_up_words("dev")
