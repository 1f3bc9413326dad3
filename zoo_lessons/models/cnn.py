"""A small convolutional network, and a committee of several: the outside references of the zoo.

Lesson 23 chooses between these and the Transformers of the course. The network is that of lesson
09's comparisons: three convolutions of 3 × 3, each with ReLU, and max-pooling after the second and
the third. It has no paper of its own; its layout is that of LeNet-5 (LeCun et al. 1998, section
II.B) with today's activation, pooling and filter size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class CNNConfig:
    """Sizes.

    Attributes:
        channels: of the three convolutions.
        image_size: side of the images in pixels, divisible by 4.
        num_channels: of the images.
        num_labels: of the classes.

    Raises:
        ValueError: not three convolutions, or another image size.
    """

    channels: tuple[int, int, int] = (32, 64, 64)
    image_size: int = 8
    num_channels: int = 1
    num_labels: int = 10

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON gives a list
        if len(self.channels) != 3:
            raise ValueError(f"channels={self.channels} must be three numbers")
        if self.image_size % 4:
            raise ValueError(f"image_size={self.image_size} must be divisible by 4")

    @classmethod
    def small(cls) -> CNNConfig:
        """A quarter of the weights."""
        return cls(channels=(16, 32, 32))


@dataclass(frozen=True)
class CommitteeConfig(CNNConfig):
    """As `CNNConfig`, for each member.

    Attributes:
        members: how many networks.
    """

    members: int = 3


@dataclass
class CNNOutput:
    """logits (batch, num_labels)."""

    logits: Tensor


class CNN(nn.Module):
    """Classifies images."""

    def __init__(self, config: CNNConfig):
        super().__init__()
        self.config = config
        first, second, third = config.channels
        self.convolutions = nn.Sequential(
            nn.Conv2d(config.num_channels, first, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.head = nn.Linear(third * (config.image_size // 4) ** 2, config.num_labels)

    def forward(self, pixel_values: Tensor) -> CNNOutput:
        """pixel_values (batch, num_channels, height, width)."""
        x = self.convolutions(pixel_values)  # (batch, third, height / 4, width / 4)
        return CNNOutput(self.head(x.flatten(1)))


class Committee(nn.Module):
    """Several networks, whose probabilities are averaged.

    Its logits are the logarithms of these means, so that their softmax gives the means back.
    """

    def __init__(self, config: CommitteeConfig):
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(CNN(config) for _ in range(config.members))

    def forward(self, pixel_values: Tensor) -> CNNOutput:
        """pixel_values (batch, num_channels, height, width)."""
        said = [member(pixel_values).logits.log_softmax(dim=-1) for member in self.members]
        together = torch.stack(said).logsumexp(dim=0)  # (batch, num_labels)
        return CNNOutput(together.log_softmax(dim=-1))
