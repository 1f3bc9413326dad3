"""The GAN's networks: shapes, ranges, and what the class changes."""

import pytest
import torch

from zoo_lessons.models.gan import Discriminator, GanConfig, Generator

CONFIG = GanConfig(image_size=12, num_channels=3, num_classes=4, noise_size=6, width=5)


def test_the_generator_draws_images_of_the_asked_size_within_the_range():
    model = Generator(CONFIG)
    noise, labels = torch.randn(7, 6), torch.arange(7) % 4
    images = model(noise, labels)
    assert images.shape == (7, 3, 12, 12)
    assert images.min() >= -1 and images.max() <= 1
    model.eval()
    drawn = model(noise, labels)
    assert (model(noise, (labels + 1) % 4) - drawn).abs().amax(dim=(1, 2, 3)).min() > 1e-4
    assert (model(-noise, labels) - drawn).abs().amax(dim=(1, 2, 3)).min() > 1e-4


def test_drawing_is_the_same_for_a_seed_and_has_no_gradient():
    model, labels = Generator(CONFIG).eval(), torch.tensor([0, 3])
    one, other = (model.draw(labels, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(one, other) and not one.requires_grad


def test_the_discriminator_scores_the_pair_of_image_and_class():
    model, images = Discriminator(CONFIG).eval(), torch.randn(6, 3, 12, 12)
    labels = torch.zeros(6, dtype=torch.long)
    scores = model(images, labels)
    assert scores.shape == (6,)
    assert (model(images, labels + 1) - scores).abs().max() > 1e-5
    assert (model(-images, labels) - scores).abs().max() > 1e-5


def test_spectral_norm_bounds_the_judges_slope():
    """Each layer stretches by about 1 at most, so scores cannot change faster than images do."""
    torch.manual_seed(0)
    model = Discriminator(CONFIG)
    images, labels = torch.randn(16, 3, 12, 12), torch.zeros(16, dtype=torch.long)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data *= 30  # a large weight changes nothing
    for _ in range(50):  # each pass in training refines the estimate of the norm
        model(images, labels)
    heads = model.eval().head.weight, model.classes.weight
    assert all(torch.linalg.matrix_norm(weight, 2) < 1.05 for weight in heads)
    linear = model.layers[7].weight
    assert torch.linalg.matrix_norm(linear, 2) < 1.05


def test_wrong_sizes_are_named():
    with pytest.raises(ValueError, match=r"noise has shape \(2, 5\), expected \(2, 6\)"):
        Generator(CONFIG)(torch.randn(2, 5), torch.tensor([0, 1]))
    with pytest.raises(ValueError, match="image_size=10 must be divisible by quarters=4"):
        GanConfig(image_size=10)
