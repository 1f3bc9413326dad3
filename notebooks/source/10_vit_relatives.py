# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 10 · ViT's relatives
#
# *What does locality give back to a Vision Transformer?*
#
# After this lesson you can
#
# - explain convolutional projections, shifted windows, soft splits and MobileViT's block
# - write the shifted window's mask, and show the leak without it
# - compare the family at an equal parameter budget
# - measure how cost grows with image size
#
# **Time:** 60 minutes · **You need first:** [09 ViT: images as words](09_vit.ipynb)
#
# **On the zoo map:** part II, The zoo · **New parts:** Convolutional embedding, Convolutional projection, Shifted windows, Patch merging, Soft split, Inverted residual · **Models:** CvT, Swin Transformer, T2T-ViT, MobileViT
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/10_vit_relatives.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F10_vit_relatives.ipynb) · [Solutions](solutions/10_vit_relatives.ipynb)

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

# %% [markdown]
# ## The question
#
# Here is the temple of lesson 09 again. Someone takes the photograph a second time and holds the
# camera a little further to the right. You would hardly notice. What does a ViT get?

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from zoo_lessons.datasets.digits import photographs
from zoo_lessons.layers import image_to_patches

temple = photographs()["china"]  # (channels, height, width)


def photograph(shift):
    """224×224 pixels of the temple, with the camera moved to the right by some pixels."""
    return temple[None, :, 100:324, 200 + shift : 424 + shift]  # (batch, channels, height, width)


fig, axes = plt.subplots(1, 2, figsize=(8, 4))
for ax, shift in zip(axes, (0, 8), strict=True):
    ax.imshow(photograph(shift)[0].permute(1, 2, 0))
    ax.set(title=f"moved by {shift} pixels", xticks=range(0, 224, 16), yticks=range(0, 224, 16))
    ax.set(xticklabels=[], yticklabels=[])
    ax.grid(color="white", linewidth=0.6, alpha=0.8)
    ax.set_axisbelow(False)
lab.show_figure(
    fig,
    "Two photographs of one temple, 224×224 pixels each, in patches of 16×16.",
    "The same temple twice, with a grid of 14 by 14 squares over it; on the right all is a little "
    "further to the left.",
)


# %%
def found_again(patch_size, shift):
    """How many patches of the first photograph are also among those of the second."""
    first, second = (image_to_patches(photograph(s), patch_size)[0] for s in (0, shift))
    known = {patch.numpy().tobytes() for patch in second}
    return sum(patch.numpy().tobytes() in known for patch in first)


# %% [markdown]
# **Predict.** ViT cuts 196 patches of 16×16. The camera moves by 8 pixels. How many patches of the
# first photograph are found among the patches of the second? And after 16 pixels?

