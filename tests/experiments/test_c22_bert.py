"""C22: the verdict follows its thresholds."""

from __future__ import annotations

import pytest

from experiments.c22_bert import differences, verdict

PROSE = {
    "masked": {
        "unigram": {"perplexity": 500.0},
        "bigram": {"perplexity": 120.0},
        "two-sided bigram": {"perplexity": 35.0},
        "BERT": {"perplexity": 90.0},
    },
    "without": {"positions": {"perplexity": 600.0}, "segment": {"perplexity": 100.0}},
}


def runs(rule: float = 0.3, task: float = 0.1) -> dict[str, list[dict[str, float]]]:
    """Three seeds, a little apart; BERT is ahead by `rule` on slips, and by `task` on accuracy."""
    slip = (0.0, 0.01, 0.02)
    return {
        "BERT": [{"slips": 0.8, "accuracy": 0.5, "probe": 0.2} for _ in slip],
        "always [MASK]": [{"slips": 0.8 - rule + s, "probe": 0.1 + s} for s in slip],
        "no next sentence": [{"accuracy": 0.5 - task + s, "probe": 0.2 + s} for s in slip],
    }


@pytest.mark.parametrize(
    ("rule", "task", "expected"),
    [(0.3, 0.1, "reproduced"), (0.0, 0.1, "partly"), (0.3, -0.1, "partly")],
)
def test_verdict_follows_the_thresholds(rule, task, expected):
    assert verdict(runs(rule, task), PROSE).verdict == expected


@pytest.mark.parametrize(
    "worse", [{"masked": {"BERT": 130.0}}, {"without": {"segment": 80.0}}], ids=["bigram", "part"]
)
def test_a_model_that_has_not_learned_says_nothing(worse):
    prose = {group: dict(values) for group, values in PROSE.items()}
    for group, values in worse.items():
        for name, perplexity in values.items():
            prose[group][name] = {"perplexity": perplexity}
    assert verdict(runs(), prose).verdict == "not measurable here"


def test_differences_pair_the_seeds():
    mean, low, high = differences(runs(rule=0.3), "always [MASK]", "slips")
    assert mean == pytest.approx(0.29)
    assert low < mean < high
    assert "35" in verdict(runs(), PROSE).ours
