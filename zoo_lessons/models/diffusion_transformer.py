"""DiT: Peebles and Xie, "Scalable Diffusion Models with Transformers" (2023), section 3.2.

A ViT looks at a noisy image and says what the noise is. It is told how noisy the image is and what
it shows: both together set the scale and the shift of every LayerNorm, and how much each sub-layer
adds (adaLN-Zero).

| | paper | this file |
|---|---|---|
| what it denoises | latents of a trained autoencoder, 32×32×4 | pixels |
| positions | fixed sine and cosine, half for columns and half for rows | the same |
| conditioning | adaLN-Zero: every block starts as the identity | the same |
| output | noise, and the variance of a step | noise; a step's variance is fixed |
| no class (for guidance) | one more row of the class table, learned | the same |
| first weights of the condition | normal, 0.02 | Xavier uniform, and normal, 1, for the classes |

In the paper's widths 0.02 is a good start. In a narrow model such a condition is almost zero, and
what it controls learns slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import MultiHeadAttention
from zoo_lessons.layers.blocks import FeedForward
from zoo_lessons.layers.checks import require_divisible
from zoo_lessons.layers.patches import PatchEmbedding, patches_to_image
from zoo_lessons.layers.positions import sinusoidal_positions
from zoo_lessons.models.vit import initialise


@dataclass(frozen=True)
class DiTConfig:
    """Sizes. The defaults are DiT-S/2 (table 1) on latents of a 256×256 image."""

    image_size: int = 32
    patch_size: int = 2
    num_channels: int = 4
    d_model: int = 384
    num_layers: int = 12
    num_heads: int = 6
    d_ff: int = 1536
    num_classes: int = 1000
    num_timesteps: int = 1000
    time_features: int = 256
    eps: float = 1e-6

    def __post_init__(self) -> None:
        require_divisible(image_size=self.image_size, patch_size=self.patch_size)
        # Half of the width tells the column and half the row, each in pairs of sine and cosine.
        require_divisible(d_model=self.d_model, positions=4)

    @classmethod
    def small(cls) -> DiTConfig:
        """DiT-S/2."""
        return cls()

    @classmethod
    def extra_large(cls) -> DiTConfig:
        """DiT-XL/2, the paper's largest."""
        return cls(d_model=1152, num_layers=28, num_heads=16, d_ff=4608)


@dataclass
class DiTOutput:
    """What the model returns."""

    noise: Tensor  # (batch, channels, height, width), predicted


class Condition(nn.Module):
    """One vector for time and class: what a small MLP makes of t, plus a row of a table."""

    def __init__(self, c: DiTConfig):
        super().__init__()
        table = sinusoidal_positions(c.num_timesteps + 1, c.time_features, interleaved=False)
        self.register_buffer("times", table, persistent=False)
        self.time = nn.Sequential(
            nn.Linear(c.time_features, c.d_model), nn.SiLU(), nn.Linear(c.d_model, c.d_model)
        )
        self.classes = nn.Embedding(c.num_classes + 1, c.d_model)  # the last row: no class

    def forward(self, timesteps: Tensor, labels: Tensor) -> Tensor:
        """timesteps (batch,), labels (batch,) -> (batch, d_model)."""
        return self.time(self.times[timesteps]) + self.classes(labels)


