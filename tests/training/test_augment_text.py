"""Augmentation of texts: neighbours by direction, exactly so many words, copies with labels."""

import random
from collections import Counter

import pytest
import torch

from zoo_lessons.training.augment_text import (
    WordNeighbours,
    random_edits,
    replace_words,
    same_stem,
    with_copies,
)


@pytest.fixture
def neighbours():
    words = ["bike", "bikes", "bicycle", "car", "rock", "lost", "mislaid"]
    vectors = torch.tensor(
        [[1, 0.0], [9.8, 1.0], [0.9, 0.2], [0.8, 0.6], [-1, 0.1], [0, 2.0], [0.1, 5.0]]
    )
    return WordNeighbours(words, vectors)


def test_neighbours_are_by_direction_not_by_length(neighbours):
    assert [word for word, _ in neighbours.nearest("bike", 3)] == ["bikes", "bicycle", "car"]
    cosine = dict(neighbours.nearest("bike", 6))
    assert cosine["car"] == pytest.approx(0.8)
    assert cosine["rock"] < 0
    assert "bike" not in cosine and len(cosine) == 6


def test_neighbours_with_limits(neighbours):
    assert [w for w, _ in neighbours.nearest("bike", 2, own_forms=False)] == ["bicycle", "car"]
    assert [w for w, _ in neighbours.nearest("bike", 9, least=0.9)] == ["bikes", "bicycle"]
    assert neighbours.nearest("aeroplane", 3) == []


@pytest.mark.parametrize(
    ("word", "other", "same"),
    [("bike", "bikes", True), ("lost", "losing", True), ("nurse", "nursing", True),
     ("bought", "buy", False), ("bike", "bicycle", False), ("hot", "hotter", True),
     ("sister", "siblings", False)],
)  # fmt: skip
def test_same_stem(word, other, same):
    assert same_stem(word, other) is same_stem(other, word) is same


def test_replaces_exactly_so_many_words_and_never_stop_words(neighbours):
    text = "My bike was lost with the bike, not the car"
    for seed in range(20):
        found = replace_words(text, neighbours, random.Random(seed), share=0.2)
        words, before = found.replace(",", " ,").split(), text.lower().replace(",", " ,").split()
        changed = [(a, b) for a, b in zip(before, words, strict=True) if a != b]
        assert len(changed) == 2  # 0.2 * 10 words
        assert all(a in ("bike", "lost", "car") for a, _ in changed)
        assert ("bike", "bikes") not in changed


def test_a_text_without_neighbours_stays(neighbours):
    assert replace_words("what is it?", neighbours, random.Random(0)) == "what is it?"


def test_random_edits_swap_or_delete():
    text = "a b c d e f g h i j"
    seen = Counter()
    for seed in range(200):
        found = random_edits(text, random.Random(seed), share=0.1).split()
        assert set(found) <= set(text.split()) and len(found) in (9, 10)
        seen["deleted" if len(found) == 9 else "swapped"] += 1
        assert found != text.split()
    assert min(seen.values()) > 70
    assert random_edits("alone", random.Random(0), share=1.0) == "alone"


def test_the_same_seed_gives_the_same_copy(neighbours):
    text = "my bike was lost near the car"
    for change in (lambda c: replace_words(text, neighbours, c), lambda c: random_edits(text, c)):
        assert change(random.Random(7)) == change(random.Random(7))


def test_copies_keep_label_and_origin():
    rounds = iter("xy")

    def marked(texts):
        mark = next(rounds)
        return [text + mark for text in texts]

    found = with_copies(["one", "two", "three"], [4, 5, 6], marked, 2)
    assert found.texts == [
        "one",
        "two",
        "three",
        "onex",
        "twox",
        "threex",
        "oney",
        "twoy",
        "threey",
    ]
    assert found.labels == [4, 5, 6] * 3
    assert found.origins == [0, 1, 2] * 3
    assert with_copies(["one"], [1], list, 0).texts == ["one"]


def test_minilms_table_finds_the_obvious_and_the_opposite():
    table = WordNeighbours.from_minilm()
    assert table.nearest("bought", 1)[0][0] == "purchased"
    others = [word for word, _ in table.nearest("disappeared", 3, own_forms=False)]
    assert others[0] == "vanished" and "reappeared" in others


def test_errors(neighbours):
    with pytest.raises(ValueError, match="expected \\(2, width\\)"):
        WordNeighbours(["a", "b"], torch.ones(3, 4))
    with pytest.raises(ValueError, match="words must differ"):
        WordNeighbours(["a", "a"], torch.ones(2, 4))
    with pytest.raises(ValueError, match="count=0"):
        neighbours.nearest("bike", 0)
    for change in (replace_words, random_edits):
        with pytest.raises(ValueError, match="share=0"):
            options = {"neighbours": neighbours} if change is replace_words else {}
            change("my bike", chance=random.Random(0), share=0.0, **options)
    with pytest.raises(ValueError, match="2 texts and 1 labels"):
        with_copies(["a", "b"], [1], list, 1)
    with pytest.raises(ValueError, match="copies=-1"):
        with_copies(["a"], [1], list, -1)
    with pytest.raises(ValueError, match="change made 0 texts of 1"):
        with_copies(["a"], [1], lambda texts: [], 1)
