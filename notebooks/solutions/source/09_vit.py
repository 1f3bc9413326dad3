# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 09 · ViT: images as words: solutions
#
# Solutions to the exercises of [09_vit](../09_vit.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/09_vit.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F09_vit.ipynb)

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

lab.begin("09")

# %%
import torch


# %% [markdown]
# ## Exercise 1 · From image to patches
#
# Split both sides, bring the grid to the front, flatten.

# %%
def image_to_patches(images, patch_size):
    batch, channels, height, width = images.shape
    rows, columns = height // patch_size, width // patch_size
    x = images.reshape(batch, channels, rows, patch_size, columns, patch_size)
    x = x.permute(0, 2, 4, 1, 3, 5)  # (batch, rows, columns, channels, patch_size, patch_size)
    return x.reshape(batch, rows * columns, channels * patch_size**2)


lab.check("09.image_to_patches", image_to_patches)


# %% [markdown]
# A reshape never moves numbers; it only draws other borders in the same long line. The `permute`
# between the two reshapes does the moving. Left out, the patches are strips of whole rows:

# %%
def plain_reshape(images, patch_size):
    batch, channels, height, width = images.shape
    count = (height // patch_size) * (width // patch_size)
    return images.reshape(batch, count, channels * patch_size**2)


lab.check("09.image_to_patches", plain_reshape)

# %% [markdown]
# The shape is right, so nothing fails: a model would learn from such strips without complaint. Other orders are legal choices as
# long as everyone makes the same: some code puts the channels last inside a patch, and weights trained
# there give nonsense here. The check names that case too.

# %%
lab.check(
    "09.image_to_patches",
    lambda images, size: (
        images.unflatten(2, (-1, size))
        .unflatten(4, (-1, size))
        .permute(0, 2, 4, 3, 5, 1)
        .flatten(3)
        .flatten(1, 2)
    ),
)


# %% [markdown]
# ## Exercise 2 · Class token and positions
#
# Concatenate, then add.

# %%
def embed(patches, class_token, positions):
    batch = patches.shape[0]
    x = torch.cat([class_token.expand(batch, -1, -1), patches], dim=1)  # (batch, 1 + n, d_model)
    return x + positions


lab.check("09.embed", embed)

# %% [markdown]
# Row 0 of the positions belongs to the class token. Who adds positions before concatenating has one
# row too many, drops it, and the class token goes without. Trained from scratch, such a model does
# as well, since the class token can learn the missing vector itself. With pretrained weights it is
# off:

# %%
lab.check(
    "09.embed",
    lambda patches, class_token, positions: torch.cat(
        [class_token.expand(len(patches), -1, -1), patches + positions[:, 1:]], dim=1
    ),
)


# %% [markdown]
# ## Exercise 3 · Find the bug: an accuracy that depends on the batch size
#
# Turn dropout off, and count the right answers over all images.

# %%
def evaluate(model, images, labels, batch_size):
    model.eval()
    right = 0
    with torch.no_grad():
        for start in range(0, len(labels), batch_size):
            logits = model(images[start : start + batch_size]).logits
            right += (logits.argmax(dim=-1) == labels[start : start + batch_size]).sum().item()
    return right / len(labels)


lab.check("09.evaluate", evaluate)


# %% [markdown]
# `model.eval()` turns dropout off; `torch.no_grad()` does not, it only saves memory. And 382 images in
# batches of 100 leave 82 for the last batch: in a mean of means each of these counts more than the
# others. With one bug repaired, the check names the one that is left:

# %%
def mean_of_means(model, images, labels, batch_size):
    model.eval()
    accuracies = []
    for start in range(0, len(labels), batch_size):
        logits = model(images[start : start + batch_size]).logits
        right = logits.argmax(dim=-1) == labels[start : start + batch_size]
        accuracies.append(right.float().mean())
    return sum(accuracies).item() / len(accuracies)


lab.check("09.evaluate", mean_of_means)


# %% [markdown]
# ## Exercise 4 · Attention rollout
#
# Mean over heads, half identity, multiply from the left.

# %%
def rollout(weights):
    identity = torch.eye(weights.shape[-1], dtype=weights.dtype)
    reach = identity
    for layer in weights.mean(dim=1):  # (tokens, tokens), from the first layer upwards
        reach = (0.5 * layer + 0.5 * identity) @ reach
    return reach


lab.check("09.rollout", rollout)


# %% [markdown]
# `layer @ reach` reads: token $i$ of this layer took from token $j$ below, and $j$ had taken from the
# input tokens what `reach[j]` says. Multiplied from the other side, row $i$ would start at the first
# layer and walk upwards. Every factor's rows sum to 1, so the product's do as well; without the halves
# they grow to $2^L$:

# %%
def not_normalised(weights):
    reach = torch.eye(weights.shape[-1], dtype=weights.dtype)
    for layer in weights.mean(dim=1):
        reach = (layer + torch.eye(len(layer), dtype=layer.dtype)) @ reach
    return reach


lab.check("09.rollout", not_normalised)


# %% [markdown]
# ## Exercise 5 · How long, how large?
#
# Walk through the model from bottom to top.

# %%
def vit_size(image_size, patch_size, num_channels, d_model, num_layers, d_ff, num_labels):
    d, tokens = d_model, 1 + (image_size // patch_size) ** 2
    embedding = num_channels * patch_size**2 * d + d  # the linear map of a patch
    embedding += d + tokens * d  # class token, positions
    attention = 4 * (d * d + d)  # q, k, v and the output
    feed_forward = (d * d_ff + d_ff) + (d_ff * d + d)
    block = attention + feed_forward + 2 * 2 * d  # two LayerNorms
    head = 2 * d + (d * num_labels + num_labels)  # the last LayerNorm, the classifier
    return tokens, embedding + num_layers * block + head


lab.check("09.vit_size", vit_size)

# %% [markdown]
# Where are they, in ViT-B/16?

# %%
base = (224, 16, 3, 768, 12, 3072, 1000)
total = vit_size(*base)[1]
without_blocks = vit_size(*base[:4], 0, *base[5:])[1]
new_parts = 3 * 16**2 * 768 + 768 + 768 + 197 * 768  # patch embedding, class token, positions
print(f"all {total / 1e6:.1f} M, blocks {(total - without_blocks) / 1e6:.1f} M")
print(
    f"patch embedding, class token and positions {new_parts / 1e6:.2f} M: {new_parts / total:.1%}"
)


# %% [markdown]
# What makes the model see is less than a hundredth of it. The slips are small numbers, and each has its
# own size, which is how the check tells them apart. For instance, a forgotten last LayerNorm is
# 2 · 768 = 1,536 short:

# %%
def without_last_norm(*sizes):
    tokens, parameters = vit_size(*sizes)
    return tokens, parameters - 2 * sizes[3]


lab.check("09.vit_size", without_last_norm)
