"""The Transformer of Vaswani et al., "Attention Is All You Need" (2017): encoder and decoder.

| | paper | this file | `transformers` (Marian) | `torch.nn.Transformer` |
|---|---|---|---|---|
| norm | after the sum | "post" or "pre" | after the sum | either |
| last LayerNorm of a stack | none | only with "pre" | none | always |
| activation | ReLU | ReLU, or any of `ACTIVATIONS` | SiLU in the published models | ReLU |
| sinusoids | not spelled out | sine, cosine, sine, ... | all sines, then all cosines | none |
| output layer | shares the embedding | shared or not | shares it, plus a bias | none |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import causal_mask, padding_mask
from zoo_lessons.layers.blocks import DecoderBlock, EncoderBlock, Norm
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.layers.positions import SinusoidalPositions


@dataclass(frozen=True)
class TransformerConfig:
    """Sizes and choices. The defaults are the paper's base model (table 3)."""

    vocab_size: int = 37000
    target_vocab_size: int | None = None  # None: one vocabulary and one embedding for both sides
    d_model: int = 512
    num_layers: int = 6  # in the encoder, and again in the decoder
    num_heads: int = 8
    d_ff: int = 2048
    dropout: float = 0.1
    norm: Norm = "post"
    activation: str = "relu"
    eps: float = 1e-5
    max_length: int = 512
    interleaved_positions: bool = True
    output_bias: bool = False
    pad_token_id: int = 0
    bos_token_id: int = 1
    eos_token_id: int = 2

    @classmethod
    def base(cls) -> TransformerConfig:
        """The paper's base model, 65 M parameters."""
        return cls()

    @classmethod
    def big(cls) -> TransformerConfig:
        """The paper's big model, 213 M parameters."""
        return cls(d_model=1024, num_heads=16, d_ff=4096, dropout=0.3)

    @classmethod
    def from_hf(cls, config: Any) -> TransformerConfig:
        """Read a `transformers.MarianConfig`.

        Raises:
            ValueError: an option that this file does not have.
        """
        needs = {
            "encoder_layers": config.decoder_layers,
            "encoder_attention_heads": config.decoder_attention_heads,
            "encoder_ffn_dim": config.decoder_ffn_dim,
            "scale_embedding": True,
            "share_encoder_decoder_embeddings": True,
        }
        for option, expected in needs.items():
            if getattr(config, option) != expected:
                raise ValueError(
                    f"unsupported Marian config: {option}={getattr(config, option)!r}, "
                    f"expected {expected!r}"
                )
        return cls(
            vocab_size=config.vocab_size,
            d_model=config.d_model,
            num_layers=config.encoder_layers,
            num_heads=config.encoder_attention_heads,
            d_ff=config.encoder_ffn_dim,
            dropout=config.dropout,
            activation=config.activation_function.replace("swish", "silu"),
            max_length=config.max_position_embeddings,
            interleaved_positions=False,
            output_bias=True,
            pad_token_id=config.pad_token_id,
            bos_token_id=config.decoder_start_token_id,
            eos_token_id=config.eos_token_id,
        )


@dataclass
class Seq2SeqOutput:
    """What one pass returns."""

    logits: Tensor  # (batch, target length, target_vocab_size)
    last_hidden_state: Tensor  # (batch, target length, d_model)
    encoder_last_hidden_state: Tensor  # (batch, source length, d_model)


