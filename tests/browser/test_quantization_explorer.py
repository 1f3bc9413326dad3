"""The quantization explorer in a browser: its errors are Python's, and its controls."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.browser.widget_page import PICTURES, WidgetPage, assert_well_behaved, open_widget, settle
from tests.lab.widgets.test_quantization_explorer import BITS, explorer
from zoo_lessons.lab.widgets.quantization_explorer import BINS, GRANULARITIES, HIGHEST, LOWEST


def control(shown: WidgetPage, label: str) -> Any:
    field = shown.page.locator("label.zoo-field").filter(
        has=shown.page.get_by_text(label, exact=True)
    )
    return field.locator("input, select")


def assert_readout(shown: WidgetPage) -> None:
    facts, text = shown.widget.facts(), shown.readout()
    found = [float(value) for value in re.findall(r"([\d.]+) %", text)]
    expected = [100 * facts["error"], 100 * facts["zeros"], 100 * facts["accuracy"]]
    assert found[0] == pytest.approx(expected[0], rel=0.06)
    assert found[1] == pytest.approx(expected[1], abs=0.51)
    assert found[2] == pytest.approx(expected[2], abs=0.051)
    assert text.startswith(f"{shown.widget.bits} bits, ")


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, explorer(), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


def test_errors_are_pythons(browser):
    settings = [
        {"bits": bits, "granularity": kind, "symmetric": even, "groupSize": 32}
        for bits in BITS
        for kind in GRANULARITIES
        for even in (True, False)
    ]
    widget = explorer(of="inputs")
    x = widget._matrices["inputs"].astype(float)
    with open_widget(browser, widget) as shown:
        found = shown.page.evaluate(
            """async ([esm, x, columns, settings, bins]) => {
                const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
                const { measured } = (await import(url)).default;
                return settings.map((one) => {
                    const { error, zeros, shares } = measured(x, columns, one, bins);
                    return [error, zeros, [...shares]];
                });
            }""",
            [widget._esm, x.ravel().tolist(), 64, settings, [BINS, LOWEST, HIGHEST]],
        )
    for setting, (error, zeros, shares) in zip(settings, found, strict=True):
        widget.set_trait("bits", setting["bits"])
        widget.set_trait("granularity", setting["granularity"])
        widget.set_trait("symmetric", setting["symmetric"])
        assert error == pytest.approx(widget.facts()["error"], rel=1e-9)
        assert zeros == pytest.approx(widget.facts()["zeros"])
        np.testing.assert_allclose(shares, widget.histogram(), atol=2e-3)


def test_controls_move_the_state(browser):
    with open_widget(browser, explorer()) as shown:
        assert_readout(shown)
        for key, expected in (("Home", 2), ("ArrowRight", 4), ("End", 8)):
            control(shown, "bits").press(key)
            settle(shown)
            assert shown.widget.bits == expected
            assert_readout(shown)
        for value in GRANULARITIES:
            control(shown, "grids").select_option(value)
            settle(shown)
            assert shown.widget.granularity == value
            assert_readout(shown)
        control(shown, "round the").select_option("inputs")
        control(shown, "symmetric").uncheck()
        settle(shown)
        assert (shown.widget.of, shown.widget.symmetric) == ("inputs", False)
        assert_readout(shown)
        assert shown.problems == []


def test_python_moves_the_page(browser):
    with open_widget(browser, explorer()) as shown:
        before = shown.root.locator("canvas").evaluate_all(PICTURES)
        shown.set(of="inputs", bits=2, granularity="group", symmetric=False)
        shown.frame()
        assert_readout(shown)
        after = shown.root.locator("canvas").evaluate_all(PICTURES)
        assert all(one != other for one, other in zip(before, after, strict=True))
        assert control(shown, "bits").input_value() == "0"
