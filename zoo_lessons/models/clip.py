"""CLIP: Radford et al., "Learning Transferable Visual Models From Natural Language Supervision"
(2021), sections 2.3 to 2.5.

Two towers. A ViT turns an image into one vector, a causal Transformer turns a text into another of
the same width, and their cosine says how well the two belong together.

| | paper | this file | `transformers` |
|---|---|---|---|
| LayerNorm of images | one more in front of the blocks | the same | the same |
| patches | linear, without bias (published code) | the same, or a convolutional stem | the same |
| activation | x·σ(1.702 x) (published code) | the same; others by config | the same |
| a text's vector | at [EOS]: the highest id (published code) | the first [EOS], or that | either |
| mask of texts | causal; no padding mask | causal, padding on request | the same |
| temperature | starts at 0.07, never below 0.01 | the same; `limit_temperature` | no limit |
| dropout | none | none | on attention weights, 0 by default |
| first weights | section 2.5's, text tower (published code) | both towers alike | its own rule |
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.contrastive import MAX_SCALE, matching_loss
from zoo_lessons.layers.attention import causal_mask, padding_mask
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_divisible, require_ids
from zoo_lessons.layers.patches import PatchEmbedding, interpolate_positions
from zoo_lessons.layers.positions import LearnedPositions


@dataclass(frozen=True)
class CLIPVisionConfig:
    """The image tower. The defaults are ViT-B/32's (table 20).

    `stem` is how patches become tokens: "patches" (one linear map) or "convolutions", see
    `ConvolutionalStem`.
    """

    image_size: int = 224
    patch_size: int = 32
    num_channels: int = 3
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    activation: str = "quick_gelu"
    eps: float = 1e-5
    stem: str = "patches"

    def __post_init__(self) -> None:
        require_divisible(image_size=self.image_size, patch_size=self.patch_size)
        if self.stem not in ("patches", "convolutions"):
            raise ValueError(f"stem={self.stem!r}, expected 'patches' or 'convolutions'")


@dataclass(frozen=True)
class CLIPTextConfig:
    """The text tower. The defaults are those of the smaller published models (section 2.4).

    `pooling` says where a text's vector is read: at the "first_eos", or at the "highest_id" of the
    row, which is the same place when [EOS] is the last entry of the vocabulary.
    """

    vocab_size: int = 49408
    d_model: int = 512
    num_layers: int = 12
    num_heads: int = 8
    d_ff: int = 2048
    max_length: int = 77
    activation: str = "quick_gelu"
    eps: float = 1e-5
    eos_token_id: int = 49407
    pooling: str = "first_eos"

    def __post_init__(self) -> None:
        if self.pooling not in ("first_eos", "highest_id"):
            raise ValueError(f"pooling={self.pooling!r}, expected 'first_eos' or 'highest_id'")


@dataclass(frozen=True)
class CLIPConfig:
    """Both towers and what joins them. The defaults are ViT-B/32.

    `vision` and `text` may be given as mappings of their fields, as a JSON file holds them.
    """

    vision: CLIPVisionConfig = CLIPVisionConfig()
    text: CLIPTextConfig = CLIPTextConfig()
    projection_dim: int = 512
    temperature: float = 0.07

    def __post_init__(self) -> None:
        for name, kind in (("vision", CLIPVisionConfig), ("text", CLIPTextConfig)):
            if isinstance(value := getattr(self, name), Mapping):
                object.__setattr__(self, name, kind(**value))
        if not self.temperature > 0:
            raise ValueError(f"temperature={self.temperature} must be positive")

    @classmethod
    def base32(cls) -> CLIPConfig:
        """ViT-B/32, 151 M parameters."""
        return cls()

    @classmethod
    def base16(cls) -> CLIPConfig:
        """ViT-B/16, 150 M parameters."""
        return cls(vision=CLIPVisionConfig(patch_size=16))

    @classmethod
    def large14(cls) -> CLIPConfig:
        """ViT-L/14, 428 M parameters."""
        return cls(
            CLIPVisionConfig(patch_size=14, d_model=1024, num_layers=24, num_heads=16, d_ff=4096),
            CLIPTextConfig(d_model=768, num_heads=12, d_ff=3072),
            projection_dim=768,
        )

    @classmethod
    def from_hf(cls, config: Any) -> CLIPConfig:
        """Read a `transformers.CLIPConfig`.

        Its `eos_token_id` of 2 stands for the published models, whose [EOS] is the highest id.

        Raises:
            ValueError: dropout, images or patches that are not square, or several [EOS] ids.
        """
        vision, text = config.vision_config, config.text_config
        for name, part in (("vision", vision), ("text", text)):
            if part.attention_dropout:
                raise ValueError(
                    f"unsupported CLIP config: {name} attention_dropout={part.attention_dropout}, "
                    "expected 0"
                )
        whole = {"image_size": vision.image_size, "patch_size": vision.patch_size}
        for name, value in {**whole, "eos_token_id": text.eos_token_id}.items():
            if not isinstance(value, int):
                raise ValueError(f"unsupported CLIP config: {name}={value}, expected one number")
        return cls(
            CLIPVisionConfig(**whole, num_channels=vision.num_channels, **_tower(vision)),
            CLIPTextConfig(
                vocab_size=text.vocab_size,
                max_length=text.max_position_embeddings,
                eos_token_id=text.eos_token_id,
                pooling="highest_id" if text.eos_token_id == 2 else "first_eos",
                **_tower(text),
            ),
            projection_dim=config.projection_dim,
            temperature=math.exp(-config.logit_scale_init_value),
        )


@dataclass
class CLIPOutput:
    """What the model returns. `loss` is None unless it was asked for."""

    logits_per_image: Tensor  # (images, texts): cosines divided by the temperature
    logits_per_text: Tensor  # (texts, images): its transpose
    image_embeds: Tensor  # (images, projection_dim), rows of length 1
    text_embeds: Tensor  # (texts, projection_dim), rows of length 1
    loss: Tensor | None = None


class ConvolutionalStem(nn.Module):
    """Patches that overlap: convolutions of 3×3 with stride 2, each halving the image.

    Takes the place of `PatchEmbedding`, and gives as many tokens. Source: Xiao et al., "Early
    Convolutions Help Transformers See Better" (2021), section 3; without their BatchNorm, so that
    the tokens of one image do not depend on the batch.

    Args:
        patch_size: by how much the image shrinks, a power of two.
        d_model: width of a token.
        num_channels: of the image.

    Raises:
        ValueError: a patch size that is no power of two.
    """

    def __init__(self, patch_size: int, d_model: int, num_channels: int = 3):
        super().__init__()
        halvings = patch_size.bit_length() - 1
        if patch_size < 2 or patch_size != 2**halvings:
            raise ValueError(f"patch_size={patch_size} must be a power of two, at least 2")
        self.patch_size = patch_size
        widths = [num_channels, *(d_model >> (halvings - 1 - i) for i in range(halvings))]
        layers: list[nn.Module] = []
        for before, after in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Conv2d(d_model, d_model, 1))

    def forward(self, pixel_values: Tensor) -> Tensor:
        """pixel_values (batch, channels, height, width) -> (batch, patches, d_model).

        Raises:
            ValueError: a side that the patch size does not divide.
        """
        for name, size in zip(("height", "width"), pixel_values.shape[-2:], strict=True):
            require_divisible(**{name: size, "patch_size": self.patch_size})
        return self.layers(pixel_values).flatten(2).transpose(1, 2)


class CLIPVisionTower(nn.Module):
    """A ViT with one more LayerNorm in front of its blocks; the class token is the image."""

    def __init__(self, c: CLIPVisionConfig):
        super().__init__()
        self.config = c
        if c.stem == "patches":
            self.patches = PatchEmbedding(c.patch_size, c.d_model, c.num_channels)
            self.patches.projection.bias = None  # the LayerNorm that follows makes it needless
        else:
            self.patches = ConvolutionalStem(c.patch_size, c.d_model, c.num_channels)
        self.class_token = nn.Parameter(torch.empty(c.d_model))
        self.positions = LearnedPositions(1 + (c.image_size // c.patch_size) ** 2, c.d_model)
        self.pre_norm = nn.LayerNorm(c.d_model, c.eps)
        self.layers = _blocks(c)
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        for parameter in (self.class_token, self.positions.weight):
            nn.init.normal_(parameter, std=c.d_model**-0.5)

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """(batch, channels, height, width) -> the images' vectors (batch, d_model)."""
        c, (height, width) = self.config, pixel_values.shape[-2:]
        if not interpolate_pos_encoding and (height, width) != (c.image_size, c.image_size):
            raise ValueError(
                f"pixel_values are {height}×{width}, expected {c.image_size}×{c.image_size}; "
                "pass interpolate_pos_encoding=True to stretch the position embeddings"
            )
        x = self.patches(pixel_values)
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)
        rows, columns = height // c.patch_size, width // c.patch_size
        grid = interpolate_positions(self.positions.weight[None, 1:], rows, columns)
        x = self.pre_norm(x + torch.cat([self.positions.weight[None, :1], grid], dim=1))
        for layer in self.layers:
            x = layer(x)
        return self.norm(x[:, 0])


