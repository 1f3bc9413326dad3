# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 22 · Parallelism
#
# *How does one model run on several devices?*
#
# After this lesson you can
#
# - split a layer by columns and rows so that one all-reduce is enough
# - cut a model into pipeline stages, and compute the bubble
# - run a 2 × 2 mesh on four processes, and show that it equals one
# - plan a large model's memory and communication on paper
#
# **Time:** 50 minutes · **You need first:** [04 The Transformer](04_transformer.ipynb)
#
# **On the zoo map:** part IV, Deployment · **Models:** ViT
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/22_parallelism.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F22_parallelism.ipynb) · [Solutions](solutions/22_parallelism.ipynb)

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
# ## The question
#
# ViT-G/14 ([Zhai et al., 2021](https://arxiv.org/abs/2106.04560), table 2) is the ViT of lesson 09,
# made large: 48 layers, a width of 1664, patches of 14 pixels. On the `meta` device, where tensors
# have a shape and no numbers, we can build it at once and count.

# %%
import torch

from zoo_lessons.deploy.planner import vit_giant
from zoo_lessons.models import ViT

config = vit_giant()
with torch.device("meta"):
    giant = ViT(config)
parameters = sum(p.numel() for p in giant.parameters())
print(f"{parameters / 1e9:.2f} billion parameters")
for use, size in {"inference in bfloat16": 2, "training with Adam": 16}.items():
    print(f"{use:22} {size:2} bytes each: {size * parameters / 1e9:5.1f} GB")

# %% [markdown]
# Sixteen bytes for each parameter in training: its weight and its gradient in bfloat16 (2 + 2), and
# in float32 Adam's two moments and a copy of the weight that small steps do not get lost in
# (4 + 4 + 4; [Rajbhandari et al., 2019](https://arxiv.org/abs/1910.02054), section 3.1). Activations
# come on top. A graphics card of 16 or 24 GB cannot do it.
#
# **How does one model run on several devices?** There are three cuts, and they can be combined:
#
# - **through the layers**: every device holds a part of each matrix (*tensor parallelism*, sections
#   1 to 3);
# - **between the layers**: every device holds some layers (*pipeline parallelism*, section 4);
# - **through the batch**: every device holds a copy and gets other images (*data parallelism*,
#   section 5).
#
# Section 6 combines the first two on four processes, and section 7 plans ViT-G/14. A process here is
# what a device would be elsewhere: it has a number, its **rank**, and knows nothing of the others but
# what they send.

# %% [markdown]
# ## 1 · Columns, then rows
#
# Take the feed-forward layer, with the matrices as in the formula (`nn.Linear` stores them
# transposed):
#
# $$ Y = \mathrm{gelu}(X A) \, B $$
#
# Cut $A$ into columns, $A = [A_1, A_2]$. Then rank $r$ can compute $\mathrm{gelu}(X A_r)$ alone,
# because GELU acts on each number by itself. These are the columns of the hidden layer, so each rank
# needs only the matching **rows** of $B$:
#
# $$ Y = \begin{bmatrix} \mathrm{gelu}(X A_1) & \mathrm{gelu}(X A_2) \end{bmatrix}
# \begin{bmatrix} B_1 \\ B_2 \end{bmatrix} = \mathrm{gelu}(X A_1) B_1 + \mathrm{gelu}(X A_2) B_2 $$
#
# A sum over ranks is all that they must say to each other: **one all-reduce** for two matrices
# ([Shoeybi et al., 2019](https://arxiv.org/abs/1909.08053), section 3).

# %%
import matplotlib.pyplot as plt
import numpy as np

