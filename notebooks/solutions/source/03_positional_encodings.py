# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 03 · Positional encodings: solutions
#
# Solutions to the exercises of [03_positional_encodings](../03_positional_encodings.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/03_positional_encodings.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F03_positional_encodings.ipynb)

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

lab.begin("03")

# %%
import math

import torch

from zoo_lessons.layers import Rotary, relative_position_bucket, sinusoidal_positions


# %% [markdown]
# ## Exercise 1 · The sinusoidal table
#
# Write the table (length, d_model) with sine and cosine of each hand side by side.

# %%
def my_sinusoids(length, d_model, base=10000.0):
    place = torch.arange(length)[:, None]  # (length, 1)
    theta = 1 / base ** (torch.arange(0, d_model, 2) / d_model)  # (d_model / 2,)
    angle = place * theta  # (length, d_model / 2)
    table = torch.zeros(length, d_model)
    table[:, 0::2] = angle.sin()
    table[:, 1::2] = angle.cos()
    return table


lab.check("03.sinusoidal", my_sinusoids)

# %% [markdown]
# `torch.arange(0, d_model, 2)` holds $2i$, so the exponent is $2i/d$ and runs from 0 to almost 1. A
# column times a row gives all angles at once.
#
# The common slips give tables that look right in a heat map. With the exponent $i/d$ the slowest
# hand is far too fast. With sines in one half and cosines in the other every number is
# there, and a model can be *trained* with it; but weights that were trained with one layout fail
# with the other.

# %%
theta = 1 / 10000 ** (torch.arange(4) / 8)  # the exponent is i/d
print(f"slowest of 4 hands: {10000 ** (-6 / 8):.4f}; with the wrong exponent: {theta[-1]:.4f}")


def halves(length, d_model, base=10000.0):
    return sinusoidal_positions(length, d_model, base, interleaved=False)


lab.check("03.sinusoidal", halves)


# %% [markdown]
# ## Exercise 2 · The distance of every pair
#
# Key minus query, as integers (queries, keys).

# %%
def my_distance(queries, keys):
    return torch.arange(keys)[None, :] - torch.arange(queries)[:, None]


lab.check("03.distance", my_distance)

# %% [markdown]
# `[None, :]` makes a row, which is repeated for every query; `[:, None]` makes a column, which is
# repeated for every key. Row 0 reads 0, 1, 2 ...: all keys of the first query come after it.
#
# With the sign swapped nothing breaks either. A model trained so would learn mirrored biases. But
# T5's weights, loaded into it, would look *ahead* where they should look back:

# %%
lab.check("03.distance", lambda queries, keys: -my_distance(queries, keys))

# %% [markdown]
# ## Exercise 3 · Which bucket?
#
# The buckets of the distances −5, +5 and −200, with 32 buckets and the last from 128 on.

# %%
three_buckets = (5, 21, 15)
lab.check("03.bucket", three_buckets)

# %% [markdown]
# 32 buckets are 16 for each direction. Of these, the first 8 hold one distance each, so distance −5
# is in bucket 5. A key after the query gets 16 more: +5 is in 21. Distance −200 is beyond 128, so it
# is in the last bucket of the first half: 15.
#
# (5, 5, 31) is the answer of someone who uses all 32 buckets for one direction. T5's decoder does
# so, since it never looks ahead:

# %%
print(relative_position_bucket(torch.tensor([-5, 5, -200])).tolist())
one_way = relative_position_bucket(torch.tensor([-5, 5, -200]), bidirectional=False)
print("decoder:", one_way.tolist())
lab.check("03.bucket", (5, 5, 31))


# %% [markdown]
# ## Exercise 4 · Rotate the pairs
#
# Turn neighbouring pairs of `x` (..., length, d) by the angle of their place.

# %%
def my_rotate(x, base=10000.0):
    length, d = x.shape[-2:]
    place = torch.arange(length, dtype=x.dtype)[:, None]  # (length, 1)
    theta = base ** (-torch.arange(0, d, 2, dtype=x.dtype) / d)  # (d / 2,)
    cos, sin = (place * theta).cos(), (place * theta).sin()  # (length, d / 2)
    a, b = x[..., 0::2], x[..., 1::2]  # (..., length, d / 2)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


lab.check("03.rotate", my_rotate)


# %% [markdown]
# `a` and `b` are the two numbers of every pair, and the last line is `turn` from the lesson for all of
# them. `stack(..., dim=-1)` makes pairs (a', b'), and `flatten(-2)` puts them side by side.
#
# Turning the other way round is hard to see: scores still depend on the distance only, since turning
# both the wrong way swaps before and after. Only weights from elsewhere reveal it. A missing
# $\theta_i$ turns all pairs alike, so that no pair is slow enough for far distances.

# %%
def backwards(x, base=10000.0):
    """Swapping the numbers of each pair before and after turns the other way round."""
    swapped = x.unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
    return my_rotate(swapped, base).unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


lab.check("03.rotate", backwards)


# %% [markdown]
# ## Exercise 5 · Find the bug: a distance that is none
#
# Repair the scores, so that they depend on distances only.

# %%
def repaired_scores(q, k, num_heads, start=0):
    q = q.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (batch, heads, queries, head_dim)
    k = k.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (batch, heads, keys, head_dim)
    q, k = Rotary(q.shape[-1])(q, k, offset=start)  # after the split: each head its own pairs
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


lab.check("03.rope_bug", repaired_scores)


# %% [markdown]
# With width 16, `Rotary(16)` turns dimension 0 together with dimension 8. After the split into four
# heads of width 4, dimension 0 is in head 0 and dimension 8 in head 2. Each of the two heads sums half
# of a rotated pair, and half a pair does not cancel:
# $\cos a \cos b$ alone is not a function of $a - b$.
#
# Pairing neighbours instead hides the symptom, since neighbours stay in one head. But the frequencies
# are still handed out over the whole width: head 0 gets all fast pairs, the last head all slow ones.
# The check knows that one, and the one that rotates along the wrong axis:

# %%
def neighbours(q, k, num_heads, start=0):
    q, k = Rotary(q.shape[-1], interleaved=True)(q, k, offset=start)
    q = q.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    k = k.unflatten(-1, (num_heads, -1)).transpose(1, 2)
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


lab.check("03.rope_bug", neighbours)


# %%
def along_the_heads(q, k, num_heads, start=0):
    q, k = q.unflatten(-1, (num_heads, -1)), k.unflatten(-1, (num_heads, -1))
    q, k = Rotary(q.shape[-1])(q, k, offset=start)  # (batch, length, heads, head_dim): heads!
    return q.transpose(1, 2) @ k.permute(0, 2, 3, 1) / math.sqrt(q.shape[-1])


lab.check("03.rope_bug", along_the_heads)