class Encoder(nn.Module):
    """A stack of encoder blocks: (batch, length, d_model) in and out."""

    def __init__(self, c: TransformerConfig):
        super().__init__()
        self.layers = nn.ModuleList(EncoderBlock(**_block_sizes(c)) for _ in range(c.num_layers))
        self.norm = nn.LayerNorm(c.d_model, c.eps) if c.norm == "pre" else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class Decoder(nn.Module):
    """A stack of decoder blocks: (batch, length, d_model) in and out."""

    def __init__(self, c: TransformerConfig):
        super().__init__()
        self.layers = nn.ModuleList(DecoderBlock(**_block_sizes(c)) for _ in range(c.num_layers))
        self.norm = nn.LayerNorm(c.d_model, c.eps) if c.norm == "pre" else nn.Identity()

    def forward(
        self,
        x: Tensor,
        memory: Tensor,
        mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        for layer in self.layers:
            x = layer(x, memory, mask, memory_mask)
        return self.norm(x)


class Transformer(nn.Module):
    """Encoder-decoder for translation."""

    hf_rules = [
        (r"^model\.", ""),
        (r"^shared\.", "embedding."),
        (r"self_attn\.([qkv])_proj", r"{self}.\1"),
        (r"self_attn\.out_proj", "{self}.out"),
        (r"^(encoder\.\S*)\{self\}", r"\1attention"),
        (r"\{self\}", "self_attention"),
        (r"encoder_attn\.([qkv])_proj", r"cross_attention.\1"),
        (r"encoder_attn\.out_proj", "cross_attention.out"),
        (r"self_attn_layer_norm", "residual1.norm"),
        (r"encoder_attn_layer_norm", "residual2.norm"),
        (r"^(encoder\.\S*)final_layer_norm", r"\1residual2.norm"),
        (r"final_layer_norm", "residual3.norm"),
        (r"fc1", "feed_forward.up"),
        (r"fc2", "feed_forward.down"),
        (r"^final_logits_bias$", "output_bias"),
    ]
    # Marian stores the shared embedding three more times, and its sinusoids.
    hf_skip = [r"embed_tokens", r"embed_positions", r"^lm_head"]

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = c = config
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        self.target_embedding = (
            self.embedding
            if c.target_vocab_size is None
            else nn.Embedding(c.target_vocab_size, c.d_model)
        )
        self.positions = SinusoidalPositions(
            c.d_model, c.max_length, interleaved=c.interleaved_positions
        )
        self.dropout = nn.Dropout(c.dropout)
        self.encoder = Encoder(c)
        self.decoder = Decoder(c)
        if c.output_bias:
            self.output_bias = nn.Parameter(torch.zeros(1, self.target_embedding.num_embeddings))
        else:
            self.register_parameter("output_bias", None)
        self.apply(_initialise)
        # After the multiplication by √d_model in `embed`, token vectors have unit variance.
        # A dict, unlike a set, keeps their order: one seed must give one model.
        for embedding in dict.fromkeys((self.embedding, self.target_embedding)):
            nn.init.normal_(embedding.weight, std=c.d_model**-0.5)

    def embed(self, embedding: nn.Embedding, input_ids: Tensor) -> Tensor:
        """Token vectors times √d_model, plus positions (section 3.4): (batch, length, d_model)."""
        return self.dropout(self.positions(embedding(input_ids) * math.sqrt(self.config.d_model)))

    def encode(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Two tensors (batch, source length) -> (batch, source length, d_model)."""
        require_ids("input_ids", input_ids, self.config.vocab_size)
        mask = None if attention_mask is None else padding_mask(attention_mask)
        return self.encoder(self.embed(self.embedding, input_ids), mask)

    def decode(
        self,
        decoder_input_ids: Tensor,
        memory: Tensor,
        attention_mask: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Tensor:
        """Hidden states of the target, which sees itself causally and `memory` fully.

        Args:
            decoder_input_ids: (batch, target length), starting with the BOS token.
            memory: the encoder's output (batch, source length, d_model).
            attention_mask: 0/1 (batch, source length), hides the source's padding.
            decoder_attention_mask: 0/1 (batch, target length), hides the target's padding.

        Returns:
            (batch, target length, d_model).
        """
        vocab_size = self.target_embedding.num_embeddings
        require_ids("decoder_input_ids", decoder_input_ids, vocab_size)
        mask = causal_mask(decoder_input_ids.shape[1], device=decoder_input_ids.device)
        if decoder_attention_mask is not None:
            mask = mask & padding_mask(decoder_attention_mask)  # (batch, 1, target, target)
        memory_mask = None if attention_mask is None else padding_mask(attention_mask)
        x = self.embed(self.target_embedding, decoder_input_ids)
        return self.decoder(x, memory, mask, memory_mask)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
    ) -> Seq2SeqOutput:
        """Teacher forcing: the logits at position t predict target token t + 1.

        Raises:
            ValueError: decoder_input_ids is missing (use `generate` when there is no target).
        """
        if decoder_input_ids is None:
            raise ValueError(
                "decoder_input_ids is missing, expected (batch, target length) starting with BOS; "
                "use generate(input_ids) to translate without a target"
            )
        memory = self.encode(input_ids, attention_mask)
        hidden = self.decode(decoder_input_ids, memory, attention_mask, decoder_attention_mask)
        return Seq2SeqOutput(self.logits(hidden), hidden, memory)

    def logits(self, hidden: Tensor) -> Tensor:
        """(..., d_model) -> (..., target_vocab_size), by the target embedding itself."""
        logits = hidden @ self.target_embedding.weight.T
        return logits if self.output_bias is None else logits + self.output_bias

    @torch.no_grad()
    def generate(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, max_new_tokens: int = 64
    ) -> Tensor:
        """Greedy decoding: take the likeliest next token until every row has said EOS.

        The decoder reads the whole prefix again at each step, which costs time quadratic in the
        length.

        Returns:
            (batch, at most 1 + max_new_tokens): BOS, the tokens, EOS, then padding.
        """
        if max_new_tokens < 1:
            raise ValueError(f"max_new_tokens={max_new_tokens}, expected at least 1")
        c = self.config
        memory = self.encode(input_ids, attention_mask)
        output = input_ids.new_full((len(input_ids), 1), c.bos_token_id)
        done = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for _ in range(max_new_tokens):
            hidden = self.decode(output, memory, attention_mask)[:, -1]  # (batch, d_model)
            token = self.logits(hidden).argmax(-1).masked_fill(done, c.pad_token_id)
            output = torch.cat([output, token[:, None]], dim=1)
            done |= token == c.eos_token_id
            if done.all():
                break
        return output


def _block_sizes(c: TransformerConfig) -> dict[str, Any]:
    return {
        "d_model": c.d_model,
        "num_heads": c.num_heads,
        "d_ff": c.d_ff,
        "norm": c.norm,
        "activation": c.activation,
        "dropout": c.dropout,
        "eps": c.eps,
    }


def _initialise(module: nn.Module) -> None:
    """Glorot & Bengio's (2010) uniform initialisation, as in the paper's own code."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
