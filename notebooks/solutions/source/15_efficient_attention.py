# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 15 · Sparse, hierarchical and linear attention: solutions
#
# Solutions to the exercises of [15_efficient_attention](../15_efficient_attention.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/15_efficient_attention.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F15_efficient_attention.ipynb)

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

lab.begin("15")

# %%
import math

import torch
from torch.nn import functional as F


# %% [markdown]
# ## Exercise 1 · A window without the matrix
#
# A table of places, a mask for those that do not exist, and the usual formula.

# %%
def window_attention(q, k, v, radius):
    places = torch.arange(len(q))[:, None] + torch.arange(-radius, radius + 1)  # (tokens, 2r + 1)
    exists = (places >= 0) & (places < len(k))
    places = places.clamp(0, len(k) - 1)
    scores = (k[places] @ q[:, :, None]).squeeze(2) / q.shape[1] ** 0.5  # (tokens, 2r + 1)
    weights = scores.masked_fill(~exists, -math.inf).softmax(dim=1)
    return (weights[:, None] @ v[places]).squeeze(1)  # (tokens, d_v)


lab.check("15.window_attention", window_attention)


# %% [markdown]
# The range ends at `radius + 1` because Python leaves out the end. The clamped places are only there so
# that indexing works; their scores must be $-\infty$. Without the mask, the first token counts again
# for each place that lies before it:

# %%
def without_mask(q, k, v, radius):
    places = (torch.arange(len(q))[:, None] + torch.arange(-radius, radius + 1)).clamp(
        0, len(k) - 1
    )
    scores = (k[places] @ q[:, :, None]).squeeze(2) / q.shape[1] ** 0.5
    return (scores.softmax(dim=1)[:, None] @ v[places]).squeeze(1)


lab.check("15.window_attention", without_mask)


# %% [markdown]
# ## Exercise 2 · How many layers until all is seen?
#
# The way has `length - 1` steps, each layer covers `radius` of them, and a rest needs a layer too.

# %%
def layers_needed(length, radius):
    return math.ceil((length - 1) / radius)


lab.check("15.layers_needed", layers_needed)

# %%
print(
    "Longformer, 4,096 tokens and 256 to each side:", layers_needed(4096, 256), "layers; it has 12"
)

# %% [markdown]
# The window has `2 · radius + 1` tokens, but news travels in one direction at a time. Dividing by the
# whole window gives half of the layers:

# %%
lab.check("15.layers_needed", lambda length, radius: math.ceil((length - 1) / (2 * radius + 1)))


# %% [markdown]
# ## Exercise 3 · Global tokens
#
# Row: it sees all. Column: all see it.

# %%
def add_global_tokens(mask, positions):
    mask = mask.clone()
    mask[positions, :] = True
    mask[:, positions] = True
    return mask


lab.check("15.global_tokens", add_global_tokens)


# %% [markdown]
# With the column alone, everybody listens to a token that has nothing to tell: it has seen only its
# window. This is easy to miss, because every token *can* attend to it.

# %%
def only_seen(mask, positions):
    mask = mask.clone()
    mask[:, positions] = True
    return mask


lab.check("15.global_tokens", only_seen)


# %% [markdown]
# ## Exercise 4 · Random blocks
#
# One generator, made before the loop; one draw for each block of queries; the same for all heads.

# %%
def random_block_mask(heads, blocks, block, count, seed):
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.zeros(blocks, blocks, dtype=torch.bool)
    for i in range(blocks):
        drawn[i, torch.randperm(blocks, generator=generator)[:count]] = True
    tokens = drawn.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)
    return tokens.expand(heads, -1, -1)  # no copies


lab.check("15.random_blocks", random_block_mask)


# %% [markdown]
# Without the generator, `randperm` takes PyTorch's global one, and each call draws something else. The
# model trains all the same: it only never learns to use connections that change under its feet. No
# error will tell you.

