"""Mix explorer: its mixtures and shares are those of the training code."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
import traitlets
from PIL import Image

from zoo_lessons.lab.widgets import MixExplorer
from zoo_lessons.training.mixing import cutmix, mixup

IMAGES = np.random.default_rng(0).integers(0, 256, size=(3, 9, 12), dtype=np.uint8)
LABELS = ["four", "seven", "two"]


def as_tensors():
    return torch.tensor(IMAGES / 255)[:, None], torch.eye(3, dtype=torch.double)


@pytest.mark.parametrize(("row", "column"), [(4, 6), (0, 0), (8, 11), (2, 10)])
@pytest.mark.parametrize("lam", [0.0, 0.3, 0.75, 1.0])
def test_cutmix_is_that_of_training(row, column, lam):
    shown = MixExplorer(IMAGES, LABELS, lam=lam, row=row, column=column, first=2, second=0)
    order = torch.tensor([1, 2, 0])  # the partner of image 2 is image 0
    images, targets = cutmix(*as_tensors(), order, shown.box)
    np.testing.assert_array_equal(shown.mixture[..., 0], (255 * images[2, 0]).round().numpy())
    assert shown.kept == pytest.approx(targets[2, 2].item())


@pytest.mark.parametrize("lam", [0.0, 0.35, 1.0])
def test_mixup_is_that_of_training(lam):
    shown = MixExplorer(IMAGES, LABELS, method="MixUp", lam=lam)
    images, targets = mixup(*as_tensors(), torch.tensor([1, 2, 0]), lam)
    np.testing.assert_allclose(shown.mixture[..., 0], 255 * images[0, 0].numpy(), atol=0.51)
    assert shown.kept == pytest.approx(targets[0, 0].item())


def test_a_clipped_box_gives_the_first_label_more():
    middle = MixExplorer(IMAGES, LABELS, lam=0.5)
    corner = MixExplorer(IMAGES, LABELS, lam=0.5, row=0, column=0)
    assert corner.kept > middle.kept
    assert "label: four 0.50" not in corner.static_text()


def test_same_data_same_picture_and_text():
    first, second = (MixExplorer(IMAGES, LABELS) for _ in range(2))
    assert first.static_png() == second.static_png()
    assert first.static_text() == second.static_text()
    assert "CutMix, λ 0.50, box of 6 x 8 pixels" in first.static_text()
    other = MixExplorer(IMAGES, LABELS, method="MixUp", lam=0.25)
    assert other.static_png() != first.static_png()
    assert other.static_text().endswith("label: four 0.25, seven 0.75")
    picture = np.asarray(Image.open(io.BytesIO(first.static_png())).convert("L"))
    assert 700 <= picture.shape[1] <= 1000


def test_colour_images_and_equal_labels():
    colour = np.zeros((2, 4, 4, 3))
    shown = MixExplorer(colour, ["red", "red"], method="MixUp")
    assert shown.mixture.shape == (4, 4, 3)
    assert shown.static_text().endswith("label: red 1.00")


def test_wrong_input_is_refused():
    with pytest.raises(ValueError, match="3 images but 2 labels"):
        MixExplorer(IMAGES, ["a", "b"])
    with pytest.raises(ValueError, match="expected two or more"):
        MixExplorer(IMAGES[:1], ["a"])
    with pytest.raises(traitlets.TraitError, match=r"row=9 is outside 0\.\.8"):
        MixExplorer(IMAGES, LABELS, row=9)
    with pytest.raises(traitlets.TraitError):
        MixExplorer(IMAGES, LABELS, method="Mixup")
    with pytest.raises(traitlets.TraitError):
        MixExplorer(IMAGES, LABELS, lam=1.5)
