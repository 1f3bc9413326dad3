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

__all__ = [
    "CRF",
    "DecoderBlock",
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
    "SinusoidalPositions",
    "ablate_heads",
    "causal_mask",
    "image_to_patches",
    "interpolate_positions",
    "padding_mask",
    "patches_to_image",
    "record_attention",
    "relative_position_bucket",
    "scaled_dot_product_attention",
    "sinusoidal_positions",
]
