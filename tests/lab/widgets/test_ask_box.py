"""The ask box's Python side: answers, their checks, the static picture."""

from __future__ import annotations

import pytest

from zoo_lessons.lab.widgets import Answer, AskBox

FRANCE = [("paris", 0.9, "a passage"), ("lyon", 0.05)]


def answer(text: str) -> Answer:
    if "[MASK]" not in text:
        raise ValueError("Write [MASK] where a word is missing.")
    return Answer(FRANCE, text="The capital is Paris.", highlight=(15, 20))


def ask(box: AskBox, text: str) -> str:
    """The error that the reader sees, or ""."""
    sent = []
    box.send = sent.append
    box._handle_custom_msg({"kind": "question", "text": text, "request": "r"}, [])
    return sent[0]["error"]


def test_the_first_answer_is_there_at_once():
    box = AskBox(answer, examples=["France: [MASK]", "Spain: [MASK]"])
    assert box.question == "France: [MASK]"
    assert box.answer.rows == FRANCE
    assert box._payload["text"] == ["The capital is ", "Paris", "."]
    assert box._payload["rows"] == [
        {"label": "paris", "share": 0.9, "value": "90.0%", "detail": "a passage"},
        {"label": "lyon", "share": 0.05, "value": "5.0%", "detail": ""},
    ]


def test_questions_reach_the_function_and_errors_keep_the_answer():
    box = AskBox(answer, "France: [MASK]")
    assert ask(box, "Spain: [MASK]") == ""
    assert box.question == "Spain: [MASK]"
    assert ask(box, "no hole") == "Write [MASK] where a word is missing."
    assert ask(box, "  ") == "Type a text first."
    assert box.question == "Spain: [MASK]"


@pytest.mark.parametrize(
    ("maximum", "shares"), [(1.0, [0.5, 0.0]), (0.25, [1.0, 0.0]), (None, [1.0, 0.0])]
)
def test_bars_end_at_the_maximum_and_begin_at_zero(maximum, shares):
    box = AskBox(lambda text: Answer([("a", 0.5), ("b", -0.1)]), "q", maximum=maximum)
    assert [row["share"] for row in box._payload["rows"]] == shares


def test_answers_without_rows_or_without_text():
    assert AskBox(lambda text: Answer(text="yes"), "q").static_text() == "AskBox: “q”; yes"
    empty = AskBox(lambda text: Answer(), "q", maximum=None)
    assert empty.static_text() == "AskBox: “q”"
    assert empty.static_png().startswith(b"\x89PNG")
    zero = AskBox(lambda text: Answer([("a", 0.0)]), "q", maximum=None)
    assert zero._payload["rows"][0]["share"] == 0


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rows": [("a",)]}, r"a row is \(label, value\) or .*got \('a',\)"),
        ({"rows": [("a", float("nan"))]}, "row 'a' must be finite, got nan"),
        ({"text": "abc", "highlight": (2, 4)}, r"highlight=\(2, 4\) is no part .* 3 letters"),
        ({"text": "abc", "highlight": (1, 1)}, r"highlight=\(1, 1\)"),
    ],
)
def test_wrong_answers_are_refused_with_a_reason(fields, message):
    with pytest.raises(ValueError, match=message):
        Answer(**fields)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="needs a question or examples"):
        AskBox(answer)
    with pytest.raises(ValueError, match="maximum=0 must be above 0"):
        AskBox(answer, "[MASK]", maximum=0)
    with pytest.raises(ValueError, match="Write "):
        AskBox(answer, "no hole")
    with pytest.raises(TypeError, match="must return an Answer, got list"):
        AskBox(lambda text: FRANCE, "q")


def test_text_names_question_answer_and_rows_without_values():
    assert AskBox(answer, "France: [MASK]").static_text() == (
        "AskBox: “France: [MASK]”; answer “Paris”; by probability: paris, lyon"
    )


def test_picture_is_deterministic_and_follows_the_answer():
    passage = "A long passage of words. " * 20
    boxes = [
        AskBox(lambda text, v=v: Answer([("$x$", v, passage)], text="$y$"), "q")
        for v in (0.5, 0.5, 0.6)
    ]
    first, again, other = (box.static_png() for box in boxes)
    assert first == again != other
    assert len(first) < 60_000
