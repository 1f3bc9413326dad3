"""Swin: Liu et al., "Swin Transformer" (2021), section 3.

Attention inside small windows costs linearly with the image. Every second block shifts the
windows, so that neighbours meet, and merging makes the windows see more from stage to stage.

| | paper | this file | `transformers` |
|---|---|---|---|
| shifted windows | roll, mask strangers, roll back | the same | the same; -100 as mask |
| position | learnt bias per relative place in the window | the same | the same |
| grid that windows do not divide | padded at the right and bottom | the same | the same |
| grid as small as a window | one window, no shift | the same | the same |
| image that patches do not divide | - | an error | padded |
| stochastic depth in training | 0.2 and more | none | 0.1 by default |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import MultiHeadAttention
from zoo_lessons.layers.blocks import FeedForward, Residual
from zoo_lessons.layers.patches import PatchEmbedding


@dataclass(frozen=True)
class SwinConfig:
    """Sizes and choices. The defaults are Swin-T (section 3.3)."""

    patch_size: int = 4
    num_channels: int = 3
    d_model: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    mlp_ratio: float = 4.0
    num_labels: int = 1000
    activation: str = "gelu"
    dropout: float = 0.0
    eps: float = 1e-5

    def __post_init__(self) -> None:
        if len(self.depths) != len(self.num_heads):
            raise ValueError(
                f"depths={self.depths} has {len(self.depths)} stages and num_heads="
                f"{self.num_heads} has {len(self.num_heads)}, expected the same number"
            )

    @classmethod
    def tiny(cls) -> SwinConfig:
        """Swin-T."""
        return cls()

    @classmethod
    def base(cls) -> SwinConfig:
        """Swin-B."""
        return cls(d_model=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32))

    @classmethod
    def from_hf(cls, config: Any) -> SwinConfig:
        """Read a `transformers.SwinConfig`.

        Raises:
            ValueError: an option that this file does not have.
        """
        for option, expected in {"qkv_bias": True, "use_absolute_embeddings": False}.items():
            if getattr(config, option) != expected:
                raise ValueError(
                    f"unsupported Swin config: {option}={getattr(config, option)}, "
                    f"expected {expected}"
                )
        return cls(
            patch_size=config.patch_size,
            num_channels=config.num_channels,
            d_model=config.embed_dim,
            depths=tuple(config.depths),
            num_heads=tuple(config.num_heads),
            window_size=config.window_size,
            mlp_ratio=config.mlp_ratio,
            num_labels=config.num_labels,
            activation=config.hidden_act,
            dropout=config.hidden_dropout_prob,
            eps=config.layer_norm_eps,
        )


@dataclass
class SwinOutput:
    """What the model returns."""

    logits: Tensor  # (batch, num_labels)
    last_hidden_state: Tensor  # (batch, tokens of the last stage, last width)
    pooler_output: Tensor  # (batch, last width), their mean


def window_partition(x: Tensor, window_size: int) -> Tensor:
    """Cut a grid into windows.

    (batch, rows, columns, d_model) -> (batch * windows, window_size², d_model), row by row.
    """
    x = x.unflatten(1, (-1, window_size)).unflatten(3, (-1, window_size))
    # (batch, windows down, window_size, windows across, window_size, d_model)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


def window_reverse(windows: Tensor, window_size: int, rows: int, columns: int) -> Tensor:
    """Put windows back together: the inverse of `window_partition`."""
    x = windows.unflatten(0, (-1, rows // window_size, columns // window_size))
    x = x.unflatten(3, (window_size, window_size))
    return x.transpose(2, 3).flatten(1, 2).flatten(2, 3)


def shifted_window_mask(
    rows: int, columns: int, window_size: int, shift: int, device: torch.device | None = None
) -> Tensor:
    """Who may attend to whom after a cyclic shift (figure 4 of the paper).

    The roll brings the top rows below the bottom ones, and the left columns beside the right ones.
    They share a window now, but are not neighbours in the image: they must not see each other.

    Returns:
        Boolean (windows, window_size², window_size²), True = may attend.
    """

    def strip(length: int) -> Tensor:
        place = torch.arange(length, device=device)
        return (place >= length - window_size).long() + (place >= length - shift).long()

    region = 3 * strip(rows)[:, None] + strip(columns)  # (rows, columns), a number per region
    region = window_partition(region[None, :, :, None], window_size).squeeze(-1)
    return region[:, :, None] == region[:, None, :]


class RelativeBias2d(nn.Module):
    """One learnt number per head and per relative place of key and query inside a window."""

    def __init__(self, num_heads: int, window_size: int):
        super().__init__()
        self.table = nn.Parameter(torch.zeros((2 * window_size - 1) ** 2, num_heads))
        place = torch.arange(window_size**2)
        row, column = place // window_size, place % window_size
        down = row[:, None] - row + window_size - 1  # from 0 to 2 window_size - 2
        across = column[:, None] - column + window_size - 1
        index = down * (2 * window_size - 1) + across  # (window_size², window_size²)
        self.register_buffer("index", index, persistent=False)

    def forward(self) -> Tensor:
        """-> (1, heads, window_size², window_size²), added to the scores."""
        return self.table[self.index].permute(2, 0, 1)[None]


class WindowAttention(nn.Module):
    """Self-attention inside windows of a grid, shifted or not (section 3.2)."""

    def __init__(
        self, d_model: int, num_heads: int, window_size: int, shift: int, dropout: float = 0.0
    ):
        super().__init__()
        self.window_size, self.shift = window_size, shift
        self.attention = MultiHeadAttention(d_model, num_heads, dropout=dropout)
        self.bias = RelativeBias2d(num_heads, window_size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, columns, d_model) -> the same shape.

        Raises:
            ValueError: a grid smaller than a window.
        """
        batch, rows, columns, _ = x.shape
        window = self.window_size
        if min(rows, columns) < window:
            raise ValueError(
                f"a grid of {rows}×{columns} tokens is smaller than window_size={window}: use a "
                "larger image, a smaller window, or fewer stages"
            )
        shift = 0 if min(rows, columns) == window else self.shift
        x = F.pad(x, (0, 0, 0, -columns % window, 0, -rows % window))
        height, width = x.shape[1:3]
        x = window_partition(x.roll((-shift, -shift), dims=(1, 2)), window)
        mask = None
        if shift:
            mask = shifted_window_mask(height, width, window, shift, x.device)
            mask = mask.repeat(batch, 1, 1)[:, None]  # (batch * windows, 1, window², window²)
        x = self.attention(x, mask=mask, bias=self.bias())
        x = window_reverse(x, window, height, width).roll((shift, shift), dims=(1, 2))
        return x[:, :rows, :columns]


