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
    assert [len(words[split]) for split in EPISODE_SPLITS] == [84, 24, 24]
    together = [word for split in EPISODE_SPLITS for word in words[split]]
    assert len(set(together)) == len(together) == len(FIRST_SYLLABLES) * len(SECOND_SYLLABLES)
    for split in EPISODE_SPLITS:
        assert all(any(w.startswith(s) for w in words[split]) for s in FIRST_SYLLABLES)
        assert all(any(w.endswith(s) for w in words[split]) for s in SECOND_SYLLABLES)


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
    for episode in few("train", size=200):
        for item in episode.items:
            meanings.setdefault(item.word, set()).add(item.name)
    assert sum(map(len, meanings.values())) / len(meanings) > 5


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
    assert episode.text() == f"<image> a {a} . <image> a {b} . <image> a {query} ."
    assert episode.prompt() == f"<image> a {a} . <image> a {b} . <image> a"
    names = [item.name for item in episode.items]
    told = " . ".join(f"{n} a {w}" for n, w in zip(names, (a, b), strict=False))
    assert episode.prompt(images=False) == f"{told} . {names[-1]} a"
    assert few(shots=0)[0].prompt() == "<image> a"
    assert few().pixel_values(episode).shape == (3, 3, 48, 48)


def test_tokens_of_a_made_up_word_are_its_syllables():
    assert TOKENIZER.encode("<image> a modax .").tokens == [IMAGE_TOKEN, "a", "mo", "##dax", "."]
    assert TOKENIZER.token_to_id("[PAD]") == 0 and TOKENIZER.token_to_id(IMAGE_TOKEN) == 4
    for kind in KINDS.values():
        for name in kind:
            assert TOKENIZER.encode(name).tokens == [name]
    for split in EPISODE_SPLITS:
        for episode in few(split, size=10):
            for images in (True, False):
                encoding = TOKENIZER.encode(episode.text(images=images))
                assert "[UNK]" not in encoding.tokens
                assert len(encoding) == 5 * len(episode.items)
                assert TOKENIZER.decode(encoding.ids, skip_special_tokens=False) == episode.text(
                    images=images
                )


def test_tokenizer_knows_other_texts_too():
    tokenizer = episode_tokenizer(["A red circle is left of a small moon."])
    assert tokenizer.encode("left of a small moon .").tokens == "left of a small moon .".split()


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
