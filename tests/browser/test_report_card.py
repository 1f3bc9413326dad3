"""The report card's links lead to the cells, in JupyterLab."""

from __future__ import annotations

from collections.abc import Callable

from tests.browser.harness import LabPage

IN_SIGHT = """heading => {
    const widget = window.jupyterapp.shell.currentWidget;
    const box = widget.node.querySelector('.jp-WindowedPanel-outer');
    const found = [...widget.node.querySelectorAll('h2')]
        .find(e => e.textContent.startsWith(heading));
    if (!box || !found) return false;
    const { top, bottom } = box.getBoundingClientRect();
    const place = found.getBoundingClientRect();
    return place.height > 0 && place.top >= top - 5 && place.bottom <= bottom + 5;
}"""
RENDERED = """name => {
    const widget = window.jupyterapp.shell.currentWidget;
    return widget.title.label === name && widget.node.querySelectorAll('h2').length > 3;
}"""
BACK = """() => {
    const shell = window.jupyterapp.shell;
    for (const widget of shell.widgets('main'))
        if (widget.title.label.startsWith('24_')) shell.activateById(widget.id);
}"""


def test_a_link_opens_the_lesson_and_then_scrolls_to_the_claim(
    lab_page: Callable[..., LabPage],
) -> None:
    page = lab_page("notebooks/24_report_card.ipynb").page
    link = page.locator(".jp-OutputArea a[href*='01_attention.ipynb'][href*='Claim-C01']").first
    link.click()  # JupyterLab opens the notebook, and looks for the heading before it is drawn
    page.wait_for_function(RENDERED, arg="01_attention.ipynb", timeout=60_000)
    page.evaluate(BACK)
    link.click()
    page.wait_for_function(IN_SIGHT, arg="Claim C01, measured", timeout=30_000)
