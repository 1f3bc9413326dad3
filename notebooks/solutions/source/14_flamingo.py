# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 14 · Flamingo: solutions
#
# Solutions to the exercises of [14_flamingo](../14_flamingo.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/14_flamingo.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F14_flamingo.ipynb)

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

lab.begin("14")

# %%
import math

import torch


# %% [markdown]
# ## Exercise 1 · One attention of the resampler
#
# The latents ask; patches and latents answer.

# %%
def resample(latents, patches, w_q, w_k, w_v):
    latents = latents.expand(len(patches), -1, -1)  # (batch, num_latents, d)
    seen = torch.cat([patches, latents], dim=1)  # (batch, patches + num_latents, d)
    q, k, v = latents @ w_q, seen @ w_k, seen @ w_v
    weights = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1)
    return latents + weights @ v  # (batch, num_latents, d)


lab.check("14.resample", resample)


# %% [markdown]
# There is one output row for each query, so the result has as many rows as latents, whatever the number
# of patches. Whether `[patches, latents]` or `[latents, patches]` is concatenated makes no difference,
# since attention sums over keys. Leaving the latents out of the keys makes a plain cross-attention; the
# latents then cannot see what the others have found:

# %%
def patches_only(latents, patches, w_q, w_k, w_v):
    q, k, v = latents @ w_q, patches @ w_k, patches @ w_v
    return latents + (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(dim=-1) @ v


lab.check("14.resample", patches_only)


# %% [markdown]
# ## Exercise 2 · Gates that start at zero
#
# A fresh block's numbers are zero, and tanh(0) = 0.

# %%
def gated_block(x, attend, feed_forward, gates=None):
    gates = torch.zeros(2, dtype=x.dtype) if gates is None else gates
    x = x + gates[0].tanh() * attend(x)
    return x + gates[1].tanh() * feed_forward(x)


lab.check("14.gated_block", gated_block)


# %% [markdown]
# The text passes whole, and only what is added meets a gate. A sigmoid would be half open at zero: the
# untrained layers would add half of their noise to a finished language model.

# %%
def with_sigmoid(x, attend, feed_forward, gates=None):
    gates = torch.zeros(2, dtype=x.dtype) if gates is None else gates
    x = x + gates[0].sigmoid() * attend(x)
    return x + gates[1].sigmoid() * feed_forward(x)


lab.check("14.gated_block", with_sigmoid)


# %% [markdown]
# ## Exercise 3 · Frozen means frozen
#
# No gradients, and evaluation mode.

# %%
def freeze(module):
    return module.requires_grad_(False).eval()


lab.check("14.freeze", freeze)


# %% [markdown]
# Both methods reach into every submodule and return the module. `eval()` alone leaves all weights to
# the optimizer. Freezing the linear layers alone is a mistake that is hard to see, since LayerNorms
# have few weights; trained ones still change every word:

# %%
def linear_only(module):
    for part in module.modules():
        if isinstance(part, torch.nn.Linear):
            part.requires_grad_(False)
    return module.eval()


lab.check("14.freeze", linear_only)


# %% [markdown]
# ## Exercise 4 · Which image a word sees
#
# Count the images up to each position; the count is the number of the last one.

# %%
def image_mask(is_image, num_images):
    last = is_image.cumsum(dim=1)  # (batch, length): 0 before the first image
    return last[..., None] == torch.arange(1, num_images + 1)  # (batch, length, num_images)


lab.check("14.image_mask", image_mask)

# %% [markdown]
# Before the first image the count is 0, which equals no image's number, so the row is all False:
# attention then adds zero. With `>=` in place of `==` a word sees all images so far. With
# `torch.arange(num_images)` it sees the *next* image, which in use is not there yet:

# %%
lab.check(
    "14.image_mask",
    lambda is_image, num_images: is_image.cumsum(dim=1)[..., None] == torch.arange(num_images),
)


# %% [markdown]
# ## Exercise 5 · Find the bug: images and a cache
#
# The function began to count images anew at the first token that is not cached. Make the mask of the
# whole text, then take the new rows.

# %%
def mask_of_new_tokens(is_image, num_images, cached):
    return image_mask(is_image, num_images)[:, cached:]


lab.check("14.mask_of_new_tokens", mask_of_new_tokens)

# %% [markdown]
# In use, the whole text is no longer at hand: the model carries the *number* of images that it has
# cached, one for each row of the batch (`images_before`). The same number for all rows is wrong as soon
# as two texts have their images at different places:

# %%
lab.check(
    "14.mask_of_new_tokens",
    lambda is_image, num_images, cached: mask_of_new_tokens(
        is_image[:1].expand_as(is_image), num_images, cached
    ),
)
