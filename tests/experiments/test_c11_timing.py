"""The verdict on C11 follows the rules that its experiment states."""

from __future__ import annotations

import pytest

from experiments import c11_stability
from experiments.c11_timing import BF16, judge

NAMES = list(c11_stability.planned_runs()["table"])


def figures(**losses):
    """Figures in which every run converges at 1.0, except for those named."""
    table = {name: {"loss": [1.0, 1.0], "converged": 2} for name in NAMES}
    table["none"] = {"loss": [3.0, 3.0], "converged": 0}
    for name, loss in losses.items():
        table[name.replace("_", "-")]["loss"] = loss
    sgd = {"limits": {"none": {"loss": [None, None]}, "0.5": {"converged": 2}}}
    timing = {"widths": [64, 768], BF16: {"ratio": [0.9, 0.5], "verdict": ["faster", "faster"]}}
    return {"table": table, "seeds": 2}, sgd, timing


def test_all_three_parts_and_every_width_make_it_reproduced():
    assert judge(*figures()).verdict == "reproduced"


def test_bf16_that_is_faster_only_where_wide_makes_it_partly():
    stability, sgd, timing = figures()
    timing[BF16]["verdict"][0] = "slower"
    assert judge(stability, sgd, timing).verdict == "partly"


@pytest.mark.parametrize("loss", [[1.0, 3.5], [1.0, None]])
def test_a_remedy_that_fails_on_one_seed_makes_it_partly(loss):
    verdict = judge(*figures(clipping=loss))
    assert verdict.verdict == "partly"
    assert "clipping alone does not help on every seed" in verdict.explanation


def test_nothing_that_holds_makes_the_article_wrong():
    stability, sgd, timing = figures(warm_up=[4.0, 4.0])
    stability["table"]["none"]["converged"] = 2
    stability["table"]["bf16"]["converged"] = 0
    timing[BF16]["verdict"] = ["slower", "slower"]
    assert judge(stability, sgd, timing).verdict == "the article is wrong"


def test_the_table_has_every_combination_once():
    plan = c11_stability.planned_runs()["table"]
    assert len(plan) == 8
    assert len({tuple(options.items()) for options in plan.values()}) == 8


def test_a_run_has_converged_below_half_of_guessing():
    assert c11_stability.outcome([1.4, 1.6, None], guess=3.0) == {
        "loss": [1.4, 1.6, None],
        "converged": 1,
    }
