"""The models of vision beside those of `transformers`; see `beside_transformers`.

T2T-ViT has no counterpart there: its row counts and times ours alone.
"""

from __future__ import annotations

from typing import Any

import torch
import transformers
from torch import Tensor

from experiments.beside_transformers import SHARED, Entry, table
from zoo_lessons import models
from zoo_lessons.records import experiment


def images(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """Random pixels; an image has no length."""
    size = config.image_size
    return {"pixel_values": torch.randn(batch, config.num_channels, size, size)}


def images_and_noise(config: Any, batch: int, length: int) -> dict[str, Tensor]:
    """The noise decides which patches are hidden: both models must hide the same."""
    patches = (config.image_size // config.patch_size) ** 2
    return {**images(config, batch, length), "noise": torch.rand(batch, patches)}


VIT_SMALL = {
    "image_size": 20,
    "patch_size": 5,
    "num_channels": 2,
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "hidden_act": "relu",
    "layer_norm_eps": 1e-4,
}
CVT_SMALL = transformers.CvtConfig(
    image_size=40,
    num_channels=2,
    patch_sizes=[5, 3],
    patch_stride=[3, 2],
    patch_padding=[1, 1],
    embed_dim=[12, 24],
    num_heads=[2, 4],
    depth=[2, 3],
    mlp_ratio=[3.0, 3.0],
    attention_drop_rate=[0.1, 0.1],
    drop_rate=[0.2, 0.2],
    drop_path_rate=[0.0, 0.3],
    qkv_bias=[True, True],
    cls_token=[False, True],
    qkv_projection_method=["dw_bn", "dw_bn"],
    kernel_qkv=[5, 5],
    padding_kv=[2, 2],
    padding_q=[2, 2],
    stride_kv=[3, 3],
    stride_q=[1, 1],
    num_labels=7,
)
MOBILEVIT_SMALL = transformers.MobileViTConfig(
    image_size=96,
    num_channels=2,
    patch_size=3,
    hidden_sizes=[12, 15, 18],
    neck_hidden_sizes=[4, 6, 8, 10, 12, 14, 20],
    num_attention_heads=3,
    mlp_ratio=1.5,
    expand_ratio=3.0,
    hidden_act="relu",
    conv_kernel_size=5,
    hidden_dropout_prob=0.2,
    attention_probs_dropout_prob=0.1,
    classifier_dropout_prob=0.3,
    layer_norm_eps=1e-4,
    num_labels=7,
)
ENTRIES = [
    Entry(
        "ViT-B/16",
        ours=models.ViT,
        config=models.ViTConfig.base(),
        theirs=transformers.ViTForImageClassification,
        small=transformers.ViTConfig(**VIT_SMALL, num_labels=7),
        published=transformers.ViTConfig(num_labels=1000),
        inputs=images,
        fields=("logits",),
        count="86 M",
        source="Dosovitskiy et al. (2020), table 1",
    ),
    Entry(
        "MAE (ViT-B), pre-training",
        ours=models.MAE,
        config=models.MAEConfig.base(),
        theirs=transformers.ViTMAEForPreTraining,
        small=transformers.ViTMAEConfig(
            **VIT_SMALL,
            decoder_num_attention_heads=2,
            decoder_hidden_size=16,
            decoder_num_hidden_layers=2,
            decoder_intermediate_size=28,
            mask_ratio=0.6,
            norm_pix_loss=True,
        ),
        published=transformers.ViTMAEConfig(),
        inputs=images_and_noise,
        fields=("loss", "logits"),
        count="",
        source="He et al. (2021) give no count",
    ),
    Entry(
        "CvT-13",
        ours=models.CvT,
        config=models.CvTConfig.cvt_13(),
        theirs=transformers.CvtForImageClassification,
        small=CVT_SMALL,
        published=transformers.CvtConfig(image_size=224, num_labels=1000),
        inputs=images,
        fields=("logits",),
        count="20 M",
        source="Wu et al. (2021), table 3",
    ),
    Entry(
        "Swin-T",
        ours=models.Swin,
        config=models.SwinConfig.tiny(),
        theirs=transformers.SwinForImageClassification,
        small=transformers.SwinConfig(
            image_size=36,  # padded to whole windows
            patch_size=2,
            num_channels=2,
            embed_dim=12,
            depths=[2, 3],
            num_heads=[2, 3],
            window_size=4,
            mlp_ratio=3.0,
            hidden_act="relu",
            layer_norm_eps=1e-4,
            hidden_dropout_prob=0.1,
            num_labels=7,
        ),
        published=transformers.SwinConfig(num_labels=1000),
        inputs=images,
        fields=("logits",),
        count="29 M",
        source="Liu et al. (2021), table 1",
    ),
    Entry(
        "T2T-ViT-14",
        ours=models.T2TViT,
        config=models.T2TViTConfig.t2t_vit_14(),
        theirs=None,
        small=None,
        published=models.T2TViTConfig.t2t_vit_14(),
        inputs=images,
        fields=(),
        count="21.5 M",
        source="Yuan et al. (2021), table 2",
    ),
    Entry(
        "MobileViT-S",
        ours=models.MobileViT,
        config=models.MobileViTConfig.small(),
        theirs=transformers.MobileViTForImageClassification,
        small=MOBILEVIT_SMALL,
        published=transformers.MobileViTConfig(num_labels=1000),
        inputs=images,
        fields=("logits",),
        count="5.6 M",
        source="Mehta and Rastegari (2021), table 1",
        scale=0.5,
    ),
]


@experiment(
    "vision_model_table",
    lesson="10",
    uses=[
        *SHARED,
        "zoo_lessons.layers.patches",
        "zoo_lessons.models.cvt",
        "zoo_lessons.models.mae",
        "zoo_lessons.models.mobilevit",
        "zoo_lessons.models.swin",
        "zoo_lessons.models.t2t_vit",
        "zoo_lessons.models.vit",
    ],
)
def vision_model_table() -> dict[str, Any]:
    return {"figures": table(ENTRIES, "images")}
