# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 20 · Fusion and hardware: solutions
#
# Solutions to the exercises of [20_fusion](../20_fusion.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/20_fusion.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F20_fusion.ipynb)

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

# %%
import math

import torch


# %% [markdown]
# ## Exercise 1 · Arithmetic intensity of a product
#
# Work over traffic: two FLOPs for each of m · k · n pairs, and each number of three matrices once.

# %%
def matmul_intensity(m, k, n, bytes_per_number):
    flops = 2 * m * k * n
    numbers = m * k + k * n + m * n
    return flops / (bytes_per_number * numbers)


lab.check("20.matmul_intensity", matmul_intensity)

# %% [markdown]
# The check names what was left out. If only readings count, the result's m · n numbers are missing,
# which hurts most where k is small:

# %%
lab.check("20.matmul_intensity", lambda m, k, n, size: 2 * m * k * n / (size * (m * k + k * n)))


# %% [markdown]
# ## Exercise 2 · One row, one kernel
#
# The two formulas, line by line.

# %%
def norm_gelu_row(x, weight, bias, eps):
    centred = x - x.mean()
    variance = (centred**2).mean()
    y = centred / torch.sqrt(variance + eps) * weight + bias
    return 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))


lab.check("20.norm_gelu_row", norm_gelu_row)


# %% [markdown]
# `x.var()` divides by the width less one. In a row of 768 that is hard to see, in a row of two numbers
# it is a factor of two; so the check has such a row. GELU's approximation with tanh is close enough to
# pass for rounding in float16, and is caught in float64:

# %%
def with_tanh(x, weight, bias, eps):
    centred = x - x.mean()
    y = centred / torch.sqrt((centred**2).mean() + eps) * weight + bias
    return torch.nn.functional.gelu(y, approximate="tanh")


lab.check("20.norm_gelu_row", with_tanh)


# %% [markdown]
# ## Exercise 3 · Find the bug: the one-pass variance
#
# Subtract the mean before squaring.

# %%
def normalise(x, eps):
    centred = x - x.mean(dim=-1, keepdim=True)
    variance = (centred**2).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + eps)


lab.check("20.variance_bug", normalise)


# %% [markdown]
# With a mean of 3,000 and a spread of 1, both terms of the one-pass formula are about 9,000,000. float32
# has seven digits, so their difference is known to about 1, and the variance *is* 1. It may even come
# out negative, and its root is nan. Clamping it at 0 removes the nan and keeps the error:

# %%
def clamped(x, eps):
    mean = x.mean(dim=-1, keepdim=True)
    variance = ((x**2).mean(dim=-1, keepdim=True) - mean**2).clamp(min=0)
    return (x - mean) / torch.sqrt(variance + eps)


lab.check("20.variance_bug", clamped)


# %% [markdown]
# A kernel that must read a row only once carries the mean along and corrects the sum of squares when it
# moves (Welford 1962): the same idea as the online softmax.
#
# ## Exercise 4 · One step of the online softmax
#
# The new maximum first, then one factor for all that was summed.

# %%
def online_step(maximum, total, weighted, scores, v):
    new = torch.maximum(maximum, scores.max())
    factor = torch.exp(maximum - new)  # at most 1
    exps = torch.exp(scores - new)
    return new, factor * total + exps.sum(), factor * weighted + exps @ v


lab.check("20.online_step", online_step)


# %% [markdown]
# Without the factor, blocks are added that are measured from different maxima. The first case of the
# check passes even so, since there was nothing before; the second, in which the maximum rises, does not:

# %%
def without_factor(maximum, total, weighted, scores, v):
    new = torch.maximum(maximum, scores.max())
    exps = torch.exp(scores - new)
    return new, total + exps.sum(), weighted + exps @ v


lab.check("20.online_step", without_factor)


# %% [markdown]
# ## Exercise 5 · Find the bug: a block that is wholly masked
#
# Where the maximum is $-\infty$, 0 serves as the reference. All exponentials are exp(-inf) = 0 then, and
# the state stays as it was: empty. At the end an empty sum must not be a divisor.

# %%
def masked_blocks(q, k, v, mask, block):
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -torch.inf)
    m = scores.new_full((len(q),), -torch.inf)
    total, weighted = scores.new_zeros(len(q)), scores.new_zeros(len(q), v.shape[1])
    for start in range(0, len(k), block):
        s = scores[:, start : start + block]  # (queries, keys of the block)
        new = torch.maximum(m, s.amax(dim=1))
        base = new.masked_fill(new == -torch.inf, 0.0)
        factor, exps = torch.exp(m - base), torch.exp(s - base[:, None])
        m, total = new, factor * total + exps.sum(dim=1)
        weighted = factor[:, None] * weighted + exps @ v[start : start + block]
    return weighted / total.masked_fill(total == 0, 1.0)[:, None]


lab.check("20.masked_block", masked_blocks)


# %% [markdown]
# Two tempting repairs. Replacing nan by 0 at the end also wipes out queries that see nothing of the first
# block and much of the later ones: once nan, always nan. And $-10^9$ in place of $-\infty$ works until a
# query may attend to nothing: then all its scores are equal, and it gets the mean of all values.

# %%
def large_negative(q, k, v, mask, block):
    scores = (q @ k.T / q.shape[1] ** 0.5).masked_fill(~mask, -1e9)
    return scores.softmax(dim=1) @ v


lab.check("20.masked_block", large_negative)


# %% [markdown]
# ## Exercise 6 · The backward pass of a block
#
# The weights again, from the logsumexp; their gradients; less the mean, which is grad · output.

# %%
def score_gradient(scores, logsumexp, v, output, grad):
    weights = torch.exp(scores - logsumexp[:, None])  # (queries, keys of the block)
    mean = (grad * output).sum(dim=1)  # (queries)
    return weights * (grad @ v.T - mean[:, None])


lab.check("20.score_gradient", score_gradient)


# %% [markdown]
# The mean over the block alone is right only if there is one block, as the first case of the check is
# not. It is a sum over all keys, and the output has it in it: $\sum_j w_{ij} (g_i \cdot v_j) = g_i \cdot
# \sum_j w_{ij} v_j = g_i \cdot o_i$.

# %%
def mean_of_the_block(scores, logsumexp, v, output, grad):
    weights = torch.exp(scores - logsumexp[:, None])
    to_weights = grad @ v.T
    return weights * (to_weights - (weights * to_weights).sum(dim=1, keepdim=True))


lab.check("20.score_gradient", mean_of_the_block)
