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
    assert sorted(id for id, _ in grade.lesson_checks(number)) == sorted(exercise_ids(number))


def test_names_a_lesson_that_does_not_exist():
    with pytest.raises(ValueError, match="no lesson 'xx': expected one notebook, found 0"):
        grade.lesson_checks("xx")


@pytest.fixture
def hand_in(tmp_path):
    def write(*cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
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
