"""Our MobileViT against transformers.MobileViTForImageClassification."""

import copy
from dataclasses import replace

import pytest
import torch
import transformers

from experiments.vision_model_table import MOBILEVIT_SMALL
from tests.parity.honest import (
    assert_image_matters,
    assert_same,
    assert_same_from_file,
    randomise,
    relative_difference,
)
from zoo_lessons.layers import record_attention
from zoo_lessons.models.mobilevit import MobileViT, MobileViTConfig, fold, unfold
from zoo_lessons.weights import from_transformers


def reference(dtype=torch.float64):
    model = transformers.MobileViTForImageClassification(copy.deepcopy(MOBILEVIT_SMALL))
    return randomise(model, scale=0.5).to(dtype)


def images(dtype=torch.float64, height=96, width=96):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 2, height, width, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("size", [(96, 96), (70, 110)])  # patches divide the grids, or do not
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, size):
    theirs = reference(dtype)
    ours, pixel_values = from_transformers(theirs), images(dtype, *size)
    with torch.no_grad():
        a, b, c = ours(pixel_values), theirs(pixel_values), theirs.mobilevit(pixel_values)
    assert_same(a, b, ["logits"], bound)
    assert_same(a, c, ["last_hidden_state", "pooler_output"], bound)


def test_inputs_matter():
    assert_image_matters(from_transformers(reference()), images())


@pytest.mark.parametrize("training", [False, True])
def test_same_gradient(training):
    """In training BatchNorm uses the batch's own mean and variance."""
    theirs = reference()
    ours, pixel_values = from_transformers(theirs), images()
    for model in (ours, theirs):
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.train(training)
        model(pixel_values).logits.square().sum().backward()
    stage, their_stage = ours.stages[2], theirs.mobilevit.encoder.layer[2]
    for a, b in [
        (ours.stem.convolution.weight, theirs.mobilevit.conv_stem.convolution.weight),
        (stage.fusion.convolution.weight, their_stage.fusion.convolution.weight),
        (stage.blocks[0].attention.out.weight,
         their_stage.transformer.layer[0].attention.output.dense.weight),
    ]:  # fmt: skip
        assert relative_difference(a.grad, b.grad) <= 1e-9


def test_names_in_files(tmp_path):
    assert_same_from_file(reference(torch.float32), images(torch.float32), tmp_path)


def test_unfold_gathers_the_same_place_of_every_patch():
    x = torch.arange(2 * 5 * 4 * 6).reshape(2, 5, 4, 6)
    sequences = unfold(x, 2)
    assert sequences.shape == (2 * 4, 6, 5)
    assert torch.equal(sequences[1], x[0, :, 0::2, 1::2].flatten(1).T)  # top right of each patch
    assert torch.equal(fold(sequences, 2, 4, 6), x)


def test_attention_can_be_recorded():
    ours = from_transformers(reference())
    with torch.no_grad(), record_attention(ours) as maps:
        ours(images())
    assert len(maps) == 2 + 4 + 3
    # 96 pixels -> 12 places a side -> 4 patches a side; 9 sequences an image, one per place
    assert maps[0].weights.shape == (2 * 9, 3, 16, 16)


@pytest.mark.parametrize(("option", "value"), [("qkv_bias", False), ("output_stride", 16)])
def test_refused_configs(option, value):
    config = copy.deepcopy(MOBILEVIT_SMALL)
    setattr(config, option, value)
    with pytest.raises(ValueError, match=f"unsupported MobileViT config: {option}={value}"):
        MobileViTConfig.from_hf(config)


def test_what_does_not_fit():
    ours = from_transformers(reference())
    with pytest.raises(ValueError, match=r"expected \(batch, 2, height, width\)"):
        ours(torch.zeros(1, 3, 64, 64, dtype=torch.float64))


def test_smaller_strides_keep_more_of_a_small_image():
    small = MobileViTConfig(channels=(4, 4, 8, 8, 8, 8, 8), d_model=(8, 8, 8), num_labels=3)
    images = torch.rand(1, 3, 32, 32)
    for strides, side in [((2, 1, 2, 2, 2, 2), 1), ((2, 1, 1, 2, 2, 1), 4), ((1,) * 6, 32)]:
        model = MobileViT(replace(small, strides=strides)).eval()
        output = model(images)
        assert output.last_hidden_state.shape == (1, 8, side, side)
        assert output.logits.shape == (1, 3)
    with pytest.raises(ValueError, match=r"strides=\(2, 2\) has 2 entries, expected 6"):
        MobileViTConfig(strides=(2, 2))
    with pytest.raises(ValueError, match=r"channels=\(8,\) has 1 entries, expected 7"):
        MobileViTConfig(channels=(8,))


@pytest.mark.parametrize(
    ("config", "millions"), [(MobileViTConfig.small(), 5.6), (MobileViTConfig.extra_small(), 2.3)]
)
def test_published_sizes(config, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in MobileViT(config).parameters())
    assert round(count / 1e6, 1) == millions
