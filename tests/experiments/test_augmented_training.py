from __future__ import annotations

import torch

from experiments.augmented_training import (
    attacked,
    classifier,
    cut,
    mixed,
    one_after_another,
    shifts,
    train_augmented,
)
from experiments.image_training import SmallCNN, train_classifier
from zoo_lessons.datasets.digits import digits


def test_without_views_it_is_the_training_of_lesson_09_up_to_its_batches():
    data = digits("train")
    model = train_augmented(SmallCNN, *data, seed=3, steps=2, lr=1e-3)
    other = train_classifier(SmallCNN, *data, seed=3, steps=2, lr=1e-3, augment=False)
    assert model.state_dict().keys() == other.state_dict().keys()
    assert not model.training


def test_every_view_keeps_shapes_range_and_probabilities():
    data = digits("validation")
    images, targets = data.images[:16], torch.eye(10)[data.labels[:16]]
    model = SmallCNN().eval()
    for views in (
        shifts,
        mixed(1.0),
        cut(1.0),
        attacked(0.1, 2),
        one_after_another(shifts, cut(1)),
    ):
        seen, wanted = views(model, images, targets, torch.Generator().manual_seed(0))
        assert seen.shape == images.shape and wanted.shape == targets.shape
        assert seen.min() >= 0 and seen.max() <= 1 and not torch.equal(seen, images)
        torch.testing.assert_close(wanted.sum(dim=1), torch.ones(16))


def test_the_same_seed_trains_the_same_model():
    data = digits("validation")
    views = one_after_another(shifts, mixed(1.0), attacked(0.1, 1))
    first, again = (
        train_augmented(SmallCNN, *data, seed=0, steps=3, lr=1e-3, views=views) for _ in range(2)
    )
    with torch.no_grad():
        assert torch.equal(classifier(first)(data.images), classifier(again)(data.images))