class DiTBlock(nn.Module):
    """A pre-norm encoder block whose LayerNorms have no weights of their own (figure 3).

    The condition gives them: scale and shift before a sub-layer, a gate after it. The layer that
    computes the six starts at zero, so that every gate does, and the block passes its input on.
    """

    def __init__(self, c: DiTConfig):
        super().__init__()
        self.norm1 = nn.LayerNorm(c.d_model, c.eps, elementwise_affine=False)
        self.attention = MultiHeadAttention(c.d_model, c.num_heads)
        self.norm2 = nn.LayerNorm(c.d_model, c.eps, elementwise_affine=False)
        self.feed_forward = FeedForward(c.d_model, c.d_ff, "gelu_new")
        self.modulation = nn.Linear(c.d_model, 6 * c.d_model)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """x (batch, patches, d_model), condition (batch, d_model) -> the shape of x."""
        six = self.modulation(F.silu(condition))[:, None]  # (batch, 1, 6 * d_model)
        shift1, scale1, gate1, shift2, scale2, gate2 = six.chunk(6, dim=-1)
        x = x + gate1 * self.attention(modulate(self.norm1(x), shift1, scale1))
        return x + gate2 * self.feed_forward(modulate(self.norm2(x), shift2, scale2))


class DiT(nn.Module):
    """Predicts the noise in images, given the time step and the class."""

    def __init__(self, config: DiTConfig):
        super().__init__()
        self.config = c = config
        self.patches = PatchEmbedding(c.patch_size, c.d_model, c.num_channels)
        side = c.image_size // c.patch_size
        line = sinusoidal_positions(side, c.d_model // 2, interleaved=False)  # (side, d_model / 2)
        grid = torch.cat([line.repeat(side, 1), line.repeat_interleave(side, dim=0)], dim=-1)
        self.register_buffer("positions", grid, persistent=False)  # (patches, d_model)
        self.condition = Condition(c)
        self.layers = nn.ModuleList(DiTBlock(c) for _ in range(c.num_layers))
        self.norm = nn.LayerNorm(c.d_model, c.eps, elementwise_affine=False)
        self.modulation = nn.Linear(c.d_model, 2 * c.d_model)
        self.head = nn.Linear(c.d_model, c.patch_size**2 * c.num_channels)
        self.apply(initialise)
        for module in (*(layer.modulation for layer in self.layers), self.modulation, self.head):
            nn.init.zeros_(module.weight)

    def forward(self, pixel_values: Tensor, timesteps: Tensor, labels: Tensor) -> DiTOutput:
        """What is noise in these images?

        Args:
            pixel_values: noisy images (batch, channels, image_size, image_size).
            timesteps: int64 (batch,), 1 to num_timesteps; 0 is an image without noise.
            labels: int64 (batch,), 0 to num_classes - 1; num_classes stands for "not told".

        Raises:
            ValueError: shapes that do not fit, or a time step or label out of range.
        """
        self._check(pixel_values, timesteps, labels)
        x = self.patches(pixel_values) + self.positions
        condition = self.condition(timesteps, labels)  # (batch, d_model)
        for layer in self.layers:
            x = layer(x, condition)
        shift, scale = self.modulation(F.silu(condition))[:, None].chunk(2, dim=-1)
        patches = self.head(modulate(self.norm(x), shift, scale))
        return DiTOutput(
            patches_to_image(patches, self.config.patch_size, *pixel_values.shape[-2:])
        )

    def _check(self, pixel_values: Tensor, timesteps: Tensor, labels: Tensor) -> None:
        c = self.config
        expected = (c.num_channels, c.image_size, c.image_size)
        if tuple(pixel_values.shape[1:]) != expected:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected (batch, "
                f"{', '.join(map(str, expected))})"
            )
        limits = {"timesteps": (timesteps, c.num_timesteps), "labels": (labels, c.num_classes)}
        for name, (values, highest) in limits.items():
            if values.shape != pixel_values.shape[:1]:
                raise ValueError(
                    f"{name} has shape {tuple(values.shape)}, expected ({len(pixel_values)},)"
                )
            # Reading values would stall a GPU's queue; there, the table look-up reports them.
            if values.device.type == "cpu" and len(values):
                low, high = int(values.min()), int(values.max())
                if low < 0 or high > highest:
                    raise ValueError(f"{name} holds {low} to {high}, expected 0 to {highest}")


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x · (1 + scale) + shift: with both at zero, x itself."""
    return x * (1 + scale) + shift
