"""Flamingo: Alayrac et al., "Flamingo: a Visual Language Model for Few-Shot Learning" (2022).

A vision encoder and a language model, both trained before and both frozen, are joined by new
layers. A resampler turns the patches of each image into a few latents (appendix A.1.1); before
every n-th block of the language model, a gated block lets the text attend to the latents of the
last image before it (sections 2.2 and 2.3). Images and text may take turns in any order.

| | paper | this file | Idefics in `transformers` |
|---|---|---|---|
| vision encoder | NFNet-F6, trained as CLIP is; frozen | ViT or CLIP's tower, frozen | CLIP's ViT |
| language model | Chinchilla, frozen | GPT (lesson 06), frozen | LLaMA |
| patches and latents before attention | not spelled out | a LayerNorm each | the same |
| resampler's activation | squared ReLU | the same, or another | ReLU |
| LayerNorm after the resampler | not shown | yes | yes |
| frame embeddings | one for each of 8 frames | `max_frames` of them, 0 = none | none |
| gated block's feed-forward | squared ReLU | the same, or another; `glu` | SwiGLU |
| gated block's norms | not spelled out | LayerNorm, or `norm="rms"` | RMSNorm |
| norms on each head's q and k | none | `qk_norm`, off by default | an option |
| gates | one number each | the same, or `gate="channel"` | either |
| biases of the new linear layers | not spelled out | none | none |
| a word before the first image | attention adds zero | the same | the same |

The options that only Idefics uses belong to the two layers. `Flamingo` builds them as in the paper.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import DotProductAttention, MultiHeadAttention
from zoo_lessons.layers.blocks import ACTIVATIONS
from zoo_lessons.layers.cache import KeyValueCache
from zoo_lessons.layers.checks import require_ids, require_width
from zoo_lessons.models.clip import CLIPVisionConfig, CLIPVisionTower
from zoo_lessons.models.gpt import GPT, GPTConfig
from zoo_lessons.models.vit import ViT, ViTConfig

Gate = Literal["scalar", "channel"]
NormName = Literal["layer", "rms"]
NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}


def squared_relu(x: Tensor) -> Tensor:
    """max(0, x)²: So et al., "Primer: Searching for Efficient Transformers" (2021)."""
    return F.relu(x).square()


# --- frozen means frozen -------------------------------------------------------------------------


def freeze(module: nn.Module) -> nn.Module:
    """Stop training a module: no gradients, and evaluation mode. Returns the same module.

    Both are needed. Without the first, the optimizer moves its weights; without the second, dropout
    disturbs its output and BatchNorm's running statistics follow the new data.
    """
    return module.requires_grad_(False).eval()


def fingerprint(module: nn.Module) -> str:
    """sha256 over the bytes of every parameter and buffer: one changed bit gives another one."""
    digest = hashlib.sha256()
    for name, value in module.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


# --- which image a word sees ---------------------------------------------------------------------


def image_mask(
    is_image: Tensor,
    num_images: int,
    *,
    images_before: Tensor | None = None,
    all_previous: bool = False,
) -> Tensor:
    """Which images each position may attend to (section 2.3).

    An <image> token already sees its own image. A word before the first image sees none.

    Args:
        is_image: Boolean (batch, length), True at <image> tokens.
        num_images: images per row. A row with fewer <image> tokens leaves the last ones unseen.
        images_before: (batch,), how many <image> tokens stood before this stretch of text; none by
            default.
        all_previous: see all images so far instead of the last one only.

    Returns:
        Boolean (batch, length, num_images).

    Raises:
        TypeError: `is_image` is not Boolean.
        ValueError: more <image> tokens than images.
    """
    if is_image.dtype != torch.bool or is_image.ndim != 2:
        raise TypeError(
            f"is_image is {is_image.dtype} {tuple(is_image.shape)}, expected torch.bool "
            "(batch, length)"
        )
    last = is_image.cumsum(dim=1)  # (batch, length): 0 before the first image, then 1, 2, ...
    if images_before is not None:
        last = last + images_before[:, None]
    if last.numel() and int(last.max()) > num_images:
        raise ValueError(
            f"the text has {int(last.max())} <image> tokens, expected at most one for each of the "
            f"{num_images} images"
        )
    image = torch.arange(1, num_images + 1, device=is_image.device)
    return image <= last[..., None] if all_previous else image == last[..., None]


# --- the vision encoder --------------------------------------------------------------------------


class CLIPPatches(CLIPVisionTower):
    """CLIP's image tower (lesson 12), which returns all tokens instead of the image's vector."""

    def forward(self, pixel_values: Tensor, interpolate_pos_encoding: bool = False) -> Tensor:
        """(batch, channels, height, width) -> (batch, 1 + patches, d_model), class token first."""
        tokens: list[Tensor] = []
        hook = self.layers[-1].register_forward_hook(lambda _block, _in, out: tokens.append(out))
        try:
            super().forward(pixel_values, interpolate_pos_encoding)
        finally:
            hook.remove()
        return self.norm(tokens[0])


def patch_vectors(vision: ViT | CLIPPatches, pixel_values: Tensor) -> Tensor:
    """What the resampler reads: (batch, channels, height, width) -> (batch, tokens, d_model)."""
    out = vision(pixel_values)
    return out if isinstance(out, Tensor) else out.last_hidden_state


# --- the new layers ------------------------------------------------------------------------------


class NormedAttention(DotProductAttention):
    """Attention whose q and k first pass a norm over the width of one head, as Idefics can."""

    def __init__(self, head_dim: int, norm: NormName, eps: float):
        super().__init__()
        self.q_norm = NORMS[norm](head_dim, eps)
        self.k_norm = NORMS[norm](head_dim, eps)

    def forward(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        mask: Tensor | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """q (batch, heads, queries, head_dim), k and v with keys instead -> the shape of q."""
        return super().forward(self.q_norm(q), self.k_norm(k), v, mask, bias)


class BiasFreeFeedForward(nn.Module):
    """Two linear layers without bias and an activation between.

    With `glu`, a third layer's output passes the activation and multiplies the first one's
    (Shazeer, "GLU Variants Improve Transformer", 2020); with "silu" this is SwiGLU.

    Raises:
        ValueError: an unknown activation.
    """

    def __init__(self, d_model: int, d_ff: int, activation: str, glu: bool = False):
        super().__init__()
        activations = {**ACTIVATIONS, "squared_relu": squared_relu}
        if activation not in activations:
            raise ValueError(
                f"activation {activation!r} is unknown, expected one of {', '.join(activations)}"
            )
        self.activation = activations[activation]
        self.gate = nn.Linear(d_model, d_ff, bias=False) if glu else None
        self.up = nn.Linear(d_model, d_ff, bias=False)
        self.down = nn.Linear(d_ff, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (..., d_model) -> the same shape."""
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))


