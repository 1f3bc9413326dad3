# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 01 · Attention: solutions
#
# Solutions to the exercises of [01_attention](../01_attention.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/01_attention.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F01_attention.ipynb)

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

lab.begin("01")

# %%
import math

import torch

# %% [markdown]
# ## Exercise 1 · Which rows have lost their gradient?
#
# Without computing, say which rows of scores have no entry of the softmax's Jacobian above 0.01.

# %%
dead_rows = "bf"
lab.check("01.dead_rows", dead_rows)

# %% [markdown]
# Three observations decide all six rows.
#
# - The softmax sees only *differences*: subtracting the largest score from a row changes nothing. So
#   d is the same as a, and e is $(-1, 0, -2, -1)$: alive.
# - Two equal leaders share the weight, half each. In c each has $w(1 - w) \approx 0.25$: alive.
# - In b and f one score leads by 9. Its weight is $1/(1 + 3e^{-9}) \approx 0.9996$ in b, and every
#   product $w_i(1 - w_i)$ and $w_i w_j$ has a factor near 0: dead.
#
# The numbers agree:

# %%
from zoo_lessons.lab.exercises.lesson_01 import ROWS

for letter, row in ROWS.items():
    w = torch.tensor(row).softmax(dim=0)
    jacobian = torch.diag(w) - torch.outer(w, w)
    print(letter, f"largest entry {jacobian.abs().max():.4f}")

# %% [markdown]
# "bcef" is the answer of someone who looks at the size of the scores, "bcf" of someone who forgets
# ties:

# %%
lab.check("01.dead_rows", "bcef")


# %% [markdown]
# ## Exercise 2 · Attention in four lines
#
# Write $\mathrm{softmax}(QK^\top / \sqrt{d_k})\,V$ for any number of axes in front.

# %%
def attention(q, k, v):
    scores = q @ k.transpose(-2, -1)  # (..., queries, keys)
    scores = scores / math.sqrt(q.shape[-1])
    weights = scores.softmax(dim=-1)  # every row sums to 1
    return weights @ v, weights


lab.check("01.attention", attention)

# %% [markdown]
# `transpose(-2, -1)` counts axes from the end, so a batch in front does not matter. The softmax runs
# along the keys, because each *query* has a weight of 1 to share out.
#
# The common mistakes run without an error, and that makes them dangerous. With the softmax over the
# queries, a square example even has the right shape. The check says what happened:

# %%
lab.check("01.attention", lambda q, k, v: attention(q * math.sqrt(q.shape[-1]), k, v))


# %%
def over_queries(q, k, v):
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-2)
    return weights @ v, weights


lab.check("01.attention", over_queries)


# %% [markdown]
# ## Exercise 3 · Padding mask
#
# Turn an `attention_mask` (batch, keys) into a Boolean mask (batch, 1, 1, keys).

# %%
def my_padding_mask(attention_mask):
    return attention_mask.bool()[:, None, None, :]


lab.check("01.padding_mask", my_padding_mask)

# %% [markdown]
# The scores have the shape (batch, heads, queries, keys). What may be looked at depends on the
# sentence and on the key, not on head and query, so these two axes have size 1 and are stretched.
#
# The most treacherous mistake is to leave out the two axes. The mask (batch, keys) then lines up with
# (queries, keys). Where the batch happens to be as large as the number of queries, nothing complains,
# and each sentence is masked with all the others' padding.

# %%
lab.check("01.padding_mask", lambda attention_mask: attention_mask.bool())


# %% [markdown]
# ## Exercise 4 · Causal mask
#
# True where the key is not later than the query.

# %%
def my_causal_mask(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


lab.check("01.causal_mask", my_causal_mask)

# %% [markdown]
# Row $i$ is the query at position $i$; it may see the columns $0$ to $i$: the lower triangle with the
# diagonal. Another way to write it compares positions, which generalises to other rules:
# `position[:, None] >= position`.
#
# One step too many and the model sees the word it should predict. Its training loss then looks
# wonderful, and it writes nonsense. One step too few and the first token sees nothing at all:

# %%
lab.check("01.causal_mask", lambda length: my_causal_mask(length).tril(-1))


# %% [markdown]
# ## Exercise 5 · Find the bug: hidden, but not silent
#
# Repair an attention that sets hidden weights to 0 after the softmax.

# %%
def repaired_attention(q, k, v, mask):
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    scores = scores.masked_fill(~mask, -math.inf)  # before the softmax, not after
    weights = scores.softmax(dim=-1)
    return weights @ v


lab.check("01.mask_bug", repaired_attention)

# %% [markdown]
# The softmax divides by a sum over *all* keys. In the faulty version, hidden keys were part of that
# sum. Their scores changed the weights of all visible keys: that is how the last word reached the
# first. The visible weights also summed to less than 1.
#
# Could one divide by the new sum afterwards? On paper that gives the same weights. In floating point
# it fails when a hidden score is far above the visible ones: the visible weights round to 0, and
# 0 / 0 is NaN.

# %%
scores = torch.tensor([1.0, 2.0, 200.0])  # the last key is hidden
mask = torch.tensor([True, True, False])
late = scores.softmax(dim=0) * mask
print("masked afterwards, rescaled:", late / late.sum())
print("masked before:              ", scores.masked_fill(~mask, -math.inf).softmax(dim=0))


# %%
def rescaled(q, k, v, mask):
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) * mask
    return weights / weights.sum(dim=-1, keepdim=True) @ v


lab.check("01.mask_bug", rescaled)
