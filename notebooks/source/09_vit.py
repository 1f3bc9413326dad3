# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 09 · ViT: images as words
#
# *Can a model made for sentences see?*
#
# After this lesson you can
#
# - cut an image into patches, and show that this equals a convolution with stride
# - build a Vision Transformer, and train it on handwritten digits
# - compare the class token with mean pooling
# - test whether the patches that attention highlights are the ones that matter
#
# **Time:** 55 minutes · **You need first:** [04 The Transformer](04_transformer.ipynb)
#
# **On the zoo map:** part II, The zoo · **New parts:** Patch embedding · **Models:** ViT
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/09_vit.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F09_vit.ipynb) · [Solutions](solutions/09_vit.ipynb)

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

# %% [markdown]
# ## The question
#
# A Transformer reads a sequence of vectors. For *The cat sat on the mat* that was easy: one word, one
# vector. Here is a photograph.

# %%
import torch

from zoo_lessons.datasets.digits import photographs

temple = photographs()["china"]  # (channels, height, width)
top, left = (temple.shape[1] - 224) // 2, (temple.shape[2] - 224) // 2
photograph = temple[None, :, top : top + 224, left : left + 224]  # (batch, channels, height, width)

low, high = photograph.aminmax()
print("photograph", tuple(photograph.shape), f"values from {low:.0f} to {high:.0f}")
pixels = 224 * 224
print(f"one token per pixel: {pixels:,} tokens, {pixels**2 / 1e9:.1f} billion scores in one head")

# %% [markdown]
# An image has no words. It has pixels, and they are far too many: attention compares every token
# with every other. **Can a model made for sentences see?** It can, if someone says what a word of an
# image is. In 2020 [Dosovitskiy et al.](https://arxiv.org/abs/2010.11929) gave a short answer: a
# square of 16×16 pixels. Everything after that is the encoder that you know.

# %% [markdown]
# ## 1 · An image as words
#
# Cut the image into squares, and read them as you read a page: from left to right, row by row. Each
# square is a **patch**.
#
# **Try this.**
#
# 1. Move the patch size from 56 down to 8. How does the number of patches grow when the size halves?
#    How does the number of scores?
# 2. Set it to 16 and walk through the patches with the arrow keys. Which patch comes after the one
#    at the right edge?

# %%
from zoo_lessons.lab.widgets import PatchExplorer

PatchExplorer(photograph[0].permute(1, 2, 0), patch_sizes=(8, 14, 16, 28, 32, 56))

# %% [markdown]
# Halve the patch size, and there are four times as many patches, and sixteen times as many scores.
# Section 11 puts a price on that.
#
# Now in code. First the plain way, one patch after the other. Inside a patch, all numbers of the
# first channel (red) come first, then green, then blue; in each channel row by row.

# %%
patch_size = 16
rows = columns = 224 // patch_size
by_loop = []
for row in range(rows):
    for column in range(columns):
        y, x = row * patch_size, column * patch_size
        patch = photograph[:, :, y : y + patch_size, x : x + patch_size]  # (batch, 3, 16, 16)
        by_loop.append(patch.flatten(1))  # (batch, 768)
by_loop = torch.stack(by_loop, dim=1)  # (batch, patches, numbers)
print(f"{rows} × {columns} patches:", tuple(by_loop.shape))


# %% [markdown]
# ### Exercise 1 · From image to patches (★★☆, 10 min)
#
# The loop is slow and cannot run on a GPU as one operation. Do the same by giving the tensor more
# axes: split the height into (rows, pixels of a patch), the width likewise, put the axes into the
# right order, and flatten.

