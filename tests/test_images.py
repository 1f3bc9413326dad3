"""Our image processor against those of `transformers`."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from zoo_lessons.images import ImageProcessor

# Both round to float32 at the same places, but for the last bit of a quotient.
BOUND = 1e-6


def picture(height, width, seed=0):
    """Smooth colours with hard edges and noise, uint8 (height, width, 3)."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:height, :width]
    smooth = 127 + 120 * np.sin(rows[..., None] / 7 + columns[..., None] / [5, 9, 14])
    smooth[height // 3 : height // 2, width // 4 :] = (255, 0, 30)
    return (smooth + rng.normal(0, 9, smooth.shape)).clip(0, 255).astype(np.uint8)


PAIRS = {
    "clip": (
        ImageProcessor.clip(56),
        transformers.CLIPImageProcessorPil(
            size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
        ),
    ),
    "vit": (
        ImageProcessor.vit(56),
        transformers.ViTImageProcessorPil(size={"height": 56, "width": 56}),
    ),
    "blip": (
        ImageProcessor.blip(56),
        transformers.BlipImageProcessorPil(size={"height": 56, "width": 56}),
    ),
}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("shape", [(75, 113), (113, 75), (56, 56), (40, 41), (300, 170), (57, 56)])
def test_equal_to_transformers(name, shape):
    ours, theirs = PAIRS[name]
    image = picture(*shape)
    expected = theirs(images=[image], return_tensors="pt")["pixel_values"]
    found = ours(image)
    assert found.shape == expected.shape == (1, 3, 56, 56) and found.dtype == torch.float32
    assert (found - expected).abs().max() <= BOUND


@pytest.mark.parametrize("name", PAIRS)
def test_settings_of_files(tmp_path, name):
    ours, theirs = PAIRS[name]
    theirs.save_pretrained(tmp_path)
    assert ImageProcessor.from_pretrained(tmp_path) == ours


def test_default_settings():
    assert ImageProcessor.from_hf(transformers.CLIPImageProcessorPil().to_dict()) == (
        ImageProcessor.clip()
    )
    assert ImageProcessor.from_hf(transformers.ViTImageProcessorPil().to_dict()) == (
        ImageProcessor.vit()
    )
    assert ImageProcessor.from_hf(transformers.BlipImageProcessorPil().to_dict()) == (
        ImageProcessor.blip()
    )


def test_an_old_file_with_lone_numbers():
    settings = {
        "size": 56,
        "crop_size": 48,
        "do_center_crop": True,
        "resample": 3,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.2, 0.2, 0.2],
    }
    expected = transformers.CLIPImageProcessorPil(**settings)(
        images=[picture(75, 113)], return_tensors="pt"
    )["pixel_values"]
    assert (ImageProcessor.from_hf(settings)(picture(75, 113)) - expected).abs().max() <= BOUND
    assert ImageProcessor.from_hf({**settings, "do_center_crop": False}).size == (56, 56)


def test_a_crop_larger_than_the_picture():
    theirs = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 20}, crop_size={"height": 31, "width": 40}
    )
    image = picture(40, 50)
    expected = theirs(images=[image], return_tensors="pt")["pixel_values"]
    found = ImageProcessor(20, crop=(31, 40))(image)
    assert (found - expected).abs().max() <= BOUND


def test_every_kind_of_picture_gives_the_same():
    ours, array = ImageProcessor.clip(56), picture(75, 113)
    expected = ours(array)
    assert torch.equal(ours(Image.fromarray(array)), expected)
    assert torch.equal(ours(torch.from_numpy(array).movedim(-1, 0)), expected)
    assert torch.equal(ours([array, array])[1:], expected)
    assert torch.equal(ours(np.stack([array, array]))[:1], expected)
    # Whole numbers are rounded to grey levels after each of two passes, floats are not. A rounding
    # of half a level in the first pass may grow a little in the second.
    levels = 1.5 / 255 / min(ours.std)
    assert 0 < (ours(array / 255) - expected).abs().max() <= levels
    assert (ours(torch.from_numpy(array).movedim(-1, 0) / 255) - expected).abs().max() <= levels


