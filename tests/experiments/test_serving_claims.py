"""Claims C12, C28 and C29: the verdicts follow the thresholds that their files state."""

from __future__ import annotations

import copy

import pytest

from experiments.c12_deployment import batching, fusion, int8
from experiments.c12_deployment import judge as judge_deployment
from experiments.c29_drift_and_canary import canary_holds, drift_holds
from experiments.c29_drift_and_canary import judge as judge_drift
from experiments.canary import roll_out
from experiments.serving_faults import CALM, OVERLOAD, REDIS, REPLICA
from experiments.serving_faults import judge as judge_faults
from experiments.serving_load import sustained


def scenario(requests=200, errors=0, wrong=0, back=None, statuses=None) -> dict:
    return {
        "requests": requests,
        "errors": errors,
        "wrong": wrong,
        "answered": requests - errors,
        "cached": 100,
        "rate": 25.0,
        "back": back,
        "statuses": statuses or {"200": requests - errors},
    }


def calm_faults() -> dict:
    return {
        CALM: scenario(),
        REPLICA: scenario(errors=2, back=6.0),
        REDIS: scenario(back=1.0),
        OVERLOAD: scenario(errors=100, statuses={"200": 100, "503": 95, "504": 5}),
    }


@pytest.mark.parametrize(
    ("name", "changes", "verdict"),
    [
        (CALM, {}, "reproduced"),
        (CALM, {"wrong": 1}, "the article is wrong"),
        (REPLICA, {"errors": 5}, "partly"),
        (REPLICA, {"back": None}, "partly"),
        (REPLICA, {"back": 31.0}, "partly"),
        (REDIS, {"back": None}, "partly"),
        (OVERLOAD, {"statuses": {"200": 100, "503": 80, "504": 20}}, "partly"),
        (OVERLOAD, {"answered": 0}, "partly"),
    ],
)
def test_faults(name, changes, verdict) -> None:
    found = calm_faults()
    found[name] |= changes
    assert judge_faults(found).verdict == verdict


def test_sustained_is_the_last_rate_before_the_first_failure() -> None:
    rows = [
        {"offered": rate, "p99": p99, "errors": errors, "requests": 100}
        for rate, p99, errors in ((60, 90, 0), (10, 50, 0), (30, 600, 0))
    ]
    assert sustained(rows) == 10
    rows[2]["p99"] = 100
    assert sustained(rows) == 60
    rows[0]["errors"] = 2
    assert sustained(rows) == 30
    rows[1]["p99"] = 501
    assert sustained(rows) == 0


def test_int8_takes_the_fastest_way_of_the_right_case() -> None:
    figures = {
        "sizes": {
            "BERT-Base": {"ONNX Runtime fp32": 400, "ONNX Runtime INT8, dynamic": 100},
        },
        "cases": [
            {"model": "ViT-Base", "batch": 1, "tokens": 128, "ways": {}},
            {
                "model": "BERT-Base",
                "batch": 1,
                "tokens": 128,
                "ways": {
                    "PyTorch bf16": {"speedup": 9.0},
                    "ONNX Runtime INT8, dynamic": {"speedup": 2.0},
                    "ONNX Runtime INT8, static": {"speedup": 2.5},
                },
            },
        ],
    }
    found = int8(figures)
    assert (found["size"], found["speedup"], found["helps"]) == (0.25, 2.5, True)
    figures["cases"][1]["ways"]["ONNX Runtime INT8, static"]["speedup"] = 1.4
    figures["cases"][1]["ways"]["ONNX Runtime INT8, dynamic"]["speedup"] = 1.4
    assert not int8(figures)["helps"]


