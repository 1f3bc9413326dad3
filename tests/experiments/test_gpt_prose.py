"""The units of the loss, and that training with one seed gives one model."""

from __future__ import annotations

import math

import pytest
import torch

from experiments.gpt_prose import VOCABULARY, amounts, loss, mean_loss, per_amount, train
from zoo_lessons.datasets.subwords import encode_blocks, train_byte_bpe

TEXTS = ["The cat sat on the mat.", "A second paragraph, with naïve words."]


def test_amounts_count_what_is_predicted():
    tokenizer = train_byte_bpe(TEXTS, 270)
    length = sum(len(ids.ids) + 1 for ids in tokenizer.encode_batch(TEXTS))  # and their ends
    block = encode_blocks(tokenizer, TEXTS, length)
    found = amounts(tokenizer, block)
    first = len(tokenizer.id_to_token(block[0, 0].item()))
    assert found["tokens"] == length - 1
    # Each end of a paragraph counts as one byte, and stands for the first word of the next one.
    assert found["bytes"] == len("".join(TEXTS).encode()) + 2 - first
    assert found["words"] == sum(text.count(" ") for text in TEXTS) + 2


def test_units_agree_with_each_other():
    counted = {"tokens": 40, "words": 20, "bytes": 100}
    found = per_amount(math.log(8), counted)
    assert found["perplexity_per_token"] == 8
    assert found["perplexity_per_word"] == 64
    assert found["bits_per_byte"] == pytest.approx(3 * 40 / 100)


def test_training_is_repeatable_and_mean_loss_is_the_mean_over_blocks():
    blocks = torch.randint(VOCABULARY, (35, 12), generator=torch.Generator().manual_seed(0))
    (model, once), (_, again) = train(blocks, steps=2), train(blocks, steps=2)
    assert once.loss.tolist() == again.loss.tolist()
    with torch.no_grad():
        expected = torch.stack([loss(model, block[None]) for block in blocks]).mean().item()
    assert mean_loss(model, blocks) == pytest.approx(expected, rel=1e-5)
