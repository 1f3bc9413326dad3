"""Is an exercise fair? What every exercise must satisfy before a learner meets it."""

from __future__ import annotations

from typing import Any

from zoo_lessons.lab.exercises.compare import Tolerance
from zoo_lessons.lab.exercises.grading import CheckResult, Exercise, grade
from zoo_lessons.lab.exercises.run import run_case

# A mistake must miss by this many times the tolerance, so that it is caught on every processor.
_MARGIN = 10.0


def audit(exercise: Exercise) -> list[str]:
    """What is wrong with an exercise; empty when it is fair.

    The reference must pass and leave its inputs alone. Each listed mistake must fail, by a margin,
    and be recognised as itself: this catches cases that cannot tell the scale 1/sqrt(d) from 1
    because their scores saturate the softmax. An untouched stub must be neutral.
    """
    problems = _audit_texts(exercise)
    problems += _audit_reference(exercise)
    for mistake in exercise.mistakes:
        problems += _audit_mistake(exercise, mistake.name, mistake.answer, mistake.hint)
    neutral = {"an untouched stub": _stub} if exercise.asks_for_function else {"...": ...}
    if exercise.start is not None:
        neutral["the function to start from"] = exercise.start
    for name, answer in neutral.items():
        result = grade(exercise, answer)
        if result.status != "not attempted":
            problems.append(f"{name} is not neutral: {result!r}")
    return problems


def _stub(*args: Any, **kwargs: Any) -> Any:
    raise NotImplementedError


def _audit_texts(exercise: Exercise) -> list[str]:
    problems = []
    if len(exercise.mistakes) < 2:
        problems.append(f"it lists {len(exercise.mistakes)} mistakes, expected at least 2")
    if not exercise.title.strip():
        problems.append("it has no title")
    for mistake in exercise.mistakes:
        if len(mistake.hint.split()) < 4:
            problems.append(f"the hint for {mistake.name!r} is too short to help: {mistake.hint!r}")
    labels = [case.label for case in exercise.all_cases()]
    if len(set(labels)) != len(labels):
        problems.append(f"two cases have the same label: {labels}")
    return problems


def _audit_reference(exercise: Exercise) -> list[str]:
    result = grade(exercise, exercise.reference)
    problems = [] if result.status == "passed" else [f"the reference does not pass: {result!r}"]
    if not exercise.asks_for_function:
        return problems
    cases = exercise.all_cases()
    outcomes = [run_case(exercise.reference, case, exercise.reference) for case in cases]
    for case, outcome in zip(cases, outcomes, strict=True):
        if outcome.changed:
            problems.append(f"the reference changes {', '.join(outcome.changed)} ({case.label})")
    exact = Tolerance(0.0, 0.0)
    if all(outcome.differs_from(outcomes[0], exact) is None for outcome in outcomes):
        problems.append("all cases have the same result: a constant would pass")
    return problems


def _audit_mistake(exercise: Exercise, name: str, answer: Any, hint: str) -> list[str]:
    result = grade(exercise, answer)
    if result.status != "failed":
        return [f"the mistake {name!r} is not caught: {result.status}"]
    if result.mistake != name or hint not in repr(result):
        return [f"the mistake {name!r} is taken for {result.mistake or 'an unknown one'!r}"]
    loose: CheckResult = grade(exercise, answer, slack=_MARGIN)
    if loose.status == "passed":
        return [f"the mistake {name!r} is caught by a hair: it passes at {_MARGIN:g} x tolerance"]
    return []
