"""What lesson 12's checkpoint is judged by: on models that know, and on ones that do not."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from experiments import clip_shapes
from zoo_lessons.datasets.words import word_tokenizer
from zoo_lessons.models.clip import CLIP


class Oracle:
    """Stands in for a CLIP: an image's vector is that of its caption, known by its pixels."""

    def __init__(self, pictures, tokenizer, words):
        table = torch.randn(
            tokenizer.get_vocab_size(), 64, generator=torch.Generator().manual_seed(0)
        )
        self.table, self.words = table, words
        self.known = {
            pictures.pixel_values([row]).sum().item(): tokenizer.encode(text).ids
            for row, text in enumerate(pictures.captions)
        }

    def embed_texts(self, input_ids, attention_mask=None):
        return torch.stack([self._vector([i for i in row if i > 3]) for row in input_ids.tolist()])

    def embed_images(self, pixel_values):
        return torch.stack([self._vector(self.known[x.sum().item()]) for x in pixel_values])

    def _vector(self, ids):
        order = torch.linspace(1, 2, len(ids))[:, None] if self.words == "in order" else 1.0
        return F.normalize((self.table[ids] * order).sum(dim=0), dim=-1)


@pytest.fixture(scope="module")
def pictures():
    return clip_shapes.Pictures("test", 60)


@pytest.fixture(scope="module")
def tokenizer(pictures):
    return word_tokenizer([*pictures.captions, *clip_shapes.full_prompts(("red", "circle"))])


def test_a_bag_of_words_passes_retrieval_and_the_control_alone(pictures, tokenizer):
    bag = Oracle(pictures, tokenizer, "in a bag")
    for found in clip_shapes.retrieval(bag, tokenizer, pictures).values():
        assert found["recall@1"] > 0.95
    found = clip_shapes.bag_of_words(bag, tokenizer, pictures)
    assert found["word"]["accuracy"] == 1.0
    # equal vectors: at most rounding makes one of them nearer
    for kind in ("binding", "relation"):
        assert found[kind]["accuracy"] < 0.9


def test_a_model_that_knows_the_order_passes_all(pictures, tokenizer):
    found = clip_shapes.bag_of_words(Oracle(pictures, tokenizer, "in order"), tokenizer, pictures)
    assert {kind: each["accuracy"] for kind, each in found.items()} == dict.fromkeys(found, 1.0)
    assert 40 <= found["word"]["images"] <= len(pictures.captions)


def test_no_two_images_of_a_batch_are_alike():
    single = clip_shapes.Pictures("train", 400, num_objects=(1,))
    scenes = clip_shapes.Pictures("train", 100, num_objects=(2, 3))
    tokenizer = word_tokenizer([*single.captions, *scenes.captions])
    batches = itertools.islice(clip_shapes.rotation(single, scenes, tokenizer), 8)
    for turn, (images, ids) in enumerate(batches):
        assert images.shape == (clip_shapes.BATCH, 3, 48, 48)
        rows = {tuple(row) for row in ids.tolist()}
        assert len(rows) == len(ids)
        # [BOS] a small red circle [EOS]
        assert (ids.shape[1] == 6) == (turn % 4 in (0, 2))


def test_an_untrained_model_guesses(tokenizer):
    pictures = clip_shapes.Pictures("composition", 60, num_objects=(1,))
    texts = [text for pair in clip_shapes.PAIRS for text in clip_shapes.full_prompts(pair)]
    vocabulary = word_tokenizer(texts)
    torch.manual_seed(0)
    model = CLIP(clip_shapes.config(vocabulary.get_vocab_size())).eval()
    found = clip_shapes.zero_shot(model, vocabulary, {"unseen": pictures})["unseen"]
    assert set(found) == {"short", "one caption", "ensemble", "colour", "shape"}
    assert max(found.values()) < 0.5
