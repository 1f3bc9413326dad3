"""The image search in a browser: typed captions, picked images, captions that search."""

from __future__ import annotations

import pytest

from tests.browser.widget_page import WidgetPage, open_widget
from tests.lab.widgets.test_image_search import search


def images(shown: WidgetPage) -> list[str]:
    return shown.root.locator(".is-image canvas").evaluate_all(
        "(all) => all.map((canvas) => canvas.getAttribute('aria-label'))"
    )


def captions(shown: WidgetPage) -> list[str]:
    return shown.root.locator(".is-captions button").all_inner_texts()


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, search(), theme=theme, width=width) as shown:
        assert shown.accessibility_violations() == []
        assert shown.layout_problems() == []
        assert shown.keys_that_escape("x") == []
        assert shown.listeners_left() == 0
        assert (shown.problems, shown.requests) == ([], [])


def test_a_typed_caption_finds_images_and_a_picked_image_finds_captions(browser):
    with open_widget(browser, search()) as shown:
        assert images(shown) == ["a red circle", "a red circle", "a blue star"]
        assert captions(shown) == ["a red circle", "a blue star"]
        field = shown.root.get_by_label("Your caption")
        field.fill("a blue star")
        field.press("Enter")
        shown.frame()
        assert images(shown) == ["a blue star", "a green ring", "a red circle"]
        assert "“a blue star”" in shown.root.inner_text()
        shown.root.locator(".is-image").nth(1).click()
        shown.frame()
        assert shown.widget.picked == 2
        assert captions(shown) == ["a green ring", "a blue star"]
        assert "Image 2 of 3: its own caption is at place 1" in shown.readout()
        pressed = shown.root.locator(".is-image").evaluate_all(
            "(all) => all.map((each) => each.getAttribute('aria-pressed'))"
        )
        assert pressed == ["false", "true", "false"]
        assert shown.problems == []


def test_a_caption_searches_for_itself_and_errors_are_said(browser):
    with open_widget(browser, search()) as shown:
        shown.root.locator(".is-captions button").nth(1).click()
        shown.frame()
        assert shown.widget.query == "a blue star"
        assert shown.root.get_by_label("Your caption").input_value() == "a blue star"
        shown.root.get_by_label("Your caption").fill("a cat")
        shown.root.get_by_role("button", name="Search").click()
        shown.frame()
        assert "I know three captions only." in shown.root.inner_text()
        assert images(shown)[0] == "a blue star"
        shown.root.get_by_label("Your caption").fill(" ")
        shown.root.get_by_role("button", name="Search").click()
        assert "Type a caption first." in shown.root.inner_text()


def test_images_show_their_pixels(browser):
    with open_widget(browser, search()) as shown:
        assert shown.pixel(".is-image:nth-of-type(2) canvas", 0.5, 0.5) == [220, 0, 0, 255]


def test_python_picks_an_image(browser):
    with open_widget(browser, search()) as shown:
        shown.widget.pick(3)
        shown.push()
        assert "Captions nearest to image 2" in shown.root.inner_text()
        shown.widget.pick(2)  # not among the images found
        shown.push()
        assert "the picked image" in shown.root.inner_text()
