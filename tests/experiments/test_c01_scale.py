"""C01: the statistics equal PyTorch's own derivatives, and the verdict follows its thresholds."""

from __future__ import annotations

import math

import pytest
import torch
from torch.autograd.functional import jacobian

from experiments.c01_scale import judge, measure, softmax_statistics

WIDTHS = (16, 64, 1024)


def test_statistics_of_one_query_equal_autograd():
    torch.manual_seed(0)
    q, k = torch.randn(1, 6, dtype=torch.float64), torch.randn(1, 5, 6, dtype=torch.float64)
    found = softmax_statistics(q, k, 0.7)

    def weights(query):
        return (0.7 * k[0] @ query).softmax(dim=0)

    at_query = jacobian(weights, q[0]).norm().item()
    of_scores = jacobian(lambda s: s.softmax(dim=0), 0.7 * k[0] @ q[0]).norm().item()
    w = weights(q[0])
    assert found["query_median"] == pytest.approx(at_query)
    assert found["query_mean"] == pytest.approx(at_query)
    assert found["jacobian"] == pytest.approx(of_scores)
    assert found["entropy"] == pytest.approx(-(w * w.log()).sum().item())


def test_equal_scores_have_full_entropy_and_one_winner_is_saturated():
    q = torch.ones(2, 3, dtype=torch.float64)
    k = torch.zeros(2, 4, 3, dtype=torch.float64)
    k[1, 0] = 100.0  # the second query has one clear winner
    found = softmax_statistics(q, k, 1.0)
    assert found["saturated"] == 0.5
    assert found["entropy"] == pytest.approx(math.log(4) / 2)


def figures(divided_at_widest: float, undivided_at_widest: float) -> dict:
    def rows(last: float) -> dict:
        row = [[1.0, 1.0, last]]
        return dict.fromkeys(("entropy", "query_median", "query_mean", "saturated"), row)

    return {"divided": rows(divided_at_widest), "not divided": rows(undivided_at_widest)}


@pytest.mark.parametrize(
    "divided, undivided, expected",
    [
        (1.05, 0.01, "reproduced"),
        (1.05, 0.5, "partly"),  # steady, but nothing dies without the division
        (0.5, 0.01, "partly"),  # dies without it, but is not steady with it
        (0.5, 0.4, "the article is wrong"),
    ],
)
def test_verdict_follows_the_thresholds(divided, undivided, expected):
    assert judge(figures(divided, undivided), WIDTHS).verdict == expected


def test_same_seeds_give_the_same_figures():
    once, again = (measure((4, 16), 20, range(2)) for _ in range(2))
    assert once == again
    assert len(once["divided"]["entropy"]) == 2  # seeds
    assert len(once["divided"]["entropy"][0]) == 2  # widths
