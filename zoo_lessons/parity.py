"""Compare a model with another that should compute the same, and give mistakes no place to hide.

Fresh models hide mistakes: biases and gates start at zero, norms at one. So every parameter and
statistic is drawn anew before two models are compared.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def randomise(model: nn.Module, seed: int = 0, scale: float = 0.2) -> nn.Module:
    """Fill every parameter with random values: norm weights near 1, all others near 0.

    Norms are LayerNorm and BatchNorm here; RMSNorm's weights are drawn as all others. BatchNorm's
    running mean and variance become random, too; the variance stays positive. A deep and narrow
    model needs a larger `scale`, or the trace of its input dies out on the way.

    Returns:
        The same model, in evaluation mode.
    """
    generator = torch.Generator().manual_seed(seed)
    kinds = nn.LayerNorm | nn.BatchNorm2d
    norms = {id(m.weight) for m in model.modules() if isinstance(m, kinds)}
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.normal_(0.0, scale, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            centre = 1.0 if id(parameter) in norms else 0.0
            parameter.copy_(centre + scale * noise)
    return model.eval()


def relative_difference(ours: Tensor, theirs: Tensor) -> float:
    """max|ours - theirs| / max|theirs|.

    Raises:
        ValueError: the shapes differ.
    """
    if ours.shape != theirs.shape:
        raise ValueError(f"shapes differ: {tuple(ours.shape)} and {tuple(theirs.shape)}")
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()
