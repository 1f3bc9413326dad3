"""Position explorer: what it accepts, what it sends to the browser, what its picture says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import PositionExplorer
from zoo_lessons.layers.positions import LearnedPositions, RelativePositionBias


def sent(widget: PositionExplorer, name: str) -> np.ndarray:
    """The array as the script will read it."""
    entry = next(a for a in widget._arrays if a["name"] == name)
    size = int(np.prod(entry["shape"]))
    values = np.frombuffer(widget._values, "<f4")[entry["start"] : entry["start"] + size]
    return values.reshape(entry["shape"])


def test_arrays_reach_the_browser_unchanged():
    table = LearnedPositions(20, 8).weight
    bias = RelativePositionBias(3)(12, 15)
    flat = np.arange(6.0).reshape(2, 3)
    widget = PositionExplorer({"learned": table}, {"T5": bias, "flat": flat})
    np.testing.assert_array_equal(sent(widget, "learned")[0], table.detach().numpy())
    np.testing.assert_array_equal(sent(widget, "T5"), bias[0].detach().numpy())
    np.testing.assert_array_equal(sent(widget, "flat")[0], flat)


def test_short_arrays_move_the_defaults_inside():
    widget = PositionExplorer({"learned": np.zeros((3, 4))}, source="learned")
    assert (widget.position, widget.pair) == (2, 1)
    widget = PositionExplorer(biases={"b": np.zeros((2, 5, 5))}, source="b", head=1)
    assert (widget.position, widget.head) == (4, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tables": {"t": np.zeros((4, 3))}}, r"table 't' has shape \(4, 3\), expected"),
        ({"tables": {"t": np.zeros((1, 4, 4))}}, "expected .length, an even d_model"),
        ({"tables": {"t": np.zeros((0, 4))}}, "table 't'"),
        ({"biases": {"b": np.zeros((2, 3, 4, 4))}}, r"bias 'b' has shape \(2, 3, 4, 4\)"),
        ({"biases": {"b": np.zeros(4)}}, "bias 'b'"),
        ({"tables": {"t": np.full((4, 4), np.nan)}}, "NaN or infinite"),
        ({"tables": {"x": np.ones((4, 4))}, "biases": {"x": np.ones((4, 4))}}, "'x' is taken"),
        ({"tables": {"sinusoidal": np.ones((4, 4))}}, "'sinusoidal' is taken"),
        ({"source": "rotary"}, "source='rotary' must be one of: sinusoidal"),
        ({"position": 64}, "position=64 must be below 64"),
        ({"pair": 32}, "pair=32 must be below 32"),
        ({"head": 1}, "head=1 must be below 1"),
    ],
)
def test_errors_say_what_came_and_what_was_expected(arguments, message):
    with pytest.raises(ValueError, match=message):
        PositionExplorer(**arguments)


@pytest.mark.parametrize("bad", [{"length": 17}, {"d_model": 7}, {"base": 9}, {"view": "map"}])
def test_other_values_are_refused(bad):
    with pytest.raises(traitlets.TraitError):
        PositionExplorer(**bad)


def test_text_names_what_is_on_show():
    assert "64 positions x 64 dimensions, base 10000; pair 4" in PositionExplorer().static_text()
    widget = PositionExplorer(biases={"T5": torch.zeros(1, 4, 30, 40)}, source="T5")
    assert "4 heads for 30 queries and 40 keys" in widget.static_text()


def test_each_view_has_its_own_picture():
    bias = {"T5": np.arange(36.0).reshape(6, 6)}
    pictures = [
        PositionExplorer().static_png(),
        PositionExplorer(view="products").static_png(),
        PositionExplorer(position=3).static_png(),
        PositionExplorer(biases=bias, source="T5").static_png(),
    ]
    assert len(set(pictures)) == len(pictures)
