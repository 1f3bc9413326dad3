"""The small BERT of lesson 07: batches, loss and judges do what the docstrings say."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.bert_prose import (
    SPECIAL_IDS,
    batches,
    config,
    held_out,
    judge,
    log_frequencies,
    loss,
    make_pairs,
    next_sentence_accuracy,
    overlap,
    overlap_accuracy,
    predictions,
    start,
    without,
)
from zoo_lessons.datasets.masking import IGNORED, IS_NEXT, NOT_NEXT, pack_pairs
from zoo_lessons.datasets.subwords import CLS_ID, MASK_ID, SEP_ID

VOCAB = 40


@pytest.fixture(scope="module")
def texts():
    """30 documents of 8 sentences; each document has a word of its own, in every sentence."""
    generator = torch.Generator().manual_seed(0)
    return [
        [[5 + document, *torch.randint(35, VOCAB, (11,), generator=generator).tolist()]] * 8
        for document in range(30)
    ]


@pytest.fixture(scope="module")
def model(texts):
    return start(config(VOCAB, d_model=16, d_ff=32), log_frequencies(texts, VOCAB)).eval()


def test_steps_have_new_holes_and_the_same_seed_repeats_them(texts):
    def three():
        batch = batches(texts, VOCAB, batch_size=8, seed=3)
        return [batch(step) for step in range(30)]

    once, again = three(), three()
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(once, again, strict=True))
    assert not torch.equal(once[0].labels, once[1].labels)
    for each in once:
        chosen = each.labels != IGNORED
        assert not torch.isin(each.labels[chosen], torch.tensor(SPECIAL_IDS)).any()
        assert not chosen[each.attention_mask == 0].any()


def test_untrained_model_predicts_frequencies(texts, model):
    data = held_out(texts, VOCAB)
    assert (data.input_ids[data.holes] == MASK_ID).all()
    frequencies = log_frequencies(texts, VOCAB)
    untrained = judge(predictions(model, data), data.answers)
    unigram = judge(frequencies.expand(len(data.answers), -1), data.answers)
    assert untrained["perplexity"] == pytest.approx(unigram["perplexity"], rel=0.05)


def test_judge_counts_perplexity_and_accuracy():
    log_probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]]).log()
    result = judge(log_probabilities, torch.tensor([1, 1]))
    expected = math.exp(-(math.log(0.25) + math.log(0.8)) / 2)
    assert result == {"perplexity": pytest.approx(expected, abs=1e-3), "accuracy": 0.5}


def test_loss_adds_both_tasks(texts, model):
    batch = batches(texts, VOCAB, batch_size=8)(0)
    both, masked = loss(model, batch), loss(model, batch, next_sentence=False)
    output = model(batch.input_ids, batch.attention_mask, batch.token_type_ids)
    scores = output.prediction_logits.transpose(1, 2)
    expected = torch.nn.functional.cross_entropy(scores, batch.labels)
    assert torch.allclose(masked, expected, atol=1e-6)
    relation = torch.nn.functional.cross_entropy(
        output.seq_relationship_logits, batch.next_sentence_label
    )
    assert torch.allclose(both - masked, relation, atol=1e-6)


def test_shared_words_tell_documents_apart(texts):
    rarity = -log_frequencies(texts, VOCAB)
    pairs = make_pairs(texts, 0)
    shares_own_word = overlap(pairs, torch.arange(VOCAB).lt(35).float())
    assert ((shares_own_word > 0) == (pairs.next_sentence_label == IS_NEXT)).all()
    assert overlap_accuracy(pairs, make_pairs(texts, 1), rarity) > 0.9


def test_overlap_counts_each_shared_word_once_and_no_special_token():
    pairs = pack_pairs(
        [([6, 6, 7], [6, 6, 8]), ([6], [7])],
        [IS_NEXT, NOT_NEXT],
        length=12,
        cls_token_id=CLS_ID,
        sep_token_id=SEP_ID,
    )
    assert overlap(pairs, torch.full((VOCAB,), 2.0)).tolist() == [2.0, 0.0]


def test_next_sentence_accuracy_reads_the_right_label(texts, model):
    pairs = make_pairs(texts, 0)
    bias = model.seq_relationship.bias
    with torch.no_grad():
        bias.copy_(torch.tensor([9.0, -9.0]))  # always "next"
        found = next_sentence_accuracy(model, pairs)
        bias.zero_()
    share = (pairs.next_sentence_label == IS_NEXT).double().mean().item()
    assert found == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize("part", ["positions", "segment"])
def test_without_levels_one_table_of_a_copy(model, part):
    before = model.bert.embeddings.positions.weight.clone()
    table = getattr(without(model, part).bert.embeddings, part).weight
    assert torch.allclose(table, table[:1].expand_as(table))
    assert torch.equal(model.bert.embeddings.positions.weight, before)
