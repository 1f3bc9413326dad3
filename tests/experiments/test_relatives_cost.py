"""Cost against image size: exponents that are known are found, and the timed functions work."""

from __future__ import annotations

import pytest
import torch

from experiments import relatives_cost as cost
from zoo_lessons.bench import CONTROL, Comparison


def test_known_exponents_are_found():
    sizes = [32, 64, 128, 256]
    costs = {
        "linear": [s**2 for s in sizes],
        "quadratic": [s**4 for s in sizes],
        "overhead": [max(s, 64) ** 2 for s in sizes],  # flat where fixed costs rule: not fitted
    }
    found = {name: each["value"] for name, each in cost.exponents(sizes, costs).items()}
    assert found == pytest.approx({"linear": 1, "quadratic": 2, "overhead": 1})
    assert cost.slopes(sizes, [1.0, 4.0, 64.0, 64.0]) == [1.0, 2.0, 0.0]


def test_swin_and_cnn_are_linear_and_vit_becomes_quadratic():
    sizes = [32, 64, 128, 256]
    flops = {
        name: [cost.count_flops(cost.MODELS[name](size), size)[0] for size in sizes]
        for name in ("ViT", "Swin", "CNN")
    }
    assert cost.slopes(sizes, flops["Swin"]) == pytest.approx([1, 1, 1], abs=0.01)
    assert cost.slopes(sizes, flops["CNN"]) == pytest.approx([1, 1, 1], abs=0.01)
    vit = cost.slopes(sizes, flops["ViT"])
    assert vit == sorted(vit) and 1.2 < vit[0] < 1.6 and vit[-1] > 1.85


def test_the_size_at_which_attention_dominates():
    assert cost.half([32, 64, 128], [0.2, 0.5, 0.8]) == 64
    assert cost.half([32, 64, 128], [0.1, 0.1, 0.1]) is None


def test_a_pass_changes_nothing_and_a_training_step_does():
    images = torch.rand(2, 3, 32, 32)
    for name, build in cost.MODELS.items():
        model = build()
        before = [p.clone() for p in model.parameters()]
        cost.forward_pass(model, images)()
        assert all(map(torch.equal, before, model.parameters())), name
        cost.training_step(model, images)()
        assert not all(map(torch.equal, before, model.parameters())), name


def test_all_models_take_all_sizes_in_both_modes():
    for make in (cost.forward_pass, cost.training_step):
        for run in cost.candidates(make, 48).values():
            run()


def test_counts_have_one_entry_per_size():
    counts = cost.counted([32, 48])
    assert set(counts) == {"parameters", "flops", "attention_share", "memory"}
    for figures in counts.values():
        assert {len(values) for values in figures.values()} == {2}
    assert all(small < large for small, large in counts["memory"].values())
    # At 32 and 48 pixels ViT has 64 and 144 positions; nothing else of it grows.
    small, large = counts["parameters"]["ViT"]
    assert large - small == (144 - 64) * 48


def test_ratios_are_to_vit():
    seconds = {name: [2e-3 if name == "CNN" else 1e-3] * 5 for name in cost.MODELS}
    comparison = Comparison({**seconds, CONTROL: [1e-3] * 5}, machine={})
    figures = cost.summary([comparison])
    assert figures["ratio"]["CNN"] == [2.0] and figures["ratio"]["ViT"] == [1.0]
    assert cost.at_task(comparison, 4)["seconds_per_image"]["CNN"] == pytest.approx(5e-4)
