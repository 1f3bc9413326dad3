"""The Pareto front, the choice and C31's verdict follow their definitions."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import experiments.c08_distillation as c08
import experiments.c31_distil_int8 as c31
import experiments.distil_times_int8 as distil
from experiments.distil_times_int8 import LastClassifier
from zoo_lessons.early_exit import EarlyExit
from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.training import seed_everything

T, TI, S, SI = "teacher, fp32", "teacher, INT8", "student, fp32", "student, INT8"


def test_pareto_drops_what_another_beats():
    points = {T: (1.0, 0.9), TI: (0.4, 0.9), S: (0.5, 0.85), SI: (0.2, 0.84)}
    assert c31.pareto(points) == [SI, TI]  # T is slower than TI, S slower and less accurate
    assert c31.pareto({"a": (1.0, 0.5), "b": (1.0, 0.5)}) == ["a", "b"]  # equals stay


def test_choice_keeps_both_limits_and_is_the_smallest():
    points = {T: (1.0, 0.9), TI: (0.4, 0.9), S: (0.5, 0.9), SI: (0.2, 0.86)}
    sizes = {T: 90, TI: 23, S: 70, SI: 18}
    assert c31.choose(points, sizes) == ([TI, SI], SI)
    assert c31.choose({**points, SI: (0.2, 0.85)}, sizes) == ([TI], TI)
    assert c31.choose({T: (1.0, 0.9), S: (0.5, 0.9)}, sizes) == ([], None)


@pytest.mark.parametrize(
    ("within", "front", "verdict"),
    [
        ([TI, SI], [SI], "reproduced"),
        ([SI], [TI], "partly"),
        ([TI], [TI, SI], "partly"),
        ([], [SI], "the article is wrong"),
    ],
)
def test_verdict_on_c31(within, front, verdict):
    points = {T: (1.0, 0.6), TI: (0.4, 0.6), S: (0.5, 0.6), SI: (0.2, 0.57)}
    found = c31.judge(points, within, front)
    assert found.verdict == verdict
    assert "student, INT8: 0.20 of the time, 95.0% of the accuracy" in found.ours


def test_last_classifier_is_the_teachers():
    seed_everything(0)
    config = BertConfig(vocab_size=50, d_model=32, num_layers=3, num_heads=4, d_ff=64)
    teacher = EarlyExit(BertModel(config), 6).eval()
    ids = torch.randint(50, (3, 8))
    mask = torch.ones_like(ids)
    mask[1, 5:] = 0
    torch.testing.assert_close(LastClassifier(teacher)(ids, mask).logits, teacher(ids, mask).logits)


def test_both_experiments_on_a_small_encoder(monkeypatch):
    config = BertConfig(d_model=32, num_layers=6, num_heads=4, d_ff=64)
    for module in (c08, c31):
        monkeypatch.setattr(module, "load_pretrained", lambda name: BertModel(config))
    monkeypatch.setattr(
        distil, "training_passages", partial(c08.training_passages, labelled=3, drawn=5)
    )
    monkeypatch.setattr(distil, "train", partial(c08.train, steps=2))
    monkeypatch.setattr(c08, "train", partial(c08.train, steps=2))
    monkeypatch.setattr(distil, "TESTED", 5)
    monkeypatch.setattr(distil, "SEEDS", range(2))
    figures = distil.distil_times_int8()["figures"]
    assert list(figures["variants"]) == [T, TI, S, SI]
    assert figures["tested"] == 30
    for variant in figures["variants"].values():
        assert len(variant["accuracy"]) == 2
        assert variant["mean"] == pytest.approx(sum(variant["accuracy"]) / 2, abs=1e-3)
    assert figures["variants"][T]["lost"] == [0, 0, 0]
    sizes = {name: variant["bytes"] for name, variant in figures["variants"].items()}
    assert sizes[SI] < sizes[S] < sizes[T]
    assert sizes[TI] < 0.4 * sizes[T]
    monkeypatch.setattr(c31, "load_record", lambda name: {"figures": figures})
    monkeypatch.setattr(c31, "ROUNDS", 3)
    result = c31.c31_distil_int8()
    assert set(result["verdicts"]) == {"C31"}
    assert set(result["figures"]["times"]) == {"one by one", "batches of 30"}
