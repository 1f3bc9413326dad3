"""Quizzes in a browser: by keyboard, in both themes, and to screen readers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.browser.widget_page import WidgetPage, open_widget
from zoo_lessons.lab.quiz import Quiz

QUESTIONS = [
    {
        "question": "Which axis does `softmax` run over?",
        "kind": "choose",
        "answers": [
            {"text": "keys", "correct": True, "feedback": "A row sums to 1."},
            {"text": "queries <i>", "correct": False, "feedback": "Columns would sum to 1."},
        ],
    },
    {
        "question": "Which share a length?",
        "kind": "many",
        "answers": [
            {"text": "`k` and `v`", "correct": True, "feedback": "One value per key."},
            {"text": "`q` and `k`", "correct": False, "feedback": "In self-attention only."},
            {"text": "all, in self-attention", "correct": True, "feedback": "One sequence."},
        ],
    },
    {
        "question": "How many patches?",
        "kind": "numeric",
        "otherwise": "Divide and square.",
        "answers": [
            {"value": 196, "tolerance": 0, "correct": True, "feedback": "14 × 14."},
            {"value": 197, "tolerance": 0, "correct": False, "feedback": "One too many."},
            {"value": 0.25, "tolerance": 0.01, "correct": False, "feedback": "A share?"},
        ],
    },
]


@pytest.fixture(params=["light", "dark"])
def shown(browser: Browser, request: pytest.FixtureRequest) -> Iterator[WidgetPage]:
    with open_widget(browser, Quiz(questions=QUESTIONS), theme=request.param) as page:
        yield page


def feedback(shown: WidgetPage, question: int) -> str:
    return shown.root.locator(".zoo-quiz-feedback").nth(question).inner_text()


def test_choosing_by_keyboard(shown):
    keys = shown.page.keyboard
    shown.root.locator("input[type=radio]").first.focus()
    keys.press("Space")
    assert feedback(shown, 0) == "", "choosing alone must not answer: arrow keys pass by"
    keys.press("Enter")
    assert "A row sums to 1." in feedback(shown, 0)
    assert shown.readout() == "1 of 3 answered right."
    keys.press("ArrowDown")
    keys.press("Tab")
    keys.press("Space")  # on the button
    assert "Columns would sum to 1." in feedback(shown, 0)
    assert shown.readout() == "0 of 3 answered right."


def test_several_right_answers(shown):
    boxes = shown.root.locator("input[type=checkbox]")
    for index in (0, 1):
        boxes.nth(index).focus()
        shown.page.keyboard.press("Space")
    shown.page.keyboard.press("Enter")
    assert "In self-attention only." in feedback(shown, 1)
    assert "1 of 2 right answers chosen." in feedback(shown, 1)
    boxes.nth(1).click()
    boxes.nth(2).click()
    shown.root.get_by_role("button", name="Check").nth(1).click()
    assert "2 of 2 right answers chosen." in feedback(shown, 1)
    assert shown.readout() == "1 of 3 answered right."


@pytest.mark.parametrize(
    "typed, expected",
    [
        ("196", "14 × 14."),
        ("197", "One too many."),
        ("0.255", "A share?"),
        ("-3", "Divide and square."),
        ("", "Enter a number first."),
    ],
)
def test_numbers(shown, typed, expected):
    shown.root.locator("input[type=number]").focus()
    shown.page.keyboard.type(typed)
    shown.page.keyboard.press("Enter")
    assert expected in feedback(shown, 2)
    assert shown.readout() == f"{int(typed == '196')} of 3 answered right."


def test_an_unanswered_question_asks_for_an_answer(shown):
    shown.root.get_by_role("button", name="Check").first.click()
    assert "Choose an answer first." in feedback(shown, 0)


def test_everything_is_reachable_announced_and_quiet(shown):
    for index, typed in [(0, None), (1, None), (2, "197")]:
        form = shown.root.locator("form").nth(index)
        if typed:
            form.locator("input").fill(typed)
        else:
            form.locator("input").last.check()
        form.locator("button").click()
    assert shown.root.locator(".zoo-quiz-feedback[role=status]").count() == 3
    assert shown.root.get_by_label("Wrong answer:").count() == 2
    assert shown.root.get_by_label("queries <i>").count() == 1, "answers are text, not markup"
    assert shown.accessibility_violations() == []
    assert shown.problems == [] and shown.requests == []
    shown.root.locator("input[type=number]").focus()
    shown.page.keyboard.press("x")
    assert "x" not in shown.page.evaluate("keysThatEscape"), "in JupyterLab, x cuts the cell"
