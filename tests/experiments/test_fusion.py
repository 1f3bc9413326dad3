"""Lesson 20's experiments: they compute what they say; verdicts from made-up figures."""

from __future__ import annotations

import json

import pytest
import torch

from experiments import attention_memory, c14_efficiency, c25_gpu, c34_energy, fusion_time, roofline
from zoo_lessons.deploy.roofline import Roofline
from zoo_lessons.layers import scaled_dot_product_attention

# --- roofline -----------------------------------------------------------------------------------


def test_operations_of_the_roofline(monkeypatch):
    monkeypatch.setattr(roofline, "ROWS", 8)
    found = roofline.operations()
    torch.manual_seed(0)
    for name, (cost, function, shapes) in found.items():
        output = function(*(torch.randn(shape) for shape in shapes))
        assert output.isfinite().all(), name
        if "attention" not in name:
            read = sum(torch.Size(shape).numel() for shape in shapes)
            assert (cost.read, cost.written) == (4 * read, 4 * output.numel()), name
    apart, fused = (found[f"attention, {way}"][0] for way in ("written out", "fused"))
    assert apart.flops == fused.flops and apart.bytes > 5 * fused.bytes


def test_attention_written_out_is_the_formula():
    q, k, v = torch.randn(3, 2, 7, 4)
    expected = scaled_dot_product_attention(q, k, v)[0]
    torch.testing.assert_close(roofline.attention_written_out(q, k, v), expected)


def test_copies_exceed_the_memory_that_they_should(monkeypatch):
    monkeypatch.setattr(roofline, "MEMORY", 4000)
    assert len(roofline.copies_of([(10, 10)])) == 10
    assert len(roofline.copies_of([(1000, 10)])) == 2


def test_place(monkeypatch):
    monkeypatch.setattr(roofline, "ROWS", 8)
    monkeypatch.setattr(roofline, "LINEAR_TOKENS", (1,))
    monkeypatch.setattr(roofline, "TOKENS", 16)
    monkeypatch.setattr(roofline, "MEMORY", 2**16)
    monkeypatch.setattr(roofline, "ROUNDS", 1)
    rows = roofline.place(Roofline(1e12, 1e10))
    assert json.loads(json.dumps(rows, allow_nan=False)) == rows
    for row in rows:
        assert row["flops_per_second"] == pytest.approx(row["flops"] / row["seconds"])
        at_best = Roofline(1e12, 1e10).attainable(row["intensity"])
        assert row["share_of_roof"] == pytest.approx(row["flops_per_second"] / at_best)


# --- fusion -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [fusion_time.NORM_GELU, fusion_time.CHAIN])
def test_forms_agree_and_move_less(kind, monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda function, dynamic: function)
    given = fusion_time.inputs(kind, 64)
    assert len(given) == 1 and len(fusion_time.inputs(kind, 4096)) > 1
    outputs = [form(*given[0]) for form in fusion_time.forms(kind).values()]
    for other in outputs[1:]:
        torch.testing.assert_close(other, outputs[0])
    moved = fusion_time.traffic(kind, 64)
    assert min(moved, key=lambda name: moved[name]) == fusion_time.COMPILED
    assert 1.8 < moved[fusion_time.SEPARATE] / moved[fusion_time.COMPILED] < 3.1


# --- attention ----------------------------------------------------------------------------------


@pytest.mark.parametrize("which", attention_memory.PASSES)
def test_ways_of_attention_agree(which):
    torch.manual_seed(0)
    first, *others = (call() for call in attention_memory.calls(200, which).values())
    for other in others:
        torch.testing.assert_close(other, first, rtol=1e-4, atol=1e-5)


# --- C14 ----------------------------------------------------------------------------------------


def cost(mamba=1.0, attention=2.0):
    return {"reading": {"exponent": {"Mamba": {"value": mamba}, "attention": {"value": attention}}}}


def tasks(hybrid=0.99):
    each = {"attention": {"mean": 0.9}, "hybrid": {"mean": hybrid}}
    return {"tasks": {task: each for task in c14_efficiency.TASKS}}


def kernels(high=0.5, fused=1.0):
    one = {
        "interval": {"fused": [[0.9, 1.4]] + [[0.2, high]] * 2},
        "ratio": {"fused": [1.1, 0.4, 0.3]},
        "exponent_of_memory": {"fused": {"value": fused}, "written out": {"value": 1.9}},
    }
    return {"lengths": [512, 1024, 2048], **{which: one for which in c14_efficiency.PASSES}}


