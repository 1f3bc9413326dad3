# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 20 · Fusion and hardware
#
# *Why is the fast kernel the one that moves less memory?*
#
# After this lesson you can
#
# - measure this machine's roofline, and place operations on it
# - fuse LayerNorm and GELU by compiler and by hand
# - build FlashAttention's online softmax in blocks, and show that it equals the formula
# - recognise what the hardware was designed for by its effect
#
# **Time:** 50 minutes · **You need first:** [04 The Transformer](04_transformer.ipynb)
#
# **On the zoo map:** part IV, Deployment · **New parts:** Online softmax · **Models:** ViT, BERT
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/20_fusion.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F20_fusion.ipynb) · [Solutions](solutions/20_fusion.ipynb)

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

lab.begin("20")

# %% [markdown]
# ## The question
#
# *The cat sat on the mat* has six tokens. Take 512 of them, in a layer of BERT-Base. One operation
# multiplies the tokens by a matrix of weights. Another adds two tensors, as a residual connection does;
# so that it has something to do, it gets as many numbers as 24 such connections.
#
# **Predict.** Which takes longer?

# %%
import torch

from zoo_lessons.deploy.roofline import elementwise_cost, matmul_cost

x, weight = torch.randn(512, 768), torch.randn(768, 768)
a, b = torch.randn(2, 24 * 512, 768)
costs = {"product": matmul_cost(512, 768, 768), "addition": elementwise_cost(a.numel(), inputs=2)}
for name, cost in costs.items():
    print(f"{name:8}: {cost.flops / 1e6:5.0f} million FLOPs, {cost.bytes / 1e6:5.0f} MB moved")

# %% tags=["nbval-ignore-output"]
from zoo_lessons.deploy.roofline import best_seconds

times = {"product": best_seconds(lambda: x @ weight), "addition": best_seconds(lambda: a + b)}
work = costs["product"].flops / costs["addition"].flops
print(f"the product does {work:.0f} times as many FLOPs as the addition")
print(f"and takes {times['product'] / times['addition']:.2f} times as long")


# %% [markdown]
# FLOPs alone do not tell the time. The addition moves many bytes for each number that it computes, and
# the processor waits for them. **Why is the fast kernel the one that moves less memory?**
#
# Sections 1 to 5 are the *core*: bounds of the machine, fused kernels, and attention in blocks.
# Sections 6 to 8 (the backward pass, what processors are built for, GPUs) are *further* reading.

# %% [markdown]
# ## 1 · Two roofs
#
# A processor does at most $P$ floating-point operations a second, and moves at most $B$ bytes a second
# between itself and the memory. An operation with $W$ FLOPs that moves $Q$ bytes takes at least
#
# $$ t \ge \max\left(\frac{W}{P}, \frac{Q}{B}\right) \qquad\text{so it reaches at most}\qquad \frac{W}{t} \le \min(P, \; I \cdot B) \quad\text{with}\quad I = \frac{W}{Q} $$
#
# $I$ is the **arithmetic intensity**: FLOPs per byte moved. Below the **ridge** $P / B$ the memory is
# the bound, above it the arithmetic. As a picture this is a roof, hence the name *roofline*
# (Williams et al. 2009).
#
# Bytes are counted as if each input were read once and each output written once. For a product of
# (m, k) and (k, n), how many FLOPs per byte?
#
# ### Exercise 1 · Arithmetic intensity of a product (★☆☆, 5 min)

