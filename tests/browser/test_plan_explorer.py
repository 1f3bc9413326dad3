"""The plan explorer in a browser: its verdicts are Python's, and its sliders work by keyboard."""

from __future__ import annotations

from typing import Any

import pytest

from tests.browser.widget_page import PICTURES, WidgetPage, assert_well_behaved, open_widget, settle
from tests.lab.widgets.test_plan_explorer import explorer


def slider(shown: WidgetPage, label: str) -> Any:
    field = shown.page.locator("label.zoo-field").filter(
        has=shown.page.get_by_text(label, exact=True)
    )
    return field.locator("input")


def assert_shows_state(shown: WidgetPage) -> None:
    widget, rows = shown.widget, shown.root.locator("tbody tr")
    for number, plan in enumerate(widget.plans):
        row = rows.nth(number)
        assert row.locator("td").filter(has_text="✗").count() == len(widget.misses(plan))
        assert ("px-kept" in (row.get_attribute("class") or "")) == (not widget.misses(plan))
    kept = widget.kept()
    assert shown.readout().startswith(f"{len(kept)} of" if kept else "None of")
    assert all(name in shown.readout() for name in kept)


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, explorer(), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


def test_limits_by_keyboard(browser):
    with open_widget(browser, explorer()) as shown:
        assert_shows_state(shown)
        for label, name, key, kept in (
            ("file ≤", "kilobytes", "End", 3),
            ("p99 ≤", "p99", "End", 3),
            ("throughput ≥", "throughput", "Home", 4),
            ("accuracy ≥", "accuracy", "ArrowRight", 3),
            ("file ≤", "kilobytes", "Home", 0),
        ):
            before = shown.root.locator("canvas").evaluate_all(PICTURES)
            slider(shown, label).press(key)
            settle(shown)
            assert shown.widget.limits[name] == float(slider(shown, label).input_value())
            assert len(shown.widget.kept()) == kept
            assert_shows_state(shown)
            assert shown.root.locator("canvas").evaluate_all(PICTURES) != before or name in (
                "throughput",
                "kilobytes",
            )
        assert shown.problems == []


def test_python_moves_the_page(browser):
    with open_widget(browser, explorer()) as shown:
        shown.set(limits={"accuracy": 0.965, "p99": 1.0, "throughput": 1.0, "kilobytes": 800.0})
        shown.frame()
        assert shown.widget.kept() == ["committee"]
        assert_shows_state(shown)
        assert slider(shown, "accuracy ≥").input_value() == "0.965"
