"""Mamba: Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces" (2023).

A language model without attention. Each layer reads the tokens from left to right and keeps what
it needs in a state of fixed size; what it takes up and what it forgets depends on the token. With
`attention_layers` some layers are causal attention instead: a hybrid, as in Jamba (Lieber et al.,
2024). With `selective=False` the state space treats every token alike, as in S4D.

| | paper | this file | `transformers` |
|---|---|---|---|
| B_bar | zero-order hold (equation 4) | ΔB, as the authors' code | ΔB |
| scan | parallel, in one GPU kernel | in place on a CPU, parallel on a GPU | a loop on a CPU |
| norm | one LayerNorm more is optional (3.4) | RMSNorm before each block | the same |
| activation | SiLU, also of the gate | by config; the gate always SiLU | the same |
| precision | not spelled out | the model's own | residual, A, D, B, norm in float32 |
| start of the last projection | not given | divided by √num_layers | the same, as an option |
| output layer | shares the embedding | shares it | shares it; may be untied |
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.attention import causal_mask, padding_mask
from zoo_lessons.layers.blocks import ACTIVATIONS, EncoderBlock
from zoo_lessons.layers.cache import LayerCache
from zoo_lessons.layers.checks import require_ids
from zoo_lessons.layers.ssm import CausalConv, DiagonalSSM, SelectiveSSM, SSMState


@dataclass(frozen=True)
class MambaConfig:
    """Sizes and choices. The defaults are Mamba-130M (section 4.2).

    Attributes:
        d_state: numbers in the state of one channel.
        d_conv: tokens that the short convolution sees.
        expand: channels inside a block, in multiples of d_model.
        dt_rank: width from which the step lengths are made; by default d_model / 16, rounded up.
        bias: whether the projections into and out of a block have one.
        selective: False makes step length, B and C the same for all tokens.
        attention_layers: indices of the layers that are attention (with feed-forward) instead.
        num_heads, d_ff: sizes of those.

    Raises:
        ValueError: an unknown activation, or an attention layer that is not there.
    """

    vocab_size: int = 50280
    d_model: int = 768
    num_layers: int = 24
    d_state: int = 16
    d_conv: int = 4
    expand: float = 2
    dt_rank: int | None = None
    bias: bool = False
    conv_bias: bool = True
    activation: str = "silu"
    eps: float = 1e-5
    selective: bool = True
    attention_layers: tuple[int, ...] = ()
    num_heads: int = 12
    d_ff: int = 3072

    def __post_init__(self) -> None:
        if self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation {self.activation!r} is unknown, expected one of "
                f"{', '.join(ACTIVATIONS)}"
            )
        if not set(self.attention_layers) <= set(range(self.num_layers)):
            raise ValueError(
                f"attention_layers={self.attention_layers}, expected indices from 0 to "
                f"{self.num_layers - 1} (num_layers={self.num_layers})"
            )

    @property
    def d_inner(self) -> int:
        """Channels inside a block."""
        return int(self.expand * self.d_model)

    @classmethod
    def mamba_130m(cls) -> MambaConfig:
        """129 M parameters."""
        return cls()

    @classmethod
    def mamba_370m(cls) -> MambaConfig:
        """372 M parameters."""
        return cls(d_model=1024, num_layers=48)

    @classmethod
    def mamba_790m(cls) -> MambaConfig:
        """793 M parameters."""
        return cls(d_model=1536, num_layers=48)

    @classmethod
    def from_hf(cls, config: Any) -> MambaConfig:
        """Read a `transformers.MambaConfig`.

        Raises:
            ValueError: an output layer of its own, which this file does not have.
        """
        if not config.tie_word_embeddings:
            raise ValueError("unsupported Mamba config: tie_word_embeddings=False, expected True")
        return cls(
            vocab_size=config.vocab_size,
            d_model=config.hidden_size,
            num_layers=config.num_hidden_layers,
            d_state=config.state_size,
            d_conv=config.conv_kernel,
            expand=config.expand,
            dt_rank=config.time_step_rank,
            bias=config.use_bias,
            conv_bias=config.use_conv_bias,
            activation=config.hidden_act,
            eps=config.layer_norm_epsilon,
        )


@dataclass
class MambaOutput:
    """What one pass returns."""

    logits: Tensor  # (batch, length, vocab_size)
    last_hidden_state: Tensor  # (batch, length, d_model)


class MambaCache:
    """What all layers remember: `cache[i]` is an `SSMState`, or a `LayerCache` for attention."""

    def __init__(self, config: MambaConfig):
        self.length = 0  # tokens read so far
        self._layers = [
            LayerCache() if i in config.attention_layers else SSMState()
            for i in range(config.num_layers)
        ]

    def __getitem__(self, layer: int) -> SSMState | LayerCache:
        return self._layers[layer]

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def nbytes(self) -> int:
        """Memory in bytes. Only attention layers make it grow with the number of tokens."""
        return sum(layer.nbytes for layer in self._layers)

    def reorder(self, indices: Tensor) -> None:
        """Choose rows of the batch anew: row i becomes row indices[i]."""
        for layer in self._layers:
            layer.reorder(indices)


class MambaMixer(nn.Module):
    """Projection, short convolution, state space, gate, projection (figure 3)."""

    def __init__(self, c: MambaConfig):
        super().__init__()
        self.in_proj = nn.Linear(c.d_model, 2 * c.d_inner, bias=c.bias)
        self.conv = CausalConv(c.d_inner, c.d_conv, c.conv_bias)
        self.activation = c.activation
        self.ssm = (
            SelectiveSSM(c.d_inner, c.d_state, c.dt_rank or math.ceil(c.d_model / 16))
            if c.selective
            else DiagonalSSM(c.d_inner, c.d_state)
        )
        self.out_proj = nn.Linear(c.d_inner, c.d_model, bias=c.bias)

    def forward(
        self, x: Tensor, keep: Tensor | None = None, state: SSMState | None = None
    ) -> Tensor:
        """x (batch, length, d_model) -> the same shape.

        Args:
            x: the new tokens' vectors.
            keep: True for tokens, False for padding, (batch, length, 1).
            state: of earlier tokens; it is brought up to date.
        """
        if keep is not None:
            x = x * keep
        x, gate = self.in_proj(x).chunk(2, dim=-1)  # (batch, length, d_inner) each
        x, last = self.conv.resume(x, None if state is None else state.conv)
        x = ACTIVATIONS[self.activation](x)
        if keep is not None:
            x = x * keep  # the convolution's bias, and what it carries on, enter no state
        if state is None:
            y = self.ssm(x)
        else:
            y, state.ssm = self.ssm.resume(x, state.ssm)
            state.conv = last
        return self.out_proj(y * F.silu(gate))


class MambaBlock(nn.Module):
    """x + mixer(norm(x)): the only kind of layer, with no feed-forward beside it (section 3.4)."""

    def __init__(self, c: MambaConfig):
        super().__init__()
        self.norm = nn.RMSNorm(c.d_model, c.eps)
        self.mixer = MambaMixer(c)

    def forward(
        self, x: Tensor, keep: Tensor | None = None, state: SSMState | None = None
    ) -> Tensor:
        """Arguments are those of `MambaMixer`."""
        return x + self.mixer(self.norm(x), keep, state)


class Mamba(nn.Module):
    """A causal language model."""

    hf_rules = [
        (r"^backbone\.", ""),
        (r"^embeddings?\.", "embedding."),
        (r"^norm_f\.", "norm."),
        (r"\.mixer\.conv1d\.", ".mixer.conv."),
        (r"\.mixer\.(x_proj|dt_proj|A_log|D\b)", r".mixer.ssm.\1"),
        (r"^lm_head\.", "embedding."),
    ]
    hf_skip: list[str] = []

    def __init__(self, config: MambaConfig):
        super().__init__()
        self.config = c = config
        self.embedding = nn.Embedding(c.vocab_size, c.d_model)
        self.layers = nn.ModuleList(
            EncoderBlock(c.d_model, c.num_heads, c.d_ff, norm="pre", activation="gelu", eps=c.eps)
            if i in c.attention_layers
            else MambaBlock(c)
            for i in range(c.num_layers)
        )
        self.norm = nn.RMSNorm(c.d_model, c.eps)
        nn.init.normal_(self.embedding.weight, std=0.02)
        with torch.no_grad():  # all layers add to one sum: the more there are, the smaller each
            for layer in self.layers:
                if isinstance(layer, MambaBlock):
                    layer.mixer.out_proj.weight /= c.num_layers**0.5

    def new_cache(self) -> MambaCache:
        """An empty cache, for reading a text piece by piece."""
        return MambaCache(self.config)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        *,
        position_ids: Tensor | None = None,
        cache: MambaCache | None = None,
    ) -> MambaOutput:
        """Logits for the token after each one in `input_ids`.

        Args:
            input_ids: (batch, length); with a cache, only the tokens that it has not read yet.
            attention_mask: 0/1 (batch, cached + length), 0 hides padding.
            position_ids: not used, since the order of reading is the position; taken so that
                `generate` can call every language model alike.
            cache: the state after the tokens so far; this call brings it up to date.

        Raises:
            TypeError: a cache of another kind of model.
            ValueError: ids outside the vocabulary, a mask of another length, or a cache of a model
                with another number of layers.
        """
        c, new = self.config, input_ids.shape[-1]
        require_ids("input_ids", input_ids, c.vocab_size)
        if cache is not None and not isinstance(cache, MambaCache):
            raise TypeError(
                f"cache is a {type(cache).__name__}, expected a MambaCache: use model.new_cache()"
            )
        if cache is not None and len(cache) != c.num_layers:
            raise ValueError(f"cache has {len(cache)} layers, expected num_layers={c.num_layers}")
        past = 0 if cache is None else cache.length
        keep = mask = None
        if attention_mask is not None:
            if attention_mask.shape[-1] != past + new:
                raise ValueError(
                    f"attention_mask covers {attention_mask.shape[-1]} tokens, expected "
                    f"{past + new}: {past} cached and {new} new"
                )
            seen = padding_mask(attention_mask)  # (batch, 1, 1, past + new)
            keep = seen[:, 0, 0, past:, None]  # (batch, new, 1)
        if c.attention_layers:
            mask = causal_mask(new, past + new, device=input_ids.device)  # (new, past + new)
            mask = mask if keep is None else mask & seen

        x = self.embedding(input_ids)
        for i, layer in enumerate(self.layers):
            state = None if cache is None else cache[i]
            if isinstance(layer, MambaBlock):
                x = layer(x, keep, state)
            else:
                x = layer(x, mask, cache=state)
        if cache is not None:
            cache.length += new
        x = self.norm(x)
        return MambaOutput(x @ self.embedding.weight.T, x)
