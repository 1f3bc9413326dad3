"""The exercise machinery, on exercises made for these tests."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import sys
import types

import numpy as np
import pytest
import torch
from torch import nn

from zoo_lessons.lab import exercises
from zoo_lessons.lab.exercises import Case, Exercise, Mistake, UnknownExercise, Verdict, audit
from zoo_lessons.lab.exercises.compare import Tolerance, difference
from zoo_lessons.lab.exercises.grading import grade
from zoo_lessons.lab.exercises.run import run_case
from zoo_lessons.layers.attention import scaled_dot_product_attention


def randn(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **options)


# ---------------------------------------------------------------- sample exercises


def attention(q, k, v):
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v


def attention_scaled_by(scale):
    def wrong(q, k, v):
        return (q @ k.transpose(-2, -1) * scale(q.shape[-1])).softmax(-1) @ v

    return wrong


def over_queries(q, k, v):
    return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-2) @ v


SCALE_MISTAKES = (
    Mistake(
        "no scale", attention_scaled_by(lambda d: 1.0), "Divide the scores by the root of d_k."
    ),
    Mistake("scale 10", attention_scaled_by(lambda d: 10.0), "Is ten in the formula anywhere?"),
    Mistake("scale 1/d", attention_scaled_by(lambda d: 1 / d), "Take the root of d_k first."),
    Mistake("softmax over queries", over_queries, "Each query needs weights that sum to 1."),
)


def attention_exercise(size: float) -> Exercise:
    """Inputs of this size: 1 is honest; 100 saturates the softmax."""

    def cases():
        return [
            Case(
                (
                    size * randn(2, 3, 5, 4, seed=1),
                    size * randn(2, 3, 7, 4, seed=2),
                    randn(2, 3, 7, 6, seed=3),
                ),
                label="5 queries, 7 keys, batch 2, 3 heads",
            ),
            Case(
                (
                    size * randn(5, 4, seed=4),
                    size * randn(5, 4, seed=5),
                    randn(4, 5, seed=6).T,
                ),
                label="no batch, non-contiguous values",
            ),
        ]

    return Exercise("99.attention", "Attention", attention, cases, SCALE_MISTAKES)


ATTENTION = attention_exercise(1.0)


def with_bug(mask):
    return mask.triu()


BUG = Exercise(
    "99.find_the_bug",
    "Find the bug",
    lambda mask: mask.tril(),
    [Case((randn(n, n, seed=n),), label=f"{n} positions") for n in (3, 4)],
    (
        Mistake("own position hidden", lambda mask: mask.tril(-1), "May a word see itself at all?"),
        Mistake("next word seen", lambda mask: mask.tril(1), "Look at the diagonal once more."),
    ),
    start=with_bug,
)

HEAD = Exercise(
    "99.head",
    "Find the head that looks one word back",
    (3, 1),
    mistakes=(
        Mistake("the next-word head", (2, 5), "This head looks ahead, not back at all."),
        Mistake("the head first", (1, 3), "Layer comes first, and then the head."),
    ),
)


class Scale(nn.Module):
    def __init__(self, width, bias=True, twice=False):
        super().__init__()
        self.linear = nn.Linear(width, width, bias=bias)
        self.norm = nn.LayerNorm(width)
        self.twice = twice

    def forward(self, x):
        y = self.norm(self.linear(x))
        return self.norm(y) if self.twice else y


class NoResidual(Scale):
    def forward(self, x):
        return self.linear(x)


class Biased(nn.Module):
    """Another parameter layout: no norm at all."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, x):
        return self.linear(x)


MODULE = Exercise(
    "99.module",
    "Linear, then norm",
    Scale,
    [Case((width,), label=f"width {width}", inputs=(randn(2, width),)) for width in (4, 6)],
    (
        Mistake("norm left out", NoResidual, "What keeps the variance in check here?"),
        Mistake(
            "norm twice", lambda width: Scale(width, twice=True), "One LayerNorm is enough here."
        ),
    ),
)

SAMPLES = (ATTENTION, BUG, HEAD, MODULE)


