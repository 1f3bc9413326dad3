"""What happened to the thing: balanced, split by wording, and told by some words."""

from collections import Counter

import pytest

from zoo_lessons.datasets.everyday import sentence_pairs
from zoo_lessons.datasets.what_happened import (
    LABELS,
    ONLY_ONE_SPLIT,
    SPLITS,
    TAUGHT,
    Message,
    after_change,
    messages,
    told,
    wording_numbers,
)


@pytest.mark.parametrize("split", SPLITS)
def test_every_answer_equally_often(split):
    found = messages(split, 30)
    assert Counter(message.label for message in found) == dict.fromkeys(range(len(LABELS)), 30)
    for message in found:
        assert message.wording in wording_numbers(LABELS[message.label], split)
        assert "{" not in message.text and message.text == message.text.lower()


def test_a_few_sentences_are_the_first_of_more():
    assert messages("train", 5, seed=3) == messages("train", 40, seed=3)[: 5 * len(LABELS)]
    assert messages("train", 5, seed=3) != messages("train", 5, seed=4)


@pytest.mark.parametrize("label", LABELS)
def test_a_quarter_of_the_wordings_is_in_one_split_only(label):
    train, validation, test = (set(wording_numbers(label, split)) for split in SPLITS)
    assert len(train) == TAUGHT and train == validation & test
    assert len(validation - train) == len(test - train) == ONLY_ONE_SPLIT


def test_wordings_differ():
    texts = {(m.label, m.wording): m.text.split() for s in SPLITS for m in messages(s, 200)}
    assert len(texts) == len(LABELS) * (TAUGHT + 2 * ONLY_ONE_SPLIT)


def test_the_translators_generator_does_not_write_these_sentences():
    written = {pair.english for pair in sentence_pairs("train", 20_000)}
    ours = {message.text for split in SPLITS for message in messages(split, 100)}
    assert not ours & written


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("i bought my kite for half the price", {"bought"}),
        ("anna cannot find the ring anywhere", {"lost"}),
        ("anna can find the ring again", {"found"}),
        ("the tent works again", {"repaired"}),
        ("the tent no longer works", {"broken"}),
        ("a present, and it is broken", {"given", "broken"}),
        ("we stumbled over the tent in the attic", set()),
    ],
)
def test_telltale_words(text, answers):
    assert told(text) == answers


def test_after_change():
    before = [Message(text, LABELS.index(label), 0) for text, label in [
        ("anna lost it", "lost"), ("anna lost it", "lost"), ("anna lost it", "lost"),
        ("the cat sat on the mat", "given"),  # tells nothing before: not counted
    ]]  # fmt: skip
    after = ["it is missing", "anna found it", "anna sat on it", "a gift"]
    assert after_change(before, after) == {"kept": 1, "another": 1, "silent": 1}


def test_errors():
    with pytest.raises(ValueError, match="split 'all'"):
        messages("all", 3)
    with pytest.raises(ValueError, match="per_label=0"):
        messages("train", 0)