def test_without_resizing_floats_and_whole_numbers_agree():
    ours, array = ImageProcessor.clip(56), picture(56, 56)
    assert (ours(array / 255) - ours(array)).abs().max() <= BOUND


def test_pictures_with_transparency_palette_and_grey():
    ours, image = ImageProcessor.clip(56), Image.fromarray(picture(75, 113))
    expected = ours(image)
    transparent = image.copy()
    transparent.putalpha(128)
    assert torch.equal(ours(transparent), expected)
    grey = ours(image.convert("L"))
    unscaled = ours.undo(grey)
    assert np.abs(unscaled[..., 0].astype(int) - unscaled[..., 2]).max() <= 1
    assert ours(image.quantize(16)).shape == expected.shape


def test_one_channel():
    ours = ImageProcessor((8, 8), mean=(0.5,), std=(0.5,))
    grey = picture(16, 16)[:, :, :1]
    assert ours(grey).shape == (1, 1, 8, 8)
    assert torch.equal(ours(Image.fromarray(grey[:, :, 0])), ours(grey))


def test_undo():
    ours, array = ImageProcessor.clip(56), picture(56, 56)
    assert np.array_equal(ours.undo(ours(array))[0], array)


def test_pictures_of_different_sizes():
    ours = ImageProcessor.clip(56)
    assert ours([picture(75, 113), picture(60, 58)]).shape == (2, 3, 56, 56)
    with pytest.raises(ValueError, match="cannot be stacked: set `crop`"):
        ImageProcessor(56)([picture(75, 113), picture(60, 58)])


IMAGE = picture(12, 10)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (IMAGE.astype(np.float32), ValueError, "0 to 255, expected 0 to 1: divide it by 255"),
        ((IMAGE / 255).astype(np.uint8), ValueError, "lose their fractions as uint8"),
        (IMAGE / 255 * 1.5, ValueError, "expected 0 to 1: clip it"),
        (IMAGE / 127.5 - 1, ValueError, "looks normalised already"),
        (
            np.moveaxis(IMAGE, -1, 0),
            ValueError,
            r"\(3, 12, 10\), expected \(height, width, 3\).*np.m",
        ),
        (torch.from_numpy(IMAGE), ValueError, r"expected \(3, height, width\).*x.movedim\(-1, 0\)"),
        (IMAGE[:, :, :2], ValueError, "with 2 channels"),
        (np.dstack([IMAGE, IMAGE[:, :, :1]]), ValueError, "with 4 channels"),
        (IMAGE[:, :, 0], ValueError, r"shape \(12, 10\), expected \(height, width, 3\)"),
        (IMAGE.astype(np.int64), TypeError, "holds int64, expected uint8"),
        (np.where(IMAGE > 250, np.nan, IMAGE / 255), ValueError, "holds NaN"),
        (IMAGE[:0], ValueError, "has no pixels"),
        ("cat.png", TypeError, "a picture is a str, expected a PIL image"),
        ([], ValueError, "images is empty"),
    ],
)
def test_errors_name_the_mistake(wrong, error, message):
    with pytest.raises(error, match=message):
        ImageProcessor.clip(8)(wrong)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"do_rescale": False}, "do_rescale=False, expected True"),
        ({"do_pad": True}, "do_pad=True, expected False"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor=0.0078"),
        ({"resample": 9}, "resample=9"),
        ({"size": {"longest_edge": 3}}, "size {'longest_edge': 3}"),
    ],
)
def test_refused_settings(changes, message):
    settings = {**transformers.CLIPImageProcessorPil().to_dict(), **changes}
    with pytest.raises(ValueError, match=message):
        ImageProcessor.from_hf(settings)


def test_refused_arguments(tmp_path):
    with pytest.raises(ValueError, match="resample='cubic', expected one of nearest"):
        ImageProcessor(8, resample="cubic")
    with pytest.raises(ValueError, match="mean has 3 values and std 1"):
        ImageProcessor(8, std=(1.0,))
    with pytest.raises(ValueError, match="must be positive"):
        ImageProcessor(8, std=(1.0, 0.0, 1.0))
    with pytest.raises(FileNotFoundError, match="no preprocessor_config.json"):
        ImageProcessor.from_pretrained(tmp_path)
