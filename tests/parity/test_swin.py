"""Our Swin against transformers.SwinForImageClassification."""

import copy

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
from zoo_lessons.models.swin import (
    Swin,
    SwinConfig,
    shifted_window_mask,
    window_partition,
    window_reverse,
)
from zoo_lessons.weights import from_transformers

CONFIG = transformers.SwinConfig(
    image_size=32,
    patch_size=2,
    num_channels=2,
    embed_dim=12,
    depths=[2, 3],
    num_heads=[2, 3],
    window_size=4,
    mlp_ratio=3.0,
    hidden_act="relu",
    layer_norm_eps=1e-4,
    hidden_dropout_prob=0.1,
    attention_probs_dropout_prob=0.2,
    drop_path_rate=0.3,
    num_labels=7,
)


def reference(dtype=torch.float64):
    model = transformers.SwinForImageClassification(copy.deepcopy(CONFIG))
    return randomise(model).to(dtype)


def images(dtype=torch.float64, height=32, width=32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(3, 2, height, width, generator=generator, dtype=torch.float64).to(dtype)


# 32×32: windows divide both stages. 36×44: both are padded. 18×26: merging pads 9×13 tokens.
# 16×20: the second stage is one window high, so nothing is shifted there.
@pytest.mark.parametrize("size", [(32, 32), (36, 44), (18, 26), (16, 20)])
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_same_output(dtype, bound, size):
    theirs = reference(dtype)
    ours, pixel_values = from_transformers(theirs), images(dtype, *size)
    with torch.no_grad():
        a, b, c = ours(pixel_values), theirs(pixel_values), theirs.swin(pixel_values)
    assert_same(a, b, ["logits"], bound)
    assert_same(a, c, ["last_hidden_state", "pooler_output"], bound)


def test_inputs_matter():
    assert_image_matters(from_transformers(reference()), images())


def test_same_gradient():
    theirs = reference()
    ours, pixel_values = from_transformers(theirs), images()
    for model in (ours, theirs):
        model(pixel_values).logits.square().sum().backward()
    block, their_block = ours.stages[0].blocks[1], theirs.swin.encoder.layers[0].blocks[1]
    attention = their_block.attention
    for a, b in [
        (block.attention.bias.table, attention.relative_position_bias.relative_position_bias_table),
        (block.attention.attention.out.weight, attention.o_proj.weight),
        (ours.stages[0].downsample.reduction.weight,
         theirs.swin.encoder.layers[0].downsample.reduction.weight),
    ]:  # fmt: skip
        assert relative_difference(a.grad, b.grad) <= 1e-9


def test_names_in_files(tmp_path):
    assert_same_from_file(reference(torch.float32), images(torch.float32), tmp_path)


def test_windows_there_and_back():
    x = torch.arange(2 * 6 * 9 * 5).reshape(2, 6, 9, 5)
    windows = window_partition(x, 3)
    assert windows.shape == (12, 9, 5)
    assert torch.equal(windows[1], x[0, :3, 3:6].flatten(0, 1))
    assert torch.equal(window_reverse(windows, 3, 6, 9), x)


def test_only_neighbours_meet_after_the_shift():
    """By definition: two tokens of a window may meet if the roll did not carry one around."""
    rows, columns, window, shift = 6, 9, 3, 1
    row = torch.arange(rows)[:, None].expand(rows, columns)
    column = torch.arange(columns)[None].expand(rows, columns)
    places = torch.stack([row, column], dim=-1).roll((-shift, -shift), dims=(0, 1))
    places = window_partition(places[None], window)  # (windows, window², 2), true places
    distance = (places[:, :, None] - places[:, None]).abs().amax(dim=-1)
    assert torch.equal(shifted_window_mask(rows, columns, window, shift), distance < window)


def test_what_does_not_fit():
    ours = from_transformers(reference())
    with pytest.raises(ValueError, match="height=31 must be divisible by patch_size=2"):
        ours(images(height=31))
    with pytest.raises(ValueError, match="grid of 3×8 tokens is smaller than window_size=4"):
        ours(images(height=12))
    with pytest.raises(ValueError, match="has 2 stages and num_heads=.* has 3"):
        SwinConfig(depths=(1, 1), num_heads=(1, 1, 1))


@pytest.mark.parametrize(
    ("option", "value"), [("qkv_bias", False), ("use_absolute_embeddings", True)]
)
def test_refused_configs(option, value):
    config = copy.deepcopy(CONFIG)
    setattr(config, option, value)
    with pytest.raises(ValueError, match=f"{option}={value}, expected {not value}"):
        SwinConfig.from_hf(config)


@pytest.mark.parametrize(
    ("config", "parameters"), [(SwinConfig.tiny(), 28_288_354), (SwinConfig.base(), 87_768_224)]
)
def test_published_sizes(config, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in Swin(config).parameters()) == parameters
