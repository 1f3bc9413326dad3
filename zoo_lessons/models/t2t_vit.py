"""T2T-ViT: Yuan et al., "Tokens-to-Token ViT" (2021), section 3.

Tokens are cut softly: neighbouring places overlap, and are joined again and again, with a small
Transformer between. So a token knows the edges and lines around it before the ViT proper begins.

| | paper | this file | published code |
|---|---|---|---|
| splits | 7×7 step 4, then twice 3×3 step 2 | the same | the same |
| layer between splits | Transformer or Performer | Transformer | both |
| its residual | from the values, since the width changes | the same | the same |
| positions | sine and cosine, fixed | the same | the same |
| bias of q, k and v | not given | none | none |

`transformers` has no T2T-ViT: the tests check each split against a loop, and the published size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import DotProductAttention
from zoo_lessons.layers.blocks import FeedForward, Residual
from zoo_lessons.layers.checks import require_divisible
from zoo_lessons.layers.positions import sinusoidal_positions

SPLITS = ((7, 4, 2), (3, 2, 1), (3, 2, 1))  # kernel, stride, padding of the three soft splits


@dataclass(frozen=True)
class T2TViTConfig:
    """Sizes and choices. The defaults are T2T-ViT-14 (table 2).

    `splits` has (kernel, stride, padding) of the soft splits, at least one; between each two of
    them stands a Transformer layer of width `d_token`.
    """

    image_size: int = 224
    num_channels: int = 3
    splits: tuple[tuple[int, int, int], ...] = SPLITS
    d_token: int = 64
    d_model: int = 384
    num_layers: int = 14
    num_heads: int = 6
    mlp_ratio: float = 3.0
    num_labels: int = 1000
    dropout: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if not self.splits:
            raise ValueError("splits is empty, expected at least one (kernel, stride, padding)")
        # As published, the three strides, 4 · 2 · 2, shrink the image's side 16 times.
        shrink = math.prod(stride for _, stride, _ in self.splits)
        require_divisible(image_size=self.image_size, strides=shrink)

    @property
    def grid_size(self) -> int:
        """Tokens along each side after the last split."""
        side = self.image_size
        for kernel, stride, padding in self.splits:
            side = (side + 2 * padding - kernel) // stride + 1
        return side

    @classmethod
    def t2t_vit_14(cls) -> T2TViTConfig:
        """T2T-ViT-14."""
        return cls()

    @classmethod
    def t2t_vit_19(cls) -> T2TViTConfig:
        """T2T-ViT-19."""
        return cls(d_model=448, num_layers=19, num_heads=7)


@dataclass
class T2TViTOutput:
    """What the model returns."""

    logits: Tensor  # (batch, num_labels)
    last_hidden_state: Tensor  # (batch, 1 + tokens, d_model), after the last LayerNorm


def soft_split(grid: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Cut a grid into overlapping squares, and lay each out as one token (figure 3).

    Inside a token channels come first, then rows, then columns; outside the grid are zeros.

    Args:
        grid: (batch, channels, rows, columns).
        kernel: side of a square. stride: step between squares. padding: zeros on each side.

    Returns:
        (batch, tokens, channels * kernel²), row by row.
    """
    return F.unfold(grid, kernel, stride=stride, padding=padding).transpose(1, 2)


