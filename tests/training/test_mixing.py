from __future__ import annotations

import pytest
import torch

from zoo_lessons.training.mixing import (
    Box,
    cut_box,
    cutmix,
    draw_lambda,
    mixup,
    random_cutmix,
    random_mixup,
)


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.rand(5, 2, 6, 9), torch.eye(5)[:, [4, 2, 0, 1, 3]], torch.tensor([3, 0, 4, 1, 2])


def test_mixup_mixes_images_and_targets_of_the_same_pairs(batch):
    images, targets, order = batch
    mixed, wanted = mixup(images, targets, order, 0.7)
    for i, j in enumerate(order.tolist()):
        torch.testing.assert_close(mixed[i], 0.7 * images[i] + 0.3 * images[j])
        torch.testing.assert_close(wanted[i], 0.7 * targets[i] + 0.3 * targets[j])


def test_ends_of_lambda_are_the_image_and_its_partner(batch):
    images, targets, order = batch
    for lam, expected in ((1, images), (0, images[order])):
        torch.testing.assert_close(mixup(images, targets, order, lam)[0], expected)
        whole = cut_box(6, 9, lam, (3, 4))
        torch.testing.assert_close(cutmix(images, targets, order, whole)[0], expected)


def test_cutmix_takes_the_box_from_the_partner_and_counts_pixels(batch):
    images, targets, order = batch
    box = Box(1, 4, 5, 9)
    mixed, wanted = cutmix(images, targets, order, box)
    inside = torch.zeros(6, 9, dtype=torch.bool)
    inside[1:4, 5:9] = True
    torch.testing.assert_close(mixed, torch.where(inside, images[order], images))
    kept = 1 - inside.double().mean().item()
    torch.testing.assert_close(wanted, (kept * targets + (1 - kept) * targets[order]))
    assert not torch.equal(mixed, images)  # nor are the caller's images changed:
    torch.manual_seed(0)
    assert torch.equal(images, torch.rand(5, 2, 6, 9))


@pytest.mark.parametrize("lam", [0.0, 0.2, 0.5, 0.91, 1.0])
@pytest.mark.parametrize("size", [(8, 8), (7, 10), (32, 32)])
def test_a_box_is_clipped_at_the_edge_and_only_there(size, lam):
    height, width = size
    middle = cut_box(height, width, lam, (height // 2, width // 2))
    assert middle.area == round(height * (1 - lam) ** 0.5) * round(width * (1 - lam) ** 0.5)
    for row in range(height):
        for column in range(width):
            box = cut_box(height, width, lam, (row, column))
            assert 0 <= box.top <= box.bottom <= height and 0 <= box.left <= box.right <= width
            assert box.area <= middle.area
    corner = cut_box(height, width, 0.2, (0, 0))
    assert corner.area < cut_box(height, width, 0.2, (height // 2, width // 2)).area


def test_random_mixes_repeat_with_their_seed_and_keep_probabilities(batch):
    images, targets, _ = batch
    for mix in (random_mixup, random_cutmix):
        one, again, other = (
            mix(images, targets, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
        assert not torch.equal(one[0], other[0])
        torch.testing.assert_close(one[1].sum(dim=1), torch.ones(5))


def test_lambda_follows_beta():
    draw = torch.Generator().manual_seed(0)
    uniform = torch.tensor([draw_lambda(1.0, draw) for _ in range(2000)])
    pointed = torch.tensor([draw_lambda(0.2, draw) for _ in range(2000)])
    for values, alpha in ((uniform, 1.0), (pointed, 0.2)):
        assert values.mean().item() == pytest.approx(0.5, abs=0.03)
        # the variance of Beta(α, α)
        assert values.var().item() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)


def test_errors_say_what_came(batch):
    images, targets, order = batch
    with pytest.raises(ValueError, match="lam=1.5 must lie between 0 and 1"):
        mixup(images, targets, order, 1.5)
    with pytest.raises(ValueError, match="make labels one-hot first"):
        mixup(images, targets.argmax(dim=1), order, 0.5)
    with pytest.raises(ValueError, match="5 images, 4 targets and 5 partners"):
        mixup(images, targets[:4], order, 0.5)
    with pytest.raises(ValueError, match=r"expected \(batch, channels, height, width\)"):
        cutmix(images[:, 0], targets, order, Box(0, 1, 0, 1))
    with pytest.raises(ValueError, match="does not lie inside an image of 6 x 9"):
        cutmix(images, targets, order, Box(0, 7, 0, 1))
    with pytest.raises(ValueError, match="must lie inside the image of 6 x 9"):
        cut_box(6, 9, 0.5, (6, 0))
    with pytest.raises(ValueError, match="alpha=0 must be positive"):
        draw_lambda(0, torch.Generator())
