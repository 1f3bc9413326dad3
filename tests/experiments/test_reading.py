import pytest

from experiments.reading import best_lexical, chosen_threshold, evaluate, scores
from zoo_lessons.datasets.reading import reading_questions
from zoo_lessons.question_answering import Answer

QUESTIONS = reading_questions("validation", 60)


def oracle(questions):
    """Knows every answer, and doubts where there is none."""
    return [
        Answer(q.answer or q.candidates[0][1] if q.candidates else q.answer or "x", 0, 0, margin)
        for q in questions
        for margin in [2.0 if q.answer else -2.0]
    ]


def test_perfect_answers_score_1():
    found = evaluate(oracle, QUESTIONS, {"test": QUESTIONS})
    assert -2.0 <= found["threshold"] < 2.0
    assert set(found["test"].values()) == {1.0}


def test_the_threshold_decides_about_unanswerable_questions():
    share = sum(not q.answer for q in QUESTIONS) / len(QUESTIONS)
    always = scores(oracle(QUESTIONS), QUESTIONS, threshold=-10)
    never = scores(oracle(QUESTIONS), QUESTIONS, threshold=10)
    assert (always["answerable"], always["unanswerable"]) == (1.0, 0.0)
    assert (never["answerable"], never["unanswerable"]) == (0.0, 1.0)
    assert never["exact_match"] == pytest.approx(share, abs=1e-4)


def test_a_method_that_knows_nothing_stays_silent():
    def wrong(questions):
        return [Answer("nonsense", 0, 0, 0.0) for _ in questions]

    assert chosen_threshold(wrong(QUESTIONS), QUESTIONS) >= 0


def test_the_baseline_is_better_than_silence():
    tuning = reading_questions("validation", 100, seed=1)
    found = best_lexical(tuning, {"validation": QUESTIONS})["validation"]
    assert found["exact_match"] > 0.4 > sum(not q.answer for q in QUESTIONS) / len(QUESTIONS)
