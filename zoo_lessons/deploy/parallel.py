"""One model on several devices: layers split by columns and rows, and layers dealt out to stages.

Sources: Shoeybi et al., "Megatron-LM" (2019), section 3 (tensor parallelism); Narayanan et al.,
"Efficient Large-Scale Language Model Training on GPU Clusters" (2021), section 3 (with stages).

Each process holds its own part and runs the same program. `deploy.parallel_run` starts such
processes; nothing here knows how many machines they are on.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.checks import require_divisible
from zoo_lessons.models.vit import ViT

# --- a group of processes ------------------------------------------------------------------------


class Team:
    """The processes that share one thing, as this process sees them. It counts what they send.

    Args:
        group: of `torch.distributed`; all processes by default.

    Attributes:
        rank, size: this process's number in the group, and how many there are.
        calls: how many all-reduces there were.
        bytes: how many bytes this process put into them.
    """

    def __init__(self, group: dist.ProcessGroup | None = None):
        self.group = group
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.calls = self.bytes = 0

    def sum(self, x: Tensor) -> Tensor:
        """The sum over all processes of the group, in every one of them: an all-reduce."""
        self.calls += 1
        self.bytes += x.nbytes
        x = x.contiguous().clone()
        dist.all_reduce(x, group=self.group)
        return x


class _Copy(torch.autograd.Function):
    """Megatron's f: nothing forward; backward, the gradients of all processes are summed."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Team) -> Tensor:
        ctx.team = team
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.team.sum(gradient), None


class _Sum(torch.autograd.Function):
    """Megatron's g: the sum of all processes forward; nothing backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, team: Team) -> Tensor:
        return team.sum(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient, None


# --- tensor parallelism --------------------------------------------------------------------------


class ColumnLinear(nn.Module):
    """Some of a linear layer's outputs. Every process gets the whole input.

    In the paper's Y = XA these are columns of A; `nn.Linear` stores A transposed, so here they are
    rows of `weight`.

    Args:
        whole: the layer to split.
        outputs: numbers of this process's outputs.
        team: the processes that hold the others.
    """

    def __init__(self, whole: nn.Linear, outputs: Tensor, team: Team):
        super().__init__()
        self.team = team
        self.weight = nn.Parameter(whole.weight.detach()[outputs].clone())
        self.bias = (
            None if whole.bias is None else nn.Parameter(whole.bias.detach()[outputs].clone())
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., this process's outputs)."""
        return F.linear(_Copy.apply(x, self.team), self.weight, self.bias)


