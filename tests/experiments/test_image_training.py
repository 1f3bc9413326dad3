"""What the experiments on small images share: equal sizes, and a recipe that learns."""

from __future__ import annotations

import torch

from experiments.image_training import (
    SmallCNN,
    accuracy,
    digits_vit,
    prepared,
    train_classifier,
)


def stripes(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (count, 1, 8, 8) with one bright row (label 0) or one bright column (label 1)."""
    draw = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (count,), generator=draw)
    places = torch.randint(8, (count,), generator=draw)
    images = torch.zeros(count, 1, 8, 8)
    for image, label, place in zip(images, labels, places, strict=True):
        (image[0, place] if label == 0 else image[0, :, place]).fill_(1.0)
    return images, labels


def test_models_are_equally_large():
    sizes = [sum(p.numel() for p in build().parameters()) for build in (SmallCNN, digits_vit)]
    assert max(sizes) / min(sizes) < 1.02


def test_pixels_are_centred_and_words_are_not():
    assert prepared(torch.tensor([0.0, 0.5, 1.0])).tolist() == [-1, 0, 1]
    assert prepared(torch.tensor([0, 7])).tolist() == [0, 7]


def test_a_trained_model_generalises_and_is_reproducible():
    train, test = stripes(200), stripes(100, seed=1)
    options = {"seed": 3, "steps": 60, "lr": 3e-3}
    once, again = (train_classifier(SmallCNN, *train, **options) for _ in range(2))
    assert accuracy(once, *test) > 0.95 > 0.7 > accuracy(SmallCNN(), *test)
    for one, other in zip(once.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_pooling_is_passed_on():
    assert digits_vit("mean").config.pooling == "mean"
    assert digits_vit().config.pooling == "class"
