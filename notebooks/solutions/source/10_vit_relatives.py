# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 10 · ViT's relatives: solutions
#
# Solutions to the exercises of [10_vit_relatives](../10_vit_relatives.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/10_vit_relatives.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F10_vit_relatives.ipynb)

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

lab.begin("10")

# %%
import torch
from torch.nn import functional as F

from zoo_lessons.models.swin import window_reverse


# %% [markdown]
# ## Exercise 1 · Soft split
#
# Pad, unfold both sides, bring the places to the front, flatten.

# %%
def soft_split(grid, kernel, stride, padding):
    x = F.pad(grid, (padding, padding, padding, padding))
    x = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
    # (batch, channels, down, across, kernel, kernel)
    return x.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


lab.check("10.soft_split", soft_split)

# %% [markdown]
# `unfold` makes a view: the overlapping numbers stand in memory once, until `flatten` copies them. A
# square of 7×7 in steps of 4 then holds every number about three times. The call `F.unfold` does all of
# this, but puts the tokens on the last axis:

# %%
lab.check(
    "10.soft_split",
    lambda grid, kernel, stride, padding: F.unfold(grid, kernel, stride=stride, padding=padding),
)


# %% [markdown]
# ## Exercise 2 · Cut a grid into windows
#
# Split both sides into (number of windows, place in the window), and swap the middle axes.

# %%
def window_partition(x, window_size):
    x = x.unflatten(1, (-1, window_size)).unflatten(3, (-1, window_size))
    # (batch, down, row in the window, across, column in the window, d_model)
    return x.transpose(2, 3).flatten(3, 4).flatten(0, 2)


lab.check("10.window_partition", window_partition)

# %% [markdown]
# The first three axes, batch, windows down and windows across, become the batch of attention; the next
# two become its sequence. Without the swap a "window" would be a strip of one row:

# %%
lab.check("10.window_partition", lambda x, size: x.reshape(-1, size**2, x.shape[-1]))


# %% [markdown]
# ## Exercise 3 · The mask of shifted windows
#
# After `roll(-shift)` the last `shift` rows and the last `shift` columns are the wrapped ones. Two
# yes-or-no questions make four regions.

# %%
def shifted_window_mask(rows, columns, window_size, shift):
    wrapped_row = torch.arange(rows) >= rows - shift
    wrapped_column = torch.arange(columns) >= columns - shift
    region = 2 * wrapped_row.long()[:, None] + wrapped_column.long()  # (rows, columns), 0 to 3
    region = window_partition(region[None, :, :, None], window_size)  # (windows, window_size², 1)
    return region == region.transpose(1, 2)


lab.check("10.shifted_window_mask", shifted_window_mask)

# %% [markdown]
# Four numbers are enough, because the mask compares tokens of one window only. The published code, and
# the library after it, count nine regions: they mark the last window as well. The masks are the same:

# %%
from zoo_lessons.models.swin import shifted_window_mask as with_nine_regions

for sizes in ((8, 12, 4, 2), (6, 9, 3, 1), (10, 10, 5, 2)):
    assert torch.equal(shifted_window_mask(*sizes), with_nine_regions(*sizes))
print("four regions = nine regions:", True)


# %% [markdown]
# Adding the two answers without the factor 2 gives the same number to two corners that are strangers:

# %%
def regions_added(rows, columns, window_size, shift):
    region = (torch.arange(rows) >= rows - shift).long()[:, None]
    region = region + (torch.arange(columns) >= columns - shift).long()
    region = window_partition(region[None, :, :, None], window_size)
    return region == region.transpose(1, 2)


lab.check("10.shifted_window_mask", regions_added)


# %% [markdown]
# ## Exercise 4 · Find the bug: an image that depends on its batch
#
# The masks must come in the order of the windows, and the second roll must undo the first.

# %%
def shifted_attention(x, attend, window_size, shift):
    batch, rows, columns, _ = x.shape
    windows = window_partition(x.roll((-shift, -shift), dims=(1, 2)), window_size)
    mask = shifted_window_mask(rows, columns, window_size, shift)  # (windows, n, n)
    mask = mask.repeat(batch, 1, 1)  # all windows of image 0, then all of image 1 ...
    x = window_reverse(attend(windows, mask), window_size, rows, columns)
    return x.roll((shift, shift), dims=(1, 2))


lab.check("10.shifted_attention", shifted_attention)

# %% [markdown]
# `repeat_interleave` repeats each mask in turn: window 0, window 0, window 1, window 1. The windows come
# image by image: 0, 1, 0, 1.

# %%
order = torch.arange(3)
print("repeat           ", order.repeat(2).tolist())
print("repeat_interleave", order.repeat_interleave(2).tolist())


# %% [markdown]
# With a batch of one both are the same, so a test with one image finds nothing. Nor does a test of the
# shape. The roll is found by a test that every layer which moves things and brings them back should have:
# let the middle part change nothing, and ask for the input.
#
# Taking out the mask also makes an image independent of its batch, and is wrong:

# %%
def without_mask(x, attend, window_size, shift):
    return shifted_attention(x, lambda w, mask: attend(w, mask | True), window_size, shift)


lab.check("10.shifted_attention", without_mask)


# %% [markdown]
# ## Exercise 5 · Patch merging
#
# Slices with step 2, column by column, after padding to even sides.

# %%
def patch_merging(x, norm, reduction):
    x = F.pad(x, (0, 0, 0, x.shape[2] % 2, 0, x.shape[1] % 2))
    corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
    return reduction(norm(torch.cat(corners, dim=-1)))


lab.check("10.patch_merging", patch_merging)

# %% [markdown]
# Trained from scratch, any order would do: the linear map learns it. With published weights only the
# published order works, and reading row by row, which seems natural, is the wrong one:

# %%
lab.check(
    "10.patch_merging",
    lambda x, norm, reduction: patch_merging(x.transpose(1, 2), norm, reduction).transpose(1, 2),
)


# %% [markdown]
# ## Exercise 6 · MobileViT's sequences
#
# The two places inside the patch join the batch; rows and columns of patches become the sequence.

# %%
def unfold(x, patch_size):
    x = x.unflatten(2, (-1, patch_size)).unflatten(4, (-1, patch_size))
    # (batch, channels, rows, pixel row, columns, pixel column)
    return x.permute(0, 3, 5, 2, 4, 1).flatten(3, 4).flatten(0, 2)


lab.check("10.mobilevit_unfold", unfold)

# %% [markdown]
# It is the cut of lesson 09 with the axes dealt out anew: there the pixel's axes joined the channels. If
# they become the sequence, attention stays inside a patch, which is Swin's choice:

# %%
lab.check("10.mobilevit_unfold", lambda x, size: window_partition(x.permute(0, 2, 3, 1), size))
