"""A small encoder that labels every token, with any of the four position encodings, or none.

Its blocks are those of BERT, in pre-norm. It exists to compare position encodings: everything else
stays equal between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from torch import Tensor, nn

from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.layers.positions import (
    LearnedPositions,
    RelativePositionBias,
    Rotary,
    SinusoidalPositions,
)

Positions = Literal["none", "sinusoidal", "learned", "relative", "rotary"]


@dataclass(frozen=True)
class TaggerConfig:
    """Sizes and choices.

    Attributes:
        positions: how the model learns the order of its tokens.
        max_length: rows of the learned table; the others take any length.
        max_distance: where the last bucket of the relative bias begins.

    Raises:
        ValueError: unknown positions.
    """

    vocab_size: int
    num_labels: int
    positions: Positions = "rotary"
    d_model: int = 32
    num_heads: int = 4
    num_layers: int = 2
    d_ff: int = 64
    max_length: int = 128
    max_distance: int = 128

    def __post_init__(self) -> None:
        if self.positions not in get_args(Positions):
            raise ValueError(
                f"positions={self.positions!r}, expected one of {', '.join(get_args(Positions))}"
            )


class Tagger(nn.Module):
    """Token embedding, positions, encoder blocks, one linear layer."""

    def __init__(self, config: TaggerConfig):
        super().__init__()
        self.config = config
        d_model, num_heads = config.d_model, config.num_heads
        self.embedding = nn.Embedding(config.vocab_size, d_model)
        # Two encodings are added to the embeddings ...
        self.added: nn.Module = nn.Identity()
        if config.positions == "sinusoidal":
            self.added = SinusoidalPositions(d_model, config.max_length)
        if config.positions == "learned":
            self.added = LearnedPositions(config.max_length, d_model)
            nn.init.normal_(self.embedding.weight, std=0.02)  # as in BERT: no louder than these
        # ... and two act inside attention. All layers share them.
        self.bias = self.rotary = None
        if config.positions == "relative":
            self.bias = RelativePositionBias(num_heads, max_distance=config.max_distance)
        if config.positions == "rotary":
            self.rotary = Rotary(d_model // num_heads)
        self.layers = nn.ModuleList(
            EncoderBlock(d_model, num_heads, config.d_ff, norm="pre")
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, config.num_labels)

    def forward(self, input_ids: Tensor) -> Tensor:
        """input_ids (batch, length) -> logits (batch, length, num_labels).

        Raises:
            ValueError: with learned positions, the input is longer than max_length.
        """
        require_ids("input_ids", input_ids, self.config.vocab_size)
        x = self.added(self.embedding(input_ids))  # (batch, length, d_model)
        bias = None if self.bias is None else self.bias(input_ids.shape[1])
        for layer in self.layers:
            x = layer(x, bias=bias, rotary=self.rotary)
        return self.head(self.norm(x))