@pytest.fixture
def lesson_99(monkeypatch):
    """The samples as if they were a lesson's exercises."""
    module = types.ModuleType(f"{exercises.__name__}.lesson_99")
    module.EXERCISES = SAMPLES
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(exercises, "lessons_with_exercises", lambda: ("99",))


# ---------------------------------------------------------------- the audit itself


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda entry: entry.id)
def test_honest_exercises_pass_the_audit(sample):
    assert audit(sample) == []


def test_audit_rejects_cases_that_saturate_the_softmax():
    problems = audit(attention_exercise(100.0))
    assert any("'no scale'" in problem for problem in problems), problems
    assert any("'scale 10'" in problem for problem in problems), problems


def test_audit_rejects_two_mistakes_that_the_cases_cannot_tell_apart():
    square = [Case((torch.ones(3, 3),), label="ones"), Case((torch.ones(2, 2),), label="more ones")]
    mistakes = (
        Mistake("sum over rows", lambda x: x.sum(0) * 2, "Which axis do you sum over?"),
        Mistake("sum over columns", lambda x: x.sum(1) * 2, "Which axis do you sum over?"),
    )
    blurred = Exercise("99.sum", "Sum", lambda x: x.sum(0), square, mistakes)
    assert any("'sum over columns' is taken for" in problem for problem in audit(blurred))


def changed(**fields):
    return dataclasses.replace(BUG, **fields)


def mask_in_place(mask):
    return mask.tril_()


@pytest.mark.parametrize(
    "unfair, complaint",
    [
        (changed(reference=mask_in_place), "the reference changes mask"),
        (changed(reference=lambda mask: torch.rand(3)), "the reference does not pass"),
        (changed(mistakes=BUG.mistakes[:1]), "at least 2"),
        (changed(start=BUG.mistakes[0].answer), "is not caught"),
        (changed(start=BUG.reference), "is not neutral"),
        (changed(cases=BUG.cases[:1]), "a constant would pass"),
        (changed(cases=(BUG.cases[0], BUG.cases[0])), "the same label"),
        (changed(title=" "), "no title"),
        (
            changed(
                mistakes=(BUG.mistakes[0], Mistake("right", lambda m: m.tril(), "It is right."))
            ),
            "'right' is not caught",
        ),
        (
            changed(
                mistakes=(*BUG.mistakes, Mistake("hair", lambda m: m.tril() * 1.0005, "So close."))
            ),
            "by a hair",
        ),
        (changed(mistakes=(*BUG.mistakes, Mistake("x", with_bug, "Hm?"))), "too short to help"),
    ],
)
def test_audit_names_what_is_unfair(unfair, complaint):
    assert any(complaint in problem for problem in audit(unfair)), audit(unfair)


# ---------------------------------------------------------------- what a learner reads


def test_untouched_stub_is_neutral():
    def causal(mask):
        """Docstring."""
        raise NotImplementedError

    result = grade(BUG, causal)
    assert result.status == "not attempted"
    assert "library's version" in result.message


def test_an_unsupported_operation_of_pytorch_is_not_an_untouched_stub():
    """PyTorch raises NotImplementedError too, for a dtype that an operation does not support."""

    def unsupported(mask):
        return torch._C._nn.gelu(mask.to(torch.complex64))  # some operation without a kernel

    def unsupported_like_torch(mask):
        error = NotImplementedError('"tril" not implemented for this dtype')
        raise error

    result = grade(BUG, unsupported_like_torch)
    assert result.status == "failed"
    assert "not implemented for this dtype" in result.details
    assert grade(BUG, unsupported).status == "failed"


def test_find_the_bug_counts_as_not_attempted_until_the_function_changes():
    assert grade(BUG, with_bug).status == "not attempted"
    assert grade(BUG, lambda mask: mask.tril(-1)).mistake == "own position hidden"
    assert grade(BUG, lambda mask: torch.tril(mask)).status == "passed"


