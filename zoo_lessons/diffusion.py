"""Diffusion: learn to take noise out of images, then draw images by starting from noise alone.

Sources: Ho, Jain and Abbeel, "Denoising Diffusion Probabilistic Models" (2020), sections 2 and 3
(DDPM); Nichol and Dhariwal, "Improved Denoising Diffusion Probabilistic Models" (2021), equation 17
(the cosine schedule); Song, Meng and Ermon, "Denoising Diffusion Implicit Models" (2021), equations
12 and 16 (DDIM); Ho and Salimans, "Classifier-Free Diffusion Guidance" (2022), section 3.

Pixels go from -1 to 1. Step 0 is the clean image, step T is noise.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def cosine_alpha_bar(steps: int = 1000, offset: float = 0.008) -> Tensor:
    """ᾱ_t: which share of the variance at step t is still image (Nichol & Dhariwal, equation 17).

    Ho et al. let it fall so fast that the last steps see noise only, which wastes them on small
    images. A quarter of a cosine, squared, falls evenly.

    Args:
        steps: T.
        offset: keeps the first steps from being too small to matter.

    Returns:
        (steps + 1,), from 1 at t = 0 down to almost 0 at t = T.

    Raises:
        ValueError: fewer than one step.
    """
    if steps < 1:
        raise ValueError(f"steps={steps} must be at least 1")
    share = torch.arange(steps + 1, dtype=torch.float64) / steps
    height = ((share + offset) / (1 + offset) * math.pi / 2).cos() ** 2
    # The paper keeps one step from adding more than 99.9 % noise: the last would divide by zero.
    kept = (height[1:] / height[:-1]).clamp(min=0.001)
    return torch.cat([torch.ones(1, dtype=torch.float64), kept.cumprod(dim=0)]).float()


def noised(images: Tensor, noise: Tensor, alpha_bar: Tensor) -> Tensor:
    """x_t = √ᾱ_t · x_0 + √(1 - ᾱ_t) · ε, any step at once (Ho et al., equation 4).

    Args:
        images: x_0 (batch, channels, height, width).
        noise: ε, the same shape, from a standard normal.
        alpha_bar: ᾱ at each image's own step, (batch,), or one for all, ().

    Raises:
        ValueError: shapes that do not fit.
    """
    if images.shape != noise.shape:
        raise ValueError(
            f"images have shape {tuple(images.shape)} and noise {tuple(noise.shape)}, "
            "expected the same"
        )
    share = _per_image(alpha_bar, images)
    return share.sqrt() * images + (1 - share).sqrt() * noise


def diffusion_loss(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    alpha_bar: Tensor,
    *,
    class_dropout: float = 0.1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """How well the model finds the noise at random steps (Ho et al., equation 14).

    Args:
        model: `model(pixel_values, timesteps, labels).noise`, with `model.config.num_classes`.
        images: (batch, channels, height, width), from -1 to 1.
        labels: int64 (batch,).
        alpha_bar: the schedule, (steps + 1,).
        class_dropout: share of images whose label is hidden, so that one model learns to draw with
            and without; guidance needs both.
        generator: of steps, noise and hidden labels.

    Returns:
        The mean squared error, (). A model that always says 0 scores 1.

    Raises:
        ValueError: class_dropout outside 0 to 1.
    """
    if not 0 <= class_dropout <= 1:
        raise ValueError(f"class_dropout={class_dropout} must lie between 0 and 1")
    timesteps = torch.randint(1, len(alpha_bar), (len(images),), generator=generator)
    noise = torch.randn(images.shape, generator=generator)
    hidden = torch.rand(len(images), generator=generator) < class_dropout
    labels = labels.masked_fill(hidden, model.config.num_classes)
    found = model(noised(images, noise, alpha_bar[timesteps]), timesteps, labels).noise
    return F.mse_loss(found, noise)


class Denoised(NamedTuple):
    """One moment of drawing."""

    timestep: int
    images: Tensor  # x_t (batch, channels, height, width)
    guess: Tensor  # what the model now takes the clean images to be, the same shape


def denoise_step(
    x: Tensor,
    noise: Tensor,
    now: Tensor,
    later: Tensor,
    *,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """From x_t to a step with less noise (Song et al., equation 12).

    Args:
        x: x_t (batch, channels, height, width).
        noise: what the model takes for the noise in it.
        now: ᾱ_t, ().
        later: ᾱ of the step to go to, (), above `now`.
        eta: 0 adds no new noise (DDIM); 1 adds what Ho et al. do (DDPM).
        generator: of the new noise.

    Returns:
        (x at the later step, the guess at x_0). The guess is kept within -1 and 1, as in the code
        of Ho et al.: early guesses overshoot.
    """
    guess = ((x - (1 - now).sqrt() * noise) / now.sqrt()).clamp(-1, 1)
    noise = (x - now.sqrt() * guess) / (1 - now).sqrt()  # the noise that fits the guess
    fresh = eta * ((1 - later) / (1 - now) * (1 - now / later)).sqrt()  # σ_t, equation 16
    x = later.sqrt() * guess + (1 - later - fresh**2).clamp(min=0).sqrt() * noise
    if eta:
        x = x + fresh * torch.randn(x.shape, generator=generator)
    return x, guess


def guided_noise(
    model: nn.Module, x: Tensor, timesteps: Tensor, labels: Tensor, guidance: float
) -> Tensor:
    """The noise, with the label's part of it made `guidance` times as strong.

    noise without label + guidance · (noise with label - noise without label). The paper (equation
    6) writes 1 + w for `guidance`. At 1 the model's answer is left alone, at no extra cost.
    """
    if guidance == 1:
        return model(x, timesteps, labels).noise
    unknown = torch.full_like(labels, model.config.num_classes)
    both = model(x.repeat(2, 1, 1, 1), timesteps.repeat(2), torch.cat([labels, unknown])).noise
    with_label, without = both.chunk(2)
    return without + guidance * (with_label - without)


@torch.no_grad()
def denoising(
    model: nn.Module,
    labels: Tensor,
    alpha_bar: Tensor,
    *,
    steps: int = 50,
    guidance: float = 1.0,
    eta: float = 0.0,
    generator: torch.Generator | None = None,
) -> Iterator[Denoised]:
    """Draw one image for each label, step by step.

    Args:
        model: as in `diffusion_loss`; with `model.config.image_size` and `num_channels`.
        labels: int64 (batch,).
        alpha_bar: the schedule that the model was trained with, (T + 1,).
        steps: how many of the T steps are visited, at even distances.
        guidance: see `guided_noise`.
        eta: see `denoise_step`.
        generator: of all noise. The same seed draws the same images.

    Yields:
        A `Denoised` for each visited step from T on, and at last one for step 0.

    Raises:
        ValueError: more steps than the schedule has, or fewer than one.
    """
    if not 1 <= steps < len(alpha_bar):
        raise ValueError(f"steps={steps} must lie between 1 and {len(alpha_bar) - 1}")
    c = model.config
    x = torch.randn((len(labels), c.num_channels, c.image_size, c.image_size), generator=generator)
    visited = torch.linspace(len(alpha_bar) - 1, 0, steps + 1).round().long().tolist()
    for now, later in zip(visited, visited[1:], strict=False):
        timesteps = torch.full((len(labels),), now)
        noise = guided_noise(model, x, timesteps, labels, guidance)
        before = x
        x, guess = denoise_step(
            x, noise, alpha_bar[now], alpha_bar[later], eta=eta, generator=generator
        )
        yield Denoised(now, before, guess)
    yield Denoised(0, x, x)


def draw(model: nn.Module, labels: Tensor, alpha_bar: Tensor, **options: object) -> Tensor:
    """The images at the end of `denoising`: (batch, channels, height, width), from -1 to 1."""
    *_, last = denoising(model, labels, alpha_bar, **options)
    return last.images


def _per_image(alpha_bar: Tensor, images: Tensor) -> Tensor:
    if alpha_bar.ndim == 0:
        return alpha_bar
    if alpha_bar.shape != images.shape[:1]:
        raise ValueError(
            f"alpha_bar has shape {tuple(alpha_bar.shape)}, expected () or ({len(images)},)"
        )
    return alpha_bar.view(-1, *[1] * (images.ndim - 1))
