"""Heads that a model can do without: how much each matters, and a model without some of them.

Source: Michel, Levy and Neubig, "Are Sixteen Heads Really Better than One?" (2019), section 4.1.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from zoo_lessons.layers.attention import MultiHeadAttention


def head_importance(model: nn.Module, losses: Iterable[Callable[[], Tensor]]) -> dict[str, Tensor]:
    """How strongly the loss depends on each head: the mean of |∂loss / ∂gate| over examples.

    Each head's output is multiplied by a gate that is 1. The derivative says how much the loss
    would change, in first order, if the gate closed: it takes one pass back, where silencing heads
    one by one takes one pass each. As in the paper, a layer's values are divided by their length,
    so that layers can be compared.

    Args:
        model: with at least one self-attention layer; call `eval()` first.
        losses: functions that run the model on a batch and return the loss of each example (batch).

    Returns:
        For each layer's name, as in `record_attention`, one number a head (heads).

    Raises:
        ValueError: a model without attention layers, no batches, a loss of another shape.
    """
    layers = _layers(model)
    gates: dict[str, Tensor] = {}
    total = {name: torch.zeros(layer.num_heads) for name, layer in layers.items()}
    handles = [
        layer.attention.register_forward_hook(_gate(name, gates)) for name, layer in layers.items()
    ]
    examples = 0
    try:
        for loss in losses:
            gates.clear()
            with torch.enable_grad():
                each = loss()
            if each.ndim != 1:
                raise ValueError(f"a loss has shape {tuple(each.shape)}, expected (batch,)")
            found = torch.autograd.grad(each.sum(), list(gates.values()))  # (batch, heads) each
            for name, gradient in zip(gates, found, strict=True):
                total[name] += gradient.abs().sum(dim=0).float().cpu()
            examples += len(each)
    finally:
        for handle in handles:
            handle.remove()
    if examples == 0:
        raise ValueError("losses holds no batch, expected at least one")
    return {name: value / value.norm().clamp_min(1e-12) for name, value in total.items()}


def prune_heads(model: nn.Module, heads: Mapping[str, Sequence[int]]) -> nn.Module:
    """A copy of a model without these heads: smaller matrices, and the output of `ablate_heads`.

    Args:
        model: stays as it is.
        heads: layer name, as in `record_attention`, to the indices of the heads that go.

    Raises:
        ValueError: an unknown layer or head, a cross-attention layer, or a layer that would keep
            no head.
    """
    pruned = copy.deepcopy(model)
    layers = _layers(pruned)
    for name, indices in heads.items():
        if name not in layers:
            raise ValueError(f"no self-attention layer {name!r}; there are: {', '.join(layers)}")
        layer, gone = layers[name], set(indices)
        if not all(0 <= i < layer.num_heads for i in gone):
            raise ValueError(f"{name} has heads 0 to {layer.num_heads - 1}, got {sorted(gone)}")
        if len(gone) == layer.num_heads:
            raise ValueError(f"{name} would keep none of its {layer.num_heads} heads")
        _shrink(layer, torch.tensor([i for i in range(layer.num_heads) if i not in gone]))
    return pruned


def _shrink(layer: MultiHeadAttention, keep: Tensor) -> None:
    """Cut rows out of `qkv` and columns out of `out`."""
    columns = torch.arange(layer.num_heads * layer.head_dim).view(layer.num_heads, -1)
    columns = columns[keep].flatten().to(layer.out.weight.device)
    qkv = nn.Linear(layer.d_model, 3 * len(columns), bias=layer.qkv.bias is not None)
    out = nn.Linear(len(columns), layer.out.out_features, bias=layer.out.bias is not None)
    with torch.no_grad():
        parts = layer.qkv.weight.unflatten(0, (3, -1))  # (3, heads * head_dim, d_model)
        qkv.to(parts).weight.copy_(parts[:, columns].flatten(0, 1))
        out.to(parts).weight.copy_(layer.out.weight[:, columns])
        if qkv.bias is not None:
            qkv.bias.copy_(layer.qkv.bias.unflatten(0, (3, -1))[:, columns].flatten())
        if out.bias is not None:
            out.bias.copy_(layer.out.bias)
    layer.qkv, layer.out, layer.num_heads = qkv, out, len(keep)


def _gate(name: str, gates: dict[str, Tensor]) -> Callable[[nn.Module, tuple, Tensor], Tensor]:
    def hook(_module: nn.Module, _inputs: tuple, output: Tensor) -> Tensor:
        gates[name] = output.new_ones(output.shape[:2], requires_grad=True)  # (batch, heads)
        return output * gates[name][:, :, None, None]

    return hook


def _layers(model: nn.Module) -> dict[str, MultiHeadAttention]:
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, MultiHeadAttention) and module.d_memory is None
    }
    if not found:
        raise ValueError(f"{type(model).__name__} has no self-attention layer of zoo_lessons")
    return found