# %% tags=["exercise"]
def matmul_intensity(m, k, n, bytes_per_number):
    """FLOPs per byte of (m, k) @ (k, n). A multiplication and an addition are two FLOPs."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("20.matmul_intensity", matmul_intensity)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The result has m · n numbers, each a sum of k products. Three matrices cross the line to the memory.
#
# </details>
#
# The intensity of a product depends on its shape. Take a layer of BERT-Base, 768 to 3,072 numbers:

# %%
for tokens in (1, 8, 64, 512):
    cost = matmul_cost(tokens, 768, 3072)
    print(f"{tokens:3} tokens: {cost.intensity:6.1f} FLOPs per byte")

# %% [markdown]
# With one token, each weight is read for one multiplication and one addition: 2 FLOPs for 4 bytes. That
# is how a GPT writes with a cache (lesson 06), token after token. Batches, and whole texts, use each
# weight many times.
#
# ### This machine's roofs
#
# $B$ comes from copying a tensor that no cache can hold, $P$ from a large product. Both at their best
# of several tries, since a bound is what the machine *can* do.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.deploy.roofline import measure_roofline

roof = measure_roofline(rounds=3)
print(f"P: {roof.flops_per_second / 1e9:.0f} billion FLOPs a second (float32)")
print(f"B: {roof.bytes_per_second / 1e9:.1f} billion bytes a second")
print(f"ridge: {roof.ridge:.1f} FLOPs per byte")

# %% [markdown]
# On a quiet machine, `make record` also placed operations of BERT-Base below the roof. Each call got
# other inputs, so that they came from memory and not from a cache.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.deploy.roofline import Roofline
from zoo_lessons.records import load_claim, load_record

record = load_record("roofline")
figures = record["figures"]
recorded = Roofline(figures["flops_per_second"]["fp32"], figures["bytes_per_second"])
print(f"{record['machine']['device']}, {record['machine']['threads']} threads, {record['date']}")
print(f"{'':24}{'FLOPs / byte':>13}{'GFLOP/s':>9}{'of its roof':>12}")
for row in figures["operations"]:
    rate, share = row["flops_per_second"] / 1e9, row["share_of_roof"]
    print(f"{row['name']:24}{row['intensity']:13.1f}{rate:9.1f}{share:12.0%}")

# %% tags=["nbval-ignore-output"]
import matplotlib.pyplot as plt
import numpy as np

fig, ax = plt.subplots(figsize=(8.5, 5))
intensity = np.geomspace(0.05, 300, 200)
roofs = [recorded.attainable(i) / 1e9 for i in intensity]
ax.plot(intensity, roofs, color="black", label="roof")
for row, mark in zip(figures["operations"], "osD^vPX*hp", strict=True):
    rate = row["flops_per_second"] / 1e9
    ax.plot(row["intensity"], rate, mark, markersize=9, label=row["name"])
ax.axvline(recorded.ridge, color="grey", linestyle=":", label="ridge")
ax.set(xscale="log", yscale="log", title="Roofline of the recorded machine (float32)")
ax.set(xlabel="arithmetic intensity (FLOPs per byte)", ylabel="billion FLOPs a second")
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=9)
lab.show_figure(
    fig,
    "Operations of BERT-Base below the roof that main memory (the slope) and arithmetic (the level "
    "part) set. Both axes are logarithmic.",
    "A roof that rises and then stays level. Addition, softmax, GELU, LayerNorm and the layer for one "
    "token lie on the left, below the slope; products of many tokens on the right.",
)

# %% [markdown]
# Read it from left to right. Additions, softmax, GELU and LayerNorm, all that lies between the products,
# are left of the ridge: no faster arithmetic would help there. A point well below its roof
# has a bound that this picture does not draw: the inside of `exp` or `erf`, which is many
# instructions for one FLOP of the formula, or kernels too small to fill the processor. A point *above*
# the slope found part of its data in a cache.
#
# The slope is that of *main* memory. Caches are smaller and faster:

# %% tags=["nbval-ignore-output"]
copies = figures["copies"]
fig = lab.lines(
    {"copy": [rate / 1e9 for rate in copies["bytes_per_second"]]},
    [size / 2**10 for size in copies["bytes"]],
    title="A copy, by its size",
    x_axis="KiB copied",
    y_axis="billion bytes a second",
    log="xy",
)
lab.show_figure(
    fig,
    "Bandwidth against the size of what is copied: small copies run inside a cache.",
    "A line chart with logarithmic axes, 16 KiB to 128 MiB. The line is high while the copy fits "
    "into a cache, and falls to a fraction for the largest sizes.",
)

# %% [markdown]
# This is the lever of the whole lesson: **do as much as possible with a number while it is near**.

# %% [markdown]
# ## 2 · LayerNorm and GELU, one step at a time
#
# Two operations that stand in every Transformer, here one after the other:
#
# $$ y_i = w_i \, \frac{x_i - \mu}{\sqrt{\sigma^2 + \varepsilon}} + b_i \qquad \text{GELU}(y) = \frac{y}{2}\left(1 + \text{erf}\frac{y}{\sqrt 2}\right) $$
#
# $\mu$ and $\sigma^2$ are mean and variance of one row $x$; $w$ and $b$ are learned. Written with one
# PyTorch operation for each step, every step is a **kernel** of its own: it reads tensors from memory
# and writes a new one. `count_traffic` notes what passes between them.

# %%
from zoo_lessons.deploy.fuse import fused_cost, norm_gelu, norm_gelu_written_out
from zoo_lessons.deploy.roofline import count_traffic

rows, width = 512, 768
x, weight, bias = torch.randn(rows, width), torch.randn(width), torch.randn(width)
steps = count_traffic(lambda: norm_gelu_written_out(x, weight, bias))
for kernel in steps.kernels:
    read, written = kernel.read / x.nbytes, kernel.written / x.nbytes
    print(f"{kernel.name:6} reads {read:.2f} and writes {written:.2f} times the size of x")

# %%
two = count_traffic(lambda: norm_gelu(x, weight, bias))
one = fused_cost(rows, width)
assert torch.allclose(norm_gelu(x, weight, bias), norm_gelu_written_out(x, weight, bias), atol=1e-5)
for name, moved in {"step by step": steps, "two kernels": two, "one kernel": one}.items():
    print(f"{name:12}: {moved.bytes / x.nbytes:5.2f} times the size of x")
assert steps.bytes > 5 * two.bytes and one.bytes < 0.51 * two.bytes


# %% [markdown]
# PyTorch's own two kernels, `layer_norm` and `gelu`, save most of it. One kernel for both would save
# half of the rest: the result of LayerNorm never needs to leave the processor. Merging kernels like
# this is **operator fusion**.
#
# A fused kernel takes a row, keeps it, and does everything with it. So first, everything for one row:
#
# ### Exercise 2 · One row, one kernel (★★☆, 8 min)

# %% tags=["exercise"]
def norm_gelu_row(x, weight, bias, eps):
    """GELU(LayerNorm(x)) of one row. x, weight, bias: (width,). Returns (width,).

    By the two formulas above, without `layer_norm` and `gelu`.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("20.norm_gelu_row", norm_gelu_row)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The variance is the mean of the squared deviations: divided by the width, not by the width less one.
