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
from zoo_lessons.layers.positions import (
    LearnedPositions,
    RelativePositionBias,
    Rotary,
    SinusoidalPositions,
    relative_position_bucket,
    sinusoidal_positions,
)

__all__ = [
    "DecoderBlock",
    "DotProductAttention",
    "EncoderBlock",
    "FeedForward",
    "LearnedPositions",
    "MultiHeadAttention",
    "RelativePositionBias",
    "Rotary",
    "SinusoidalPositions",
    "ablate_heads",
    "causal_mask",
    "padding_mask",
    "record_attention",
    "relative_position_bucket",
    "scaled_dot_product_attention",
    "sinusoidal_positions",
]
