"""The parts that every model of the zoo is made of."""

from zoo_lessons.layers.attention import (
    DotProductAttention,
    MultiHeadAttention,
    ablate_heads,
    causal_mask,
    padding_mask,
    record_attention,
    scaled_dot_product_attention,
)
from zoo_lessons.layers.blocks import DecoderBlock, EncoderBlock, FeedForward
from zoo_lessons.layers.cache import KeyValueCache, LayerCache
from zoo_lessons.layers.crf import CRF
from zoo_lessons.layers.patches import (
    PatchEmbedding,
    image_to_patches,
    interpolate_positions,
    patches_to_image,
)
from zoo_lessons.layers.positions import (
    LearnedPositions,
    RelativePositionBias,
    Rotary,
    SinusoidalPositions,
    relative_position_bucket,
    sinusoidal_positions,
)
from zoo_lessons.layers.ssm import (
    CausalConv,
    DiagonalSSM,
    SelectiveSSM,
    SSMState,
    discretise,
    linear_scan,
    scan_loop,
    scan_parallel,
    selective_scan,
)

__all__ = [
    "CRF",
    "CausalConv",
    "DecoderBlock",
    "DiagonalSSM",
    "DotProductAttention",
    "EncoderBlock",
    "FeedForward",
    "KeyValueCache",
    "LayerCache",
    "LearnedPositions",
    "MultiHeadAttention",
    "PatchEmbedding",
    "RelativePositionBias",
    "Rotary",
    "SSMState",
    "SelectiveSSM",
    "SinusoidalPositions",
    "ablate_heads",
    "causal_mask",
    "discretise",
    "image_to_patches",
    "interpolate_positions",
    "linear_scan",
    "padding_mask",
    "patches_to_image",
    "record_attention",
    "relative_position_bucket",
    "scan_loop",
    "scan_parallel",
    "scaled_dot_product_attention",
    "selective_scan",
    "sinusoidal_positions",
]