# `torch.erf` is there.
#
# </details>
#
# ### Find the bug
#
# A row must be read for its mean, and again for its variance. A colleague saves the second reading:
# $\sigma^2 = \overline{x^2} - \mu^2$, and both means come from one pass. In algebra that is right.
#
# ### Exercise 3 · Find the bug: the one-pass variance (★★☆, 8 min)

# %% tags=["exercise"]
def normalise(x, eps):
    """LayerNorm without weight and bias. x: (rows, width), float32. Returns the same shape."""
    mean = x.mean(dim=-1, keepdim=True)
    variance = (x**2).mean(dim=-1, keepdim=True) - mean**2
    return (x - mean) / torch.sqrt(variance + eps)


# %%
row = torch.randn(1, 768)
for shift in (0, 100, 10_000):
    shifted = row + shift
    one_pass = (shifted**2).mean() - shifted.mean() ** 2
    error = (one_pass.double() - shifted.double().var(correction=0)).abs().item()
    print(f"mean about {shift:6,}: variance wrong by more than a tenth: {error > 0.1}")

# %% tags=["check"]
lab.check("20.variance_bug", normalise)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# With a mean of 10,000, both terms are about 100,000,000. How many digits does float32 have?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Subtract the mean first, square after that. The row is near: reading it twice *there* is cheap.
#
# </details>

# %% [markdown]
# ## 3 · Fused by a compiler, and by hand
#
# **`torch.compile`** looks at a function as a graph, finds steps that can share a loop, and writes one
# kernel for them: in C++ for a CPU, in Triton for a GPU. We give it the fourteen steps. (On a CPU it
# needs a C++ compiler, g++ or clang++. Compiling takes some seconds, once.)

# %% tags=["nbval-ignore-output"]
from zoo_lessons.deploy.fuse import cpp_compiler, generated_kernels

if cpp_compiler() is None and not torch.cuda.is_available():
    print("No C++ compiler here: install g++ or clang++ to compile. The lesson goes on without.")
else:
    compiled, kernels = generated_kernels(norm_gelu_written_out, x, weight, bias)
    assert torch.allclose(compiled, norm_gelu(x, weight, bias), atol=1e-5)
    print(f"kernels generated: {len(kernels)}. Equal to PyTorch's two kernels: True")
    print(f"name of the kernel: {kernels[0]}")

# %% [markdown]
# The name lists what the compiler fused. **Triton** is the language in which it writes for GPUs, and in
# which people write kernels by hand: Python with blocks of numbers in place of single ones. A *program*
# here takes one row:

# %% tags=["nbval-ignore-output"]
try:
    from zoo_lessons.deploy import triton_kernels
except ModuleNotFoundError:
    triton_kernels = None
    print("Triton is not installed. On Linux: pip install triton. The lesson goes on without.")
triton_kernels and lab.show_source(triton_kernels.norm_gelu_kernel.fn)

# %% [markdown]
# `tl.load` and `tl.store` are the only lines that touch memory: one reading of `x`, one writing of the
# result. All between stays in registers. Without a GPU, Triton's interpreter runs the kernel row by row
# in NumPy: too slow to use, and exact enough to check.

# %% tags=["nbval-ignore-output"]
if triton_kernels is not None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    few, w, b = (t.to(device) for t in (x[:16], weight, bias))
    by_hand = triton_kernels.norm_gelu(few, w, b)
    assert torch.allclose(by_hand, norm_gelu(few, w, b), atol=1e-5)
    print("the Triton kernel gives what PyTorch's two kernels give: True")

