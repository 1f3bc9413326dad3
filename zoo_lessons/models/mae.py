"""MAE: He et al., "Masked Autoencoders Are Scalable Vision Learners" (2021), section 3.

A ViT reads the few patches that are left; a small decoder paints the missing ones.

| | paper | this file | `transformers` |
|---|---|---|---|
| masking | shuffle, keep the first 25 % | the same, by sorting noise | the same |
| positions | fixed sine and cosine, half for columns and half for rows | the same | the same |
| target | pixels, or pixels normalised per patch | either | either |
| loss | mean squared error on masked patches | the same | the same |
| order inside a patch | rows, columns, channels | the same | the same |
| other image sizes | not in pre-training | an error | the decoder stretches its positions |
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_divisible
from zoo_lessons.layers.patches import PatchEmbedding, image_to_patches, patches_to_image
from zoo_lessons.layers.positions import sinusoidal_positions
from zoo_lessons.models.vit import ViT, ViTConfig, initialise


@dataclass(frozen=True)
class MAEConfig:
    """Sizes and choices. The defaults are MAE with ViT-B/16 (section 4)."""

    image_size: int = 224
    patch_size: int = 16
    num_channels: int = 3
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    decoder_d_model: int = 512
    decoder_num_layers: int = 8
    decoder_num_heads: int = 16
    decoder_d_ff: int = 2048
    mask_ratio: float = 0.75
    norm_pix_loss: bool = False
    activation: str = "gelu"
    dropout: float = 0.0
    eps: float = 1e-12

    def __post_init__(self) -> None:
        require_divisible(image_size=self.image_size, patch_size=self.patch_size)
        # Half of the width tells the column and half the row, each in pairs of sine and cosine.
        require_divisible(d_model=self.d_model, positions=4)
        require_divisible(decoder_d_model=self.decoder_d_model, positions=4)

    @classmethod
    def base(cls) -> MAEConfig:
        """MAE with ViT-B/16."""
        return cls()

    @classmethod
    def from_hf(cls, config: Any) -> MAEConfig:
        """Read a `transformers.ViTMAEConfig`. ValueError as for `ViTConfig.from_hf`."""
        vit = ViTConfig.from_hf(config)
        shared = {f.name for f in fields(cls)} & {f.name for f in fields(ViTConfig)}
        return cls(
            **{name: getattr(vit, name) for name in shared},
            decoder_d_model=config.decoder_hidden_size,
            decoder_num_layers=config.decoder_num_hidden_layers,
            decoder_num_heads=config.decoder_num_attention_heads,
            decoder_d_ff=config.decoder_intermediate_size,
            mask_ratio=config.mask_ratio,
            norm_pix_loss=config.norm_pix_loss,
        )


@dataclass
class MAEOutput:
    """What pre-training returns."""

    loss: Tensor  # a number: mean squared error on the masked patches
    logits: Tensor  # (batch, patches, patch_size² * channels), predicted pixels
    mask: Tensor  # (batch, patches), 1 = hidden from the encoder
    ids_restore: Tensor  # (batch, patches), undoes the shuffle
    last_hidden_state: Tensor  # (batch, 1 + visible, d_model), what the encoder saw


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(batch, channels, height, width) -> (batch, patches, patch_size² * channels).

    Like `image_to_patches`, but the channels of a pixel stand together, as in MAE's target.
    """
    patches = image_to_patches(images, patch_size).unflatten(-1, (-1, patch_size**2))
    return patches.transpose(-2, -1).flatten(-2)


def unpatchify(patches: Tensor, patch_size: int, height: int, width: int) -> Tensor:
    """Back from `patchify` to (batch, channels, height, width)."""
    channels_first = patches.unflatten(-1, (patch_size**2, -1)).transpose(-2, -1).flatten(-2)
    return patches_to_image(channels_first, patch_size, height, width)