class TokenAttention(nn.Module):
    """Self-attention that may change the width; it also returns its values.

    Args:
        d_in: width of the input.
        d_model: width of the output.
        num_heads: number of heads.
    """

    def __init__(self, d_in: int, d_model: int, num_heads: int):
        super().__init__()
        require_divisible(d_model=d_model, num_heads=num_heads)
        self.num_heads = num_heads
        self.qkv = nn.Linear(d_in, 3 * d_model, bias=False)
        self.attention = DotProductAttention()
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, n, d_in) -> output and values, each (batch, n, d_model)."""
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (batch, heads, n, d_k)
        y = self.attention(q, k, v)
        return self.out(y.transpose(1, 2).flatten(2)), v.transpose(1, 2).flatten(2)


class TokenTransformer(nn.Module):
    """The layer between two splits: from wide split tokens to narrow ones (section 3.1)."""

    def __init__(self, d_in: int, d_token: int, eps: float):
        super().__init__()
        self.norm = nn.LayerNorm(d_in, eps)
        self.attention = TokenAttention(d_in, d_token, num_heads=1)
        self.feed_forward = FeedForward(d_token, d_token, "gelu")
        self.residual = Residual(d_token, "pre", 0.0, eps)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, n, d_in) -> (batch, n, d_token)."""
        output, values = self.attention(self.norm(x))
        return self.residual(values + output, self.feed_forward)  # x itself is too wide to add


class TokensToToken(nn.Module):
    """The tokeniser: split, attend, split, attend, split, project."""

    def __init__(self, c: T2TViTConfig):
        super().__init__()
        self.splits = c.splits
        widths = [c.num_channels] + [c.d_token] * (len(c.splits) - 1)
        split_widths = [d * kernel**2 for d, (kernel, _, _) in zip(widths, c.splits, strict=True)]
        self.layers = nn.ModuleList(
            TokenTransformer(d_in, c.d_token, c.eps) for d_in in split_widths[:-1]
        )
        self.project = nn.Linear(split_widths[-1], c.d_model)

    def forward(self, grid: Tensor) -> Tensor:
        """Images (batch, channels, side, side) -> tokens (batch, grid_size², d_model)."""
        for split, layer in zip(self.splits[:-1], self.layers, strict=True):
            x = layer(soft_split(grid, *split))  # (batch, n, d_token)
            side = round(x.shape[1] ** 0.5)
            grid = x.transpose(1, 2).unflatten(2, (side, side))  # tokens become an image again
        return self.project(soft_split(grid, *self.splits[-1]))


class T2TViTBlock(nn.Module):
    """A pre-norm encoder block whose q, k and v have no bias."""

    def __init__(self, c: T2TViTConfig):
        super().__init__()
        self.attention = TokenAttention(c.d_model, c.d_model, c.num_heads)
        self.residual1 = Residual(c.d_model, "pre", c.dropout, c.eps)
        self.feed_forward = FeedForward(c.d_model, int(c.mlp_ratio * c.d_model), "gelu")
        self.residual2 = Residual(c.d_model, "pre", c.dropout, c.eps)

    def forward(self, x: Tensor) -> Tensor:
        x = self.residual1(x, lambda y: self.attention(y)[0])
        return self.residual2(x, self.feed_forward)


class T2TViT(nn.Module):
    """Image classifier."""

    def __init__(self, config: T2TViTConfig):
        super().__init__()
        self.config = c = config
        self.tokens_to_token = TokensToToken(c)
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.d_model))
        positions = sinusoidal_positions(1 + c.grid_size**2, c.d_model)[None]
        self.positions = nn.Parameter(positions, requires_grad=False)
        self.dropout = nn.Dropout(c.dropout)
        self.layers = nn.ModuleList(T2TViTBlock(c) for _ in range(c.num_layers))
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.head = nn.Linear(c.d_model, c.num_labels)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.class_token, std=0.02)

    def forward(self, pixel_values: Tensor) -> T2TViTOutput:
        """Classify images (batch, channels, image_size, image_size).

        Raises:
            ValueError: another shape.
        """
        c = self.config
        expected = (c.num_channels, c.image_size, c.image_size)
        if pixel_values.ndim != 4 or tuple(pixel_values.shape[1:]) != expected:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected "
                f"(batch, {', '.join(map(str, expected))})"
            )
        x = self.tokens_to_token(pixel_values)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        x = self.dropout(x + self.positions)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        return T2TViTOutput(self.head(x[:, 0]), x)


def _initialise(module: nn.Module) -> None:
    """Truncated normal with standard deviation 0.02, as in the published code; biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