# %% [markdown]
# ### What fusion saves
#
# Recorded by `make record`, in turns, each ratio to the separate kernels. The compiler was given both
# forms: PyTorch's two kernels, and the fourteen steps ("written out"). The second chain,
# `y * relu(2 * x + 1)`, has next to no arithmetic.

# %% tags=["nbval-ignore-output"]
record = load_record("fusion_time")
figures = record["figures"]
print(f"{record['machine']['device']}, {record['machine']['threads']} threads, {record['date']}")
for kind, forms in figures["ratio"].items():
    print(f"\n{kind}, against {next(iter(forms))} kernels:   bytes   time  95 % interval")
    for form in list(forms)[1:]:
        for i, rows in enumerate(figures["rows"]):
            low, high = figures["interval"][kind][form][i]
            moved = figures["bytes"][kind][form][i] / figures["bytes"][kind]["separate"][i]
            start = f"  {form:22}{rows:5} rows"
            print(f"{start:46}{moved:7.2f}{forms[form][i]:7.2f}  [{low:.2f}, {high:.2f}]")

# %% tags=["nbval-ignore-output"]
ratios, moved, last = figures["ratio"], figures["bytes"], f"{figures['rows'][-1]:,} rows"
steps = ratios["LayerNorm + GELU"]
gain = steps["written out"][-1] / steps["written out, compiled"][-1]
print(f"{last}: compiling the fourteen steps makes them {gain:.1f} times as fast")
for kind in ratios:
    share = moved[kind]["compiled"][-1] / moved[kind]["separate"][-1]
    time = ratios[kind]["compiled"][-1]
    if abs(time - share) < 0.15:
        reason = "time follows the bytes"
    elif time > share:
        reason = "the bytes saved do not show in full: other work is the bound"
    else:
        reason = "more is saved than bytes: fewer kernels to start, fewer tensors to allocate"
    print(f"{kind}, {last}: {share:.2f} of the bytes, {time:.2f} of the time; {reason}")

# %% [markdown]
# Compare the two columns. Where an operation is bound by memory, time follows bytes. But GELU's `erf`
# is a dozen instructions a number, and LayerNorm goes over its row more than once: on a CPU this takes a
# good part of the time, and no fusion removes it. And the two separate kernels are tuned by hand;
# generated code competes with them, and need not win. What a compiler reliably saves is what nobody has
# tuned: a chain of small steps. On a GPU, arithmetic is cheaper against memory, and each kernel costs a
# launch; so fusion has more to save there.

# %% [markdown]
# ## 4 · Attention: the matrix that nobody needs
#
# Lesson 15 measured that fused attention needs little memory, and left the reason for now. Count the
# traffic of both forms, for 4 heads of width 64:

# %%
from functools import partial

from torch.nn import functional as F


def written_out(q, k, v):
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5  # (batch, heads, queries, keys)
    return scores.softmax(dim=-1) @ v


for n in (256, 1024):
    q, k, v = torch.randn(3, 1, 4, n, 64)
    apart = count_traffic(partial(written_out, q, k, v))
    fused = count_traffic(partial(F.scaled_dot_product_attention, q, k, v))
    flops = 4 * n * n * (4 * 64 + 5)
    for name, moved in {"written out": apart, "fused": fused}.items():
        intensity = f"{flops / moved.bytes:5.0f} FLOPs per byte"
        print(f"{n:5} tokens, {name:11}: {moved.bytes / 1e6:5.1f} MB, {intensity}")

# %% [markdown]
# Written out, the (queries × keys) matrix is written and read at each step: scores, scaled scores,
# weights. Its intensity stays low, whatever the length. Fused, only q, k, v and the output pass; the
# FLOPs are the same. Time and memory, forward alone and in a training step:

# %% tags=["nbval-ignore-output"]
record = load_record("attention_memory")
figures = record["figures"]
print(f"{record['machine']['device']}, {record['machine']['threads']} threads, {record['date']}")
fig, axes = plt.subplots(1, 2, figsize=(9, 4.6))
panels = {"Time": ("milliseconds", "seconds", 1e3), "Peak memory": ("MB", "peak_bytes", 1e-6)}
for ax, (title, (unit, field, factor)) in zip(axes, panels.items(), strict=True):
    series = {
        f"{name}: {which}": [factor * cost for cost in figures[which][field][name]]
        for which in ("forward", "forward and backward")
        for name in figures[which][field]
    }
    lab.lines(
        series, figures["lengths"], title=title, x_axis="tokens", y_axis=unit, log="xy", ax=ax
    )
    ax.get_legend().remove()
