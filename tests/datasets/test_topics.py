import pytest

from zoo_lessons.datasets.topics import TOPICS, WORDS, passages_by_topic


@pytest.fixture(scope="module")
def held_out():
    return {split: passages_by_topic(split, 40) for split in ("train", "validation", "test")}


def test_equally_many_of_each_topic(held_out):
    for passages in held_out.values():
        counts = [sum(p.label == label for p in passages) for label in range(len(TOPICS))]
        assert counts == [40] * len(TOPICS)
        labels = [p.label for p in passages]
        assert labels != sorted(labels)  # mixed


def test_no_module_is_in_two_splits(held_out):
    modules = [{p.module for p in passages} for passages in held_out.values()]
    assert not modules[0] & modules[1]
    assert not (modules[0] | modules[1]) & modules[2]


def test_passages_do_not_name_their_library(held_out):
    for passages in held_out.values():
        for p in passages:
            assert WORDS[0] <= len(p.text.split()) <= WORDS[1]
            for name in ("numpy", "scipy", "sklearn", "matplotlib", "torch"):
                assert name not in p.text.lower()


def test_seeds(held_out):
    assert passages_by_topic("test", 40) == held_out["test"]
    assert passages_by_topic("test", 40, seed=1) != held_out["test"]


def test_too_many():
    with pytest.raises(ValueError, match="per_topic=100000, but test has"):
        passages_by_topic("test", 100_000)