class SwinBlock(nn.Module):
    """Window attention, then feed-forward, each with its LayerNorm first."""

    def __init__(self, c: SwinConfig, d_model: int, num_heads: int, shift: int):
        super().__init__()
        self.attention = WindowAttention(d_model, num_heads, c.window_size, shift, c.dropout)
        self.residual1 = Residual(d_model, "pre", c.dropout, c.eps)
        self.feed_forward = FeedForward(d_model, int(c.mlp_ratio * d_model), c.activation)
        self.residual2 = Residual(d_model, "pre", c.dropout, c.eps)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, columns, d_model) -> the same shape."""
        return self.residual2(self.residual1(x, self.attention), self.feed_forward)


class PatchMerging(nn.Module):
    """Join each square of four tokens: half the rows and columns, twice the width (section 3.1)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.norm = nn.LayerNorm(4 * d_model)
        self.reduction = nn.Linear(4 * d_model, 2 * d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, rows, columns, d_model) -> (batch, rows / 2, columns / 2, 2 d_model)."""
        x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, dim=-1)))


class SwinStage(nn.Module):
    """Blocks at one resolution, plain and shifted in turn, then merging except in the last."""

    def __init__(self, c: SwinConfig, stage: int):
        super().__init__()
        d_model = c.d_model * 2**stage
        self.blocks = nn.ModuleList(
            SwinBlock(c, d_model, c.num_heads[stage], shift=(i % 2) * (c.window_size // 2))
            for i in range(c.depths[stage])
        )
        last = stage == len(c.depths) - 1
        self.downsample = nn.Identity() if last else PatchMerging(d_model)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return self.downsample(x)


class Swin(nn.Module):
    """Image classifier."""

    hf_rules = [
        (r"^swin\.", ""),
        (r"^embeddings\.patch_embeddings\.", "patches."),
        (r"^embeddings\.norm\.", "patch_norm."),
        (r"^encoder\.layers\.", "stages."),
        (r"attention\.self\.(q|k|v)(?:uery|ey|alue)\.", r"attention.attention.\1."),  # in files
        (r"attention\.self\.relative_position_bias_table", "attention.bias.table"),
        (r"attention\.output\.dense", "attention.attention.out"),
        (r"intermediate\.dense", "feed_forward.up"),
        (r"(?<!attention\.)output\.dense", "feed_forward.down"),
        (r"attention\.([qkv])_proj", r"attention.attention.\1"),  # in memory
        (r"attention\.o_proj", "attention.attention.out"),
        (r"relative_position_bias\.relative_position_bias_table", "bias.table"),
        (r"mlp\.fc1", "feed_forward.up"),
        (r"mlp\.fc2", "feed_forward.down"),
        (r"layernorm_before", "residual1.norm"),
        (r"layernorm_after", "residual2.norm"),
        (r"^layernorm\.", "norm."),
        (r"^classifier\.", "head."),
    ]
    hf_skip = [r"relative_position_index$"]

    def __init__(self, config: SwinConfig):
        super().__init__()
        self.config = c = config
        self.patches = PatchEmbedding(c.patch_size, c.d_model, c.num_channels)
        self.patch_norm = nn.LayerNorm(c.d_model)
        self.dropout = nn.Dropout(c.dropout)
        self.stages = nn.ModuleList(SwinStage(c, i) for i in range(len(c.depths)))
        width = c.d_model * 2 ** (len(c.depths) - 1)
        self.norm = nn.LayerNorm(width, c.eps)
        self.head = nn.Linear(width, c.num_labels)
        self.apply(_initialise)

    def forward(self, pixel_values: Tensor) -> SwinOutput:
        """Classify images (batch, channels, height, width), of any size that patches divide.

        Raises:
            ValueError: sides that the patch size does not divide, or a grid that becomes smaller
                than a window.
        """
        rows = pixel_values.shape[-2] // self.config.patch_size
        x = self.dropout(self.patch_norm(self.patches(pixel_values)))
        x = x.unflatten(1, (rows, -1))  # (batch, rows, columns, d_model)
        for stage in self.stages:
            x = stage(x)
        x = self.norm(x.flatten(1, 2))  # (batch, tokens, width)
        image = x.mean(dim=1)
        return SwinOutput(self.head(image), x, image)


def _initialise(module: nn.Module) -> None:
    """Truncated normal with standard deviation 0.02, as in the published code; biases zero."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, RelativeBias2d):
        nn.init.trunc_normal_(module.table, std=0.02)
