"""Images for widgets: what is accepted, and what becomes of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from zoo_lessons.lab.widgets.images import centre_crop, image_bytes, patch_grid, to_bytes


@pytest.mark.parametrize("kind", [np.float32, np.float64, torch.float32, torch.bfloat16, np.uint8])
def test_every_form_of_image_gives_the_same_bytes(kind):
    grey = np.arange(6).reshape(2, 3) * 51
    if isinstance(kind, torch.dtype):
        image = (torch.tensor(grey) / 255).to(kind)
    else:
        image = (grey if kind is np.uint8 else grey / 255).astype(kind)
    assert image_bytes(image).shape == (2, 3, 1)
    np.testing.assert_allclose(image_bytes(image)[:, :, 0], grey, atol=1)
    assert image_bytes(np.stack([np.asarray(grey, np.uint8)] * 3, -1)).shape == (2, 3, 3)


def test_bytes_are_the_nearest():
    assert to_bytes(np.array([0.0, 0.499 / 255, 0.501 / 255, 1.0])).tolist() == [0, 0, 1, 255]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((3, 8, 9)), r"\(3, 8, 9\).*permute"),
        (np.zeros((2, 2, 2, 3)), r"\(2, 2, 2, 3\), expected \(height, width, 3\)"),
        (np.zeros((0, 4)), r"\(0, 4, 1\)"),
        (np.full((2, 2), 1.5), r"from 1\.5 to 1\.5, expected 0 to 1; undo the normalisation"),
        (np.full((2, 2), np.nan), "NaN"),
    ],
)
def test_other_images_are_refused_with_a_reason(image, message):
    with pytest.raises(ValueError, match=message):
        image_bytes(image)


@pytest.mark.parametrize("image", [np.zeros((2, 2), int), torch.zeros(2, 2, dtype=torch.int64)])
def test_whole_numbers_are_refused_because_their_range_is_unknown(image):
    with pytest.raises(TypeError, match="got .*int64"):
        image_bytes(image)


def test_a_models_output_may_be_cut():
    assert to_bytes(np.array([-0.5, 0.2, 3.0]), clip=True).tolist() == [0, 51, 255]


def test_the_grid_of_square_patches():
    assert patch_grid(32, 48, 24) == (4, 6)
    assert patch_grid(8, 8, 64) == (8, 8)
    for height, width, patches in ((32, 48, 25), (32, 40, 5), (8, 8, 0), (4, 4, 64)):
        with pytest.raises(ValueError, match=f"{patches} square patches do not fill"):
            patch_grid(height, width, patches)


def test_the_crop_is_the_middle():
    image = np.arange(7 * 10).reshape(7, 10)
    np.testing.assert_array_equal(centre_crop(image, 4), image[1:5, 1:9])
    np.testing.assert_array_equal(centre_crop(image[:4, :8], 4), image[:4, :8])
    with pytest.raises(ValueError, match="7×10 pixels is smaller than 8"):
        centre_crop(image, 8)
