"""The service dashboard in a browser: it follows new readings, and reads out a chosen one."""

from __future__ import annotations

import pytest

from tests.browser.widget_page import PICTURES, assert_well_behaved, open_widget, settle
from tests.lab.widgets.test_service_dashboard import readings
from zoo_lessons.lab.widgets import ServiceDashboard

MARKS = [{"time": 5.0, "text": "replica killed"}]


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(
        browser, ServiceDashboard(readings(30), MARKS), theme=theme, width=width
    ) as shown:
        assert_well_behaved(shown)


def test_the_slider_reads_out_a_reading(browser):
    with open_widget(browser, ServiceDashboard(readings(30), MARKS)) as shown:
        slider = shown.page.locator("input[type=range]")
        slider.focus()
        slider.press("Home")
        settle(shown)
        assert shown.readout().startswith("Second 0.0: 40 answers and 0 errors per second")
        for _ in range(13):
            slider.press("ArrowRight")
        settle(shown)
        assert "nobody was answered" in shown.readout()


def test_it_starts_empty_and_follows_what_comes(browser):
    with open_widget(browser, ServiceDashboard()) as shown:
        assert shown.readout() == "No readings yet."
        before = shown.root.locator("canvas").evaluate_all(PICTURES)
        shown.page.evaluate(
            "rows => window.model.receive({ state: { rows }, messages: [] })", readings(20)
        )
        settle(shown)
        assert shown.root.locator("canvas").evaluate_all(PICTURES) != before
        assert shown.page.locator("input[type=range]").get_attribute("max") == "19"
        assert "Second 9.5" in shown.readout()