def test_a_known_mistake_is_named_however_it_is_written():
    def mine(q, k, v):
        scores = torch.einsum("...qd,...kd->...qk", q, k)
        return torch.einsum("...qk,...kd->...qd", torch.softmax(scores, dim=-1), v)

    result = grade(ATTENTION, mine)
    assert result.mistake == "no scale"
    assert "Hint: Divide the scores" in repr(result)


@pytest.mark.parametrize(
    "fn, expected",
    [
        (lambda q, k, v: None, "It returned None. Did you forget `return`?"),
        (lambda q, k, v: (attention(q, k, v), 0), "Expected a tensor, got a tuple with 2 items."),
        (lambda q, k, v: attention(q, k, v).numpy(), "got a numpy array of shape (2, 3, 5, 6)"),
        (lambda q, k, v: q, "Expected shape (2, 3, 5, 6), got (2, 3, 5, 4)."),
        (lambda q, k, v: attention(q, k, v).mT, "but axes 2 and 3 are swapped"),
        (lambda q, k, v: attention(q, k, v) * math.nan, "holds NaN, first at [0, 0, 0, 0]"),
        (lambda q, k, v: attention(q, k, v) / 0, "holds inf, first at [0, 0, 0, 0]"),
        (
            lambda q, k, v: attention(q, k, v).double(),
            "Expected dtype float32, got float64. The values are right.",
        ),
        (lambda q, k, v: attention(q, k, v) * 2, "Every value is 2 times the expected one."),
        (lambda q, k, v: attention(q, k, v) + 1, "The largest difference is 1."),
        (lambda q, k: q, "takes 2 positional arguments but 3 were given"),
        (lambda q, k, v: undefined_name, "NameError: name 'undefined_name'"),  # noqa: F821
    ],
)
def test_generic_messages(fn, expected):
    result = grade(ATTENTION, fn)
    assert result.status == "failed" and not result.mistake
    assert expected in result.details, result.details
    assert "5 queries, 7 keys, batch 2, 3 heads" in result.details


def test_values_that_differ_are_located():
    def off_in_one_place(q, k, v):
        result = attention(q, k, v)
        result[..., 1, 2] += 0.5
        return result

    details = grade(ATTENTION, off_in_one_place).details
    assert "6 of 180 values differ, first at [0, 0, 1, 2]: expected" in details
    assert "The largest difference is 0.5." in details


def test_partly_right_answers_hear_how_far_they_are():
    def only_square(q, k, v):
        if q.shape[-2] != k.shape[-2]:
            raise ValueError("queries and keys differ")
        return attention(q, k, v)

    result = grade(ATTENTION, only_square)
    assert result.message == "1 of 2 inputs are right."


def test_an_error_shows_the_learners_line_and_no_library_traceback():
    def broken(q, k, v):
        scores = q @ k  # shapes do not fit
        return scores @ v

    details = grade(ATTENTION, broken).details
    assert "RuntimeError" in details
    assert "of your cell: `scores = q @ k  # shapes do not fit`" in details
    assert "site-packages" not in details and "File" not in details


def test_an_error_inside_a_library_points_to_the_learners_own_line():
    def own_line(fn):
        return grade(ATTENTION, fn).details.splitlines()[-1]

    def through_the_course(q, k, v):
        return scaled_dot_product_attention(q, k[..., :2], v)[0]

    def through_python(q, k, v):
        return json.loads("{")

    assert "`return scaled_dot_product_attention(q, k[..., :2], v)[0]`" in own_line(
        through_the_course
    )
    assert '`return json.loads("{")`' in own_line(through_python)


def test_changing_an_input_is_reported_by_the_arguments_name():
    def in_place(q, k, v):
        q /= math.sqrt(q.shape[-1])
        return (q @ k.mT).softmax(-1) @ v

    assert "it changed `q` in place" in grade(ATTENTION, in_place).details


def test_a_listed_in_place_mistake_is_recognised():
    listed = changed(
        mistakes=(*BUG.mistakes, Mistake("in place", mask_in_place, "Work on a copy instead."))
    )
    assert audit(listed) == []
    assert grade(listed, mask_in_place).mistake == "in place"


