"""The online-softmax explorer in a browser: numbers as in Python, controls and cursor."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.browser.widget_page import PICTURES, WidgetPage, assert_well_behaved, open_widget, settle
from zoo_lessons.lab.widgets import OnlineSoftmaxExplorer
from zoo_lessons.lab.widgets.online_softmax_explorer import KINDS, NUM_KEYS


def control(shown: WidgetPage, label: str) -> Any:
    field = shown.page.locator("label.zoo-field").filter(
        has=shown.page.get_by_text(label, exact=True)
    )
    return field.locator("input, select")


def assert_readout(shown: WidgetPage) -> None:
    widget = shown.widget
    states = widget.states(widget.rescale)
    done = min(widget.step, len(states) - 1)
    text = shown.readout()
    if done == 0:
        assert text.startswith("No block was read")
        return
    assert f"After {done} of {len(states) - 1} blocks" in text
    found = re.search(r"maximum (-?[\d.]+), sum (-?[\d.]+), output (-?[\d.]+)\.", text)
    state = states[done]
    expected = [state.maximum, state.total, state.output]
    assert [float(value) for value in found.groups()] == pytest.approx(expected, abs=6e-4)
    if done == len(states) - 1:
        assert ("This is exact" in text) == (abs(state.output - widget.exact()) < 1e-9)


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, OnlineSoftmaxExplorer(), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


def test_states_are_pythons(browser):
    cases = [
        {"kind": kind, "seed": seed, "block": block, "rescale": rescale}
        for kind in KINDS
        for seed, block in ((1, 4), (7, 5), (20, 16))
        for rescale in (True, False)
    ]
    with open_widget(browser, OnlineSoftmaxExplorer()) as shown:
        found = shown.page.evaluate(
            """async ([esm, cases, count]) => {
                const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
                const { scoresAndValues, statesOf } = (await import(url)).default;
                return cases.map((one) => {
                    const states = statesOf(scoresAndValues(one, count), one.block, one.rescale);
                    return states.slice(1).map((s) => [s.maximum, s.total, s.weighted]);
                });
            }""",
            [shown.widget._esm, cases, NUM_KEYS],
        )
    for options, states in zip(cases, found, strict=True):
        expected = OnlineSoftmaxExplorer(**options).states(options["rescale"])[1:]
        np.testing.assert_allclose(states, [list(state) for state in expected], rtol=1e-9)


def test_controls_move_the_state(browser):
    with open_widget(browser, OnlineSoftmaxExplorer()) as shown:
        assert_readout(shown)
        for label, key, name, expected in (
            ("blocks read", "ArrowRight", "step", 3),
            ("blocks read", "Home", "step", 0),
            ("blocks read", "End", "step", 4),
            ("keys in a block", "ArrowRight", "block", 5),
            ("random draw", "ArrowRight", "seed", 2),
        ):
            control(shown, label).press(key)
            settle(shown)
            assert getattr(shown.widget, name) == expected
            assert_readout(shown)
        for kind in KINDS:
            control(shown, "scores").select_option(kind)
            settle(shown)
            assert shown.widget.kind == kind
            assert_readout(shown)
        control(shown, "scores").select_option("rising")
        control(shown, "rescale").press("Space")
        settle(shown)
        assert shown.widget.rescale is False
        assert "It should be" in shown.readout()
        assert_readout(shown)
        assert shown.problems == []


def test_cursor_by_keys(browser):
    with open_widget(browser, OnlineSoftmaxExplorer()) as shown:
        canvas = shown.root.locator("canvas[role='slider']")
        canvas.focus()
        for key, expected in (("ArrowRight", 3), ("Home", 0), ("End", 4), ("ArrowLeft", 3)):
            canvas.press(key)
            settle(shown)
            assert shown.widget.step == expected
            assert canvas.get_attribute("aria-valuenow") == str(expected)
            assert_readout(shown)


def test_python_moves_the_page(browser):
    with open_widget(browser, OnlineSoftmaxExplorer()) as shown:
        before = shown.root.locator("canvas").evaluate_all(PICTURES)
        shown.set(kind="one large", block=3, step=4)
        shown.frame()
        assert_readout(shown)
        after = shown.root.locator("canvas").evaluate_all(PICTURES)
        assert all(one != other for one, other in zip(before, after, strict=True))
        assert control(shown, "keys in a block").input_value() == "3"
