from __future__ import annotations

import pytest
import torch

from experiments import adversarial as experiment
from experiments import augment_images
from experiments.augmented_training import attacked
from zoo_lessons.datasets.digits import Digits, digits
from zoo_lessons.records import load_record


@pytest.fixture(autouse=True)
def short_attack(monkeypatch):
    monkeypatch.setattr(augment_images, "ATTACK_STEPS", 1)
    monkeypatch.setattr(experiment, "digits", few_digits)


def few_digits(split):
    return Digits(*(column[:40] for column in digits(split)))


SOUND = {
    "none": 0.95,
    "noise": 0.94,
    "FGSM": 0.7,
    "PGD 5": 0.65,
    "PGD 20": 0.64,
    "PGD 50": 0.63,
    "PGD 20, 3 starts": 0.63,
    "PGD without limit": 0.0,
    "transferred": 0.8,
}


@pytest.mark.parametrize(
    ("changed", "sign"),
    [
        ({}, None),
        ({"noise": 0.5}, "noise is stronger"),
        ({"FGSM": 0.6}, "one step is stronger"),
        ({"PGD 50": 0.5}, "50 steps"),
        ({"PGD 20, 3 starts": 0.5}, "more starts"),
        ({"PGD without limit": 0.2}, "without limit"),
        ({"transferred": 0.5}, "another model's"),
    ],
)
def test_each_sign_of_masking_is_seen(changed, sign):
    found = experiment.masking_signs({**SOUND, **changed})
    assert len(found) == (sign is not None)
    assert sign is None or found[0].startswith(sign)


def test_short_runs_give_every_figure():
    runs = {"CNN": experiment.measure_all(3e-3, seeds=range(2), steps=1)}
    assert set(runs["CNN"]["1157"]) == {"adversarial training", "random noise"}
    none = {"none": {"accuracy": [0.1, 0.2], "robust": [0.0, 0.1]}}
    rows = experiment.effects(runs, {"runs": {"CNN": {"1157": none}}})
    assert len(rows) == 2 * 2


def test_a_barely_trained_model_is_inspected_by_every_attack():
    found = experiment.inspect({"x": attacked(0.1, 1)}, 3e-3, steps=1)["x"]
    assert set(found["attacks"]) == set(SOUND)


def test_noise_stays_in_its_limits():
    images = torch.rand(3, 1, 8, 8)
    changed, _ = experiment.noisy(None, images, None, torch.Generator().manual_seed(0))
    assert 0 < (changed - images).abs().max() <= experiment.EPSILON + 1e-6
    assert changed.min() >= 0 and changed.max() <= 1


def test_record_fits_its_code():
    figures, beside = (load_record(name)["figures"] for name in ("adversarial", "augment_images"))
    assert figures["effects"] == experiment.effects(figures["runs"], beside)
    for row in figures["masking"].values():
        assert row["signs"] == experiment.masking_signs(row["attacks"])
