"""Exported models give the numbers of the models that they were made from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from zoo_lessons.deploy.export import (
    OnnxModel,
    export_onnx,
    largest_difference,
    operators,
    quantize_dynamic_int8,
    quantize_static_int8,
)
from zoo_lessons.models.bert import BertConfig, BertForSequenceClassification, BertModel
from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.training import seed_everything

SMALL = BertConfig(
    vocab_size=97, d_model=32, num_layers=2, num_heads=4, d_ff=64, max_length=24, num_labels=3
)


def text(batch: int, length: int, seed: int = 0) -> dict[str, torch.Tensor]:
    chance = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, 1 + length // 2 :] = 0
    ids = torch.randint(SMALL.vocab_size, (batch, length), generator=chance)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture(scope="module")
def bert() -> BertModel:
    seed_everything(0)
    model = BertModel(SMALL).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # the usual start is too even to show a mistake
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def exported(bert, tmp_path_factory):
    return export_onnx(bert, text(2, 7), tmp_path_factory.mktemp("onnx") / "bert.onnx")


@pytest.mark.parametrize(("batch", "length"), [(2, 7), (1, 1), (3, 24), (5, 2)])
def test_one_file_serves_every_batch_and_length(bert, exported, batch, length):
    found = largest_difference(bert, OnnxModel(exported, threads=1), text(batch, length, seed=1))
    assert set(found) == {"last_hidden_state", "pooler_output"}
    assert max(found.values()) < 1e-5


def test_every_input_reaches_the_output(exported):
    model, inputs = OnnxModel(exported, threads=1), text(2, 7)
    unmasked = {**inputs, "attention_mask": torch.ones_like(inputs["attention_mask"])}
    others = {**inputs, "input_ids": inputs["input_ids"].flip(1)}
    plain, changed, flipped = (model(**x)["last_hidden_state"] for x in (inputs, unmasked, others))
    assert not torch.allclose(plain[1, 0], changed[1, 0], atol=1e-3)
    assert not torch.allclose(plain[0], flipped[0], atol=1e-3)


def test_vit_takes_any_batch(tmp_path):
    seed_everything(0)
    vit = ViT(
        ViTConfig(image_size=16, patch_size=8, d_model=32, num_layers=2, num_heads=4, d_ff=64)
    ).eval()
    path = export_onnx(vit, {"pixel_values": torch.randn(2, 3, 16, 16)}, tmp_path / "vit.onnx")
    found = largest_difference(
        vit, OnnxModel(path, threads=1), {"pixel_values": torch.randn(5, 3, 16, 16)}
    )
    assert max(found.values()) < 1e-5


def test_a_model_with_one_output_and_a_fixed_length(tmp_path):
    seed_everything(0)
    model = BertForSequenceClassification(SMALL).eval()
    path = export_onnx(model, text(2, 7), tmp_path / "head.onnx", fixed=["length"])
    run = OnnxModel(path, threads=1)
    assert run.outputs == ["logits"]
    assert max(largest_difference(model, run, text(4, 7)).values()) < 1e-5
    with pytest.raises(Exception, match="(?i)invalid dimensions"):
        run(**text(4, 8))


def test_dynamic_int8_is_near_and_smaller(bert, exported, tmp_path):
    small = quantize_dynamic_int8(exported, tmp_path / "int8.onnx")
    smaller = quantize_dynamic_int8(exported, tmp_path / "int8e.onnx", embeddings=True)
    counts = operators(small)
    assert counts["MatMulInteger"] == 4 * SMALL.num_layers + 1  # qkv, out, up, down; the pooler
    assert operators(exported).get("MatMulInteger", 0) == 0
    difference = largest_difference(bert, OnnxModel(small, threads=1), text(3, 9, seed=2))
    assert 1e-4 < max(difference.values()) < 0.1  # rounded, and near
    sizes = [path.stat().st_size for path in (exported, small, smaller)]
    assert sizes[0] > sizes[1] > sizes[2]


def test_static_int8_is_near_and_keeps_its_ranges(bert, exported, tmp_path):
    batches = [text(4, 9, seed=seed) for seed in range(4)]
    path = quantize_static_int8(exported, tmp_path / "static.onnx", batches)
    model = OnnxModel(path, threads=1)
    difference = largest_difference(bert, model, text(3, 12, seed=9))
    assert 1e-4 < difference["last_hidden_state"] < 0.15
    counts = operators(path)
    assert counts["QuantizeLinear"] > 0
    assert "DynamicQuantizeLinear" not in counts


def test_an_int8_matmul_uses_the_scale_of_its_own_channel(tmp_path):
    """One channel a thousand times larger must not cost the others their digits."""

    class Output(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(16, 8)

        def forward(self, input_ids, attention_mask=None):
            from zoo_lessons.models.bert import BertLogits

            return BertLogits(self.linear(input_ids))

    seed_everything(0)
    model = Output().eval()
    with torch.no_grad():
        model.linear.weight[0] *= 1000
    x = torch.randn(4, 3, 16)
    path = export_onnx(model, {"input_ids": x}, tmp_path / "a.onnx")
    int8 = OnnxModel(quantize_dynamic_int8(path, tmp_path / "b.onnx"), threads=1)
    found, expected = int8(input_ids=x)["logits"], model(x).logits.detach()
    error = (found - expected).abs().amax((0, 1)) / expected.abs().amax((0, 1))
    assert error.max() < 0.05


def test_a_classifier_whose_matrix_is_not_square(tmp_path):
    seed_everything(0)
    model = BertForSequenceClassification(SMALL).eval()
    path = export_onnx(model, text(2, 7), tmp_path / "a.onnx")
    dynamic = quantize_dynamic_int8(path, tmp_path / "b.onnx", embeddings=True)
    static = quantize_static_int8(path, tmp_path / "c.onnx", [text(4, 7)])
    for small in (dynamic, static):
        difference = largest_difference(model, OnnxModel(small, threads=1), text(4, 7))
        assert 1e-4 < difference["logits"] < 0.3


def test_errors_say_what_came(bert, exported, tmp_path):
    with pytest.raises(FileNotFoundError, match="write it with export_onnx first"):
        OnnxModel(tmp_path / "none.onnx")
    with pytest.raises(ValueError, match="expected \\['attention_mask', 'input_ids'\\]"):
        OnnxModel(exported)(input_ids=text(2, 7)["input_ids"])
    with pytest.raises(ValueError, match="training mode"):
        export_onnx(BertModel(SMALL), text(2, 7), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="expected at least 2 along batch"):
        export_onnx(bert, text(1, 7), tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="output object with named fields"):
        export_onnx(nn.Embedding(4, 2).eval(), {"input": text(2, 4)["input_ids"] % 4}, "x.onnx")
    with pytest.raises(ValueError, match="method='mse'"):
        quantize_static_int8(exported, tmp_path / "x.onnx", [text(2, 7)], method="mse")
    with pytest.raises(ValueError, match="no batches"):
        quantize_static_int8(exported, tmp_path / "x.onnx", [])


def test_nothing_is_printed(bert, tmp_path, capfd):
    path = export_onnx(bert, text(2, 7), tmp_path / "quiet.onnx")
    quantize_dynamic_int8(path, tmp_path / "quiet8.onnx")
    assert "".join(capfd.readouterr()) == ""
