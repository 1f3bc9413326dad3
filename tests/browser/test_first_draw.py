"""JupyterLab may draw a widget before it puts it into the page: its colours must be right then."""

from __future__ import annotations

import pytest

from tests.browser.widget_page import open_widget
from zoo_lessons.lab.widgets import SoftmaxPlayground

_DRAW_DETACHED = """
async (esm) => {
  const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  const el = document.createElement("div");
  const dispose = await module.default.render({ model: window.model, el });
  const color = el.querySelector(".zoo-widget").style.getPropertyValue("--sp-plain");
  dispose();
  return color;
}
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_drawn_outside_the_page_with_the_themes_colours(browser, theme):
    widget = SoftmaxPlayground()
    with open_widget(browser, widget, theme=theme) as opened:
        shown = opened.root.evaluate("(root) => root.style.getPropertyValue('--sp-plain')")
        assert opened.page.evaluate(_DRAW_DETACHED, widget._esm) == shown
        assert opened.page.locator(".zoo-widget").count() == 1  # nothing is left behind
        assert opened.problems == []
