"""Each of the three statements of C30 can hold or fail, and the verdict follows."""

from __future__ import annotations

import pytest

from experiments.c30_three_models import (
    CLAIMED,
    gain_of_mobilevit,
    gain_of_pretraining,
    judge,
    modalities,
)

GOOD, BAD = ({"mean": 0.1, "low": low, "high": 0.3} for low in (0.02, -0.1))


def figures(mobilevit=GOOD, mae=GOOD, kinds=3):
    return {
        "mobilevit_gain": mobilevit,
        "mae_gain": mae,
        "labels": 10,
        "modalities": ["kind"] * kinds,
    }


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        (figures(), "partly"),
        (figures(mobilevit=BAD), "partly"),
        (figures(BAD, BAD), "the article is wrong"),
        (figures(kinds=CLAIMED), "reproduced"),
        (figures(BAD, BAD, CLAIMED), "partly"),
    ],
)
def test_verdict(found, verdict):
    assert judge(found).verdict == verdict


def test_explanation_names_what_holds():
    text = judge(figures(mobilevit=BAD)).explanation
    assert "these hold: MAE; these do not: MobileViT, Flamingo" in text
    assert "these hold: none" in judge(figures(BAD, BAD)).explanation


def test_flamingo_takes_three():
    assert modalities() == ["text", "images", "video"]


def test_gains_are_paired_by_seed():
    relatives = {"accuracy": {"MobileViT": [[0, 0], [0.8, 0.6]], "ViT": [[1, 1], [0.7, 0.5]]}}
    assert gain_of_mobilevit(relatives) == pytest.approx({"mean": 0.1, "low": 0.1, "high": 0.1})
    rows = {"after MAE": [[0.5, 0.9], [0.7, 0.9]], "untrained MAE": [[0.4, 0.9], [0.2, 0.9]]}
    found = gain_of_pretraining({"accuracy": rows})
    assert found["mean"] == 0.3 and found["low"] < 0 < found["high"]
