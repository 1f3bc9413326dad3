"""Our ViT against transformers.ViTForImageClassification."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers

from tests.parity.honest import (
    assert_image_matters,
    assert_same,
    assert_same_from_file,
    randomise,
    relative_difference,
)
from zoo_lessons.layers import record_attention
from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.weights import from_transformers

CONFIG = transformers.ViTConfig(
    image_size=20,
    patch_size=5,
    num_channels=2,
    hidden_size=24,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=40,
    hidden_act="relu",
    layer_norm_eps=1e-4,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.2,
    num_labels=7,
)


def reference(dtype=torch.float64):
    model = transformers.ViTForImageClassification(copy.deepcopy(CONFIG))
    return randomise(model).to(dtype)


def images(dtype=torch.float64, height=20, width=20):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 2, height, width, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound):
    theirs = reference(dtype)
    ours, pixel_values = from_transformers(theirs), images(dtype)
    with torch.no_grad():
        a, b = ours(pixel_values), theirs(pixel_values)
        hidden = theirs.vit(pixel_values)
    assert_same(a, b, ["logits"], bound)
    assert_same(a, hidden, ["last_hidden_state"], bound)


def test_another_image_size():
    theirs = reference()
    ours, pixel_values = from_transformers(theirs), images(height=30, width=15)
    with torch.no_grad():
        a = ours(pixel_values, interpolate_pos_encoding=True)
        b = theirs(pixel_values, interpolate_pos_encoding=True)
    assert_same(a, b, ["logits"], 1e-9)
    with pytest.raises(ValueError, match="30×15, expected 20×20; pass interpolate_pos_encoding"):
        ours(pixel_values)
    with pytest.raises(ValueError, match="height=31 must be divisible by patch_size=5"):
        ours(images(height=31), interpolate_pos_encoding=True)


def test_inputs_matter():
    assert_image_matters(from_transformers(reference()), images())


def test_same_gradient():
    theirs = reference()
    ours, pixel_values = from_transformers(theirs), images()
    for model in (ours, theirs):
        model(pixel_values).logits.square().sum().backward()
    attention = theirs.vit.layers[1].attention
    theirs_qkv = torch.cat([getattr(attention, f"{n}_proj").weight.grad for n in "qkv"])
    assert relative_difference(ours.layers[1].attention.qkv.weight.grad, theirs_qkv) <= 1e-9
    for a, b in [
        (ours.embeddings.positions, theirs.vit.embeddings.position_embeddings),
        (ours.embeddings.class_token, theirs.vit.embeddings.cls_token),
    ]:
        assert relative_difference(a.grad, b.grad) <= 1e-9


def test_same_attention_maps():
    theirs = transformers.ViTForImageClassification._from_config(
        copy.deepcopy(CONFIG), attn_implementation="eager", dtype=torch.float64
    )
    randomise(theirs)
    ours, pixel_values = from_transformers(theirs), images()
    with torch.no_grad(), record_attention(ours) as maps:
        ours(pixel_values)
    with torch.no_grad():
        expected = torch.stack(theirs(pixel_values, output_attentions=True).attentions)
    # their eager softmax is computed in float32
    assert relative_difference(maps.stack(), expected) <= 1e-6


def test_names_in_files(tmp_path):
    assert_same_from_file(reference(torch.float32), images(torch.float32), tmp_path)


def test_pooling():
    config = replace(ViTConfig.from_hf(CONFIG), num_labels=0, pooling="mean", dropout=0.0)
    output = ViT(config).eval()(images(torch.float32))
    torch.testing.assert_close(output.logits, output.last_hidden_state[:, 1:].mean(1))


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("qkv_bias", False, "qkv_bias=False, expected True"),
        ("patch_size", (5, 4), r"patch_size=\(5, 4\), expected one number"),
        ("image_size", 21, "image_size=21 must be divisible by patch_size=5"),
    ],
)
def test_refused_configs(option, value, message):
    config = copy.deepcopy(CONFIG)
    setattr(config, option, value)
    with pytest.raises(ValueError, match=message):
        ViTConfig.from_hf(config)


@pytest.mark.parametrize(
    ("config", "parameters"), [(ViTConfig.base(), 86_567_656), (ViTConfig.large(), 304_326_632)]
)
def test_published_sizes(config, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in ViT(config).parameters()) == parameters