@pytest.mark.parametrize(
    "source", [lambda: torch.rand(()), lambda: random.random(), lambda: np.random.rand()]
)
def test_hidden_randomness_is_reported(source):
    result = grade(ATTENTION, lambda q, k, v: attention(q, k, v) + float(source()))
    assert "gave different results" in result.message


def test_hidden_memory_is_reported():
    calls = []

    def remembers(q, k, v):
        calls.append(1)
        return attention(q, k, v) + len(calls)

    assert "remembers something" in grade(ATTENTION, remembers).message


def test_checking_leaves_the_learners_random_numbers_alone():
    def draw():
        return torch.rand(3).tolist() + np.random.rand(2).tolist() + [random.random()]

    def seed():
        torch.manual_seed(5), np.random.seed(5), random.seed(5)

    seed()
    expected = draw()
    seed()
    grade(ATTENTION, lambda q, k, v: torch.rand(1))
    grade(MODULE, Scale)
    assert draw() == expected


def test_a_call_instead_of_a_function_is_explained():
    result = grade(ATTENTION, attention(*ATTENTION.all_cases()[0].args))
    assert "needs the function itself" in result.message


# ---------------------------------------------------------------- modules and values


def test_modules_are_compared_on_the_same_weights():
    class Mine(Scale):  # same parameters, other initialisation
        def __init__(self, width):
            super().__init__(width)
            nn.init.zeros_(self.linear.weight)

    assert grade(MODULE, Mine).status == "passed"
    assert grade(MODULE, NoResidual).mistake == "norm left out"


def test_modules_with_other_parameters_hear_which():
    assert "it lacks `norm.weight`, `norm.bias`" in grade(MODULE, Biased).details
    assert "it lacks `linear.bias`" in grade(MODULE, lambda width: Scale(width, bias=False)).details
    assert "expected shape (4, 4), got (5, 5)" in grade(MODULE, lambda width: Scale(5)).details
    assert "Did you forget `return`" in grade(MODULE, lambda width: None).details


def test_reference_weights_hide_nothing():
    """With zero biases or unit norms, a forgotten one would pass."""
    case = MODULE.all_cases()[0]
    with_weights = run_case(Scale, case, Scale).value
    untouched = run_case(lambda width: nn.Identity(), case, lambda width: nn.Identity()).value
    assert not torch.allclose(with_weights, untouched)
    assert not torch.allclose(with_weights.mean(-1), torch.zeros(2), atol=1e-2)


@pytest.mark.parametrize("untouched", [None, ...])
def test_values_not_given_are_neutral(untouched):
    assert grade(HEAD, untouched).status == "not attempted"


def test_values_are_compared_without_giving_the_answer_away():
    assert grade(HEAD, (3, 1)).status == "passed"
    assert grade(HEAD, [3, 1]).status == "passed"
    assert grade(HEAD, (2, 5)).mistake == "the next-word head"
    wrong = grade(HEAD, (9, 9))
    assert wrong.status == "failed" and not wrong.mistake
    assert "3" not in repr(wrong) and "1" not in repr(wrong)


def test_a_grade_function_decides_alone():
    def judge(answer):
        layer, head = answer
        if layer > 5:
            return Verdict(False, mistake="too deep")
        return Verdict(head == 1, "It looks one word back in 93 % of cases." if head == 1 else "")

    graded = Exercise(
        "99.any_head",
        "Any head that looks back",
        (0, 1),
        mistakes=(Mistake("too deep", (9, 1), "There are only six layers here."),),
        grade=judge,
    )
    assert grade(graded, (4, 1)).message == "It looks one word back in 93 % of cases."
    assert grade(graded, (7, 1)).mistake == "too deep"
    assert "Hint: There are only six layers" in repr(grade(graded, (7, 1)))
    assert grade(graded, (4, 2)).status == "failed"
    assert "could not be read" in grade(graded, 7).message


# ---------------------------------------------------------------- comparing


