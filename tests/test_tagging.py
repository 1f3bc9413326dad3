"""Tagging: alignment, entity scores by hand, and a head that agrees with its parts."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from zoo_lessons.tagging import (
    NO_LABEL,
    TaggingHead,
    entities,
    entity_scores,
    first_pieces,
    has_illegal_step,
    word_features,
)
from zoo_lessons.weights import load_pretrained, load_tokenizer

TAGS = ("O", "B-X", "I-X", "B-Y", "I-Y")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-X I-X O B-Y", [("X", 0, 2), ("Y", 3, 4)]),
        ("B-X B-X I-X", [("X", 0, 1), ("X", 1, 3)]),
        ("O I-X I-X", []),
        ("B-X I-Y I-X", [("X", 0, 1)]),
        ("B-X O I-X", [("X", 0, 1)]),
    ],
)
def test_entities(tags, expected):
    assert entities(tags.split()) == expected


def test_illegal_steps():
    assert not has_illegal_step("B-X I-X I-X B-X O".split())
    for tags in ("I-X", "O I-X", "B-Y I-X"):
        assert has_illegal_step(tags.split())


def test_entity_scores_count_exact_spans():
    truth = ["B-X I-X O B-Y".split(), "B-X O".split()]
    found = ["B-X I-X O B-X".split(), "B-X I-X".split()]
    scores = entity_scores(truth, found)  # one of three found is right, and one of three true
    assert scores == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert entity_scores(truth, truth) == (1, 1, 1)
    assert entity_scores(truth, [["O"] * 4, ["O"] * 2]) == (0, 0, 0)
    with pytest.raises(ValueError, match="as many tags"):
        entity_scores(truth, truth[:1])


def test_first_pieces():
    assert first_pieces([None, 0, 1, 1, 2, None]) == [1, 2, 4]
    assert first_pieces([0, 0]) == [0]


def test_word_features_stand_at_first_pieces_and_ignore_batches():
    model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
    sentences = [["Breiman", ",", "bootstrapping", "estimators"], ["Trees"]]
    batched = word_features(model, tokenizer, sentences, block=2)
    encoded = tokenizer.encode(sentences[0], is_pretokenized=True)
    with torch.no_grad():
        x = model.embeddings(torch.tensor([encoded.ids]))
        for layer in model.layers[:2]:
            x = layer(x)
    assert len(encoded.ids) > 6  # some word is in pieces, or this tests little
    expected = x[0, first_pieces(encoded.word_ids)]
    assert torch.allclose(batched[0], expected, atol=1e-4)
    assert [len(one) for one in batched] == [4, 1]
    words = word_features(model, tokenizer, [["Trees"]], block=0)[0][0]
    assert torch.equal(words, model.embeddings.word.weight[tokenizer.token_to_id("trees")])
    with pytest.raises(ValueError, match="block=7"):
        word_features(model, tokenizer, sentences, block=7)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    features = [torch.randn(4, 8), torch.randn(2, 8)]
    labels = pad_sequence(
        [torch.tensor([1, 2, 0, 3]), torch.tensor([0, 3])],
        batch_first=True,
        padding_value=NO_LABEL,
    )
    return features, pad_sequence(features, batch_first=True), labels


@pytest.mark.parametrize("crf", [False, True])
@pytest.mark.parametrize("lstm", [0, 3])
def test_loss_does_not_depend_on_padding(batch, crf, lstm):
    features, padded, labels = batch
    head = TaggingHead(8, TAGS, crf=crf, lstm=lstm).eval()
    apart = [
        head.loss(one[None], tags[None, : len(one)])
        for one, tags in zip(features, labels, strict=True)
    ]
    assert torch.allclose(head.loss(padded, labels), (4 * apart[0] + 2 * apart[1]) / 6, atol=1e-6)


def test_without_transitions_a_crf_without_rules_is_a_softmax(batch):
    _, padded, labels = batch
    head = TaggingHead(8, TAGS, crf=True).eval()
    head.crf.allowed.fill_(True)
    head.crf.allowed_start.fill_(True)
    plain = F.cross_entropy(head(padded, labels != NO_LABEL).flatten(0, 1), labels.flatten())
    assert torch.allclose(head.loss(padded, labels), plain, atol=1e-6)


@pytest.mark.parametrize("crf", [False, True])
def test_predictions_fit_the_sentences_and_the_rules(batch, crf):
    features, _, _ = batch
    torch.manual_seed(1)
    head = TaggingHead(8, TAGS, crf=crf).eval()
    with torch.no_grad():
        head.emit.bias.copy_(torch.tensor([0.0, -3.0, 3.0, -3.0, 2.5]))  # I- tags everywhere
    by_word = head.predict(features, "word by word")
    assert [len(tags) for tags in by_word] == [4, 2]
    assert all(has_illegal_step(tags) for tags in by_word)
    for tags in (
        *head.predict(features, "legal only"),
        *TaggingHead(8, TAGS, crf=True).eval().predict(features),
    ):
        assert not has_illegal_step(tags)
    assert (head.predict(features) == by_word) is not crf
