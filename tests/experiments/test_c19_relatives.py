"""C19: an equal budget, a permutation that ViT cannot see, FLOPs by hand, and the verdict."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments import c19_relatives as c19
from zoo_lessons.layers.attention import DotProductAttention
from zoo_lessons.layers.patches import image_to_patches


def test_all_models_have_the_same_budget_and_name_the_same_classes():
    for name, build in c19.MODELS.items():
        model = build().eval()
        size = c19.count_parameters(model)
        assert abs(size - c19.BUDGET) <= c19.TOLERANCE * c19.BUDGET, (name, size)
        assert model(torch.rand(2, 3, 32, 32)).logits.shape == (2, 8), name


def test_all_models_start_from_the_same_kind_of_weights():
    for name, build in c19.MODELS.items():
        for module in build().apply(c19.same_start).modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                width = module.weight.flatten(1).shape[1]
                limit = (6 / (len(module.weight) + width)) ** 0.5  # Xavier's
                largest = module.weight.abs().max().item()
                assert 0.5 * limit < largest <= limit, (name, module)
                assert module.bias is None or not module.bias.any(), (name, module)


def test_parameters_that_do_not_learn_are_not_counted():
    model = c19.t2t_vit()
    everything = sum(p.numel() for p in model.parameters())
    assert c19.count_parameters(model) == everything - model.positions.numel()


@pytest.mark.parametrize("name", list(c19.MODELS))
@pytest.mark.parametrize("size", [32, 64])
def test_attention_is_counted_as_its_two_products(name, size):
    model = c19.MODELS[name](size).eval()
    products = []

    def count(layer: nn.Module, inputs: tuple) -> None:
        q, k = inputs[:2]
        products.append(2 * 2 * q.numel() * k.shape[-2])  # scores, and weights times values

    for module in model.modules():
        if isinstance(module, DotProductAttention):
            module.register_forward_pre_hook(count)
    with torch.no_grad():
        model(torch.rand(1, 3, size, size))
    total, share = c19.count_flops(c19.MODELS[name](size), size)
    assert share * total == pytest.approx(sum(products))
    assert 0 <= share < 1 and (share == 0) == (name == "CNN")


def test_vit_flops_are_those_of_its_matrices():
    tokens, d, d_ff, layers = 65, 48, 88, 3
    blocks = layers * 2 * tokens * (4 * d * d + 2 * d * d_ff + 2 * tokens * d)
    patches, head = 2 * 64 * (3 * 4 * 4) * d, 2 * d * 8
    assert c19.count_flops(c19.vit())[0] == blocks + patches + head


def test_images_show_one_shape_and_splits_differ():
    images, labels = c19.task("train", 40)
    assert images.shape == (40, 3, 32, 32) and 0 <= images.min() and images.max() <= 1
    assert len(labels.unique()) > 4 and labels.max() < c19.NUM_LABELS
    assert not torch.equal(images, c19.task("test", 40)[0])
    assert torch.equal(images[:7], c19.task("train", 7)[0])  # few are the beginning of many


def test_shuffling_moves_whole_patches_and_all_images_alike():
    images = torch.rand(2, 3, 32, 32)
    before = image_to_patches(images, 4)
    after = image_to_patches(c19.shuffle_patches(images), 4)
    match = (before[:, :, None] == after[:, None]).all(dim=-1)  # (image, old place, new place)
    assert match.sum(dim=1).eq(1).all() and torch.equal(match[0], match[1])
    assert not match[0].diagonal().all()
    assert torch.equal(c19.shuffle_patches(images), c19.shuffle_patches(images))


def test_vit_does_not_see_the_shuffle_once_its_positions_are_moved_too():
    model = c19.vit().eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(images).logits
        assert not torch.allclose(model(c19.shuffle_patches(images)).logits, expected, atol=1e-4)
        places = torch.arange(64.0).view(1, 1, 8, 8).repeat_interleave(4, 2).repeat_interleave(4, 3)
        order = c19.shuffle_patches(places)[0, 0, ::4, ::4].flatten().long()
        positions = model.embeddings.positions
        positions[:, 1:] = positions[:, 1:][:, order]
        torch.testing.assert_close(
            model(c19.shuffle_patches(images)).logits, expected, atol=1e-5, rtol=1e-4
        )


def figures(gain: float, extra: float) -> dict:
    """As if every relative gained and lost so much, seed by seed."""
    natural = {name: 0.5 + gain * (name != "ViT") for name in c19.MODELS}
    shuffled = {name: value - 0.01 - extra * (name != "ViT") for name, value in natural.items()}
    noise = [0.0, 0.01, -0.01, 0.02]
    # ViT stays as it is from seed to seed, so that the differences keep the others' noise.
    accuracies = {
        name: [[value + e * (name != "ViT") for e in noise]] for name, value in natural.items()
    }
    lost = {name: [value] * 4 for name, value in shuffled.items()}
    return {
        "accuracy": accuracies,
        "shuffled": lost,
        "steps": 400,
        **c19.compare_with_vit(accuracies, lost),
    }


@pytest.mark.parametrize(
    ("gain", "extra", "expected"),
    [
        (0.2, 0.2, "reproduced"),
        (0.0, 0.2, "partly"),
        (-0.2, 0.2, "partly"),
        (0.2, 0.0, "the article is wrong"),
        (0.2, -0.2, "the article is wrong"),
    ],
)
def test_verdict_follows_the_thresholds(gain, extra, expected):
    assert c19.judge(figures(gain, extra)).verdict == expected


def test_one_relative_that_does_not_gain_makes_it_partly():
    found = figures(0.2, 0.2)
    found["gain"]["Swin"] = {"mean": 0.1, "low": -0.01, "high": 0.2}
    verdict = c19.judge(found)
    assert verdict.verdict == "partly"
    assert "natural images: CvT, T2T-ViT." in verdict.explanation


def test_differences_are_taken_seed_by_seed():
    found = figures(0.2, 0.1)
    assert found["gain"]["Swin"]["mean"] == pytest.approx(0.205)
    assert found["drop"]["ViT"] == pytest.approx({"mean": 0.01, "low": 0.01, "high": 0.01})
    assert found["extra_drop"]["CvT"]["mean"] == pytest.approx(0.105)
    assert "ViT" not in found["gain"] and "ViT" not in found["extra_drop"]


def test_same_seeds_give_the_same_figures(monkeypatch):
    monkeypatch.setattr(c19, "MODELS", {"ViT": c19.vit, "CNN": c19.cnn})
    once, again = (c19.measure(range(2), (8, 16), steps=2, held_out=40) for _ in range(2))
    assert once == again
    assert [len(row) for row in once["accuracy"]["CNN"]] == [2, 2]
    assert [len(row) for row in once["train_accuracy"]["CNN"]] == [2, 2]
    assert len(once["shuffled"]["ViT"]) == 2
    for name, scores in once["validation"].items():
        assert scores[c19.RATES.index(once["rate"][name])] == max(scores)