# %%
def drawn_at_each_call(heads, blocks, block, count, seed):
    drawn = torch.zeros(blocks, blocks, dtype=torch.bool)
    for i in range(blocks):
        drawn[i, torch.randperm(blocks)[:count]] = True
    tokens = drawn.repeat_interleave(block, dim=0).repeat_interleave(block, dim=1)
    return tokens.expand(heads, -1, -1)


lab.check("15.random_blocks", drawn_at_each_call)


# %% [markdown]
# ## Exercise 5 · Linear attention
#
# Set the features of padding to zero. They then count neither above the fraction bar nor below it.

# %%
def linear_attention_with_padding(q, k, v, keep):
    phi_q, phi_k = F.elu(q) + 1, (F.elu(k) + 1) * keep[..., None]
    kv, k_sum = phi_k.transpose(1, 2) @ v, phi_k.sum(dim=1)  # (texts, d, d_v), (texts, d)
    return phi_q @ kv / (phi_q @ k_sum[..., None])


lab.check("15.linear_attention", linear_attention_with_padding)


# %% [markdown]
# The order matters: $\phi(0) = 1$, so padding that is set to zero *before* $\phi$ comes back. And
# without the division, the output is a sum over the text, which grows with its length:

# %%
def without_normaliser(q, k, v, keep):
    phi_q, phi_k = F.elu(q) + 1, (F.elu(k) + 1) * keep[..., None]
    return phi_q @ (phi_k.transpose(1, 2) @ v)


lab.check("15.linear_attention", without_normaliser)


# %% [markdown]
# ## Exercise 6 · One step of the recurrence
#
# First the state, then the output.

# %%
def linear_step(q, k, v, kv, k_sum):
    kv, k_sum = kv + torch.outer(k, v), k_sum + k
    return q @ kv / (q @ k_sum), kv, k_sum


lab.check("15.linear_step", linear_step)


# %% [markdown]
# `kv = kv + ...` makes a new tensor; `kv += ...` would change the caller's. The difference shows when
# somebody goes on twice from one state, as beam search does.

# %%
def in_place(q, k, v, kv, k_sum):
    kv += torch.outer(k, v)
    k_sum += k
    return q @ kv / (q @ k_sum), kv, k_sum


lab.check("15.linear_step", in_place)


# %% [markdown]
# ## Exercise 7 · Find the bug: chunks that read ahead
#
# The state took in the whole chunk before the chunk's outputs were made, so each token saw to the end
# of its chunk. Inside a chunk, the small matrix with its causal mask is needed.

# %%
def causal_chunks(q, k, v, chunk):
    kv, k_sum = k.new_zeros(k.shape[1], v.shape[1]), k.new_zeros(k.shape[1])
    outputs = []
    for start in range(0, len(q), chunk):
        q_c, k_c, v_c = (x[start : start + chunk] for x in (q, k, v))
        own = (q_c @ k_c.T).tril()  # (chunk, chunk): each token and those before it
        total = own.sum(dim=1) + q_c @ k_sum
        outputs.append((own @ v_c + q_c @ kv) / total[:, None])
        kv, k_sum = kv + k_c.T @ v_c, k_sum + k_c.sum(dim=0)  # for the chunks after this one
    return torch.cat(outputs)


lab.check("15.causal_chunks", causal_chunks)


# %% [markdown]
# Moving the update below the output alone does not do: then a token sees nothing of its own chunk, not
# even itself. And both parts belong under one fraction bar. A leak that ends at a chunk's end is hard
# to find with the last token of a short text; a change in the middle of a chunk shows it.

# %%
def update_moved_down(q, k, v, chunk):
    kv, k_sum = k.new_zeros(k.shape[1], v.shape[1]), k.new_zeros(k.shape[1])
    outputs = []
    for start in range(0, len(q), chunk):
        q_c, k_c, v_c = (x[start : start + chunk] for x in (q, k, v))
        outputs.append(q_c @ kv / (q_c @ k_sum).clamp(min=1e-30)[:, None])
        kv, k_sum = kv + k_c.T @ v_c, k_sum + k_c.sum(dim=0)
    return torch.cat(outputs)


lab.check("15.causal_chunks", update_moved_down)
