"""Patience explorer: its exits are the library's."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from zoo_lessons.early_exit import exits
from zoo_lessons.lab.widgets import PatienceExplorer
from zoo_lessons.lab.widgets.patience_explorer import exit_layers

CLASSES = ["drawing", "arrays", "internet"]


def numbers(layers=6, examples=40):
    logits = torch.randn(layers, examples, 3, generator=torch.Generator().manual_seed(0))
    confidence, found = logits.softmax(-1).max(-1)
    labels = torch.randint(3, (examples,), generator=torch.Generator().manual_seed(1))
    return logits, found, labels, confidence


def explorer(**options):
    _, found, labels, confidence = numbers()
    return PatienceExplorer(found, labels, CLASSES, confidence, **options)


@pytest.mark.parametrize("patience", range(1, 7))
def test_exits_are_those_of_the_library(patience):
    logits, found, labels, _ = numbers()
    expected = exits(logits, patience=patience)
    np.testing.assert_array_equal(exit_layers(found.numpy(), patience), expected.layers)
    used, right = explorer().trade()
    assert used[patience - 1] == pytest.approx(expected.layers.double().mean().item())
    accuracy = (expected.logits.argmax(-1) == labels).double().mean().item()
    assert right[patience - 1] == pytest.approx(accuracy)


def test_same_data_same_picture_and_text():
    first, second = explorer(), explorer()
    assert first.static_png() == second.static_png()
    assert first.static_text() == second.static_text()
    other = explorer(patience=4)
    assert other.static_png() != first.static_png()
    assert other.static_text() != first.static_text()
    picture = np.asarray(Image.open(io.BytesIO(first.static_png())).convert("L"))
    assert 700 <= picture.shape[1] <= 1000
    assert 0.01 < (picture < 200).mean() < 0.7


def test_wrong_input_is_refused():
    _, found, labels, confidence = numbers()
    with pytest.raises(ValueError, match="must both be"):
        PatienceExplorer(found, labels, CLASSES, confidence[:3])
    with pytest.raises(ValueError, match="expected \\(40,\\)"):
        PatienceExplorer(found, labels[:3], CLASSES, confidence)
    with pytest.raises(ValueError, match="expected classes 0 to 1"):
        PatienceExplorer(found, labels, CLASSES[:2], confidence)
    with pytest.raises(ValueError, match="2 names"):
        PatienceExplorer(found, labels, CLASSES, confidence, names=["a", "b"])
    with pytest.raises(ValueError, match="patience=7"):
        PatienceExplorer(found, labels, CLASSES, confidence, patience=7)
    with pytest.raises(traitlets.TraitError):
        explorer().which = "none"
