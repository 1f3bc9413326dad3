"""CLIP, BLIP and Flamingo's new layers beside those of `transformers`; see `beside_transformers`.

- No text of BLIP's is padded here: in `transformers` its cross-attention does not see the mask,
  which the parity tests show and repair.
- BLIP's parameters are those of its size for images of 384 × 384. It is timed with the images of
  its pre-training (Li et al. 2022, section 4.1), 224 × 224: larger ones take several times as long.
- `transformers` has no Flamingo, but Idefics, which rebuilds it with other parts around the same
  two new layers. These are compared as Idefics has them. Its RMSNorm works in float32, whatever the
  dtype: the gated block's difference in float64 is float32's rounding. The parity tests lift that.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.models.idefics import modeling_idefics, perceiver

from experiments.beside_transformers import (
    FEW_ROUNDS,
    LENGTH,
    SHARED,
    Entry,
    Part,
    PartOutput,
    table,
)
from zoo_lessons import models
from zoo_lessons.models import flamingo
from zoo_lessons.records import experiment
from zoo_lessons.weights import load_renamed

IMAGES = 2  # in one text that Flamingo reads


def pictures(config: Any, batch: int) -> Tensor:
    """Random pixels."""
    vision = config.vision_config
    channels = getattr(vision, "num_channels", 3)  # BLIP's has no such field
    return torch.randn(batch, channels, vision.image_size, vision.image_size)


def pairs(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Random images and texts; each text ends with [EOS], the last one earlier."""
    text = config.text_config
    input_ids = torch.randint(text.eos_token_id, (batch, length))
    input_ids[:, -1] = input_ids[-1, length // 2] = text.eos_token_id
    mask = torch.ones(batch, length, dtype=torch.long)
    mask[-1, length // 2 + 1 :] = 0
    return {
        "input_ids": input_ids,
        "attention_mask": mask,
        "pixel_values": pictures(config, batch),
    }


def captions(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Random images and texts without padding."""
    input_ids = torch.randint(config.text_config.vocab_size, (batch, length))
    return {"input_ids": input_ids, "pixel_values": pictures(config, batch)}


def answers(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Random images and questions, and answers that are half as long."""
    answer = torch.randint(config.text_config.vocab_size, (batch, length // 2))
    return {
        **captions(config, batch, length),
        "decoder_input_ids": answer,
        "labels": answer,
    }


CLIP_SMALL = transformers.CLIPConfig(
    vision_config={
        "image_size": 20,
        "patch_size": 5,
        "num_channels": 2,
        "hidden_size": 24,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "intermediate_size": 40,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-4,
    },
    text_config={
        "vocab_size": 61,
        "hidden_size": 20,
        "num_hidden_layers": 2,
        "num_attention_heads": 5,
        "intermediate_size": 36,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-3,
        "max_position_embeddings": 17,
        "eos_token_id": 57,
        "bos_token_id": 1,
        "pad_token_id": 0,
    },
    projection_dim=16,
    logit_scale_init_value=1.5,
)


def blip_small(hidden_size: int) -> transformers.BlipConfig:
    return transformers.BlipConfig(
        text_config={
            "vocab_size": 61,
            "hidden_size": hidden_size,
            "intermediate_size": 44,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "max_position_embeddings": 17,
            "hidden_act": "silu",
            "layer_norm_eps": 1e-4,
            "bos_token_id": 60,
            "pad_token_id": 3,
            "sep_token_id": 5,
            "eos_token_id": 7,
            "label_smoothing": 0.2,
        },
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 40,
            "num_hidden_layers": 2,
            "num_attention_heads": 8,
            "image_size": 20,
            "patch_size": 5,
            "hidden_act": "relu",
            "layer_norm_eps": 1e-3,
        },
        image_text_hidden_size=10,
    )


def blip(model: str, class_name: str, fields: tuple[str, ...], inputs: Any, width: int) -> Entry:
    """BLIP with a ViT-B/16; the classes have the same names on both sides."""
    return Entry(
        model,
        ours=getattr(models, class_name),
        config=models.BlipConfig.base(),
        theirs=getattr(transformers, class_name),
        small=blip_small(width),
        published=transformers.BlipConfig(),
        inputs=inputs,
        fields=fields,
        count="",
        source="Li et al. (2022) give no count",
        scale=0.3,
        timed=transformers.BlipConfig(vision_config={"image_size": 224}),
        timed_with="images of 224×224",
        rounds=FEW_ROUNDS,
    )


class TheirResampler(Part):
    """Idefics' resampler. Its attention is made of single products, not fused."""

    classes = (
        perceiver.IdeficsPerceiverResampler,
        perceiver.IdeficsPerceiverAttention,
        perceiver.IdeficsMLP,
    )

    def __init__(self, c: transformers.IdeficsConfig):
        p = c.perceiver_config
        super().__init__(
            c,
            self.classes[0](
                c,
                c.vision_config.embed_dim,
                p.resampler_depth,
                p.resampler_n_heads,
                p.resampler_head_dim,
                p.resampler_n_latents,
            ),
        )

    def forward(self, patches: Tensor) -> PartOutput:
        return PartOutput(self.part(patches))


class OurResampler(Part):
    classes = (
        flamingo.PerceiverResampler,
        flamingo.ResamplerBlock,
        flamingo.NormedAttention,
        flamingo.BiasFreeFeedForward,
    )

    def __init__(self, c: transformers.IdeficsConfig):
        p = c.perceiver_config
        super().__init__(
            c,
            self.classes[0](
                c.vision_config.embed_dim,
                p.resampler_n_heads,
                p.resampler_depth,
                p.resampler_n_latents,
                head_dim=p.resampler_head_dim,
                activation="relu",
                qk_norm=p.qk_layer_norms_perceiver,
            ),
        )

    def forward(self, patches: Tensor) -> PartOutput:
        return PartOutput(self.part(patches))


class TheirGatedBlock(Part):
    classes = (
        modeling_idefics.IdeficsGatedCrossAttentionLayer,
        modeling_idefics.IdeficsAttention,
        modeling_idefics.IdeficsMLP,
        modeling_idefics.IdeficsRMSNorm,
    )

    def __init__(self, c: transformers.IdeficsConfig):
        super().__init__(c, self.classes[0](c, layer_idx=0))

    def forward(
        self, x: Tensor, latents: Tensor, mask: Tensor, scores: Tensor, seen: Tensor
    ) -> PartOutput:
        x = self.part(
            x,
            image_hidden_states=latents,
            image_attention_mask=scores,
            cross_attention_gate=seen,
        )
        return PartOutput(x)


class OurGatedBlock(Part):
    classes = (
        flamingo.GatedCrossAttention,
        flamingo.NormedAttention,
        flamingo.BiasFreeFeedForward,
    )

    def __init__(self, c: transformers.IdeficsConfig):
        super().__init__(
            c,
            self.classes[0](
                c.hidden_size,
                c.num_attention_heads,
                c.intermediate_size,
                c.vision_config.embed_dim,
                activation=c.hidden_act,
                glu=True,
                norm="rms",
                qk_norm=c.qk_layer_norms,
                gate={"vector": "channel", "float": "scalar"}[c.alpha_type],
                eps=c.rms_norm_eps,
            ),
        )

    def forward(
        self, x: Tensor, latents: Tensor, mask: Tensor, scores: Tensor, seen: Tensor
    ) -> PartOutput:
        return PartOutput(self.part(x, latents, mask))


def patches(config: transformers.IdeficsConfig, batch: int, length: int) -> dict[str, Tensor]:
    """What a vision encoder says about an image: random vectors."""
    vision = config.vision_config
    number = 1 + (vision.image_size // vision.patch_size) ** 2  # with the class token
    return {"patches": torch.randn(batch, number, vision.embed_dim)}


def text_and_latents(
    config: transformers.IdeficsConfig, batch: int, length: int
) -> dict[str, Tensor]:
    """Random text and latents, and which images a word sees: ours and theirs say it in their ways.

    The first words come before any image.
    """
    number = config.perceiver_config.resampler_n_latents
    is_image = torch.zeros(batch, length, dtype=torch.bool)
    is_image[:, 2] = is_image[:, length // 2] = True
    sees = flamingo.image_mask(is_image, IMAGES)  # (batch, length, images)
    mask = sees.repeat_interleave(number, dim=-1)[:, None]  # (batch, 1, length, keys)
    return {
        "x": torch.randn(batch, length, config.hidden_size),
        "latents": torch.randn(batch, IMAGES * number, config.vision_config.embed_dim),
        "mask": mask,
        "scores": torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min),
        "seen": sees.any(dim=-1).float(),
    }


IDEFICS_SMALL = transformers.IdeficsConfig(
    vocab_size=37,
    hidden_size=24,
    intermediate_size=44,
    num_attention_heads=3,
    hidden_act="gelu_new",
    rms_norm_eps=1e-3,
    alpha_type="vector",
    qk_layer_norms=True,
    vision_config={"embed_dim": 20, "image_size": 15, "patch_size": 5},
    perceiver_config={
        "qk_layer_norms_perceiver": True,
        "resampler_depth": 2,
        "resampler_n_heads": 3,
        "resampler_head_dim": 7,
        "resampler_n_latents": 5,
    },
    attn_implementation="sdpa",
)
# Its language model is as wide as LLaMA-7B, its vision encoder is a ViT-H/14.
IDEFICS_9B = transformers.IdeficsConfig(
    vision_config={"embed_dim": 1280}, attn_implementation="sdpa"
)


def part(model: str, ours: type[Part], theirs: type[Part], inputs: Any, timed_with: str) -> Entry:
    """A part of Flamingo, as large as in Idefics-9B."""

    def convert(theirs: Part) -> Part:
        converted = ours(theirs.config).to(next(theirs.parameters()).dtype)
        load_renamed(converted.part, theirs.part.state_dict())
        return converted.eval()

    return Entry(
        model,
        ours=ours,
        config=IDEFICS_9B,
        theirs=theirs,
        small=IDEFICS_SMALL,
        published=IDEFICS_9B,
        inputs=inputs,
        fields=("output",),
        count="",
        source="Laurençon et al. (2023) give no count of the parts",
        scale=0.4,
        convert=convert,
        timed_with=timed_with,
    )


ENTRIES = [
    Entry(
        "CLIP ViT-B/32",
        ours=models.CLIP,
        config=models.CLIPConfig.base32(),
        theirs=transformers.CLIPModel,
        small=CLIP_SMALL,
        published=transformers.CLIPConfig(text_config={"eos_token_id": 49407}),
        inputs=pairs,
        fields=("logits_per_image", "logits_per_text", "image_embeds", "text_embeds"),
        count="151 M",
        source="counted in the published weights, openai/clip-vit-base-patch32",
    ),
    blip("BLIP, captions", "BlipForConditionalGeneration", ("logits",), captions, 24),
    blip("BLIP, matching", "BlipForImageTextRetrieval", ("itm_score",), captions, 24),
    # The decoder looks at the question's encoder, and expects it as wide as the image.
    blip("BLIP, answers", "BlipForQuestionAnswering", ("image_embeds", "loss"), answers, 32),
    part("Flamingo, resampler", OurResampler, TheirResampler, patches, "images of 257 vectors"),
    part(
        "Flamingo, gated block",
        OurGatedBlock,
        TheirGatedBlock,
        text_and_latents,
        f"texts of {LENGTH} tokens and {IMAGES} images",
    ),
]


@experiment(
    "multimodal_model_table",
    lesson="13",
    uses=[
        *SHARED,
        "zoo_lessons.contrastive",
        "zoo_lessons.image_text_losses",
        "zoo_lessons.layers.patches",
        "zoo_lessons.models.bert",
        "zoo_lessons.models.blip",
        "zoo_lessons.models.clip",
        "zoo_lessons.models.flamingo",
        "zoo_lessons.models.vit",
    ],
)
def multimodal_model_table() -> dict[str, Any]:
    return {"figures": table(ENTRIES, f"images with texts of {LENGTH} tokens")}
