"""How many bits MiniLM needs: the roundings do what they say, the record has every setting."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.quantization_quality import (
    BITS,
    CALIBRATED,
    TOKENS,
    calibration_batches,
    rounded_inputs,
    rounded_weights,
)
from zoo_lessons.deploy.quantize import CALIBRATIONS, GRANULARITIES
from zoo_lessons.records import load_record


def test_rounded_weights_leave_the_model_alone():
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    before = model[0].weight.clone()
    made = rounded_weights(model, torch.round)
    assert torch.equal(model[0].weight, before)
    assert torch.equal(made[0].weight, before.round())
    assert torch.equal(made[2].bias, model[2].bias)


def test_inputs_are_rounded_inside_the_block_only():
    model = nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))
    x = 3 * torch.randn(2, 5, 4)
    with rounded_inputs(model, torch.round):
        found = model(x)
    assert torch.equal(found, model[1](model[0](x.round()).round()))
    assert not torch.equal(model(x), found)


@pytest.mark.parametrize("passages", [1, 24])
def test_calibration_batches(passages):
    batches = calibration_batches(passages)
    assert sum(len(batch["input_ids"]) for batch in batches) == passages
    for batch in batches:
        assert batch["input_ids"].shape == batch["attention_mask"].shape
        assert batch["input_ids"].shape[1] == TOKENS
        assert batch["attention_mask"].sum(dim=1).min() > 2


def test_record_holds_every_setting():
    figures = load_record("quantization_quality")["figures"]
    settings = {(r["of"], r["granularity"], r["symmetric"], r["bits"]) for r in figures["grid"]}
    assert len(settings) == len(figures["grid"]) == 2 * len(GRANULARITIES) * 2 * len(BITS)
    assert figures["ways"]["float32"]["agreement"] == [1.0] * figures["seeds"]
    assert list(figures["calibration"]) == list(CALIBRATIONS)
    for rows in figures["calibration"].values():
        assert [row["passages"] for row in rows] == list(CALIBRATED)
    # 96 passages are what "ways" calibrates with
    for method in CALIBRATIONS:
        same = figures["ways"][f"static, {method}"]["accuracy"]
        assert figures["calibration"][method][-1]["accuracy"] == same