class ResamplerBlock(nn.Module):
    """The latents attend to patches and latents, then pass a feed-forward layer."""

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        head_dim: int | None,
        activation: str,
        qk_norm: bool,
        eps: float,
    ):
        super().__init__()
        self.patches_norm = nn.LayerNorm(d_model, eps)
        self.latents_norm = nn.LayerNorm(d_model, eps)
        self.attention = MultiHeadAttention(
            d_model, num_heads, d_memory=d_model, head_dim=head_dim, bias=False
        )
        if qk_norm:
            self.attention.attention = NormedAttention(self.attention.head_dim, "layer", eps)
        self.feed_forward_norm = nn.LayerNorm(d_model, eps)
        self.feed_forward = BiasFreeFeedForward(d_model, d_ff, activation)

    def forward(self, patches: Tensor, latents: Tensor) -> Tensor:
        """patches (batch, patches, d_model), latents (batch, num_latents, d_model) -> latents."""
        x = self.latents_norm(latents)
        keys = torch.cat([self.patches_norm(patches), x], dim=1)  # the latents are keys, too
        latents = latents + self.attention(x, keys)
        return latents + self.feed_forward(self.feed_forward_norm(latents))


class PerceiverResampler(nn.Module):
    """Any number of patches in, a fixed number of latents out (appendix A.1.1).

    Args:
        d_model: width of patches and latents.
        num_heads, num_layers, num_latents: sizes.
        head_dim: width of one head, d_model / num_heads by default.
        d_ff: width of the feed-forward layers, 4 · d_model by default.
        activation: "squared_relu" or a key of `layers.blocks.ACTIVATIONS`.
        max_frames: how many frame embeddings to learn; 0 has none, and takes single images only.
        qk_norm: LayerNorm over each head's q and k.
        eps: LayerNorm's epsilon.
    """

    hf_rules = [
        (r"\.0\.context_layer_norm", ".patches_norm"),
        (r"\.0\.latents_layer_norm", ".latents_norm"),
        (r"\.0\.([qk])_layer_norm", r".attention.attention.\1_norm"),
        (r"\.0\.([qkv])_proj", r".attention.\1"),
        (r"\.0\.output_proj", ".attention.out"),
        (r"\.1\.ln", ".feed_forward_norm"),
        (r"\.1\.fc", ".feed_forward.up"),
        (r"\.1\.c_proj", ".feed_forward.down"),
        (r"^layer_norm", "norm"),
    ]
    hf_skip: list[str] = []

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        num_layers: int,
        num_latents: int,
        *,
        head_dim: int | None = None,
        d_ff: int | None = None,
        activation: str = "squared_relu",
        max_frames: int = 0,
        qk_norm: bool = False,
        eps: float = 1e-5,
    ):
        super().__init__()
        self.d_model, self.max_frames = d_model, max_frames
        self.latents = nn.Parameter(0.02 * torch.randn(num_latents, d_model))
        self.frames = (
            nn.Parameter(0.02 * torch.randn(max_frames, 1, d_model)) if max_frames else None
        )
        self.blocks = nn.ModuleList(
            ResamplerBlock(
                d_model,
                num_heads,
                d_ff or 4 * d_model,
                head_dim=head_dim,
                activation=activation,
                qk_norm=qk_norm,
                eps=eps,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model, eps)

    def forward(self, patches: Tensor) -> Tensor:
        """Resample.

        Args:
            patches: of images (batch, patches, d_model), or of videos (batch, frames, patches,
                d_model). An image is a video of one frame.

        Returns:
            (batch, num_latents, d_model).

        Raises:
            ValueError: another width, or more frames than there are embeddings for.
        """
        if patches.ndim == 3:
            patches = patches[:, None]
        require_width("patches", patches, self.d_model, "batch, frames, patches, d_model")
        frames = patches.shape[1]
        if frames > max(self.max_frames, 1):
            raise ValueError(
                f"got {frames} frames, expected at most {max(self.max_frames, 1)} "
                f"(max_frames={self.max_frames})"
            )
        if self.frames is not None:
            patches = patches + self.frames[:frames]  # one vector for all patches of a frame
        patches = patches.flatten(1, 2)  # (batch, frames * patches, d_model)
        latents = self.latents.expand(len(patches), -1, -1)
        for block in self.blocks:
            latents = block(patches, latents)
        return self.norm(latents)


class GatedCrossAttention(nn.Module):
    """Cross-attention and feed-forward, each behind a tanh gate that starts at zero (figure 4).

    With both gates at zero the block returns its input, bit for bit.

    Args:
        d_model, num_heads, d_ff: sizes.
        d_latents: width of the latents.
        activation, glu: of the feed-forward layer.
        norm: "layer" or "rms", before each of the two.
        qk_norm: that norm over each head's q and k, too.
        gate: "scalar", or "channel" for one gate for each of the d_model channels.
        eps: the norms' epsilon.

    Raises:
        ValueError: an unknown norm, gate or activation.
    """

    hf_rules = [
        (r"^alpha_cross_attn", "attention_gate"),
        (r"^alpha_dense", "feed_forward_gate"),
        (r"^input_layernorm", "norm1"),
        (r"^post_attention_layernorm", "norm2"),
        (r"^cross_attn\.([qk])_layer_norm", r"attention.attention.\1_norm"),
        (r"^cross_attn\.([qkv])_proj", r"attention.\1"),
        (r"^cross_attn\.o_proj", "attention.out"),
        (r"^mlp\.(gate|up|down)_proj", r"feed_forward.\1"),
    ]
    hf_skip: list[str] = []

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        d_latents: int,
        *,
        activation: str = "squared_relu",
        glu: bool = False,
        norm: NormName = "layer",
        qk_norm: bool = False,
        gate: Gate = "scalar",
        eps: float = 1e-5,
    ):
        super().__init__()
        if norm not in NORMS:
            raise ValueError(f"norm={norm!r}, expected one of {', '.join(map(repr, NORMS))}")
        if gate not in ("scalar", "channel"):
            raise ValueError(f"gate={gate!r}, expected 'scalar' or 'channel'")
        shape = (1,) if gate == "scalar" else (1, 1, d_model)
        self.norm1 = NORMS[norm](d_model, eps)
        self.attention = MultiHeadAttention(d_model, num_heads, d_memory=d_latents, bias=False)
        if qk_norm:
            self.attention.attention = NormedAttention(self.attention.head_dim, norm, eps)
        self.attention_gate = nn.Parameter(torch.zeros(shape))
        self.norm2 = NORMS[norm](d_model, eps)
        self.feed_forward = BiasFreeFeedForward(d_model, d_ff, activation, glu)
        self.feed_forward_gate = nn.Parameter(torch.zeros(shape))

    def forward(self, x: Tensor, latents: Tensor, mask: Tensor | None = None) -> Tensor:
        """Add what the images say to the text.

        Args:
            x: text (batch, length, d_model).
            latents: of all images, one after the other: (batch, images * num_latents, d_latents).
            mask: Boolean, broadcastable to (batch, heads, length, images * num_latents). Attention
                adds zero to a position that may see nothing.

        Returns:
            (batch, length, d_model).
        """
        seen = self.attention(self.norm1(x), latents, mask=mask)
        x = x + self.attention_gate.tanh() * seen
        return x + self.feed_forward_gate.tanh() * self.feed_forward(self.norm2(x))


