# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 22 · Parallelism: solutions
#
# Solutions to the exercises of [22_parallelism](../22_parallelism.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/22_parallelism.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F22_parallelism.ipynb)

# %% tags=["setup"]
import importlib.util
import os
import subprocess
import sys

if "google.colab" in sys.modules and not importlib.util.find_spec("zoo_lessons"):
    repository = "https://github.com/transformer-zoo-lessons/transformer-zoo-lessons"
    clone = f"git clone --quiet --depth 1 {repository} course"
    for command in (clone, "pip install --quiet --editable course"):
        subprocess.run(command.split(), check=True)
    os.chdir("course/notebooks")
    sys.path.append(os.path.abspath(".."))

from zoo_lessons import lab

lab.begin("22")

# %% [markdown]
# ## Exercise 1 · Columns, then rows
#
# Each rank takes some hidden units; the parts are summed, then the second bias is added once.

# %%
import torch
from torch.nn import functional as F


def split_feed_forward(x, up, up_bias, down, down_bias, ranks):
    parts = []
    for r in range(ranks):
        own_up, own_bias = up.chunk(ranks)[r], up_bias.chunk(ranks)[r]
        own_down = down.chunk(ranks, dim=1)[r]
        parts.append(F.gelu(F.linear(x, own_up, own_bias)) @ own_down.T)  # (batch, d_model)
    parts = torch.stack(parts)
    return parts, parts.sum(dim=0) + down_bias


lab.check("22.column_row", split_feed_forward)


# %% [markdown]
# **Why it works.** The output is a sum over hidden units. Each rank adds up its own units' terms, and
# the all-reduce adds up the ranks. GELU stands between the matrices and looks at one unit at a time,
# so no rank needs another's.
#
# **Common mistakes.** Without the sum each rank goes on with a different, wrong output, and no error is
# raised; training even runs. A mean in place of the sum makes the layer's output smaller by the number
# of ranks. `down_bias` in each part is added once for each rank: with one rank in a test that goes
# unnoticed.

# %% [markdown]
# ## Exercise 2 · Heads over ranks
#
# The same heads from each of the three blocks.

# %%
def qkv_rows(num_heads, head_dim, rank, ranks):
    each = num_heads // ranks  # heads of a rank
    every = torch.arange(3 * num_heads * head_dim).view(3, num_heads, head_dim)
    return every[:, rank * each : (rank + 1) * each].flatten().tolist()


lab.check("22.qkv_rows", qkv_rows)


# %% [markdown]
# **Why it works.** The view gives the rows their meaning: block, head, place in the head. A slice of
# the middle axis keeps whole heads, and flattening brings back the layer's order, queries first.
#
# **Common mistakes.** `chunk` on the fused rows gives rank 0 the queries of all heads and half of the
# keys. The shapes fit, so the layer runs and computes nonsense. Every second head instead of the first
# half would be as good, if $W^O$ were split in the same way; ours is split into neighbouring pieces.

# %% [markdown]
# ## Exercise 3 · The bubble
#
# A stage works $m$ of $m + p - 1$ steps.

# %%
def bubble(stages, micro_batches):
    return (stages - 1) / (micro_batches + stages - 1)


lab.check("22.bubble", bubble)
print(f"{bubble(4, 1):.0%} {bubble(4, 8):.1%} {bubble(4, 28):.1%}")


# %% [markdown]
# **Why it works.** The last micro-batch enters the first stage after the other $m - 1$, and must pass
# $p$ stages, one step each. Going back takes longer steps, but has the same shape, so the share stays.
#
# **Common mistakes.** $(p - 1) / m$ compares idle time with busy time, which is how GPipe's paper and
# Megatron's state it in places; as a share of all time it would exceed 1. With $m + p$ in the
# denominator a pipeline of two stages and one micro-batch would be idle for a third instead of half.

# %% [markdown]
# ## Exercise 4 · Find the bug: the loss of micro-batches
#
# A sum of means is not the mean. Each micro-batch counts as its share of the batch.

# %%
def micro_batch_gradient(weight, x, y, micro_batches):
    total = torch.zeros_like(weight)
    for part_x, part_y in zip(x.chunk(micro_batches), y.chunk(micro_batches), strict=True):
        w = weight.detach().clone().requires_grad_()
        loss = F.cross_entropy(part_x @ w.T, part_y) * len(part_x) / len(x)
        loss.backward()
        total += w.grad
    return total


lab.check("22.micro_batches", micro_batch_gradient)


# %% [markdown]
# **Why it works.** The mean over seven examples is 3/7 of the first three's mean, 3/7 of the next
# three's, and 1/7 of the last one's. Gradients add up as the losses do.
#
# **Common mistakes.** Dividing by the number of micro-batches is right when all are equally large, and
# that is what PyTorch's schedules do: give them batches that the number divides. The bug itself acts
# like a learning rate that grows with the number of micro-batches, and Adam hides it, because it
# divides by the gradient's size; clipping and weight decay do not.

# %% [markdown]
# ## Exercise 5 · Gradients of copies
#
# A mean, weighted by the images.

# %%
def average(gradients, images):
    counts = torch.tensor(images, dtype=gradients.dtype)  # (ranks)
    return counts @ gradients / counts.sum()


lab.check("22.average", average)


# %% [markdown]
# **Why it works.** Rank $r$ has the mean over its $n_r$ images; times $n_r$ that is a sum over images.
# The sum of these sums, divided by all images, is the mean over all.
#
# **Common mistakes.** The plain sum is the gradient times the number of ranks. A plain mean is what
# `DistributedDataParallel` takes; it is right when all ranks have equally many images, which is why
# samplers for it repeat some images at the end of an epoch.

# %% [markdown]
# ## Exercise 6 · Bytes of a stage
#
# Sixteen bytes a parameter, and the activations of at most $p - s$ micro-batches.

# %%
def stage_bytes(parameters, activations, stage, stages, micro_batches):
    return 16 * parameters + min(stages - stage, micro_batches) * activations


lab.check("22.stage_bytes", stage_bytes)

# %% [markdown]
# **Why it works.** Under 1F1B stage $s$ sends $p - s - 1$ micro-batches ahead before its first one
# comes back, and works on one more. From then on each backward pass frees what the next forward pass
# takes.
#
# **Common mistakes.** The number of micro-batches is GPipe's count. The number of stages is right for
# the first stage only. Without `min`, a pipeline of eight stages with three micro-batches would keep
# five that do not exist.
