"""Exercises, and how an answer to one of them is graded."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from zoo_lessons.lab.exercises.compare import Tolerance, difference
from zoo_lessons.lab.exercises.run import Case, Outcome, is_stub_error, run_case

Status = Literal["passed", "failed", "not attempted"]


@dataclass(frozen=True)
class Mistake:
    """A plausible wrong answer.

    Attributes:
        name: what went wrong, in a few words: "softmax over the queries".
        answer: a function like the reference, or, where the exercise asks for a value, a value.
        hint: the sentence that helps. It does not give the solution away.
    """

    name: str
    answer: Any
    hint: str


@dataclass(frozen=True)
class Verdict:
    """What a `grade` function decides. `mistake` may name one of the exercise's mistakes."""

    passed: bool
    message: str = ""
    mistake: str = ""


@dataclass(frozen=True)
class Exercise:
    """One exercise, of one of two kinds.

    *A function.* `reference` is the right function and `cases` are the inputs (or a function that
    makes them). The learner's function must agree with the reference on all. If the cases have
    `inputs`, the functions build modules, which are compared on the same weights.

    *A value*, such as a predicted number or a head's address. There are no cases. `reference` is a
    right answer; `grade` decides where more than one is right. None or ... is not attempted.

    Attributes:
        start: the faulty function of a "find the bug" exercise. While the learner's function still
            does the same, the exercise counts as not attempted.
        grade: `grade(answer) -> Verdict` instead of a comparison.
        rtol, atol: tolerances where those of the dtype do not suit.
        praise: what a passed check says, beyond that it passed.
    """

    id: str
    title: str
    reference: Any
    cases: Sequence[Case] | Callable[[], Sequence[Case]] = ()
    mistakes: tuple[Mistake, ...] = ()
    start: Callable | None = None
    grade: Callable[[Any], Verdict] | None = None
    rtol: float | None = None
    atol: float | None = None
    praise: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\d\d\.[a-z0-9_]+", self.id):
            raise ValueError(f"exercise id {self.id!r} must look like '02.causal_mask'")
        names = [mistake.name for mistake in self.mistakes]
        if len(set(names)) != len(names):
            raise ValueError(f"exercise {self.id}: mistakes need different names, got {names}")
        if self.asks_for_function and not callable(self.reference):
            raise TypeError(f"exercise {self.id}: cases need a function as reference")

    @property
    def asks_for_function(self) -> bool:
        return callable(self.cases) or len(self.cases) > 0

    def all_cases(self) -> tuple[Case, ...]:
        return tuple(self.cases() if callable(self.cases) else self.cases)


@dataclass(frozen=True)
class CheckResult:
    """What `check` returns: a card in a notebook, one line of text elsewhere."""

    id: str
    status: Status
    message: str
    mistake: str = ""
    details: str = ""

    def __repr__(self) -> str:
        text = f"{self.id}: {_HEADINGS[self.status]}. {self.message}"
        return f"{text}\n{self.details}" if self.details else text

    def _repr_html_(self) -> str:
        colour, icon = _LOOKS[self.status]
        details = self.details and f'<div style="margin-top:6px">{_as_html(self.details)}</div>'
        return (
            f'<div role="status" style="border:1px solid {_BORDER};border-left:5px solid {colour};'
            f"border-radius:4px;padding:8px 12px;max-width:760px;background:{_BACKGROUND};"
            f"color:{_TEXT};font-family:var(--jp-content-font-family,system-ui,sans-serif);"
            'font-size:14px;line-height:1.5">'
            f'<strong><span aria-hidden="true">{icon}</span> {_HEADINGS[self.status]}</strong> '
            f"<code>{html.escape(self.id)}</code>"
            f'<div style="margin-top:2px">{_as_html(self.message)}</div>{details}</div>'
        )


_HEADINGS = {"passed": "Passed", "failed": "Not right yet", "not attempted": "Not attempted yet"}
_LOOKS = {
    "passed": ("var(--jp-success-color1,#2e7d32)", "✓"),
    "failed": ("var(--jp-error-color1,#c62828)", "✗"),
    "not attempted": ("var(--jp-info-color1,#1565c0)", "○"),
}
_BORDER = "var(--jp-border-color1,#bdbdbd)"
_BACKGROUND = "var(--jp-layout-color1,#ffffff)"
_TEXT = "var(--jp-content-font-color1,#1f1f1f)"


def _as_html(text: str) -> str:
    """Escape, set `code` in a code font, keep line breaks."""
    escaped = re.sub(r"`([^`\n]+)`", r"<code>\1</code>", html.escape(text))
    return escaped.replace("\n", "<br>")