fig.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9)
lab.show_figure(
    fig,
    "Attention of 4 heads against length: written out, fused, and the course's own version in blocks "
    "(section 5), of which each block is several PyTorch operations. Lines with the same slope grow "
    "alike.",
    "Two line charts with logarithmic axes, 256 to 4,096 tokens, six lines each. Memory: the "
    "written-out form rises about twice as steeply as the fused one and the one in blocks.",
)

# %% tags=["nbval-ignore-output"]
for which in ("forward", "forward and backward"):
    found = figures[which]
    ratio, (low, high) = found["ratio"]["fused"][-1], found["interval"]["fused"][-1]
    apart, fused = (found["peak_bytes"][name][-1] / 1e6 for name in ("written out", "fused"))
    print(
        f"{which}, {figures['lengths'][-1]:,} tokens: fused takes {ratio:.2f} [{low:.2f}, {high:.2f}]"
    )
    print(f"  of the time, and {fused:.1f} MB instead of {apart:.1f} MB. Exponents p of n^p:")
    for name in ("written out", "fused"):
        time, memory = (found[f"exponent_of_{what}"][name]["value"] for what in ("time", "memory"))
        print(f"  {name:11}: time {time:.2f}, memory {memory:.2f}")


# %% [markdown]
# Both forms do the same FLOPs, so counting promises an exponent of 2 for the time of both. Memory is
# where they part. In a training step the difference in megabytes is larger still: autograd keeps the
# weights of the written-out form for the backward pass.
#
# But how? Softmax divides by a sum over *all* keys. A kernel that holds only a part of them does not
# know that sum yet.

# %% [markdown]
# ## 5 · Online softmax
#
# One query reads its keys in blocks. After some blocks it remembers three things: the largest score so
# far $m$, the sum $\ell = \sum_j e^{s_j - m}$ and the weighted values $o = \sum_j e^{s_j - m} v_j$. The
# output so far would be $o / \ell$. The maximum is subtracted so that no exponential overflows, as in
# any softmax.
#
# A new block may raise the maximum from $m$ to $m'$. Then all that was summed is measured from the
# wrong reference. But the correction is one factor for all of it:
#
# $$ e^{s_j - m'} = e^{s_j - m} \cdot e^{m - m'} $$
#
# So nothing has to be read again (Milakov & Gimelshein 2018):
#
# $$ m' = \max(m, \max_j s_j) \qquad \ell' = e^{m - m'} \ell + \sum_j e^{s_j - m'} \qquad o' = e^{m - m'} o + \sum_j e^{s_j - m'} v_j $$
#
# ### Exercise 4 · One step of the online softmax (★★☆, 10 min)

