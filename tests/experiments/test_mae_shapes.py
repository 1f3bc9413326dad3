"""The errors that lesson 11 compares are those of the holes, for the model and the baselines."""

from __future__ import annotations

import pytest
import torch

from experiments import mae_shapes


def test_errors_of_the_baselines_are_those_of_the_holes():
    images = torch.zeros(3, 3, 32, 32)
    images[:, :, :, 16:] = 1  # halves: smooth is right far from the edge, the mean colour nowhere
    model, _ = mae_shapes.train(images, steps=1)
    found = mae_shapes.errors(model, images, 0.75)
    assert 0 < found["smooth"] < found["mean colour"]
    assert found["mean colour"] == pytest.approx(0.25, abs=0.05)
