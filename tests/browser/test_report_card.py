"""The report card: its widget finds what Python finds, and its links lead to the cells."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.browser.harness import LabPage
from tests.browser.widget_page import open_widget, settle
from zoo_lessons.claims import CLAIMS
from zoo_lessons.lab.widgets import ReportCard
from zoo_lessons.records import load_claim

ALL = [load_claim(id) for id in CLAIMS]

ANCHORS = """name => {
    const widget = window.jupyterapp.shell.currentWidget;
    const headings = [...widget.node.querySelectorAll('[data-jupyter-id]')];
    return widget.title.label === name && headings.length > 5
        && headings.map(e => e.getAttribute('data-jupyter-id'));
}"""


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, ReportCard(ALL), theme=theme, width=width) as shown:
        assert shown.accessibility_violations() == []
        assert shown.layout_problems() == []
        assert shown.keys_that_escape("x", "ArrowRight") == []
        shown.theme("dark" if theme == "light" else "light")
        assert shown.accessibility_violations() == []
        assert shown.listeners_left() == 0
        assert (shown.problems, shown.requests) == ([], [])


def visible(shown) -> list[str]:
    rows = shown.root.locator("li:not([hidden]) summary > strong").all_inner_texts()
    return [row.strip() for row in rows]


def test_it_is_searched_by_keyboard(browser):
    widget = ReportCard(ALL)
    with open_widget(browser, widget) as shown:
        assert visible(shown) == list(CLAIMS)
        shown.page.get_by_label("part of the course").select_option("IV")
        shown.page.get_by_label("word").press_sequentially("inT8")
        settle(shown)
        assert visible(shown) == widget.chosen() == ReportCard(ALL, part="IV", word="int8").chosen()
        assert shown.readout().startswith(f"{len(widget.chosen())} of 36 claims: ")
        first = shown.root.locator("li:not([hidden]) summary").first
        first.press("Enter")
        figure = next(claim["ours"] for claim in ALL if claim["claim"] == visible(shown)[0])
        assert shown.root.get_by_text(figure).is_visible()
        shown.page.get_by_label("word").fill("unicorn")
        settle(shown)
        assert visible(shown) == [] and shown.readout() == "0 of 36 claims."


def test_python_moves_it(browser):
    with open_widget(browser, ReportCard(ALL)) as shown:
        shown.set(verdict="partly", word="attention")
        settle(shown)
        assert visible(shown) == shown.widget.chosen() != []
        assert shown.page.get_by_label("verdict").input_value() == "partly"


def test_a_link_opens_the_lesson_which_has_that_anchor(lab_page: Callable[..., LabPage]) -> None:
    page = lab_page("notebooks/24_report_card.ipynb").page
    page.locator(".jp-OutputArea a[href*='01_attention.ipynb'][href*='Claim-C01']").first.click()
    found = page.wait_for_function(ANCHORS, arg="01_attention.ipynb", timeout=90_000).json_value()
    assert load_claim("C01")["cell"].partition("#")[2] in found