# %% tags=["exercise"]
def online_step(maximum, total, weighted, scores, v):
    """One query reads one more block.

    maximum, total: tensors without axes; before the first block, -inf and 0. weighted: (d_v,).
    scores: (keys of the block,). v: (keys of the block, d_v).
    Returns the new maximum, total and weighted.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("20.online_step", online_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compute the new maximum first; nothing else may use the old one, except the factor.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The same factor belongs to both sums. In the first block it is exp(-inf) = 0, which is right: there
# was nothing before.
#
# </details>
#
# In action, on one query and twelve keys, four at a time. **Predict.** The scores rise from block to
# block. What is left of the first block in the end?

# %%
torch.manual_seed(2)
scores = torch.linspace(-3, 3, 12, dtype=torch.float64) + 0.5 * torch.randn(12)
values = torch.randn(12, 1, dtype=torch.float64)
m, total, o = torch.tensor(-torch.inf), torch.tensor(0.0), torch.zeros(1)
for start in range(0, 12, 4):
    s, v_block = scores[start : start + 4], values[start : start + 4]
    new = torch.maximum(m, s.max())
    factor, exps = torch.exp(m - new), torch.exp(s - new)
    m, total, o = new, factor * total + exps.sum(), factor * o + exps @ v_block
    print(f"m {m:6.3f}  factor {factor:.3f}  sum {total:.3f}  output {(o / total).item():7.4f}")
exact = scores.softmax(dim=0) @ values
assert torch.allclose(o / total, exact, rtol=1e-12)
print(f"exact {exact.item():.4f}: equal")

# %% [markdown]
# Each factor below 1 shrinks all that came before. Nothing is lost: in the full softmax the first keys
# have small weights, too. The explorer shows the same for sixteen keys. Move *blocks read*; then switch
# *rescale* off and find scores for which the result is far off, and others for which it is not.

# %%
from zoo_lessons.lab.widgets import OnlineSoftmaxExplorer

OnlineSoftmaxExplorer(kind="rising", seed=8, block=4, step=2)


# %% [markdown]
# With falling scores the first block has the maximum already: the factor stays 1, and a kernel without
# rescaling passes every test that you make with such data.
#
# ### Masks
#
# A masked score is $-\infty$, and its exponential is 0. One case needs care: a block in which a query
# may see nothing at all, as the first block of a padded or a windowed text. Its maximum is $-\infty$,
# and so may be the maximum so far.
#
# ### Exercise 5 · Find the bug: a block that is wholly masked (★★★, 12 min)

# %% tags=["exercise"]
def masked_blocks(q, k, v, mask, block):
    """Attention in blocks of keys. q: (queries, d). k: (keys, d). v: (keys, d_v).

    mask: Boolean (queries, keys), True = may attend. A query that may attend to nothing gets zeros.
    """
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -torch.inf)
    m = scores.new_full((len(q),), -torch.inf)
    total, weighted = scores.new_zeros(len(q)), scores.new_zeros(len(q), v.shape[1])
    for start in range(0, len(k), block):
        s = scores[:, start : start + block]  # (queries, keys of the block)
        new = torch.maximum(m, s.amax(dim=1))
        factor, exps = torch.exp(m - new), torch.exp(s - new[:, None])
        m, total = new, factor * total + exps.sum(dim=1)
        weighted = factor[:, None] * weighted + exps @ v[start : start + block]
    return weighted / total[:, None]


# %%
q, k, v = torch.randn(3, 6, 4, dtype=torch.float64)
mask = torch.ones(6, 6, dtype=torch.bool)
mask[2, :3] = False  # query 2 sees nothing of the first block
print(
    "rows with nan:",
    masked_blocks(q, k, v, mask, block=3).isnan().any(dim=1).nonzero()[:, 0].tolist(),
)

# %% tags=["check"]
lab.check("20.masked_block", masked_blocks)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What is $-\infty - (-\infty)$? Which two lines compute it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Where the maximum is $-\infty$, any finite reference will do in its place: all exponentials are
# exp(-inf) = 0 then. And at the end, which total is 0?
#
# </details>
#
# ### FlashAttention, forward
#
# **FlashAttention** (Dao et al. 2022) does this for blocks of queries at once: a block of queries stays
# in fast memory, blocks of keys and values pass by, and only the output is written. The library's
# version has this structure in PyTorch operations:

# %%
from zoo_lessons.layers import OnlineSoftmax, causal_mask, flash_attention
from zoo_lessons.layers import scaled_dot_product_attention as formula

torch.manual_seed(0)
q, k, v = torch.randn(3, 2, 3, 50, 8, dtype=torch.float64)  # (batch, heads, tokens, d)
padding = (torch.arange(50) < torch.tensor([50, 37])[:, None])[:, None, None]  # (batch, 1, 1, keys)
for name, mask in {"no mask": None, "padding": padding, "causal": causal_mask(50)}.items():
    ours = flash_attention(q, k, v, mask, block=16)
    difference = (ours - formula(q, k, v, mask)[0]).abs().max().item()
    print(f"{name:8}: equal to the formula up to 1e-14: {difference < 1e-14}")
assert torch.allclose(flash_attention(q, k, v, causal=True), formula(q, k, v, causal_mask(50))[0])

# %% [markdown]
# *Equal* is the point: sparse and linear attention (lesson 15) change the result, this does not.
#
# How much does it move? Each block of queries reads all keys and values once. With blocks of $b$
# queries, width $d$ and $n$ tokens, that is $2 n d \cdot n / b$ numbers for keys and values, beside
# $2 n d$ for queries and output. (Section 4 counted what passes *between* kernels; these readings happen
# within one.) So larger blocks mean less traffic, up to what fast memory can hold:

# %%
n, d = 4096, 64
matrix = 4 * (6 * n * n + 4 * n * d)  # written out: three steps, each writes n × n and reads it
for block in (1, 16, 64, 256):
    numbers = 2 * n * d * n / block + 2 * n * d
    held = (2 * block * d + 2 * block * d + block * block) * 4
    print(
        f"blocks of {block:3}: {4 * numbers / matrix:6.1%} of the traffic, holding {held / 1024:5.1f} KiB"
    )

# %% [markdown]
# ### Read the real thing

# %%
lab.show_source(OnlineSoftmax.update, without_docstring=True)


# %% [markdown]
# | | paper (Dao et al. 2022) | this course | PyTorch's kernels |
# |---|---|---|---|
# | outer loop | over keys (over queries since FlashAttention-2) | over queries | over queries |
# | division by the sum | in each step (once at the end since FlashAttention-2) | once at the end | once at the end |
# | kept for the backward pass | maximum and sum (logsumexp since FlashAttention-2) | logsumexp | logsumexp |
# | a query that sees nothing | not spelled out | zeros | zeros |
# | blocks live in | a GPU's shared memory | ordinary tensors | shared memory, or a CPU's cache |
# | `transformers` | | | calls them: `attn_implementation="sdpa"` |

# %% [markdown]
# ## 6 · The backward pass computes again (further)
#
# Training needs the weights a second time, for the gradients. Written out, autograd keeps them:
# queries × keys numbers in each layer. FlashAttention keeps one number for each query, the logsumexp
# $L_i = m_i + \log \ell_i$, and computes the weights again, block by block:
#
# $$ w_{ij} = e^{s_{ij} - L_i} \qquad \frac{\partial}{\partial s_{ij}} = w_{ij} \left( g_i \cdot v_j - D_i \right) \qquad D_i = \sum_j w_{ij} \, (g_i \cdot v_j) = g_i \cdot o_i $$
#
# $g_i$ is the gradient of the output $o_i$. $D_i$ is a sum over all keys; but it equals $g_i \cdot o_i$,
# so one block does not need the others. More FLOPs, less traffic: left of the ridge that is a good
# trade.
#
# ### Exercise 6 · The backward pass of a block (★★★, 10 min)

# %% tags=["exercise"]
def score_gradient(scores, logsumexp, v, output, grad):
    """Gradient of the scores of one block of keys.

    scores: (queries, keys of the block). logsumexp: (queries,), over all keys.
    v: (keys of the block, d_v). output and grad, the output's gradient: (queries, d_v).
    Returns the shape of scores.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("20.score_gradient", score_gradient)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Three lines, one for each formula. `grad @ v.T` has all products of gradients and values.
