"""Masked tokens keep the 80/10/10 rule, and sentence pairs leak nothing but their meaning."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from zoo_lessons.datasets.masking import (
    IGNORED,
    IS_NEXT,
    NOT_NEXT,
    chunks,
    mask_tokens,
    pack_pairs,
    sentence_pairs,
)

PAD, UNK, CLS, SEP, MASK = range(5)
VOCAB = 50


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mask(input_ids, **options):
    options = {"generator": seeded(), "special_ids": [PAD, CLS, SEP], **options}
    return mask_tokens(input_ids, vocab_size=VOCAB, mask_token_id=MASK, **options)


@pytest.fixture
def batch():
    """400 sequences: [CLS], 20 tokens, [SEP], 3 of padding."""
    input_ids = torch.randint(5, VOCAB, (400, 25), generator=seeded(9))
    input_ids[:, 0], input_ids[:, 21], input_ids[:, 22:] = CLS, SEP, PAD
    return input_ids


# --- masking -------------------------------------------------------------------------------------


def test_shares_are_those_of_the_paper(batch):
    input_ids, labels = mask(batch)
    chosen = labels != IGNORED
    count = chosen.sum().item()  # of 8000 ordinary tokens
    assert count / 8000 == pytest.approx(0.15, abs=0.012)  # three standard deviations
    hidden = (input_ids == MASK)[chosen].float().mean().item()
    kept = (input_ids == batch)[chosen].float().mean().item()
    assert hidden == pytest.approx(0.8, abs=0.035)
    assert kept == pytest.approx(0.1 + 0.1 / 45, abs=0.03)  # a random token may be the true one


def test_labels_hold_the_true_token_where_chosen_and_nothing_else(batch):
    input_ids, labels = mask(batch)
    chosen = labels != IGNORED
    assert torch.equal(labels[chosen], batch[chosen])
    assert torch.equal(input_ids[~chosen], batch[~chosen])


def test_special_tokens_are_neither_chosen_nor_drawn(batch):
    special = torch.tensor([PAD, CLS, SEP, MASK])
    input_ids, labels = mask(batch, rate=1.0, shares=(0.0, 1.0, 0.0))
    was_special = torch.isin(batch, special)
    assert (labels[was_special] == IGNORED).all()
    assert torch.equal(input_ids[was_special], batch[was_special])
    assert not torch.isin(input_ids[~was_special], special).any()
    assert set(input_ids[~was_special].tolist()) == {UNK, *range(5, VOCAB)}


def test_rows_and_steps_get_different_masks(batch):
    generator = seeded()
    same = batch[:1].expand(100, -1)
    first, second = (mask(same, generator=generator).labels for _ in range(2))
    assert len({tuple(row) for row in first.tolist()}) > 90
    assert not torch.equal(first, second)


def test_the_same_generator_gives_the_same_masks_and_leaves_the_input(batch):
    before = batch.clone()
    once, again = mask(batch), mask(batch)
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))
    assert torch.equal(batch, before)


@pytest.mark.parametrize(("shares", "what"), [((1.0, 0.0, 0.0), "mask"), ((0.0, 0.0, 1.0), "kept")])
def test_extreme_shares(batch, shares, what):
    input_ids, labels = mask(batch, shares=shares)
    chosen = labels != IGNORED
    expected = torch.full_like(batch, MASK) if what == "mask" else batch
    assert torch.equal(input_ids[chosen], expected[chosen])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.5}, "rate=1.5"),
        ({"shares": (0.8, 0.1, 0.2)}, "sum to 1"),
        ({"shares": (1.1, -0.1, 0.0)}, "sum to 1"),
        ({"special_ids": range(VOCAB)}, "all 50 tokens"),
    ],
)
def test_refuses(batch, options, message):
    with pytest.raises(ValueError, match=message):
        mask(batch, **options)


# --- pairs ---------------------------------------------------------------------------------------


def library(num_documents: int = 30, sentences: int = 9) -> list[list[list[int]]]:
    """Documents of three-token sentences: document, number of the sentence, and a mark."""
    return [
        [[100 + document, 200 + sentence, 300] for sentence in range(sentences)]
        for document in range(num_documents)
    ]


def read_back(pairs):
    """(A, B, label) of each row, without special tokens."""
    for ids, visible, segments, label in zip(*(tensor.tolist() for tensor in pairs), strict=True):
        end = sum(visible)
        middle = segments.index(1)
        assert (ids[0], ids[middle - 1], ids[end - 1]) == (CLS, SEP, SEP)
        assert segments == [0] * middle + [1] * (end - middle) + [0] * (len(ids) - end)
        assert visible == [1] * end + [0] * (len(ids) - end)
        assert ids[end:] == [PAD] * (len(ids) - end)
        yield ids[1 : middle - 1], ids[middle : end - 1], label


def make(documents, **options):
    options = {"length": 11, "generator": seeded(), **options}
    return sentence_pairs(documents, cls_token_id=CLS, sep_token_id=SEP, **options)


def test_true_pairs_follow_each_other_and_wrong_pairs_come_from_elsewhere():
    rows = list(read_back(make(library())))  # spans of one sentence
    for a, b, label in rows:
        if label == IS_NEXT:
            assert (b[0], b[1]) == (a[0], a[1] + 1)
        else:
            assert a[0] != b[0]
    labels = Counter(label for _, _, label in rows)
    assert labels[NOT_NEXT] == len(rows) // 2


def test_the_label_cannot_be_read_off_one_side():
    """Wrong Bs are the true Bs of other wrong pairs, so both sides see the same spans."""
    rows = list(read_back(make(library())))
    all_true = list(read_back(make(library(), random_share=0.0)))
    assert Counter(tuple(b) for _, b, _ in rows) == Counter(tuple(b) for _, b, _ in all_true)
    assert all(label == IS_NEXT for _, _, label in all_true)


def test_each_span_is_used_once():
    spans = [tuple(span) for a, b, _ in read_back(make(library())) for span in (a, b)]
    assert len(set(spans)) == len(spans)


def test_another_generator_gives_other_pairs():
    once, again, other = (make(library(), generator=seeded(s)).input_ids for s in (0, 0, 1))
    assert torch.equal(once, again)
    assert once.shape != other.shape or not torch.equal(once, other)


def test_chunks_join_whole_sentences_and_cut_long_ones():
    assert chunks([[1, 2], [3], [4, 5, 6], [7] * 9, [], [8]], 4) == [
        [1, 2, 3],
        [4, 5, 6],
        [7] * 4,
        [8],
    ]


def test_long_sentences_are_cut_to_half_the_room():
    for a, b, _ in read_back(make([[[7] * 40, [8] * 40] for _ in range(4)], length=23)):
        assert len(a) == len(b) == 10


def test_rows_gives_a_smaller_batch():
    pairs = make(library())
    smaller = pairs.rows(torch.tensor([3, 1]))
    assert torch.equal(smaller.input_ids, pairs.input_ids[[3, 1]])
    assert torch.equal(smaller.next_sentence_label, pairs.next_sentence_label[[3, 1]])


@pytest.mark.parametrize(
    ("documents", "options", "message"),
    [
        (library(), {"length": 4}, "length=4"),
        (library(), {"random_share": 2}, "random_share=2"),
        ([[[5, 6]]], {}, "no document has two spans"),
        ([*library(1, 40), *library(1, 2)], {}, "one document has"),
    ],
)
def test_refuses_pairs(documents, options, message):
    with pytest.raises(ValueError, match=message):
        make(documents, **options)


def test_pack_refuses_a_pair_that_does_not_fit():
    with pytest.raises(ValueError, match="pair 0 has 7 tokens"):
        pack_pairs([([5, 6], [7, 8])], [IS_NEXT], length=6, cls_token_id=CLS, sep_token_id=SEP)
