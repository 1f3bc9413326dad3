"""CLIP and BLIP beside those of `transformers`; see `beside_transformers`.

No text of BLIP's is padded here: in `transformers` its cross-attention does not see the mask, which
the parity tests show and repair.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from experiments.beside_transformers import SHARED, Entry, table
from zoo_lessons import models
from zoo_lessons.records import experiment

LENGTH = 16  # of a caption, in tokens


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
        "zoo_lessons.models.vit",
    ],
)
def multimodal_model_table() -> dict[str, Any]:
    return {"figures": {**table(ENTRIES), "length": LENGTH}}
