"""The attention explorer on an image: what is accepted, what is sent, the static picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import AttentionExplorer
from zoo_lessons.layers.attention import record_attention
from zoo_lessons.models.vit import ViT, ViTConfig


def weights(*shape: int, seed: int = 0) -> np.ndarray:
    exp = np.exp(np.random.default_rng(seed).normal(size=shape, scale=2))
    return (exp / exp.sum(-1, keepdims=True)).astype(np.float32)


def image(height: int = 8, width: int = 12, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(1).random((height, width, channels))


@pytest.fixture
def explorer() -> AttentionExplorer:
    """Patches of 4 × 4 pixels, 2 rows of 3, and a class token."""
    maps, rollout = weights(3, 4, 7, 7), weights(7, 7, seed=5)
    return AttentionExplorer(maps, image=image(), rollout=rollout, layer=1, head=2)


def test_tokens_are_the_class_token_and_the_patches(explorer):
    assert explorer.tokens[0] == "the class token"
    assert explorer.tokens[4] == "patch 3 (row 1, column 0)"
    sent = explorer._payload["image"]
    assert (sent["rows"], sent["columns"], sent["class_token"]) == (2, 3, True)
    pixels = np.frombuffer(sent["pixels"], np.uint8).reshape(8, 12, 3)
    np.testing.assert_array_equal(pixels, np.rint(image() * 255))


def test_a_vits_maps_are_accepted():
    config = ViTConfig(image_size=8, patch_size=4, d_model=8, num_layers=2, num_heads=2, d_ff=8)
    model, pixels = ViT(config).eval(), torch.rand(1, 3, 8, 8)
    with torch.no_grad(), record_attention(model) as maps:
        model(pixels)
    shown = AttentionExplorer(maps, image=pixels[0].permute(1, 2, 0))
    assert shown.weights.shape == (2, 2, 5, 5)
    np.testing.assert_array_equal(shown.shown(), maps[0].weights[0, 0, 0].numpy())


def test_what_is_shown_is_a_head_the_mean_or_the_rollout(explorer):
    explorer.query = 5
    np.testing.assert_array_equal(explorer.shown(), explorer.weights[1, 2, 5])
    explorer.head = -1
    np.testing.assert_allclose(explorer.shown(), explorer.weights[1, :, 5].mean(0))
    explorer.layer = 3
    np.testing.assert_array_equal(explorer.shown(), weights(7, 7, seed=5)[5])
    codes = np.frombuffer(explorer._payload["rollout"], "<u2").reshape(7, 7)
    np.testing.assert_allclose((codes / 65535.0) ** 2, weights(7, 7, seed=5), atol=5e-5)


def test_choices_stay_in_range(explorer):
    for name, value, allowed in (
        ("layer", 4, r"0\.\.3"),
        ("head", -2, r"-1\.\.3"),
        ("query", 7, r"0\.\.6"),
    ):
        with pytest.raises(traitlets.TraitError, match=f"{name}={value} is outside {allowed}"):
            setattr(explorer, name, value)
    text = AttentionExplorer(weights(3, 4, 2, 2), ["a", "b"])
    with pytest.raises(traitlets.TraitError, match=r"head=-1 is outside 0\.\.3"):
        text.head = -1
    with pytest.raises(ValueError, match="this explorer shows text"):
        text.shown()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"class_token": False}, "7 square patches do not fill an image of 8×12"),
        ({"grid": (3, 3)}, "a grid of 3×3 has 9 patches, but the maps have 7 tokens, with a class"),
        ({"grid": (6, 1)}, "a grid of 6×1 does not divide an image of 8×12"),
        ({"image": None}, "tokens are needed, one string for each of 7 keys, or an image"),
        ({"image": None, "tokens": list("abcdefg"), "grid": (2, 3)}, "grid and rollout need an im"),
        ({"tokens": list("abcdefg")}, "with an image, leave out tokens"),
        ({"on_text": print}, "with an image, leave out"),
        ({"rollout": weights(6, 6)}, r"rollout has shape \(6, 6\), expected \(7, 7\)"),
        ({"rollout": weights(7, 7) * 2}, "sum to 1"),
        ({"query": 7}, r"query=7 is outside 0\.\.6"),
        ({"layer": 2}, r"layer=2 is outside 0\.\.1"),
        ({"attention": weights(2, 2, 6, 7)}, "6 queries and 7 keys"),
    ],
)
def test_image_and_maps_must_fit(options, message):
    with pytest.raises(ValueError, match=message):
        AttentionExplorer(**{"attention": weights(2, 2, 7, 7), "image": image(), **options})


def test_a_grid_of_oblong_patches_and_a_batch_of_one():
    shown = AttentionExplorer(
        weights(2, 1, 3, 6, 6),
        image=image(6, 6, 1)[:, :, 0],
        grid=(3, 2),
        class_token=False,
        rollout=torch.tensor(weights(1, 6, 6)),
    )
    assert shown._payload["image"]["channels"] == 1
    assert shown.tokens[5] == "patch 5 (row 2, column 1)"


def test_update_keeps_the_image_and_the_choice_where_it_can(explorer):
    explorer.layer, explorer.query = 3, 6
    explorer.update(weights(2, 1, 7, 7))
    assert (explorer.layer, explorer.head, explorer.query) == (1, 0, 6)
    assert explorer._payload["rollout"] is None
    assert explorer._payload["image"]["width"] == 12
    explorer.update(weights(2, 1, 7, 7), image=image(4, 6))
    assert explorer._payload["image"]["width"] == 6
    before = explorer._payload
    for wrong in ({"attention": weights(2, 1, 5, 5)}, {"image": image(5, 6)}, {"tokens": ["a"]}):
        with pytest.raises(ValueError, match="grid of 2×3|leave out"):
            explorer.update(**{"attention": weights(2, 1, 7, 7), **wrong})
    assert explorer._payload is before
    text = AttentionExplorer(weights(1, 1, 2, 2), ["a", "b"])
    with pytest.raises(ValueError, match="this explorer shows text"):
        text.update(weights(1, 1, 7, 7), image=image())


def test_text_explorers_send_no_image():
    payload = AttentionExplorer(weights(1, 1, 2, 2), ["a", "b"])._payload
    assert "image" not in payload
    assert "rollout" not in payload


def test_text_and_picture_follow_the_choice(explorer):
    assert explorer.static_text() == (
        "AttentionExplorer: 3 layers x 4 heads on an image of 2 x 3 patches and a class token; "
        "showing layer 1, head 2, from the class token"
    )
    first = explorer.static_png()
    explorer.query = 2
    assert explorer.static_png() != first
    explorer.layer = 3
    assert explorer.static_text().endswith("showing rollout, from patch 1 (row 0, column 1)")
    explorer.layer, explorer.query = 1, 0
    assert explorer.static_png() == first
