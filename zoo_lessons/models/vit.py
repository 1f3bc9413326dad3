"""ViT: Dosovitskiy et al., "An Image is Worth 16x16 Words" (2020), section 3.1.

BERT's encoder reads an image: each square patch is a token, a class token stands in front.

| | paper | this file | `transformers` |
|---|---|---|---|
| LayerNorm | before each sub-layer, and after the last | the same | the same |
| LayerNorm epsilon | not given (1e-6 in the published code) | 1e-12 by default | 1e-12 by default |
| image's vector | class token; mean of the patches in appendix D.3 | either | class token |
| classifier | hidden layer in pre-training, one layer in fine-tuning | one layer | one layer |
| first weights | Xavier uniform; head zero (published code) | Xavier uniform | normal, 0.02 |
| other image sizes | position embeddings interpolated | on request | on request |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_divisible
from zoo_lessons.layers.patches import PatchEmbedding, interpolate_positions


@dataclass(frozen=True)
class ViTConfig:
    """Sizes and choices. The defaults are ViT-B/16 (table 1)."""

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    num_labels: int = 1000
    pooling: str = "class"
    activation: str = "gelu"
    dropout: float = 0.0
    eps: float = 1e-12

    def __post_init__(self) -> None:
        require_divisible(image_size=self.image_size, patch_size=self.patch_size)
        if self.pooling not in ("class", "mean"):
            raise ValueError(f"pooling={self.pooling!r}, expected 'class' or 'mean'")

    @classmethod
    def base(cls) -> ViTConfig:
        """ViT-B/16."""
        return cls()

    @classmethod
    def large(cls) -> ViTConfig:
        """ViT-L/16."""
        return cls(d_model=1024, num_layers=24, num_heads=16, d_ff=4096)

    @classmethod
    def from_hf(cls, config: Any) -> ViTConfig:
        """Read a `transformers.ViTConfig`.

        Raises:
            ValueError: images or patches that are not square, or projections without bias.
        """
        if not config.qkv_bias:
            raise ValueError("unsupported ViT config: qkv_bias=False, expected True")
        for name in ("image_size", "patch_size"):
            if not isinstance(getattr(config, name), int):
                raise ValueError(
                    f"unsupported ViT config: {name}={getattr(config, name)}, expected one number"
                )
        return cls(
            image_size=config.image_size,
            patch_size=config.patch_size,
            num_channels=config.num_channels,
            d_model=config.hidden_size,
            num_layers=config.num_hidden_layers,
            num_heads=config.num_attention_heads,
            d_ff=config.intermediate_size,
            num_labels=config.num_labels,
            activation=config.hidden_act,
            dropout=config.hidden_dropout_prob,
            eps=config.layer_norm_eps,
        )


@dataclass
class ViTOutput:
    """What the model returns."""

    logits: Tensor  # (batch, num_labels)
    last_hidden_state: Tensor  # (batch, 1 + patches, d_model), after the last LayerNorm


class ViTEmbeddings(nn.Module):
    """Class token and patches, each with its position (equation 1)."""

    def __init__(self, c: ViTConfig):
        super().__init__()
        self.patches = PatchEmbedding(c.patch_size, c.d_model, c.num_channels)
        num_patches = (c.image_size // c.patch_size) ** 2
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.d_model))
        self.positions = nn.Parameter(torch.zeros(1, 1 + num_patches, c.d_model))
        self.dropout = nn.Dropout(c.dropout)
        self.image_size, self.patch_size = c.image_size, c.patch_size

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """(batch, channels, height, width) -> (batch, 1 + patches, d_model)."""
        x = self.patches(pixel_values)
        height, width = pixel_values.shape[-2:]
        positions = self.positions
        if interpolate_pos_encoding:
            grid = interpolate_positions(
                positions[:, 1:], height // self.patch_size, width // self.patch_size
            )
            positions = torch.cat([positions[:, :1], grid], dim=1)
        elif (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"pixel_values are {height}×{width}, expected {self.image_size}×{self.image_size}; "
                "pass interpolate_pos_encoding=True to stretch the position embeddings"
            )
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1)
        return self.dropout(x + positions)


class ViT(nn.Module):
    """Image classifier. With `num_labels=0` it has no classifier, and `logits` is the image's
    vector (batch, d_model)."""

    hf_rules = [
        (r"^vit\.", ""),
        (r"embeddings\.cls_token", "embeddings.class_token"),
        (r"embeddings\.position_embeddings", "embeddings.positions"),
        (r"embeddings\.patch_embeddings\.", "embeddings.patches."),
        (r"^encoder\.layer\.", "layers."),  # names in files; in memory they are the ones below
        (r"attention\.attention\.(q|k|v)(?:uery|ey|alue)", r"attention.\1"),
        (r"attention\.output\.dense", "attention.out"),
        (r"intermediate\.dense", "feed_forward.up"),
        (r"(?<!attention\.)output\.dense", "feed_forward.down"),
        (r"attention\.([qkv])_proj", r"attention.\1"),
        (r"attention\.o_proj", "attention.out"),
        (r"mlp\.fc1", "feed_forward.up"),
        (r"mlp\.fc2", "feed_forward.down"),
        (r"layernorm_before", "residual1.norm"),
        (r"layernorm_after", "residual2.norm"),
        (r"^layernorm", "norm"),
        (r"^classifier", "head"),
    ]
    hf_skip = [r"pooler\."]

    def __init__(self, config: ViTConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = ViTEmbeddings(c)
        self.layers = nn.ModuleList(
            EncoderBlock(
                c.d_model,
                c.num_heads,
                c.d_ff,
                norm="pre",
                activation=c.activation,
                dropout=c.dropout,
                eps=c.eps,
            )
            for _ in range(c.num_layers)
        )
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.head = nn.Linear(c.d_model, c.num_labels) if c.num_labels else nn.Identity()
        self.apply(initialise)
        for parameter in (self.embeddings.class_token, self.embeddings.positions):
            nn.init.trunc_normal_(parameter, std=0.02)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> ViTOutput:
        """Classify images.

        Args:
            pixel_values: (batch, channels, height, width).
            interpolate_pos_encoding: accept another image size, by stretching the positions.

        Raises:
            ValueError: another size without that, or sides that the patch size does not divide.
        """
        x = self.embeddings(pixel_values, interpolate_pos_encoding)
        for layer in self.layers:
            x = layer(x)
        x = self.norm(x)
        image = x[:, 0] if self.config.pooling == "class" else x[:, 1:].mean(dim=1)
        return ViTOutput(self.head(image), x)


def initialise(module: nn.Module) -> None:
    """Xavier uniform, as in the blocks of the published code; patches and head start alike here.

    `transformers` draws from a normal with standard deviation 0.02, which suits a width of 768.
    Narrow models learn slowly from there.
    """
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        nn.init.zeros_(module.bias)
