"""Pipeline explorer: its static picture and line follow its state."""

from __future__ import annotations

import io

import numpy as np
import pytest
import traitlets
from PIL import Image

from zoo_lessons.lab.widgets import PipelineExplorer


def test_same_state_same_picture_and_text():
    first, second = PipelineExplorer(), PipelineExplorer()
    assert first.static_png() == second.static_png()
    assert first.static_text() == second.static_text()
    for change in ({"schedule": "1F1B"}, {"stages": 3}, {"micro_batches": 7}):
        other = PipelineExplorer(**change)
        assert other.static_png() != first.static_png()
        assert other.static_text() != first.static_text()
    picture = np.asarray(Image.open(io.BytesIO(first.static_png())).convert("L"))
    assert 700 <= picture.shape[1] <= 1000
    assert 0.01 < (picture < 200).mean() < 0.7


def test_the_line_says_bubble_and_memory():
    widget = PipelineExplorer(schedule="1F1B", stages=4, micro_batches=12)
    assert widget.kept() == [4, 3, 2, 1]
    assert widget.static_text() == (
        "PipelineExplorer, 1F1B, 4 stages, 12 micro-batches: 20.0% of the time is idle; the first "
        "stage keeps the activations of 4 micro-batches, the last of 1"
    )


@pytest.mark.parametrize("wrong", [{"stages": 0}, {"micro_batches": 25}, {"schedule": "GPIPE"}])
def test_values_outside_are_refused(wrong):
    with pytest.raises(traitlets.TraitError):
        PipelineExplorer(**wrong)
