"""The interleave explorer in a browser: picking by pointer and keys, the rule, the pictures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from tests.browser.widget_page import WidgetPage, assert_well_behaved, open_widget, settle
from zoo_lessons.lab.widgets import InterleaveExplorer

TOKENS = "Two pets : <image> a cat . <image> a dog . <image> a".split()


def explorer(**options: Any) -> InterleaveExplorer:
    images = [np.full((16, 16, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 200, 0))]
    images.append(np.full((16, 16), 90, np.uint8))  # grey
    return InterleaveExplorer(TOKENS, images, num_latents=8, **options)


def text(shown: WidgetPage) -> Any:
    return shown.root.locator("canvas[aria-label^='Images and words']")


def image_numbers(reading: str) -> list[int]:
    found = re.search(r"attends to images? ([\d, and]+):", reading)
    return [int(number) for number in re.findall(r"\d+", found[1])] if found else []


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, explorer(), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


@pytest.mark.parametrize("all_previous", [False, True])
def test_each_token_sees_what_python_says(browser, all_previous):
    with open_widget(browser, explorer(query=0)) as shown:
        if all_previous:
            shown.page.get_by_role("checkbox", name="All previous images").check()
        settle(shown)
        assert shown.widget.all_previous == all_previous
        mask = shown.widget.mask()
        for token in range(len(TOKENS)):
            assert shown.widget.query == token
            seen = (np.flatnonzero(mask[token]) + 1).tolist()
            assert image_numbers(shown.readout()) == seen
            if seen:
                assert f"{8 * len(seen)} of 24 latents" in shown.readout()
            else:
                assert "before the first image" in shown.readout()
            text(shown).press("ArrowRight")
            settle(shown)
        assert shown.widget.query == len(TOKENS) - 1  # the last stays the last
        label = shown.root.locator("canvas[aria-label^='Mask of']").get_attribute("aria-label")
        assert f"{mask.sum()} of {mask.size} pairs" in label


def test_keys(browser):
    with open_widget(browser, explorer(query=5), width=420) as shown:
        for key, expected in (("Home", 0), ("ArrowLeft", 0), ("End", 12), ("ArrowLeft", 11)):
            text(shown).press(key)
            settle(shown)
            assert shown.widget.query == expected
        assert "Token 11, the place of image 3," in shown.readout()
        text(shown).press("ArrowUp")  # to the line above, and back
        settle(shown)
        above = shown.widget.query
        assert above < 11
        text(shown).press("ArrowDown")
        settle(shown)
        assert shown.widget.query > above


def test_pointer(browser):
    with open_widget(browser, explorer(), width=1200) as shown:
        box = text(shown).bounding_box()
        text(shown).click(position={"x": 12, "y": 36})  # the first word
        settle(shown)
        assert shown.widget.query == 0
        text(shown).click(position={"x": box["width"] - 2, "y": box["height"] - 2})  # no token
        settle(shown)
        assert shown.widget.query == 0
        mask = shown.root.locator("canvas[aria-label^='Mask of']")
        rows = mask.bounding_box()["height"]
        mask.click(position={"x": 60, "y": rows - 12})  # the last row
        settle(shown)
        assert shown.widget.query == 12


def test_python_picks(browser):
    with open_widget(browser, explorer()) as shown:
        shown.set(query=4)
        assert "Token 4, “a”, attends to image 1: 8 of 24 latents." in shown.readout()
        before = text(shown).evaluate("(canvas) => canvas.toDataURL()")
        shown.set(all_previous=True, query=9)
        assert "images 1 and 2" in shown.readout()
        assert shown.page.get_by_role("checkbox").is_checked()
        assert text(shown).evaluate("(canvas) => canvas.toDataURL()") != before


def test_without_images(browser):
    with open_widget(browser, InterleaveExplorer(["just", "words"])) as shown:
        assert "before the first image" in shown.readout()
        assert shown.problems == []
