"""The GPU benchmark's harness, run on the CPU with tiny models."""

from __future__ import annotations

import json

import pytest
import torch

from zoo_lessons import gpu_bench
from zoo_lessons.gpu_bench import WAYS, Way, benchmark, line, measure, precision, prepare, subject
from zoo_lessons.models.bert import BertConfig
from zoo_lessons.models.vit import ViTConfig

VIT = ViTConfig(image_size=16, patch_size=8, d_model=32, num_layers=2, num_heads=2, d_ff=64)
BERT = BertConfig(vocab_size=50, d_model=32, num_layers=2, num_heads=2, d_ff=64)
CPU = torch.device("cpu")
SUBJECTS = {"ViT": subject(VIT), "BERT": subject(BERT, tokens=12)}


def some(*names):
    return {name: WAYS[name] for name in names}


@pytest.mark.parametrize("name", SUBJECTS)
def test_rows(name):
    ways = some("fp32", "bf16", "fp32, attention written out")
    rows = measure(SUBJECTS[name], ways, 3, CPU, rounds=3, target_seconds=0.001)
    assert list(rows) == list(ways)
    assert rows["fp32"]["error"] == 0 and rows["fp32"]["ratio"] == 1
    assert 0 < rows["bf16"]["error"] < 0.05
    assert 0 <= rows["fp32, attention written out"]["error"] < 1e-5
    for row in rows.values():
        assert len(row["seconds"]) == 3
        assert row["examples_per_second"] == pytest.approx(3 / sorted(row["seconds"])[1])
        assert row["peak_bytes"] is None and row["joules_per_example"] is None


def test_int8_is_quantized_and_close():
    ways = some("fp32", "INT8")
    if ways["INT8"].missing(CPU):
        pytest.skip("torchao is not installed")
    rows = measure(SUBJECTS["ViT"], ways, 4, CPU, rounds=1, target_seconds=0.001)
    assert 1e-4 < rows["INT8"]["error"] < 0.2


def test_written_out_attention_replaces_every_fused_one():
    what = SUBJECTS["BERT"]
    model, x = prepare(what.build(), Way(written_out=True), what.inputs(2))
    kinds = [
        type(m).__name__ for m in model.modules() if isinstance(m, gpu_bench.DotProductAttention)
    ]
    assert kinds == ["WrittenOutAttention"] * 2
    assert x.dtype == torch.int64


def test_ways_that_cannot_run_say_why(monkeypatch):
    assert WAYS["TF32"].missing(CPU) == "needs an NVIDIA GPU"
    assert WAYS["fp16, CUDA graph"].missing(CPU) == "needs an NVIDIA GPU"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert WAYS["INT8"].missing(CPU) == "needs torchao"
    rows = measure(SUBJECTS["ViT"], some("fp32", "TF32"), 1, CPU, rounds=1, target_seconds=0.001)
    assert rows["TF32"] == {"skipped": "needs an NVIDIA GPU"}


def test_out_of_memory_is_a_result(monkeypatch):
    start = gpu_bench._start

    def too_large(model, way, example, device):
        if way.dtype == torch.bfloat16:
            raise torch.cuda.OutOfMemoryError("too large")
        return start(model, way, example, device)

    monkeypatch.setattr(gpu_bench, "_start", too_large)
    rows = measure(SUBJECTS["ViT"], some("fp32", "bf16"), 1, CPU, rounds=1, target_seconds=0.001)
    assert rows["bf16"] == {"skipped": "out of memory"}
    assert rows["fp32"]["ratio"] == 1


def test_precision_is_put_back():
    before = torch.get_float32_matmul_precision()
    with precision(True):
        assert torch.get_float32_matmul_precision() == "high"
    assert torch.get_float32_matmul_precision() == before


def test_benchmark_is_json_and_says_each_row():
    said = []
    ways = some("fp32", "TF32")
    result = benchmark(
        {"ViT": SUBJECTS["ViT"]}, [1, 2], CPU, ways, rounds=1, target_seconds=0.001, say=said.append
    )
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert list(result["results"]["ViT"]) == ["1", "2"]
    assert len(said) == 4 and "needs an NVIDIA GPU" in said[1]
    assert result["software"]["torch"] and result["machine"]["torch"]


def test_line_of_a_gpu_row():
    row = {
        "examples_per_second": 1000.0,
        "ratio": 2.3,
        "peak_bytes": 500e6,
        "joules_per_example": 0.004,
        "error": 0.001,
    }
    text = line("ViT-Base", 8, "fp16", row)
    assert "2.30×" in text and "500 MB" in text and "4.00 mJ" in text


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_exits_with_2(capsys, tmp_path):
    assert gpu_bench.main(["gpu", "--out", str(tmp_path)]) == 2
    assert "sees none" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_records_are_found(monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_bench, "data_dir", lambda: tmp_path)
    assert gpu_bench.load_gpu_records() == {}
    folder = tmp_path / "records" / "gpu"
    folder.mkdir(parents=True)
    (folder / "t4.json").write_text('{"date": "x"}')
    assert gpu_bench.load_gpu_records() == {"t4": {"date": "x"}}
