"""Search: embeddings against a plain loop, BM25 against its formula, ranks and their fusion."""

from __future__ import annotations

import math

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers

from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.retrieval import (
    BM25,
    first_ranks,
    fused,
    mean_pooled,
    ranks,
    sentence_embeddings,
    words,
)


def test_mean_pooled_leaves_padding_out_and_has_length_one():
    hidden = torch.randn(2, 4, 6, dtype=torch.float64)
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    pooled = mean_pooled(hidden, mask)
    expected = hidden[1, :2].mean(0)
    assert torch.allclose(pooled[1], expected / expected.norm())
    assert torch.allclose(pooled.norm(dim=-1), torch.ones(2, dtype=torch.float64))


def test_mean_pooled_refuses_empty_rows_and_other_shapes():
    with pytest.raises(ValueError, match="without a token"):
        mean_pooled(torch.zeros(1, 2, 3), torch.zeros(1, 2))
    with pytest.raises(ValueError, match=r"\(2, 1\)"):
        mean_pooled(torch.zeros(1, 2, 3), torch.ones(2, 1))


def test_embeddings_do_not_depend_on_batches_and_order():
    vocabulary = {word: i for i, word in enumerate("[UNK] a b c d e".split())}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    model = BertModel(BertConfig(6, 8, 2, 2, 16, max_length=8)).eval()
    texts = ["a b c d e", "b", "c a", "e e e"]
    together = sentence_embeddings(model, tokenizer, texts, batch_size=3)
    alone = torch.cat([sentence_embeddings(model, tokenizer, [text]) for text in texts])
    assert torch.allclose(together, alone, atol=1e-6)
    cut = sentence_embeddings(model, tokenizer, ["a b c d e"], max_length=3)
    assert torch.allclose(cut, sentence_embeddings(model, tokenizer, ["a b e"]), atol=1e-6)
    with pytest.raises(ValueError, match="no texts"):
        sentence_embeddings(model, tokenizer, [])


def test_bm25_by_its_formula():
    texts = ["cat mat cat", "dog", "the cat sat on a mat today"]
    found = BM25(texts, k1=1.2, b=0.75).scores("Cat, zebra?")
    mean = 11 / 3
    rarity = math.log((3 - 2 + 0.5) / (2 + 0.5) + 1)
    expected = [
        rarity * n / (n + 1.2 * (0.25 + 0.75 * length / mean))
        for n, length in ((2, 3), (0, 1), (1, 7))
    ]
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)
    assert BM25(texts).scores("zebra").tolist() == [0, 0, 0]
    assert words("The `__slots__`, again.") == ["the", "__slots__", "again"]


def test_ranks_and_first_ranks():
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.3, 0.2]])
    assert ranks(scores).tolist() == [[3, 1, 2], [1, 2, 3]]  # ties keep their order
    assert first_ranks(scores, [[0, 2], [2]]) == [2, 3]
    with pytest.raises(ValueError, match="2 questions"):
        first_ranks(scores, [[0], []])


def test_fusion_adds_reciprocal_ranks():
    one, other = torch.tensor([3.0, 2.0, 1.0]), torch.tensor([0.1, 0.3, 0.2])
    expected = torch.tensor([1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62])
    assert torch.allclose(fused(one, other), expected)
    assert torch.equal(fused(one * 1000, other), fused(one, other))  # only the order counts
    with pytest.raises(ValueError, match="one shape"):
        fused(one, other[:2])
