"""GAN training: the losses, and that two classes of images are learned."""

import pytest
import torch

from zoo_lessons.models.gan import Discriminator, GanConfig, Generator
from zoo_lessons.training.gan import averaged, discriminator_loss, generator_loss, train_gan

CONFIG = GanConfig(num_classes=2, noise_size=4, width=4)


def halves(n=64):
    """Class 0: the upper half is ink; class 1: the lower half."""
    labels = torch.arange(n) % 2
    images = -torch.ones(n, 1, 8, 8)
    images[labels == 0, :, :4], images[labels == 1, :, 4:] = 1, 1
    return images, labels


def networks():
    torch.manual_seed(0)
    return Generator(CONFIG), Discriminator(CONFIG)


def test_hinge_losses_by_hand():
    real, drawn = torch.tensor([2.0, 0.5, -1.0]), torch.tensor([-3.0, 0.0])
    torch.testing.assert_close(
        discriminator_loss(real, drawn), torch.tensor((0 + 0.5 + 2) / 3 + (0 + 1) / 2)
    )
    torch.testing.assert_close(generator_loss(drawn), torch.tensor(1.5))


def test_it_learns_what_each_class_looks_like():
    images, labels = halves()
    trained, history = train_gan(
        *networks(), images, labels, steps=200, batch_size=16, lr=5e-3, decay=0.9
    )
    assert not trained.training
    drawn = trained.draw(torch.arange(20) % 2, torch.Generator().manual_seed(0))
    upper, lower = drawn[:, :, :4].mean(dim=(1, 2, 3)), drawn[:, :, 4:].mean(dim=(1, 2, 3))
    assert (upper[0::2] - lower[0::2]).min() > 0.8
    assert (lower[1::2] - upper[1::2]).min() > 0.8
    lengths = {len(values) for values in vars(history).values()}
    assert lengths == {200}


def test_augmentation_meets_real_and_drawn_images_and_a_seed_repeats():
    images, labels = halves()
    seen = []

    def augment(x, random):
        seen.append(x.requires_grad)
        return x + 0.1 * torch.randn(x.shape, generator=random)

    runs = [
        train_gan(*networks(), images, labels, steps=3, batch_size=8, augment=augment, seed=4)[1]
        for _ in range(2)
    ]
    assert seen == 6 * [False, False, True]  # real, drawn for the judge, drawn with gradient
    assert runs[0] == runs[1]


def test_the_average_follows_slowly():
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = averaged(model, decay=0.9)
    average.update_parameters(model)  # the first update copies
    torch.nn.init.ones_(model.weight)
    for _ in range(2):
        average.update_parameters(model)
    torch.testing.assert_close(average.module.weight.item(), 1 - 0.9**2)


def test_wrong_arguments_are_named():
    images, labels = halves()
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        train_gan(*networks(), images, labels, steps=0)
    with pytest.raises(ValueError, match="got 64 images and 3 labels"):
        train_gan(*networks(), images, labels[:3], steps=1)
