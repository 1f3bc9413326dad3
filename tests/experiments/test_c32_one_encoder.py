"""C32: one encoder for three kinds of input; the verdict follows its thresholds."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from experiments.c32_one_encoder import judge, measure, sound_task, text_task

SMALL = {"train": 48, "validation": 16, "test": 16}


def figures(encoder: float, baselines: tuple[float, float, float]) -> dict[str, dict[str, Any]]:
    return {
        name: {"encoder": [encoder, encoder + 0.01], "baseline": baseline, "chance": 0.1}
        for name, baseline in zip(("images", "sound", "text"), baselines, strict=True)
    }


@pytest.mark.parametrize(
    ("encoder", "baselines", "expected"),
    [
        (0.8, (0.7, 0.7, 0.7), "reproduced"),
        (0.8, (0.7, 0.82, 0.95), "reproduced"),
        (0.8, (0.7, 0.9, 0.95), "partly"),
        (0.3, (0.2, 0.2, 0.2), "the article is wrong"),
    ],
)
def test_verdict_follows_the_thresholds(encoder, baselines, expected):
    assert judge(figures(encoder, baselines)).verdict == expected


def test_explanation_compares_with_logistic_regression():
    verdict = judge(figures(0.8, (0.7, 0.8, 0.95)))
    assert "ahead on images, level (within 0.02) on sound, behind on text" in verdict.explanation
    assert "behind" not in judge(figures(0.8, (0.7, 0.8, 0.8))).explanation


def test_inputs_share_everything_but_the_first_layer():
    sound, text = sound_task(SMALL), text_task({"train": 8, "validation": 2, "test": 2})
    sizes = [
        [p.numel() for part in (model.layers, model.norm) for p in part.parameters()]
        for model in (sound.build(), text.build())
    ]
    assert sizes[0] == sizes[1]


def test_padding_changes_nothing():
    task = text_task({"train": 8, "validation": 2, "test": 2})
    model = task.build().eval()
    ids = task.inputs["train"][:4].clone()
    ids[:, 20:] = 0
    with torch.no_grad():
        before = model(ids).logits
        model.tokens.weight[0] += 5.0  # the vector of padding
        model.positions[:, 21:] += 5.0
        assert torch.allclose(model(ids).logits, before, atol=1e-5)


def test_same_seeds_give_the_same_figures():
    task = sound_task(SMALL)
    once, again = (measure(task, range(2), steps=2) for _ in range(2))
    assert once == again and len(once["encoder"]) == 2