def depth(accuracy=0.9, high=0.8, heads=0.5):
    row = {"ratio": 0.7, "interval": [0.6, high]}
    quality = {
        "accuracy": {"teacher": [0.9, 0.9]},
        "early_exit": [{"patience": [{"patience": 1, "accuracy": accuracy}]}] * 2,
        "pruning": {
            "counts": [3, 6, 9],
            "seeds": [{"accuracy": {"least important": [0.9, heads, 0.2]}}] * 2,
        },
    }
    time = {"times": {c14_efficiency.BATCHES: {"patience 1": row, "half of the heads": row}}}
    return quality, time


def parts(linear=None, attention=None, adaptive=None):
    return {
        "linear cost": c14_efficiency.linear_cost(*(linear or (cost(), tasks()))),
        "fitted kernels": c14_efficiency.fitted_kernels(attention or kernels()),
        "adaptive depth and heads": c14_efficiency.adaptive(*(adaptive or depth())),
    }


def test_c14_reproduced():
    found = parts()
    assert found["adaptive depth and heads"]["helps"] == ["patience 1"]
    verdict = c14_efficiency.judge(found)
    assert verdict.verdict == "reproduced"
    assert "patience 1 0.70 of the time" in verdict.ours


@pytest.mark.parametrize(
    "change",
    [
        {"linear": (cost(mamba=1.4), tasks())},
        {"linear": (cost(attention=1.2), tasks())},
        {"linear": (cost(), tasks(hybrid=0.8))},
        {"attention": kernels(high=1.1)},
        {"attention": kernels(fused=1.6)},
        {"adaptive": depth(accuracy=0.88)},
        {"adaptive": depth(high=1.02, heads=0.9)},
    ],
)
def test_c14_partly(change):
    verdict = c14_efficiency.judge(parts(**change))
    assert verdict.verdict == "partly"
    assert "Not held" in verdict.explanation


def test_c14_wrong():
    found = parts((cost(mamba=2), tasks()), kernels(high=2), depth(accuracy=0.5))
    assert c14_efficiency.judge(found).verdict == "the article is wrong"


def test_c14_heads_alone_are_enough():
    found = c14_efficiency.adaptive(*depth(accuracy=0.5, heads=0.895))
    assert found["helps"] == ["half of the heads"] and found["holds"]


# --- C25 and C34 --------------------------------------------------------------------------------


def gpu(ratio=2.5, joules=0.4, model="ViT-Base"):
    rows = {
        "fp32": {"ratio": 1.0, "joules_per_example": 1.0},
        "fp16": {"ratio": 1.2, "joules_per_example": 0.95},
        "fp16, compiled": {"ratio": ratio, "joules_per_example": joules},
        "fp16, TensorRT": {"skipped": "needs torch-tensorrt"},
        "INT8": {"ratio": 9.0, "joules_per_example": None},
    }
    return {
        "machine": {"device": "some GPU"},
        "software": {"torch": "2.11"},
        "date": "2026-01-01",
        "results": {model: {"1": rows}},
    }


@pytest.mark.parametrize(
    ("ratio", "verdict"), [(2.5, "reproduced"), (1.5, "partly"), (0.9, "the article is wrong")]
)
def test_c25(ratio, verdict):
    figures, found = c25_gpu.judge({"a": gpu(model="BERT-Base"), "b": gpu(ratio)})
    assert found.verdict == verdict and figures["record"] == "b"
    assert figures["best"]["way"] == ("fp16, compiled" if ratio > 1.2 else "fp16")


@pytest.mark.parametrize(
    ("joules", "verdict"), [(0.4, "reproduced"), (0.8, "partly"), (0.93, "the article is wrong")]
)
def test_c34(joules, verdict):
    rows = c34_energy.gpu_rows({"a": gpu(joules=joules)})
    assert rows[0]["share"] == joules
    assert c34_energy.judge(rows).verdict == verdict


def test_without_counters_nothing_is_claimed(tmp_path):
    assert c25_gpu.judge({})[1].verdict == "not measurable here"
    assert c34_energy.judge([]).verdict == "not measurable here"
    assert c34_energy.rapl_counter(tmp_path / "none") is None


def test_rapl_counter(tmp_path):
    (tmp_path / "energy_uj").write_text("2500000\n")
    assert c34_energy.rapl_counter(tmp_path)() == 2.5


def test_joules_of_the_processor(monkeypatch):
    from zoo_lessons.models.bert import BertConfig

    small = BertConfig(vocab_size=50, d_model=8, num_layers=1, num_heads=1, d_ff=8)
    monkeypatch.setattr(BertConfig, "base", classmethod(lambda cls: small))
    clock = iter(float(i) for i in range(100))
    found = c34_energy.cpu_joules(lambda: next(clock), seconds=0.01)
    assert list(found) == ["fp32", "bf16"] and all(0 < joules <= 1 for joules in found.values())
