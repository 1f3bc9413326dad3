from __future__ import annotations

import pytest

from experiments.c13_better_data import CLAIMED, judge, judge_method, summaries
from zoo_lessons.records import load_claim, load_record

UP, DOWN, FLAT = (1.0, 3.0), (-3.0, -1.0), (-1.0, 1.0)


def rows(intervals, method="MixUp", kind="accuracy", against="none"):
    return [
        {
            "method": method,
            "kind": kind,
            "against": against,
            "gain_points": (low + high) / 2,
            "low": low,
            "high": high,
        }
        for low, high in intervals
    ]


@pytest.mark.parametrize(
    ("intervals", "verdict"),
    [
        ([UP, FLAT], "helps"),
        ([UP, FLAT, FLAT], "no clear effect"),
        ([UP, UP, DOWN], "it depends"),
        ([DOWN, FLAT], "hurts"),
        ([FLAT], "no clear effect"),
    ],
)
def test_a_method_is_judged_by_its_intervals(intervals, verdict):
    assert judge_method(rows(intervals)) == verdict


def test_a_method_without_rows_cannot_be_judged():
    with pytest.raises(ValueError, match="at least one row"):
        judge_method([])


@pytest.mark.parametrize(
    ("others", "first", "verdict"),
    [
        ([UP], [UP], "reproduced"),
        ([UP], [FLAT], "partly"),
        ([DOWN], [UP], "partly"),
        ([FLAT], [DOWN], "the article is wrong"),
    ],
)
def test_the_claim_needs_every_method(others, first, verdict):
    found = rows(first, *CLAIMED[0])
    for key in CLAIMED[1:]:
        found += rows(others, *key)
    assert judge(summaries(found)).verdict == verdict


def test_summaries_count_what_the_rows_say():
    (found,) = summaries(rows([UP, DOWN, FLAT]))
    assert (found["comparisons"], found["above"], found["below"]) == (3, 1, 1)
    assert (found["least_gain"], found["most_gain"]) == (-2.0, 2.0)


def test_record_and_claim_fit_the_code_and_the_records_behind_them():
    figures = load_record("c13_better_data")["figures"]
    behind = [row for name in figures["sources"] for row in load_record(name)["figures"]["effects"]]
    assert figures["effects"] == behind
    assert figures["summaries"] == summaries(behind)
    assert load_claim("C13")["verdict"] == judge(figures["summaries"]).verdict