d_model, d_ff, ranks = 4, 8, 2
owner = np.repeat(np.arange(ranks), d_ff // ranks)  # of each hidden unit
panels = {
    "X, on all": np.full((3, d_model), np.nan),
    "A, by columns": np.tile(owner, (d_model, 1)),
    "gelu(XA)": np.tile(owner, (3, 1)),
    "B, by rows": np.tile(owner[:, None], (1, d_model)),
    "Y, in parts": np.full((3, d_model), np.nan),
}
print({name: matrix.shape for name, matrix in panels.items()})

# %%
fig, axes = plt.subplots(1, 5, figsize=(9, 3), width_ratios=[4, 8, 8, 4, 4])
for ax, (title, matrix) in zip(axes, panels.items(), strict=True):
    ax.imshow(
        matrix, cmap="cividis", vmin=-0.4, vmax=1.4, extent=(0, matrix.shape[1], matrix.shape[0], 0)
    )
    ax.set(title=title, xticks=range(matrix.shape[1] + 1), yticks=range(matrix.shape[0] + 1),
           xticklabels=[], yticklabels=[])  # fmt: skip
    ax.title.set_size(9)
    ax.grid(color="0.6", linewidth=0.8)
    ax.tick_params(length=0)
    ax.spines[:].set(visible=True, color="0.6")
    for (row, column), rank in np.ndenumerate(matrix):
        if not np.isnan(rank):
            ax.text(column + 0.5, row + 0.5, int(rank), ha="center", va="center", fontsize=8,
                    color="white" if rank == 0 else "black")  # fmt: skip
lab.show_figure(
    fig,
    "Who holds what. Numbers are ranks. White: X is on every rank, and each has a part of every number of Y.",
    "Five grids: X white, A with its left half for rank 0 and its right half for rank 1, the hidden "
    "layer likewise, B with its upper half for rank 0 and its lower half for rank 1, and Y white.",
)

# %% [markdown]
# **Predict.** What if we cut $A$ into *rows* and $X$ into columns first? Then each rank has only a
# part of a sum *inside* the GELU.

# %%
from torch.nn import functional as F

torch.manual_seed(0)
X = torch.randn(3, d_model, dtype=torch.float64)  # (tokens, d_model)
A, B = (torch.randn(shape, dtype=torch.float64) for shape in ((d_model, d_ff), (d_ff, d_model)))
Y = F.gelu(X @ A) @ B

parts = [F.gelu(X @ a) @ b for a, b in zip(A.chunk(ranks, dim=1), B.chunk(ranks), strict=True)]
assert torch.allclose(sum(parts), Y)
rows = [F.gelu(x @ a) @ B for x, a in zip(X.chunk(ranks, dim=1), A.chunk(ranks), strict=True)]
assert not torch.allclose(sum(rows), Y)
print("columns, then rows: the sum of the parts is Y")
print("rows first: it is not, because gelu(a) + gelu(b) is not gelu(a + b)")


# %% [markdown]
# ### Exercise 1 · Columns, then rows (★★☆, 8 min)
#
# Now with the weights as `nn.Linear` stores them, and with biases. The ranks take neighbouring
# hidden units, equally many. Return what each rank puts into the all-reduce, and the result.

# %% tags=["exercise"]
def my_split_feed_forward(x, up, up_bias, down, down_bias, ranks):
    """x (batch, d_model), up (d_ff, d_model), down (d_model, d_ff), biases (d_ff) and (d_model).

    Returns the ranks' parts (ranks, batch, d_model), without `down_bias`, and the output
    (batch, d_model).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("22.column_row", my_split_feed_forward)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `up.chunk(ranks)` gives each rank its hidden units. Which axis of `down` belongs to hidden units?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.linear(x, own_up, own_up_bias)`, GELU, then `@ own_down.T`. Stack the parts. Sum, and only then
# add `down_bias`.
#
# </details>
#
# **Backward.** The same picture in reverse needs a second all-reduce. Every rank uses the whole $X$,
# so the gradient of $X$ is the sum of what the ranks find. Megatron writes this as two small
# functions around the layer: $f$ does nothing forward and sums backward, $g$ sums forward and does
# nothing backward. So a block of attention and feed-forward costs **four all-reduces**: two forward,
# two backward.

# %% [markdown]
# ## 2 · Attention by heads
#
# Attention is made for this cut: its heads do not know of each other (lesson 02). The projections to
# $q$, $k$ and $v$ are split by columns, so that each rank gets whole heads, and $W^O$ by rows.
#
# One trap is in the way. Our layer, like most, makes $q$, $k$ and $v$ in one product: `qkv` holds all
# queries, then all keys, then all values. Cut in two, the first half is all queries and half of the
# keys.

# %%
from zoo_lessons.deploy.parallel import qkv_outputs

num_heads, head_dim = 4, 2
kinds = np.repeat(["q", "k", "v"], num_heads * head_dim)
heads = np.tile(np.repeat(np.arange(num_heads), head_dim), 3)
names = [f"{kind}{head}" for kind, head in zip(kinds, heads, strict=True)]
print("rows of qkv:      ", " ".join(names))
print("the first half:   ", " ".join(names[: len(names) // 2]))
mine = qkv_outputs(num_heads, head_dim, rank=0, size=2).tolist()
print("rank 0 of 2 needs:", " ".join(names[i] for i in mine))


# %% [markdown]
# ### Exercise 2 · Heads over ranks (★★☆, 6 min)

# %% tags=["exercise"]
def my_qkv_rows(num_heads, head_dim, rank, ranks):
    """Rows of the fused weight that a rank needs, a list of int: queries, then keys, then values.

    Rank 0 has the first heads, and so on. `ranks` divides `num_heads`.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("22.qkv_rows", my_qkv_rows)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The rows, viewed as (3, num_heads, head_dim), have an axis for the heads.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.arange(3 * num_heads * head_dim).view(3, num_heads, head_dim)`, a slice of the middle axis,
# then flatten.
#
# </details>

# %% [markdown]
# ## 3 · On real processes
#
# So far the ranks were items of a list. Real ones are processes that cannot see each other's memory.
# `torchrun` starts them, tells each its rank, and lets them find each other; `torch.distributed`
# carries the messages, by *gloo* between CPUs and by *NCCL* between GPUs. `launch` runs
#
#     torchrun --standalone --nproc-per-node=4 -m zoo_lessons.deploy.parallel_run ...
#
# on this machine and reads what the processes found. The same module runs on several machines with
# `--nnodes` and `--rdzv-endpoint`, and uses NCCL where each process has a GPU of its own. It has five
# trials. Each builds the same small ViT in every process, in float64, does the work in parallel, and
# compares with one process that does all of it. Starting four processes takes some seconds, so we
# run the trials together.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.deploy.parallel_run import SMALL, launch

trials = launch(["tensor", "dtensor", "data", "mesh", "bubble"], processes=4)
print("trials:", ", ".join(trials))

# %%
by_hand = trials["tensor"]
assert max(by_hand["output"], by_hand["gradients"]) < 1e-12
print(f"{by_hand['processes']} processes share a ViT of {SMALL.num_layers} layers")
print("outputs and gradients differ from one process by less than 1e-12: True")
print(
    "all-reduces forward:", by_hand["calls"]["forward"], "backward:", by_hand["calls"]["backward"]
)
print(f"parameters: {by_hand['whole']:,} in all, {by_hand['parameters']:,} on each rank")

# %% [markdown]
# Two all-reduces a layer in each direction, as promised. A rank holds more than a quarter of the
# parameters, because embeddings, LayerNorms, the head and the biases after a sum are on every rank.
# They get the same gradient everywhere, so they stay equal without another word.
#
# **The library's way.** PyTorch has this built in. A `DTensor` is a tensor that knows which part of a
# whole it is, and `parallelize_module` takes a *plan*: which layer is split how.
#
#     parallelize_module(model, mesh, {
#         "layers.*.attention.qkv": ColwiseParallel(),
#         "layers.*.attention.out": RowwiseParallel(),
#         "layers.*.feed_forward.up": ColwiseParallel(),
#         "layers.*.feed_forward.down": RowwiseParallel(),
#     })
#
# It hands out *neighbouring* rows, so the trial puts the rows of `qkv` in order first (exercise 2).

# %%
dtensor = trials["dtensor"]
assert max(dtensor["output"], dtensor["gradients"]) < 1e-12
print("the same outputs and gradients: True;  all-reduces:", dtensor["calls"])
for name, layer in dtensor["layout"].items():
    print(f"{name:18} {layer['placement']}: {str(layer['whole']):9} here {layer['local']}")

# %% [markdown]
# `S(0)` means split along axis 0 of the stored weight, which is an output, a *column* of the formula;
# `S(1)` is an input, a row.

# %% [markdown]
# ## 4 · Stages and micro-batches
#
# The other cut runs between layers: rank 0 has the first layers, rank 1 the next, and so on. Such a
# group of layers is a **stage**. Stages send each other hidden states, and on the way back their
# gradients: much less than four all-reduces a layer.
#
# But they wait. While the last stage works on a batch, the first has nothing to do. The remedy is to
# cut the batch into **micro-batches**, so that the first stage can start on the second one while the
# second stage has the first ([Huang et al., 2019](https://arxiv.org/abs/1811.06965)). GPipe sends all
# of them forward, then all of them back.

# %%
from zoo_lessons.deploy.timetables import bubble_share, idle_share, most_alive, timetable


def draw(slots, title, ax):
    """One row a stage, one box a pass through it."""
    for slot in slots:
        color = "tab:blue" if slot.kind == "forward" else "tab:orange"
        ax.broken_barh([(slot.start, slot.end - slot.start)], (slot.stage - 0.42, 0.84),
                       color=color, edgecolor="white")  # fmt: skip
        ax.text((slot.start + slot.end) / 2, slot.stage, slot.micro_batch + 1, ha="center",
                va="center", color="white", fontsize=8)  # fmt: skip
    ax.set(title=f"{title}: {idle_share(slots):.0%} idle", ylabel="stage", ylim=(3.5, -0.5))
    ax.set_yticks(range(4), ["1", "2", "3", "4"])
    ax.grid(False)


fig, axes = plt.subplots(3, 1, figsize=(9, 6.2), sharex=True)
runs = {"one batch": ("GPipe", 1), "GPipe": ("GPipe", 6), "1F1B": ("1F1B", 6)}
for ax, (title, (schedule, count)) in zip(axes, runs.items(), strict=True):
    # A whole batch takes six times as long as a micro-batch.
    draw(timetable(schedule, 4, count, forward=6 / count, backward=12 / count), title, ax)
axes[-1].set(xlabel="time, in forward passes of a micro-batch")
lab.show_figure(
    fig,
    "Four stages, one batch: whole, and in six micro-batches under two schedules. Blue is forward, "
    "orange backward, numbers are micro-batches.",
    "Three timetables with a row for each of four stages. With a whole batch one stage works at a "
    "time; with micro-batches the boxes overlap in a slanted band.",
)


# %% [markdown]
# The white triangles are the **bubble**. With $p$ stages and $m$ micro-batches, the last micro-batch
# enters after $m - 1$ others and passes $p - 1$ more stages. What share of the time is a stage idle?
#
# ### Exercise 3 · The bubble (★☆☆, 5 min)

# %% tags=["exercise"]
def my_bubble(stages, micro_batches):
    """The idle share of a pipeline whose stages are equally fast, from 0 to 1."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("22.bubble", my_bubble)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Count in steps of one micro-batch through one stage. How many steps does a stage work? When does
# the last stage finish the last micro-batch?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A stage works $m$ steps. All is done after $m + p - 1$. Backward passes change nothing: they have
# the same shape.
#
# </details>
#
# The second and the third timetable end at the same time. So why is there 1F1B (one forward, one
# backward, in turns)? Look at what a stage must *keep*. For the backward pass of a micro-batch it
# needs the activations of its forward pass. GPipe keeps those of all six. In 1F1B the last stage goes
# back at once and keeps one.

# %%
for schedule in ("GPipe", "1F1B"):
    slots = timetable(schedule, 4, 6)
    assert abs(idle_share(slots) - bubble_share(4, 6)) < 1e-12
    print(
        f"{schedule:5} micro-batches that each stage keeps: {[most_alive(slots, s) for s in range(4)]}"
    )

# %% [markdown]
# **Try this.**
#
# 1. Four stages: how many micro-batches does it take to get below 10 % idle?
# 2. Switch to 1F1B. Which fact changes with the number of micro-batches, and which does not?
# 3. Eight stages with eight micro-batches: how much faster than one device? What is lost?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import PipelineExplorer

PipelineExplorer(schedule="GPipe", stages=4, micro_batches=6)

# %% [markdown]
# **Measured.** Four processes on two cores cannot all compute at the same time. But they can *wait* at
# the same time. So in the trial `bubble` a stage does not compute: it sleeps, as long for each batch
# however it is cut. What is left is the schedule of `torch.distributed.pipelining`, and the sending.

# %% tags=["nbval-ignore-output"]
bubble = trials["bubble"]
print(f"{'micro-batches':>13} {'formula':>8} {'measured':>9}")
for count, seconds in bubble["seconds"]["GPipe"].items():
    idle = 1 - bubble["work"] / seconds
    print(f"{count:>13} {bubble_share(bubble['stages'], int(count)):8.1%} {idle:9.1%}")

# %%
seconds = bubble["seconds"]["GPipe"]
assert seconds["1"] > seconds["4"]
print("four micro-batches take less time than one: True")

# %% [markdown]
# And recorded, with more repeats:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.records import load_claim, load_record

timed = load_record("parallel_time")
idle = timed["figures"]["idle"]
fig, ax = plt.subplots(figsize=(7, 3.4))
for name, marker in (("formula", None), ("GPipe", "o"), ("1F1B", "s")):
    rows = timed["figures"]["formula"] if name == "formula" else idle[name]
    counts = [int(count) for count in rows]
    ax.plot(counts, [100 * share for share in rows.values()], marker=marker, label=name,
            color="0.4" if name == "formula" else None, linestyle="-" if marker is None else ":")  # fmt: skip
ax.set(title="Idle time of four stages that wait instead of computing", xlabel="micro-batches",
       ylabel="idle (%)", xscale="log", xticks=counts, ylim=(0, 100))  # fmt: skip
ax.set_xticks(timed["figures"]["micro_batches"], timed["figures"]["micro_batches"])
ax.legend()
lab.show_figure(
    fig,
    "The line is (p - 1) / (m + p - 1). Points above it also paid for sending.",
    "Line chart of idle share against micro-batches: a falling curve for the formula, and points for "
    "GPipe and 1F1B.",
)
print(f"{timed['machine']['device']} · {timed['date']} · make record")


# %% [markdown]
# The smaller the micro-batches, the more of them must be sent and started, and the less a device gets
# out of a small matrix. So $m$ cannot grow for ever.
#
# ### Exercise 4 · Find the bug: the loss of micro-batches (★★☆, 8 min)
#
# This function should return the gradient of the mean loss of the whole batch. It works through
# micro-batches, and its result grows with their number. `chunk` may make the last one smaller.

# %% tags=["exercise"]
def micro_batch_gradient(weight, x, y, micro_batches):
    """weight (classes, width), x (batch, width), y (batch) -> the gradient (classes, width)."""
    total = torch.zeros_like(weight)
    for part_x, part_y in zip(x.chunk(micro_batches), y.chunk(micro_batches), strict=True):
        w = weight.detach().clone().requires_grad_()
        loss = F.cross_entropy(part_x @ w.T, part_y)  # the mean over the micro-batch
        loss.backward()
        total += w.grad
    return total


# %% tags=["check"]
lab.check("22.micro_batches", micro_batch_gradient)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Write the mean over seven examples as a sum of the means over 3, 3 and 1. Which factors stand
# before them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Each micro-batch counts as its share of the batch: `len(part_x) / len(x)`.
#
# </details>

# %% [markdown]
# ## 5 · Copies
#
# The oldest cut needs no new layer: every rank has the whole model and gets other images. After the
# backward pass an all-reduce averages the gradients, and every rank takes the same step. It is also
# what fills a large cluster, when the model fits into one group of devices.

# %%
data = trials["data"]
assert max(data["by_hand"], data["ddp"]) < 1e-12
print(
    "four ranks, two images each: by hand and DistributedDataParallel give the gradient of all eight"
)
print(f"bytes that a rank puts into the all-reduce: {data['bytes']:,}, "
      f"8 for each of {data['bytes'] // 8:,} parameters")  # fmt: skip


# %% [markdown]
# The word *average* matters. Each rank's loss is a mean over its own images.
#
# ### Exercise 5 · Gradients of copies (★☆☆, 5 min)
#
# The last batch of an epoch is rarely a multiple of the ranks. Make the gradient of the mean over all
# images.

# %% tags=["exercise"]
def my_average(gradients, images):
    """gradients (ranks, parameters): of each rank's mean loss. images: how many each rank had.

    Returns (parameters).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("22.average", my_average)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# It is exercise 4 again: ranks instead of micro-batches.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Weights that are the numbers of images, divided by their sum.
#
# </details>

# %% [markdown]
# ## 6 · Claim C27: a mesh of four
#
# **C27: tensor and pipeline parallelism together make ViT-G/14 fit.** The two cuts form a grid, a
# **mesh**: along one axis the ranks share layers, along the other they are stages. The tensor axis
# talks most, so on real machines it stays inside one, where links are fast.
#
# Our mesh is 2 × 2. Ranks 0 and 1 share the first half of the layers, 2 and 3 the second half. They
# train for three steps of Adam.

# %%
mesh = trials["mesh"]
assert max(mesh["output"], mesh["gradients"]) < 1e-12
for ours, theirs in zip(mesh["losses"], mesh["whole_losses"], strict=True):
    assert abs(ours - theirs) < 1e-10
    print(f"loss on the mesh {ours:.6f}, in one process {theirs:.6f}")
for rank, place in enumerate(mesh["ranks"]):
    print(f"rank {rank}: stage {place['stage']}, part {place['tensor_rank']} of its layers, "
          f"{place['parameters']:,} of {mesh['whole_parameters']:,} parameters")  # fmt: skip

# %% [markdown]
# While it trained, each process counted its bytes: of weights, gradients and Adam's moments; of the
# activations that its blocks kept for the backward pass; and of what it sent. `planner.plan` had
# written all of these down before anything ran.

# %%
counted = ["weights", "gradients", "optimizer", "activations", "tensor_bytes", "pipeline_bytes"]
print(f"{'bytes':16} {'counted':>10} {'planned':>10}   (rank 0)")
first = mesh["ranks"][0]
for name in counted:
    print(f"{name:16} {first[name]:>10,} {first['planned'][name]:>10,}")
for rank in mesh["ranks"]:
    assert all(rank[name] == rank["planned"][name] for name in counted)
print("equal on all ranks: True")

# %% [markdown]
# Equal to the byte. The plan for activations is a count of what the blocks save (section 8 shows it).
# What it leaves out are embeddings, head, and the buffers of PyTorch and of the messages.
#
# `make record` did this with both schedules:

# %%
lab.show_claim(load_claim("C27"))


# %% [markdown]
# Mind what was shown and what was not. The *method* is right to the last digits. ViT-G/14 itself did
# not run here; the next section plans it with the planner that was just checked on a small model.

# %% [markdown]
# ## 7 · Plan the giant
#
# What must a stage hold in a real run? Its parameters at 16 bytes each, and the activations of the
# micro-batches that it keeps.
#
# ### Exercise 6 · Bytes of a stage (★★☆, 6 min)
#
# Under 1F1B, with stages numbered from 0.

# %% tags=["exercise"]
def my_stage_bytes(parameters, activations, stage, stages, micro_batches):
    """parameters of the stage; activations: bytes that one micro-batch leaves in it.

    Returns the bytes of a stage under 1F1B, with Adam in mixed precision.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("22.stage_bytes", my_stage_bytes)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Section 4 printed how many micro-batches the stages of a pipeline of four keep.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Stage $s$ of $p$ keeps $p - s$ of them, but never more than there are.
#
# </details>
#
# `plan` does the same for every rank and adds what is sent. The hardware is NVIDIA's A100 by its data
# sheet: 80 GB, 312 teraFLOPS in bfloat16, 300 GB/s to others in the machine in each direction, and
# 25 GB/s to other machines. We assume 40 % of these FLOPS; Megatron reached 44 to 52 %
# ([Narayanan et al., 2021](https://arxiv.org/abs/2104.04473), table 1).

# %%
from zoo_lessons.deploy.planner import A100, plan

GB = 1e9
layouts = {
    "one device": {"schedule": "1F1B"},
    "tensor 4": {"tensor": 4, "schedule": "1F1B"},
    "pipeline 4, GPipe": {"pipeline": 4, "schedule": "GPipe"},
    "pipeline 4, 1F1B": {"pipeline": 4, "schedule": "1F1B"},
    "mesh 2 × 2, 1F1B": {"tensor": 2, "pipeline": 2, "schedule": "1F1B"},
}
plans = {
    name: plan(config, images=8, micro_batches=16, **layout) for name, layout in layouts.items()
}
print(
    f"{'128 images a step':18} {'states':>7} {'kept':>6} {'GB a rank':>10} {'tensor GB':>10} {'stages GB':>10}"
)
for name, made in plans.items():
    rank = max(made.ranks, key=lambda each: each.memory)
    states = rank.weights + rank.gradients + rank.optimizer
    print(f"{name:18} {states / GB:7.1f} {rank.activations / GB:6.1f} {rank.memory / GB:10.1f} "
          f"{rank.tensor_bytes / GB:10.2f} {rank.pipeline_bytes / GB:10.2f}")  # fmt: skip

# %% [markdown]
# *States* are weights, gradients and Adam's; *kept* are activations; the last two columns are what the
# rank puts into all-reduces and sends to other stages in a step. Without stages, 1F1B means one
# micro-batch at a time: forward, backward, next. GPipe keeps all sixteen. So which of these fit?

# %%
for size in (16, 24, 40, 80):
    fitting = [
        name for name, made in plans.items() if max(rank.memory for rank in made.ranks) < size * GB
    ]
    print(f"{size} GB: {' · '.join(fitting)}")

# %% [markdown]
# So the claim needs a footnote. On paper ViT-G/14 trains alone on a device of 40 GB, if slowly;
# splitting is what makes it fit into small ones. And it is faster. How much, says the plan's time:

# %%
print(
    f"{'seconds of a step':18} {'compute':>8} {'bubble':>7} {'tensor':>7} {'stages':>7} {'sum':>6} {'faster':>7}"
)
base = plans["one device"].times(A100).total
for name, made in plans.items():
    t = made.times(A100)
    print(f"{name:18} {t.compute:8.2f} {t.bubble:7.2f} {t.tensor:7.2f} {t.pipeline:7.3f} "
          f"{t.total:6.2f} {base / t.total:6.1f}×")  # fmt: skip

# %% [markdown]
# Four devices are not four times as fast: tensor parallelism pays in messages, the pipeline in idle
# time. On paper, with all four in one machine, the two cost about the same here. Across machines they
# do not:

# %%
for name in ("tensor 4", "pipeline 4, 1F1B"):
    made = plans[name]
    rank = made.ranks[0]
    sent = 2 * (made.tensor - 1) / made.tensor * rank.tensor_bytes + rank.pipeline_bytes
    print(f"{name:17} sends {sent / GB:6.2f} GB a step: {sent / A100.inside:6.3f} s inside a machine, "
          f"{sent / A100.between:6.3f} s between machines")  # fmt: skip

# %% [markdown]
# That is why the tensor axis stays inside a machine and stages may be far apart. Last, a cluster: 64
# devices, 1024 images a step. Copies of the whole model, or copies of the mesh?

# %%
cluster = {
    "64 copies": plan(config, data=64, images=8, micro_batches=2, schedule="1F1B"),
    "16 copies of a 2 × 2 mesh": plan(
        config, tensor=2, pipeline=2, data=16, images=8, micro_batches=8, schedule="1F1B"
    ),
}
for name, made in cluster.items():
    t, rank = made.times(A100), made.ranks[0]
    assert (made.devices, made.batch) == (64, 1024)
    print(f"{name:26} {rank.memory / GB:5.1f} GB a rank, {t.total:.2f} s a step: compute {t.compute:.2f}, "
          f"bubble {t.bubble:.2f}, gradients {t.data:.2f}")  # fmt: skip

# %% [markdown]
# The plan lets nothing overlap, so its times are on the safe side: real systems send gradients while
# the backward pass still runs.

# %% [markdown]
# ## 8 · Read the real thing

# %%
from zoo_lessons.deploy import parallel, planner

lab.show_source(parallel.ColumnLinear)

# %%
lab.show_source(parallel.RowLinear)

# %%
lab.show_source(planner.block_activations)

# %% [markdown]
# | | paper | this course | PyTorch |
# |---|---|---|---|
# | where a layer is split | columns, rows ([Megatron-LM](https://arxiv.org/abs/1909.08053)) | the same | the same, by a plan for `parallelize_module` |
# | fused q, k, v | each rank has its own | rows picked by head | you order the rows |
# | embeddings and head | split over the vocabulary | on every rank | as you plan |
# | schedules | GPipe; 1F1B ([Narayanan et al.](https://arxiv.org/abs/2104.04473)) | drawn and planned; run by PyTorch | both, and interleaved ones |
# | the last, smaller micro-batch | not mentioned | weighted by its size (exercise 4) | assumes equal ones: divides by their number |

# %% [markdown]
# ## 9 · What it costs
#
# | | memory of a rank | messages of a step | what it needs |
# |---|---|---|---|
# | tensor, $t$ ranks | about $1/t$ of weights, states and most activations | 4 all-reduces a layer and micro-batch | fast links; $t$ divides the heads |
# | pipeline, $p$ stages | $1/p$ of weights and states; activations as the schedule says | hidden states between neighbours, twice | many micro-batches; equal stages |
# | data, $n$ copies | everything | one all-reduce of the gradients | large batches |
#
# And on this machine? Two processes with one thread each shared a ViT, beside one process with one
# thread. Recorded, forward and backward, the same batch:

# %% tags=["nbval-ignore-output"]
figures = timed["figures"]
print(f"{figures['parameters'] / 1e6:.1f} M parameters, {figures['batch']} images, {figures['processes']} processes · "
      f"{timed['machine']['device']} · {timed['date']}")  # fmt: skip
for name, row in figures["gains"].items():
    print(f"{name:26} {row['speedup']:.2f} times as fast ({row['low']:.2f} to {row['high']:.2f})")

# %% [markdown]
# Two processes can be at most twice as fast. What is missing went into messages, into the bubble
# (half of the time with one micro-batch: then the stages only take turns), and into smaller matrices.

# %% [markdown]
# ## Quiz

# %%
lab.quiz("22")

# %% [markdown]
# ## Summary
#
# - Split the first matrix by columns and the second by rows, and one all-reduce makes two matrices
#   whole; attention is split by heads, its fused projection head by head. Four all-reduces a block.
# - Stages send little and wait: the idle share is (p − 1) / (m + p − 1). 1F1B has GPipe's bubble and
#   keeps fewer activations.
# - Copies average their gradients, weighted by their images. A sum would be another learning rate.
# - A 2 × 2 mesh of processes equals one process to the last digits, and its bytes are known before it
#   runs. ViT-G/14 needs 16 bytes a parameter and a plan.
# - **Next:** [23 Capstone](23_capstone.ipynb) takes one model from a brief to a service, and defends the
#   choice. **Read:** [Shoeybi et al. 2019](https://arxiv.org/abs/1909.08053), section 3;
#   [Huang et al. 2019](https://arxiv.org/abs/1811.06965), section 2; [Narayanan et al.
#   2021](https://arxiv.org/abs/2104.04473), sections 2 and 3; [Rajbhandari et al.
#   2019](https://arxiv.org/abs/1910.02054), section 3.
