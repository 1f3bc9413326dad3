"""Lesson 11's experiments: the verdict follows its thresholds, and seeds give the same figures."""

from __future__ import annotations

import pytest
import torch

from experiments import mae_ratio
from experiments.c18_after_mae import advantage, judge, measure
from experiments.image_training import DIGITS_VIT
from experiments.mae_digits import digits_mae, features, linear_probe, pretrain
from zoo_lessons.datasets.digits import digits


def accuracies(cnn: float, vit: float, after: float, untrained: float) -> dict:
    """Two seeds, a little apart, the same at three numbers of labels."""
    given = {
        "CNN": cnn,
        "ViT": vit,
        "after MAE": after,
        "untrained MAE": untrained,
        "logistic regression": 0.8,
    }
    slips = {"CNN": (0.0, 0.01), "after MAE": (0.0, 0.01)}
    return {
        name: [[value + slip] * 3 for slip in slips.get(name, (0.0, 0.011))]
        for name, value in given.items()
    }


@pytest.mark.parametrize(
    ("figures", "expected"),
    [
        ((0.9, 0.7, 0.85, 0.7), "reproduced"),
        ((0.7, 0.7, 0.85, 0.7), "partly"),
        ((0.9, 0.7, 0.7, 0.7), "partly"),
        ((0.7, 0.9, 0.7, 0.9), "the article is wrong"),
    ],
)
def test_verdict_follows_the_thresholds(figures, expected):
    verdict = judge(accuracies(*figures), counts=(50, 100, 200))
    assert verdict.verdict == expected
    assert "50 labels" in verdict.explanation


def test_one_of_three_numbers_of_labels_is_not_enough():
    found = accuracies(0.9, 0.7, 0.7, 0.7)
    for row in found["CNN"]:
        row[1:] = [0.7, 0.7]
    assert judge(found, counts=(50, 100, 200)).verdict == "the article is wrong"


def test_an_advantage_is_paired_by_seed():
    better, worse = [[0.5], [0.9]], [[0.4], [0.8], [0.1]]  # the third seed has no partner
    mean, low, high = advantage(better, worse)[0]
    assert mean == pytest.approx(0.1)
    assert high - low == pytest.approx(0, abs=1e-9)


def test_the_encoder_has_the_sizes_of_lesson_09():
    vit = digits_mae().to_vit(10, pooling="mean")
    assert vit.config.pooling == "mean"
    for name in ("image_size", "patch_size", "d_model", "num_layers", "num_heads", "d_ff"):
        assert getattr(vit.config, name) == getattr(DIGITS_VIT, name)


def test_features_do_not_depend_on_the_order_of_patches():
    images, model = digits("validation").images[:5], digits_mae().eval()
    first, again = features(model, images), features(model, images)  # other noise
    torch.testing.assert_close(first, again)


def test_a_probe_leaves_the_encoder_alone_and_beats_chance():
    data, model = digits("validation"), digits_mae().eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    probe = linear_probe(model, (data.images, data.labels), (data.images, data.labels))
    assert probe.accuracy(data.images, data.labels) > 0.3
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_pretraining_lowers_the_loss_and_a_seed_repeats_it():
    images = digits("validation").images
    once, again = (pretrain(images, 0, steps=30) for _ in range(2))
    noise = torch.rand(len(images), 16)
    with torch.no_grad():
        torch.manual_seed(0)
        untrained = digits_mae().eval()(images, noise).loss
        assert once(images, noise).loss < 0.7 * untrained
        assert torch.equal(once(images, noise).logits, again(images, noise).logits)


def test_figures_have_the_axes_that_the_docstrings_say():
    found = measure(range(1), (50, 100), steps=2, recipes=[{"mask_ratio": 0.5, "steps": 2}])
    assert found["recipe"] == {"mask_ratio": 0.5, "steps": 2}
    assert {name: len(rows[0]) for name, rows in found["accuracy"].items()} == {
        "after MAE": 2,
        "untrained MAE": 2,
        "linear probe": 2,
    }
    ratios = mae_ratio.measure(range(2), (0.5, 0.75, 0.875), steps=2, pretraining_steps=2)
    assert [len(seeds) for seeds in ratios["probe"]] == [2, 2, 2]
    assert len(ratios["untrained probe"]) == 2
