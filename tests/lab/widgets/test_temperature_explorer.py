"""Temperature explorer: its numbers are those of the distillation loss."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from zoo_lessons.lab.widgets import TemperatureExplorer
from zoo_lessons.lab.widgets.temperature_explorer import soft_statistics, softened
from zoo_lessons.training.distill import soft_target_loss

TEACHER = [[4.0, 1.0, -2.0], [0.0, 0.5, 0.2]]
STUDENT = [[0.5, 1.5, 0.0], [2.0, -1.0, 0.0]]
CLASSES = ["drawing", "arrays", "internet"]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_statistics_are_those_of_the_loss(temperature):
    student = torch.tensor(STUDENT[0], dtype=torch.float64, requires_grad=True)
    teacher = torch.tensor(TEACHER[0], dtype=torch.float64)
    loss = soft_target_loss(student, teacher, temperature)
    (gradient,) = torch.autograd.grad(loss, student)
    found, slope = soft_statistics(np.array(STUDENT[0]), np.array(TEACHER[0]), temperature)
    assert found * temperature**2 == pytest.approx(loss.item())
    assert slope * temperature**2 == pytest.approx(gradient.norm().item())


def test_extreme_logits_stay_finite():
    found, slope = soft_statistics(np.array([1e4, 0.0]), np.array([0.0, 1e4]), 0.5)
    assert np.isfinite([found, slope]).all()
    np.testing.assert_allclose(softened(np.array([1e4, 0.0]), 20.0), [1, 0], atol=1e-12)


def test_same_data_same_picture_and_text():
    first, second = (TemperatureExplorer(CLASSES, TEACHER, STUDENT) for _ in range(2))
    assert first.static_png() == second.static_png()
    assert first.static_text() == second.static_text()
    assert "drawing 0.95" in first.static_text()
    hot = TemperatureExplorer(CLASSES, TEACHER, STUDENT, temperature=8.0, example=1)
    assert hot.static_png() != first.static_png()
    picture = np.asarray(Image.open(io.BytesIO(first.static_png())).convert("L"))
    assert 700 <= picture.shape[1] <= 1000
    assert 0.01 < (picture < 200).mean() < 0.7


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match=r"must both be \(examples, 3\)"):
        TemperatureExplorer(CLASSES, TEACHER, [[1.0, 2.0]])
    with pytest.raises(ValueError, match="NaN"):
        TemperatureExplorer(CLASSES, TEACHER, [[float("nan")] * 3] * 2)
    with pytest.raises(ValueError, match="1 names"):
        TemperatureExplorer(CLASSES, TEACHER, STUDENT, names=["one"])
    with pytest.raises(ValueError, match="example=2"):
        TemperatureExplorer(CLASSES, TEACHER, STUDENT, example=2)
    with pytest.raises(ValueError, match=r"expected \(examples, classes\)"):
        TemperatureExplorer(CLASSES, TEACHER[0], STUDENT[0])
    with pytest.raises(traitlets.TraitError):
        TemperatureExplorer(CLASSES, TEACHER, STUDENT, temperature=0.1)
