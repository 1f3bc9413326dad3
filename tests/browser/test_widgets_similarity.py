"""The similarity explorer in a browser: numbers, pictures, pointer, keys, themes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.browser.widget_page import WidgetPage, assert_well_behaved, open_widget, settle
from zoo_lessons.lab.widgets import SimilarityExplorer

CAPTIONS = ["a red circle", "a blue moon", "a red circle", "a green ring", "a grey heart"]


def explorer(**options: Any) -> SimilarityExplorer:
    rng = np.random.default_rng(0)
    both = rng.normal(size=(2, 5, 8))
    images, texts = both / np.linalg.norm(both, axis=-1, keepdims=True)
    options = {"images": rng.random((5, 12, 12, 3))} | options
    return SimilarityExplorer(images @ texts.T, CAPTIONS, **options)


def assert_shown(shown: WidgetPage) -> None:
    settle(shown)
    numbers = shown.widget.numbers
    facts = shown.root.locator("dd").all_inner_texts()
    assert facts == [
        f"{numbers.find_text:.3f}",
        f"{numbers.find_image:.3f}",
        f"{numbers.loss:.3f}",
        f"{np.log(5):.3f}",
        f"{numbers.temperature_gradient:.3f}",
    ]
    row, column = divmod(shown.widget.cell, 5)
    said = shown.readout()
    assert f"Image {row + 1} with text {column + 1}" in said
    assert f"row softmax {numbers.rows[row, column]:.3f}" in said
    assert f"column softmax {numbers.columns[row, column]:.3f}" in said
    assert f"gradient {numbers.gradient[row, column]:.3f}" in said


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
@pytest.mark.parametrize("options", [{}, {"images": None}])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, options, theme, width):
    with open_widget(browser, explorer(**options), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


def test_numbers_are_pythons(browser):
    with open_widget(browser, explorer()) as shown:
        assert_shown(shown)
        heat = shown.page.get_by_role("slider", name="Temperature", exact=True)
        for key in ("ArrowLeft", "Home", "End"):
            heat.press(key)
            assert_shown(shown)
        assert shown.widget.temperature == pytest.approx(1.0)
        shown.set(temperature=0.05, cell=7)
        assert_shown(shown)
        shown.page.get_by_label("Equal captions share the target").check()
        assert_shown(shown)
        assert shown.widget.share is True
        view = shown.page.get_by_role("combobox", name="Show", exact=True)
        pictures = set()
        for name in ("cosine", "rows", "columns", "gradient"):
            view.select_option(value=name)
            assert_shown(shown)
            assert shown.widget.view == name
            pictures.add(shown.root.locator("canvas").first.evaluate("(c) => c.toDataURL()"))
        assert len(pictures) == 4


def test_pointer_and_keys_choose_a_pair(browser):
    with open_widget(browser, explorer(images=None)) as shown:
        matrix = shown.root.locator("canvas[aria-label^='Similarity matrix']")
        for key, cell in (("ArrowRight", 1), ("ArrowDown", 6), ("ArrowLeft", 5), ("ArrowLeft", 5)):
            matrix.press(key)
            settle(shown)
            assert shown.widget.cell == cell
        box = matrix.bounding_box()
        side = (box["width"] - 24) / 5
        matrix.click(position={"x": 22 + 2.5 * side, "y": 20 + 4.5 * side})
        assert_shown(shown)
        assert shown.widget.cell == 22
        assert shown.root.locator(".se-here").inner_text() == "a red circle"


def test_without_equal_captions_there_is_nothing_to_share(browser):
    with open_widget(browser, explorer(same=np.eye(5))) as shown:
        settle(shown)
        assert shown.page.get_by_label("Equal captions").count() == 0
        assert re.search(r"a match|pushed|pulled|alone", shown.readout())