class CLIPTextTower(nn.Module):
    """A causal Transformer. Only [EOS] sees the whole text: the text's vector is read there."""

    def __init__(self, c: CLIPTextConfig):
        super().__init__()
        self.config = c
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        self.positions = LearnedPositions(c.max_length, c.d_model)
        self.layers = _blocks(c)
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        nn.init.normal_(self.embedding.weight, std=0.02)
        nn.init.normal_(self.positions.weight, std=0.01)

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """(batch, length) -> the texts' vectors (batch, d_model)."""
        require_ids("input_ids", input_ids, self.config.vocab_size)
        mask = causal_mask(input_ids.shape[-1], device=input_ids.device)
        if attention_mask is not None:
            mask = mask & padding_mask(attention_mask)  # (batch, 1, length, length)
        x = self.positions(self.embedding(input_ids))
        for layer in self.layers:
            x = layer(x, mask)
        ends = self._ends(input_ids)
        return self.norm(x)[torch.arange(len(x), device=x.device), ends]

    def _ends(self, input_ids: Tensor) -> Tensor:
        """The position (batch,) at which each text's vector is read."""
        if self.config.pooling == "highest_id":
            return input_ids.argmax(dim=-1)
        is_eos = input_ids == self.config.eos_token_id
        if is_eos.device.type == "cpu" and not is_eos.any(dim=-1).all():
            row = int(is_eos.any(dim=-1).long().argmin())
            raise ValueError(
                f"row {row} of input_ids has no [EOS] (id {self.config.eos_token_id}), expected "
                "one: the text's vector is read there"
            )
        return is_eos.int().argmax(dim=-1)


