"""A small conditional GAN: two convolutional networks, one that draws and one that judges.

Sources: Goodfellow et al., "Generative Adversarial Nets" (2014); Radford et al., "Unsupervised
Representation Learning with Deep Convolutional GANs" (2016), section 3 (DCGAN); Miyato et al.,
"Spectral Normalization for GANs" (2018); Miyato and Koyama, "cGANs with Projection Discriminator"
(2018), section 3.

| | DCGAN | this file |
|---|---|---|
| going up | transposed convolutions | nearest pixel twice, then a convolution: no chessboard |
| judge's norm | BatchNorm | spectral norm, which bounds how steep the judge can get |
| class | none | the drawer reads it; the judge compares it with the image (projection) |
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from zoo_lessons.layers.checks import require_divisible


@dataclass(frozen=True)
class GanConfig:
    """Sizes. The defaults suit images of 8 × 8 grey pixels."""

    image_size: int = 8
    num_channels: int = 1
    num_classes: int = 10
    noise_size: int = 32
    width: int = 32

    def __post_init__(self) -> None:
        require_divisible(image_size=self.image_size, quarters=4)


class Generator(nn.Module):
    """Draws an image of a class from random numbers."""

    def __init__(self, config: GanConfig):
        super().__init__()
        self.config = c = config
        self.side = c.image_size // 4
        self.classes = nn.Embedding(c.num_classes, c.noise_size)
        self.start = nn.Linear(2 * c.noise_size, 4 * c.width * self.side**2)
        self.layers = nn.Sequential(
            nn.BatchNorm2d(4 * c.width),
            nn.ReLU(),
            *_doubled(4 * c.width, 2 * c.width),
            *_doubled(2 * c.width, c.width),
            nn.Conv2d(c.width, c.num_channels, 3, padding=1),
            nn.Tanh(),
        )

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        """Draw.

        Args:
            noise: (batch, noise_size), from a standard normal.
            labels: int64 (batch,).

        Returns:
            (batch, channels, image_size, image_size), from -1 to 1.

        Raises:
            ValueError: noise of another width.
        """
        if noise.shape != (len(labels), self.config.noise_size):
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}, expected "
                f"({len(labels)}, {self.config.noise_size})"
            )
        x = self.start(torch.cat([noise, self.classes(labels)], dim=1))
        return self.layers(x.unflatten(1, (-1, self.side, self.side)))

    @torch.no_grad()
    def draw(self, labels: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One image for each label, (batch, channels, image_size, image_size), from -1 to 1."""
        noise = torch.randn((len(labels), self.config.noise_size), generator=generator)
        return self(noise, labels)


class Discriminator(nn.Module):
    """Scores how real an image looks, and how well it fits its class."""

    def __init__(self, config: GanConfig):
        super().__init__()
        self.config = c = config
        side, width = c.image_size // 4, 4 * c.width
        self.layers = nn.Sequential(
            spectral_norm(nn.Conv2d(c.num_channels, c.width, 3, padding=1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(c.width, 2 * c.width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            spectral_norm(nn.Conv2d(2 * c.width, width, 4, stride=2, padding=1)),
            nn.LeakyReLU(0.1),
            nn.Flatten(),
            spectral_norm(nn.Linear(width * side**2, width)),
            nn.LeakyReLU(0.1),
        )
        self.head = spectral_norm(nn.Linear(width, 1))
        self.classes = spectral_norm(nn.Embedding(c.num_classes, width))

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        """images (batch, channels, height, width) from -1 to 1, labels (batch,) -> (batch,).

        High means real. The score is linear in the image's features; the class adds its own
        direction to it (Miyato & Koyama, equation 4).
        """
        features = self.layers(images)  # (batch, width)
        return self.head(features)[:, 0] + (self.classes(labels) * features).sum(dim=1)


def _doubled(channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return (
        nn.Upsample(scale_factor=2),
        nn.Conv2d(channels, out_channels, 3, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )
