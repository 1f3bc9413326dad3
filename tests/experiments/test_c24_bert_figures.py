"""C24 takes its four figures from the right places and judges them by its thresholds."""

from __future__ import annotations

import pytest

import experiments.c24_bert_figures as c24

GOOD = {"patience": 2, "fewer_layers": 0.2, "loss": 0.0}


def test_the_tables_hold_the_published_sizes():
    assert c24.parameters("model_table", c24.BERT) == pytest.approx(110e6, rel=0.01)
    assert c24.parameters("efficiency_model_table", c24.DISTILBERT) == pytest.approx(66e6, rel=0.01)


def test_fastest_int8_of_one_text_of_128_tokens():
    ways = {
        "PyTorch bf16": {"speedup": 9.0},
        "torchao INT8, dynamic": {"speedup": 0.5},
        "ONNX Runtime INT8, static": {"speedup": 3.1},
    }
    other = {"model": "BERT-Base", "batch": 8, "tokens": 128, "ways": {"INT8": {"speedup": 7.0}}}
    case = {"model": "BERT-Base", "batch": 1, "tokens": 128, "ways": ways}
    assert c24.fastest_int8([other, case]) == ("ONNX Runtime INT8, static", 3.1)


def test_early_exit_takes_the_fewest_layers_that_lose_nothing():
    def seed(*rows):
        patience = [{"patience": p, "accuracy": a, "layers": layers} for p, a, layers in rows]
        return {"layer_accuracy": [0.3, 0.5, 0.6], "patience": patience}

    seeds = [
        seed((1, 0.50, 1.5), (2, 0.595, 2.4), (3, 0.6, 3.0)),
        seed((1, 0.58, 1.7), (2, 0.590, 2.6), (3, 0.6, 3.0)),
    ]
    found = c24.early_exit(seeds)
    assert found["patience"] == 2
    assert found["fewer_layers"] == pytest.approx(1 - 2.5 / 3, abs=1e-4)
    assert found["loss"] == pytest.approx(0.0075)


@pytest.mark.parametrize(
    ("bert", "reduction", "factor", "fewer", "verdict"),
    [
        (110_106_428, 0.394, 3.0, 0.1, "reproduced"),
        (110_106_428, 0.394, 2.9, 0.2, "partly"),
        (110_106_428, 0.394, 2.9, 0.0, "partly"),
        (110_106_428, 0.30, 2.9, 0.0, "the article is wrong"),
        (90_000_000, 0.45, 4.0, 0.2, "partly"),
    ],
)
def test_verdict_on_c24(bert, reduction, factor, fewer, verdict):
    found, holds = c24.judge(bert, reduction, "INT8", factor, {**GOOD, "fewer_layers": fewer})
    assert found.verdict == verdict
    assert ("All four hold" in found.explanation) == all(holds.values())
