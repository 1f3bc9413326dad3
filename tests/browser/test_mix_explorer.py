"""The mix explorer in a browser: its pixels and shares are those that Python computes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.browser.widget_page import open_widget, settle
from zoo_lessons.lab.widgets import MixExplorer

IMAGES = np.random.default_rng(0).integers(0, 256, size=(3, 9, 12), dtype=np.uint8)
LABELS = ["four", "seven", "two"]
MIXTURE = "canvas[role=application]"


def explorer(**settings):
    return MixExplorer(IMAGES, LABELS, **settings)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 560])
def test_it_behaves(browser, theme, width):
    with open_widget(browser, explorer(), theme=theme, width=width) as shown:
        assert shown.accessibility_violations() == []
        assert shown.layout_problems() == []
        assert shown.keys_that_escape("x", "ArrowRight") == []
        assert (shown.problems, shown.requests) == ([], [])
        assert shown.listeners_left() == 0


def assert_pixels_are_pythons(shown):
    """The middle of each pixel of the mixture, where no frame is drawn."""
    expected = shown.widget.mixture[..., 0]
    for row in range(9):
        for column in range(12):
            found = shown.pixel(MIXTURE, (column + 0.5) / 12, (row + 0.5) / 9)
            assert abs(found[0] - int(expected[row, column])) <= 1, (row, column)


@pytest.mark.parametrize("method", ["MixUp", "CutMix"])
@pytest.mark.parametrize("lam", [0.0, 0.35, 0.75, 1.0])
def test_mixture_and_label_are_pythons(browser, method, lam):
    with open_widget(browser, explorer(method=method, lam=lam, row=1, column=10)) as shown:
        assert_pixels_are_pythons(shown)
        kept = shown.widget.kept
        assert f"Label: four {kept:.2f}, seven {1 - kept:.2f}." in shown.readout()


def test_keys_move_the_box_over_the_edge(browser):
    with open_widget(browser, explorer()) as shown:
        before = shown.widget.kept
        for _ in range(20):
            shown.page.locator(MIXTURE).press("ArrowUp")
        settle(shown)
        assert shown.widget.row == 0 and shown.widget.kept > before
        assert "clipped at the edge" in shown.readout()
        assert f"Label: four {shown.widget.kept:.2f}" in shown.readout()
        assert_pixels_are_pythons(shown)


def test_pointer_slider_and_lists(browser):
    with open_widget(browser, explorer()) as shown:
        canvas = shown.page.locator(MIXTURE)
        size = canvas.bounding_box()
        place = {"x": size["width"] * 1.5 / 12, "y": size["height"] * 2.5 / 9}
        canvas.click(position=place)
        shown.page.get_by_label("λ, the share of the first").press("ArrowRight")
        shown.page.get_by_role("combobox", name="second").select_option("2")
        settle(shown)
        widget = shown.widget
        assert (widget.row, widget.column, widget.second) == (2, 1, 2)
        assert widget.lam == pytest.approx(0.55)
        assert_pixels_are_pythons(shown)
        shown.page.get_by_label("method").select_option("MixUp")
        settle(shown)
        assert widget.method == "MixUp"
        assert "no box" in shown.root.inner_text()
        assert_pixels_are_pythons(shown)


def test_python_moves_it(browser):
    with open_widget(browser, explorer()) as shown:
        shown.set(lam=0.2, first=1, row=8)
        shown.frame()
        assert shown.readout().startswith("CutMix, λ 0.20.")
        assert_pixels_are_pythons(shown)
