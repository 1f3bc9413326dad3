"""Diffusion: the schedule, the way into the noise, and the way back by a perfect model."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from zoo_lessons.diffusion import (
    cosine_alpha_bar,
    denoise_step,
    denoising,
    diffusion_loss,
    draw,
    guided_noise,
    noised,
)

SHAPE = (2, 3, 3)


class Knows(nn.Module):
    """Knows the clean image of each label, and so the noise; without a label, it answers 0."""

    def __init__(self, steps=100):
        super().__init__()
        self.config = SimpleNamespace(num_channels=2, image_size=3, num_classes=4)
        generator = torch.Generator().manual_seed(5)
        self.clean = torch.rand(5, *SHAPE, generator=generator) * 1.6 - 0.8
        self.alpha_bar = cosine_alpha_bar(steps)
        self.calls = []

    def forward(self, pixel_values, timesteps, labels):
        self.calls.append((pixel_values, timesteps, labels))
        share = self.alpha_bar[timesteps].view(-1, 1, 1, 1)
        noise = (pixel_values - share.sqrt() * self.clean[labels]) / (1 - share).sqrt()
        unknown = (labels == self.config.num_classes).view(-1, 1, 1, 1)
        return SimpleNamespace(noise=noise.masked_fill(unknown, 0.0))


def test_the_schedule_falls_from_all_to_almost_nothing():
    alpha_bar = cosine_alpha_bar(1000)
    assert alpha_bar.shape == (1001,)
    assert alpha_bar[0] == 1 and 0 < alpha_bar[-1] < 1e-5
    assert (alpha_bar.diff() < 0).all()
    # Equation 17 in the middle: cos²((0.5 + s) / (1 + s) · π/2), over its value at 0.
    at = lambda share: torch.tensor((share + 0.008) / 1.008 * torch.pi / 2).cos() ** 2  # noqa: E731
    torch.testing.assert_close(alpha_bar[500], at(0.5) / at(0.0))
    assert (1 - alpha_bar[1:] / alpha_bar[:-1]).max() <= 0.999 + 1e-6
    with pytest.raises(ValueError, match="steps=0 must be at least 1"):
        cosine_alpha_bar(0)


def test_noise_keeps_the_variance_of_pixels_with_variance_one():
    generator = torch.Generator().manual_seed(0)
    images, noise = torch.randn(2, 5000, 1, 2, 2, generator=generator)
    for share in (0.1, 0.5, 0.9):
        mixed = noised(images, noise, torch.tensor(share))
        assert abs(mixed.var() - 1) < 0.03
        correlation = (mixed * images).mean() / (images**2).mean()
        assert abs(correlation - share**0.5) < 0.02
    assert torch.equal(noised(images, noise, torch.tensor(1.0)), images)


def test_each_image_may_have_its_own_step():
    images, noise = torch.randn(2, 3, *SHAPE)
    shares = torch.tensor([0.9, 0.5, 0.1])
    together = noised(images, noise, shares)
    for i, share in enumerate(shares):
        torch.testing.assert_close(together[i], noised(images[i], noise[i], share))
    with pytest.raises(ValueError, match=r"alpha_bar has shape \(2,\), expected \(\) or \(3,\)"):
        noised(images, noise, shares[:2])
    with pytest.raises(ValueError, match="expected the same"):
        noised(images, noise[:2], shares)


def test_the_loss_of_a_model_that_knows_is_zero_and_that_of_silence_is_one():
    model, labels = Knows(), torch.arange(4).repeat(200)
    images = model.clean[labels]
    generator = torch.Generator().manual_seed(0)
    arguments = (images, labels, model.alpha_bar)
    assert diffusion_loss(model, *arguments, class_dropout=0, generator=generator) < 1e-6
    silent = diffusion_loss(model, *arguments, class_dropout=1, generator=generator)
    assert abs(silent - 1) < 0.05  # its labels are all hidden, so it answers 0
    half = diffusion_loss(model, *arguments, class_dropout=0.25, generator=generator)
    hidden = (model.calls[-1][2] == 4).float().mean()
    assert abs(hidden - 0.25) < 0.06
    assert abs(half - hidden) < 0.05
    steps = model.calls[-1][1]
    assert steps.min() >= 1 and steps.max() == 100
    with pytest.raises(ValueError, match=r"class_dropout=1.5 must lie between 0 and 1"):
        diffusion_loss(model, *arguments, class_dropout=1.5)


@pytest.mark.parametrize(("steps", "eta"), [(1, 0.0), (7, 0.0), (20, 0.5), (100, 1.0)])
def test_drawing_with_a_model_that_knows_arrives_at_the_clean_images(steps, eta):
    model, labels = Knows(), torch.tensor([2, 0, 3])
    generator = torch.Generator().manual_seed(1)
    images = draw(model, labels, model.alpha_bar, steps=steps, eta=eta, generator=generator)
    torch.testing.assert_close(images, model.clean[labels], atol=1e-3, rtol=0)


def test_the_film_goes_from_noise_to_the_image_and_is_the_same_for_a_seed():
    model, labels = Knows(), torch.tensor([1, 1])

    def film():
        generator = torch.Generator().manual_seed(3)
        return list(denoising(model, labels, model.alpha_bar, steps=5, generator=generator))

    frames = film()
    assert [frame.timestep for frame in frames] == [100, 80, 60, 40, 20, 0]
    assert frames[0].images.std() > 0.6
    assert not torch.equal(frames[0].images[0], frames[0].images[1])
    torch.testing.assert_close(frames[2].guess, model.clean[labels], atol=1e-3, rtol=0)
    for one, other in zip(frames, film(), strict=True):
        assert torch.equal(one.images, other.images)
    with pytest.raises(ValueError, match="steps=101 must lie between 1 and 100"):
        next(denoising(model, labels, model.alpha_bar, steps=101))


def test_without_new_noise_a_step_lands_where_the_forward_way_would_be():
    clean, noise = torch.rand(4, *SHAPE) - 0.5, torch.randn(4, *SHAPE)
    now, later = torch.tensor(0.2), torch.tensor(0.6)
    x, guess = denoise_step(noised(clean, noise, now), noise, now, later)
    torch.testing.assert_close(guess, clean)
    torch.testing.assert_close(x, noised(clean, noise, later))


def test_ddpm_steps_have_the_posteriors_mean_and_variance():
    """Ho et al., equation 7, for pixels that are all known."""
    now, later = torch.tensor(0.3, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    alpha = now / later
    x, clean = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-0.4, dtype=torch.float64)
    mean = (
        later.sqrt() * (1 - alpha) / (1 - now) * clean + alpha.sqrt() * (1 - later) / (1 - now) * x
    )
    variance = (1 - later) / (1 - now) * (1 - alpha)
    noise = ((x - now.sqrt() * clean) / (1 - now).sqrt()).expand(40_000, 1, 1, 1)
    after, _ = denoise_step(
        x.expand(40_000, 1, 1, 1),
        noise,
        now,
        later,
        eta=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    assert abs(after.mean() - mean) < 0.02
    assert abs(after.var() / variance - 1) < 0.03


def test_guidance_scales_what_the_label_changes():
    model, labels = Knows(), torch.tensor([0, 3])
    x, timesteps = torch.randn(2, *SHAPE), torch.tensor([30, 60])
    with_label = model(x, timesteps, labels).noise
    for guidance in (0.0, 1.0, 2.5):  # without a label, `Knows` answers 0
        found = guided_noise(model, x, timesteps, labels, guidance)
        torch.testing.assert_close(found, guidance * with_label)
