"""C26's verdict follows its thresholds; every way computes the same model."""

from __future__ import annotations

import json

import pytest
import torch

import experiments.int8_latency as int8
from zoo_lessons.models.bert import BertConfig, BertModel
from zoo_lessons.models.vit import ViTConfig
from zoo_lessons.training import seed_everything


def cases(dynamic: float, static: float) -> list[dict]:
    ways = {
        int8.PACKED: {"milliseconds": 100.0, "speedup": 1.0},
        int8.AS_WRITTEN: {"milliseconds": 130.0, "speedup": 0.77},
        int8.ORT_DYNAMIC: {"milliseconds": 100 / dynamic, "speedup": dynamic},
        int8.ORT_APART: {"milliseconds": 200.0, "speedup": 0.5},
        int8.ONEDNN_STATIC: {"milliseconds": 25.0, "speedup": 4.0},
        int8.ORT_STATIC: {"milliseconds": 100 / static, "speedup": static},
    }
    return [
        {"model": "ViT-Base", "batch": 1, "tokens": 128, "ways": {}},
        {"model": "BERT-Base", "batch": 1, "tokens": 128, "ways": ways},
    ]


@pytest.mark.parametrize(
    ("dynamic", "static", "verdict"),
    [
        (3.4, 2.0, "reproduced"),
        (2.5, 3.5, "reproduced"),
        (3.39, 1.0, "partly"),
        (1.0, 2.0, "partly"),
        (1.9, 1.9, "the article is wrong"),
    ],
)
def test_verdict_on_c26(dynamic, static, verdict):
    found = int8.judge(cases(dynamic, static), 3.9, 24.0)
    assert found.verdict == verdict
    best = max(dynamic, static)
    assert found.ours.startswith(f"100 → {100 / best:.0f} ms ({best:.1f} times as fast)")
    assert (
        f"{int8.ONEDNN_STATIC}, is 4.0 times as fast; our own aim, 4 times, is met. It means 25 ms"
        in (found.explanation)
    )


def test_the_floor_counts_what_bert_base_multiplies():
    """110 million parameters, of which 85 million multiply each token (Devlin et al. 2019)."""
    with torch.device("meta"):
        model = BertModel(BertConfig.base())
    found = int8.floor(model, 128, {"fp32": 2e11, "int8": 8e11})
    assert found["linear"] == 128 * 12 * (4 * 768**2 + 2 * 768 * 3072)
    assert found["attention"] == 12 * 2 * 12 * 128 * 128 * 64  # layers, products, heads, head_dim
    seconds = 2 * found["linear"] / 8e11 + 2 * found["attention"] / 2e11
    assert found["milliseconds"] == pytest.approx(1e3 * seconds)


class SmallBert(BertConfig):
    """Stands for BERT-Base."""

    @classmethod
    def base(cls) -> BertConfig:
        return BertConfig(vocab_size=97, d_model=64, num_layers=2, num_heads=4, d_ff=128)


class SmallViT(ViTConfig):
    """Stands for ViT-Base."""

    @classmethod
    def base(cls) -> ViTConfig:
        return ViTConfig(d_model=64, num_layers=2, num_heads=4, d_ff=128)


def test_the_whole_experiment_on_small_models(monkeypatch):
    monkeypatch.setattr(int8, "BertConfig", SmallBert)
    monkeypatch.setattr(int8, "ViTConfig", SmallViT)
    monkeypatch.setattr(int8, "ROUNDS", {1: 3, 8: 3})
    monkeypatch.setattr(int8, "BERT_CASES", ((1, 128), (8, 32)))
    monkeypatch.setattr(int8, "PRODUCT", (8, 64, 64))
    monkeypatch.setattr(int8, "LARGE_PRODUCT", (64, 256, 256))
    result = int8.int8_latency()
    figures = json.loads(json.dumps(result["figures"], allow_nan=False))
    assert set(result["verdicts"]) == {"C26"}
    assert [(c["model"], c["batch"], c["tokens"]) for c in figures["cases"]] == [
        ("BERT-Base", 1, 128),
        ("BERT-Base", 8, 32),
        ("ViT-Base", 1, 197),
        ("ViT-Base", 8, 197),
    ]
    for case in figures["cases"]:
        errors = {way: each["error"] for way, each in case["ways"].items()}
        expected = {int8.WEIGHT_ONLY, int8.TORCHAO} if case["batch"] == 1 else set()
        expected |= {int8.ORT_STATIC} if case["model"] == "BERT-Base" else set()
        always = {int8.PACKED, int8.AS_WRITTEN, int8.BF16, int8.ONEDNN, int8.ONEDNN_STATIC}
        always |= {int8.ORT, int8.ORT_DYNAMIC, int8.ORT_APART}
        assert set(errors) == always | expected
        assert errors[int8.AS_WRITTEN] == 0
        assert max(errors[way] for way in (int8.PACKED, int8.ORT)) < 1e-5
        for way in errors.keys() - {int8.PACKED, int8.ORT, int8.AS_WRITTEN}:
            assert 1e-4 < errors[way] < 0.1, way  # rounded, and near
    assert figures["floor"]["milliseconds"] > 0
    for model, sizes in figures["sizes"].items():
        assert sizes[int8.ORT_DYNAMIC] < sizes[int8.ORT], model
        assert sizes[int8.BF16] == sizes[int8.AS_WRITTEN] / 2
        assert set(figures["memory"][model]) == {int8.ORT, int8.ORT_DYNAMIC}


def test_footprint_counts_the_weights(tmp_path):
    seed_everything(0)
    config = BertConfig(vocab_size=97, d_model=256, num_layers=4, num_heads=4, d_ff=1024)
    model = BertModel(config).eval()
    ids = torch.randint(97, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    path = int8.export_onnx(model, inputs, tmp_path / "a.onnx")
    grown = int8.footprint(path, inputs)
    if grown is not None:
        assert path.stat().st_size < grown < 20 * path.stat().st_size


def test_norms_apart_is_the_same_model_with_other_operators(tmp_path):
    seed_everything(0)
    model = BertModel(SmallBert.base()).eval()
    ids = torch.randint(97, (2, 8))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    path = int8.export_onnx(model, inputs, tmp_path / "a.onnx")
    with torch.no_grad():
        expected = model(**inputs).last_hidden_state
    found = int8.with_norms_apart(path)(**inputs)["last_hidden_state"]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
