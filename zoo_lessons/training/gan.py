"""Training two networks against each other, and averages of weights over the steps.

Sources: Goodfellow et al., "Generative Adversarial Nets" (2014), algorithm 1; Miyato et al.,
"Spectral Normalization for GANs" (2018), equations 16 and 17 (the hinge loss); Zhao et al.,
"Differentiable Augmentation for Data-Efficient GAN Training" (2020), section 3.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from zoo_lessons.models.gan import Discriminator, Generator


@dataclass
class GanHistory:
    """What each step saw.

    Attributes:
        generator: its loss, minus the mean score of its images.
        discriminator: its hinge loss; 2 is what constant scores of 0 give.
        real, drawn: mean score of real and of drawn images. They part when the judge wins.
    """

    generator: list[float] = field(default_factory=list)
    discriminator: list[float] = field(default_factory=list)
    real: list[float] = field(default_factory=list)
    drawn: list[float] = field(default_factory=list)


def discriminator_loss(real: Tensor, drawn: Tensor) -> Tensor:
    """Hinge: real images should score above 1, drawn ones below -1. What is beyond counts no more.

    Args:
        real, drawn: scores, (batch,) each.
    """
    return F.relu(1 - real).mean() + F.relu(1 + drawn).mean()


def generator_loss(drawn: Tensor) -> Tensor:
    """Drawn images should score high. drawn (batch,) -> ()."""
    return -drawn.mean()


def averaged(model: nn.Module, decay: float = 0.995) -> AveragedModel:
    """A copy that follows the model's weights slowly: an exponential moving average.

    The last step's weights still tremble with the last batches; their average draws better. Call
    `update_parameters(model)` after each step; the copy is its `module`. Averages of BatchNorm's
    running statistics are kept, too.
    """
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay), use_buffers=True)


def train_gan(
    generator: Generator,
    discriminator: Discriminator,
    images: Tensor,
    labels: Tensor,
    *,
    steps: int,
    batch_size: int = 64,
    lr: float = 2e-3,
    decay: float = 0.995,
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None,
    seed: int = 0,
) -> tuple[Generator, GanHistory]:
    """Train both, one step each in turn; Adam without memory of directions (β₁ = 0).

    Args:
        generator, discriminator: trained in place.
        images: real images (n, channels, height, width), from -1 to 1.
        labels: int64 (n,).
        steps: updates of each.
        batch_size: real and drawn images a step, each.
        lr: of both; falls to 0 in a straight line.
        decay: of the average of the generator's weights.
        augment: changes real *and* drawn images before the judge sees them, with gradients. It
            keeps the judge from learning few images by heart. It takes a random generator.
        seed: of batches, noise and augmentation.

    Returns:
        The generator with averaged weights, in evaluation mode, and the history.

    Raises:
        ValueError: fewer than one step, or numbers of images and labels that differ.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    if len(images) != len(labels):
        raise ValueError(f"got {len(images)} images and {len(labels)} labels, expected as many")
    random = torch.Generator().manual_seed(seed)
    changed = (lambda x: augment(x, random)) if augment else (lambda x: x)
    optimizers = [
        torch.optim.Adam(network.parameters(), lr=lr, betas=(0.0, 0.99))
        for network in (generator, discriminator)
    ]
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
        for optimizer in optimizers
    ]
    average, history = averaged(generator, decay), GanHistory()
    size = generator.config.noise_size
    for _ in range(steps):
        rows = torch.randint(len(images), (batch_size,), generator=random)
        real, classes = images[rows], labels[rows]

        drawn = generator(torch.randn(batch_size, size, generator=random), classes).detach()
        real_scores = discriminator(changed(real), classes)
        drawn_scores = discriminator(changed(drawn), classes)
        judged = discriminator_loss(real_scores, drawn_scores)
        _step(optimizers[1], judged)

        drawn = generator(torch.randn(batch_size, size, generator=random), classes)
        fooled = generator_loss(discriminator(changed(drawn), classes))
        _step(optimizers[0], fooled)

        for schedule in schedules:
            schedule.step()
        average.update_parameters(generator)
        history.generator.append(fooled.item())
        history.discriminator.append(judged.item())
        history.real.append(real_scores.mean().item())
        history.drawn.append(drawn_scores.mean().item())
    return average.module.eval(), history


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
