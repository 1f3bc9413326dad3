"""The pipeline explorer in a browser: its timetables are Python's, its controls move it."""

from __future__ import annotations

import pytest

from tests.browser.widget_page import assert_well_behaved, open_widget, settle
from zoo_lessons.deploy.timetables import bubble_share, most_alive, timetable
from zoo_lessons.lab.widgets import PipelineExplorer

_ASK = """
async ([esm, cases]) => {
  const module = await import(URL.createObjectURL(new Blob([esm], { type: "text/javascript" })));
  const { plTimetable, plKept } = module.default;
  return cases.map(([schedule, stages, count]) => ({
    slots: plTimetable(schedule, stages, count, 2).map((s) => [s.stage, s.micro, s.kind, s.start, s.end]),
    kept: Array.from({ length: stages }, (_, stage) => plKept(schedule, stage, stages, count)),
  }));
}
"""  # noqa: E501


@pytest.mark.parametrize(("theme", "width"), [("light", 1200), ("dark", 360)])
def test_accessible_quiet_and_fit_for_a_narrow_window(browser, theme, width):
    with open_widget(browser, PipelineExplorer(), theme=theme, width=width) as shown:
        assert_well_behaved(shown)


def test_timetables_are_pythons(browser):
    cases = [
        [schedule, stages, count]
        for schedule in ("GPipe", "1F1B")
        for stages in (1, 2, 5, 8)
        for count in (1, 3, 8, 24)
    ]
    widget = PipelineExplorer()
    with open_widget(browser, widget) as shown:
        found = shown.page.evaluate(_ASK, [widget._esm, cases])
    for (schedule, stages, count), answer in zip(cases, found, strict=True):
        slots = timetable(schedule, stages, count)
        expected = {(s.stage, s.micro_batch, s.kind, s.start, s.end) for s in slots}
        assert {tuple(slot) for slot in answer["slots"]} == expected
        assert answer["kept"] == [most_alive(slots, stage) for stage in range(stages)]


def test_controls_by_keyboard(browser):
    widget = PipelineExplorer(stages=2, micro_batches=3)
    with open_widget(browser, widget) as shown:
        shown.page.get_by_label("stages p").press("ArrowRight")
        for _ in range(4):
            shown.page.get_by_label("micro-batches m").press("ArrowRight")
        shown.page.get_by_label("schedule").select_option("1F1B")
        settle(shown)
        assert (widget.stages, widget.micro_batches, widget.schedule) == (3, 7, "1F1B")
        idle = bubble_share(3, 7)
        assert f"{100 * idle:.1f} % of the time is idle" in shown.readout()
        assert "activations of 3 micro-batches, the last of 1" in shown.readout()


def test_python_moves_it(browser):
    with open_widget(browser, PipelineExplorer()) as shown:
        before = shown.page.evaluate("document.querySelector('canvas').toDataURL()")
        shown.set(stages=6, micro_batches=20)
        settle(shown)
        assert "6 stages, 20 micro-batches" in shown.readout()
        assert shown.page.evaluate("document.querySelector('canvas').toDataURL()") != before
        label = shown.root.locator("canvas").first.get_attribute("aria-label")
        assert label.startswith("Timetable of 6 stages and 20 micro-batches, GPipe")
