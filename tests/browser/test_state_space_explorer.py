"""The state-space explorer in a browser: its numbers are Python's, its controls and its cursor."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.browser.widget_page import PICTURES, WidgetPage, assert_well_behaved, open_widget, settle
from zoo_lessons.lab.widgets import StateSpaceExplorer
from zoo_lessons.lab.widgets.state_space_explorer import METHODS, SIGNALS, STEPS


def control(shown: WidgetPage, label: str) -> Any:
    field = shown.page.locator("label.zoo-field").filter(
        has=shown.page.get_by_text(label, exact=True)
    )
    return field.locator("input, select")


def assert_readout(shown: WidgetPage) -> None:
    widget = shown.widget
    A_bar, B_bar = widget.discrete()
    text = shown.readout().replace("−", "-")
    assert float(re.search(r"\|Ā\| = ([\d.]+):", text)[1]) == pytest.approx(abs(A_bar), abs=6e-4)
    assert float(re.search(r"B̄ = (-?[\d.]+\d)", text)[1]) == pytest.approx(B_bar.real, abs=6e-4)
    found = re.search(r"output is (\S+), exactly it would be (\S+)\.$", text)
    expected = [widget.response()[widget.step], widget.exact(np.array([widget.step]))[0]]
    assert [float(value) for value in found.groups()] == pytest.approx(expected, abs=6e-5, rel=6e-3)
    assert ("grows without bound" in text) == (abs(A_bar) > 1 + 1e-9)


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, StateSpaceExplorer(), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


def test_responses_are_pythons(browser):
    cases = [
        {"delta": delta, "decay": decay, "frequency": frequency, "method": method, "signal": signal}
        for delta, decay, frequency in ((0.1, 1.0, 0.0), (1.5, 2.0, 0.0), (0.3, 0.05, 6.0))
        for method in METHODS
        for signal in SIGNALS
    ]
    steps = [0, 0.25, 1, 1.5, 7, 40]
    with open_widget(browser, StateSpaceExplorer()) as shown:
        found = shown.page.evaluate(
            """async ([esm, cases, steps, count]) => {
                const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
                const { response, exact } = (await import(url)).default;
                return cases.map((one) =>
                    [response(one, count), steps.map((at) => exact(one, at))]);
            }""",
            [shown.widget._esm, cases, steps, STEPS],
        )
    for options, (response, exact) in zip(cases, found, strict=True):
        widget = StateSpaceExplorer(**options)
        np.testing.assert_allclose(response, widget.response(), rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(exact, widget.exact(np.array(steps)), rtol=1e-9, atol=1e-12)


def test_controls_move_the_state(browser):
    with open_widget(browser, StateSpaceExplorer()) as shown:
        assert_readout(shown)
        for label, key, name, expected in (
            ("step length Δ", "ArrowRight", "delta", 0.15),
            ("step length Δ", "End", "delta", 3.0),
            ("decay −Re A", "Home", "decay", 0.05),
            ("decay −Re A", "End", "decay", 8.0),
            ("frequency Im A", "ArrowRight", "frequency", 0.25),
            ("frequency Im A", "End", "frequency", 6.0),
        ):
            control(shown, label).press(key)
            settle(shown)
            assert getattr(shown.widget, name) == expected
            assert_readout(shown)
        for label, name, values in (
            ("input", "signal", SIGNALS),
            ("discretisation", "method", METHODS),
        ):
            for value in values:
                control(shown, label).select_option(value)
                settle(shown)
                assert getattr(shown.widget, name) == value
                assert_readout(shown)
        assert "grows without bound" in shown.readout()  # Euler's method with a long step
        shown.set(method="zoh")
        settle(shown)
        assert "a step forgets everything" in shown.readout()
        assert shown.problems == []


def test_cursor_by_keys_and_pointer(browser):
    with open_widget(browser, StateSpaceExplorer(frequency=3.0)) as shown:
        canvas = shown.root.locator("canvas[role='slider']")
        canvas.focus()
        for key, expected in (("ArrowRight", 11), ("PageUp", 16), ("Home", 0), ("End", STEPS)):
            canvas.press(key)
            settle(shown)
            assert shown.widget.step == expected
            assert canvas.get_attribute("aria-valuenow") == str(expected)
            assert_readout(shown)
        box = canvas.bounding_box()
        canvas.hover(position={"x": 58 + (box["width"] - 58 - 16) * 0.5, "y": 150})
        settle(shown)
        assert shown.widget.step == STEPS // 2


def test_python_moves_the_page(browser):
    with open_widget(browser, StateSpaceExplorer()) as shown:
        before = shown.root.locator("canvas").evaluate_all(PICTURES)
        shown.set(delta=0.5, frequency=2.0, signal="constant", step=3)
        shown.frame()
        assert_readout(shown)
        after = shown.root.locator("canvas").evaluate_all(PICTURES)
        assert all(one != other for one, other in zip(before, after, strict=True))
        assert control(shown, "frequency Im A").input_value() == "2"
