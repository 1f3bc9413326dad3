"""The masked image explorer's Python side: shapes, losses, size, the static picture."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import traitlets

from zoo_lessons.lab.widgets import MaskedImageExplorer
from zoo_lessons.models.mae import MAE, MAEConfig, random_masking, unpatchify

RATIOS = [0.25, 0.5, 0.75]


def made(grey: bool = False, own_losses: bool = False, **changes) -> dict:
    """Two images of 16 × 16 in 4 × 4 patches, three ratios, two masks each."""
    rng = np.random.default_rng(0)
    last = () if grey else (3,)
    images = rng.random((2, 16, 16, *last))
    masks = np.zeros((2, 3, 2, 16))
    for place in np.ndindex(2, 3, 2):
        masks[place][rng.permutation(16)[: int(16 * RATIOS[place[1]])]] = 1
    arguments = {
        "images": images,
        "reconstructions": images[:, None, None] + rng.normal(size=(2, 3, 2, 16, 16, *last)) * 0.3,
        "masks": masks,
        "ratios": RATIOS,
    }
    if own_losses:
        arguments["losses"] = rng.random(masks.shape)
    return arguments | changes


def test_losses_are_the_squared_differences_of_the_pixels():
    arguments = made(images=np.rint(made()["images"] * 255).astype(np.uint8))
    shown = MaskedImageExplorer(**arguments, image=1, ratio=2, draw=1)
    painted, image = arguments["reconstructions"][1, 2, 1], arguments["images"][1] / 255
    for patch in range(16):
        row, column = divmod(patch, 4)
        block = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        expected = ((painted - image)[block] ** 2).mean()
        assert shown.patch_losses[row, column] == pytest.approx(expected, rel=1e-5)
    hidden = arguments["masks"][1, 2, 1].reshape(4, 4).astype(bool)
    np.testing.assert_array_equal(shown.mask, hidden)
    assert shown.loss == pytest.approx(shown.patch_losses[hidden].mean())


def test_the_models_own_loss_comes_out():
    """Losses, masks and pixels of a real MAE, put together as a lesson does."""
    config = MAEConfig(
        image_size=16,
        patch_size=4,
        d_model=16,
        num_layers=1,
        num_heads=2,
        d_ff=16,
        decoder_d_model=16,
        decoder_num_layers=1,
        decoder_num_heads=2,
        decoder_d_ff=16,
    )
    torch.manual_seed(0)
    model, images = MAE(config).eval(), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        output = model(images, noise=torch.rand(1, 16), mask_ratio=0.5)
    painted = unpatchify(output.logits, 4, 16, 16).permute(0, 2, 3, 1)
    shown = MaskedImageExplorer(
        (images.permute(0, 2, 3, 1) * 255).round() / 255,
        painted[:, None, None],
        output.mask[:, None, None],
        [0.5],
    )
    assert shown.loss == pytest.approx(float(output.loss), rel=0.01)
    assert shown.mask.sum() == 8


def test_own_losses_are_kept():
    arguments = made(own_losses=True)
    shown = MaskedImageExplorer(**arguments)
    assert (shown.image, shown.ratio, shown.draw) == (0, 2, 0)  # nearest to 75 %
    np.testing.assert_allclose(shown.patch_losses.ravel(), arguments["losses"][0, 2, 0], rtol=1e-6)


def test_bytes_and_floats_mean_the_same():
    arguments = made()
    floats = np.rint(arguments["reconstructions"].clip(0, 1) * 255) / 255
    as_bytes = np.rint(floats * 255).astype(np.uint8)
    first, second = (
        MaskedImageExplorer(**arguments | {"reconstructions": painted})
        for painted in (floats, as_bytes)
    )
    assert first._payload["reconstructions"] == second._payload["reconstructions"]
    np.testing.assert_allclose(first.patch_losses, second.patch_losses, rtol=1e-5)


@pytest.mark.parametrize("grey", [True, False])
def test_everything_is_sent_once_as_bytes(grey):
    shown = MaskedImageExplorer(**made(grey))
    channels = 1 if grey else 3
    pixels = (2 + 2 * 3 * 2) * 16 * 16 * channels
    assert shown.bytes_sent == pixels + 12 * 16 // 8 + 12 * 16 * 4
    payload = shown._payload
    assert sum(len(v) for v in payload.values() if isinstance(v, bytes)) == shown.bytes_sent
    assert payload["channels"] == channels


def test_masks_of_uneven_length_start_at_whole_bytes():
    images = np.zeros((1, 3, 3))
    masks = np.zeros((1, 1, 2, 9))
    masks[0, 0, 0, :4] = masks[0, 0, 1, 5:] = 1
    shown = MaskedImageExplorer(images, np.zeros((1, 1, 2, 3, 3)), masks, [0.45])
    assert len(shown._payload["masks"]) == 4


def test_random_masking_is_accepted_at_any_ratio():
    for ratio in (0.0, 0.1, 0.33, 0.75, 0.95):
        _, mask, _ = random_masking(torch.rand(1, 49), ratio)
        MaskedImageExplorer(
            np.zeros((1, 14, 14)), np.zeros((1, 1, 1, 14, 14)), mask[:, None, None], [ratio]
        )


def test_without_a_hidden_patch_there_is_no_loss():
    shown = MaskedImageExplorer(
        np.zeros((1, 4, 4)), np.zeros((1, 1, 1, 4, 4)), np.zeros((1, 1, 1, 4)), [0.0]
    )
    assert np.isnan(shown.loss)
    assert shown.static_png().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((2, 3, 16, 16))}, r"images have shape \(2, 3, 16, 16\)"),
        ({"reconstructions": np.zeros((2, 3, 2, 16, 8, 3))}, r"\(images, ratios, masks, 16, 16, 3"),
        ({"reconstructions": np.zeros((2, 2, 2, 16, 16, 3))}, r"reconstructions start with \(2, 2"),
        ({"masks": np.zeros((2, 3, 16))}, r"expected \(images, ratios, masks, patches\)"),
        ({"masks": np.full((2, 3, 2, 16), 0.5)}, r"1 \(hidden\) or 0"),
        ({"masks": np.zeros((2, 3, 2, 16))}, "mask 0 of image 0 hides 0 of 16 .*ratio 0.25"),
        ({"ratios": [0.25, 0.5]}, "got 2 ratios"),
        ({"ratios": [0.5, 0.25, 0.75]}, "ascending"),
        ({"losses": np.zeros((2, 3, 2, 9))}, r"losses have shape \(2, 3, 2, 9\)"),
        ({"losses": np.full((2, 3, 2, 16), -1.0)}, "not negative"),
        ({"names": ["one"]}, "2 images but 1 names"),
    ],
)
def test_arrays_must_fit_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        MaskedImageExplorer(**made(**changes))


def test_places_stay_in_range():
    shown = MaskedImageExplorer(**made())
    for name, count in {"image": 2, "ratio": 3, "draw": 2, "patch": 16}.items():
        with pytest.raises(traitlets.TraitError, match=f"{name}={count} is outside"):
            setattr(shown, name, count)


def test_text_and_picture_follow_the_state():
    shown = MaskedImageExplorer(**made(), names=["a $5$ note", "b"])
    assert shown.static_text() == (
        "MaskedImageExplorer: 2 images, 3 ratios, 2 masks each; showing a $5$ note with 12 of "
        "4 x 4 = 16 patches hidden (75%); 0.0 MB sent"
    )
    first = shown.static_png()
    assert first == MaskedImageExplorer(**made(), names=["a $5$ note", "b"]).static_png()
    shown.paste = False
    assert shown.static_png() != first
