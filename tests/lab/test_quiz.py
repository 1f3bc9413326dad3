"""Quiz files are sound, and what a notebook stores of a quiz is stable and gives nothing away."""

from __future__ import annotations

import copy
import json

import pytest

from zoo_lessons.lab.curriculum import LESSONS
from zoo_lessons.lab.quiz import _FOLDER, QuizError, quiz, quiz_lessons, read_quiz

CHOOSE = {
    "question": "Which axis does `softmax` run over?",
    "kind": "choose",
    "answers": [
        {"text": "keys", "correct": True, "feedback": "Right: a row sums to 1."},
        {"text": "queries <b>", "correct": False, "feedback": "Then columns would sum to 1."},
    ],
}
MANY = {**CHOOSE, "question": "Which are masks?", "kind": "many"}
NUMERIC = {
    "question": "How many patches?",
    "kind": "numeric",
    "otherwise": "Divide 224 by 16, and square it.",
    "answers": [
        {"value": 196, "correct": True, "feedback": "14 by 14."},
        {"value": 197, "correct": False, "feedback": "That counts the class token."},
    ],
}


@pytest.fixture
def save(tmp_path):
    def write(content):
        path = tmp_path / "lesson_77.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content), "utf8")
        return path

    return write


def altered(base, **changes):
    """A quiz whose second question is `base` with one value changed, or removed by ...."""
    question = copy.deepcopy(base)
    for path, value in changes.items():
        *parents, key = path.split("__")
        target = question
        for parent in parents:
            target = target[int(parent) if parent.isdigit() else parent]
        if value is ...:
            del target[key]
        else:
            target[key] = value
    return [CHOOSE, question, NUMERIC]


@pytest.mark.parametrize("lesson", quiz_lessons())
def test_the_courses_quizzes_are_sound(lesson):
    assert lesson in {entry.number for entry in LESSONS}
    questions = read_quiz(_FOLDER / f"lesson_{lesson}.json")
    places = {
        [answer["correct"] for answer in question["answers"]].index(True)
        for question in questions
        if question["kind"] == "choose"
    }
    assert len(places) != 1 or len(questions) == 1, "the right answer always has the same place"
    for question in questions:
        feedback = [answer["feedback"] for answer in question["answers"]]
        assert len(set(feedback)) == len(feedback), "each answer needs its own explanation"


def test_there_is_a_quiz_to_test():
    assert "00" in quiz_lessons()


def test_a_sound_quiz_is_read(save):
    questions = read_quiz(save([CHOOSE, MANY, NUMERIC]))
    assert [question["kind"] for question in questions] == ["choose", "many", "numeric"]
    assert questions[2]["answers"][0]["tolerance"] == 0


@pytest.mark.parametrize(
    "content, message",
    [
        ("{", "not valid JSON"),
        ({}, "has no list of"),
        ([CHOOSE], "3 to 5 questions, this file has 1"),
        ([CHOOSE] * 6, "this file has 6"),
        (altered(CHOOSE, kind="guess"), "question 2: kind must be one of choose, many, numeric"),
        (altered(CHOOSE, answers__1__correct=True), "exactly one answer must be correct, 2 are"),
        (altered(CHOOSE, answers__0__correct=False), "must be correct, 0 are"),
        (altered(MANY, answers__0__correct=False), "at least one answer must be correct"),
        (altered(CHOOSE, answers__1__feedback=" "), "question 2, answer 2, feedback: must be a"),
        (altered(CHOOSE, answers__1__feedback=...), r"answer 2: missing keys \['feedback'\]"),
        (altered(CHOOSE, answers__1__correct="no"), "must be true or false, got 'no'"),
        (altered(CHOOSE, answers__1__text="keys"), "two answers are the same"),
        (altered(CHOOSE, hint="x"), r"unknown keys \['hint'\]"),
        (altered(CHOOSE, question="What is $d_k$?"), "write mathematics in Unicode"),
        (altered(CHOOSE, question=r"What is \sqrt{d}?"), "write mathematics in Unicode"),
        (altered(CHOOSE, question="What is `d_k?"), "back-tick is not closed"),
        (altered(CHOOSE, answers=["a", "b"]), "answer 1: must be an object"),
        (altered(CHOOSE, answers=[]), "answers must be a list of at least 2"),
        (altered(NUMERIC, otherwise=...), r"missing keys \['otherwise'\]"),
        (altered(NUMERIC, answers__0__value="196"), "value must be a number, got '196'"),
        (altered(NUMERIC, answers__0__tolerance=True), "tolerance must be a number"),
    ],
)
def test_unsound_quizzes_are_refused_with_the_place(save, content, message):
    with pytest.raises(QuizError, match=message):
        read_quiz(save(content))


def test_stored_output_is_stable_and_marks_no_answer():
    one, other = (quiz("00")._repr_mimebundle_()[0] for _ in range(2))
    for kind in ("text/plain", "text/html"):
        assert one[kind] == other[kind]
    assert set(one) == {
        "text/plain",
        "text/html",
        "application/vnd.jupyter.widget-view+json",
    }
    for question in read_quiz(_FOLDER / "lesson_00.json"):
        for answer in question["answers"]:
            assert answer["text"] in one["text/plain"]
            assert answer["feedback"] not in one["text/plain"] + one["text/html"]
    assert "correct" not in one["text/html"]


def test_texts_are_escaped_and_code_is_set_as_code(save):
    from zoo_lessons.lab.quiz import Quiz

    page = Quiz(questions=read_quiz(save([CHOOSE, MANY, NUMERIC]))).static_html()
    assert "queries &lt;b&gt;" in page
    assert "<code>softmax</code>" in page


def test_a_lesson_without_a_quiz_is_named():
    with pytest.raises(FileNotFoundError, match="lesson '77' has no quiz; lessons that have one"):
        quiz("77")