#
# </details>
#
# The library's backward pass, against autograd through the formula:

# %%
inputs = [x.clone().requires_grad_() for x in (q, k, v)]
weight = torch.randn(2, 3, 50, 8, dtype=torch.float64)
in_blocks = torch.autograd.grad((weight * flash_attention(*inputs, block=16)).sum(), inputs)
expected = torch.autograd.grad((weight * formula(*inputs)[0]).sum(), inputs)
for name, ours, theirs in zip("qkv", in_blocks, expected, strict=True):
    print(
        f"gradient of {name}: equal up to 1e-13:", torch.allclose(ours, theirs, rtol=0, atol=1e-13)
    )

# %% [markdown]
# ## 7 · What processors are built for (further)
#
# Roofs have grown by design. A processor that has deep learning in mind multiplies small matrices, or
# short rows of int8 or bfloat16 numbers, in one instruction. What does yours have?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import processor_name
from zoo_lessons.deploy.hardware import FEATURES, detect, tensor_cores

print(processor_name())
for name, has in detect().items():
    print(f"  {name:16} {'yes' if has else 'no ':4} {FEATURES[name].does}")
print(f"  GPU with tensor cores: {tensor_cores() or 'none seen'}")

# %% [markdown]
# A flag is a promise. To see what it does, take it away: oneDNN, the library behind many of PyTorch's
# products on CPUs, obeys `ONEDNN_MAX_CPU_ISA`. The same product of 512 tokens and a 768 × 768 matrix,
# in three precisions, in fresh Pythons with fewer and fewer instructions (each the best of three runs):

# %% tags=["nbval-ignore-output"]
record = load_record("hardware_effect")
seconds = record["figures"]["seconds"]
base = seconds["all"]["fp32"]
print(f"{record['machine']['device']}, {record['date']}; time / time of fp32 with all instructions")
print(f"{'':32}{'fp32':>8}{'bf16':>8}{'int8':>8}")
for level, times in seconds.items():
    print(
        f"{level:32}" + "".join(f"{times[kind] / base:8.2f}" for kind in ("fp32", "bf16", "int8"))
    )
without = seconds["AVX-512 without VNNI and bf16"]
for kind in ("bf16", "int8"):
    print(
        f"{kind} without its own instructions: {without[kind] / seconds['all'][kind]:.1f} times as long"
    )

# %% [markdown]
# Read a column from top to bottom. bfloat16 and int8 are small *in memory* everywhere; they are fast
# *in arithmetic* only where the processor multiplies them as they are. Elsewhere each number is first
# converted, and a model in bfloat16 may run slower than one in float32. So lesson 19's quantization
# pays on one machine and not on another, with the same file.
#
# This is what **hardware co-design** means in both directions: processors get instructions for what
# models do, and models (their number formats, head widths in multiples of 8 or 16, attention in blocks)
# are shaped to what processors do well.

# %% [markdown]
# ## 8 · On a GPU: CUDA graphs, and precisions (further)
#
# A GPU has a third roof: each kernel must be **launched** by the CPU, which takes some microseconds. A
# small model at batch 1 consists of hundreds of small kernels, and the GPU waits between them. A **CUDA
# graph** records all launches once and repeats them with a single call.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import compare
from zoo_lessons.deploy.fuse import cuda_graph
from zoo_lessons.models.vit import ViT, ViTConfig