def grade(exercise: Exercise, answer: Any, *, slack: float = 1.0) -> CheckResult:
    """Grade an answer. `slack` widens the tolerances; `audit` uses it to ask for a margin."""
    tolerance = Tolerance(exercise.rtol, exercise.atol, slack)
    if not exercise.asks_for_function:
        return _grade_value(exercise, answer, tolerance)
    if not callable(answer):
        return _failed(
            exercise,
            f"`check` needs the function itself, got {type(answer).__name__}. "
            f"Write its name without brackets: `check({exercise.id!r}, my_function)`.",
        )
    return _grade_function(exercise, answer, tolerance)


def _grade_value(exercise: Exercise, answer: Any, tolerance: Tolerance) -> CheckResult:
    if answer is None or answer is Ellipsis:
        return _not_attempted(exercise, "Put your answer in, then run this cell again.")
    verdict = None
    if exercise.grade is not None:
        try:
            verdict = exercise.grade(answer)
        except Exception as error:  # an answer of an unforeseen kind must not stop Run All
            return _failed(exercise, f"This answer could not be read: {error}")
        if not verdict.passed and verdict.mistake:
            return _named_mistake(exercise, _mistake(exercise, verdict.mistake), verdict.message)
    problem = None if verdict else difference(exercise.reference, answer, tolerance)
    if verdict.passed if verdict else problem is None:
        return CheckResult(
            exercise.id, "passed", (verdict and verdict.message) or exercise.praise or "Right."
        )
    for mistake in exercise.mistakes:
        if difference(mistake.answer, answer, tolerance) is None:
            return _named_mistake(exercise, mistake)
    # The problem would give the expected value away.
    return _failed(exercise, (verdict and verdict.message) or "That is not it. Look again.")


def _mistake(exercise: Exercise, name: str) -> Mistake:
    for mistake in exercise.mistakes:
        if mistake.name == name:
            return mistake
    raise ValueError(
        f"exercise {exercise.id}: grade named the mistake {name!r}, which is not listed"
    )


def _grade_function(exercise: Exercise, fn: Callable, tolerance: Tolerance) -> CheckResult:
    cases, reference = exercise.all_cases(), exercise.reference
    outcomes = []
    for case in cases:
        outcomes.append(run_case(fn, case, reference))
        if len(outcomes) == 1 and is_stub_error(outcomes[0].error):
            return _not_attempted(exercise, "The lesson goes on with the library's version.")
    expected = [run_case(reference, case, reference) for case in cases]
    problems = [
        got.differs_from(want, tolerance) for got, want in zip(outcomes, expected, strict=True)
    ]

    if any(problems):
        if exercise.start and _does_the_same(exercise.start, outcomes, exercise, tolerance):
            return _not_attempted(exercise, "The function still does what it did at the start.")
        for mistake in exercise.mistakes:
            if _does_the_same(mistake.answer, outcomes, exercise, tolerance):
                return _named_mistake(exercise, mistake)

    again = [run_case(fn, case, reference, seed=1) for case in cases]
    for case, first, second in zip(cases, outcomes, again, strict=True):
        if first.error is None and second.differs_from(first, tolerance):
            return _failed(
                exercise,
                "Two calls with the same input gave different results: the function uses random "
                "numbers, or remembers something between calls.",
                f"Input: {case.label}.",
            )
    if not any(problems):
        message = f"It agrees with the library's version on all {len(cases)} inputs."
        return CheckResult(exercise.id, "passed", f"{message} {exercise.praise}".strip())

    index = next(i for i, problem in enumerate(problems) if problem)
    right = sum(problem is None for problem in problems)
    score = f"{right} of {len(cases)} inputs are right." if right else "No input is right yet."
    return _failed(exercise, score, f"Input: {cases[index].label}.\n{problems[index]}")


def _does_the_same(
    fn: Callable, outcomes: list[Outcome], exercise: Exercise, tolerance: Tolerance
) -> bool:
    for case, got in zip(exercise.all_cases(), outcomes, strict=True):
        other = run_case(fn, case, exercise.reference)
        if got.differs_from(other, tolerance):
            return False
    return True


def _not_attempted(exercise: Exercise, message: str) -> CheckResult:
    return CheckResult(exercise.id, "not attempted", message)


def _failed(exercise: Exercise, message: str, details: str = "") -> CheckResult:
    return CheckResult(exercise.id, "failed", message, details=details)


def _named_mistake(exercise: Exercise, mistake: Mistake, message: str = "") -> CheckResult:
    text = message or f"This looks like a known mistake: {mistake.name}."
    return CheckResult(exercise.id, "failed", text, mistake.name, f"Hint: {mistake.hint}")