@pytest.mark.parametrize(
    ("said", "helps"),
    [
        (["faster", "no clear difference"], True),
        (["faster", "slower"], False),
        (["no clear difference"] * 2, False),
    ],
)
def test_fusion_must_be_faster_somewhere_and_slower_nowhere(said, helps) -> None:
    kinds = ("LayerNorm + GELU", "elementwise")
    figures = {
        "verdict": {kind: {"compiled": said} for kind in kinds},
        "ratio": {kind: {"compiled": [0.8, 1.0]} for kind in kinds},
    }
    found = fusion(figures)
    assert found["helps"] is helps and found["elementwise"]["ratio"] == 0.8


def curves(rate=30.0, p99=400.0, longest=50.0) -> dict:
    def rows(low, high, rate, p99):
        return [{"p50": low, "p99": low, "rate": 10.0}, {"p50": high, "p99": p99, "rate": rate}]

    return {
        "no batching": rows(10.0, 900.0, 20.0, 1000.0),
        "window 0 ms": rows(10.0, 50.0, rate, p99),
        "window 80 ms": rows(longest, 90.0, rate - 1, p99),
    }


def test_batching_needs_a_gain_and_a_price() -> None:
    assert batching(curves())["helps"]
    assert batching(curves(rate=21.0))["helps"]  # p99 is more than halved
    assert not batching(curves(rate=21.0, p99=900.0))["helps"]
    assert not batching(curves(longest=9.0))["helps"]


def test_three_parts_make_a_verdict() -> None:
    part = {"helps": True, "ratio": 0.5}
    parts = {
        "INT8": {"size": 0.25, "speedup": 2.0, "helps": True},
        "fusion": {"LayerNorm + GELU": part, "elementwise": part, "helps": True},
        "batching": {"rate": 2.0, "p99": 0.3, "window_costs_ms": 70.0, "helps": True},
    }
    assert judge_deployment(parts).verdict == "reproduced"
    parts["fusion"]["helps"] = False
    assert judge_deployment(parts).verdict == "partly"
    parts["INT8"]["helps"] = parts["batching"]["helps"] = False
    assert judge_deployment(parts).verdict == "the article is wrong"


def drift_record() -> dict:
    return {
        "alpha": 0.01,
        "false_alarms": {"KS, corrected": 0.02},
        "days": [{"early": 0, "delay": 300}] * 10,
        "before": {"tilted": 0.4, "usual": 1.0},
        "retrained": [{"new and old": {"tilted": 0.9, "usual": 0.95}}],
    }


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("false_alarms", "KS, corrected"), 0.04),
        (("days", 3), {"early": 0, "delay": None}),
        (("days",), [{"early": 1, "delay": 300}] * 10),
        (("retrained", 0, "new and old", "tilted"), 0.6),
        (("retrained", 0, "new and old", "usual"), 0.8),
    ],
)
def test_drift_needs_each_of_its_conditions(path, value) -> None:
    assert drift_holds(drift_record())["holds"]
    figures = copy.deepcopy(drift_record())
    place = figures
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    assert not drift_holds(figures)["holds"]


def test_a_canary_must_be_caught_and_a_good_one_left_alone() -> None:
    def figures(caught, good):
        bad = [{"canary_error": 0.2, "sent_home": caught, "requests": [1, 2, 3]}]
        return {"bad": bad, "as_good": {"alpha": {"sent_home": good}}}

    assert canary_holds(figures(0.97, 0.01))["holds"]
    assert not canary_holds(figures(0.9, 0.01))["holds"]
    assert not canary_holds(figures(0.97, 0.05))["holds"]
    parts = {
        "drift": drift_holds(drift_record()),
        "canary": canary_holds(figures(0.97, 0.0)),
        "costs": {"sustained": 60, "holds": True},
    }
    assert judge_drift(parts).verdict == "reproduced"
    parts["costs"]["holds"] = False
    assert judge_drift(parts).verdict == "partly"


def test_a_hopeless_canary_goes_as_soon_as_it_may_be_judged() -> None:
    requests, wrong = roll_out(0.02, 1.0, 0.3, seed=0)
    assert wrong == 30 and requests < 200
    assert roll_out(0.02, 0.02, 0.3, seed=0) is None
