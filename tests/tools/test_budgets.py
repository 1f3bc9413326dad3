"""Budgets of notebooks: stored ones keep them, and gross excess is noticed where they run."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from tools import budgets
from tools.notebook_budgets import LARGE, LIMITS, SLOW, Limit, Spent, limit, tree_memory
from tools.notebooks import Course

MACHINE = {"device": "a processor", "cores": 2, "threads": 2, "torch": "2.0"}
COURSE = Course()
NAMES = [budgets.key(COURSE, pair) for pair in COURSE.pairs()]
FIRST = NAMES[0]


def committed() -> tuple[dict | None, str | None]:
    made = budgets.read_course_record(budgets.NAME) if budgets.recorded() else None
    return made, budgets.TABLE.read_text("utf8") if budgets.TABLE.exists() else None


@pytest.fixture
def made():
    """A record in which every notebook keeps its budget."""
    rows = {
        budgets.key(COURSE, pair): {
            "seconds": 10.0,
            "memory": 700_000_000,
            "size": pair.notebook.stat().st_size,
            "date": "2026-01-02",
        }
        for pair in COURSE.pairs()
        if pair.notebook.exists()
    }
    return {"machine": MACHINE, "figures": rows}


# --- what the repository holds -------------------------------------------------------------------


def test_stored_notebooks_are_small_enough():
    stored, _ = budgets.problems(COURSE, None, None)
    assert stored == []


def test_every_notebook_was_measured_and_the_table_is_current():
    made, written = committed()
    if made is None and os.environ.get("CI") != "true":
        pytest.skip("no budgets are recorded: run `make budgets` on a quiet machine")
    _, measured = budgets.problems(COURSE, made, written)
    assert measured == [], f"run `{budgets.COMMAND}` on a quiet machine"


# --- noticing ------------------------------------------------------------------------------------


def test_a_good_record_has_no_problem(made):
    assert budgets.problems(COURSE, made, budgets.table(COURSE, made)) == ([], [])


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"seconds": 76.0}, "took 76 s, at most 60"),
        ({"memory": 2_000_000_000}, "took 2 GB, at most 1.5"),
        ({"size": 10}, "has another size than when it was measured"),
        (None, "was never measured"),
    ],
)
def test_excess_and_gaps_are_noticed(made, change, problem):
    if change is None:
        del made["figures"][FIRST]
    else:
        made["figures"][FIRST].update(change)
    stored, measured = budgets.problems(COURSE, made, budgets.table(COURSE, made))
    assert stored == [] and measured == [f"{FIRST} {problem}"]


def test_a_little_over_is_shown_and_passes(made):
    made["figures"][FIRST]["seconds"] = 61.0
    text = budgets.table(COURSE, made)
    assert "| **61** (60) | 0.70 (1.5) |" in text
    assert budgets.problems(COURSE, made, text) == ([], [])


def test_a_large_file_is_noticed(made, monkeypatch):
    monkeypatch.setitem(LIMITS, "00_start_here", Limit(size=10))
    stored, _ = budgets.problems(COURSE, made, budgets.table(COURSE, made))
    assert len(stored) == 1 and stored[0].startswith("notebooks/00_start_here.ipynb has ")


def test_a_stale_table_is_noticed(made):
    old = budgets.table(COURSE, copy.deepcopy(made))
    made["figures"][FIRST]["seconds"] = 11.0
    _, measured = budgets.problems(COURSE, made, old)
    assert measured == ["budgets.md is not what the record says: run python -m tools.budgets table"]


def test_limits_are_those_of_lessons_that_exist():
    assert set(LIMITS) <= {lesson.slug for lesson in COURSE.lessons}
    assert limit("21_serving").seconds > limit("01_attention").seconds


# --- memory --------------------------------------------------------------------------------------

HOLD = "import sys; held = b'x' * {size}; print(len(held), flush=True); sys.stdin.read(1)"


def test_memory_counts_the_process_and_its_descendants():
    child = HOLD.format(size=60_000_000)
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdin=subprocess.PIPE,\n"
        "                         stdout=subprocess.PIPE)\n"
        "child.stdout.readline()\n" + HOLD.format(size=80_000_000)
    )
    with (
        budgets.peak_memory() as peak,
        subprocess.Popen(
            [sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as running,
    ):
        running.stdout.readline()
        taken = tree_memory(running.pid)
        assert 140e6 < taken < 260e6
        time.sleep(3 * budgets.SAMPLE_SECONDS)
        for process in psutil.Process(running.pid).children():
            process.terminate()
        running.stdin.write(b"x")
        running.stdin.close()
        running.wait(timeout=30)
    assert tree_memory(running.pid) == 0
    assert peak[0] > 140e6  # more where other tests have left processes


# --- where notebooks run in the tests ------------------------------------------------------------


def test_spent_is_judged_with_a_margin():
    assert Spent(SLOW * 60 - 1, int(LARGE * 1.5e9) - 1).problems("01_attention") == []
    (slow,) = Spent(SLOW * 60 + 1, 0).problems("01_attention")
    assert slow.startswith("01_attention took 181 s: its limit is 60 s on quiet cores")
    (large,) = Spent(0, 2_000_000_000).problems("01_attention")
    assert large == "01_attention took 2.00 GB with its processes, at most 1.5"
    assert Spent(SLOW * 60 + 1, 2_000_000_000).problems("21_serving") == []


@pytest.mark.parametrize(("seconds", "passes"), [(0.1, False), (60, True)])
def test_a_notebook_far_over_its_budget_fails_at_its_last_cell(tmp_path: Path, seconds, passes):
    cells = ["import time", "time.sleep(1)", "print('done')"]
    nb = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbformat.write(nb, tmp_path / "a_lesson.ipynb")
    (tmp_path / "conftest.py").write_text(
        textwrap.dedent(f"""
            from tools.notebook_budgets import LIMITS, Limit
            LIMITS["a_lesson"] = Limit(seconds={seconds})
            pytest_plugins = ["tools.notebook_budgets"]
        """)
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir=."]
    command += ["--nbval-lax", "--nbval-current-env", "-c", os.devnull, "a_lesson.ipynb"]
    paths = os.pathsep.join([str(budgets.ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ("3 passed" if passes else "1 failed, 2 passed") in done.stdout, (
        done.stdout + done.stderr
    )
    if not passes:
        assert "a_lesson took" in done.stdout and "its limit is 0.1 s" in done.stdout
