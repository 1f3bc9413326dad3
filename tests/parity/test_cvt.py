"""Our CvT against transformers.CvtForImageClassification."""

import copy

import pytest
import torch
import transformers

from experiments.vision_model_table import CVT_SMALL
from tests.parity.honest import (
    assert_image_matters,
    assert_same,
    assert_same_from_file,
    randomise,
    relative_difference,
)
from zoo_lessons.layers import record_attention
from zoo_lessons.models.cvt import CvT, CvTConfig
from zoo_lessons.weights import from_transformers


def reference(dtype=torch.float64):
    model = transformers.CvtForImageClassification(copy.deepcopy(CVT_SMALL))
    return randomise(model).to(dtype)


def images(dtype=torch.float64, height=31, width=40):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 2, height, width, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound):
    theirs = reference(dtype)
    ours, pixel_values = from_transformers(theirs), images(dtype)
    with torch.no_grad():
        a, b, c = ours(pixel_values), theirs(pixel_values), theirs.cvt(pixel_values)
    assert_same(a, b, ["logits"], bound)
    assert_same(a, c, ["last_hidden_state", "cls_token_value"], bound)


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
    stage = theirs.cvt.encoder.stages[1]
    attention = stage.layers[0].attention.attention
    for a, b in [
        (ours.stages[1].class_token, stage.cls_token),
        (ours.stages[1].blocks[0].attention.k.weight, attention.projection_key.weight),
        (ours.stages[1].blocks[0].attention.convolution_v.convolution.weight,
         attention.convolution_projection_value.convolution_projection.convolution.weight),
    ]:  # fmt: skip
        assert relative_difference(a.grad, b.grad) <= 1e-9


def test_names_in_files(tmp_path):
    assert_same_from_file(reference(torch.float32), images(torch.float32), tmp_path)


def test_attention_can_be_recorded():
    ours = from_transformers(reference())
    with torch.no_grad(), record_attention(ours) as maps:
        ours(images())
    # 31×40 pixels -> 10×13 tokens -> 5×7 tokens; keys every third place, and the class token
    assert [m.name for m in maps][-1] == "stages.1.blocks.2.attention"
    assert maps[0].weights.shape == (3, 2, 10 * 13, 4 * 5)
    assert maps[-1].weights.shape == (3, 4, 1 + 5 * 7, 1 + 2 * 3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cls_token", [True, True]),
        ("qkv_projection_method", ["dw_bn", "avg"]),
        ("qkv_bias", [False, True]),
        ("stride_q", [2, 2]),
        ("padding_kv", [1, 1]),
        ("mlp_ratio", [3.0, 4.0]),
    ],
)
def test_refused_configs(option, value):
    config = copy.deepcopy(CVT_SMALL)
    setattr(config, option, value)
    with pytest.raises(ValueError, match=f"unsupported CvT config: {option}="):
        CvTConfig.from_hf(config)


def test_what_does_not_fit():
    ours = from_transformers(reference())
    with pytest.raises(ValueError, match=r"expected \(batch, 2, height, width\)"):
        ours(torch.zeros(1, 3, 32, 32, dtype=torch.float64))
    with pytest.raises(ValueError, match="depths=.1, 2. has 2 entries, expected one per stage, 3"):
        CvTConfig(depths=(1, 2))


@pytest.mark.parametrize(
    ("config", "millions"), [(CvTConfig.cvt_13(), 20.0), (CvTConfig.cvt_21(), 31.6)]
)
def test_published_sizes(config, millions):
    with torch.device("meta"):
        count = sum(p.numel() for p in CvT(config).parameters())
    assert round(count / 1e6, 1) == millions
