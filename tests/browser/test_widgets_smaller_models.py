"""The temperature and the patience explorer in a browser: numbers, controls, keys, themes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.widget_page import open_widget
from zoo_lessons.lab.widgets import PatienceExplorer, TemperatureExplorer
from zoo_lessons.lab.widgets.patience_explorer import exit_layers
from zoo_lessons.lab.widgets.temperature_explorer import soft_statistics

CLASSES = ["drawing", "machine learning", "internet"]
TEACHER, STUDENT = [[4.0, 1.0, -2.0], [0.0, 0.5, 0.2]], [[0.5, 1.5, 0.0], [2.0, -1.0, 0.0]]


def temperature():
    return TemperatureExplorer(
        CLASSES, TEACHER, STUDENT, names=["A short text.", "words " * 60], truth=[0, 2]
    )


def patience():
    rng = np.random.default_rng(0)
    labels = rng.integers(3, size=30)
    found = np.where(rng.random((6, 30)) < 0.6, labels, rng.integers(3, size=(6, 30)))
    names = [f"Passage number {i}, with some words in it" for i in range(30)]
    return PatienceExplorer(found, labels, CLASSES, rng.random((6, 30)), names=names)


both = pytest.mark.parametrize("build", [temperature, patience], ids=["temperature", "patience"])


@both
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 560])
def test_it_fits_is_accessible_and_asks_nobody(browser, build, theme, width):
    with open_widget(browser, build(), theme=theme, width=width) as shown:
        assert shown.accessibility_violations() == []
        assert shown.layout_problems() == []
        assert shown.problems == []
        assert shown.requests == []


@both
def test_keys_stay_and_listeners_go(browser, build):
    with open_widget(browser, build()) as shown:
        assert shown.keys_that_escape("x", "ArrowRight", "a") == []
        assert shown.listeners_left() == 0


def test_the_temperature_slider_moves_bars_and_gradient(browser):
    with open_widget(browser, temperature()) as shown:
        slider = shown.page.get_by_label("temperature T")
        for _ in range(8):
            slider.press("ArrowRight")
        shown.wait_until_saved()
        heat = shown.widget.temperature
        assert heat > 1.4
        divergence, gradient = soft_statistics(np.array(STUDENT[0]), np.array(TEACHER[0]), heat)
        assert f"Gradient {gradient:.3f}, times T² {gradient * heat**2:.3f}" in shown.readout()
        assert f"{divergence:.4f}" in shown.root.inner_text()
        assert "drawing (right)" in shown.root.inner_text()
        shown.page.get_by_label("example").press("ArrowRight")
        shown.wait_until_saved()
        assert shown.widget.example == 1
        assert "internet (right)" in shown.root.inner_text()


def test_python_moves_the_temperature(browser):
    with open_widget(browser, temperature()) as shown:
        shown.set(temperature=20.0)
        shown.frame()
        assert shown.readout().startswith("Temperature 20")
        assert shown.page.get_by_label("temperature T").get_attribute("aria-valuetext") == "20"


@pytest.mark.parametrize("rule", [1, 3, 6])
def test_the_patience_slider_moves_the_exits(browser, rule):
    widget = patience()
    used, right = widget.trade()
    with open_widget(browser, widget) as shown:
        slider = shown.page.get_by_label("patience", exact=False).first
        slider.press("Home")
        for _ in range(rule - 1):
            slider.press("ArrowRight")
        shown.wait_until_saved()
        shown.frame()
        assert widget.patience == rule
        assert f"{100 * right[rule - 1]:.1f} % right with {used[rule - 1]:.2f} of 6" in (
            shown.readout()
        )
        left = exit_layers(np.array(widget.predictions), rule)
        rows = shown.root.locator("tbody tr")
        assert rows.count() == widget.rows
        for i in range(widget.rows):
            cells = rows.nth(i).locator("td")
            assert "pe-leaves" in cells.nth(int(left[i])).get_attribute("class")
        counts = shown.root.locator(".pe-counts li > :last-child").all_inner_texts()
        assert [int(count) for count in counts] == np.bincount(left, minlength=7)[1:].tolist()


def test_only_the_wrong_ones(browser):
    widget = patience()
    found, labels = np.array(widget.predictions), np.array(widget.labels)
    left = exit_layers(found, 2)
    wrong = int((found[left - 1, np.arange(30)] != labels).sum())
    with open_widget(browser, widget) as shown:
        shown.page.get_by_label("show examples that leave").select_option("wrong")
        shown.wait_until_saved()
        shown.frame()
        assert widget.which == "wrong"
        assert f"{wrong} examples to look at" in shown.readout()
        for cell in shown.root.locator("tbody .pe-leaves").all():
            assert "✗" in cell.inner_text()