# %% tags=["exercise"]
def my_image_to_patches(images, patch_size):
    """images (batch, channels, height, width) -> (batch, patches, channels * patch_size²).

    Patches row by row from the top left; inside a patch channels, then rows, then columns.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("09.image_to_patches", my_image_to_patches)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# After the split there are six axes: batch, channels, rows, pixel row, columns, pixel column. In which
# order must they stand so that one patch's numbers are next to each other?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x.permute(0, 2, 4, 1, 3, 5)` brings rows and columns of the grid to the front. Then two `reshape`s
# or `flatten`s remain.
#
# </details>

# %% [markdown]
# The library's version is the same reshape. It must agree with the loop, and nothing may be lost on
# the way: the patches, put together again, are the photograph.

# %%
from zoo_lessons.layers.patches import image_to_patches, patches_to_image

patches = image_to_patches(photograph, patch_size)  # (batch, patches, channels * patch_size²)
assert torch.equal(patches, by_loop)
assert torch.equal(patches_to_image(patches, patch_size, 224, 224), photograph)
print("equal to the loop, and reversible:", True)

# %% [markdown]
# ### A linear map, or a convolution
#
# A patch is not a token yet. A linear map $E$, trained with the rest, turns its
# $P^2 C$ numbers ($P$ pixels each way, $C$ channels) into the $d_\text{model}$ numbers of a token:
#
# $$ z_j = x_j E + b, \qquad E \in \mathbb{R}^{P^2 C \times d_\text{model}} $$
#
# $x_j$ is patch $j$, laid out as one row, and $z_j$ its token. One map serves all patches. Now think
# of a **convolution**: a small window moves over the image, and at each place the numbers under it
# are multiplied with the same weights and added up.
#
# **Predict.** Which window size and which step (*stride*) make a convolution do exactly this?

# %%
from torch import nn

convolution = nn.Conv2d(3, 768, kernel_size=16, stride=16)  # a window of 16, moved by 16
with torch.no_grad():
    from_convolution = convolution(photograph).flatten(2).transpose(1, 2)  # (batch, 196, 768)
    weight = convolution.weight.flatten(1)  # (d_model, channels * patch_size²)
    from_patches = patches @ weight.T + convolution.bias  # (batch, 196, 768)
assert torch.allclose(from_patches, from_convolution, atol=1e-5)
print("patches, then a linear map = convolution with stride:", True)

# %% [markdown]
# Window and stride are both the patch size, so no pixel is seen twice. Most code writes it as a
# convolution, as `PatchEmbedding` does in this course, because that is one fast operation. It is also
# why the numbers inside a patch stand in the order channels, rows, columns: that is how a
# convolution's weights lie in memory.
#
# ### Claim C16: 196 patches of 768 values
#
# One of the articles says: a 224×224 image becomes 196 patches of 16×16, each a token of 768 values.
# We have just counted this on a photograph. But 768 appears twice, and means two things:

# %%
from zoo_lessons.records import load_claim, load_record

sizes = load_record("c16_patches")["figures"]["sizes"]
print(f"{'':10}{'patches':>8}{'tokens':>8}{'values of a patch':>19}{'width of a token':>18}")
for name, row in sizes.items():
    numbers = f"{row['patches']:8}{row['tokens']:8}{row['values']:19}{row['width']:18}"
    print(f"{name:10}{numbers}")
lab.show_claim(load_claim("C16"))


# %% [markdown]
# 16·16·3 happens to be the width that ViT-B took over from BERT. For the other sizes, the two
# numbers differ. And the sequence has one token more than there are patches, which is next.

# %% [markdown]
# ## 2 · Class token and positions
#
# Two things are missing before an encoder can start.
#
# - **What should the classifier read?** BERT put a token `[CLS]` in front of the sentence and read
#   its last vector (lesson 07). ViT does the same: a trained vector $x_\text{class}$ stands before the
#   patches. It says nothing about the image. Attention fills it, layer by layer.
# - **Where was each patch?** Attention does not know. As in BERT, a trained vector per place is added.
#
# That is equation 1 of the paper, for $N$ patches:
#
# $$ z^{(0)} = [\, x_\text{class};\; x_1 E;\; x_2 E;\; \dots;\; x_N E \,] + E_\text{pos},
# \qquad E_\text{pos} \in \mathbb{R}^{(N+1) \times d_\text{model}} $$
#
# The semicolons put tokens one after another. $E_\text{pos}$ has one row per token.
#
# ### Exercise 2 · Class token and positions (★☆☆, 6 min)

# %% tags=["exercise"]
def my_embed(patches, class_token, positions):
    """patches (batch, n, d_model), class_token (1, 1, d_model), positions (1, 1 + n, d_model).

    Returns (batch, 1 + n, d_model).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("09.embed", my_embed)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Concatenate first, then add. How many rows does `positions` have?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `class_token.expand(batch, -1, -1)` repeats it for each image without copying.
#
# </details>

# %% [markdown]
# ## 3 · A Vision Transformer from known parts
#
# Now build it. Only the first lines of `forward` are new; the blocks are those of lesson 04, in
# pre-norm.

# %%
from zoo_lessons.layers import EncoderBlock, PatchEmbedding