if not torch.cuda.is_available():
    print("PyTorch sees no GPU here, so there is nothing to record a graph of.")
else:
    vit = ViT(ViTConfig.base()).eval().cuda().half()
    image = torch.randn(1, 3, 224, 224, device="cuda", dtype=torch.float16)
    with torch.no_grad():
        replay = cuda_graph(lambda pixels: vit(pixels).logits, image)
        print(compare({"kernel by kernel": lambda: vit(image), "graph": lambda: replay(image)}))

# %% [markdown]
# `python -m zoo_lessons.bench gpu` runs ViT-Base and BERT-Base on a GPU in all precisions (fp32, TF32,
# fp16, bf16, INT8), compiled, as a CUDA graph, and with attention written out, for batches of 1 to 256;
# TensorRT joins in where torch-tensorrt is installed. It takes throughput, memory and energy, and
# stores them with device, software and date. The next cell shows what is stored.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.gpu_bench import line, load_gpu_records

records = load_gpu_records()
if not records:
    print("No recorded result yet: nobody has run the benchmark on a GPU and committed its file.")
for result in records.values():
    print(f"{result['machine']['device']}, {result['date']}, torch {result['software']['torch']}")
    for model, batches in result["results"].items():
        for batch in list(batches)[:: max(1, len(batches) // 3)]:
            print(
                "\n".join(line(model, int(batch), way, row) for way, row in batches[batch].items())
            )

# %% tags=["nbval-ignore-output"]
for name, result in records.items():
    sizes = [int(batch) for batch in result["results"]["ViT-Base"]]
    ways = {
        way: [
            rows[way].get("examples_per_second", np.nan)
            for rows in result["results"]["ViT-Base"].values()
        ]
        for way in ("fp32", "TF32", "fp16", "bf16", "INT8, compiled", "fp16, CUDA graph")
    }
    fig = lab.lines(ways, sizes, title=name, x_axis="batch", y_axis="images a second", log="xy")
    lab.show_figure(
        fig, f"Throughput of ViT-Base, {name}.", "Lines of throughput against batch size."
    )

# %% [markdown]
# ## 9 · What it costs
#
# | | FLOPs | bytes that must move | intensity |
# |---|---|---|---|
# | elementwise, float32 | 1 per number | 8 per number | 1/8 |
# | GELU(LayerNorm(x)), one kernel | 12 per number | 8 per number | 3/2 |
# | product (m, k) · (k, n), float32 | $2mkn$ | $4(mk + kn + mn)$ | grows with the smallest size |
# | attention written out, per head | $4n^2d + 5n^2$ | $4(6n^2 + 4nd)$ | at most about $d / 6$ |
# | attention in blocks of $b$, per head | $4n^2d + 5n^2$ | $4(2n^2d / b + 2nd)$ | about $b / 2$ |
#
# The last two rows are the lesson in one line: the same FLOPs, and an intensity that is set by the
# block that you can hold, no longer by the width of a head.

# %% [markdown]
# ## 10 · The claims
#
# ### Claim C14
#
# The article's claim has three parts. Lesson 16 measured the cost of state spaces, lesson 17 adaptive
# depth and heads, this lesson the kernels.

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C14"))

# %% [markdown]
# The rules were set before the figures came. That for the kernels is strict: from 1,024 tokens on, at
# each length, forward and in training, fused attention must take less time, the whole interval of
# the ratio below 1. The table of section 4 shows each of these ratios.
#
# ### Claims C25 and C34
#
# Both need counters that not every machine has. A verdict without a measurement would be an opinion, so
# there is none until somebody records one.

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C25"))

# %% tags=["nbval-ignore-output"]
lab.show_claim(load_claim("C34"))

# %% [markdown]
# ## Quiz

# %%
lab.quiz("20")

# %% [markdown]
# ## Summary
#
# - An operation is bound by arithmetic or by traffic; FLOPs per byte tell by which. Most of what lies
#   between the products of a Transformer is bound by traffic.
# - Fusion does all steps while a number is near. It saves bytes, and time where bytes were the bound.
# - Online softmax carries maximum, sum and weighted values from block to block; one factor corrects
#   them. Attention in blocks is exact, and never makes the matrix.
# - Its backward pass computes the weights again from one number per query.
# - **Next:** [21 Serving](21_serving.ipynb) puts a model behind requests. **Read:** Williams et al.
#   2009, *Roofline*; Milakov & Gimelshein 2018, [Online normalizer
#   calculation](https://arxiv.org/abs/1805.02867), section 3; Dao et al. 2022,
#   [FlashAttention](https://arxiv.org/abs/2205.14135), section 3; Dao 2023,
#   [FlashAttention-2](https://arxiv.org/abs/2307.08691), section 3.1; Tillet et al. 2019, *Triton*.
