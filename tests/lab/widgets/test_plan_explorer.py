"""Plan explorer: which plans keep the limits, its sliders' ranges, its picture and text."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from zoo_lessons.lab.widgets import PlanExplorer

LIMITS = {"accuracy": 0.95, "p99": 0.25, "throughput": 8, "kilobytes": 100}


def plan(name: str, accuracy: float, p99: float, throughput: float, kilobytes: float) -> dict:
    return {"name": name, "accuracy": accuracy, "p99": p99, "throughput": throughput,
            "kilobytes": kilobytes, "interval": [accuracy - 0.02, accuracy + 0.02]}  # fmt: skip


def plans() -> list[dict]:
    return [
        plan("ViT", 0.91, 0.18, 13, 240),
        plan("CNN", 0.96, 0.06, 20, 238),
        plan("small CNN", 0.955, 0.03, 70, 66),
        plan("on the line", 0.95, 0.25, 8, 100),
        plan("committee", 0.97, 0.30, 5, 715),
    ]


def explorer(**options) -> PlanExplorer:
    return PlanExplorer(plans(), {**LIMITS, **options})


def test_kept_and_missed():
    widget = explorer()
    assert widget.kept() == ["small CNN", "on the line"]
    assert [widget.misses(one) for one in widget.plans] == [
        ["accuracy", "kilobytes"], ["kilobytes"], [], [], ["p99", "throughput", "kilobytes"],
    ]  # fmt: skip
    assert explorer(kilobytes=1000, p99=1, throughput=1, accuracy=0.97).kept() == ["committee"]
    assert explorer(accuracy=0.99).kept() == []


def test_sliders_reach_past_all_plans():
    for name, (low, high, step) in explorer().ranges.items():
        values = [one[name] for one in plans()] + [LIMITS[name]]
        assert low <= min(values) and max(values) <= high
        assert (LIMITS[name] - low) / step == pytest.approx(round((LIMITS[name] - low) / step))


def test_picture_and_text():
    first, second = explorer()._repr_mimebundle_()[0], explorer()._repr_mimebundle_()[0]
    assert first["image/png"] == second["image/png"]
    assert first["text/plain"].endswith("Kept by: small CNN; on the line")
    assert "Kept by: none" in explorer(accuracy=0.99).static_text()
    data = explorer().static_png()
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert len(data) < 120_000 and 700 <= picture.shape[1] <= 1000
    assert 0.01 < (picture < 200).mean() < 0.7
    assert explorer(accuracy=0.99).static_png() != data


def test_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="plans is empty"):
        PlanExplorer([], LIMITS)
    with pytest.raises(ValueError, match="limits has no kilobytes"):
        PlanExplorer(plans(), {k: v for k, v in LIMITS.items() if k != "kilobytes"})
    with pytest.raises(ValueError, match="'bad': p99 must be above 0"):
        PlanExplorer([plan("bad", 0.9, 0, 1, 1)], LIMITS)