class SmallViT(nn.Module):
    """An encoder for sentences that reads patches."""

    def __init__(self, c):
        super().__init__()
        self.patches = PatchEmbedding(c.patch_size, c.d_model, c.num_channels)
        length = 1 + (c.image_size // c.patch_size) ** 2
        self.class_token = nn.Parameter(torch.zeros(1, 1, c.d_model))
        self.positions = nn.Parameter(torch.zeros(1, length, c.d_model))
        self.layers = nn.ModuleList(
            EncoderBlock(c.d_model, c.num_heads, c.d_ff, norm="pre", activation="gelu", eps=c.eps)
            for _ in range(c.num_layers)
        )
        self.norm = nn.LayerNorm(c.d_model, c.eps)
        self.head = nn.Linear(c.d_model, c.num_labels)

    def forward(self, pixel_values):
        x = self.patches(pixel_values)  # (batch, patches, d_model)
        x = torch.cat([self.class_token.expand(len(x), -1, -1), x], dim=1) + self.positions
        for layer in self.layers:
            x = layer(x)  # (batch, 1 + patches, d_model)
        return self.head(self.norm(x)[:, 0])  # (batch, num_labels)


# %% [markdown]
# The library's `ViT` does the same, with checks and options around it. Given the same weights, both
# must give the same logits, and so must `transformers`.

# %%
import transformers

from zoo_lessons.models import ViT, ViTConfig
from zoo_lessons.weights import from_transformers, load_renamed

config = ViTConfig(
    image_size=8, patch_size=2, num_channels=1, d_model=48, num_layers=3, num_heads=4, d_ff=96,
    num_labels=10,
)  # fmt: skip
library = ViT(config).eval()
written_here = load_renamed(
    SmallViT(config), library.state_dict(), rules=[(r"^embeddings\.", "")], skip=()
)
images = torch.rand(5, 1, 8, 8)
with torch.no_grad():
    assert torch.allclose(written_here(images), library(images).logits, atol=1e-5)
print("written here = library:", True)

# %%
reference = transformers.ViTForImageClassification(
    transformers.ViTConfig(
        image_size=12,
        patch_size=4,
        num_channels=2,
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=40,
        num_labels=7,
    )
).double()
for parameter in reference.parameters():
    nn.init.normal_(parameter, std=0.3)  # fresh weights hide mistakes: many of them are zero
ours = from_transformers(reference.eval())
images = torch.randn(3, 2, 12, 12, dtype=torch.float64)
with torch.no_grad():
    difference = ours(images).logits - reference(images).logits
assert difference.abs().max() < 1e-9
print("library = transformers, to nine decimals:", True)

# %% [markdown]
# The recorded table of models says it at the published size: same weights, how far the outputs are
# apart, how much code, how large, how fast, how much memory.

# %% tags=["nbval-ignore-output"]
lab.model_table(load_record("vision_model_table"), ["ViT"])

# %% [markdown]
# ### Without positions, a heap
#
# **Predict.** Take the position embeddings away and shuffle the patches of an image. Which outputs
# change?

# %%
order = torch.randperm(16)
images = torch.rand(2, 1, 8, 8)
shuffled = patches_to_image(image_to_patches(images, 2)[:, order], 2, 8, 8)
with torch.no_grad():
    same = torch.allclose(library(images).logits, library(shuffled).logits, atol=1e-6)
    print("with positions, same logits:   ", same)
    without = ViT(config).eval()
    without.embeddings.positions.zero_()
    before, after = without(images), without(shuffled)
assert torch.allclose(before.logits, after.logits, atol=1e-5)
print("without positions, same logits:", True)
patches_before, patches_after = (x.last_hidden_state[:, 1:] for x in (before, after))
assert torch.allclose(patches_before[:, order], patches_after, atol=1e-5)
print("and the patches' outputs are shuffled like the patches:", True)

# %% [markdown]
# Nothing but the positions knows left from right, or up from down. A convolutional network is born
# with that knowledge: neighbours meet in its windows. A ViT must learn from examples which places
# are neighbours. Keep that in mind for section 8.

# %% [markdown]
# ## 4 · Handwriting
#
# Time for real images. scikit-learn carries 1,797 digits that people wrote on paper, scanned to 8×8
# pixels. With patches of 2×2 an image has 16 tokens and the class token.

# %%
import matplotlib.pyplot as plt

from zoo_lessons.datasets.digits import digits

train, test = (digits(split, new_writers=False) for split in ("train", "test"))
print("train", tuple(train.images.shape), "test", tuple(test.images.shape))

fig, axes = plt.subplots(2, 10, figsize=(9, 2.3))
for row, split in enumerate(("train", "test")):
    new = digits(split)  # split by people
    for label in range(10):
        ax = axes[row, label]
        ax.imshow(new.images[new.labels == label][3, 0], cmap="Greys", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
    axes[row, 0].set_ylabel("writers of\n" + split, rotation=0, ha="right", va="center")
lab.show_figure(
    fig,
    "Ten digits by people of the training part, and by people who wrote only for the test. Compare "
    "the two zeros, or the two nines: each hand writes them differently.",
    "Two rows of ten grey images of 8 by 8 pixels, the digits 0 to 9 in each row.",
)

# %% [markdown]
# Who wrote them matters. The file is ordered by writer. Most reports shuffle it first, so that a
# model may have seen the very hand that it is tested on. We train on the shuffled split, to have a
# figure that can be compared, and then say what remains on **new writers**.
#
# There are few digits to learn from. **Augmentation** makes more of them: each time a digit comes up,
# it is moved, turned, resized and slanted a little, by up to half a pixel and six degrees.

# %%
from zoo_lessons.training.augment import random_affine

generator = torch.Generator().manual_seed(0)
views = random_affine(test.images[:1].expand(9, -1, -1, -1), generator)  # (9, 1, 8, 8)
fig, axes = plt.subplots(1, 10, figsize=(9, 1.4))
for ax, image in zip(axes, [test.images[0], *views], strict=True):
    ax.imshow(image[0], cmap="Greys", vmin=0, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
axes[0].set_title("original", fontsize=10)
axes[5].set_title("nine views of it", fontsize=10)
lab.show_figure(
    fig,
    "One digit and nine views of it, as the model sees them in training.",
    "Ten small images of one digit. The first is the original; the others are moved, turned and "
    "slanted by a little.",
)

# %% [markdown]
# ### The recipe
#
# Which learning rate? With or without dropout? Whoever chooses by the test digits has trained on them,
# in a way. So there is a third part, **validation**. The experiment behind the next record tried each
# recipe there and kept the one with the lowest loss. It looked at the test digits once, at the end.

# %%
recipes = load_record("digits_recipe")["figures"]
chosen = recipes["chosen"]
for row in recipes["recipes"]:
    loss = sum(row["loss"]) / len(row["loss"])
    mark = "<- chosen" if {name: row[name] for name in chosen} == chosen else ""
    print(f"learning rate {row['lr']}, dropout {row['dropout']}: validation loss {loss:.3f} {mark}")

# %% [markdown]
# With the choice made, validation has done its work, and its digits may be learned from too. Pixels go
# in as numbers from -1 to 1, as the published ViT had them. The rest is `fit`, the loop of lesson 03.

# %% tags=["nbval-ignore-output"]
from dataclasses import replace

from torch.nn import functional as F

from zoo_lessons.training import fit, seed_everything

validation = digits("validation", new_writers=False)
images = torch.cat([train.images, validation.images])  # (digits, 1, 8, 8)
labels = torch.cat([train.labels, validation.labels])


def batch(step):
    rows = torch.randint(len(labels), (64,), generator=generator)
    return 2 * random_affine(images[rows], generator) - 1, labels[rows]


seed_everything(0)
model = ViT(replace(config, dropout=chosen["dropout"]))
generator = torch.Generator().manual_seed(0)
history = fit(
    model,
    batch,
    lambda model, batch: F.cross_entropy(model(batch[0]).logits, batch[1]),
    steps=recipes["steps"],
    lr=chosen["lr"],
    weight_decay=0.05,
    schedule="warmup_cosine",
)

# %% tags=["nbval-ignore-output"]
fig = lab.training_curves({"ViT": history}, title="Training on the digits", smooth=20, log="y")
lab.show_figure(
    fig,
    "The loss of the batches, which are augmented anew in each step. It falls by about two powers of "
    "ten.",
    "Line chart: cross-entropy against 900 steps on a logarithmic axis. It falls quickly for 150 "
    "steps, from above 2 to about 0.5, and then more slowly to about 0.03.",
)


# %% [markdown]
# ### Exercise 3 · Find the bug: an accuracy that depends on the batch size (★★☆, 8 min)
#
# A colleague wrote the function that measures accuracy. Two things are strange. Called twice, it
# gives two different figures. And a larger batch gives yet another. Run the next two cells to see
# it, then repair both.

# %% tags=["exercise"]
def evaluate(model, images, labels, batch_size):
    """Share of the images whose highest logit is that of their label, a float from 0 to 1."""
    accuracies = []
    for start in range(0, len(labels), batch_size):
        logits = model(images[start : start + batch_size]).logits
        right = logits.argmax(dim=-1) == labels[start : start + batch_size]
        accuracies.append(right.float().mean())
    return sum(accuracies).item() / len(accuracies)


# %%
torch.manual_seed(0)
untrained = ViT(replace(config, dropout=0.5)).train()
calls = [evaluate(untrained, test.images, test.labels, size) for size in (100, 100, 382)]
print("called twice, same accuracy:      ", calls[0] == calls[1])
print("in one batch, same accuracy again:", calls[0] == calls[2])

# %% tags=["check"]
lab.check("09.evaluate", evaluate)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which layer of the model draws random numbers, and in which mode?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# There are 382 images. In batches of 100, how many are in the last one, and how much does each of
# them count?
#
# </details>

# %% [markdown]
# Now the trained model, with a function that does it right:

# %%
@torch.no_grad()
def accuracy(data):
    """Share of right answers of the trained model."""
    guess = model.eval()(2 * data.images - 1).logits.argmax(dim=-1)
    return (guess == data.labels).float().mean().item()


reached = accuracy(test)
assert reached >= 0.97
print("shuffled split, at least 97 % of the test digits right:", reached >= 0.97)

# %% [markdown]
# Is that good? Ask the **baseline** that a careful person would try first: logistic regression on the
# pixels, its penalty chosen on validation as well. And ask what remains on new writers. For that, the
# record holds the same recipe on the same number of digits, split by people.

# %% tags=["nbval-ignore-output"]
from sklearn.linear_model import LogisticRegression

scores = {}
for penalty in (0.03, 0.1, 0.3, 1.0, 3.0):  # scikit-learn's C: larger is weaker
    candidate = LogisticRegression(C=penalty, max_iter=1000)
    candidate.fit(train.images.flatten(1), train.labels)
    scores[penalty] = candidate.score(validation.images.flatten(1), validation.labels)
linear = LogisticRegression(C=max(scores, key=scores.get), max_iter=1000)
linear.fit(images.flatten(1), labels)

baseline = linear.score(test.images.flatten(1), test.labels)
print(f"shuffled, live:      logistic regression {baseline:.1%}")
print(f"                     ViT {reached:.1%}")
errors = {}
for split, values in recipes["accuracy"].items():
    errors[split] = 1 - sum(values) / len(values)
    span = f"{min(values):.1%} to {max(values):.1%} with {len(values)} seeds"
    print(f"{split + ', recorded:':20} ViT {1 - errors[split]:.1%} ({span})")
print(f"New writers: {errors['new writers'] / errors['shuffled']:.1f} times as many errors.")

# %% [markdown]
# The ViT beats the baseline. But the same recipe, with as many digits to learn from, makes several times
# as many errors on people whose hand it has never seen. Nothing is wrong with the model: the shuffled
# split asks an easier question. Whenever you read an accuracy, ask who was in the training data. All
# recorded figures on digits from here on are for new writers, and learned from the 1,157 digits of the
# training part alone.

# %% [markdown]
# ## 5 · What the positions learn
#
# The model was told nothing about the grid: its 16 position vectors began as random numbers. Do they
# know now which places are neighbours? Compare the vector of each place with all others by
# **cosine similarity**: 1 for the same direction, 0 for unrelated, -1 for opposite.

# %% tags=["nbval-ignore-output"]
places = model.embeddings.positions[0, 1:].detach()  # (16, d_model), without the class token
similarity = F.cosine_similarity(places[:, None], places[None], dim=-1)  # (16, 16)
fig, axes = plt.subplots(4, 4, figsize=(5.6, 5))
for place, ax in enumerate(axes.flat):
    image = ax.imshow(similarity[place].view(4, 4), cmap="coolwarm", vmin=-1, vmax=1)
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
fig.colorbar(image, ax=axes, label="cosine similarity", shrink=0.7)
fig.suptitle("Position embeddings: each place against all places", fontweight="bold")
lab.show_figure(
    fig,
    "Each small square belongs to one place of the 4×4 grid and shows how similar the other places' "
    "vectors are to its own, which is 1.",
    "Sixteen heat maps of 4 by 4, arranged as the grid of patches. In each, the place itself is 1. The "
    "left and right columns are often reddish in the maps of their own places.",
)

# %% tags=["nbval-ignore-output"]
row, column = torch.arange(16) // 4, torch.arange(16) % 4
steps = (row[:, None] - row).abs() + (column[:, None] - column).abs()  # (16, 16)
edge = (column == 0) | (column == 3)
pairs = {
    "one step apart": steps == 1,
    "two steps apart": steps == 2,
    "both in the left or right column": edge[:, None] & edge & (steps > 0),
    "both in the middle columns": ~edge[:, None] & ~edge & (steps > 0),
    "one here, one there": edge[:, None] ^ edge,
}
alike = {name: similarity[which].mean() for name, which in pairs.items()}
for name, value in alike.items():
    print(f"{name:33} mean similarity {value:+.2f}")
ink = image_to_patches(images, 2).mean(dim=(0, 2))  # (16,), from 0 for paper to 1
print(
    f"ink in the left and right columns {ink[edge].mean():.2f}, in the middle {ink[~edge].mean():.2f}"
)
assert alike["both in the left or right column"] > alike["one here, one there"] + 0.1

# %% [markdown]
# Read one small square: its own place is 1. In the paper's figure 7, which shows a ViT trained on millions
# of images, places in the same row and column are alike, as if the model had drawn the grid. Ours has
# not: neighbours, one step apart, are hardly more alike than others. Something else is: the places of the
# left and the right column resemble each other, even across the image. They show mostly paper. So these
# positions look less like a map than like a note of what to expect where. That is a reading of one
# model; no test stands behind it.
#
# The next figure shows how much they matter.
#
# ### Claim C17: class token or mean?
#
# Are positions needed at all? And is the class token? The classifier could also read the **mean** of
# the patches' last vectors, with no extra token (appendix D.3 of the paper). All three were trained
# in the same way; `make record` did it, with several seeds, and tested on new writers.

# %%
record = load_record("c17_class_token")["figures"]["accuracy"]
fig, ax = plt.subplots(figsize=(8, 2.6))
for place, values in enumerate(record.values()):
    ax.plot(values, [place] * len(values), "o", color=f"C{place}", alpha=0.7)
    ax.plot([sum(values) / len(values)] * 2, [place - 0.3, place + 0.3], color=f"C{place}")
ax.set(yticks=range(len(record)), yticklabels=list(record), xlabel="accuracy on new writers")
ax.set(title="What the classifier reads", ylim=(len(record) - 0.5, -0.5))
lab.show_figure(
    fig,
    "One dot per seed, a line at the mean. Class token and mean of patches do about equally well; "
    "without positions much is lost.",
    "Dot plot with three rows: class token, mean of patches, class token without positions.",
)
lab.show_claim(load_claim("C17"))


# %% [markdown]
# Neither is better here: the interval of their difference contains 0. Without positions the model still
# reads more than half of the digits from a heap of patches. For the rest one must know where the strokes
# are.

# %% [markdown]
# ## 6 · Where does it look?
#
# A picture of the class token's attention in one layer is easy to draw and says little: what it looks
# at in layer 2 is a token that has already taken in others. **Attention rollout**
# ([Abnar & Zuidema, 2020](https://arxiv.org/abs/2005.00928), section 3) follows all paths. Let
# $A^{(l)}$ be the attention of layer $l$, averaged over heads. Half of what a block passes on comes
# from attention, half through the residual connection:
#
# $$ \hat{A}^{(l)} = \tfrac12 A^{(l)} + \tfrac12 I, \qquad
# R = \hat{A}^{(L)} \cdots \hat{A}^{(2)} \hat{A}^{(1)} $$
#
# $I$ is the identity matrix, and "half" is an assumption, not a measurement. Row $i$ of $R$ says how
# much of each input token reaches token $i$ at the top.
#
# ### Exercise 4 · Attention rollout (★★☆, 8 min)

# %% tags=["exercise"]
def my_rollout(weights):
    """weights (layers, heads, tokens, tokens), first layer first -> (tokens, tokens)."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("09.rollout", my_rollout)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Start with the identity. Each layer multiplies from one side. From which? Row $i$ belongs to the
# token at the *top*.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The rows of every factor sum to 1, so the rows of the result do too. Print them.
#
# </details>

# %% [markdown]
# Here is a test digit. Choose a query on the image: the class token, or a patch. The picture shows
# where each head looks from there. The last entry of the layers is the rollout.
#
# **Try this.** Query = class token. Compare the layers with the rollout. Then pick a patch without any
# ink as the query: does it look at the ink?

# %%
from zoo_lessons.lab.widgets import AttentionExplorer
from zoo_lessons.layers import record_attention
from zoo_lessons.rollout import attention_rollout

shown = 4
with torch.no_grad(), record_attention(model) as maps:
    model(2 * test.images[shown : shown + 1] - 1)
weights = maps.stack()  # (layers, batch, heads, tokens, tokens)
AttentionExplorer(
    weights, image=1 - test.images[shown, 0], rollout=attention_rollout(weights), layer=3, head=-1
)

# %% [markdown]
# ### Is the picture true?
#
# Rollout shows where attention flows, not what matters. So test it: **delete** the patches that it
# highlights, and see how fast the accuracy falls. A deleted patch is hidden from everyone by a mask,
# as padding was in lesson 01. If the highlights matter, then
#
# - deleting the *highest* first must hurt more than deleting patches at *random*,
# - and deleting the *lowest* first must hurt less.
#
# One more control, which needs no model at all: delete the patches with the **most ink** first.

# %%
with torch.no_grad(), record_attention(model) as maps:
    model(2 * test.images - 1)
reach = attention_rollout(maps.stack())[:, 0, 1:]  # class token's row: (images, patches)
ink = image_to_patches(test.images, 2).sum(dim=-1)  # (images, patches)


@torch.no_grad()
def accuracy_without(hidden):
    """hidden: Boolean (images, patches). Accuracy when these patches are masked."""
    keys = F.pad(~hidden, (1, 0), value=True)[:, None, None]  # (images, 1, 1, tokens)
    x = model.embeddings(2 * test.images - 1)
    for layer in model.layers:
        x = layer(x, keys)
    guess = model.head(model.norm(x)[:, 0]).argmax(dim=-1)
    return (guess == test.labels).float().mean().item()


def curve(score):
    """Accuracy after deleting the 0, 1, ... 16 patches of the highest score."""
    rank = (-score).argsort(dim=1).argsort(dim=1)  # 0 for the highest
    return [accuracy_without(rank < count) for count in range(17)]


# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
draws = torch.tensor([curve(torch.rand_like(reach)) for _ in range(5)])  # (draws, 17)
curves = {
    "highest rollout first": curve(reach),
    "lowest rollout first": curve(-reach),
    "random (mean of 5)": draws.mean(dim=0).tolist(),
    "most ink first": curve(ink),
}
fig = lab.lines(
    curves,
    title="Deletion test",
    x_axis="patches deleted (of 16)",
    y_axis="accuracy on the test digits",
)
lab.show_figure(
    fig,
    "How fast accuracy falls when patches are deleted in four orders.",
    "Line chart: accuracy against the number of deleted patches, from 0 to 16. With the highest "
    "rollout first it falls most steeply, with the most ink first almost as steeply; at random it "
    "falls in a straight line; with the lowest rollout first it stays up until 6 and then falls.",
)
print("accuracy               6 deleted   mean over all steps")
for name, values in curves.items():
    print(f"{name:22} {values[6]:9.2f} {sum(values) / len(values):21.2f}")

# %%
mean = {name: sum(values) / len(values) for name, values in curves.items()}
highest, lowest = mean["highest rollout first"], mean["lowest rollout first"]
print("highest first hurts more than random:", highest < mean["random (mean of 5)"] - 0.1)
print("lowest first hurts less than random: ", lowest > mean["random (mean of 5)"] + 0.1)

# %% [markdown]
# Here the picture passes the test. The six *lowest* of sixteen patches can go, and the accuracy hardly
# changes; without the six *highest*, little of it is left. But look at the
# last control: deleting by ink is almost as destructive. So rollout has found the digit on its white paper, and
# a little more than that. On a photograph, where there is no white paper, the test would have to be made
# again.

# %% [markdown]
# ## 7 · Other image sizes (further)
#
# A ViT's position table has one row per place. What if the image gets larger? The blocks take any
# number of tokens; only the table is too short. The paper stretches it: the rows are an image too, of
# 4×4 places with $d_\text{model}$ channels, and can be interpolated (section 3.2).

# %%
from zoo_lessons.layers.patches import interpolate_positions

stretched = interpolate_positions(places[None], 6, 6)  # (1, 36, d_model)
print("trained for", tuple(places.shape), "->", tuple(stretched[0].shape))
larger = F.interpolate(test.images, size=(12, 12), mode="bilinear", align_corners=False)
try:
    model(2 * larger - 1)
except ValueError as problem:
    print("ValueError:", problem)

# %% [markdown]
# **Predict.** The same digits at 12×12 and 16×16 pixels, with stretched positions and no further
# training. Does the model still read them?

# %% tags=["nbval-ignore-output"]
for side in (8, 10, 12, 16):
    resized = F.interpolate(test.images, size=(side, side), mode="bilinear", align_corners=False)
    with torch.no_grad():
        logits = model(2 * resized - 1, interpolate_pos_encoding=True).logits
    right = (logits.argmax(dim=-1) == test.labels).float().mean()
    print(f"{side:2}×{side:<2} pixels, {1 + (side // 2) ** 2:2} tokens: accuracy {right:.1%}")

# %% [markdown]
# It runs, far better than a guess (one in ten), and clearly worse than before. Stretching tells the model
# *where* each patch is, not that a patch now shows a smaller piece of the digit: a stroke that filled one
# patch crosses two. In practice one trains for a while at the new size, which is what the paper does.

# %% [markdown]
# ## 8 · Few labels
#
# **C18: ViT needs large pre-training and falls behind a CNN when data is scarce.** Here is the half of
# it that needs no pre-training; lesson 11 adds the other. Three models learn from 50 to 1,157 labelled
# digits and are tested on new writers: logistic regression, a small CNN, and our ViT. CNN and ViT have
# equally many parameters, the same steps and the same augmentation. All three are tuned on other
# writers.

# %%
record = load_record("digits_labels")["figures"]
sizes = [f"{name} {count:,}" for name, count in record["parameters"].items()]
print("parameters:", ", ".join(sizes))
fig = lab.lines(
    record["accuracy"],
    record["labels"],
    title="Accuracy on new writers",
    x_axis="labelled digits",
    y_axis="accuracy",
    log="x",
)
lab.show_figure(
    fig,
    "Mean and range over the seeds, each with another draw of labelled digits.",
    "Line chart with a logarithmic horizontal axis: accuracy against 50, 100, 200, 400 and 1,157 "
    "labels for logistic regression, CNN and ViT.",
)

# %%
means = {name: torch.tensor(rows).mean(dim=0) for name, rows in record["accuracy"].items()}
lead = torch.tensor(record["accuracy"]["CNN"]) - torch.tensor(record["accuracy"]["ViT"])
print("labels  logistic regression    CNN    ViT  CNN ahead of ViT (seeds)")
for place, count in enumerate(record["labels"]):
    linear, cnn, vit = (mean[place] for mean in means.values())
    low, high = lead[:, place].aminmax()
    ahead = f"{lead[:, place].mean():+.3f} ({low:+.3f} to {high:+.3f})"
    print(f"{count:6} {linear:20.3f} {cnn:6.3f} {vit:6.3f}  {ahead}")
for place, count in enumerate(record["labels"]):
    enough = (means["ViT"] >= means["CNN"][place]).nonzero()[:, 0].tolist()
    needed = record["labels"][enough[0]] if enough else f"more than {record['labels'][-1]}"
    print(f"what the CNN reaches with {count} labels, the ViT reaches with {needed}")

# %% [markdown]
# This half of the claim holds here. The CNN is ahead with every number of labels and every seed. The ViT
# needs four times as many labels, or more than there are, for the same accuracy. With the fewest even
# logistic regression beats it.
#
# Why? The usual explanation: the CNN knows before its first example that neighbours belong together,
# and that a stroke is the same stroke elsewhere in the image. The ViT has to find both out. Section 5
# fits that: after training, the positions of neighbours were hardly more alike than those of others.
#
# Two things this does not say. Even 1,157 labels are few: in the paper's figure 3, ViTs pre-trained on
# the 1.3 million images of ImageNet still fall behind large CNNs, and overtake them with 300 million.
# And there are other ways to teach a model what images are like.
# Pre-training without labels is one; lesson 11 adds it to this picture and gives the verdict on C18.

# %% [markdown]
# ## 9 · Sounds are images too (further)
#
# Nothing in the encoder knows that its tokens are patches of a picture. A sound, drawn as a
# **spectrogram**, is an image as well: time runs to the right, pitch upwards, and brightness is
# loudness.

# %%
from zoo_lessons.datasets.sounds import KINDS, sounds

heard = sounds("test", len(KINDS), noise=0.1)
fig, axes = plt.subplots(2, 4, figsize=(9, 4.6))
for ax, image, kind in zip(axes.flat, heard.spectrograms, KINDS, strict=True):
    ax.imshow(image[0], extent=(0, 0.5, 0, 4), aspect="auto")
    ax.set_title(kind, fontsize=11)
    ax.grid(False)
for ax in axes[1]:
    ax.set_xlabel("time (s)")
for ax in axes[:, 0]:
    ax.set_ylabel("pitch (kHz)")
lab.show_figure(
    fig,
    "One generated sound of each kind. Patches of 8×8 cut each spectrogram into 64 tokens.",
    "Eight spectrograms: a horizontal line for a steady tone, a rising and a falling line, two lines, "
    "a wave, a dashed line, vertical lines for clicks, and a speckled block for noise.",
)

# %% [markdown]
# ### Claim C32: one encoder, three kinds of input
#
# **C32: one architecture encodes text, images and sound.** The same encoder, with the same sizes and
# the same recipe, learned three things: the digits, tested on new writers and without augmentation;
# these sounds, with more noise than in the picture; and the topic of a passage of documentation, from
# its first 32 words. Only the layer that makes tokens differs: patches of 2×2 pixels, patches of 8×8,
# or a table of words.
#
# **Predict.** On which of the three does the encoder beat logistic regression clearly?

# %%
inputs = load_record("c32_one_encoder")["figures"]["inputs"]
fig, ax = plt.subplots(figsize=(8, 3.2))
for place, row in enumerate(inputs.values()):
    mean = sum(row["encoder"]) / len(row["encoder"])
    bars = {"encoder": mean, "logistic regression": row["baseline"], "chance": row["chance"]}
    for index, (label, value) in enumerate(bars.items()):
        named = label if place == 0 else None
        ax.bar(place + 0.25 * (index - 1), value, 0.23, color=f"C{index}", label=named)
    ax.plot([place - 0.25] * len(row["encoder"]), row["encoder"], "k.", markersize=4)
ax.set(xticks=range(len(inputs)), xticklabels=list(inputs), ylabel="accuracy", ylim=(0, 1.02))
ax.set(title="One encoder, three kinds of input")
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
lab.show_figure(
    fig,
    "Bars are means over the seeds; dots are the seeds. Logistic regression saw the same pixels, or "
    "counted the same words (weighted by how rare they are).",
    "Bar chart in three groups, images, sound and text: accuracy of the encoder, of logistic "
    "regression, and of guessing.",
)
lab.show_claim(load_claim("C32"))

# %% [markdown]
# It learns all three, far above chance. Logistic regression gives each pixel a fixed weight. That suits
# the digits, which stand in the middle of their image. A sound may begin at any time and at any pitch,
# so a single pixel says little there, and the encoder, which relates places to each other, wins by far.
# On short passages, counting words does as well as reading them in order. So the claim is true, and
# modest: one architecture *can* encode all three. It need not be the best for each.

# %% [markdown]
# ## 10 · Read the real thing
#
# How the library makes the sequence, with the stretching of section 7:

# %%
from zoo_lessons.models.vit import ViTEmbeddings

lab.show_source(ViTEmbeddings.forward)

# %% [markdown]
# And the model around it:

# %%
lab.show_source(ViT.forward)

# %% [markdown]
# Where the paper, this lesson and `transformers` differ:
#
# | | paper | this lesson | `transformers` |
# |---|---|---|---|
# | order inside a patch | not said | channels, rows, columns | the same |
# | classifier | a hidden layer in pre-training, one layer in fine-tuning | one layer | one layer |
# | image's vector | class token; mean in appendix D.3 | either | class token |
# | LayerNorm epsilon | not given | 1e-12 | 1e-12 |
# | first weights | Xavier, in the published code | the same | normal, 0.02 |
# | other image sizes | stretched positions | on request | on request |
#
# The first weights matter for small models. A linear map keeps the size of its input when the standard
# deviation of its weights is about $1/\sqrt{d_\text{model}}$: 0.04 for a width of 768, where 0.02 is
# not far off, and 0.14 for our 48, where 0.02 would nearly silence the patches. Xavier's rule follows
# the width.
#
# ### ViT-B/16 itself
#
# With a network you can let the real ViT-B/16 name what is on the photograph: 346 MB from the Hugging
# Face hub. Set `wanted` to `True`. Without a network, the cell says what to do instead.

# %% tags=["nbval-ignore-output"]
import json

from zoo_lessons.weights import load_pretrained, pretrained_folder

wanted = False
if wanted:
    try:
        real = load_pretrained("google/vit-base-patch16-224")
        folder = pretrained_folder("google/vit-base-patch16-224")
        names = json.loads((folder / "config.json").read_text())["id2label"]
        with torch.no_grad():
            shares = real(2 * photograph - 1).logits[0].softmax(dim=-1)
        for index in shares.argsort(descending=True)[:5].tolist():
            print(f"{shares[index]:.1%}  {names[str(index)]}")
    except FileNotFoundError as problem:
        print(problem)
else:
    print("Nothing was downloaded. The lesson goes on with its own model.")


# %% [markdown]
# ## 11 · What it costs
#
# ### Exercise 5 · How long, how large? (★★☆, 8 min)
#
# Compute the length of the sequence and the number of parameters from the sizes. A LayerNorm has
# $2\, d_\text{model}$ parameters, a linear map from $a$ to $b$ numbers $ab + b$. Check your formula
# against `SmallViT` above, line by line.

# %% tags=["exercise"]
def vit_size(image_size, patch_size, num_channels, d_model, num_layers, d_ff, num_labels):
    """Returns (tokens, parameters), two whole numbers."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("09.vit_size", vit_size)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Go through `__init__`: patch embedding, class token, positions, blocks, last norm, head. A block has
# four projections with bias, two linear maps, and two LayerNorms.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# For ViT-B/16 the result is 86,567,656 parameters. If you are 768 short, something one token wide is
# missing; if 1,536, a LayerNorm.
#
# </details>

# %% [markdown]
# **Computing.** With $n$ tokens of width $d$, a block takes $24 n d^2 + 4 n^2 d$ FLOPs (lesson 04).
# Term by term for ViT-B/16, beside what PyTorch counts:

# %%
from torch.utils.flop_counter import FlopCounterMode

base = ViTConfig.base()


def vit_flops(side, c=base):
    """FLOPs of one image, term by term."""
    patches, d = (side // c.patch_size) ** 2, c.d_model
    n = 1 + patches
    return {
        "patch embedding, 2N·P²C·d": 2 * patches * c.patch_size**2 * c.num_channels * d,
        "projections, 12 · 8nd²": c.num_layers * 8 * n * d**2,
        "feed-forward, 12 · 16nd²": c.num_layers * 4 * n * d * c.d_ff,
        "attention, 12 · 4n²d": c.num_layers * 4 * n**2 * d,
        "classifier, 2d·1000": 2 * d * c.num_labels,
    }


terms = vit_flops(224)
for name, flops in terms.items():
    print(f"{name:27} {flops / 1e9:7.3f} GFLOP  {flops / sum(terms.values()):6.1%}")

# %%
with torch.device("meta"):  # counts without computing or allocating
    vit = ViT(base).eval()
    with FlopCounterMode(display=False) as counter:
        vit(torch.empty(1, 3, 224, 224))
assert counter.get_total_flops() == sum(terms.values())
parameters = sum(parameter.numel() for parameter in vit.parameters())
assert parameters == 86_567_656
print(f"{sum(terms.values()) / 1e9:.1f} GFLOP an image, {parameters / 1e6:.1f} M parameters")

# %% [markdown]
# The paper's table 1 gives 86 M parameters. (Papers often count a multiplication and an addition as
# one operation; then this is half as many.) At 224 pixels attention's own part is small. It is the
# one that grows with the square of the tokens, and tokens grow with the square of the side:

# %%
sides = [224, 384, 512, 768, 1024, 1536]
parts = {side: vit_flops(side) for side in sides}
total = [sum(part.values()) / 1e9 for part in parts.values()]
own = [part["attention, 12 · 4n²d"] / 1e9 for part in parts.values()]
fig = lab.lines(
    {"attention's own part": own, "all the rest": [t - a for t, a in zip(total, own, strict=True)]},
    sides,
    title="ViT-B/16: cost of one image",
    x_axis="side of the image (pixels)",
    y_axis="GFLOP",
    log="xy",
)
lab.show_figure(
    fig,
    "The rest grows with the number of tokens, attention with its square. They cross near 1,100 "
    "pixels.",
    "Line chart with logarithmic axes: GFLOP against image sides from 224 to 1,536. Attention's own "
    "part rises twice as steeply as the rest and overtakes it.",
)
for side, attention, everything in zip(sides, own, total, strict=True):
    share = f"attention {attention / everything:.0%}"
    print(f"{side:4} pixels: {1 + (side // 16) ** 2:5,} tokens, {everything:6,.0f} GFLOP, {share}")
half = 16 * (6 * base.d_model) ** 0.5  # where 4n²d = 24nd²
print(f"attention is half of a block's cost at about {half:,.0f} pixels")

# %% [markdown]
# A photograph taken with a phone has over ten million pixels. That is why Swin, in lesson 10, lets a
# token look only around itself, and why lesson 15 looks for cheaper attention.

# %% [markdown]
# ## Quiz

# %%
lab.quiz("09")

# %% [markdown]
# ## Summary
#
# - A patch is a word: cut the image into squares, map each to a vector, and an encoder for sentences
#   reads it. The cut and the map together are a convolution whose stride is its size.
# - A 224×224 image in patches of 16 is 196 patches and 197 tokens. A patch's 768 values and ViT-B's
#   width of 768 are equal by coincidence.
# - Without position embeddings, patches are a heap. Class token and mean of the patches serve about
#   equally well.
# - Rollout shows where attention flows. Whether it matters, a deletion test has to say.
# - With few labels, a CNN of the same size is well ahead. And on new writers a model makes several
#   times as many errors as on writers from its training data.
# - **Next:** [10 ViT's relatives](10_vit_relatives.ipynb) give the model neighbours from the start.
#   **Read:** Dosovitskiy et al. 2020, [An Image is Worth 16x16
#   Words](https://arxiv.org/abs/2010.11929), sections 3.1, 3.2 and 4.5, appendix D.3; Abnar & Zuidema
#   2020, [Quantifying Attention Flow in Transformers](https://arxiv.org/abs/2005.00928), section 3;
#   Jain & Wallace 2019, [Attention is not Explanation](https://arxiv.org/abs/1902.10186), section 4.
