"""Questions about Python: their answers are there, on the Python that the course is tested with."""

from __future__ import annotations

from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.datasets.reference_questions import _QUESTIONS, questions


def test_nearly_all_questions_have_an_answer_and_no_beginning_is_vague():
    passages = paragraphs("reference")
    found = questions(passages)
    asked = sum(len(part) for part in _QUESTIONS.values())
    assert len(found) >= 0.8 * asked  # a version of Python may word some answers differently
    assert len({question.text for question in found}) == len(found)
    for question in found:
        assert 1 <= len(question.answers) <= 6
        assert all(0 <= i < len(passages) for i in question.answers)


def test_answers_are_indices_into_the_given_passages():
    passage = 'The "sort()" method is guaranteed to be stable. And so on.'
    (question,) = questions(["Nothing.", passage])
    assert question.answers == (1,) and question.kind == "own words"
    assert questions(["Nothing."]) == []
