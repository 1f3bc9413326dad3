"""Attention rollout: which input tokens reach a token of the last layer, along all paths.

Source: Abnar & Zuidema, "Quantifying Attention Flow in Transformers" (2020), section 3, equation 1.
It follows the weights only: not the values, the feed-forward layers, or the signs.
"""

from __future__ import annotations

import torch
from torch import Tensor


def attention_rollout(weights: Tensor, residual: bool = True) -> Tensor:
    """Multiply the layers' mean attention, each mixed with the residual connection.

    Args:
        weights: (layers, batch, heads, tokens, tokens), as `record_attention(...).stack()` gives.
        residual: add the identity to each layer's weights before they are normalised, as the paper
            does; False leaves the residual connections out.

    Returns:
        (batch, tokens, tokens): row i says how much of each input token reaches token i after the
        last layer. Rows sum to 1.

    Raises:
        ValueError: weights of another shape.
    """
    if weights.ndim != 5 or weights.shape[-1] != weights.shape[-2]:
        raise ValueError(
            f"weights has shape {tuple(weights.shape)}, expected (layers, batch, heads, tokens, "
            "tokens): one sequence attending to itself in every layer"
        )
    layers = weights.mean(dim=2)  # (layers, batch, tokens, tokens)
    identity = torch.eye(layers.shape[-1], dtype=layers.dtype, device=layers.device)
    if residual:
        layers = 0.5 * layers + 0.5 * identity
    reach = identity.expand_as(layers[0])
    for layer in layers:
        reach = layer @ reach  # from the first layer upwards
    return reach