# %%
for shift in (0, 1, 8, 16):
    counts = {size: (found_again(size, shift), (224 // size) ** 2) for size in (16, 4, 2)}
    texts = [
        f"{size}×{size} {found:{len(f'{all_:,}')},} of {all_:,}"
        for size, (found, all_) in counts.items()
    ]
    print(f"moved by {shift:2}: " + "   ".join(texts))


# %% [markdown]
# After 8 pixels ViT reads 196 words that it has never seen. (Some small patches are found by chance.)
# Only a move by a whole patch gives the old words back, at new places, and there other position vectors
# are added to them. A convolution in steps of one pixel does not care: move the image, and what it
# computes moves along. The relatives of this lesson stand in between. Their first cut takes steps of 4
# pixels, or 2 (MobileViT), which is what the other columns are for: after a move of 8 pixels nearly all
# of the small patches are found again.
#
# That is one thing a plain Vision Transformer lacks. We will measure another in a moment. Both have to
# do with **locality**: pixels that are near each other belong together, and it does not matter where.
# In 2021 four papers gave locality back to the ViT, each in its own way. **What does locality give
# back to a Vision Transformer?** We build the decisive part of each of the four, then race them.
#
# Sections 1 to 4, 6 and 7 are the core. Section 5, section 8 and exercise 5 go further.

# %% [markdown]
# ## 1 · Near and far are the same to a ViT
#
# Which pixels have a say in what a token becomes? Gradients answer that. Take one token at the top of
# the model, $z_{i}$, and a random direction $u$. How much does each pixel $x_p$ move it?
#
# $$ \text{influence}(p) = \left\lVert \frac{\partial\, (u \cdot z_i)}{\partial x_p} \right\rVert $$
#
# The norm runs over the pixel's three colours. We measure on *untrained* models, with several random
# weights: then we see what the architecture does by itself, before any image has taught it anything.

# %%
def influence(features, image, row, column):
    """How much each pixel moves the token at (row, column): (height, width).

    features: image (1, channels, height, width) -> grid (1, rows, columns, d_model).
    """
    image = image.clone().requires_grad_()
    token = features(image)[0, row, column]  # (d_model,)
    direction = torch.randn(token.shape, generator=torch.Generator().manual_seed(0))
    (token @ direction).backward()
    return image.grad[0].norm(dim=0)


def by_distance(reach, row, column, cell=4):
    """Mean influence of the cells (4×4 pixels) at distance 0, 1, 2 ... from the token's own."""
    cells = F.avg_pool2d(reach[None], cell)[0]  # (rows, columns)
    rows, columns = (torch.arange(side) for side in cells.shape)
    distance = torch.maximum((rows - row).abs()[:, None], (columns - column).abs())
    return torch.stack([cells[distance == d].mean() for d in range(8)])


# %% [markdown]
# A small ViT: 16×16 patches of 4×4 pixels, two layers. The distance is counted in patches, as a chess
# king walks.
#
# **Predict.** The token's own patch has the most influence, through the residual connection. How does
# the influence of the other patches fall with their distance?

# %%
from zoo_lessons.models import ViT, ViTConfig

image = 2 * temple[None, :, 150:278:2, 300:428:2] - 1  # every second pixel: (1, 3, 64, 64)


def small_vit():
    sizes = dict(image_size=64, patch_size=4, d_model=64, num_layers=2, num_heads=4, d_ff=128)
    model = ViT(ViTConfig(**sizes)).eval()
    return lambda x: model(x).last_hidden_state[:, 1:].unflatten(1, (16, 16))


def mean_influence(build, row=8, column=8, seeds=4):
    """Influence on one token, as a mean over models with other random weights."""
    maps = []
    for seed in range(seeds):
        torch.manual_seed(seed)
        maps.append(influence(build(), image, row, column))
    return torch.stack(maps).mean(dim=0)  # (height, width)


reach = {"ViT": mean_influence(small_vit)}
curve = by_distance(reach["ViT"], 8, 8)
for distance in (1, 2, 4, 7):
    print(f"distance {distance}: {curve[distance] / curve[0]:.1%} of the own patch's influence")
assert curve[1:].max() < 1.5 * curve[1:].min()  # nearly flat


# %% [markdown]
# It does not fall. The patch next door counts as much as one at the other end of the picture. This is
# the heap of lesson 09, measured: before training, position embeddings say *which* place a patch has,
# but not which places are neighbours. A ViT can learn that, and pays with data.
#
# We keep this ruler. Section 6 holds it against all four relatives.

# %% [markdown]
# ## 2 · T2T-ViT: cut softly
#
# The first idea is the simplest: let the patches **overlap**. [Yuan et al.,
# 2021](https://arxiv.org/abs/2101.11986) call it a *soft split*. A square of $k \times k$ pixels moves
# over the image in steps of $s$, smaller than $k$; around the image lie $p$ rows of zeros. Along a side
# of $n$ pixels that makes
#
# $$ n' = \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1 $$
#
# tokens. ViT's cut is the case $k = s$, $p = 0$. As a loop over places:

# %%
def split_by_loop(grid, kernel, stride, padding):
    """grid (batch, channels, rows, columns) -> (batch, tokens, channels * kernel²)."""
    grid = F.pad(grid, (padding, padding, padding, padding))  # zeros: left, right, top, bottom
    tokens = []
    for top in range(0, grid.shape[2] - kernel + 1, stride):
        for left in range(0, grid.shape[3] - kernel + 1, stride):
            square = grid[:, :, top : top + kernel, left : left + kernel]
            tokens.append(square.flatten(1))  # channels, then rows, then columns
    return torch.stack(tokens, dim=1)


x = photograph(0)  # (1, 3, 224, 224)
by_loop = split_by_loop(x, kernel=7, stride=4, padding=2)
print("tokens", tuple(by_loop.shape), "=", f"{(224 + 4 - 7) // 4 + 1}² places of 7·7·3 numbers")


# %% [markdown]
# ### Exercise 1 · Soft split (★★☆, 8 min)
#
# The same without a loop. `x.unfold(dimension, size, step)` of PyTorch makes windows along one
# dimension and puts them on a new last axis; it copies nothing.

# %% tags=["exercise"]
def my_soft_split(grid, kernel, stride, padding):
    """grid (batch, channels, rows, columns) -> (batch, tokens, channels * kernel²).

    Tokens row by row; inside a token channels, then rows, then columns; zeros outside the grid.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("10.soft_split", my_soft_split)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Pad first. Then unfold dimension 2, then dimension 3. Print the shape: which axes are places, which
# are inside a square?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The order that you need is batch, down, across, channels, row in the square, column in the square.
# Then flatten twice.
#
# </details>

# %% [markdown]
# The library's version is one call of `F.unfold`. How often is each pixel seen? `F.fold` is the
# opposite: it lays the squares back and adds them up. Of squares full of ones it counts the visits.

# %%
from zoo_lessons.models.t2t_vit import SPLITS, soft_split

assert torch.equal(soft_split(x, 7, 4, 2), by_loop)


def visits(kernel, stride, padding, side=24):
    """How many squares see each pixel of a small image: (side, side)."""
    ones = soft_split(torch.ones(1, 1, side, side), kernel, stride, padding)
    laid_back = F.fold(ones.transpose(1, 2), side, kernel, stride=stride, padding=padding)
    return laid_back[0, 0].int()


panels = {"ViT: 4×4, step 4": visits(4, 4, 0), "T2T, first split: 7×7, step 4": visits(7, 4, 2)}
fig = lab.heatmaps(panels, row_axis="row", column_axis="column", value="squares that see the pixel")
fig.axes[-1].set_yticks([1, 2, 4])
lab.show_figure(
    fig,
    "A small image of 24×24 pixels. In the hard cut each pixel belongs to one token. In the soft split "
    "most pixels belong to two or four: neighbouring tokens share what lies between them.",
    "Two heat maps of 24 by 24 pixels. Left: 1 everywhere. Right: a regular pattern of 1, 2 and 4.",
)

# %% [markdown]
# ### Token by token
#
# The second idea gives the paper its name: *tokens to token*. After the split a small Transformer looks
# at the tokens. Then they are laid out as a grid again, an image of 56×56 with 64 channels, and that
# image is split softly once more, and again. Three splits in all:

# %%
from zoo_lessons.models.t2t_vit import T2TViTConfig, TokensToToken

torch.manual_seed(0)
tokeniser = TokensToToken(T2TViTConfig.t2t_vit_14()).eval()
grid = 2 * photograph(0) - 1
with torch.no_grad():
    for split, layer in zip(SPLITS[:-1], tokeniser.layers, strict=True):
        tokens = split_by_loop(grid, *split)  # (batch, n, channels * kernel²)
        narrow = layer(tokens)  # (batch, n, 64): attention and a feed-forward layer
        side = int(narrow.shape[1] ** 0.5)
        grid = narrow.transpose(1, 2).unflatten(2, (side, side))  # (batch, 64, side, side)
        print(
            f"{split}: tokens {tuple(tokens.shape)} -> {tuple(narrow.shape)} -> grid {tuple(grid.shape)}"
        )
    tokens = split_by_loop(grid, *SPLITS[-1])
    by_hand = tokeniser.project(tokens)  # (batch, 196, 384)
    print(
        f"{SPLITS[-1]}: tokens {tuple(tokens.shape)} -> {tuple(by_hand.shape)}, read by a narrow ViT"
    )
    assert torch.allclose(by_hand, tokeniser(2 * photograph(0) - 1), atol=1e-5)

# %% [markdown]
# The last line has 196 tokens, as ViT-B/16 has. But each of them has grown out of smaller tokens, which
# overlap and have looked at each other. **A correction:** one of the articles behind this course says
# that T2T-ViT adds *local attention*. It does not. The attention between the splits is global: every one
# of 3,136 tokens looks at all the others. What is local is the cut.
#
# That has a price:

# %%
from torch.utils.flop_counter import FlopCounterMode

from zoo_lessons.models import T2TViT


def count(build, *shape):
    """Trainable parameters, and the FLOPs of one image; on `meta` nothing is computed."""
    with torch.device("meta"):
        model = build().eval()
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(torch.empty(1, *shape))
    return sum(p.numel() for p in model.parameters() if p.requires_grad), counter.get_total_flops()


_, tokenising = count(lambda: TokensToToken(T2TViTConfig.t2t_vit_14()), 3, 224, 224)
parameters, whole = count(lambda: T2TViT(T2TViTConfig.t2t_vit_14()), 3, 224, 224)
own = sum(p.numel() for p in tokeniser.parameters())
print(
    f"T2T-ViT-14: {parameters / 1e6:.1f} M parameters, {own / parameters:.0%} of them in the tokeniser"
)
print(
    f"            {whole / 1e9:.1f} GFLOP an image, {tokenising / whole:.0%} of them in the tokeniser"
)
scores = 3136**2
print(
    f"            {2 * 2 * 64 * scores / 1e9:.1f} GFLOP alone for the scores of 3,136 tokens and their use"
)

# %% [markdown]
# The paper gives 21.5 M for T2T-ViT-14. `transformers` has no T2T-ViT, so here is no parity to show: the
# loops above and the published size must do.
#
# ## 3 · CvT: convolutions make the tokens and the queries
#
# [Wu et al., 2021](https://arxiv.org/abs/2103.15808) ask: if overlapping squares and a linear map help,
# is that not a convolution? It is. A convolution of size $k$, step $s$ and padding $p$ *is* a soft split
# followed by one linear map:

# %%
convolution = nn.Conv2d(3, 64, kernel_size=7, stride=4, padding=2)  # CvT's first embedding
with torch.no_grad():
    as_grid = convolution(x)  # (1, 64, 56, 56)
    weight = convolution.weight.flatten(1)  # (64, 3 * 7 * 7)
    by_split = soft_split(x, 7, 4, 2) @ weight.T + convolution.bias  # (1, 3136, 64)
assert torch.allclose(as_grid.flatten(2).transpose(1, 2), by_split, atol=1e-5)
print("soft split, then a linear map = convolution:", True)

# %% [markdown]
# CvT embeds three times, with 7×7 step 4, 3×3 step 2 and 3×3 step 2: a grid of 56×56 tokens, then 28×28,
# then 14×14, and they get wider: 64, 192, 384 numbers. This is the **pyramid** of convolutional
# networks: first many narrow tokens, then few wide ones.
#
# ### Convolutional projections
#
# In lesson 02, queries, keys and values were linear maps of each token alone. In CvT each token first
# looks at its 3×3 neighbourhood. To keep that cheap the convolution is **depthwise**: every channel $c$
# has its own 3×3 weights $w_c$ and never meets the other channels.
#
# $$ y_{c,i,j} = \sum_{u=-1}^{1} \sum_{v=-1}^{1} w_{c,u,v}\; x_{c,\,i+u,\,j+v} $$

# %%
grid = torch.randn(2, 5, 6, 8)  # (batch, channels, rows, columns)
w = torch.randn(5, 3, 3)  # (channels, 3, 3)
padded = F.pad(grid, (1, 1, 1, 1))
by_loop = torch.zeros_like(grid)
for c in range(5):
    for i in range(6):
        for j in range(8):
            by_loop[:, c, i, j] = (w[c] * padded[:, c, i : i + 3, j : j + 3]).sum(dim=(-2, -1))
library = F.conv2d(grid, w[:, None], padding=1, groups=5)  # groups: one per channel
assert torch.allclose(library, by_loop, atol=1e-5)
print("depthwise convolution = loop:", True)
for d in (64, 384):
    weights = f"depthwise {9 * d:,}, full 3×3 {9 * d * d:,}, linear {d * d:,}"
    print(f"weights at width {d}: {weights}")

# %% [markdown]
# After it come BatchNorm, which brings each channel to mean 0 and variance 1 over the batch, and the
# linear map of before, which mixes the channels. For queries the convolution takes steps of 1, for keys
# and values **steps of 2**.
#
# **Predict.** By what factor does this change the number of scores?

# %%
from zoo_lessons.layers import record_attention
from zoo_lessons.models.cvt import ConvolutionalAttention

torch.manual_seed(0)
layer = ConvolutionalAttention(d_model=64, num_heads=1, kernel_size=3, stride_kv=2).eval()
with torch.no_grad(), record_attention(layer) as maps:
    layer(torch.randn(1, 28 * 28, 64), rows=28, columns=28)
print("weights", tuple(maps[0].weights.shape), "(batch, heads, queries, keys)")
assert maps[0].weights.shape[-1] == 14 * 14

# %% [markdown]
# A quarter of the keys, so a quarter of the scores; every token can still look anywhere, at half the
# resolution.
#
# ### Where is the position embedding?
#
# CvT has none. In lesson 09 a ViT without positions gave the same logits for shuffled patches. Does CvT?
# We shuffle blocks of 16×16 pixels, which all of its steps divide.

# %%
from zoo_lessons.layers import patches_to_image
from zoo_lessons.models import CvT, CvTConfig
from zoo_lessons.parity import randomise

torch.manual_seed(0)
small = dict(d_model=(16, 32), num_heads=(1, 2), depths=(1, 2), patch_sizes=(7, 3))
cvt = CvT(CvTConfig(patch_strides=(4, 2), patch_paddings=(2, 1), num_labels=5, **small)).eval()
shuffled = patches_to_image(image_to_patches(image, 16)[:, torch.randperm(16)], 16, 64, 64)
with torch.no_grad():
    a, b = randomise(cvt)(image).logits, cvt(shuffled).logits
print("same logits after shuffling:", torch.allclose(a, b, atol=1e-3 * a.abs().max()))

# %% [markdown]
# It does not. The convolutions know who is next to whom, and the zeros around the grid tell where it
# ends. As for every model here that `transformers` has, we compare: random weights everywhere, in double
# precision, and the same logits.

# %%
import transformers

from zoo_lessons.parity import relative_difference
from zoo_lessons.weights import from_transformers


def assert_parity(theirs, images, scale=0.2):
    """Our model with their weights gives their logits, to nine decimals of the largest."""
    theirs = randomise(theirs, scale=scale).double()
    ours = from_transformers(theirs)
    with torch.no_grad():
        logits, others = theirs(images).logits, theirs(images.flip(-1)).logits
        assert relative_difference(others, logits) > 1e-3  # the image matters
        assert relative_difference(ours(images).logits, logits) < 1e-9
    print(f"{type(theirs).__name__}: same logits {tuple(logits.shape)}")


images = torch.randn(2, 3, 64, 96, dtype=torch.float64)
settings = dict(embed_dim=[12, 24, 48], num_heads=[1, 2, 4], depth=[1, 2, 3], num_labels=7)
assert_parity(transformers.CvtForImageClassification(transformers.CvtConfig(**settings)), images)

# %% [markdown]
# ## 4 · Swin: look through a window
#
# T2T and CvT let every token look everywhere, and pay: scores grow with the *square* of the number of
# tokens. [Liu et al., 2021](https://arxiv.org/abs/2103.14030) give that up. Cut the grid into
# **windows** of $M \times M$ tokens, and let a token attend inside its window only. For a grid of $h
# \times w$ tokens of width $C$, the paper counts multiplications (its equations 1 and 2):
#
# $$ \text{everywhere: } 4hwC^2 + 2(hw)^2 C \qquad\qquad \text{in windows: } 4hwC^2 + 2M^2hwC $$
#
# The first term is the four projections. In the second one factor $hw$ has become $M^2$, a constant:

# %%
C, M = 96, 7
for side in (56, 112, 224):
    hw = side**2
    everywhere, windows = 4 * hw * C**2 + 2 * hw**2 * C, 4 * hw * C**2 + 2 * M**2 * hw * C
    print(
        f"{side:3}×{side:<3} tokens: everywhere {everywhere / 1e9:7.1f}, in windows {windows / 1e9:4.1f} G"
    )


# %% [markdown]
# Windows are made by the same kind of reshape as patches. As a loop:

# %%
def windows_by_loop(x, window_size):
    """x (batch, rows, columns, d_model) -> (batch * windows, window_size², d_model)."""
    batch, rows, columns, _ = x.shape
    windows = []
    for b in range(batch):
        for top in range(0, rows, window_size):
            for left in range(0, columns, window_size):
                window = x[b, top : top + window_size, left : left + window_size]
                windows.append(window.flatten(0, 1))  # (window_size², d_model)
    return torch.stack(windows)


tokens = torch.randn(2, 8, 12, 16)  # (batch, rows, columns, d_model)
by_loop = windows_by_loop(tokens, 4)
print(f"2 grids, 2 × 3 windows each: {tuple(by_loop.shape)}")


# %% [markdown]
# ### Exercise 2 · Cut a grid into windows (★★☆, 6 min)

# %% tags=["exercise"]
def my_window_partition(x, window_size):
    """x (batch, rows, columns, d_model) -> (batch * windows, window_size², d_model).

    All windows of the first image, row by row, then those of the second. No loop.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("10.window_partition", my_window_partition)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Split rows into (windows down, row in the window), columns likewise. Which two axes must change places?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Before the last reshape: batch, down, across, row, column, d_model.
#
# </details>

# %%
from zoo_lessons.models.swin import window_partition, window_reverse

assert torch.equal(window_partition(tokens, 4), by_loop)
assert torch.equal(window_reverse(by_loop, 4, 8, 12), tokens)
print("equal to the loop, and reversible:", True)

# %% [markdown]
# ### Islands
#
# **Predict.** Four layers of windows, always cut at the same places. How far does information travel?
#
# A Swin with one stage of four blocks, grid 16×16, windows of 4×4. `SwinConfig` shifts every second
# block; we first set the shift to 0.

# %%
from zoo_lessons.models import Swin, SwinConfig


def small_swin(blocks=4, shifted=True):
    model = Swin(SwinConfig(d_model=64, depths=(blocks,), num_heads=(4,), window_size=4)).eval()
    for block in model.stages[0].blocks:
        block.attention.shift = block.attention.shift if shifted else 0
    return lambda x: model(x).last_hidden_state.unflatten(1, (16, 16))


def show_maps(panels):
    """Boolean (rows, columns) maps side by side: yellow where there is influence."""
    fig, axes = plt.subplots(1, len(panels), figsize=(2.2 * len(panels), 2.7))
    for ax, (name, reached) in zip(axes, panels.items(), strict=True):
        ax.imshow(reached, vmin=0, vmax=1)
        ax.set_title(name, fontsize=11)
        ax.set(xlabel="column", ylabel="row" if ax is axes[0] else "")
        ax.grid(False)
    return fig


panels = {}
for name, shifted in {"fixed windows": False, "shifted windows": True}.items():
    for blocks in (2, 4):
        torch.manual_seed(0)
        reached = influence(small_swin(blocks, shifted), image, row=8, column=8)
        reached = F.avg_pool2d(reached[None], 4)[0] > 0  # (rows, columns)
        panels[f"{name},\n{blocks} layers"] = reached
        print(f"{name:15} {blocks} layers: {int(reached.sum()):3} of 256 tokens")

# %%
fig = show_maps(panels)
lab.show_figure(
    fig,
    "Which tokens influence the one at row 8, column 8? Without the shift only those of its own "
    "window, however many layers there are.",
    "Four heat maps of 16 by 16 tokens. Without shift: one square of 4 by 4, for two and four layers. "
    "With shift the yellow area is larger, and grows with the layers.",
)

# %% [markdown]
# Without the shift the windows are islands: more layers change nothing. Swin moves the windows of every
# second layer by half a window, so that each of them straddles four old ones.
#
# ### Roll, mask, roll back
#
# Windows that are moved no longer fit the grid: at the edges stand halves and quarters. To pad them all
# to full size would cost more windows. Swin's trick is a **cyclic shift**: roll the *grid* by minus the
# shift, here by -2, and cut it at the old places.

# %%
print("a row of 8 tokens, windows of 4:", torch.arange(8).tolist())
rolled = torch.arange(8).roll(-2)
print("rolled by -2:                   ", rolled.tolist())
print("windows:                        ", rolled.view(2, 4).tolist())


# %% [markdown]
# The first window is fine: 2, 3, 4, 5 are neighbours. In the last one, 6 and 7 stand beside 0 and 1, and
# those come from the other end of the image. They share a window by accident and must not see each
# other. That is the **mask**.
#
# ### Exercise 3 · The mask of shifted windows (★★★, 10 min)
#
# After the roll, give every place of the grid the number of its *region*, so that two tokens of a window
# are true neighbours if and only if their regions are equal.

# %% tags=["exercise"]
def my_shifted_window_mask(rows, columns, window_size, shift):
    """Who may attend to whom after `roll(-shift)` along both axes of a (rows, columns) grid.

    Returns Boolean (windows, window_size², window_size²), True = may attend. `window_partition` cuts
    (batch, rows, columns, channels): it also cuts a grid of region numbers.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("10.shifted_window_mask", my_shifted_window_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Along one axis: after the roll, which places hold wrapped tokens? Along both axes there are four
# combinations, so four regions.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Cut the (1, rows, columns, 1) grid of regions into windows: (windows, window_size², 1). Compare it with
# itself, once as queries and once as keys.
#
# </details>

# %% [markdown]
# What happens without it? Here is one layer of shifted window attention, step by step, with the library's
# parts. The token in question sits at the right edge of the image, in row 8.

# %%
from zoo_lessons.models.swin import WindowAttention, shifted_window_mask

torch.manual_seed(0)
layer = WindowAttention(d_model=16, num_heads=2, window_size=4, shift=2)
tokens = torch.randn(2, 16, 16, 16)  # (batch, rows, columns, d_model)


def shifted_attention(x, masked=True):
    windows = window_partition(x.roll((-2, -2), dims=(1, 2)), 4)  # (batch * windows, 16, d_model)
    mask = shifted_window_mask(16, 16, window_size=4, shift=2)  # (windows, 16, 16)
    mask = mask.repeat(len(x), 1, 1)[:, None] if masked else None
    windows = layer.attention(windows, mask=mask, bias=layer.bias())
    return window_reverse(windows, 4, 16, 16).roll((2, 2), dims=(1, 2))


with torch.no_grad():
    assert torch.allclose(shifted_attention(tokens), layer(tokens), atol=1e-6)
print("step by step = library:", True)

# %%
panels = {}
for name, masked in {"without mask": False, "with mask": True}.items():
    x = tokens[:1].clone().requires_grad_()
    shifted_attention(x, masked)[0, 8, 15].sum().backward()
    panels[name] = x.grad[0].norm(dim=-1) > 0  # (rows, columns)
    print(
        f"{name}: {int(panels[name].sum())} tokens, {int(panels[name][:, :8].sum())} at the left edge"
    )
fig = show_maps(panels)
lab.show_figure(
    fig,
    "Who influences the token at row 8, column 15? Without the mask, the left edge of the image leaks "
    "into the right one.",
    "Two heat maps of 16 by 16 tokens. Left: a block of eight at the right edge, and another at the left "
    "edge. Right: the block at the right edge only.",
)


# %% [markdown]
# No error, no warning: the model would train all the same. That is how such mistakes live long.
#
# ### Exercise 4 · Find the bug: an image that depends on its batch (★★☆, 8 min)
#
# A colleague wrote the layer for any batch and any attention. Two things are wrong. The cell below the
# function shows both. `attend(windows, mask)` is any attention: (batch · windows, n, d_model) and a
# Boolean mask for each window, to the same shape.

# %% tags=["exercise"]
def my_shifted_attention(x, attend, window_size, shift):
    """x (batch, rows, columns, d_model) -> the same shape."""
    batch, rows, columns, _ = x.shape
    windows = window_partition(x.roll((-shift, -shift), dims=(1, 2)), window_size)
    mask = shifted_window_mask(rows, columns, window_size, shift)  # (windows, n, n)
    mask = mask.repeat_interleave(batch, dim=0)  # (batch * windows, n, n)
    x = window_reverse(attend(windows, mask), window_size, rows, columns)
    return x.roll((-shift, -shift), dims=(1, 2))


# %%
def plain_attention(windows, mask):
    scores = windows @ windows.transpose(1, 2)  # (batch * windows, n, n)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1) @ windows


alone = my_shifted_attention(tokens[:1], plain_attention, 4, 2)
in_batch = my_shifted_attention(tokens, plain_attention, 4, 2)[:1]
print("image 0 gives the same alone and in a batch of two:", torch.allclose(alone, in_batch))
unchanged = my_shifted_attention(tokens, lambda windows, mask: windows, 4, 2)
print("when attention changes nothing, nothing changes:   ", torch.equal(unchanged, tokens))

# %% tags=["check"]
lab.check("10.shifted_attention", my_shifted_attention)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# In which order do the windows of two images stand? And the masks after `repeat_interleave`? Try it
# with `torch.arange(3)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The last line must undo the first one.
#
# </details>

# %% [markdown]
# ### Follow it through the layers
#
# Blue in the mask: this query may attend to that key. A number in the grid says how many layers, counted
# back from the last one, information needs to get from there to the chosen token.
#
# **Try this.**
#
# 1. Switch the shift off. How many tokens reach the query after 2, 4, 8 layers?
# 2. Switch it on. How many layers until all of them do? Take a corner as the query.
# 3. Choose a query in the middle and one at an edge, with 2 layers. What does the mask of its window hide?

# %%
from zoo_lessons.lab.widgets import WindowExplorer

WindowExplorer(rows=12, columns=12, window_size=4, layers=2)

# %% [markdown]
# ### Relative position bias
#
# Inside a window a token must know where the others are. Swin adds a learnt number to each score, which
# depends only on how far the query $i$ is *below* and *to the right of* the key $j$:
#
# $$ A = \operatorname{softmax}\!\left(\frac{QK^\top}{\sqrt{d_k}} + B\right), \qquad
# B_{ij} = \hat{B}\,[\text{row}_i - \text{row}_j,\; \text{column}_i - \text{column}_j] $$
#
# Each difference runs from $-(M-1)$ to $M-1$, so the table $\hat{B}$ has $(2M-1)^2$ numbers per head,
# for $M^4$ pairs. (Lesson 03 did this along a line.)

# %%
from zoo_lessons.models.swin import RelativeBias2d

M = 3
bias = RelativeBias2d(num_heads=1, window_size=M)
by_loop = torch.zeros(M * M, M * M, dtype=torch.long)
for i in range(M * M):
    for j in range(M * M):
        down, across = i // M - j // M, i % M - j % M
        by_loop[i, j] = (down + M - 1) * (2 * M - 1) + across + M - 1
assert torch.equal(bias.index, by_loop)
fig = lab.heatmap(
    by_loop,
    title="Row of the table, for windows of 3×3",
    row_axis="query (row by row)",
    column_axis="key (row by row)",
    value="row of the table",
    numbers=".0f",
)
lab.show_figure(
    fig,
    "Equal numbers share one learnt value. The diagonal is 12 throughout: a token and itself.",
    "Heat map of 9 by 9 with a number in each cell, from 0 to 24; constant along diagonals of each block.",
)
print(f"windows of 7×7: {7**4:,} pairs share {13**2} numbers per head")

# %% [markdown]
# ### Patch merging
#
# Between stages Swin builds its pyramid. **Patch merging** joins each square of four tokens into one
# vector of $4C$ numbers, brings it to mean 0 and variance 1 with a LayerNorm, and maps it to $2C$.

# %%
from zoo_lessons.models.swin import PatchMerging

merging = PatchMerging(d_model=16)
by_loop = torch.zeros(2, 8, 8, 32)  # (batch, rows / 2, columns / 2, 2 d_model)
with torch.no_grad():
    for i in range(8):
        for j in range(8):
            block = tokens[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]  # (batch, 2, 2, 16)
            column_by_column = block.transpose(1, 2).flatten(1)  # (batch, 64)
            by_loop[:, i, j] = merging.reduction(merging.norm(column_by_column))
    assert torch.allclose(merging(tokens), by_loop, atol=1e-5)
print("loop = library:", True)
for stage in range(4):
    side, width = 56 // 2**stage, 96 * 2**stage
    print(f"Swin-T, stage {stage + 1}: {side:2}×{side:<2} tokens of {width:3} numbers")


# %% [markdown]
# ### Exercise 5 · Patch merging (★★☆, 5 min, further)
#
# Without a loop: `x[:, 0::2]` takes every second row. The published order of the four is top left, bottom
# left, top right, bottom right. If the number of rows or columns is odd, add zeros below or at the right.

# %% tags=["exercise"]
def my_patch_merging(x, norm, reduction):
    """x (batch, rows, columns, d_model) -> (batch, rows / 2, columns / 2, 2 d_model).

    norm: LayerNorm of 4 d_model. reduction: linear map from 4 d_model to 2 d_model.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("10.patch_merging", my_patch_merging)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Four slices, each (batch, rows / 2, columns / 2, d_model), and one concatenation.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.pad` counts from the last axis backwards: (d_model, d_model, left, right, top, bottom).
#
# </details>

# %%
settings = dict(image_size=64, embed_dim=12, depths=[2, 3], num_heads=[2, 3], window_size=4)
config = transformers.SwinConfig(num_labels=7, **settings)
assert_parity(transformers.SwinForImageClassification(config), images)

# %% [markdown]
# ## 5 · MobileViT: convolutions for the near, attention for the far (further)
#
# [Mehta & Rastegari, 2021](https://arxiv.org/abs/2110.02178) start from the other side: from MobileNetV2,
# a convolutional network for phones. Its brick is the **inverted residual**: widen each pixel's vector four
# times (1×1 convolution), let each channel look around (3×3, depthwise), narrow it again (1×1), and add
# the input.

# %%
from zoo_lessons.models.mobilevit import InvertedResidual, MobileViTConfig, fold, unfold

torch.manual_seed(0)
brick = InvertedResidual(MobileViTConfig(), in_channels=64, out_channels=64, stride=1).eval()
x = torch.randn(2, 64, 8, 8)  # (batch, channels, height, width)
with torch.no_grad():
    wide = brick.expand(x)  # (batch, 256, 8, 8)
    mixed = brick.depthwise(wide)  # (batch, 256, 8, 8)
    assert torch.allclose(x + brick.reduce(mixed), brick(x), atol=1e-5)
parts = ("expand", "depthwise", "reduce")
weights = {name: getattr(brick, name).convolution.weight.numel() for name in parts}
print(tuple(x.shape), "->", tuple(wide.shape), "->", tuple(mixed.shape), "->", tuple(x.shape))
print("weights:", weights)
print(f"a full 3×3 convolution of the wide grid: {9 * 256 * 256:,}")

# %% [markdown]
# For the far, MobileViT puts a Transformer in the middle. It cuts the grid into patches of 2×2 and does
# the **opposite of Swin**: a sequence holds one pixel of *every* patch. All top left pixels attend to each
# other, all top right ones, and so on.

# %%
rows, columns = torch.arange(8)[:, None], torch.arange(8)[None]
panels = {
    "Swin, windows of 2×2": rows // 2 * 4 + columns // 2,
    "MobileViT, patches of 2×2": rows % 2 * 2 + columns % 2,
}
fig = lab.heatmaps(
    panels, row_axis="row", column_axis="column", value="who attends together", numbers=".0f"
)
lab.show_figure(
    fig,
    "Pixels with the same number attend to each other. Swin groups the near, MobileViT the far.",
    "Two grids of 8 by 8 numbers. Left: sixteen blocks of 2 by 2 with the same number. Right: the numbers "
    "0 and 1 alternate in even rows, 2 and 3 in odd rows.",
)


# %% [markdown]
# ### Exercise 6 · MobileViT's sequences (★★☆, 6 min)

# %% tags=["exercise"]
def my_unfold(x, patch_size):
    """x (batch, channels, height, width) -> (batch * patch_size², patches, channels).

    For each image one sequence per place inside the patch, row by row: sequence 0 has the top left pixel
    of each patch, sequence 1 the one to its right ... Patches row by row.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("10.mobilevit_unfold", my_unfold)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The split is the one of lesson 09: batch, channels, rows, pixel row, columns, pixel column. Which axes
# number the sequences, which the tokens, which the numbers of a token?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Batch, pixel row, pixel column | rows, columns | channels.
#
# </details>

# %% [markdown]
# The same as slices with a step, one sequence after the other; and back.

# %%
grid = torch.randn(2, 5, 6, 8)  # (batch, channels, height, width)
p = 2
by_loop = torch.stack(
    [
        grid[b, :, i::p, j::p].flatten(1).T  # (patches, channels)
        for b in range(2)
        for i in range(p)
        for j in range(p)
    ]
)
assert torch.equal(unfold(grid, p), by_loop)
assert torch.equal(fold(by_loop, p, 6, 8), grid)
n = 6 * 8
print(f"{tuple(grid.shape)} -> {tuple(by_loop.shape)}")
print(
    f"scores: {p * p} sequences of {n // p**2} tokens, {p * p * (n // p**2) ** 2}; one sequence: {n * n}"
)

# %% [markdown]
# A quarter of the scores again. But now a pixel never meets its direct neighbour in attention: convolutions
# of 3×3 before and after have to tell it about them. This is why MobileViT needs no position embedding
# either.

# %%
settings = dict(
    hidden_sizes=[24, 32, 40], neck_hidden_sizes=[8, 12, 16, 24, 32, 40, 64], num_labels=7
)
config = transformers.MobileViTConfig(image_size=64, hidden_act="silu", **settings)
assert_parity(transformers.MobileViTForImageClassification(config), images, scale=0.5)


# %% [markdown]
# ## 6 · Who influences whom
#
# Now the ruler of section 1 for all of them: untrained, on the same piece of the temple, two blocks on a
# grid of 16×16 tokens. (T2T-ViT: its first split with its small Transformer. MobileViT: stem and
# inverted residuals up to 16×16, then local convolution and two blocks of attention.)

# %%
def small_cvt():
    stage = dict(d_model=(64,), num_heads=(4,), depths=(2,), patch_sizes=(7,))
    model = CvT(CvTConfig(patch_strides=(4,), patch_paddings=(2,), **stage)).eval()
    return lambda x: model(x).last_hidden_state.permute(0, 2, 3, 1)


def first_split():
    model = TokensToToken(T2TViTConfig(image_size=64, d_token=64, d_model=64)).eval()
    return lambda x: model.layers[0](soft_split(x, 7, 4, 2)).unflatten(1, (16, 16))


def small_mobilevit():
    channels, width = (16, 16, 16, 32, 32, 32, 64), (64, 64, 64)
    model = MobileViT(
        MobileViTConfig(channels=channels, d_model=width, num_layers=(2, 1, 1))
    ).eval()
    early = nn.Sequential(model.stem, model.stages[0], model.stages[2]).eval()
    return lambda x: early(x).permute(0, 2, 3, 1)


# %%
from zoo_lessons.models import MobileViT

builders = {
    "T2T-ViT": first_split,
    "CvT": small_cvt,
    "Swin": lambda: small_swin(blocks=2),
    "MobileViT": small_mobilevit,
}
reach |= {name: mean_influence(build) for name, build in builders.items()}
curves = {name: by_distance(pixels, 8, 8) for name, pixels in reach.items()}
for name, curve in curves.items():
    near, far = curve[1], curve[5:].mean()
    if far == 0:
        print(f"{name:10} a far token does not count at all")
        continue
    ratio = float(f"{near / far:.1g}")  # one digit: the weights are random
    print(f"{name:10} a neighbour counts about {ratio:>7,g} times as much as a far token")

# %%
fig, axes = plt.subplots(1, 5, figsize=(9, 2.6))
for ax, (name, pixels) in zip(axes, reach.items(), strict=True):
    relative = F.avg_pool2d(pixels[None], 4)[0] / curves[name][0]  # (16, 16), 1 = own cell
    drawn = ax.imshow(relative.clamp(min=1e-6).log10(), vmin=-6, vmax=0)
    ax.set(title=name, xticks=[], yticks=[])
    ax.grid(False)
bar = fig.colorbar(drawn, ax=axes, shrink=0.7, ticks=[-6, -4, -2, 0])
bar.set_ticklabels(["none", "10⁻⁴", "10⁻²", "1"])
lab.show_figure(
    fig,
    "Influence on the token at row 8, column 8, relative to that of its own 4×4 pixels. Logarithmic "
    "colours; mean of four random models.",
    "Five maps of 16 by 16 cells. ViT: one bright cell on an even ground. T2T-ViT and CvT: a bright "
    "block of 3 by 3 on an even ground. Swin: an 8 by 8 area, nothing outside. MobileViT: a broad "
    "bright spot on an uneven ground.",
)

# %%
fig = lab.lines(
    {name: curve / curve[0] for name, curve in curves.items()},
    title="Influence by distance, before any training",
    x_axis="distance from the token (cells of 4×4 pixels)",
    y_axis="influence (own cell = 1)",
    log="y",
)
lab.show_figure(
    fig,
    "ViT is flat from distance 1. T2T-ViT and CvT fall once and are flat then. Swin ends: beyond its "
    "windows there is nothing.",
    "Line chart, logarithmic: influence against distances 0 to 7 for ViT, T2T-ViT, CvT, Swin and "
    "MobileViT.",
)

# %% [markdown]
# Read the maps. *Locality* turns out to be a word for three different things: a cut whose squares
# overlap, convolutions in or around attention, and a limit on attention itself.
#
# | | what is local | what stays global | how it knows a token's place |
# |---|---|---|---|
# | ViT | nothing | attention | learnt position embeddings |
# | T2T-ViT | the cut: squares overlap | attention, between splits too | fixed sines and cosines |
# | CvT | the cut, and what q, k and v are made of | attention, with a quarter of the keys | convolutions, and zeros around the grid |
# | Swin | attention itself: a **limit** | nothing, until layers add up | bias per relative place |
# | MobileViT | convolutions around attention | attention, one pixel of each patch | convolutions, as CvT |
#
# In T2T-ViT, CvT and MobileViT the near is **preferred**, and the far still comes through. In Swin the far
# is **forbidden**, and only depth and merging bring it back. None of this says yet that it helps. For
# that we need data.
#
# ## 7 · Equal budgets
#
# A race is fair when only one thing differs. So: the same task, the same images, the same number of
# steps and of **parameters**, and for each model the better of two learning rates. Images of 32×32 pixels
# are too small for the published steps, so some models take smaller ones;
# [`experiments/c19_relatives.py`](../experiments/c19_relatives.py) has all sizes. The task: one shape in
# an image of the shapes world, anywhere, in any colour, on slightly noisy paper. Which of the eight
# shapes is it? Guessing is right one time in eight.

# %%
from zoo_lessons.datasets.shapes import SHAPES, ShapesDataset, to_images


def task(split, size):
    """Images (size, 3, 32, 32) from -1 to 1, and the number of the shape in each (size,)."""
    world = ShapesDataset(split, size, image_size=32, num_objects=(1,))
    labels = torch.tensor([SHAPES.index(scene.objects[0].shape) for scene in world.scenes])
    return world.pixel_values(), labels


def shuffle_patches(images, size=4):
    """All images with their 4×4 patches in one other order, the same for all."""
    patches = image_to_patches(images, size)  # (batch, 64, 48)
    order = torch.randperm(patches.shape[1], generator=torch.Generator().manual_seed(0))
    return patches_to_image(patches[:, order], size, *images.shape[-2:])


(train_images, train_labels), (test_images, test_labels) = task("train", 2000), task("test", 500)
print("train", tuple(train_images.shape), "test", tuple(test_images.shape))

# %%
shown = [int((test_labels == label).nonzero()[0]) for label in range(len(SHAPES))]
fig, axes = plt.subplots(2, len(SHAPES), figsize=(9, 2.9))
for row, view in enumerate((test_images[shown], shuffle_patches(test_images[shown]))):
    for ax, picture in zip(axes[row], to_images(view), strict=True):
        ax.imshow(picture)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
for ax, name in zip(axes[0], SHAPES, strict=True):
    ax.set_title(name, fontsize=10)
axes[0, 0].set_ylabel("natural")
axes[1, 0].set_ylabel("shuffled")
lab.show_figure(
    fig,
    "One test image of each shape, and below it the same image with its 64 patches of 4×4 pixels in "
    "another order.",
    "Two rows of eight small images. Above: a circle, a square and so on. Below: the "
    "same images torn into small squares that are out of order.",
)


# %% [markdown]
# Keep the second row in mind. First a look at how such a race goes: ViT and CvT, about 60,000 parameters
# each, start here and now with the same kind of random weights (Xavier's, see lesson 09).

# %%
def xavier(module):
    if isinstance(module, nn.Linear | nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))
        if module.bias is not None:
            nn.init.zeros_(module.bias)


vit_sizes = dict(image_size=32, patch_size=4, d_model=48, num_layers=3, num_heads=4, d_ff=88)
cvt_sizes = dict(d_model=(16, 24, 48), num_heads=(1, 2, 4), depths=(1, 1, 2), mlp_ratio=1.5)
cuts = dict(patch_sizes=(5, 3, 3), patch_strides=(2, 2, 2), patch_paddings=(2, 1, 1))
builders = {
    "ViT": lambda: ViT(ViTConfig(**vit_sizes, num_labels=8, eps=1e-6)),
    "CvT": lambda: CvT(CvTConfig(**cvt_sizes, **cuts, num_labels=8)),
}
for name, build in builders.items():
    parameters, flops = count(build, 3, 32, 32)
    print(f"{name}: {parameters:,} parameters, {flops / 1e6:.1f} MFLOP an image")

# %% tags=["nbval-ignore-output"]
from zoo_lessons.training import fit, seed_everything

histories, reached = {}, {}
for name, build in builders.items():
    seed_everything(0)
    model, draw = build().apply(xavier), torch.Generator().manual_seed(0)

    def batch(step, draw=draw):
        rows = torch.randint(len(train_labels), (32,), generator=draw)
        return train_images[rows], train_labels[rows]

    histories[name] = fit(
        model,
        batch,
        lambda model, batch: F.cross_entropy(model(batch[0]).logits, batch[1]),
        steps=250,
        lr=3e-3,
        weight_decay=0.05,
        schedule="warmup_cosine",
    )
    with torch.no_grad():
        guesses = model.eval()(test_images).logits.argmax(dim=-1)
    reached[name] = (guesses == test_labels).float().mean().item()

# %% tags=["nbval-ignore-output"]
fig = lab.training_curves(histories, title="Name the shape: the first 250 steps", smooth=25)
fig.axes[0].axhline(torch.tensor(8.0).log().item(), color="black", linestyle=":", label="guessing")
fig.axes[0].legend()
lab.show_figure(
    fig,
    "Cross-entropy of two models with equally many parameters, one seed each.",
    "Line chart: loss of ViT and CvT against 250 steps, from about 2.1 downwards, and a dotted line at "
    "2.08 for guessing.",
)
print({name: f"{accuracy:.0%}" for name, accuracy in reached.items()}, "of the test images")
assert min(reached.values()) > 0.15  # guessing: 0.125

# %% [markdown]
# A few seconds and one seed say little. `make record` ran the whole family for longer, with several seeds,
# and with a learning rate chosen for each model on other images. A plain convolutional network (CNN) runs
# along, so that we know what locality alone can do.

# %%
from zoo_lessons.records import load_claim, load_record

figures = load_record("c19_relatives")["figures"]
names, (few, many) = list(figures["accuracy"]), figures["train_images"]


def spread(values):
    """Mean and range over the seeds."""
    values = torch.tensor(values)
    return f"{values.mean():.0%} ({values.min():.0%} to {values.max():.0%})"


passes = figures["steps"] * figures["batch"] / many
print(f"{passes:.0f} passes in batches of {figures['batch']} images, {figures['seeds']} seeds")
print(f"\n{'':10}{'parameters':>11}{'MFLOP':>7}{'rate':>7}")
for name in names:
    size = f"{figures['parameters'][name]:>11,}{figures['flops'][name] / 1e6:>7.1f}"
    print(f"{name:10}{size}{figures['rate'][name]:>7g}")
print(f"\naccuracy after {few} and {many:,} training images, on test images and on images")
print(f"of the training\n{'':10}" + f"{'test':>20}{'training':>10}" * 2)
for name in names:
    text = f"{name:10}"
    for test, known in zip(figures["accuracy"][name], figures["train_accuracy"][name], strict=True):
        text += f"{spread(test):>20}{torch.tensor(known).mean():>10.0%}"
    print(text)

# %% [markdown]
# Read the columns for 2,000 images, the last two.
#
# - The **CNN** makes hardly a mistake. It has locality in every layer, and nothing else: for this task
#   that is enough.
# - **MobileViT** and **CvT** are well ahead of ViT. **T2T-ViT** is ahead by less than its seeds differ.
# - **Swin** is far behind, and *training* says why: it does not even fit the images that it was trained
#   on. It is **underfitted**, so this race says little about what windows are worth.
#
# Now the columns for 500 images. There prior knowledge should count most, and the CNN's does. But CvT and
# MobileViT know those images by heart, and fail on about as many of the others as ViT. A little
# convolution is not yet a CNN's prior knowledge.

# %%
vit_runs = torch.tensor(figures["accuracy"]["ViT"][-1])
print(f"after {many:,} training images; leads from the lowest to the highest seed")
for name in names:
    ahead = torch.tensor(figures["accuracy"][name][-1]) - vit_runs
    fitted = torch.tensor(figures["train_accuracy"][name][-1]).mean()
    text = f"{name:10}{'fitted' if fitted > 0.9 else 'underfitted':12}({fitted:.0%} in training)"
    if name != "ViT":
        low, high = 100 * ahead.min(), 100 * ahead.max()
        text += f", ahead of ViT by {low:+.0f} to {high:+.0f} points"
    print(text)

# %% [markdown]
# A likely reason: a Swin begins with less order than a CNN. Nothing tells it who is next to whom inside a
# window, until the bias table has learned it, and that takes steps. Swin was published after 300 passes
# over 1.3 million images, ours has seen 16 passes over 2,000.
#
# Parameters are equal, computing is not. A model that reuses its weights at many places does more with
# them. Here is accuracy against computing; a larger circle takes longer on the clock.

# %% tags=["nbval-ignore-output"]
cost = load_record("relatives_cost")
clock = cost["figures"]["at_task"]["seconds_per_image"]
fig, ax = plt.subplots(figsize=(7.5, 4.2))
for place, name in enumerate(names):
    runs = torch.tensor(figures["accuracy"][name][-1])
    x, area = figures["flops"][name] / 1e6, 250 * clock[name] / clock["ViT"]
    ax.vlines(x, runs.min(), runs.max(), color=f"C{place}")
    ax.scatter(x, runs.mean(), s=area, color=f"C{place}", alpha=0.75)
    ax.annotate(name, (x, runs.max()), (0, 9), textcoords="offset points", ha="center")
ax.axhline(1 / figures["labels"], color="black", linestyle=":", label="guessing")
ax.set(title="The family at equal size", xlabel="MFLOP an image", ylabel="accuracy")
ax.set(xlim=(0, 11.5), ylim=(0, 1.15))
ax.legend(loc="lower right")
lab.show_figure(
    fig,
    f"Mean and range of {figures['seeds']} seeds, {figures['train_images'][-1]:,} training images. The "
    f"circle's area is the time for an image, measured on {cost['machine']['device']}.",
    "Scatter plot: accuracy against millions of operations of one image, a circle and a vertical line "
    "for each of six models.",
)
times = [f"{name} {clock[name] / clock['ViT']:.1f}" for name in names]
print("time per image, ViT = 1:\n" + ", ".join(times))

# %% [markdown]
# ### Is it locality?
#
# Perhaps a winner wins for another reason: its normalisation, its many layers. So take locality away, and
# nothing else. Shuffle the patches of **all** images, for training and for testing, in one fixed order, as
# in the second row above. All the information is still there. What lies beside what means nothing any
# more.
#
# **Predict.** How much does a ViT with patches of 4×4 lose? And a CNN?

# %%
fig, ax = plt.subplots(figsize=(8, 3.4))
for place, name in enumerate(names):
    natural, shuffled = figures["accuracy"][name][-1], figures["shuffled"][name]
    for values, offset, color in ((natural, -0.13, "C0"), (shuffled, 0.13, "C1")):
        ax.plot([place + offset] * len(values), values, "o", color=color, alpha=0.6)
        mean = sum(values) / len(values)
        ax.plot([place + offset - 0.1, place + offset + 0.1], [mean, mean], color=color)
ax.axhline(1 / figures["labels"], color="black", linestyle=":", label="guessing")
ax.plot([], [], "o", color="C0", label="natural")
ax.plot([], [], "o", color="C1", label="patches shuffled")
ax.set(xticks=range(len(names)), xticklabels=names, ylabel="accuracy", title="Without neighbours")
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1))
lab.show_figure(
    fig,
    "One dot per seed, a line at the mean.",
    "Dot plot: accuracy of six models, on natural images and on images with shuffled patches.",
)


def points(found):
    """A share with its 95 % interval, in percentage points."""
    mean, low, high = (100 * found[key] for key in ("mean", "low", "high"))
    return f"{mean:+5.1f} ({low:+.1f} to {high:+.1f})"


print("points lost by shuffling, with 95 % intervals over the seeds,")
print("and how many more than ViT")
for name in names:
    more = points(figures["extra_drop"][name]) if name in figures["extra_drop"] else ""
    print(f"{name:10} {points(figures['drop'][name]):24} {more}".rstrip())

# %% [markdown]
# **ViT** is the control. Its position embeddings can learn any order of the patches, and it loses nothing.
# CvT, T2T-ViT, MobileViT and the CNN lose a lot, and more than ViT with the whole interval. So they rely on
# what lies beside what. Look where they fall to: on shuffled images ViT beats all its relatives. The lead of
# CvT and MobileViT *was* locality. T2T-ViT relies on it as much and gains little by it: to rely on locality
# and to gain by it are two things. (Swin learned little, and has little to lose.)
#
# ### Claim C19: CvT, Swin and T2T-ViT bring locality back
#
# For the verdict, a relative *is local* if the shuffle costs it more than it costs ViT, and it *gains* if it
# is more accurate than ViT; both with the whole 95 % interval.

# %%
lab.show_claim(load_claim("C19"))

# %%
for name, gain in figures["gain"].items():
    print(f"{name:10} against ViT: {points(gain)} points")

# %% [markdown]
# The intervals are wide, since three seeds are few and ViT's own differ by 16 points. CvT was ahead in every
# single seed, by 9 points or more, and its interval still reaches zero. MobileViT's does not, but the claim
# does not speak of it. What else to keep in mind: two learning rates were tried for each model; and small
# images, eight shapes and 1,000 steps are one task. The papers' own comparisons are on ImageNet, at full size.
#
# ### MobileViT beside ViT
#
# Another claim, C30, says in one of its three parts that MobileViT brings Transformers to mobile devices.
# The part that can be checked here: at the same number of parameters, is MobileViT more accurate than ViT,
# and what does it cost on the clock?

# %% tags=["nbval-ignore-output"]
mobile, at_task = figures["gain"]["MobileViT"], cost["figures"]["at_task"]
print(f"accuracy: {points(mobile)} points against ViT")
print(f"FLOPs:    {figures['flops']['MobileViT'] / figures['flops']['ViT']:.2f} times ViT's")
ratio, (low, high) = at_task["ratio"]["MobileViT"], at_task["interval"]["MobileViT"]
print(f"time:     {ratio:.2f} times ViT's ({low:.2f} to {high:.2f}), {cost['machine']['device']}")

# %% [markdown]
# At equal size it is the more accurate of the two, with less than half of the operations. Time need not
# follow: a processor also spends it on calling many small layers. A phone we do not have, so what it makes
# of this cannot be measured here. The other parts of C30 are about MAE (lesson 11) and Flamingo (lesson 14),
# so its verdict has to wait.
#
# ## 8 · What image size costs
#
# So far the images had 32×32 pixels. Where do the four ways lead when images grow? Let $N$ be the number of
# pixels of an image. If a cost grows as
#
# $$ \text{cost} \approx a\,N^{p} $$
#
# then its logarithm is $\log a + p \log N$: a straight line whose slope is the **exponent** $p$. With
# $p = 1$ twice the pixels cost twice as much, with $p = 2$ four times.
#
# **Predict.** Tokens grow like the pixels, scores like their square. Which exponent has a ViT: 1, 2, or
# something between?

# %%
grown = cost["figures"]
fig = lab.lines(
    {name: [flops / 1e6 for flops in row] for name, row in grown["flops"].items()},
    grown["sizes"],
    title="Operations of one image",
    x_axis="side of the image (pixels)",
    y_axis="MFLOP",
    log="xy",
)
lab.show_figure(
    fig,
    "The models of section 7, built for larger images. ViT, T2T-ViT and CvT climb ever more steeply; "
    "Swin and CNN are straight lines.",
    "Line chart with logarithmic axes: operations against image sides from 32 to 256 for six models.",
)
print("slope between neighbouring sizes", grown["sizes"])
print("and from where attention makes half of the operations")
for name, slopes in grown["slope"]["flops"].items():
    half = grown["half"][name]
    text = f"half from {half} pixels on" if half else "never half"
    print(f"{name:10}{'  '.join(f'{slope:.2f}' for slope in slopes)}   {text}")

# %% [markdown]
# Read the slopes, row by row.
#
# - **Swin** has slope 1 at every size, like the CNN. A window costs the same wherever it lies, and there
#   are as many windows as pixels allow.
# - **ViT** climbs from 1.4 towards 2. At 32 pixels the linear layers still outweigh attention; from 64
#   pixels on attention makes more than half. (ViT-B/16 of lesson 09 gets there at about 1,100 pixels: its
#   patches are 4 times as wide as these, its vectors 16 times.) T2T-ViT, with attention from all to all
#   between its splits, climbs alike.
# - **CvT** takes half of ViT's operations, and has *the same slopes*. A quarter of the keys makes a quarter
#   of the scores at every size. The factor shrinks, the exponent stays.
# - **MobileViT** starts near 1 and bends upwards late: its sequences are short, but they span the image.
#
# The clock, and the memory that a forward pass takes:

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.9))
panels = {
    "Time, forward": (
        [[1000 * s for s in row] for row in grown["forward"]["seconds"].values()],
        "ms",
    ),
    "Memory, forward": ([[b / 2**20 for b in row] for row in grown["memory"].values()], "MiB"),
}
for ax, (title, (rows, unit)) in zip(axes, panels.items(), strict=True):
    series = dict(zip(grown["flops"], rows, strict=True))
    lab.lines(
        series, grown["sizes"], title=title, x_axis="side (pixels)", y_axis=unit, log="xy", ax=ax
    )
axes[0].get_legend().remove()
lab.show_figure(
    fig,
    f"One image at a time, on {cost['machine']['device']}.",
    "Two line charts with logarithmic axes: milliseconds and mebibytes against image sides from 32 to 256.",
)
kinds = ("flops", "forward", "training", "memory")
print("exponents, with 95 % intervals")
print(f"{'':10}" + "".join(f"{kind:>17}" for kind in kinds))
for name in grown["flops"]:
    cells = [grown["exponent"][kind][name] for kind in kinds]
    texts = [f"{c['value']:.2f} ({c['interval'][0]:.2f}-{c['interval'][1]:.2f})" for c in cells]
    print(f"{name:10}" + "".join(f"{text:>17}" for text in texts))

# %% [markdown]
# An exponent fitted to a bent line is a mean; its interval tells how much the line bends. On the clock the
# lines begin flat: to start a layer takes time, however small the image is, and models of many small layers
# pay it most often. So the exponents are fitted without the smallest image. **Memory** grows about like
# the pixels or more slowly in all of them, ViT included, although its scores grow like their square:
# PyTorch's fused attention never stores the scores. So what windows save here is arithmetic.

# %% [markdown]
# ## 9 · Read the real thing
#
# Swin's layer. The lines that you know from section 4, and two that you do not: it pads a grid that
# windows do not divide, and does not shift when one window covers a whole side.

# %%
lab.show_source(WindowAttention.forward)

# %% [markdown]
# CvT's attention, with the class token that goes round the convolutions:

# %%
lab.show_source(ConvolutionalAttention.forward)

# %% [markdown]
# MobileViT's block: near, far, and both joined by a last convolution.

# %%
from zoo_lessons.models.mobilevit import MobileViTBlock

lab.show_source(MobileViTBlock.forward)

# %% [markdown]
# Where the papers, this lesson and `transformers` 5.23 differ:
#
# | | paper | this lesson | `transformers` |
# |---|---|---|---|
# | Swin: strangers in a window | masked | hidden, $-\infty$ | nearly hidden, -100 on the score |
# | Swin: grid as small as a window | not said | one window, no shift | the same |
# | CvT: scale of the scores | not spelled out | $1/\sqrt{d_\text{model}}$ | the same |
# | CvT: LayerNorm epsilon | not given | 1e-5 | 1e-5, whatever its config says |
# | CvT: third stage with two blocks | - | works | an error: it looks up a rate at the wrong index |
# | T2T-ViT: layer between splits | Transformer or Performer | Transformer | has no T2T-ViT |
# | MobileViT: sides that patches do not divide | not said | stretched, shrunk back | the same |
# | chance that a whole block is left out in training | Swin: 0.2 and more | 0 | Swin: 0.1 by default |
#
# ## 10 · What it costs
#
# The published sizes, counted. Papers count a multiplication and an addition as one operation; we divide
# our FLOPs by two to compare.

# %%
from zoo_lessons.models import MobileViTConfig

published = {  # name: model, side of the image, parameters and operations as the papers print them
    "ViT-B/16": (lambda: ViT(ViTConfig.base()), 224, "86 M", "17.5 G"),
    "T2T-ViT-14": (lambda: T2TViT(T2TViTConfig.t2t_vit_14()), 224, "21.5 M", "6.1 G"),
    "CvT-13": (lambda: CvT(CvTConfig.cvt_13()), 224, "20 M", "4.5 G"),
    "Swin-T": (lambda: Swin(SwinConfig.tiny()), 224, "29 M", "4.5 G"),
    "MobileViT-S": (lambda: MobileViT(MobileViTConfig.small()), 256, "5.6 M", "not given"),
}
print(f"{'':13}{'image':>6}{'parameters':>14}{'paper':>8}{'operations':>13}{'paper':>11}")
for name, (build, side, size, operations) in published.items():
    parameters, flops = count(build, 3, side, side)
    counted = f"{parameters:>14,}{size:>8}{flops / 2e9:>11.1f} G{operations:>11}"
    print(f"{name:13}{side:>6}{counted}")

# %% [markdown]
# The two figures for ViT-B are from the ViT paper's table 1 and from Swin's table 1, where it stands as
# DeiT-B; T2T-ViT's is the variant with Transformers between the splits.
#
# **Beside `transformers`.** The recorded table of models: same weights, how far the outputs are apart, how
# much code, how large, how fast, how much memory.

# %% tags=["nbval-ignore-output"]
lab.model_table(load_record("vision_model_table"), ["CvT", "Swin", "T2T", "MobileViT"])

# %% [markdown]
# Where do the operations go? T2T-ViT-14 spends a quarter before its ViT begins, on 3,136 narrow tokens.
# CvT and Swin have a pyramid: most of CvT's blocks and half of Swin's work on 14×14 tokens. **Memory** in
# training follows the number of scores wherever they are stored. In the first stage, with 56×56 tokens,
# one head of one layer has:

# %%
n = 56 * 56
kept = {
    "T2T-ViT, all to all": n * n,
    "CvT, keys with step 2": n * n // 4,
    "Swin, windows of 7×7": n * 49,
}
for name, scores in kept.items():
    print(f"{name:23}{scores:>12,} scores, {4 * scores / 2**20:6.1f} MiB in 32 bits")

# %% [markdown]
# A fused kernel, as the one of section 8, does not store them; the arithmetic remains.
#
# ## Quiz

# %%
lab.quiz("10")

# %% [markdown]
# ## Summary
#
# - A ViT does not know which patches are neighbours: before training, near and far count the same.
# - T2T-ViT overlaps its patches (a soft split), CvT makes tokens and queries by convolutions: the near
#   is preferred, the far still seen. A soft split with a linear map *is* a convolution.
# - Swin forbids the far. Shifting the windows lets information travel, and after the roll a mask must keep
#   strangers apart. MobileViT attends from pixel to far pixel and leaves the near to convolutions.
# - At equal size CvT and MobileViT lead ViT with every seed, and a plain CNN beats them all here. With
#   shuffled patches ViT loses nothing, and its relatives fall behind it: their lead was locality.
#   A quarter of the keys cuts the cost of attention; only windows cut its exponent to 1.
# - **Next:** [11 Masked autoencoders](11_mae.ipynb) learn to see without labels. **Read:** Liu et al. 2021,
#   [Swin Transformer](https://arxiv.org/abs/2103.14030), sections 3.1 and 3.2; Wu et al. 2021,
#   [CvT](https://arxiv.org/abs/2103.15808), section 3; Yuan et al. 2021, [Tokens-to-Token
#   ViT](https://arxiv.org/abs/2101.11986), section 3.1; Mehta & Rastegari 2021,
#   [MobileViT](https://arxiv.org/abs/2110.02178), section 3.1.
