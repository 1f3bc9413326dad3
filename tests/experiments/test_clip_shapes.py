"""What lesson 12's experiments measure is what they say: on models that know, and on ones that do
not."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn import functional as F

from experiments import c20_clip, clip_shapes
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


def runs(*recall):
    return {"recall": list(recall), "temperature": [0.05] * len(recall)}


@pytest.mark.parametrize(
    ("unseen", "large", "learned", "verdict"),
    [
        (0.95, (0.7, 0.8, 0.75), (0.7, 0.71, 0.72), "reproduced"),
        (0.95, (0.4, 0.8, 0.75), (0.7, 0.71, 0.72), "partly"),
        (0.95, (0.7, 0.8, 0.75), (0.5, 0.51, 0.52), "partly"),
        (0.95, (0.4, 0.8, 0.75), (0.5, 0.51, 0.52), "the article is wrong"),
        (0.85, (0.7, 0.8, 0.75), (0.7, 0.71, 0.72), "the article is wrong"),
    ],
)
def test_the_verdict_follows_the_thresholds(unseen, large, learned, verdict):
    figures = {
        "batch size": {"20": runs(0.5, 0.6, 0.55), "80": runs(*learned), "320": runs(*large)},
        "temperature": {
            "0.01": runs(0.3, 0.3, 0.31),
            "0.07": runs(0.7, 0.71, 0.72),
            "1.0": runs(0.2, 0.2, 0.21),
            "learned": runs(*learned),
        },
    }
    found = c20_clip.judge(figures, unseen)
    assert found.verdict == verdict
    assert "best fixed (0.07) 0.710" in found.ours


def test_a_run_learns_its_temperature_or_keeps_it():
    comparison = c20_clip.Comparison(trained=60, judged=12)
    short = {"texts": "short", "batch": 10, "seen": 20}
    fixed = comparison.run(0, **short, temperature=0.5, learned=False, distinct=False)
    shared = comparison.run(0, **short, temperature=0.5, distinct=False, share=True)
    assert fixed["temperature"] == 0.5 != shared["temperature"]
    assert 0 <= fixed["zero_shot"] <= 1
