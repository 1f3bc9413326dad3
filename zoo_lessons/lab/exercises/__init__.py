"""Exercises that recognise mistakes.

A lesson calls `check("02.causal_mask", causal_mask)`. The exercise knows the reference, inputs on
which plausible wrong answers show, and those wrong answers themselves. A learner who makes one of
them reads its name and its hint. Nobody sees a traceback, and Run All never stops.

The exercises of lesson NN stand in `lesson_NN.py`, in a tuple named `EXERCISES`. It is imported
when the first of them is checked.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
from typing import Any

from zoo_lessons.lab.curriculum import LESSONS
from zoo_lessons.lab.exercises.audit import audit
from zoo_lessons.lab.exercises.grading import CheckResult, Exercise, Mistake, Verdict, grade
from zoo_lessons.lab.exercises.run import Case
from zoo_lessons.lab.progress import note

__all__ = [
    "Case",
    "CheckResult",
    "Exercise",
    "Mistake",
    "UnknownExercise",
    "Verdict",
    "audit",
    "check",
    "exercise",
    "exercise_ids",
    "lessons_with_exercises",
]


class UnknownExercise(KeyError):
    """No exercise has this id. The message lists the closest ones."""

    def __str__(self) -> str:  # KeyError would show the message in quotation marks
        return str(self.args[0])


def check(id: str, answer: Any) -> CheckResult:
    """Check a learner's answer to an exercise.

    Where a learner has opened the notebook, that the exercise passed is kept on this computer; see
    `zoo_lessons.lab.progress`.

    Args:
        id: lesson and name, "02.causal_mask".
        answer: the learner's function, or the value where the exercise asks for one.

    Returns:
        The result, which a notebook shows as a card. A wrong answer is never an exception.

    Raises:
        UnknownExercise: no exercise has this id.
    """
    result = grade(exercise(id), answer)
    note(id, result.status, answer)
    return result


def exercise(id: str) -> Exercise:
    """The exercise with this id. Raises UnknownExercise, with the closest ids, if there is none."""
    number = id.partition(".")[0]
    exercises = _load(number) if number in lessons_with_exercises() else {}
    if id in exercises:
        return exercises[id]
    known = list(exercises) or [name for n in lessons_with_exercises() for name in exercise_ids(n)]
    close = difflib.get_close_matches(id, known, n=3, cutoff=0.4) or sorted(known)
    listed = ", ".join(repr(name) for name in close) or "none yet"
    raise UnknownExercise(f"no exercise {id!r}; did you mean one of these: {listed}?")


def exercise_ids(lesson: str) -> tuple[str, ...]:
    """The ids of a lesson's exercises, in the lesson's order.

    Raises:
        UnknownExercise: the lesson has no exercises.
    """
    if lesson not in lessons_with_exercises():
        known = ", ".join(lessons_with_exercises()) or "none yet"
        raise UnknownExercise(f"lesson {lesson!r} has no exercises; lessons that have: {known}")
    return tuple(_load(lesson))


def lessons_with_exercises() -> tuple[str, ...]:
    """Numbers of the lessons that have an exercise module."""
    return tuple(
        entry.number for entry in LESSONS if importlib.util.find_spec(_module(entry.number))
    )


def _module(lesson: str) -> str:
    return f"{__name__}.lesson_{lesson}"


def _load(lesson: str) -> dict[str, Exercise]:
    found = importlib.import_module(_module(lesson)).EXERCISES
    by_id = {entry.id: entry for entry in found}
    if len(by_id) != len(found) or any(not id.startswith(f"{lesson}.") for id in by_id):
        raise ValueError(
            f"lesson_{lesson}.py: ids must start with '{lesson}.' and differ, "
            f"got {[entry.id for entry in found]}"
        )
    return by_id
