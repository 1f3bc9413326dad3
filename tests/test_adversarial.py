from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from zoo_lessons.adversarial import fgsm, is_right, loss_gradient, pgd, robust_accuracy


@pytest.fixture
def task():
    """A small network that has learned which of four noisy pictures it sees."""
    torch.manual_seed(0)
    labels = torch.arange(4).repeat(20)
    images = (torch.rand(4, 1, 4, 4)[labels] * 0.6 + 0.4 * torch.rand(80, 1, 4, 4)).clamp(0, 1)
    model = nn.Sequential(nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(300):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
    assert is_right(model, images, labels).all()
    return model, images, labels


def loss(model, images, labels):
    with torch.no_grad():
        return F.cross_entropy(model(images), labels).item()


def test_gradient_is_each_images_own_and_leaves_the_model_alone(task):
    model, images, labels = task
    model, images = model.double(), images.double()  # for the difference quotient
    model.zero_grad()
    together = loss_gradient(model, images, labels)
    alone = torch.cat([loss_gradient(model, images[i : i + 1], labels[i : i + 1]) for i in (0, 1)])
    torch.testing.assert_close(together[:2], alone)
    assert all(parameter.grad is None for parameter in model.parameters())
    # against a difference quotient, along one random direction
    probe = torch.randn_like(images)
    step = 1e-6
    values = [len(images) * loss(model, images + s * step * probe, labels) for s in (1, -1)]
    quotient = (values[0] - values[1]) / (2 * step)
    assert (together * probe).sum().item() == pytest.approx(quotient, rel=1e-4)


def test_works_where_gradients_are_off(task):
    model, images, labels = task
    with torch.no_grad():
        changed = fgsm(model, images, labels, epsilon=0.1)
    assert not changed.requires_grad and not images.requires_grad
    torch.testing.assert_close(changed, fgsm(model, images, labels, epsilon=0.1))


def test_fgsm_is_one_step_of_pgd(task):
    model, images, labels = task
    one = pgd(model, images, labels, epsilon=0.1, step_size=0.1, steps=1, random_start=False)
    torch.testing.assert_close(one, fgsm(model, images, labels, epsilon=0.1))


@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3])
def test_attacks_stay_in_the_ball_and_in_the_image(task, epsilon):
    model, images, labels = task
    generator = torch.Generator().manual_seed(0)
    steps = {"epsilon": epsilon, "step_size": 0.1, "steps": 7, "generator": generator}
    for changed in (
        fgsm(model, images, labels, epsilon=epsilon),
        pgd(model, images, labels, **steps),
    ):
        assert changed.min() >= 0 and changed.max() <= 1
        assert (changed - images).abs().max() <= epsilon + 1e-6


def test_attacks_raise_the_loss_and_more_steps_raise_it_more(task):
    model, images, labels = task
    one = fgsm(model, images, labels, epsilon=0.15)
    many = pgd(model, images, labels, epsilon=0.15, random_start=False)
    assert loss(model, images, labels) < loss(model, one, labels) < loss(model, many, labels)


def test_random_start_repeats_with_its_seed(task):
    model, images, labels = task
    found = [
        pgd(model, images, labels, epsilon=0.1, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


def test_robust_accuracy_falls_with_epsilon_and_with_restarts(task):
    model, images, labels = task
    curve = [
        robust_accuracy(
            model, images, labels, epsilon=e, generator=torch.Generator().manual_seed(0)
        )
        for e in (0.0, 0.1, 0.2, 0.4)
    ]
    assert curve[0] == 1 and curve == sorted(curve, reverse=True) and curve[-1] < 0.5
    one, three = (
        robust_accuracy(
            model,
            images,
            labels,
            epsilon=0.2,
            steps=1,
            restarts=restarts,
            generator=torch.Generator().manual_seed(0),
        )
        for restarts in (1, 3)
    )
    assert three <= one


def test_errors_say_what_came(task):
    model, images, labels = task
    with pytest.raises(ValueError, match="epsilon=-0.1 must not be negative"):
        fgsm(model, images, labels, epsilon=-0.1)
    with pytest.raises(ValueError, match="expected 0 to 1: attack the image"):
        pgd(model, 2 * images - 1, labels, epsilon=0.1)
    with pytest.raises(ValueError, match="steps=0"):
        pgd(model, images, labels, epsilon=0.1, steps=0)
    with pytest.raises(ValueError, match="restarts=0 must be at least 1"):
        robust_accuracy(model, images, labels, epsilon=0.1, restarts=0)
