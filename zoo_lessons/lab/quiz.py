"""The quiz at the end of a lesson: a few questions, every answer explained, nothing stored.

The course draws its quizzes itself. JupyterQuiz, the usual library, was tried in JupyterLab 4.6: it
raises an error for want of another MathJax, leaves number fields without a label and feedback
unannounced to screen readers, keeps its own colours in the dark theme, shows nothing but a script
on GitHub, and gives every run's output another id, so that notebooks never compare equal.
"""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from zoo_lessons.lab.widgets.base import ZooWidget

_FOLDER = Path(__file__).parent / "quizzes"
_KINDS = ("choose", "many", "numeric")
_LATEX = re.compile(r"\$[^$]+\$|\\[a-zA-Z(\[]")


class QuizError(ValueError):
    """A quiz file says something that a quiz cannot mean. The message says where and what."""


class Quiz(ZooWidget):
    """A quiz as a widget; where no kernel answers, the questions as text, unmarked."""

    _script = "quiz.js"
    _style = "quiz.css"

    questions = traitlets.List().tag(sync=True)

    def static_text(self) -> str:
        """The questions with their possible answers, right ones not marked."""
        lines = []
        for number, question in enumerate(self.questions, start=1):
            lines.append(f"{number}. {question['question']}")
            if question["kind"] != "numeric":
                lines += [f"   - {answer['text']}" for answer in question["answers"]]
        return "\n".join(lines)

    def static_html(self) -> str:
        items = []
        for question in self.questions:
            answers = [] if question["kind"] == "numeric" else question["answers"]
            listed = "".join(f"<li>{_as_html(answer['text'])}</li>" for answer in answers)
            answers_html = f"<ul>{listed}</ul>" if listed else ""
            items.append(f"<li>{_as_html(question['question'])}{answers_html}</li>")
        return f"<ol>{''.join(items)}</ol>"

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict, dict] | None:
        # Text serves a quiz better than the picture that other widgets fall back to.
        bundle = anywidget.AnyWidget._repr_mimebundle_(self, **kwargs)
        if bundle is None:
            return None
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        return {**data, "text/plain": self.static_text(), "text/html": self.static_html()}, metadata


def quiz(lesson: str) -> Quiz:
    """The quiz of a lesson, "01", ready to be shown by a notebook.

    Raises:
        FileNotFoundError: the lesson has no quiz.
        QuizError: its file is not a valid quiz.
    """
    path = _FOLDER / f"lesson_{lesson}.json"
    if not path.is_file():
        known = ", ".join(quiz_lessons()) or "none yet"
        raise FileNotFoundError(f"lesson {lesson!r} has no quiz; lessons that have one: {known}")
    return Quiz(questions=read_quiz(path))


def quiz_lessons() -> tuple[str, ...]:
    """Numbers of the lessons that have a quiz."""
    return tuple(
        sorted(path.stem.removeprefix("lesson_") for path in _FOLDER.glob("lesson_*.json"))
    )


def read_quiz(path: Path) -> list[dict[str, Any]]:
    """Read and check a quiz file: a JSON list of questions.

    A question has `question` (text), `kind` and `answers`. Kinds: "choose" (one answer is right),
    "many" (one or more are) and "numeric". An answer has `text`, `correct` and `feedback`; for a
    numeric question `value` and, if wanted, `tolerance` instead of `text`, and the question says
    in `otherwise` what to answer to other numbers. Text between back-ticks is set as code.

    Raises:
        QuizError: the file is no such list. The message names the file, question and answer.
    """
    try:
        questions = json.loads(path.read_text("utf8"))
    except json.JSONDecodeError as error:
        raise QuizError(f"{path.name}: not valid JSON: {error}") from error
    if not isinstance(questions, list) or not 3 <= len(questions) <= 5:
        count = len(questions) if isinstance(questions, list) else "no list of"
        raise QuizError(f"{path.name}: a quiz has 3 to 5 questions, this file has {count}")
    return [
        _checked_question(question, f"{path.name}, question {number}")
        for number, question in enumerate(questions, start=1)
    ]


def _checked_question(question: Any, where: str) -> dict[str, Any]:
    kind = question.get("kind") if isinstance(question, dict) else None
    if kind not in _KINDS:
        raise QuizError(f"{where}: kind must be one of {', '.join(_KINDS)}, got {kind!r}")
    numeric = kind == "numeric"
    keys = {"question", "kind", "answers"} | ({"otherwise"} if numeric else set())
    _require_keys(question, keys, where)
    for key in sorted(keys & {"question", "otherwise"}):
        _require_text(question[key], f"{where}, {key}")
    answers = question["answers"]
    if not isinstance(answers, list) or len(answers) < (1 if numeric else 2):
        raise QuizError(f"{where}: answers must be a list of at least {1 if numeric else 2}")
    checked = [
        _checked_answer(answer, numeric, f"{where}, answer {number}")
        for number, answer in enumerate(answers, start=1)
    ]
    right = sum(answer["correct"] for answer in checked)
    if right == 0 or (kind == "choose" and right != 1):
        wanted = "exactly one answer" if kind == "choose" else "at least one answer"
        raise QuizError(f"{where}: {wanted} must be correct, {right} are")
    given = [answer["value" if numeric else "text"] for answer in checked]
    if len(set(given)) != len(given):
        raise QuizError(f"{where}: two answers are the same: {given}")
    return {**question, "answers": checked}


def _checked_answer(answer: Any, numeric: bool, where: str) -> dict[str, Any]:
    if not isinstance(answer, dict):
        raise QuizError(f"{where}: must be an object, got {answer!r}")
    if numeric:
        answer = {"tolerance": 0, **answer}
        _require_keys(answer, {"value", "tolerance", "correct", "feedback"}, where)
        for key in ("value", "tolerance"):
            number = answer[key]
            is_number = isinstance(number, (int, float)) and not isinstance(number, bool)
            if not is_number or not math.isfinite(number):
                raise QuizError(f"{where}: {key} must be a number, got {number!r}")
    else:
        _require_keys(answer, {"text", "correct", "feedback"}, where)
        _require_text(answer["text"], f"{where}, text")
    if not isinstance(answer["correct"], bool):
        raise QuizError(f"{where}: correct must be true or false, got {answer['correct']!r}")
    _require_text(answer["feedback"], f"{where}, feedback")
    return answer


def _require_keys(found: dict, wanted: set[str], where: str) -> None:
    if set(found) != wanted:
        missing, extra = sorted(wanted - set(found)), sorted(set(found) - wanted)
        raise QuizError(f"{where}: missing keys {missing}, unknown keys {extra}")


def _require_text(text: Any, where: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise QuizError(f"{where}: must be a text, got {text!r}")
    if _LATEX.search(text):
        raise QuizError(f"{where}: write mathematics in Unicode, such as √d_k; LaTeX stays raw")
    if text.count("`") % 2:
        raise QuizError(f"{where}: a back-tick is not closed")


def _as_html(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