class RowLinear(nn.Module):
    """Some of a linear layer's inputs. The processes' outputs are summed, the bias added once.

    Args:
        whole: the layer to split.
        inputs: numbers of this process's inputs.
        team: the processes that hold the others.
    """

    def __init__(self, whole: nn.Linear, inputs: Tensor, team: Team):
        super().__init__()
        self.team = team
        self.weight = nn.Parameter(whole.weight.detach()[:, inputs].clone())
        self.bias = None if whole.bias is None else nn.Parameter(whole.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """(..., this process's inputs) -> (..., outputs)."""
        y = _Sum.apply(F.linear(x, self.weight), self.team)
        return y if self.bias is None else y + self.bias


def part_of(count: int, rank: int, size: int) -> Tensor:
    """The numbers, out of 0 to count - 1, that belong to a process: neighbours, equally many.

    Raises:
        ValueError: `size` does not divide `count`.
    """
    require_divisible(count=count, size=size)
    return torch.arange(count).view(size, -1)[rank]


def qkv_outputs(num_heads: int, head_dim: int, rank: int, size: int) -> Tensor:
    """Outputs of a fused q, k, v projection that belong to a process's heads.

    The fused layer holds all queries, then all keys, then all values. A process needs the queries,
    the keys and the values of its own heads, so its share is three pieces.

    Returns:
        (3 * num_heads * head_dim / size), queries first, then keys, then values.

    Raises:
        ValueError: `size` does not divide `num_heads`.
    """
    heads = part_of(num_heads, rank, size)
    every = torch.arange(3 * num_heads * head_dim).view(3, num_heads, head_dim)
    return every[:, heads].flatten()


def split_block(block: EncoderBlock, team: Team) -> EncoderBlock:
    """A process's part of an encoder block: some heads, and some of the hidden units.

    LayerNorms and the biases that are added after a sum stay whole: every process has them, and
    computes the same gradients for them.

    Raises:
        ValueError: the team's size does not divide the heads or d_ff, or the block drops values,
            which each process would do in its own way.
    """
    for name, module in block.named_modules():
        if isinstance(module, nn.Dropout) and module.p > 0:
            raise ValueError(f"{name} has dropout {module.p}, expected 0 in a block that is split")
    block = copy.deepcopy(block)
    attention, feed_forward = block.attention, block.feed_forward
    heads, head_dim = attention.num_heads, attention.head_dim
    mine = qkv_outputs(heads, head_dim, team.rank, team.size)
    inner = part_of(heads * head_dim, team.rank, team.size)
    hidden = part_of(feed_forward.up.out_features, team.rank, team.size)
    attention.qkv = ColumnLinear(attention.qkv, mine, team)
    attention.out = RowLinear(attention.out, inner, team)
    attention.num_heads = heads // team.size
    feed_forward.up = ColumnLinear(feed_forward.up, hidden, team)
    feed_forward.down = RowLinear(feed_forward.down, hidden, team)
    return block


# --- pipeline stages -----------------------------------------------------------------------------


def layers_of_stage(num_layers: int, stage: int, stages: int) -> range:
    """Numbers of a stage's layers: neighbours; the first stages have one more if need be.

    Raises:
        ValueError: fewer layers than stages, or no such stage.
    """
    if not 0 <= stage < stages <= num_layers:
        raise ValueError(
            f"stage={stage} of stages={stages} for num_layers={num_layers}, expected "
            "0 ≤ stage < stages ≤ num_layers"
        )
    each, more = divmod(num_layers, stages)
    start = stage * each + min(stage, more)
    return range(start, start + each + (stage < more))


class ViTStage(nn.Module):
    """A stage of a ViT: the first one embeds, the last one classifies.

    Parameters have the names that they have in the whole model.

    Args:
        model: the whole ViT; it is left as it is.
        stage, stages: which stage, counted from 0, of how many.
        team: the processes that share this stage's layers; None leaves the layers whole.
    """

    def __init__(self, model: ViT, stage: int, stages: int, team: Team | None = None):
        super().__init__()
        self.first, self.last = stage == 0, stage == stages - 1
        self.pooling = model.config.pooling
        if self.first:
            self.embeddings = copy.deepcopy(model.embeddings)
        self.layers = nn.ModuleDict(
            {
                str(i): copy.deepcopy(model.layers[i])
                if team is None
                else split_block(model.layers[i], team)
                for i in layers_of_stage(model.config.num_layers, stage, stages)
            }
        )
        if self.last:
            self.norm, self.head = copy.deepcopy(model.norm), copy.deepcopy(model.head)

    def forward(self, x: Tensor) -> Tensor:
        """pixel_values into the first stage, hidden states (batch, tokens, d_model) between stages,
        logits (batch, num_labels) out of the last."""
        if self.first:
            x = self.embeddings(x)
        for layer in self.layers.values():
            x = layer(x)
        if not self.last:
            return x
        x = self.norm(x)
        return self.head(x[:, 0] if self.pooling == "class" else x[:, 1:].mean(dim=1))


# --- data parallelism ----------------------------------------------------------------------------


def average_gradients(model: nn.Module, team: Team) -> None:
    """Replace each gradient by its mean over the team: one all-reduce of all of them in a row.

    Each process has computed the mean loss of its own images, equally many everywhere. Then this
    gives the gradient of the mean loss of all images.
    """
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    mean = team.sum(torch.cat([g.flatten() for g in gradients])) / team.size
    for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))
