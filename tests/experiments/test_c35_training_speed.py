"""The training-speed experiment: fair models, and a verdict that follows the figures."""

from __future__ import annotations

import pytest
import torch

from experiments import c35_training_speed as c35
from zoo_lessons.bench import CONTROL, Comparison


def test_the_two_models_have_equal_size_and_do_the_same_task():
    models = [c35.LSTMTagger(), c35.TransformerTagger()]
    sizes = [sum(p.numel() for p in model.parameters()) for model in models]
    assert abs(sizes[0] - sizes[1]) / sizes[0] < 0.01
    input_ids = torch.randint(c35.VOCABULARY, (2, 7))
    for model in models:
        assert model(input_ids).shape == (2, 7, c35.VOCABULARY)
        before = model.head.weight.clone()
        c35.training_step(model, input_ids)()
        assert not torch.equal(model.head.weight, before)


@pytest.mark.parametrize(
    ("ratios", "device", "verdict"),
    [
        ([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], "cpu", "reproduced"),
        ([0.5, 0.5, 0.5, 1.5, 1.5, 1.5], "cpu", "partly"),
        ([1.5, 1.5, 1.5, 1.5, 1.5, 1.5], "cpu", "not measurable here"),
        ([1.5, 1.5, 1.5, 1.5, 1.5, 1.5], "cuda", "the article is wrong"),
    ],
)
def test_the_verdict_follows_the_figures(ratios, device, verdict):
    comparisons = [
        Comparison(
            {
                "LSTM": [n * 1e-3] * 5,
                "Transformer": [ratio * n * 1e-3] * 5,
                CONTROL: [n * 1e-3] * 5,
            },
            machine={},
        )
        for n, ratio in zip(c35.LENGTHS, ratios, strict=True)
    ]
    training = c35.summary(comparisons)
    assert training["ratio"] == pytest.approx(ratios)
    assert training["exponent"]["LSTM"]["value"] == pytest.approx(1)
    assert training["seconds_per_token"]["LSTM"] == pytest.approx([1e-3 / c35.BATCH] * 6)
    assert c35.judge(training, device).verdict == verdict