# --- the model -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class FlamingoConfig:
    """Sizes and choices. The new layers' defaults are those of Flamingo-3B.

    Attributes:
        image_token_id: the token of the language model that marks an image's place in the text.
            It has no default: 0 is padding in most vocabularies.
        vision: of the vision encoder, a ViT or CLIP's image tower; its width is the resampler's.
        language: of the language model.
        every: a gated block stands before the blocks 0, every, 2 · every, ...

    Raises:
        ValueError: an image token outside the vocabulary, or `every` below 1.
    """

    image_token_id: int
    vision: ViTConfig | CLIPVisionConfig = field(default_factory=lambda: ViTConfig(num_labels=0))
    language: GPTConfig = field(default_factory=GPTConfig)
    every: int = 1
    num_latents: int = 64
    resampler_layers: int = 6
    resampler_heads: int = 16
    max_frames: int = 8
    cross_heads: int = 16
    activation: str = "squared_relu"
    all_previous: bool = False

    def __post_init__(self) -> None:
        # As a checkpoint's config.json has them; only CLIP's tower has a choice of stems.
        if isinstance(vision := self.vision, dict):
            kind = CLIPVisionConfig if "stem" in vision else ViTConfig
            object.__setattr__(self, "vision", kind(**vision))
        if isinstance(self.language, dict):
            object.__setattr__(self, "language", GPTConfig(**self.language))
        if not 0 <= self.image_token_id < self.language.vocab_size:
            raise ValueError(
                f"image_token_id={self.image_token_id}, expected 0 to "
                f"{self.language.vocab_size - 1}: a token that the language model has"
            )
        if self.every < 1:
            raise ValueError(f"every={self.every}, expected at least 1")

    @property
    def num_layers(self) -> int:
        """Layers of the language model: what a key-value cache needs to know."""
        return self.language.num_layers


