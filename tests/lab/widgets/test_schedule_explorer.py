"""Schedule explorer: its Python side is the library's schedules."""

from __future__ import annotations

import pytest
import traitlets

from zoo_lessons.lab.widgets import ScheduleExplorer
from zoo_lessons.training.schedules import SCHEDULES, warmup_cosine


def test_rate_is_peak_times_schedule():
    widget = ScheduleExplorer(peak_rate=3e-4, warmup_steps=20, total_steps=200, step=110)
    share = warmup_cosine(110, warmup_steps=20, total_steps=200)
    assert widget.rate() == pytest.approx(3e-4 * share)
    assert f"rate {3e-4 * share:.2e} at step 110" in widget.static_text()


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedule_function_is_ready_for_fit(name):
    widget = ScheduleExplorer(schedule=name, warmup_steps=10, final_fraction=0.25)
    schedule = widget.schedule_function()
    assert schedule(0) == pytest.approx(0.1)
    assert schedule(9) == 1
    if name in ("warmup_cosine", "warmup_linear"):
        assert schedule(1000) == pytest.approx(0.25)


def test_a_short_run_moves_the_defaults_inside():
    widget = ScheduleExplorer(total_steps=50)
    assert (widget.warmup_steps, widget.step) == (5, 5)


@pytest.mark.parametrize("name", ["warmup_steps", "step"])
def test_steps_beyond_the_run_are_refused(name):
    with pytest.raises(ValueError, match=f"{name}=50 must be below total_steps=50"):
        ScheduleExplorer(total_steps=50, **{name: 50})


@pytest.mark.parametrize(
    "bad",
    [{"schedule": "step"}, {"total_steps": 51}, {"peak_rate": 4e-3}, {"final_fraction": 1.5}],
)
def test_other_values_are_refused(bad):
    with pytest.raises(traitlets.TraitError):
        ScheduleExplorer(**bad)
