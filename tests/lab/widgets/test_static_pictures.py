"""The static picture and text of the widgets that need no model."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from zoo_lessons.lab.widgets import (
    PositionExplorer,
    RoPERotor,
    ScheduleExplorer,
    SoftmaxPlayground,
    ZooMap,
)

WIDGETS = [PositionExplorer, RoPERotor, ScheduleExplorer, SoftmaxPlayground, ZooMap]


@pytest.mark.parametrize("kind", WIDGETS, ids=lambda kind: kind.__name__)
def test_two_widgets_give_the_same_bytes(kind):
    first, second = kind()._repr_mimebundle_()[0], kind()._repr_mimebundle_()[0]
    assert first["image/png"] == second["image/png"]
    assert first["text/plain"] == second["text/plain"]
    assert not re.search(r"0x[0-9a-f]{6}|object at", first["text/plain"])


@pytest.mark.parametrize("kind", WIDGETS, ids=lambda kind: kind.__name__)
def test_picture_is_a_drawing_of_reasonable_size(kind):
    data = kind().static_png()
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert len(data) < 120_000
    assert 700 <= picture.shape[1] <= 1000
    assert 0.01 < (picture < 200).mean() < 0.7


@pytest.mark.parametrize(
    ("kind", "traits"),
    [
        (SoftmaxPlayground, {"d_k": 512}),
        (RoPERotor, {"m": 90}),
        (RoPERotor, {"vectors": "random"}),
        (ScheduleExplorer, {"schedule": "warmup_linear"}),
        (PositionExplorer, {"base": 10}),
    ],
)
def test_picture_follows_the_state(kind, traits):
    assert kind(**traits).static_png() != kind().static_png()
    assert kind(**traits).static_text() != kind().static_text()
