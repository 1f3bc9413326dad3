"""Canary weights: shares, stickiness, judgement."""

from __future__ import annotations

import math

import pytest
from scipy.stats import fisher_exact

from zoo_lessons.deploy.serving.routing import (
    Outcomes,
    check_weights,
    choose_version,
    judge_canary,
)

USERS = [f"user-{i}" for i in range(5000)]


def test_weights_become_shares() -> None:
    assert check_weights({"v1": 3, "v2": 1}) == {"v1": 0.75, "v2": 0.25}


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({}, "no version"),
        ({"v1": -1}, "-1"),
        ({"v1": 0, "v2": 0}, "all 0"),
        ({"v1": math.nan}, "nan"),
    ],
)
def test_weights_that_are_no_shares(weights, message) -> None:
    with pytest.raises(ValueError, match=message):
        check_weights(weights)


def test_users_are_shared_by_weight_and_stay_where_they_are() -> None:
    weights = {"v1": 9, "v2": 1}
    chosen = {user: choose_version(weights, user) for user in USERS}
    share = sum(version == "v2" for version in chosen.values()) / len(USERS)
    assert abs(share - 0.1) < 4 * math.sqrt(0.1 * 0.9 / len(USERS))
    assert chosen == {user: choose_version(weights, user) for user in USERS}


def test_a_larger_canary_keeps_those_it_has() -> None:
    small = {u for u in USERS if choose_version({"v1": 0.9, "v2": 0.1}, u) == "v2"}
    large = {u for u in USERS if choose_version({"v1": 0.6, "v2": 0.4}, u) == "v2"}
    assert small < large


def test_another_salt_chooses_other_users() -> None:
    weights = {"v1": 1, "v2": 1}
    a, b = ([choose_version(weights, u, salt=salt) for u in USERS] for salt in "ab")
    alike = sum(x == y for x, y in zip(a, b, strict=True)) / len(USERS)
    assert 0.45 < alike < 0.55


@pytest.mark.parametrize("weights", [{"v1": 1, "v2": 0}, {"v1": 0, "v2": 1}])
def test_a_weight_of_zero_gets_nobody(weights) -> None:
    wanted = max(weights, key=weights.get)
    assert {choose_version(weights, user) for user in USERS} == {wanted}


def test_a_worse_canary_goes_and_the_reason_has_the_figures() -> None:
    stable, canary = Outcomes(answered=300, right=294, wrong=6), Outcomes(40, 0, 30, 10)
    judgement = judge_canary(stable, canary)
    assert judgement.rollback and "10 of 40" in judgement.reason and "6 of 300" in judgement.reason
    expected = fisher_exact([[10, 30], [6, 294]], alternative="greater").pvalue
    assert f"p = {expected:.2g} <" in judgement.reason


def test_errors_count_too() -> None:
    assert judge_canary(Outcomes(answered=500), Outcomes(answered=20, errors=20)).rollback


@pytest.mark.parametrize(
    "canary",
    [
        Outcomes(answered=40, right=39, wrong=1),  # as good
        Outcomes(answered=5, right=0, wrong=5),  # bad, but too few to say
        Outcomes(answered=100, right=100),  # better
    ],
)
def test_a_canary_stays_while_chance_explains_it(canary) -> None:
    assert not judge_canary(Outcomes(answered=300, right=294, wrong=6), canary).rollback
