from __future__ import annotations

import pytest
import torch

from experiments import augment_images as images
from experiments.image_training import SmallCNN
from zoo_lessons.records import load_record


@pytest.fixture(autouse=True)
def short_attack(monkeypatch):
    monkeypatch.setattr(images, "ATTACK_STEPS", 1)


def test_short_runs_give_every_figure():
    views = images.methods({"MixUp": 0.2, "CutMix": 1.0})
    runs = images.measure("CNN", views, 3e-3, seeds=range(2), counts=(50, 1157), steps=1)
    assert set(runs) == {"50", "1157"}
    for count, found in runs.items():
        assert set(found) == {"none", "shifts", "MixUp", "CutMix", "shifts + mixing"}
        for row in found.values():
            assert len(row["accuracy"]) == len(row["robust"]) == 2
            assert ("curve" in row) == (count == "1157")
    rows = images.effects("CNN", runs)
    assert len(rows) == 2 * 5 * 2
    assert {row["against"] for row in rows} == {"none", "shifts"}


def test_alpha_is_chosen_on_the_validation_writers():
    found = images.choose_alphas(3e-3, seeds=range(1), steps=2)
    for row in found.values():
        assert set(row["validation"]) == {"0.2", "1.0"}
        best = max(row["validation"], key=lambda alpha: sum(row["validation"][alpha]))
        assert sum(row["validation"][best]) == sum(row["validation"][str(row["alpha"])])


def test_either_takes_both_in_turn():
    def marks(value):
        return lambda model, x, targets, draw: (torch.full_like(x, value), targets)

    views, draw = images.either(marks(0.0), marks(1.0)), torch.Generator().manual_seed(0)
    seen = [views(SmallCNN(), torch.zeros(1), None, draw)[0].item() for _ in range(40)]
    assert 8 < sum(seen) < 32


def test_record_fits_its_code():
    figures = load_record("augment_images")["figures"]
    assert figures["effects"] == [
        row for name, runs in figures["runs"].items() for row in images.effects(name, runs)
    ]
    for runs in figures["runs"].values():
        for found in runs.values():
            for row in found.values():
                assert all(r <= a for r, a in zip(row["robust"], row["accuracy"], strict=True))
                assert len(row["accuracy"]) == figures["seeds"]
    curves = figures["runs"]["CNN"]["1157"]["none"]["curve"]
    assert [curve[0] for curve in curves] == pytest.approx(
        figures["runs"]["CNN"]["1157"]["none"]["accuracy"]
    )
