"""Lesson 06's records: what counts as a repetition, a valid caption, a gain over an n-gram."""

from __future__ import annotations

import math

import pytest
import torch

from experiments import gpt_baselines, gpt_captions, gpt_repetition
from zoo_lessons.datasets.words import EOS_ID, encode_batch, word_tokenizer
from zoo_lessons.models.gpt import GPT, GPTConfig


def test_repetition_is_0_without_and_near_1_in_a_loop():
    assert gpt_repetition.repetition(list(range(20))) == 0
    assert gpt_repetition.repetition([7] * 20) == pytest.approx(1 - 1 / 17)
    assert gpt_repetition.repetition([1, 2, 3, 4, 5, 1, 2, 3, 4]) == pytest.approx(1 / 6)


def test_own_loss_is_that_of_the_new_tokens():
    torch.manual_seed(0)
    model = GPT(GPTConfig(11, d_model=8, num_layers=1, num_heads=2, d_ff=8, max_length=128)).eval()
    ids = torch.randint(11, (2, 70))
    log_p = model(ids).logits.log_softmax(-1)[0]
    expected = -sum(log_p[t - 1, ids[0, t]].item() for t in range(6, 70)) / 64
    assert gpt_repetition.own_loss(model, ids)[0] == pytest.approx(expected, rel=1e-5)


def test_only_finished_captions_are_valid():
    texts = ["a small red circle on the left", "the small red circle is on the left"]
    tokenizer = word_tokenizer(texts)
    rows = [tokenizer.encode(text).ids for text in texts]
    assert gpt_captions.valid(tokenizer, [[*rows[0], EOS_ID], [*rows[1], EOS_ID, 5]]) == 1
    assert gpt_captions.valid(tokenizer, [rows[0], [*rows[1][:3], EOS_ID]]) == 0


def test_ngrams_and_gpt_predict_the_same_tokens_of_captions():
    tokenizer = word_tokenizer(["a b c", "a b"])
    captions = encode_batch(tokenizer, ["a b c", "a b"], add_bos=True, add_eos=True)
    found = gpt_captions.lists(captions)
    assert [len(row) for row in found] == [4, 3]  # the words and [EOS]
    assert sum(map(len, found)) == int(captions.attention_mask[:, 1:].sum())


def test_ngram_losses_leave_out_the_first_token_of_each_block():
    generator = torch.Generator().manual_seed(0)
    blocks = {name: torch.randint(5, (6, 9), generator=generator) for name in ("train", "test")}
    blocks["validation"] = blocks["train"]
    model = gpt_baselines.tuned(2, 5, blocks)
    losses = gpt_baselines.ngram_losses(model, blocks["test"])
    assert losses.shape == (6, 8)
    assert math.exp(losses.mean()) == pytest.approx(model.perplexity(blocks["test"], first=1))


def test_difference_has_the_sign_of_a_gain():
    ours, theirs = torch.ones(50, 4), torch.full((50, 4), 1.5)
    assert gpt_baselines.difference(ours, theirs) == [0.5, 0.5, 0.5]
    noisy = theirs + torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    mean, low, high = gpt_baselines.difference(ours, noisy)
    assert low < mean < high


def test_mixture_is_one_model_at_the_ends_and_better_than_both_between():
    first, second = torch.tensor([[0.1, 3.0]]), torch.tensor([[3.0, 0.1]])
    torch.testing.assert_close(gpt_baselines.mixed(1.0, first, second), first)
    torch.testing.assert_close(gpt_baselines.mixed(0.0, first, second), second)
    assert gpt_baselines.mixed(0.5, first, second).mean() < first.mean()
