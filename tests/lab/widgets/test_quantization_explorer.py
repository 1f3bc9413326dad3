"""Quantization explorer: its rounding against the library's, its figures, its picture."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from zoo_lessons.deploy.quantize import quantize_matrix
from zoo_lessons.lab.widgets import QuantizationExplorer
from zoo_lessons.lab.widgets.quantization_explorer import BINS, GRANULARITIES, rounded

BITS = (2, 4, 8)


def numbers() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(9, 64))
    inputs[:, 5] = 30
    return {"weights": 0.1 * draw.normal(size=(12, 64)), "inputs": inputs + 0.5}


def quality() -> list[dict]:
    return [
        {"of": of, "granularity": kind, "symmetric": even, "bits": bits,
         "accuracy": [0.1 * bits / 2 + 0.01 * place, 0.1 * bits / 2]}
        for of in ("weights", "inputs")
        for place, kind in enumerate(GRANULARITIES)
        for even in (True, False)
        for bits in BITS
    ]  # fmt: skip


def explorer(**options) -> QuantizationExplorer:
    return QuantizationExplorer(numbers(), quality(), reference=0.45, guessing=0.1, **options)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("granularity", GRANULARITIES)
@pytest.mark.parametrize("bits", BITS)
def test_rounding_is_the_librarys(bits, granularity, symmetric):
    x = numbers()["inputs"] * np.linspace(0.1, 3, 9)[:, None]
    theirs = quantize_matrix(
        torch.from_numpy(x), bits, granularity, group_size=16, symmetric=symmetric
    ).dequantize()
    np.testing.assert_allclose(rounded(x, bits, granularity, symmetric, 16), theirs, atol=1e-12)


def test_figures_of_the_setting():
    widget = explorer(of="inputs", bits=4, granularity="channel")
    x = numbers()["inputs"].astype(np.float32).astype(float)
    errors = widget.errors()
    assert widget.facts()["error"] == pytest.approx(np.sqrt((errors**2).mean()) / x.std())
    assert widget.facts()["accuracy"] == pytest.approx(0.205)  # the mean of the list
    shares = widget.histogram()
    assert shares.shape == (BINS,)
    assert shares.sum() == pytest.approx(1)


def test_each_bit_moves_the_hill():
    centres = []
    for bits in BITS:
        shares = explorer(bits=bits, granularity="channel").histogram()
        centres.append((shares * np.arange(BINS)).sum())
    assert centres[0] > centres[1] > centres[2]


def test_an_outlier_costs_more_than_its_row_does():
    zeros = {
        kind: explorer(of="inputs", bits=4, granularity=kind).facts()["zeros"]
        for kind in GRANULARITIES
    }
    assert zeros["tensor"] >= zeros["channel"] > zeros["group"]


def test_static_picture_and_text():
    first, second = (explorer()._repr_mimebundle_()[0] for _ in range(2))
    assert first["image/png"] == second["image/png"]
    assert first["text/plain"] == second["text/plain"]
    assert "accuracy 40.0 % (float32: 45.0 %)" in first["text/plain"]
    assert not re.search(r"0x[0-9a-f]{6}|object at", first["text/plain"])
    data = explorer(bits=2).static_png()
    assert data != explorer().static_png()
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert len(data) < 120_000
    assert 700 <= picture.shape[1] <= 1000


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"group_size": 48}, ValueError, "divisible by group_size=48"),
        ({"of": "biases"}, ValueError, "of='biases'"),
        ({"bits": 3}, ValueError, "bits=3"),
        ({"granularity": "row"}, traitlets.TraitError, "granularity"),
    ],
)
def test_other_values_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        explorer(**options)


def test_a_setting_without_quality_is_refused():
    with pytest.raises(ValueError, match=r"no quality for \['inputs\|group\|0\|8'\], 1 settings"):
        QuantizationExplorer(numbers(), quality()[:-1], reference=0.4, guessing=0.1)
