"""CvT: Wu et al., "CvT: Introducing Convolutions to Vision Transformers" (2021), section 3.

Convolutions cut the tokens (overlapping, in three stages) and prepare queries, keys and values.
They tell where a token stands, so there is no position embedding.

| | paper | this file | `transformers` |
|---|---|---|---|
| q, k, v | depthwise convolution, BatchNorm, linear | the same | the same |
| keys and values | stride 2: a quarter of the tokens | the same | the same |
| scale of the scores | not spelled out | 1/√d_model, not 1/√d_k | 1/√d_model |
| class token | last stage only | the same | any stage |
| LayerNorm epsilon | not given | 1e-5 | 1e-5, whatever its config says |
| stochastic depth in training | not given | none | up to 0.1 |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import DotProductAttention
from zoo_lessons.layers.blocks import FeedForward, Residual
from zoo_lessons.layers.checks import require_divisible

EPS = 1e-5


@dataclass(frozen=True)
class CvTConfig:
    """Sizes and choices; tuples have an entry per stage. The defaults are CvT-13 (table 2)."""

    num_channels: int = 3
    patch_sizes: tuple[int, ...] = (7, 3, 3)
    patch_strides: tuple[int, ...] = (4, 2, 2)
    patch_paddings: tuple[int, ...] = (2, 1, 1)
    d_model: tuple[int, ...] = (64, 192, 384)
    num_heads: tuple[int, ...] = (1, 3, 6)
    depths: tuple[int, ...] = (1, 2, 10)
    kernel_size: int = 3
    stride_kv: int = 2
    mlp_ratio: float = 4.0
    num_labels: int = 1000
    dropout: float = 0.0

    def __post_init__(self) -> None:
        per_stage = ("patch_sizes", "patch_strides", "patch_paddings", "num_heads", "depths")
        for name in per_stage:
            if len(getattr(self, name)) != len(self.d_model):
                raise ValueError(
                    f"{name}={getattr(self, name)} has {len(getattr(self, name))} entries, "
                    f"expected one per stage, {len(self.d_model)} as in d_model"
                )

    @classmethod
    def cvt_13(cls) -> CvTConfig:
        """CvT-13: 1 + 2 + 10 blocks."""
        return cls()

    @classmethod
    def cvt_21(cls) -> CvTConfig:
        """CvT-21: 1 + 4 + 16 blocks."""
        return cls(depths=(1, 4, 16))

    @classmethod
    def from_hf(cls, config: Any) -> CvTConfig:
        """Read a `transformers.CvtConfig`.

        Raises:
            ValueError: an option that this file does not have.
        """
        stages = len(config.depth)
        kernel, stride_kv, ratio = config.kernel_qkv[0], config.stride_kv[0], config.mlp_ratio[0]
        needs = {
            "cls_token": [False] * (stages - 1) + [True],
            "qkv_projection_method": ["dw_bn"] * stages,
            "qkv_bias": [True] * stages,
            "kernel_qkv": [kernel] * stages,
            "padding_q": [kernel // 2] * stages,
            "padding_kv": [kernel // 2] * stages,
            "stride_q": [1] * stages,
            "stride_kv": [stride_kv] * stages,
            "mlp_ratio": [ratio] * stages,
        }
        for option, expected in needs.items():
            if list(getattr(config, option)) != expected:
                raise ValueError(
                    f"unsupported CvT config: {option}={list(getattr(config, option))}, "
                    f"expected {expected}"
                )
        return cls(
            num_channels=config.num_channels,
            patch_sizes=tuple(config.patch_sizes),
            patch_strides=tuple(config.patch_stride),
            patch_paddings=tuple(config.patch_padding),
            d_model=tuple(config.embed_dim),
            num_heads=tuple(config.num_heads),
            depths=tuple(config.depth),
            kernel_size=kernel,
            stride_kv=stride_kv,
            mlp_ratio=ratio,
            num_labels=config.num_labels,
            dropout=max(config.drop_rate),
        )


@dataclass
class CvTOutput:
    """What the model returns."""

    logits: Tensor  # (batch, num_labels)
    last_hidden_state: Tensor  # (batch, d_model, rows, columns) of the last stage
    cls_token_value: Tensor  # (batch, 1, d_model)


class ConvolutionalEmbedding(nn.Module):
    """Overlapping patches by a strided convolution, then LayerNorm (section 3.1)."""

    def __init__(self, c: CvTConfig, stage: int):
        super().__init__()
        channels = c.num_channels if stage == 0 else c.d_model[stage - 1]
        self.projection = nn.Conv2d(
            channels,
            c.d_model[stage],
            c.patch_sizes[stage],
            stride=c.patch_strides[stage],
            padding=c.patch_paddings[stage],
        )
        self.norm = nn.LayerNorm(c.d_model[stage], EPS)
        self.dropout = nn.Dropout(c.dropout)

    def forward(self, x: Tensor) -> tuple[Tensor, int, int]:
        """(batch, channels, height, width) -> tokens (batch, n, d_model), rows, columns."""
        x = self.projection(x)
        rows, columns = x.shape[-2:]
        return self.dropout(self.norm(x.flatten(2).transpose(1, 2))), rows, columns


class DepthwiseProjection(nn.Module):
    """Mix each channel with its neighbourhood: depthwise convolution, then BatchNorm."""

    def __init__(self, d_model: int, kernel_size: int, stride: int):
        super().__init__()
        self.convolution = nn.Conv2d(
            d_model,
            d_model,
            kernel_size,
            stride=stride,
            padding=kernel_size // 2,
            groups=d_model,
            bias=False,
        )
        self.norm = nn.BatchNorm2d(d_model)

    def forward(self, grid: Tensor) -> Tensor:
        """(batch, d_model, rows, columns) -> tokens (batch, n / stride², d_model)."""
        return self.norm(self.convolution(grid)).flatten(2).transpose(1, 2)


class ConvolutionalAttention(nn.Module):
    """Attention whose q, k and v come from convolutions over the token grid (section 3.2)."""

    def __init__(self, d_model: int, num_heads: int, kernel_size: int, stride_kv: int):
        super().__init__()
        require_divisible(d_model=d_model, num_heads=num_heads)
        self.num_heads = num_heads
        self.convolution_q = DepthwiseProjection(d_model, kernel_size, stride=1)
        self.convolution_k = DepthwiseProjection(d_model, kernel_size, stride_kv)
        self.convolution_v = DepthwiseProjection(d_model, kernel_size, stride_kv)
        self.q = nn.Linear(d_model, d_model)
        self.k = nn.Linear(d_model, d_model)
        self.v = nn.Linear(d_model, d_model)
        self.attention = DotProductAttention()
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, rows: int, columns: int) -> Tensor:
        """Tokens (batch, [1 +] rows * columns, d_model) -> the same shape.

        A class token in front skips the convolutions: it has no place in the grid.
        """
        class_token, tokens = x.split([x.shape[1] - rows * columns, rows * columns], dim=1)
        grid = tokens.transpose(1, 2).unflatten(2, (rows, columns))

        def heads(convolution: DepthwiseProjection, linear: nn.Linear) -> Tensor:
            y = linear(torch.cat([class_token, convolution(grid)], dim=1))
            return y.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)  # (batch, heads, n, d_k)

        q = heads(self.convolution_q, self.q)
        k, v = heads(self.convolution_k, self.k), heads(self.convolution_v, self.v)
        # The formula divides by √d_k; the published weights expect √d_model = √(d_k · heads).
        x = self.attention(q / self.num_heads**0.5, k, v)
        return self.out(x.transpose(1, 2).flatten(2))


class CvTBlock(nn.Module):
    """Convolutional attention, then feed-forward, each with its LayerNorm first."""

    def __init__(self, c: CvTConfig, stage: int):
        super().__init__()
        d_model = c.d_model[stage]
        self.attention = ConvolutionalAttention(
            d_model, c.num_heads[stage], c.kernel_size, c.stride_kv
        )
        self.residual1 = Residual(d_model, "pre", c.dropout, EPS)
        self.feed_forward = FeedForward(d_model, int(c.mlp_ratio * d_model), "gelu")
        self.residual2 = Residual(d_model, "pre", c.dropout, EPS)

    def forward(self, x: Tensor, rows: int, columns: int) -> Tensor:
        x = self.residual1(x, lambda y: self.attention(y, rows, columns))
        return self.residual2(x, self.feed_forward)


class CvTStage(nn.Module):
    """Embed, put a class token in front in the last stage, then blocks."""

    def __init__(self, c: CvTConfig, stage: int):
        super().__init__()
        last = stage == len(c.depths) - 1
        self.embedding = ConvolutionalEmbedding(c, stage)
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.d_model[stage])) if last else None
        self.blocks = nn.ModuleList(CvTBlock(c, stage) for _ in range(c.depths[stage]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """A grid -> a grid (batch, d_model, rows, columns) and the class token, if any."""
        x, rows, columns = self.embedding(x)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            x = block(x, rows, columns)
        class_token, x = x.split([x.shape[1] - rows * columns, rows * columns], dim=1)
        return x.transpose(1, 2).unflatten(2, (rows, columns)), class_token


class CvT(nn.Module):
    """Image classifier."""

    hf_rules = [
        (r"^cvt\.encoder\.", ""),
        (r"\.cls_token$", ".class_token"),
        (r"\.embedding\.convolution_embeddings\.", ".embedding."),
        (r"\.layers\.", ".blocks."),
        (
            r"attention\.attention\.convolution_projection_(q|k|v)(?:uery|ey|alue)\.convolution_projection\.",
            r"attention.convolution_\1.",
        ),
        (r"attention\.attention\.projection_(q|k|v)(?:uery|ey|alue)\.", r"attention.\1."),
        (r"attention\.output\.dense", "attention.out"),
        (r"intermediate\.dense", "feed_forward.up"),
        (r"(?<!attention\.)output\.dense", "feed_forward.down"),
        (r"\.normalization\.", ".norm."),
        (r"layernorm_before", "residual1.norm"),
        (r"layernorm_after", "residual2.norm"),
        (r"^layernorm\.", "norm."),
        (r"^classifier\.", "head."),
    ]
    hf_skip: list[str] = []

    def __init__(self, config: CvTConfig):
        super().__init__()
        self.config = c = config
        self.stages = nn.ModuleList(CvTStage(c, i) for i in range(len(c.depths)))
        self.norm = nn.LayerNorm(c.d_model[-1], EPS)
        self.head = nn.Linear(c.d_model[-1], c.num_labels)
        self.apply(_initialise)
        nn.init.trunc_normal_(self.stages[-1].class_token, std=0.02)

    def forward(self, pixel_values: Tensor) -> CvTOutput:
        """Classify images (batch, channels, height, width), of any size.

        Raises:
            ValueError: another number of channels or axes.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected "
                f"(batch, {self.config.num_channels}, height, width)"
            )
        x = pixel_values
        for stage in self.stages:
            x, class_token = stage(x)
        return CvTOutput(self.head(self.norm(class_token[:, 0])), x, class_token)


def _initialise(module: nn.Module) -> None:
    """Truncated normal with standard deviation 0.02, as in the published code; biases zero."""
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
