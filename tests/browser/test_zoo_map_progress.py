"""The zoo map with a learner's progress: in figures, in shape, by keyboard, and told aloud."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.widget_page import open_widget, settle
from zoo_lessons.lab.exercises import exercise_ids
from zoo_lessons.lab.progress import note
from zoo_lessons.lab.widgets import ZooMap


@pytest.fixture
def begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lesson 00 is finished, and two exercises of lesson 01 are solved."""
    monkeypatch.setenv("ZOO_PROGRESS", str(tmp_path / "progress.json"))
    for id in (*exercise_ids("00"), *exercise_ids("01")[:2]):
        note(id, "passed", 1)
    return tmp_path / "progress.json"


def mark(shown, number: str) -> str:
    return shown.root.locator(f"[data-id='{number}'] .zm-done").inner_text().strip()


def test_each_lesson_says_how_far_the_learner_is(browser: Browser, begun: Path) -> None:
    total = len(exercise_ids("01"))
    with open_widget(browser, ZooMap()) as shown:
        settle(shown)
        assert (mark(shown, "00"), mark(shown, "01")) == ("✓", f"2/{total}")
        widths = [
            shown.root.locator(f"[data-id='{n}'] .zm-bar > span").bounding_box()["width"]
            for n in ("00", "01", "02")
        ]
        assert widths[0] > widths[1] > widths[2] == 0
        assert "as noted on this computer" in shown.root.inner_text()

        lesson = shown.root.get_by_role(
            "button", name=f"Lesson 01: Attention, 2 of {total} exercises solved", exact=True
        )
        first = shown.root.get_by_role("button", name="Lesson 00", exact=False).first
        first.focus()
        first.press("ArrowRight")
        assert lesson.evaluate("(button) => button === document.activeElement")
        shown.frame()
        assert f"2 of {total} exercises solved." in shown.readout()
        lesson.press("Enter")
        detail = shown.root.locator(".zm-exercises").inner_text()
        assert f"2 of {total} exercises solved" in detail
        assert "●●" + "○" * (total - 2) in detail
        settle(shown)
        for theme in ("light", "dark"):
            shown.theme(theme)
            assert shown.accessibility_violations() == []
        assert shown.layout_problems() == []
        assert shown.listeners_left() == 0
        assert (shown.problems, shown.requests) == ([], [])


def test_the_map_follows_when_an_exercise_is_solved_elsewhere(browser: Browser, begun) -> None:
    with open_widget(browser, ZooMap()) as shown:
        settle(shown)
        note(exercise_ids("02")[0], "passed", 1)
        shown.page.evaluate("() => new Promise((r) => setTimeout(r, 2100))")
        shown.root.locator("[data-id='02']").hover()
        settle(shown)
        assert mark(shown, "02") == f"1/{len(exercise_ids('02'))}"


@pytest.mark.parametrize("setting", ["off", "empty"])
def test_without_progress_the_map_is_as_it_was(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    kept = "off" if setting == "off" else str(tmp_path / "progress.json")
    monkeypatch.setenv("ZOO_PROGRESS", kept)
    with open_widget(browser, ZooMap(selected="01")) as shown:
        settle(shown)
        assert mark(shown, "01") == "" and "as noted" not in shown.root.inner_text()
        assert ("exercises solved" in shown.root.inner_text()) == (setting == "empty")


def test_a_map_without_a_kernel_shows_no_progress(browser: Browser, begun: Path) -> None:
    widget = ZooMap()
    widget._tell_progress = lambda *_: None
    widget._msg_callbacks.callbacks.clear()
    with open_widget(browser, widget) as shown:
        settle(shown)
        shown.page.evaluate("() => { model.send = () => { throw new Error('no kernel'); }; }")
        shown.page.evaluate("() => new Promise((r) => setTimeout(r, 2100))")
        shown.root.locator("[data-id='02']").hover()
        settle(shown)
        assert mark(shown, "00") == "" and shown.problems == []