@dataclass
class FlamingoOutput:
    """What one pass returns."""

    logits: Tensor  # (batch, length, vocab_size)
    last_hidden_state: Tensor  # (batch, length, d_model)
    image_latents: Tensor  # (batch, images, num_latents, vision.d_model)


class Flamingo(nn.Module):
    """Images and text in turns -> the next token.

    Vision encoder and language model are frozen; the resampler and the gated blocks are trained.
    """

    def __init__(self, config: FlamingoConfig):
        super().__init__()
        self.config = c = config
        encoder = ViT if isinstance(c.vision, ViTConfig) else CLIPPatches
        self.vision = freeze(encoder(c.vision))
        self.language = freeze(GPT(c.language))
        self.resampler = PerceiverResampler(
            c.vision.d_model,
            c.resampler_heads,
            c.resampler_layers,
            c.num_latents,
            activation=c.activation,
            max_frames=c.max_frames,
        )
        self.gated = nn.ModuleList(
            GatedCrossAttention(
                c.language.d_model,
                c.cross_heads,
                4 * c.language.d_model,
                c.vision.d_model,
                activation=c.activation,
            )
            for _ in range(0, c.language.num_layers, c.every)
        )

    @classmethod
    def from_pretrained_parts(
        cls, vision: ViT | CLIPVisionTower, language: GPT, *, image_token_id: int, **options: Any
    ) -> Flamingo:
        """Join a trained vision encoder and a trained language model. Both are copied.

        Args:
            vision: a ViT, whose classifier stays unused, or the `vision` of a CLIP.
            language: its vocabulary has the image token.
            image_token_id: as in `FlamingoConfig`.
            options: the other fields of `FlamingoConfig`.
        """
        config = FlamingoConfig(image_token_id, vision.config, language.config, **options)
        model = cls(config)
        model.vision.load_state_dict(vision.state_dict())
        model.language.load_state_dict(language.state_dict())
        return model

    def train(self, mode: bool = True) -> Flamingo:
        """Training mode for the new layers. What is frozen stays in evaluation mode."""
        super().train(mode)
        for part in (self.vision, self.language):
            if not any(parameter.requires_grad for parameter in part.parameters()):
                part.eval()
        return self

    def encode_images(self, pixel_values: Tensor) -> Tensor:
        """The latents of each image.

        Args:
            pixel_values: images (batch, images, channels, height, width), or videos (batch, images,
                frames, channels, height, width).

        Returns:
            (batch, images, num_latents, vision.d_model).

        Raises:
            ValueError: another number of axes.
        """
        if pixel_values.ndim == 5:
            pixel_values = pixel_values[:, :, None]
        if pixel_values.ndim != 6:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, expected (batch, images, "
                "channels, height, width), or with frames before the channels"
            )
        batch, images, frames = pixel_values.shape[:3]
        patches = patch_vectors(self.vision, pixel_values.flatten(0, 2))
        patches = patches.unflatten(0, (batch * images, frames))
        return self.resampler(patches).unflatten(0, (batch, images))

    def forward(
        self,
        input_ids: Tensor,
        pixel_values: Tensor | None = None,
        attention_mask: Tensor | None = None,
        *,
        image_latents: Tensor | None = None,
        images_before: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> FlamingoOutput:
        """Logits for the token after each one in `input_ids`.

        Args:
            input_ids: (batch, length), with an image token where each image stands; with a cache,
                only the tokens that it does not hold yet.
            pixel_values: as for `encode_images`, in the order of the image tokens. A row with fewer
                images than others is filled up at its end with any image: nothing sees it.
            attention_mask, position_ids, cache: as for `GPT`.
            image_latents: what `encode_images` gave, instead of `pixel_values`.
            images_before: (batch,), with a cache: how many image tokens it holds.

        Raises:
            ValueError: more image tokens than images, both kinds of image input, or what `GPT`
                does not take.
        """
        c = self.config
        require_ids("input_ids", input_ids, c.language.vocab_size)
        if pixel_values is not None and image_latents is not None:
            raise ValueError("got pixel_values and image_latents, expected one of them")
        if pixel_values is not None:
            image_latents = self.encode_images(pixel_values)
        if image_latents is None:  # text alone
            image_latents = self.resampler.latents.new_zeros(
                len(input_ids), 0, c.num_latents, c.vision.d_model
            )
        mask = image_mask(
            input_ids == c.image_token_id,
            image_latents.shape[1],
            images_before=images_before,
            all_previous=c.all_previous,
        )  # (batch, length, images)
        mask = mask.repeat_interleave(c.num_latents, dim=-1)[:, None]
        with self._gated_blocks(image_latents.flatten(1, 2), mask):
            out = self.language(input_ids, attention_mask, position_ids=position_ids, cache=cache)
        return FlamingoOutput(out.logits, out.last_hidden_state, image_latents)

    def with_images(self, pixel_values: Tensor) -> WithImages:
        """A model of text alone that sees these images: what `generation` works with.

        Example: `generate(model.with_images(pixel_values), input_ids, max_new_tokens=5)`.
        """
        with torch.no_grad():
            return WithImages(self, self.encode_images(pixel_values))

    @contextmanager
    def _gated_blocks(self, latents: Tensor, mask: Tensor) -> Iterator[None]:
        """Inside the `with` block, the language model's blocks get what the gated blocks return.

        The hooks leave the language model's code and its weights' names as they are.
        """

        def before(gated: GatedCrossAttention):
            return lambda _block, inputs: (gated(inputs[0], latents, mask), *inputs[1:])

        blocks = self.language.layers[:: self.config.every]
        handles = [
            block.register_forward_pre_hook(before(gated))
            for block, gated in zip(blocks, self.gated, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


class WithImages:
    """Flamingo with its images read once, called with text alone as `generation` calls a model.

    It remembers how many image tokens the cache holds. It never proposes an image token, since
    there would be no image for it. Made by `Flamingo.with_images`.
    """

    def __init__(self, model: Flamingo, image_latents: Tensor):
        self.model, self.config = model, model.config
        self.image_latents = image_latents  # (batch, images, num_latents, width)
        self.images_before: Tensor | None = None

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> FlamingoOutput:
        """As `Flamingo.forward`; one row of images serves all rows of text (beam search).

        Raises:
            ValueError: the rows of images are neither 1 nor as many as those of text.
        """
        rows, images = len(input_ids), self.image_latents
        if len(images) not in (1, rows):
            raise ValueError(
                f"got images for {len(images)} rows and text for {rows}, expected as many rows, or "
                "images for 1"
            )
        fresh = cache is None or cache.length == 0
        before = input_ids.new_zeros(rows) if fresh else self.images_before.expand(rows)
        out = self.model(
            input_ids,
            attention_mask=attention_mask,
            image_latents=images.expand(rows, -1, -1, -1),
            images_before=before,
            position_ids=position_ids,
            cache=cache,
        )
        new = (input_ids == self.config.image_token_id).sum(dim=1)
        if fresh or new.any():  # a beam search's rows come and go, but bring no image tokens
            self.images_before = before + new
        out.logits[..., self.config.image_token_id] = -torch.inf
        return out
