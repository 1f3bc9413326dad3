"""C20: runs that differ in one thing, a rate chosen by validation, and the verdict."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from experiments import c20_clip
from zoo_lessons.contrastive import contrastive_loss
from zoo_lessons.models.clip import CLIP


@pytest.fixture(scope="module")
def comparison():
    return c20_clip.Comparison(trained=60, judged=12)


def test_a_run_learns_its_temperature_or_keeps_it(comparison):
    short = {"texts": "short", "batch": 10, "steps": 2, "rate": 1e-3, "temperature": 0.5}
    fixed = comparison.run(0, **short, learned=False, distinct=False)
    shared = comparison.run(0, **short, distinct=False, share=True)
    assert fixed["temperature"] == 0.5 != shared["temperature"]
    assert 0 <= fixed["zero_shot"] <= 1


def test_runs_are_the_same_again_and_differ_by_what_is_compared(comparison):
    options = {"batch": 8, "steps": 8, "rate": 5e-2, "temperature": 0.5}
    once = comparison.run(1, **options)
    assert once == comparison.run(1, **options)
    others = [{"direction": c20_clip.IMAGES}, {"direction": c20_clip.TEXTS}, {"rate": 1e-2}]
    temperatures = [comparison.run(1, **{**options, **other})["temperature"] for other in others]
    assert len({once["temperature"], *temperatures}) == 4


def test_the_two_directions_are_the_halves_of_the_loss():
    images, texts = F.normalize(torch.randn(2, 6, 16), dim=-1)
    scale = torch.tensor(2.0)
    halves = [
        c20_clip.one_direction(images, texts, scale, name)
        for name in (c20_clip.IMAGES, c20_clip.TEXTS)
    ]
    assert not torch.isclose(*halves)
    torch.testing.assert_close(sum(halves) / 2, contrastive_loss(images, texts, scale))
    # swapping images and texts swaps the halves
    swapped = c20_clip.one_direction(texts, images, scale, c20_clip.TEXTS)
    torch.testing.assert_close(swapped, halves[0])


def test_recall_counts_every_image_of_a_caption(comparison, monkeypatch):
    world = comparison.judged["test"]
    names = sorted(set(world.full))
    vectors = torch.eye(len(names))
    knows = torch.stack([vectors[names.index(caption)] for caption in world.full])
    monkeypatch.setattr(c20_clip, "text_embeddings", lambda model, tokenizer, texts: vectors)
    monkeypatch.setattr(c20_clip, "image_embeddings", lambda model, images: knows)
    assert comparison._recall(None, world) == 1.0
    monkeypatch.setattr(c20_clip, "image_embeddings", lambda model, images: knows.roll(1, 1))
    assert comparison._recall(None, world) == 0.0


def test_gains_biases_and_temperature_do_not_decay(comparison):
    torch.manual_seed(0)
    model = CLIP(c20_clip.config(comparison.tokenizer.get_vocab_size()))
    decaying, others = c20_clip.optimizer(model, 1e-3).param_groups
    assert decaying["weight_decay"] == c20_clip.DECAY and others["weight_decay"] == 0
    free = {id(p) for p in others["params"]}
    assert id(model.logit_scale) in free
    assert all((id(p) in free) == (p.ndim < 2) for p in model.parameters())
    assert len(decaying["params"]) + len(others["params"]) == len(list(model.parameters()))


class Known:
    """Stands in for a comparison: the recall of a run is a function of its options."""

    def __init__(self):
        self.calls = []

    def run(self, seed, *, rate, **options):
        self.calls.append((seed, rate))
        best = rate == c20_clip.RATES[1]
        # the test scenes prefer another rate, which must not matter
        return {"recall": rate, "validation": 0.9 if best else 0.2, "temperature": 0.05}


def test_the_rate_is_chosen_on_validation_scenes():
    known = Known()
    found = c20_clip.tuned(known, batch=8)
    assert found["rate"] == c20_clip.RATES[1]
    assert found["recall"] == [c20_clip.RATES[1]] * len(c20_clip.SEEDS)
    assert len(known.calls) == len(c20_clip.RATES) + len(c20_clip.SEEDS) - 1
    assert set(found["tried"].values()) == {0.2, 0.9}


def figures(images: float = 0.5, other: float = 0.5) -> dict:
    """As if a fixed 0.07 and the symmetric loss found 0.6, and these two so much."""

    def runs(mean):
        return {"recall": [mean - 0.1, mean, mean + 0.1], "temperature": [0.07] * 3}

    return {
        "direction": {
            c20_clip.BOTH: runs(0.6),
            c20_clip.IMAGES: runs(images),
            c20_clip.TEXTS: runs(0.4),
        },
        "temperature": {"0.07": runs(0.6), "0.2": runs(other), "learned": runs(0.61)},
    }


@pytest.mark.parametrize(
    ("unseen", "images", "other", "verdict"),
    [
        (0.95, 0.5, 0.5, "reproduced"),
        (0.95, 0.5, 0.61, "reproduced"),  # better in every seed, but hardly
        (0.95, 0.5, 0.7, "partly"),
        (0.95, 0.7, 0.5, "partly"),
        (0.95, 0.7, 0.7, "the article is wrong"),
        (0.85, 0.5, 0.5, "not measurable here"),
    ],
)
def test_the_verdict_follows_the_thresholds(unseen, images, other, verdict):
    found = c20_clip.judge(figures(images, other), unseen)
    assert found.verdict == verdict
    assert "fixed at 0.07 0.600" in found.ours
    assert ("One direction was better" in found.explanation) == (images > 0.6)
    assert ("Better than a fixed 0.07" in found.explanation) == (other == 0.7)


def test_better_needs_every_seed_and_the_margin():
    assert c20_clip.better([0.6, 0.7], [0.5, 0.6], 0.05)
    assert not c20_clip.better([0.6, 0.7], [0.5, 0.6], 0.2)
    assert not c20_clip.better([0.9, 0.6], [0.5, 0.6])
