"""GPT-2: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019).

A stack of encoder blocks, pre-norm, under a causal mask: that mask makes it a decoder. It reads
tokens and gives, at each position, logits for the next one.

| | paper | this file | `transformers` |
|---|---|---|---|
| norm | before each sub-block, and one at the end | the same | the same |
| activation | GELU (GPT, 2018) | its tanh approximation | the same; others by config |
| output layer | shares the embedding (GPT, 2018) | shares it | shares it; may be untied |
| start of the residual layers | weights scaled by 1/√N | N = 2 · num_layers | the same |
| linear layers | not spelled out | `Linear`, (out, in) | `Conv1D`, (in, out) |
| dropout | 0.1 (GPT, 2018) | one rate, also inside the feed-forward | three rates |
| sizes of the four models | 117 M, 345 M, 762 M, 1542 M | 124 M, 355 M, 774 M, 1558 M | the same |

The paper's counts are too low; the last row's second column is what its architecture gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import causal_mask, padding_mask
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.cache import KeyValueCache
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.layers.positions import LearnedPositions


@dataclass(frozen=True)
class GPTConfig:
    """Sizes and choices. The defaults are GPT-2 small (section 2.3, table 2)."""

    vocab_size: int = 50257
    d_model: int = 768
    num_layers: int = 12
    num_heads: int = 12
    d_ff: int = 3072
    max_length: int = 1024
    activation: str = "gelu_new"
    dropout: float = 0.1
    eps: float = 1e-5

    @classmethod
    def small(cls) -> GPTConfig:
        """124 M parameters."""
        return cls()

    @classmethod
    def medium(cls) -> GPTConfig:
        """355 M parameters."""
        return cls(d_model=1024, num_layers=24, num_heads=16, d_ff=4096)

    @classmethod
    def large(cls) -> GPTConfig:
        """774 M parameters."""
        return cls(d_model=1280, num_layers=36, num_heads=20, d_ff=5120)

    @classmethod
    def xl(cls) -> GPTConfig:
        """1558 M parameters."""
        return cls(d_model=1600, num_layers=48, num_heads=25, d_ff=6400)

    @classmethod
    def from_hf(cls, config: Any) -> GPTConfig:
        """Read a `transformers.GPT2Config`.

        Raises:
            ValueError: an option that this file does not have.
        """
        needs = {
            "scale_attn_weights": True,
            "scale_attn_by_inverse_layer_idx": False,
            "reorder_and_upcast_attn": False,
            "add_cross_attention": False,
            "tie_word_embeddings": True,
        }
        for option, expected in needs.items():
            if getattr(config, option) != expected:
                raise ValueError(
                    f"unsupported GPT-2 config: {option}={getattr(config, option)!r}, "
                    f"expected {expected!r}"
                )
        return cls(
            vocab_size=config.vocab_size,
            d_model=config.n_embd,
            num_layers=config.n_layer,
            num_heads=config.n_head,
            d_ff=config.n_inner or 4 * config.n_embd,
            max_length=config.n_positions,
            activation=config.activation_function,
            dropout=config.resid_pdrop,
            eps=config.layer_norm_epsilon,
        )


@dataclass
class GPTOutput:
    """What one pass returns."""

    logits: Tensor  # (batch, length, vocab_size)
    last_hidden_state: Tensor  # (batch, length, d_model)


class GPT(nn.Module):
    """A causal language model."""

    hf_rules = [
        (r"^transformer\.", ""),
        (r"^wte\.", "embedding."),
        (r"^wpe\.", "positions."),
        (r"^h\.", "layers."),
        (r"\.ln_1\.", ".residual1.norm."),
        (r"\.attn\.c_attn\.", ".attention.qkv."),
        (r"\.attn\.c_proj\.", ".attention.out."),
        (r"\.ln_2\.", ".residual2.norm."),
        (r"\.mlp\.c_fc\.", ".feed_forward.up."),
        (r"\.mlp\.c_proj\.", ".feed_forward.down."),
        (r"^ln_f\.", "norm."),
        (r"^lm_head\.", "embedding."),
    ]
    hf_skip = [r"\.attn\.(masked_)?bias$"]  # the published files store their causal masks
    hf_transpose = [r"\.c_(attn|proj|fc)\.weight$"]  # Conv1D stores (in, out)

    def __init__(self, config: GPTConfig):
        super().__init__()
        self.config = c = config
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        self.positions = LearnedPositions(c.max_length, c.d_model)
        self.dropout = nn.Dropout(c.dropout)
        self.layers = nn.ModuleList(
            EncoderBlock(
                c.d_model,
                c.num_heads,
                c.d_ff,
                norm="pre",
                activation=c.activation,
                dropout=c.dropout,
                eps=c.eps,
            )
            for _ in range(c.num_layers)
        )
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.apply(_initialise)
        # Two sub-blocks per layer add to the same sum: start each one smaller, the deeper the sum.
        for layer in self.layers:
            for last in (layer.attention.out, layer.feed_forward.down):
                nn.init.normal_(last.weight, std=0.02 / (2 * c.num_layers) ** 0.5)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        cache: KeyValueCache | None = None,
    ) -> GPTOutput:
        """Logits for the token after each one in `input_ids`.

        Args:
            input_ids: (batch, length); with a cache, only the tokens that it does not hold yet.
            attention_mask: 0/1 (batch, cached + length), 0 hides padding.
            position_ids: (batch or 1, length), the position of each token. By default they count
                on from the cache, padding included.
            cache: keys and values of the tokens so far; this call adds its own.

        Raises:
            ValueError: more positions than `max_length`, ids outside the vocabulary, a mask of
                another length, or a cache of another model or batch.
        """
        c, new = self.config, input_ids.shape[-1]
        require_ids("input_ids", input_ids, c.vocab_size)
        if cache is not None and len(cache) != c.num_layers:
            raise ValueError(f"cache has {len(cache)} layers, expected num_layers={c.num_layers}")
        past = 0 if cache is None else cache.length
        if position_ids is None:
            if past + new > c.max_length:
                raise ValueError(
                    f"{past} cached and {new} new tokens make {past + new} positions, expected at "
                    f"most max_length={c.max_length}"
                )
            position_ids = torch.arange(past, past + new, device=input_ids.device)[None]

        mask = causal_mask(new, past + new, device=input_ids.device)  # (new, past + new)
        if attention_mask is not None:
            if attention_mask.shape[-1] != past + new:
                raise ValueError(
                    f"attention_mask covers {attention_mask.shape[-1]} tokens, expected "
                    f"{past + new}: {past} cached and {new} new"
                )
            mask = mask & padding_mask(attention_mask)  # (batch, 1, new, past + new)
        x = self.dropout(self.positions(self.embedding(input_ids), position_ids))
        for i, layer in enumerate(self.layers):
            x = layer(x, mask, cache=None if cache is None else cache[i])
        x = self.norm(x)
        return GPTOutput(x @ self.embedding.weight.T, x)


def _initialise(module: nn.Module) -> None:
    """Normal with standard deviation 0.02; biases zero (GPT, 2018, section 4.1)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