class CLIP(nn.Module):
    """Both towers, a projection of each into the shared space, and the temperature."""

    hf_rules = [
        (r"^text_model\.", "text."),
        (r"^vision_model\.", "vision."),
        (r"embeddings\.token_embedding\.", "embedding."),
        (r"embeddings\.position_embedding\.", "positions."),
        (r"embeddings\.patch_embedding\.", "patches.projection."),
        (r"embeddings\.class_embedding", "class_token"),
        (r"encoder\.layers\.", "layers."),
        (r"self_attn\.([qkv])_proj", r"attention.\1"),
        (r"self_attn\.out_proj", "attention.out"),
        (r"mlp\.fc1", "feed_forward.up"),
        (r"mlp\.fc2", "feed_forward.down"),
        (r"layer_norm([12])", r"residual\1.norm"),
        (r"pre_layrnorm", "pre_norm"),  # their spelling
        (r"(final_layer_norm|post_layernorm)", "norm"),
        (r"^visual_projection", "image_projection"),
    ]
    hf_skip = [r"embeddings\.position_ids$"]  # older files store them

    def __init__(self, config: CLIPConfig):
        super().__init__()
        self.config = c = config
        self.vision = CLIPVisionTower(c.vision)
        self.text = CLIPTextTower(c.text)
        self.image_projection = nn.Linear(c.vision.d_model, c.projection_dim, bias=False)
        self.text_projection = nn.Linear(c.text.d_model, c.projection_dim, bias=False)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / c.temperature)))
        for projection in (self.image_projection, self.text_projection):
            nn.init.normal_(projection.weight, std=projection.in_features**-0.5)

    @property
    def temperature(self) -> float:
        """What the cosines are divided by."""
        return math.exp(-self.logit_scale.item())

    @torch.no_grad()
    def limit_temperature(self) -> None:
        """Bring the temperature back to 0.01 if a training step took it below (section 2.5)."""
        self.logit_scale.clamp_(max=math.log(MAX_SCALE))

    def embed_images(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """Images -> (batch, projection_dim), rows of length 1.

        Args:
            pixel_values: (batch, channels, height, width), normalised as in training; see
                `zoo_lessons.images`.
            interpolate_pos_encoding: accept another image size, by stretching the positions.

        Raises:
            ValueError: another size without that, or sides that the patch size does not divide.
        """
        pooled = self.vision(pixel_values, interpolate_pos_encoding)
        return F.normalize(self.image_projection(pooled), dim=-1)

    def embed_texts(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Texts -> (batch, projection_dim), rows of length 1.

        Args:
            input_ids: (batch, length), each row with an [EOS].
            attention_mask: 0/1 (batch, length). Padding after [EOS] changes nothing: the mask is
                causal, and the vector is read at [EOS].

        Raises:
            ValueError: a row without [EOS], more positions than `max_length`, ids outside the
                vocabulary.
        """
        return F.normalize(self.text_projection(self.text(input_ids, attention_mask)), dim=-1)

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None = None,
        *,
        return_loss: bool = False,
        interpolate_pos_encoding: bool = False,
    ) -> CLIPOutput:
        """Compare every image with every text; their numbers may differ.

        With `return_loss`, text i must belong to image i, and there are as many of either. For
        batches with equal captions see `zoo_lessons.contrastive.contrastive_loss`.

        Raises:
            ValueError: as `embed_images` and `embed_texts`.
        """
        image_embeds = self.embed_images(pixel_values, interpolate_pos_encoding)
        text_embeds = self.embed_texts(input_ids, attention_mask)
        logits_per_image = self.logit_scale.exp() * image_embeds @ text_embeds.T
        loss = matching_loss(logits_per_image) if return_loss else None
        return CLIPOutput(logits_per_image, logits_per_image.T, image_embeds, text_embeds, loss)


def _blocks(c: CLIPVisionConfig | CLIPTextConfig) -> nn.ModuleList:
    """The blocks of one tower, with the first weights of the published text tower."""
    blocks = nn.ModuleList(
        EncoderBlock(c.d_model, c.num_heads, c.d_ff, norm="pre", activation=c.activation, eps=c.eps)
        for _ in range(c.num_layers)
    )
    deep = (2 * c.num_layers) ** -0.5  # two sub-blocks per layer add to the same sum
    for block in blocks:
        attention, feed_forward = block.attention, block.feed_forward
        for linear, std in (
            (attention.qkv, c.d_model**-0.5),
            (attention.out, c.d_model**-0.5 * deep),
            (feed_forward.up, (2 * c.d_model) ** -0.5),
            (feed_forward.down, c.d_model**-0.5 * deep),
        ):
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
    return blocks


def _tower(config: Any) -> dict[str, Any]:
    """What both of transformers' configs call alike."""
    return {
        "d_model": config.hidden_size,
        "num_layers": config.num_hidden_layers,
        "num_heads": config.num_attention_heads,
        "d_ff": config.intermediate_size,
        "activation": config.hidden_act,
        "eps": config.layer_norm_eps,
    }
