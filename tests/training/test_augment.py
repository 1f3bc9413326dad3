"""Augmentation: small, different for each image, and reproducible."""

from __future__ import annotations

import pytest
import torch

from zoo_lessons.training.augment import random_affine

NOTHING = {"shift": 0.0, "turn": 0.0, "scale": 0.0, "shear": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def squares(batch: int = 64) -> torch.Tensor:
    """(batch, 1, 16, 16): a filled square in the middle."""
    images = torch.zeros(batch, 1, 16, 16)
    images[:, :, 5:11, 5:11] = 1
    return images


def middle(images: torch.Tensor) -> torch.Tensor:
    """Centre of mass: (batch, 2), row and column."""
    weight = images[:, 0] / images.sum(dim=(1, 2, 3))[:, None, None]
    places = torch.arange(16.0)
    return torch.stack([weight.sum(dim=2) @ places, weight.sum(dim=1) @ places], dim=1)


def test_limits_of_zero_change_nothing():
    images = torch.rand(3, 2, 8, 10, generator=seeded())
    assert torch.allclose(random_affine(images, seeded(), **NOTHING), images, atol=1e-6)


def test_same_generator_same_images_and_each_image_its_own():
    images = squares()
    once, again = random_affine(images, seeded()), random_affine(images, seeded())
    assert torch.equal(once, again)
    assert not torch.equal(once, random_affine(images, seeded(1)))
    assert not torch.equal(once[0], once[1])


def test_shift_moves_up_to_its_limit():
    moved = middle(random_affine(squares(), seeded(), **{**NOTHING, "shift": 0.125})) - 7.5
    assert moved.abs().max() <= 2 + 1e-4  # an eighth of 16 pixels
    assert moved.abs().max(dim=0).values.min() > 1.5
    assert (moved > 0.5).any() and (moved < -0.5).any()


def test_turning_keeps_the_middle_and_the_ink():
    turned = random_affine(squares(), seeded(), **{**NOTHING, "turn": 30.0})
    assert (middle(turned) - 7.5).abs().max() < 0.05
    assert torch.allclose(turned.sum(dim=(1, 2, 3)), torch.tensor(36.0), rtol=0.03)
    assert (turned - squares()).abs().amax(dim=(1, 2, 3)).median() > 0.1


def test_scale_changes_the_ink_by_the_square():
    ink = random_affine(squares(), seeded(), **{**NOTHING, "scale": 0.2}).sum(dim=(1, 2, 3)) / 36
    assert 1 / 1.2**2 - 0.05 < ink.min() < 0.85 and 1.15 < ink.max() < 1 / 0.8**2 + 0.05


def test_shear_moves_the_top_against_the_bottom():
    slanted = random_affine(squares(), seeded(), **{**NOTHING, "shear": 0.3})
    places = torch.arange(16.0)
    top, bottom = ((slanted[:, 0, row] @ places) / slanted[:, 0, row].sum(1) for row in (5, 10))
    assert (top - bottom).abs().max() > 1 and ((top - bottom) > 0).any()


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (torch.zeros(8, 8), {}, r"images have shape \(8, 8\), expected"),
        (torch.zeros(1, 1, 8, 8), {"turn": -1.0}, "must not be negative, got .*turn=-1.0"),
    ],
)
def test_errors(images, options, message):
    with pytest.raises(ValueError, match=message):
        random_affine(images, **options)
