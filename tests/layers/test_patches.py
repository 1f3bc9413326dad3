"""Patches: the order of their numbers, the way back, and the convolution that equals them."""

import pytest
import torch

from zoo_lessons.layers.patches import (
    PatchEmbedding,
    image_to_patches,
    interpolate_positions,
    patches_to_image,
)


def test_patches_against_a_loop():
    images = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    patches = image_to_patches(images, 2)
    assert patches.shape == (2, 6, 12)
    expected = [
        images[:, :, row : row + 2, column : column + 2].flatten(1)
        for row in range(0, 4, 2)
        for column in range(0, 6, 2)
    ]
    assert torch.equal(patches, torch.stack(expected, dim=1))


def test_there_and_back():
    images = torch.randn(2, 3, 8, 12)
    assert torch.equal(patches_to_image(image_to_patches(images, 4), 4, 8, 12), images)


def test_embedding_is_one_linear_map_per_patch():
    embedding = PatchEmbedding(4, 7, num_channels=2).double()
    images = torch.randn(3, 2, 8, 12, dtype=torch.float64)
    weight = embedding.projection.weight.flatten(1)
    expected = image_to_patches(images, 4) @ weight.T + embedding.projection.bias
    torch.testing.assert_close(embedding(images), expected)


def test_interpolation():
    positions = torch.randn(1, 9, 5)
    assert interpolate_positions(positions, 3, 3) is positions
    flat = torch.ones(1, 9, 5)
    torch.testing.assert_close(interpolate_positions(flat, 4, 7), torch.ones(1, 28, 5))
    ramp = torch.arange(3.0).repeat(3, 1).reshape(1, 9, 1)  # grows from column to column
    wide = interpolate_positions(ramp, 3, 6).reshape(3, 6)
    assert (wide.diff(dim=1) > 0).all() and wide.diff(dim=0).abs().max() < 1e-6


def test_what_does_not_fit():
    with pytest.raises(ValueError, match=r"width=10 must be divisible by patch_size=4 \(rem.* 2"):
        image_to_patches(torch.zeros(1, 3, 8, 10), 4)
    with pytest.raises(ValueError, match=r"shape \(3, 8, 8\), expected \(batch, channels"):
        image_to_patches(torch.zeros(3, 8, 8), 4)
    with pytest.raises(ValueError, match=r"5 patches .* expected 2 × 2 = 4"):
        patches_to_image(torch.zeros(1, 5, 48), 4, 8, 8)
    with pytest.raises(ValueError, match=r"expected \(batch, 3, height, width\)"):
        PatchEmbedding(4, 8)(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ValueError, match="8 positions do not form a square"):
        interpolate_positions(torch.zeros(1, 8, 5), 4, 4)