@pytest.mark.parametrize(
    "expected, got, same",
    [
        (1.0, 1.0 + 1e-12, True),
        (1.0, 1.01, False),
        (4, 4.0, True),
        (4, torch.tensor(4), True),
        (4, True, False),
        (True, 1, False),
        (True, np.bool_(True), True),
        ("cat", "cat", True),
        ("cat", "Cat", False),
        ((1, "a"), [1, "a"], True),
        ((1, 2), (1, 2, 3), False),
        ({"a": 1}, {"a": 1}, True),
        ({"a": 1}, {"b": 1}, False),
        (np.arange(3), np.arange(3), True),
        (np.arange(3), torch.arange(3), False),
        (np.array(["a"]), np.array(["a"]), True),
        (torch.tensor([math.nan]), torch.tensor([math.nan]), True),
        (torch.tensor([True]), torch.tensor([1]), False),
        (torch.tensor([1.0, -math.inf]), torch.tensor([1.0, -math.inf]), True),
        (torch.tensor([-math.inf, -math.inf]), torch.tensor([1.0, 2.0]), False),
        (torch.zeros(2, 0), torch.zeros(2, 0), True),
        (math.inf, math.inf, True),
        (None, None, True),
        (None, 1, False),
    ],
)
def test_difference(expected, got, same):
    assert (difference(expected, got) is None) == same, difference(expected, got)


def test_tolerance_follows_the_dtype():
    for dtype, gap in [(torch.float64, 1e-5), (torch.float32, 1e-3), (torch.bfloat16, 0.1)]:
        one = torch.ones(3, dtype=dtype)
        assert difference(one, one + gap) is not None
        assert difference(one, one * (1 + torch.finfo(dtype).eps)) is None
    assert difference(torch.ones(1), torch.tensor([1.05]), Tolerance(rtol=0.1)) is None


# ---------------------------------------------------------------- results and ids


def test_results_are_stable_text_and_an_accessible_card(lesson_99):
    result = exercises.check("99.attention", attention)
    assert repr(result) == (
        "99.attention: Passed. It agrees with the library's version on all 2 inputs."
    )
    card = exercises.check("99.attention", lambda q, k, v: "<b>")._repr_html_()
    assert 'role="status"' in card
    assert "Not right yet" in card, "the status must be words, not only a colour"
    assert "<b>" not in card
    assert "var(--jp-" in card


def test_code_in_messages_is_set_as_code(lesson_99):
    assert (
        "<code>return</code>" in exercises.check("99.attention", lambda q, k, v: None)._repr_html_()
    )


def test_unknown_ids_name_the_closest(lesson_99):
    with pytest.raises(
        UnknownExercise, match=r"no exercise '99.atention'; did you.*'99.attention'"
    ):
        exercises.check("99.atention", attention)
    with pytest.raises(KeyError):
        exercises.check("nonsense", attention)
    with pytest.raises(UnknownExercise, match="lesson '42' has no exercises"):
        exercises.exercise_ids("42")


def test_ids_come_in_the_lessons_order(lesson_99):
    assert exercises.exercise_ids("99") == tuple(sample.id for sample in SAMPLES)


def test_a_lesson_module_with_a_foreign_id_is_rejected(lesson_99, monkeypatch):
    module = sys.modules[f"{exercises.__name__}.lesson_99"]
    monkeypatch.setattr(module, "EXERCISES", (dataclasses.replace(BUG, id="98.other"),))
    with pytest.raises(ValueError, match="must start with '99.'"):
        exercises.exercise_ids("99")


@pytest.mark.parametrize(
    "make, error",
    [
        (lambda: Exercise("causal", "t", 1), "must look like"),
        (lambda: Exercise("99.a", "t", 1, cases=BUG.cases), "need a function as reference"),
        (lambda: dataclasses.replace(BUG, mistakes=BUG.mistakes[:1] * 2), "different names"),
        (lambda: Case((1,)), "needs a label"),
        (lambda: Case([1], label="list"), "must be a tuple"),
    ],
)
def test_ill_made_exercises_are_rejected(make, error):
    with pytest.raises((ValueError, TypeError), match=error):
        make()
