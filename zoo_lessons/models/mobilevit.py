"""MobileViT: Mehta & Rastegari, "MobileViT" (2021), section 3.

A MobileNet whose last three stages hold a Transformer: convolutions mix neighbours, attention
mixes pixels that lie at the same place of different patches, and a convolution joins the two.

| | paper | this file | `transformers` |
|---|---|---|---|
| inverted residuals | MobileNetV2 | the same | the same |
| activation | Swish (SiLU) | the same; others by config | the same |
| attention | between patches, per place in the patch | the same | the same |
| sides that patches do not divide | - | stretched and shrunk back, bilinear | the same |
| outputs at stride 8 or 16 | segmentation | none | by dilation |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.blocks import ACTIVATIONS, EncoderBlock


@dataclass(frozen=True)
class MobileViTConfig:
    """Sizes and choices. The defaults are MobileViT-S (table 4).

    `channels` and `strides` go through the model: the stem, the two stages of inverted residuals,
    the three stages with Transformers; `channels` ends with the last 1×1 convolution. The published
    strides shrink an image's side 32 times; small images need smaller ones.
    """

    num_channels: int = 3
    channels: tuple[int, ...] = (16, 32, 64, 96, 128, 160, 640)
    strides: tuple[int, ...] = (2, 1, 2, 2, 2, 2)
    d_model: tuple[int, int, int] = (144, 192, 240)
    num_layers: tuple[int, int, int] = (2, 4, 3)
    num_heads: int = 4
    mlp_ratio: float = 2.0
    expand_ratio: float = 4.0
    patch_size: int = 2
    kernel_size: int = 3
    num_labels: int = 1000
    activation: str = "silu"
    dropout: float = 0.1
    classifier_dropout: float = 0.1
    eps: float = 1e-5

    def __post_init__(self) -> None:
        for name, expected in {"channels": 7, "strides": 6}.items():
            if len(getattr(self, name)) != expected:
                raise ValueError(
                    f"{name}={getattr(self, name)} has {len(getattr(self, name))} entries, "
                    f"expected {expected}"
                )

    @classmethod
    def small(cls) -> MobileViTConfig:
        """MobileViT-S."""
        return cls()

    @classmethod
    def extra_small(cls) -> MobileViTConfig:
        """MobileViT-XS."""
        return cls(channels=(16, 32, 48, 64, 80, 96, 384), d_model=(96, 120, 144))

    @classmethod
    def from_hf(cls, config: Any) -> MobileViTConfig:
        """Read a `transformers.MobileViTConfig`.

        Raises:
            ValueError: an option that this file does not have.
        """
        for option, expected in {"qkv_bias": True, "output_stride": 32}.items():
            if getattr(config, option) != expected:
                raise ValueError(
                    f"unsupported MobileViT config: {option}={getattr(config, option)}, "
                    f"expected {expected}"
                )
        return cls(
            num_channels=config.num_channels,
            channels=tuple(config.neck_hidden_sizes),
            d_model=tuple(config.hidden_sizes),
            num_heads=config.num_attention_heads,
            mlp_ratio=config.mlp_ratio,
            expand_ratio=config.expand_ratio,
            patch_size=config.patch_size,
            kernel_size=config.conv_kernel_size,
            num_labels=config.num_labels,
            activation=config.hidden_act,
            dropout=config.hidden_dropout_prob,
            classifier_dropout=config.classifier_dropout_prob,
            eps=config.layer_norm_eps,
        )


@dataclass
class MobileViTOutput:
    """What the model returns."""

    logits: Tensor  # (batch, num_labels)
    last_hidden_state: Tensor  # (batch, channels, height / 32, width / 32)
    pooler_output: Tensor  # (batch, channels), their mean


class Convolution(nn.Module):
    """Convolution without bias, then BatchNorm and activation unless told otherwise."""

    def __init__(
        self,
        c: MobileViTConfig,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        activation: bool = True,
    ):
        super().__init__()
        padding = (kernel_size - 1) // 2
        self.convolution = nn.Conv2d(
            in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False
        )
        self.norm = nn.BatchNorm2d(out_channels) if norm else None
        self.activation = ACTIVATIONS[c.activation] if activation else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        if self.norm is not None:
            x = self.norm(x)
        return x if self.activation is None else self.activation(x)


class InvertedResidual(nn.Module):
    """Widen, mix each channel in space, narrow (Sandler et al., MobileNetV2, 2018)."""

    def __init__(self, c: MobileViTConfig, in_channels: int, out_channels: int, stride: int):
        super().__init__()
        wide = _round_to_8(in_channels * c.expand_ratio)
        self.expand = Convolution(c, in_channels, wide, 1)
        self.depthwise = Convolution(c, wide, wide, 3, stride=stride, groups=wide)
        self.reduce = Convolution(c, wide, out_channels, 1, activation=False)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.reduce(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


def unfold(x: Tensor, patch_size: int) -> Tensor:
    """Gather pixels that lie at the same place of their patches, into one sequence each.

    (batch, channels, height, width) -> (batch * patch_size², patches, channels).
    """
    x = x.unflatten(2, (-1, patch_size)).unflatten(4, (-1, patch_size))
    # (batch, channels, rows, patch_size, columns, patch_size)
    return x.permute(0, 3, 5, 2, 4, 1).flatten(3, 4).flatten(0, 2)


def fold(x: Tensor, patch_size: int, height: int, width: int) -> Tensor:
    """The inverse of `unfold`."""
    rows, columns = height // patch_size, width // patch_size
    x = x.unflatten(0, (-1, patch_size, patch_size)).unflatten(3, (rows, columns))
    # (batch, patch_size, patch_size, rows, columns, channels)
    return x.permute(0, 5, 3, 1, 4, 2).flatten(4, 5).flatten(2, 3)


class MobileViTBlock(nn.Module):
    """Half the resolution (or as `strides` says), then local and global mixing (figure 1b)."""

    def __init__(self, c: MobileViTConfig, stage: int):
        super().__init__()
        before, channels = c.channels[stage + 2 : stage + 4]
        d_model = c.d_model[stage]
        self.patch_size = c.patch_size
        self.downsample = InvertedResidual(c, before, channels, c.strides[stage + 3])
        self.local = Convolution(c, channels, channels, c.kernel_size)
        self.widen = Convolution(c, channels, d_model, 1, norm=False, activation=False)
        self.blocks = nn.ModuleList(
            EncoderBlock(
                d_model,
                c.num_heads,
                int(c.mlp_ratio * d_model),
                norm="pre",
                activation=c.activation,
                dropout=c.dropout,
                eps=c.eps,
            )
            for _ in range(c.num_layers[stage])
        )
        self.norm = nn.LayerNorm(d_model, c.eps)
        self.narrow = Convolution(c, d_model, channels, 1)
        self.fusion = Convolution(c, 2 * channels, channels, c.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels before, height, width) -> (batch, channels, height / stride, ...)."""
        x = self.downsample(x)
        y = self.widen(self.local(x))
        y = self.norm(self._attend(y))
        y = self._to_image(y, x.shape[-2:])
        return self.fusion(torch.cat([x, self.narrow(y)], dim=1))

    def _whole(self, size: torch.Size) -> tuple[int, int]:
        """Sides rounded up to whole patches."""
        p = self.patch_size
        return -(-size[0] // p) * p, -(-size[1] // p) * p

    def _attend(self, y: Tensor) -> Tensor:
        """(batch, d_model, height, width) -> sequences (batch * patch_size², patches, d_model)."""
        whole = self._whole(y.shape[-2:])
        if whole != tuple(y.shape[-2:]):
            y = F.interpolate(y, whole, mode="bilinear", align_corners=False)
        y = unfold(y, self.patch_size)
        for block in self.blocks:
            y = block(y)
        return y

    def _to_image(self, y: Tensor, size: torch.Size) -> Tensor:
        whole = self._whole(size)
        y = fold(y, self.patch_size, *whole)
        if whole != tuple(size):
            y = F.interpolate(y, tuple(size), mode="bilinear", align_corners=False)
        return y


class MobileViT(nn.Module):
    """Image classifier."""

    hf_rules = [
        (r"^mobilevit\.", ""),
        (r"^conv_stem\.", "stem."),
        (r"^conv_1x1_exp\.", "expand."),
        (r"^encoder\.layer\.([01])\.layer\.", r"stages.\1."),
        (r"^encoder\.layer\.", "stages."),
        (r"\.downsampling_layer\.", ".downsample."),
        (r"\.expand_1x1\.", ".expand."),
        (r"\.conv_3x3\.", ".depthwise."),
        (r"\.reduce_1x1\.", ".reduce."),
        (r"\.conv_kxk\.", ".local."),
        (r"\.conv_1x1\.", ".widen."),
        (r"\.conv_projection\.", ".narrow."),
        (r"\.normalization\.", ".norm."),
        (r"\.transformer\.layer\.", ".blocks."),
        (r"attention\.attention\.(q|k|v)(?:uery|ey|alue)\.", r"attention.\1."),
        (r"attention\.output\.dense", "attention.out"),
        (r"intermediate\.dense", "feed_forward.up"),
        (r"(?<!attention\.)output\.dense", "feed_forward.down"),
        (r"layernorm_before", "residual1.norm"),
        (r"layernorm_after", "residual2.norm"),
        (r"\.layernorm\.", ".norm."),
        (r"^classifier\.", "head."),
    ]
    hf_skip: list[str] = []

    def __init__(self, config: MobileViTConfig):
        super().__init__()
        self.config = c = config
        w, strides = c.channels, c.strides
        self.stem = Convolution(c, c.num_channels, w[0], 3, stride=strides[0])
        self.stages = nn.ModuleList(
            [
                nn.Sequential(InvertedResidual(c, w[0], w[1], strides[1])),
                nn.Sequential(
                    InvertedResidual(c, w[1], w[2], strides[2]),
                    InvertedResidual(c, w[2], w[2], stride=1),
                    InvertedResidual(c, w[2], w[2], stride=1),
                ),
                *[MobileViTBlock(c, stage) for stage in range(3)],
            ]
        )
        self.expand = Convolution(c, w[5], w[6], 1)
        self.dropout = nn.Dropout(c.classifier_dropout)
        self.head = nn.Linear(w[6], c.num_labels)
        self.apply(_initialise)

    def forward(self, pixel_values: Tensor) -> MobileViTOutput:
        """Classify images (batch, channels, height, width), of any size.

        Raises:
            ValueError: another number of channels or axes.
        """
        if pixel_values.ndim != 4 or pixel_values.shape[1] != self.config.num_channels:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected "
                f"(batch, {self.config.num_channels}, height, width)"
            )
        x = self.stem(pixel_values)
        for stage in self.stages:
            x = stage(x)
        x = self.expand(x)
        image = x.mean(dim=(-2, -1))
        return MobileViTOutput(self.head(self.dropout(image)), x, image)


def _round_to_8(value: float) -> int:
    """The nearest multiple of 8, at least 8, and not more than a tenth below the value."""
    rounded = max(8, int(round(value) + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * round(value) else rounded


def _initialise(module: nn.Module) -> None:
    """Kaiming normal for convolutions, normal of 0.02 for linear layers; biases zero."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out")
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        nn.init.zeros_(module.bias)
