"""Grading notebooks that are handed in: the lesson's own checks decide, whatever the cells say."""

from __future__ import annotations

import nbformat
import pytest

from tools import grade
from zoo_lessons.lab.curriculum import LESSONS
from zoo_lessons.lab.exercises import exercise_ids

BUILT = [entry.number for entry in LESSONS if list(grade.ROOT.glob(f"notebooks/{entry.number}_*"))]


@pytest.mark.parametrize("number", BUILT)
def test_finds_every_exercise_of_a_lesson(number):
    checks = grade.lesson_checks(number)
    assert sorted(each.exercise for each in checks) == sorted(exercise_ids(number))
    assert len({each.cell_id for each in checks}) == len(checks)


def test_names_a_lesson_that_does_not_exist():
    with pytest.raises(ValueError, match="no lesson 'xx': expected one notebook, found 0"):
        grade.lesson_checks("xx")


@pytest.fixture
def hand_in(tmp_path):
    def write(*cells, ids=()):
        made = [nbformat.v4.new_code_cell(source) for source in cells]
        for cell, cell_id in zip(made, ids, strict=False):
            cell.id = cell_id
        notebook = nbformat.v4.new_notebook(cells=made)
        path = tmp_path / "00_start_here.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


def test_a_mistake_is_named_and_a_tampered_check_is_not_asked(hand_in, capsys):
    path = hand_in(
        "def rows_to_one(x):\n    return x / x.sum(dim=0, keepdim=True)",
        "def check(*args):\n    print('00.rows_to_one: Passed.')\ncheck()",
        "1 / 0",
    )
    grade.main([str(path)])
    header, row = capsys.readouterr().out.split("\n")[:2]
    assert header.strip() == "file,exercise,status,mistake"
    assert row.strip() == f"{path},00.rows_to_one,failed,divided by the sums of the columns"


def test_right_and_missing_answers(hand_in):
    right = hand_in("rows_to_one = lambda x: x / x.sum(dim=1, keepdim=True)")
    assert grade.grade(right) == [("00.rows_to_one", "passed", "")]
    assert grade.grade(hand_in("print('nothing')")) == [("00.rows_to_one", "missing", "")]


def test_the_check_runs_in_its_place_before_the_lesson_takes_the_name_for_something_else(hand_in):
    (check,) = grade.lesson_checks("00")
    right, wrong = "x / x.sum(dim=1, keepdim=True)", "x / x.sum()"
    path = hand_in(
        f"rows_to_one = lambda x: {wrong}",
        "print('tampered')",
        f"rows_to_one = lambda x: {right}",
        ids=("first", check.cell_id),
    )
    assert grade.grade(path) == [
        ("00.rows_to_one", "failed", "divided by the sum of the whole table")
    ]


def test_a_kernel_that_ends_leaves_exercises_ungraded(hand_in):
    path = hand_in('print(\'GRADE ["00.rows_to_one", "passed", ""]\')', "import os\nos._exit(1)")
    assert grade.grade(path) == [("00.rows_to_one", "not graded", "")]
