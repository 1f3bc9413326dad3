"""State-space explorer: its Python side against the library and a fine integration."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from zoo_lessons.lab.widgets import StateSpaceExplorer
from zoo_lessons.layers.ssm import discretise, scan_loop


@pytest.mark.parametrize(("method", "ours"), [("zoh", "zoh"), ("mamba", "euler")])
def test_discretisation_is_the_librarys(method, ours):
    widget = StateSpaceExplorer(delta=0.7, decay=2.0, method=method)
    numbers = (torch.tensor(value).double() for value in (0.7, -2.0, 1.0))
    expected = [value.item() for value in discretise(*numbers, method=ours)]
    assert list(widget.discrete()) == pytest.approx(expected)


@pytest.mark.parametrize("signal", ["impulse", "constant"])
def test_response_is_the_librarys_scan(signal):
    widget = StateSpaceExplorer(delta=0.3, decay=0.5, signal=signal)
    A_bar, B_bar = (complex(value).real for value in widget.discrete())
    x = torch.full((1, 40), B_bar).double()
    if signal == "impulse":
        x[:, 1:] = 0
    states = scan_loop(torch.full_like(x, A_bar), x)
    np.testing.assert_allclose(widget.response(), [0, *states[0].tolist()], rtol=1e-6)


@pytest.mark.parametrize("signal", ["impulse", "constant"])
def test_exact_solves_the_differential_equation(signal):
    widget = StateSpaceExplorer(delta=0.5, decay=0.3, frequency=2.0, signal=signal)
    A, h, fine = complex(-0.3, 2.0), 0j, 20_000
    for step in range(3 * fine):
        h += 0.5 / fine * (A * h + (signal == "constant" or step < fine))
    assert widget.exact(np.array([3.0]))[0] == pytest.approx(h.real, abs=1e-4)


@pytest.mark.parametrize("signal", ["impulse", "constant"])
def test_zero_order_hold_is_exact_and_the_others_are_not(signal):
    options = {"delta": 0.5, "decay": 1.0, "frequency": 1.5, "signal": signal}
    exact = StateSpaceExplorer(**options).exact(np.arange(41))
    errors = {
        method: np.abs(StateSpaceExplorer(method=method, **options).response() - exact).max()
        for method in ("zoh", "mamba", "euler")
    }
    assert errors["zoh"] < 1e-12
    assert min(errors["mamba"], errors["euler"]) > 0.01


def test_eulers_method_can_grow_where_the_state_fades():
    widget = StateSpaceExplorer(delta=1.5, decay=2.0, method="euler")
    assert abs(widget.discrete()[0]) > 1
    assert np.abs(widget.response()[-1]) > 1000
    assert abs(StateSpaceExplorer(delta=1.5, decay=2.0).discrete()[0]) < 1


def test_static_picture_and_text():
    first, second = (StateSpaceExplorer()._repr_mimebundle_()[0] for _ in range(2))
    assert first["image/png"] == second["image/png"]
    assert first["text/plain"] == second["text/plain"]
    assert not re.search(r"0x[0-9a-f]{6}|object at", first["text/plain"])
    data = StateSpaceExplorer(frequency=3.0).static_png()
    assert data != StateSpaceExplorer().static_png()
    picture = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    assert len(data) < 120_000
    assert 700 <= picture.shape[1] <= 1000


@pytest.mark.parametrize(
    "bad", [{"delta": 0.12}, {"decay": -1.0}, {"frequency": 7.0}, {"method": "rk4"}, {"step": 41}]
)
def test_other_values_are_refused(bad):
    with pytest.raises(traitlets.TraitError):
        StateSpaceExplorer(**bad)
