"""The caption explorer in a browser: words, keys, the weights over the image."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.browser.widget_page import WidgetPage, open_widget, settle
from zoo_lessons.lab.widgets import CaptionExplorer

CIVIDIS_TOP = [254, 232, 56]
WORDS = [["a", "red", "circle"], ["a", "blue", "star", "above", "a", "ring"]]


def one_hot(places: list[list[int]]) -> np.ndarray:
    """(1 layer, heads, words, 17 keys): all weight of a word on one key."""
    return np.eye(17)[np.array(places)][None]


def captions(**options: Any) -> CaptionExplorer:
    """4 × 4 patches. Head 0 looks at patch 5 + word; head 1 at the class token."""
    images = [np.full((24, 24, 3), level) for level in (0.2, 0.8)]
    maps = [
        one_hot([[6 + word for word in range(count)], [0] * count]) * 0.9 + 0.1 / 17
        for count in (3, 6)
    ]
    options = {"head": 0, "opacity": 1.0, **options}
    return CaptionExplorer(images, WORDS, maps, probabilities=[[0.9] * 3, [0.5] * 6], **options)


def pressed(shown: WidgetPage) -> list[str]:
    return shown.root.locator(
        ".ce-word[aria-pressed='true'] > span:first-of-type"
    ).all_inner_texts()


def brightest(shown: WidgetPage) -> list[int]:
    """The patches in the last colour of the map."""
    label = "canvas[aria-label^='Weights over']"
    return [
        patch
        for patch in range(16)
        if shown.pixel(label, (patch % 4 + 0.5) / 4, (patch // 4 + 0.5) / 4)[:3] == CIVIDIS_TOP
    ]


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, captions(picture=1), theme=theme, width=width) as shown:
        assert shown.accessibility_violations() == []
        assert shown.layout_problems() == []
        assert shown.keys_that_escape("x", "ArrowRight") == []
        settle(shown)
        shown.theme("dark")
        shown.theme("light")
        assert shown.listeners_left() == 0
        assert (shown.problems, shown.requests) == ([], [])


def test_a_word_shows_where_it_looked(browser):
    with open_widget(browser, captions()) as shown:
        assert pressed(shown) == ["a"] and brightest(shown) == [5]
        shown.root.get_by_role("button", name="circle").click()
        settle(shown)
        assert shown.widget.word == 2
        assert pressed(shown) == ["circle"] and brightest(shown) == [7]
        assert "Word 3 of 3, “circle”, written with p = 0.900" in shown.readout()
        assert "patch 7 (row 1, column 3) 0.906" in shown.readout()
        assert "“circle”: layer 0, head 0" in shown.root.inner_text()


def test_keys_choose_words(browser):
    with open_widget(browser, captions(picture=1)) as shown:
        shown.root.locator(".ce-word").first.focus()
        for key, word in (
            ("ArrowRight", 1),
            ("ArrowRight", 2),
            ("ArrowLeft", 1),
            ("End", 5),
            ("ArrowRight", 5),
            ("Home", 0),
        ):
            shown.page.keyboard.press(key)
            settle(shown)
            assert shown.widget.word == word
            focused = shown.page.evaluate("document.activeElement.innerText").split()[0]
            assert focused == WORDS[1][word] == pressed(shown)[0]
        assert shown.root.locator(".ce-word[tabindex='0']").count() == 1


def test_the_mean_of_heads_and_the_class_token(browser):
    with open_widget(browser, captions()) as shown:
        heads = shown.page.get_by_role("slider", name="Head", exact=True)
        heads.press("Home")
        settle(shown)
        assert shown.widget.head == -1 and brightest(shown) == [5]
        heads.press("End")
        settle(shown)
        assert shown.widget.head == 1
        assert len(brightest(shown)) == 16  # what is left is spread evenly
        assert "class token 0.906" in shown.root.inner_text()
        np.testing.assert_allclose(shown.widget.shown()[0], 0.9 + 0.1 / 17, rtol=1e-6)


def test_another_image_has_other_words(browser):
    with open_widget(browser, captions(word=2)) as shown:
        shown.page.get_by_role("slider", name="Image").press("End")
        settle(shown)
        assert (shown.widget.picture, shown.widget.word) == (1, 2)
        assert shown.root.locator(".ce-word").count() == 6 and pressed(shown) == ["star"]
        shown.root.get_by_role("button", name="ring").click()
        settle(shown)
        shown.page.get_by_role("slider", name="Image").press("Home")
        settle(shown)
        assert (shown.widget.picture, shown.widget.word) == (0, 2)
        shown.set(picture=1, word=3)
        assert pressed(shown) == ["above"] and brightest(shown) == [8]


def test_pointer_and_keys_read_patches(browser):
    with open_widget(browser, captions()) as shown:
        canvas = shown.root.locator("canvas[aria-label^='Weights over']")
        box = canvas.bounding_box()
        canvas.hover(position={"x": box["width"] * 0.6, "y": box["height"] * 0.9})
        shown.frame()
        assert "patch 14 (row 3, column 2) = 0.0059." in shown.readout()
        shown.page.mouse.move(0, 0)
        canvas.press("ArrowDown")  # the first press goes to the highest
        shown.frame()
        assert "patch 5 (row 1, column 1) = 0.9059." in shown.readout()
        canvas.press("ArrowDown")
        shown.frame()
        assert "patch 9 (row 2, column 1) = 0.0059." in shown.readout()
