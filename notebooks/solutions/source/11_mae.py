# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 11 · Masked autoencoders: solutions
#
# Solutions to the exercises of [11_mae](../11_mae.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/11_mae.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F11_mae.ipynb)

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

lab.begin("11")

# %% [markdown]
# ## Exercise 1 · Random masking
#
# Choose, for each image, a random set of patches that stay visible, and note how to undo the
# shuffle.

# %%
import torch


def random_masking(noise, mask_ratio):
    visible = int(noise.shape[1] * (1 - mask_ratio))
    ids_shuffle = noise.argsort(dim=1)  # who stands at each place
    ids_restore = ids_shuffle.argsort(dim=1)  # where each patch stands
    mask = (ids_restore >= visible).to(noise.dtype)
    return ids_shuffle[:, :visible], mask, ids_restore


lab.check("11.random_masking", random_masking)

# %% [markdown]
# **Why it works.** Sorting independent noise gives every order of the patches the same chance, so
# the first few are a random sample, and `dim=1` draws one for each image. The second sort inverts
# the first: it lists, for each patch, the place where `ids_shuffle` mentions it. A patch is hidden
# when that place is not among the first `visible`.
#
# **Common mistakes.** With one sort instead of two, the mask speaks about places and not about
# patches: it has the right number of ones, so its mean looks fine, and training runs, but the loss
# grades patches that were visible. To sort `ids_keep` "for tidiness" breaks the link to
# `ids_restore`. With one row of noise for all, all images lose the same patches; with `dim=0`, the
# sort compares images with each other.

# %% [markdown]
# ## Exercise 2 · How many tokens?
#
# 224 / 16 = 14 patches a side, 196 in all. A quarter of them, 49, and the class token make 50. The
# decoder reads 196 + 1.

# %%
tokens = (49 + 1, 196 + 1)
lab.check("11.tokens", tokens)


# %% [markdown]
# **Why it matters.** The encoder is the expensive part, and it reads a quarter. Whoever answers
# (197, 197) thinks of BERT, whose mask tokens go through the encoder.

# %% [markdown]
# ## Exercise 3 · The decoder's input
#
# Append mask tokens, put all patches back into image order, add positions; leave the class token in
# front.

# %%
def decoder_input(latent, mask_token, positions, ids_restore):
    class_token, visible = latent[:, :1], latent[:, 1:]
    missing = ids_restore.shape[1] - visible.shape[1]
    x = torch.cat([visible, mask_token.expand(len(latent), missing, -1)], dim=1)  # shuffled order
    x = x.gather(1, ids_restore[..., None].expand(-1, -1, x.shape[-1]))  # image order
    return torch.cat([class_token, x], dim=1) + positions


lab.check("11.decoder_input", decoder_input)


# %% [markdown]
# **Why it works.** In the shuffled order the visible patches hold the first places, so the mask
# tokens take the rest. Patch $i$ stands at place `ids_restore[i]`, and `gather` fetches it from
# there. Only then does row $i$ of `positions` belong to patch $i$.
#
# **Common mistakes.** Positions that are added before the unshuffling travel with the tokens: the
# model still trains, and paints every patch as if it sat somewhere else. A class token that takes
# part in the unshuffling moves everything by one place. Mask tokens without positions are all
# equal, so every hole gets the same paint.

# %% [markdown]
# ## Exercise 4 · The loss on hidden patches
#
# The mean squared error of each patch, averaged over the hidden ones.

# %%
def masked_loss(logits, target, mask):
    per_patch = (logits - target).square().mean(dim=-1)  # (batch, patches)
    return (per_patch * mask).sum() / mask.sum()


lab.check("11.masked_loss", masked_loss)


# %% [markdown]
# **Why it works.** The mask takes visible patches out of the sum, and its own sum counts what is
# left in.
#
# **Common mistakes.** `(per_patch * mask).mean()` still counts the visible patches in the
# denominator, so the loss is smaller by the factor 0.75, and falls further when you hide less. With
# `1 - mask` the model learns to copy what it sees; the loss becomes tiny, and the holes stay
# nonsense.

# %% [markdown]
# ## Exercise 5 · Find the bug: bright patches stay bright
#
# The colleague took mean and variance over `dim=(1, 2)`, all pixels of the image. Each patch needs
# its own.

# %%
def normalised_target(target, eps=1e-6):
    mean = target.mean(dim=-1, keepdim=True)  # (batch, patches, 1)
    variance = target.var(dim=-1, keepdim=True)  # divides by pixels - 1
    return (target - mean) / (variance + eps).sqrt()


lab.check("11.patch_normalisation", normalised_target)

# %% [markdown]
# **Why it works.** `dim=-1` runs over the pixels of one patch, and `keepdim=True` keeps an axis to
# subtract along.
#
# **Common mistakes.** The faulty version passes the obvious test, mean 0 and variance 1 over
# everything. The test that finds the bug looks at one patch. With `dim=1` the mean is taken over
# patches: every *pixel position* then has mean 0, again not every patch. To repair the mean alone
# leaves faint patches faint.
