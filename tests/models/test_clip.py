"""What CLIP does beyond the reference: stem, temperature, errors."""

import json
import math
from dataclasses import asdict, replace

import pytest
import torch

from zoo_lessons.models.clip import (
    CLIP,
    CLIPConfig,
    CLIPTextConfig,
    CLIPVisionConfig,
    ConvolutionalStem,
)

VISION = CLIPVisionConfig(
    image_size=24, patch_size=8, num_channels=3, d_model=16, num_layers=2, num_heads=2, d_ff=24
)
TEXT = CLIPTextConfig(
    vocab_size=20, d_model=12, num_layers=1, num_heads=2, d_ff=24, max_length=7, eos_token_id=2
)
CONFIG = CLIPConfig(VISION, TEXT, projection_dim=10, temperature=0.1)
IDS = torch.tensor([[5, 6, 2, 0, 0], [7, 2, 0, 0, 0]])


def model(config=CONFIG):
    torch.manual_seed(0)
    return CLIP(config).eval()


def test_a_convolutional_stem_gives_as_many_tokens():
    stem = ConvolutionalStem(8, 16)
    assert stem(torch.randn(2, 3, 24, 40)).shape == (2, 15, 16)
    with pytest.raises(ValueError, match="width=20 must be divisible by patch_size=8"):
        stem(torch.randn(2, 3, 24, 20))
    with pytest.raises(ValueError, match="patch_size=6 must be a power of two"):
        ConvolutionalStem(6, 16)


def test_patches_of_the_stem_overlap():
    stem, image = ConvolutionalStem(8, 16).eval(), torch.randn(1, 3, 24, 24)
    changed = image.clone()
    changed[..., 7] += 1.0  # the last column of the first patch
    differences = (stem(changed) - stem(image)).abs().amax(dim=-1).view(3, 3)
    assert (differences[:, :2] > 0).all() and (differences[:, 2] == 0).all()


@pytest.mark.parametrize("stem", ["patches", "convolutions"])
def test_embeddings_have_length_one(stem):
    config = replace(CONFIG, vision=replace(VISION, stem=stem))
    output = model(config)(IDS, torch.randn(3, 3, 24, 24))
    assert output.logits_per_image.shape == (3, 2)
    for embeds in (output.image_embeds, output.text_embeds):
        torch.testing.assert_close(embeds.norm(dim=-1), torch.ones(len(embeds)))
    torch.testing.assert_close(
        output.logits_per_image, output.image_embeds @ output.text_embeds.T / 0.1
    )


def test_padding_after_the_end_changes_nothing():
    ours = model()
    changed = IDS.clone()
    changed[0, 3:] = 9
    with torch.no_grad():
        expected = ours.embed_texts(IDS)
        torch.testing.assert_close(ours.embed_texts(changed), expected)
        torch.testing.assert_close(ours.embed_texts(IDS, (IDS != 0).long()), expected)
        torch.testing.assert_close(ours.embed_texts(IDS[1:, :2]), expected[1:])


def test_the_temperature_has_a_floor():
    ours = model()
    assert math.isclose(ours.temperature, 0.1, rel_tol=1e-6)
    ours.limit_temperature()
    assert math.isclose(ours.temperature, 0.1, rel_tol=1e-6)
    with torch.no_grad():
        ours.logit_scale.fill_(9.0)
    ours.limit_temperature()
    assert math.isclose(ours.temperature, 0.01, rel_tol=1e-5)


def test_a_config_comes_back_from_json():
    assert CLIPConfig(**json.loads(json.dumps(asdict(CONFIG)))) == CONFIG


def test_errors_name_the_mistake():
    ours, images = model(), torch.randn(2, 3, 24, 24)
    with pytest.raises(ValueError, match=r"row 1 of input_ids has no \[EOS\] \(id 2\)"):
        ours.embed_texts(torch.tensor([[5, 2], [5, 6]]))
    with pytest.raises(ValueError, match="8 positions, expected at most max_length=7"):
        ours.embed_texts(torch.full((1, 8), 2))
    with pytest.raises(ValueError, match="32×24, expected 24×24"):
        ours.embed_images(torch.randn(2, 3, 32, 24))
    with pytest.raises(ValueError, match="expected as many images as texts"):
        ours(IDS, images[:1], return_loss=True)
    with pytest.raises(ValueError, match="pooling='last'"):
        replace(TEXT, pooling="last")
    with pytest.raises(ValueError, match="stem='linear'"):
        replace(VISION, stem="linear")
    with pytest.raises(ValueError, match="temperature=0 must be positive"):
        replace(CONFIG, temperature=0)
