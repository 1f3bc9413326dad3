"""Every exercise is fair: the reference passes, and each listed mistake is recognised."""

from __future__ import annotations

import pytest

from zoo_lessons.lab.curriculum import LESSONS
from zoo_lessons.lab.exercises import audit, check, exercise, exercise_ids, lessons_with_exercises

LESSONS_WITH_EXERCISES = lessons_with_exercises()
IDS = [id for lesson in LESSONS_WITH_EXERCISES for id in exercise_ids(lesson)]


@pytest.mark.parametrize("id", IDS)
def test_exercise_is_fair(id):
    assert audit(exercise(id)) == []


@pytest.mark.parametrize("id", IDS)
def test_reference_passes_and_every_mistake_reads_its_own_hint(id):
    found = exercise(id)
    assert check(id, found.reference).status == "passed"
    for mistake in found.mistakes:
        result = check(id, mistake.answer)
        assert (result.status, result.mistake) == ("failed", mistake.name)
        assert mistake.hint in repr(result)


@pytest.mark.parametrize("lesson", [entry.number for entry in LESSONS])
def test_a_lesson_has_three_exercises_and_the_first_one_has_one(lesson):
    assert len(exercise_ids(lesson)) >= (1 if lesson == "00" else 3)