def random_masking(noise: Tensor, mask_ratio: float) -> tuple[Tensor, Tensor, Tensor]:
    """Choose which patches the encoder sees: those with the smallest noise.

    Args:
        noise: (batch, patches), uniform.
        mask_ratio: share of hidden patches, from 0 up to but not including 1.

    Returns:
        ids_keep (batch, visible), in the shuffled order; mask (batch, patches), 1 = hidden;
        ids_restore (batch, patches), each patch's place in the shuffled order.

    Raises:
        ValueError: a ratio outside that range, or one that hides every patch.
    """
    patches = noise.shape[1]
    visible = int(patches * (1 - mask_ratio))
    if not 0 <= mask_ratio < 1 or visible == 0:
        raise ValueError(
            f"mask_ratio={mask_ratio} leaves {visible} of {patches} patches visible, expected a "
            "ratio from 0 to below 1 that leaves at least one"
        )
    ids_shuffle = noise.argsort(dim=1)
    ids_restore = ids_shuffle.argsort(dim=1)
    mask = (ids_restore >= visible).to(noise.dtype)
    return ids_shuffle[:, :visible], mask, ids_restore


class MAE(nn.Module):
    """Encoder, decoder and loss of masked pre-training."""

    hf_rules = [
        (r"^vit\.", ""),
        (r"embeddings\.cls_token", "embeddings.class_token"),
        (r"embeddings\.position_embeddings", "embeddings.positions"),
        (r"embeddings\.patch_embeddings\.", "embeddings.patches."),
        # published files say decoder_layers; those that transformers 5 saves, decoder_encoder.layer
        (r"^decoder\.decoder_(?:layers|encoder\.layer)\.", "decoder.layers."),
        (r"^decoder\.decoder_embed", "decoder.embed"),
        (r"^decoder\.decoder_pos_embed", "decoder.positions"),
        (r"^decoder\.decoder_norm", "decoder.norm"),
        (r"^decoder\.decoder_pred", "decoder.head"),
        *[rule for rule in ViT.hf_rules if "embeddings" not in rule[0] and "vit" not in rule[0]],
    ]
    hf_skip: list[str] = []

    def __init__(self, config: MAEConfig):
        super().__init__()
        self.config = c = config
        self.embeddings = MAEEmbeddings(c)
        sizes = {"norm": "pre", "activation": c.activation, "dropout": c.dropout, "eps": c.eps}
        self.layers = nn.ModuleList(
            EncoderBlock(c.d_model, c.num_heads, c.d_ff, **sizes) for _ in range(c.num_layers)
        )
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.decoder = MAEDecoder(c)
        self.apply(initialise)
        for parameter in (self.embeddings.class_token, self.decoder.mask_token):
            nn.init.normal_(parameter, std=0.02)

    def encode(
        self, pixel_values: Tensor, noise: Tensor | None = None, mask_ratio: float | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read the visible patches: -> (batch, 1 + visible, d_model), mask, ids_restore.

        Arguments are as for `forward`.
        """
        ratio = self.config.mask_ratio if mask_ratio is None else mask_ratio
        x, mask, ids_restore = self.embeddings(pixel_values, noise, ratio)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x), mask, ids_restore

    def forward(
        self, pixel_values: Tensor, noise: Tensor | None = None, mask_ratio: float | None = None
    ) -> MAEOutput:
        """Hide patches, paint them, and compare.

        Args:
            pixel_values: (batch, channels, image_size, image_size).
            noise: (batch, patches); the patches with the smallest noise stay. Uniform by default.
            mask_ratio: share of hidden patches, the config's by default.

        Raises:
            ValueError: another image size, noise of another shape, or a ratio that hides all.
        """
        latent, mask, ids_restore = self.encode(pixel_values, noise, mask_ratio)
        logits = self.decoder(latent, ids_restore)
        target = patchify(pixel_values, self.config.patch_size)
        if self.config.norm_pix_loss:
            mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
            target = (target - mean) / (variance + 1e-6).sqrt()
        per_patch = (logits - target).square().mean(dim=-1)  # (batch, patches)
        loss = (per_patch * mask).sum() / mask.sum()
        return MAEOutput(loss, logits, mask, ids_restore, latent)

    def to_vit(self, num_labels: int, pooling: str = "class") -> ViT:
        """A classifier with a copy of this encoder and a fresh head, for fine-tuning."""
        shared = {f.name for f in fields(ViTConfig)} & {f.name for f in fields(MAEConfig)}
        sizes = {name: getattr(self.config, name) for name in shared}
        vit = ViT(ViTConfig(**sizes, num_labels=num_labels, pooling=pooling))
        encoder = {k: v for k, v in self.state_dict().items() if not k.startswith("decoder.")}
        missing, _ = vit.load_state_dict(encoder, strict=False)
        assert all(name.startswith("head.") for name in missing), missing
        return vit


class MAEEmbeddings(nn.Module):
    """Patches with fixed positions, then masking, then the class token."""

    def __init__(self, c: MAEConfig):
        super().__init__()
        self.patches = PatchEmbedding(c.patch_size, c.d_model, c.num_channels)
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.d_model))
        self.positions = _grid_positions(c.image_size // c.patch_size, c.d_model)
        self.image_size = c.image_size

    def forward(
        self, pixel_values: Tensor, noise: Tensor | None, mask_ratio: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        x = self.patches(pixel_values)  # (batch, patches, d_model)
        height, width = pixel_values.shape[-2:]
        if (height, width) != (self.image_size, self.image_size):
            raise ValueError(
                f"pixel_values are {height}×{width}, expected {self.image_size}×{self.image_size}"
            )
        x = x + self.positions[:, 1:]
        if noise is None:
            noise = torch.rand(x.shape[:2], device=x.device)
        if noise.shape != x.shape[:2]:
            raise ValueError(
                f"noise has shape {tuple(noise.shape)}, expected (batch, patches) = "
                f"{tuple(x.shape[:2])}"
            )
        ids_keep, mask, ids_restore = random_masking(noise, mask_ratio)
        x = x.gather(1, ids_keep[..., None].expand(-1, -1, x.shape[-1]))  # visible ones only
        class_token = (self.class_token + self.positions[:, :1]).expand(len(x), -1, -1)
        return torch.cat([class_token, x], dim=1), mask, ids_restore


class MAEDecoder(nn.Module):
    """Puts a mask token wherever a patch is missing, and predicts the pixels of all patches."""

    def __init__(self, c: MAEConfig):
        super().__init__()
        width = c.decoder_d_model
        self.embed = nn.Linear(c.d_model, width)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = _grid_positions(c.image_size // c.patch_size, width)
        sizes = {"norm": "pre", "activation": c.activation, "dropout": c.dropout, "eps": c.eps}
        self.layers = nn.ModuleList(
            EncoderBlock(width, c.decoder_num_heads, c.decoder_d_ff, **sizes)
            for _ in range(c.decoder_num_layers)
        )
        self.norm = nn.LayerNorm(width, c.eps)
        self.head = nn.Linear(width, c.patch_size**2 * c.num_channels)

    def forward(self, latent: Tensor, ids_restore: Tensor) -> Tensor:
        """(batch, 1 + visible, d_model) -> pixels (batch, patches, patch_size² * channels)."""
        x = self.embed(latent)
        class_token, visible = x[:, :1], x[:, 1:]
        missing = ids_restore.shape[1] - visible.shape[1]
        # In shuffled order the mask tokens come last. Unshuffle before positions are added.
        x = torch.cat([visible, self.mask_token.expand(len(x), missing, -1)], dim=1)
        x = x.gather(1, ids_restore[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([class_token, x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))[:, 1:]


def _grid_positions(side: int, width: int) -> nn.Parameter:
    """Fixed positions (1, 1 + side², width): zero for the class token, then column and row."""
    line = sinusoidal_positions(side, width // 2, interleaved=False)  # (side, width / 2)
    column = line.repeat(side, 1)
    row = line.repeat_interleave(side, dim=0)
    grid = torch.cat([column, row], dim=-1)  # (side², width)
    return nn.Parameter(torch.cat([torch.zeros(1, width), grid])[None], requires_grad=False)
