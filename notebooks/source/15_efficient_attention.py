# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 15 · Sparse, hierarchical and linear attention
#
# *Which scores can attention leave out?*
#
# After this lesson you can
#
# - write window, global and random attention without building the full matrix
# - derive linear attention in its parallel and its recurrent form
# - fit exponents of time and memory against length
# - tell which tasks pay for the savings
#
# **Time:** 60 minutes · **You need first:** [04 The Transformer](04_transformer.ipynb)
#
# **On the zoo map:** part III, Efficiency · **New parts:** Window attention, Global tokens, Random blocks, Linear attention · **Models:** Longformer
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/15_efficient_attention.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F15_efficient_attention.ipynb) · [Solutions](solutions/15_efficient_attention.ipynb)

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

# %% [markdown]
# ## The question
#
# *The cat sat on the mat* has six words, so attention computes 6 · 6 = 36 scores per head. That is
# nothing. A book chapter of 16,384 tokens is another matter.

# %%
for tokens in (6, 512, 4096, 16_384):
    scores = tokens**2
    print(
        f"{tokens:6,} tokens: {scores:11,} scores per head, {4 * scores / 1e6:8,.1f} MB in float32"
    )

# %% [markdown]
# Four times the text costs sixteen times as much. Are all these scores needed? Look at a model that
# has them all. MiniLM (lesson 00) reads eight pieces of technical English, 256 tokens each. How much
# of its attention goes to a token's 8 neighbours on each side? How much to `[CLS]` and `[SEP]`, the
# two special tokens at the ends?

# %%
import torch

from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.layers import record_attention
from zoo_lessons.weights import load_pretrained, load_tokenizer

minilm, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
ids = tokenizer.encode(" ".join(paragraphs("reference", "test"))).ids[1:-1]
pieces = torch.tensor(ids[: 8 * 254]).view(8, 254)
ends = [torch.full((8, 1), tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
with torch.no_grad(), record_attention(minilm) as maps:
    minilm(torch.cat([ends[0], pieces, ends[1]], dim=1))
weights = maps.stack().mean(dim=(1, 2))  # (layers, queries, keys): mean over texts and heads

place = torch.arange(256)
near = (place[:, None] - place).abs() <= 8  # (queries, keys)
special = (place == 0) | (place == 255)  # (keys)
print(f"neighbours are {(near & ~special).double().mean():.0%} of all pairs, special tokens 1%")
for layer, w in enumerate(weights):
    close, to_special = (w * (near & ~special)).sum(1).mean(), (w * special).sum(1).mean()
    print(f"layer {layer}: {close:.0%} to neighbours, {to_special:.0%} to special tokens")

# %% [markdown]
# In layers 1 and 2 these few pairs hold more than half of the weight; in the last layer, attention is
# spread over the whole text. This suggests what to keep. It does not say what a model loses that never
# had the rest.
#
# **Which scores can attention leave out?** There are two families of answers:
#
# - **sparse**: choose pairs in advance, and compute only these (sections 1 to 5);
# - **linear**: change the formula, so that no score of any pair is ever needed (sections 6 and 7).
#
# Then we ask what they lose (section 8) and measure what they save (section 10). The random blocks of
# section 4 and the random features of section 6 are *further* reading: skip them in a first pass.

# %% [markdown]
# ## 1 · A window of neighbours
#
# Each token sees the $r$ tokens before it, itself, and the $r$ after it. Call $r$ the **radius**. The
# formula of lesson 01 stays, only the sums become short:
#
# $$ o_i = \sum_{|i - j| \le r} w_{ij} \, v_j \qquad w_{ij} = \frac{e^{s_{ij}}}{\sum_{|i - j'| \le r} e^{s_{ij'}}} \qquad s_{ij} = \frac{q_i \cdot k_j}{\sqrt{d}} $$
#
# As a mask:

# %%
from zoo_lessons.layers import scaled_dot_product_attention, window_mask

words = "The cat sat on the mat".split()
fig = lab.heatmap(
    window_mask(6, radius=1),
    words,
    words,
    title="A window of radius 1",
    row_axis="query",
    column_axis="key",
    value="may attend (1) or not (0)",
)
lab.show_figure(
    fig,
    "Each word sees its neighbours. 16 of 36 pairs are left.",
    "Heat map, six words by six words. The diagonal and the squares next to it are 1, the rest 0.",
)

# %% [markdown]
# **Predict.** We give this mask to the attention of lesson 01. How much time does that save?
#
# None. A masked attention computes the whole matrix, sets most of it to $-\infty$, and multiplies by
# the zeros. To save, the matrix must not be made at all. First as a plain loop:

# %%
n, d, radius = 24, 8, 4
q, k, v = torch.randn(3, n, d)  # each (tokens, d)

rows = []
for i in range(n):
    window = slice(max(0, i - radius), i + radius + 1)
    weights = (k[window] @ q[i] / d**0.5).softmax(dim=0)  # (at most 2 · radius + 1)
    rows.append(weights @ v[window])
by_loop = torch.stack(rows)  # (tokens, d)

by_mask, _ = scaled_dot_product_attention(q, k, v, window_mask(n, radius))
assert torch.allclose(by_loop, by_mask, atol=1e-6)
print("the loop gives what the masked matrix gives:", True)
pairs = n * (2 * radius + 1) - radius * (radius + 1)
assert pairs == window_mask(n, radius).sum()
print(f"scores: {pairs} in the loop, {n * n} in the matrix")


# %% [markdown]
# $n (2r + 1)$ scores, less a few at the ends: the cost grows with $n$, not with $n^2$.
#
# ### Exercise 1 · A window without the matrix (★★☆, 10 min)
#
# No loop over tokens, and no matrix of tokens × tokens. One text, one head.

# %% tags=["exercise"]
def window_attention(q, k, v, radius):
    """Attention in which each token sees `radius` tokens to each side, and itself.

    q, k: (tokens, d). v: (tokens, d_v). Returns (tokens, d_v).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("15.window_attention", window_attention)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make a table of places (tokens, 2 · radius + 1): row $i$ holds $i - r, \dots, i + r$. Indexing
# `k[places]` gives each query its own keys: (tokens, 2 · radius + 1, d).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Some places lie outside the text. Clamp them so that indexing works, and set their *scores* to
# `-inf` before the softmax.
#
# </details>
#
# ### In blocks
#
# Copying $2r + 1$ keys for each query costs memory $2r + 1$ times over, and processors like large
# matrix products better than small ones. So the library cuts the text into **blocks**. All queries of
# a block share one copy of the keys that any of them needs: with blocks as long as the radius, the
# block before, their own, and the block after.

# %%
from torch.nn import functional as F

block = radius


def with_neighbours(x):
    """(tokens, d) -> (blocks, 3 · block, d): for each block the one before, itself, the next."""
    padded = F.pad(x, (0, 0, block, block))  # an empty block at each end
    return padded.unfold(0, 3 * block, block).transpose(1, 2)


place = torch.arange(n, dtype=torch.float)[:, None]  # (tokens, 1)
query_place = place.view(-1, block, 1)  # (blocks, block, 1)
key_place = with_neighbours(place + 1).transpose(1, 2) - 1  # (blocks, 1, 3 · block); -1 is outside
seen = ((query_place - key_place).abs() <= radius) & (key_place >= 0)
scores = q.view(-1, block, d) @ with_neighbours(k).transpose(1, 2) / d**0.5
by_blocks = scores.masked_fill(~seen, -torch.inf).softmax(dim=-1) @ with_neighbours(v)
assert torch.allclose(by_blocks.flatten(0, 1), by_mask, atol=1e-6)
print("scores", tuple(scores.shape), "(blocks, queries of a block, keys of three blocks)")

# %% [markdown]
# Three blocks of keys for each block of queries, of which the window uses a part: some scores are
# computed in vain. Still their number grows with $n$ only. The library's version does this for any
# length, and also for what comes in the next sections:

# %%
from zoo_lessons.layers import SparsePattern, sparse_attention

pattern = SparsePattern(radius, block=block)
heads = [x[None, None] for x in (q, k, v)]  # (batch, heads, tokens, d)
assert torch.allclose(sparse_attention(*heads, pattern)[0, 0], by_mask, atol=1e-6)
fused = F.scaled_dot_product_attention(*heads, attn_mask=pattern.mask(n))
assert torch.allclose(sparse_attention(*heads, pattern), fused, atol=1e-6)
print("library = loop = PyTorch with a mask:", True)

# %% [markdown]
# ## 2 · How far do several layers see?
#
# A token sees its window. But what it sees in layer 2 has itself looked around in layer 1. So news
# travels. We test it, as in lesson 06: replace a token, and see which outputs change. After each
# layer, how far has the change come?

# %%
from torch import nn

from zoo_lessons.layers import EncoderBlock, SparseAttention, replace_attention


@torch.no_grad()
def influence(layers, tokens=24, width=16):
    """True at (i, j) where the output of token i changes with token j: (tokens, tokens)."""
    blocks = nn.Sequential(*(EncoderBlock(width, 2, 32, norm="pre") for _ in layers))
    replace_attention(blocks, layers)
    x = torch.randn(tokens, width).expand(tokens, -1, -1)  # a copy of the text for each j
    other = x.clone()
    other.diagonal().normal_()  # in copy j, token j is another one
    changed = (blocks(other) - blocks(x)).abs().amax(dim=-1) > 1e-6  # (j, i)
    return changed.T


window = SparseAttention(SparsePattern(radius=2, block=4))
reach = {f"layers: {depth}": influence([window] * depth) for depth in (1, 2, 4)}
for depth, changed in zip((1, 2, 4), reach.values(), strict=True):
    assert torch.equal(changed, window_mask(24, 2 * depth))
    print(f"radius 2, layers: {depth}. They see as far as one layer of radius {2 * depth}")

# %%
fig = lab.heatmaps(
    reach, row_axis="output of token", column_axis="replaced token", value="changes (1) or not (0)"
)
lab.show_figure(
    fig,
    "The same window in one, two and four layers. Each layer widens the reach by the radius.",
    "Three heat maps, 24 tokens by 24 tokens. A band along the diagonal, which is 5 squares wide "
    "after one layer, 9 after two, 17 after four.",
)


# %% [markdown]
# This is how a stack of small convolutions sees a large part of an image. After $L$ layers, a token
# has heard of the $L \cdot r$ tokens to each side.
#
# ### Exercise 2 · How many layers until all is seen? (★☆☆, 4 min)
#
# How many layers does it take until the output of the last token can depend on the first?

# %% tags=["exercise"]
def layers_needed(length, radius):
    """A whole number. length: tokens, at least 2. radius: at least 1."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("15.layers_needed", layers_needed)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many steps lie between the first and the last token? How many does one layer cover?
#
# </details>
#
# Longformer has windows of 256 to each side, texts of 4,096 tokens, and 12 layers. That is fewer
# layers than the way from end to end needs. And *can depend* is not *does depend*: news that must pass
# through many tokens competes with everything else that these tokens have to carry.

# %% [markdown]
# ## 3 · Global tokens
#
# Let a few tokens see everything, and let everything see them. Longformer takes `[CLS]` for
# classification, and the tokens of the question for question answering (Beltagy et al. 2020,
# section 3.1). With one such token, any two tokens are connected by two layers: the first carries the
# news to the global token, the second fetches it from there.

# %%
with_global = SparsePattern(radius=2, block=4, global_tokens=(0,))
layer = SparseAttention(with_global)
one, two = influence([layer]), influence([layer] * 2)
assert torch.equal(one, with_global.mask(24)) and two.all()
print(f"window alone: {SparsePattern(2).density(24):.0%} of the pairs")
print(
    f"with a global token: {with_global.density(24):.0%}; one layer connects {one.double().mean():.0%}"
)
print("two layers connect all:", two.all().item())


# %% [markdown]
# The window costs $n (2r + 1)$ scores. Each global token adds about $2n$: its row and its column.
#
# ### Exercise 3 · Global tokens (★☆☆, 5 min)

# %% tags=["exercise"]
def add_global_tokens(mask, positions):
    """The mask, and in addition all pairs with a global token.

    mask: Boolean (tokens, tokens), rows are queries; it must not change.
    positions: a list of places, which may be negative. Returns a Boolean tensor of the same shape.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("15.global_tokens", add_global_tokens)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A global token appears twice in the matrix: as a query and as a key. Which is the row?
#
# </details>
#
# ## 4 · Random blocks, and the union (further)
#
# Without global tokens, how many layers connect everything? A few connections at random shorten the
# ways a lot, as a few acquaintances in other towns do among people. BigBird (Zaheer et al. 2020)
# lets each block of queries also see some blocks of keys, drawn once and for all.

# %%
patterns = {
    "window": SparsePattern(2, block=4),
    "window + random": SparsePattern(2, block=4, random_blocks=1, seed=1),
    "window + global": SparsePattern(2, block=4, global_tokens=(0,)),
    "union of the three": SparsePattern(2, block=4, global_tokens=(0,), random_blocks=1, seed=1),
}


def layers_until_connected(mask):
    """How many layers until each output can depend on each token."""
    step = (mask | torch.eye(len(mask), dtype=torch.bool)).double()
    known, layers = step, 1
    while not (known > 0).all():
        known, layers = (known @ step > 0).double(), layers + 1
    return layers


for name, pattern in patterns.items():
    mask = pattern.mask(64)
    print(
        f"{name:18}: {mask.double().mean():4.0%} of the pairs, {layers_until_connected(mask):2} layers"
    )

# %%
shown = {name: pattern.mask(64) for name, pattern in patterns.items()}
shown["BigBird's, in blocks of 4"] = SparsePattern.bigbird(64, block=4, random_blocks=1).mask(64)
fig = lab.heatmaps(shown, row_axis="query", column_axis="key", value="may attend (1) or not (0)")
lab.show_figure(
    fig,
    "Sparse patterns of 64 tokens. As published, BigBird works in whole blocks: window, global tokens "
    "and random parts are all made of squares.",
    "Five heat maps. Window: a thin diagonal. With random: scattered 4 by 4 squares beside it, one in "
    "each block row. With global: first row and column filled. Union: all of these. BigBird: a "
    "diagonal three blocks wide, first and last block rows and columns, scattered squares.",
)


# %% [markdown]
# ### Exercise 4 · Random blocks (★★☆, 8 min)
#
# For each block of queries in turn, draw `torch.randperm(blocks, generator=...)` and keep its first
# `count` entries: these blocks of keys it sees. One generator, seeded with `seed`, serves the whole
# mask. All heads share the draw.

# %% tags=["exercise"]
def random_block_mask(heads, blocks, block, count, seed):
    """Boolean mask (heads, blocks · block, blocks · block), True where a query may attend."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("15.random_blocks", random_block_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# First a small matrix (blocks, blocks) of what was drawn. Then make each of its entries a square of
# block × block.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `repeat_interleave` on both axes, then `expand` over the heads. Where must the generator be made so
# that each block draws something else, and each call the same?
#
# </details>
#
# ### Look at them
#
# Choose a pattern and move its sliders. Dark squares are pairs that one layer computes; pale ones are
# connected by the layers that the last slider stacks. Try this: what is the cheapest pattern (fewest
# FLOPs) that connects all 48 tokens in two layers?

# %%
from zoo_lessons.lab.widgets import MaskExplorer

MaskExplorer(48, pattern="window + random", sparse=True, window=2, layers=2)

# %% [markdown]
# ## 5 · Hierarchical attention
#
# Must all layers be alike? In language and in images, what is small is made of what is near: letters
# make words, edges make shapes. So: **windows in the low layers, full attention in the high ones.**
# With the library this is one line, because a model's attention can be replaced layer by layer while
# its weights stay; `None` leaves a layer as it is.

# %%
local = SparseAttention(SparsePattern(2, block=4))
stacks = {"windows": [local] * 3, "hierarchical": [local, local, None], "full": [None] * 3}
for name, layers in stacks.items():
    masks = [torch.ones(24, 24) if layer is None else layer.pattern.mask(24) for layer in layers]
    share = torch.stack([mask.double() for mask in masks]).mean()
    print(f"{name:12}: {share:4.0%} of the pairs, all connected: {influence(layers).all().item()}")

# %% [markdown]
# Does this matter to a model that learns? We need a task in which the range is known. Here is a text
# of the **look-up task**: `k7=3` says that key 7 has the value 3, and `k7?` asks for it. Each key has
# one entry, values are new in each text, and the answer may lie one token back or dozens. The dots in
# front are blank tokens; section 8 makes global tokens of them.

# %%
import textwrap

from zoo_lessons.datasets.look_up import NO_ANSWER, look_up_batch, written

example = look_up_batch(2, 30, torch.Generator().manual_seed(0), blanks=4)
print(textwrap.fill(written(example)[:196], 96), "...")
print("keys, values, answers, distances: each", tuple(example.keys.shape), "(texts, tokens)")
asked = example.distances[example.distances > 0]
print("distances of some questions:", asked[20:30].tolist())


# %% [markdown]
# A small encoder with two layers, width 32, and no positions: the question says *what*, not *where*.
# We train it twice, with windows of radius 4, and with a window below and full attention above. Two
# such windows reach 8 tokens.
#
# **Predict.** Which questions will the first model learn, and which the second?

# %%
class LookUpModel(nn.Module):
    """Embeddings of key and value, two encoder blocks, a score for each value."""

    def __init__(self, layers, width=32, num_keys=48, num_values=8):
        super().__init__()
        self.key, self.value = (
            nn.Embedding(num_keys + 1, width),
            nn.Embedding(num_values + 1, width),
        )
        blocks = (EncoderBlock(width, 2, 64, norm="pre", activation="gelu") for _ in layers)
        self.blocks = nn.Sequential(*blocks)
        replace_attention(self.blocks, layers)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, num_values)

    def forward(self, texts):
        x = self.key(texts.keys) + self.value(texts.values)  # (texts, tokens, width)
        return self.head(self.norm(self.blocks(x)))  # (texts, tokens, num_values)


def look_up_loss(model, texts):
    return F.cross_entropy(
        model(texts).flatten(0, 1), texts.answers.flatten(), ignore_index=NO_ANSWER
    )


# %% tags=["nbval-ignore-output"]
from zoo_lessons.training import fit

window = SparseAttention(SparsePattern(4, block=4))
trained = {}
for name, layers in {"window": [window] * 2, "hierarchical": [window, None]}.items():
    torch.manual_seed(0)
    model, chance = LookUpModel(layers), torch.Generator().manual_seed(0)
    history = fit(
        model,
        lambda step, chance=chance: look_up_batch(32, 30, chance, blanks=4),
        look_up_loss,
        steps=300,
        lr=3e-3,
        schedule="warmup_cosine",
    )
    trained[name] = (model.eval(), history)

# %%
texts = look_up_batch(200, 30, torch.Generator().manual_seed(1), blanks=4)
asked = texts.distances > 0
near, far = asked & (texts.distances <= 4), asked & (texts.distances >= 17)
accuracy = {}
for name, (model, _) in trained.items():
    with torch.no_grad():
        right = model(texts).argmax(dim=-1) == texts.answers
    accuracy[name] = [right[chosen].double().mean().item() for chosen in (near, far)]
assert min(accuracy["window"][0], *accuracy["hierarchical"]) > 0.9
assert accuracy["window"][1] < 0.25
print("window: near questions over 90 %, far ones under 25 % (guessing: 12.5 %)")
print("hierarchical: near and far over 90 %")

# %% tags=["nbval-ignore-output"]
curves = {name: history for name, (_, history) in trained.items()}
fig = lab.training_curves(curves, title="Learning to look up", y_axis="loss (nats)", smooth=10)
lab.show_figure(
    fig,
    "Both learn the near questions at the same pace. Then the window's loss stays where it is: what "
    "lies beyond its reach can only be guessed.",
    "Line chart of the loss against the step, 300 steps. Both curves fall together to about 1.2; the "
    "hierarchical one then falls to nearly 0, the other levels off.",
)

# %% [markdown]
# One full layer is enough here. Section 8 asks the same of all kinds of attention, with several seeds.

# %% [markdown]
# ## 6 · Linear attention
#
# Sparse attention keeps the formula and drops pairs. **Linear attention** keeps all pairs and changes
# the formula. Without its softmax, attention would be a product of three matrices, and such a product
# may be computed in either order:
#
# $$ (Q K^\top) V = Q (K^\top V) $$
#
# **Predict.** With $n$ tokens and width $d$, how many multiply-adds does each order take?

# %%
n, d = 300, 16
q, k, v = torch.randn(3, n, d, dtype=torch.float64)
assert torch.allclose((q @ k.T) @ v, q @ (k.T @ v))
print("same result:", True)
print("(Q Kᵀ) V makes a matrix", tuple((q @ k.T).shape), "and takes", f"{2 * n * n * d:,}")
print("Q (Kᵀ V) makes a matrix", tuple((k.T @ v).shape), "  and takes", f"{2 * n * d * d:,}")

# %% [markdown]
# $2 n^2 d$ against $2 n d^2$: the second is linear in $n$. The softmax stands in the way, because it
# needs each score by itself. Look at what it does with them: the weight of key $j$ is
# $e^{q_i \cdot k_j}$, up to scale and division. Replace this similarity by another one that is a dot
# product of **features** $\phi$ (Katharopoulos et al. 2020, section 3.2):
#
# $$ o_i = \frac{\sum_j \big(\phi(q_i) \cdot \phi(k_j)\big) \, v_j}{\sum_j \phi(q_i) \cdot \phi(k_j)}
#        = \frac{\phi(q_i)^\top \overbrace{\textstyle\sum_j \phi(k_j) \, v_j^\top}^{\text{features} \times d}}{\phi(q_i)^\top \underbrace{\textstyle\sum_j \phi(k_j)}_{\text{features}}} $$
#
# The two sums over $j$ are the same for all queries: compute them once. And $\phi$ must be positive,
# so that the weights are. Their choice is $\phi(x) = \mathrm{elu}(x) + 1$, which is $x + 1$ for
# positive $x$ and $e^x$ for negative.

# %%
from zoo_lessons.layers import elu_features, feature_attention, linear_attention

phi_q, phi_k = elu_features(q), elu_features(k)  # (tokens, features)
weights = phi_q @ phi_k.T  # (tokens, tokens): the definition
weights = weights / weights.sum(dim=1, keepdim=True)
by_matrix = weights @ v

kv, k_sum = phi_k.T @ v, phi_k.sum(dim=0)  # (features, d) and (features): the other order
by_sums = (phi_q @ kv) / (phi_q @ k_sum)[:, None]
assert torch.allclose(by_sums, by_matrix)
assert torch.allclose(linear_attention(phi_q, phi_k, v), by_matrix)
assert torch.allclose(feature_attention(phi_q, phi_k, v)[1], weights)
print("matrix of weights, sums, and the library agree:", True)


# %% [markdown]
# ### Exercise 5 · Linear attention (★★☆, 8 min)
#
# With padding. Apply $\phi(x) = \mathrm{elu}(x) + 1$ yourself; make no matrix of tokens × tokens.

# %% tags=["exercise"]
def linear_attention_with_padding(q, k, v, keep):
    """q, k: (texts, tokens, d), before φ. v: (texts, tokens, d_v).
    keep: True for tokens, False for padding, (texts, tokens).

    Returns (texts, tokens, d_v); rows at padding mean nothing.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("15.linear_attention", linear_attention_with_padding)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A key enters the result only through $\phi(k_j)$, in two places. What must $\phi(k_j)$ be so that it
# counts in neither?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `keep[..., None]` has the shape (texts, tokens, 1), and multiplying by it sets rows to zero. $\phi(0)$
# is not zero.
#
# </details>
#
# ### What is lost: focus
#
# The softmax can point. If a query is similar enough to one key, that key gets nearly all the weight.
# Can $\mathrm{elu} + 1$? Take 32 random keys, and a query that is the first key times a number.

# %%
generator = torch.Generator().manual_seed(1)
keys = torch.randn(32, 16, generator=generator)
scales = torch.linspace(0, 4, 9)
queries = scales[:, None] * keys[0]  # (9, 16)
softmax_weight = (queries @ keys.T / 4).softmax(dim=1)[:, 0]  # of the first key; √16 = 4
_, weights = feature_attention(elu_features(queries), elu_features(keys), keys)
linear_weight = weights[:, 0]
for scale in (0, 4, 8):
    print(
        f"{scales[scale]:.0f} × key: softmax {softmax_weight[scale]:.2f}, linear {linear_weight[scale]:.2f}"
    )

# %% [markdown]
# The linear weight hardly rises: every other key keeps its share. It is a mean with slight
# preferences. A layer can make up for some of that by its projections; section 8 shows how far that
# goes.
#
# ### Features that imitate the softmax (further)
#
# Is there a $\phi$ whose products *are* exponentials? Not with finitely many features, but **on
# average** with random ones. For a vector $\omega$ of independent standard normal numbers and any
# vector $z$, the mean of $e^{\omega \cdot z}$ is $e^{|z|^2 / 2}$. With $z = q + k$ this gives
# (Choromanski et al. 2021, lemma 1)
#
# $$ e^{q \cdot k} = \mathbb{E}_\omega \big[ e^{\omega \cdot q - |q|^2 / 2} \; e^{\omega \cdot k - |k|^2 / 2} \big] $$
#
# So draw $m$ vectors $\omega$, and let each give one feature. They are positive, as they must be. The
# library also makes the $\omega$ orthogonal in groups of $d$, which lowers the error.

# %%
from zoo_lessons.layers import RandomFeatures


def random_features(x, omega):
    """x: (tokens, d), omega: (m, d) -> (tokens, m)."""
    x = x / x.shape[1] ** 0.25  # so that a product of two is divided by √d
    exponent = x @ omega.T - x.square().sum(dim=1, keepdim=True) / 2
    return exponent.exp() / len(omega) ** 0.5  # so that a product of two is a mean over omega


some_q, some_k = 0.5 * torch.randn(2, 200, 16, generator=generator)
phi = RandomFeatures(16, 64, generator=generator)
assert torch.allclose(phi(some_q), random_features(some_q, phi.directions), atol=1e-6)
print("the library's features, from its own ω:", tuple(phi(some_q).shape), "(tokens, m)")

# %% [markdown]
# How good is the imitation? For independent $\omega$, theory gives the square of the relative error,
# averaged over all draws: $(e^{|q + k|^2} - 1) / m$ (lemma 2; $q$ and $k$ are divided by $d^{1/4}$, as
# in the code). So four times the features halve the error, and long queries and keys need many more of
# them. But that is an average. Ten draws show how far single ones lie from it:

# %%
exact = (some_q @ some_k.T / 4).exp()  # (200, 200)
squares = (some_q[:, None] + some_k).square().sum(dim=-1) / 4  # |q + k|², (200, 200)
counts, errors = [16, 64, 256, 1024], []  # errors: a row for each draw
theory = [((squares.exp() - 1).mean() / m).sqrt().item() for m in counts]
for _ in range(10):
    errors.append([])
    for m in counts:
        omega = torch.randn(m, 16, generator=generator)
        found = random_features(some_q, omega) @ random_features(some_k, omega).T  # (200, 200)
        errors[-1].append((found / exact - 1).square().mean().sqrt().item())
fewest, most = [row[0] for row in errors], [row[-1] for row in errors]
assert max(most) < min(fewest)
print("each draw of 1,024 features is better than each of 16:", True)

# %% tags=["nbval-ignore-output"]
fig = lab.lines(
    {"ten draws": errors, "theory": theory},
    counts,
    title="Random features against the exponential",
    x_axis="features m",
    y_axis="relative error (root mean square)",
    log="xy",
)
marks = [0.1, 0.2, 0.4, 0.8]
fig.axes[0].set_yticks(marks, [str(mark) for mark in marks])
lab.show_figure(
    fig,
    "Theory halves the error with four times the features. Draws of few features scatter widely.",
    "Line chart with logarithmic axes, relative error against 16 to 1,024 features: theory is a "
    "falling straight line, the mean of ten draws lies close to it, and their range narrows.",
)

# %% [markdown]
# ## 7 · With causality, it is a recurrent network
#
# With a causal mask, the sums run over the tokens so far: $j \le t$. So keep them, and add one token
# at a time (Katharopoulos et al. 2020, section 3.4):
#
# $$ S_t = S_{t-1} + \phi(k_t) \, v_t^\top \qquad z_t = z_{t-1} + \phi(k_t) \qquad o_t = \frac{\phi(q_t)^\top S_t}{\phi(q_t)^\top z_t} $$
#
# $S$ and $z$ are a **state**, as in an LSTM. Its size does not depend on how much was read.

# %%
from zoo_lessons.layers import causal_linear_attention, causal_mask

kv, k_sum, outputs = torch.zeros(d, d).double(), torch.zeros(d).double(), []
for t in range(n):
    kv = kv + torch.outer(phi_k[t], v[t])  # S, (features, d)
    k_sum = k_sum + phi_k[t]  # z, (features)
    outputs.append(phi_q[t] @ kv / (phi_q[t] @ k_sum))
by_steps = torch.stack(outputs)  # (tokens, d)

by_matrix, _ = feature_attention(phi_q, phi_k, v, causal_mask(n))
assert torch.allclose(by_steps, by_matrix)
print("the recurrence gives what the causal matrix gives:", True)

# %% [markdown]
# For writing texts this is attractive. Lesson 06 kept a key and a value of each token. Here the state
# replaces them:

# %%
head_dim = 64
for tokens in (64, 1024, 16_384):
    cache, state = 2 * tokens * head_dim, head_dim * head_dim + head_dim
    print(f"{tokens:6,} tokens: cache {cache:9,} numbers per head, state {state:,}")


# %% [markdown]
# ### Exercise 6 · One step of the recurrence (★☆☆, 5 min)

# %% tags=["exercise"]
def linear_step(q, k, v, kv, k_sum):
    """Read one token. q, k: features φ of this token, (features). v: (d_v).
    kv (features, d_v) and k_sum (features): the state before it, which must not change.

    Returns the output (d_v), the new kv and the new k_sum.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("15.linear_step", linear_step)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A causal query sees its own token. What comes first, the state or the output?
#
# </details>
#
# For *training*, steps are slow: $n$ small operations, each of which waits for the one before (lesson
# 16 times such a loop). The remedy is the middle way, **chunks**. Inside a chunk of, say, 64 tokens,
# make the small matrix with its causal mask. What came before the chunk enters as one state.
#
# ### Exercise 7 · Find the bug: chunks that read ahead (★★☆, 10 min)
#
# The function below should give what the recurrence gives. It does not. In training its loss would be
# suspiciously good.

# %%
def causal_chunks(q, k, v, chunk):
    """Causal linear attention. q, k: features (tokens, features). v: (tokens, d_v)."""
    kv, k_sum = k.new_zeros(k.shape[1], v.shape[1]), k.new_zeros(k.shape[1])
    outputs = []
    for start in range(0, len(q), chunk):
        q_c, k_c, v_c = (x[start : start + chunk] for x in (q, k, v))
        kv, k_sum = kv + k_c.T @ v_c, k_sum + k_c.sum(dim=0)
        outputs.append(q_c @ kv / (q_c @ k_sum)[:, None])
    return torch.cat(outputs)


# %%
other_v = v.clone()
other_v[-1] += 1  # change the last token only
with_bug = (causal_chunks(phi_q, phi_k, v, 64) - causal_chunks(phi_q, phi_k, other_v, 64)).abs()
correct = causal_linear_attention(phi_q, phi_k, v)[0]
correct = (correct - causal_linear_attention(phi_q, phi_k, other_v)[0]).abs()
print("outputs before the last that change:", (with_bug[:-1].amax(dim=1) > 1e-9).sum().item())
print("with the library's version:", (correct[:-1].amax(dim=1) > 1e-9).sum().item())

# %% tags=["check"]
lab.check("15.causal_chunks", causal_chunks)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# 300 tokens are four chunks of 64 and one of 44. How many outputs changed, and which ones must they
# be?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The output of a chunk has two parts: the earlier chunks, through the state, and the chunk itself,
# through a small matrix with `tril()`. Both parts also belong into the sum below the fraction bar.
#
# </details>

# %% [markdown]
# ## 8 · Which tasks pay for the savings?
#
# The look-up task of section 5, with seven kinds of attention: three seeds, the same number of steps,
# and for each kind the better of two learning rates, chosen on validation texts. Recorded by `make
# record`; near means up to 4 tokens, far means 17 and more.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.records import load_claim, load_record

record = load_record("look_up_range")
figures = record["figures"]
print(f"{record['machine']['device']}, {record['date']}; guessing gives {figures['guessing']:.1%}")
print(f"{'':26}{'pairs':>6}{'near':>7}{'far':>6}  95 % interval of far")
for kind, result in figures["kinds"].items():
    share = figures["computed_pairs"][kind]
    pairs = "none" if share is None else f"{share:.0%}"
    mean, low, high = result["far"]
    interval = f"{max(low, 0):.0%} to {min(high, 1):.0%}"
    print(f"{kind:26}{pairs:>6}{result['near'][0]:>7.0%}{mean:>6.0%}  {interval}")

# %% tags=["nbval-ignore-output"]
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 2, figsize=(9, 4.2), sharey=True, width_ratios=(1, 1))
fields = {
    "bands": ("Distance of the answer", "tokens back"),
    "crowds": ("Number of entries in the text", "entries"),
}
for ax, (field, (title, x_axis)) in zip(axes, fields.items(), strict=True):
    series = {
        kind: [run[field] for run in result["runs"]] for kind, result in figures["kinds"].items()
    }
    lab.lines(series, title=title, x_axis=x_axis, y_axis="accuracy", ax=ax)
    labels = figures[field] if field == "crowds" else [f"{a}-{b}" for a, b in figures["bands"]]
    ax.set_xticks(range(len(labels)), labels)
    ax.axhline(figures["guessing"], color="grey", linestyle=":")
    ax.get_legend().remove()
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
axes[1].set_ylabel("")
lab.show_figure(
    fig,
    "Accuracy by distance (left), and with fewer entries in the text (right), mean and range of three "
    "seeds. The dotted line is guessing.",
    "Two line charts of accuracy for seven kinds of attention. Left, against the distance: full and "
    "hierarchical stay at 1, the two linear kinds are level a little below, window and window with "
    "global tokens fall to the dotted line after the first band, with random blocks a little above "
    "it. Right, from 2 to 30 entries: full and hierarchical stay at 1, the linear kinds fall "
    "slightly, the windows to between a half and two thirds.",
)

# %% [markdown]
# Read the left chart line by line.
#
# - **Full** and **hierarchical** attention answer near and far questions alike. One layer that sees
#   all was enough, and the window below it did no harm.
# - The **window** answers what lies within *one* layer's reach, and guesses beyond. Two layers reach
#   twice as far, yet from 5 to 8 tokens it guesses, too. To pass an entry on, the tokens between would
#   have to carry it before anybody knows that it will be asked for.
# - With **global tokens**, two layers connect any two tokens. It does not help: four blanks would have
#   to carry 30 entries. A connection is not a capacity. (Longformer's global tokens are meant for
#   something else: to gather from a long text what *one* question asks.)
# - **Random blocks** answer some far questions, probably those whose entry lies in a block that was
#   drawn.
# - To **linear attention**, far is as easy as near: its lines are level. They are a little lower than
#   full attention's, and the right chart says why. All entries share one state; among few of them the
#   same weights are nearly always right, and the more there are, the more often they are mixed up.
#   Random features, which can focus better and whose state is larger, lose less. (On the right,
#   windows fall too, but for the old reason: more entries make longer texts.)
#
# Both linear kinds learned much more with the larger of the two learning rates, and a larger one was
# not tried: their accuracies may not be the last word.
#
# So ask not only *how far* the answer lies, but also from *how many* things it must be told. Windows
# fail at the first question. Linear attention weakens at the second.

# %% [markdown]
# ## 9 · Longformer
#
# **Longformer** (Beltagy et al. 2020) is a BERT-like encoder with windows of 512 tokens (256 to each
# side) and global tokens. One thing is new: global attention has projections of its own. The rows of
# the global tokens use another $W^Q$, $W^K$ and $W^V$, copied from the first at the start of training.
#
# We give the model of `transformers` random weights, load them into ours, and compare.

# %%
import transformers

from zoo_lessons.weights import from_transformers

config = transformers.LongformerConfig(
    vocab_size=200,
    hidden_size=48,
    num_hidden_layers=3,
    num_attention_heads=4,
    intermediate_size=96,
    attention_window=[8, 16, 8],
    max_position_embeddings=130,
    pad_token_id=1,
)
theirs = transformers.LongformerModel(config).eval()
with torch.no_grad():
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)  # at their start, all outputs are nearly alike
ours = from_transformers(theirs)

# %%
ids = torch.randint(2, 200, (2, 96))
attention_mask = torch.ones_like(ids)
attention_mask[1, 70:] = 0  # padding
is_global = torch.zeros_like(ids)
is_global[:, 0] = is_global[0, 40] = 1
batch = {"input_ids": ids, "attention_mask": attention_mask, "global_attention_mask": is_global}
with torch.no_grad():
    a, b = (model(**batch).last_hidden_state for model in (ours, theirs))
    without = ours(ids, attention_mask).last_hidden_state
real = attention_mask.bool()
difference = (a - b)[real].abs().max() / b[real].abs().max()
print("largest difference below 0.00001:", difference.item() < 1e-5)
print("without global tokens, the output is another:", not torch.allclose(a, without, atol=0.1))

# %% [markdown]
# | | paper | this course | `transformers` |
# |---|---|---|---|
# | window of $w$ | $w / 2$ to each side | the same | the same |
# | dilated windows | in some layers, for generation | none | none |
# | full attention in some layers | none | window `None` | none |
# | padding to whole windows | not spelled out | inside each layer | of the ids, in the model |
# | softmax | float32, within mixed precision | the model's own | float32 |
# | output at padding | not given | means nothing | zeros out of attention |
#
# The row of the recorded table of models: how far the outputs are apart (relative to the largest), how
# much code, how large, how fast. (The float32 softmax of `transformers` is the difference in the column
# of float64.)

# %% tags=["nbval-ignore-output"]
lab.model_table(load_record("efficiency_model_table"), ["Longformer"])

# %% [markdown]
# ### Read the real thing
#
# Global tokens, in the library: the banded part sees them as keys that all queries share, and their
# own rows are a few rows of full attention.

# %%
lab.show_source(sparse_attention, without_docstring=True)

# %%
lab.show_source(causal_linear_attention, without_docstring=True)

# %% [markdown]
# ## 10 · What it costs
#
# FLOPs of one head of width $d$ over $n$ tokens, a multiplication and an addition counted as two:
#
# | | FLOPs | largest tensor |
# |---|---|---|
# | full | $4 n^2 d$ | $n^2$ if written out, $n d$ if fused |
# | window of radius $r$ | $4 n (2r + 1) d$ | about $3 n d$, the copied keys |
# | and $g$ global tokens | $8 n g d$ more | $n g d / b$ more, in blocks of $b$ |
# | linear, $f$ features | $4 n f d + 3 n f$ | $n \max(f, d)$ |

# %%
d, r, g = 64, 64, 64
for n in (256, 1024, 4096, 16_384):
    flops = {
        "full": 4 * n * n * d,
        "window": 4 * n * (2 * r + 1) * d,
        "with global": 4 * n * (2 * r + 1) * d + 8 * n * g * d,
        "linear": 4 * n * d * d + 3 * n * d,
    }
    counted = ", ".join(f"{name} {count / 1e6:,.0f}" for name, count in flops.items())
    print(f"{n:6,} tokens, million FLOPs: {counted}")

# %% [markdown]
# FLOPs are not time. A kernel that moves less memory may win with more FLOPs, and starting many small
# operations costs time of its own. So we measure.
#
# ### Time and memory against length
#
# One head of width 64, from 256 to 16,384 tokens. Full attention appears twice: written out as in
# lesson 01, with its matrix, and as PyTorch's fused kernel. The window has 64 tokens to each side; the
# union adds 64 global tokens and 2 random blocks.

# %% tags=["nbval-ignore-output"]
record, claim = load_record("c09_length"), load_claim("C09")
figures = record["figures"]
print(f"{record['machine']['device']}, {record['machine']['threads']} threads, {record['date']}")
fig, axes = plt.subplots(1, 2, figsize=(9, 4.6))
panels = {
    "Time": ("milliseconds", figures["seconds"], 1e3),
    "Peak memory": ("MB", figures["peak_bytes"], 1e-6),
}
for ax, (title, (unit, costs, factor)) in zip(axes, panels.items(), strict=True):
    series = {name: [factor * cost for cost in values] for name, values in costs.items()}
    lab.lines(
        series, figures["lengths"], title=title, x_axis="tokens", y_axis=unit, log="xy", ax=ax
    )
    ax.tick_params(axis="x", rotation=45)
    ax.get_legend().remove()
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9)
lab.show_figure(
    fig,
    "Both axes are logarithmic, so a power of n is a straight line, and its slope is the exponent. "
    "Full attention is the steep pair on the left; on the right only its written-out form is steep.",
    "Two line charts with logarithmic axes against 256 to 16,384 tokens. Time: the two forms of full "
    "attention rise twice as steeply as window, union and both linear forms. Memory: only the "
    "written-out form rises steeply, to about 2,000 MB; the fused one ends lowest.",
)

# %% tags=["nbval-ignore-output"]
print(f"exponents p of n^p from {figures['from']:,} tokens on, with 95 % intervals (all lengths)")
for name in figures["seconds"]:
    row = f"{name:24}"
    for what in ("time", "memory"):
        fit_all, fit_long = (figures[f"exponent_of_{what}"][name][key] for key in ("all", "long"))
        low, high = fit_long["interval"]
        row += f" {what} {fit_long['value']:.2f} [{low:.2f}, {high:.2f}] ({fit_all['value']:.2f})"
    print(row)
for name, length in figures["faster_than_fused_from"].items():
    where = f"from {length:,} tokens on" if length else "at no length"
    print(f"{name}: faster than fused full attention {where}")
print(f"share of the processor's time that is the system's, at {figures['lengths'][-1]:,} tokens:")
print("  " + ", ".join(f"{name} {share:.0%}" for name, share in figures["system_share"].items()))
lab.show_claim(claim)

# %% [markdown]
# Three things to take away:
#
# - **Time.** Counting promises an exponent of 2 for full attention and of 1 for the others; the fits
#   come close. What counting misses is the memory: the written-out way needs a matrix of a gigabyte for
#   the longest text, the system has to hand it out page by page, and where that takes long, time grows
#   faster than $n^2$. And a straight line may lie high: at short lengths, the overhead of many small
#   operations eats what sparsity saves. Measure at *your* length.
# - **Memory** needs an asterisk. The fused kernel computes the whole matrix in tiles and forgets each
#   of them (lesson 20 builds it). For the longest texts it allocates least of all. Our window copies
#   each key three times and allocates more than the fused kernel does; a kernel written for windows
#   would not.
# - **Both linear forms** allocate a few tensors with a row for each token: the features of queries and
#   keys, the outputs. The state itself has a fixed size.
#
# ### Hierarchical attention: what it saves
#
# Encoders of four layers: full attention in all, windows in the lower three, and windows in all. A
# layer has more parts than attention, and these cost the same everywhere. So how much of the time is
# saved?

# %% tags=["nbval-ignore-output"]
record, claim = load_record("c06_hierarchical"), load_claim("C06")
figures = record["figures"]
print(f"{record['machine']['device']}, {record['date']}")
for i, n in enumerate(figures["lengths"]):
    row = f"{n:5,} tokens:"
    for name, ratios in figures["ratio"].items():
        low, high = figures["intervals"][name][i]
        pairs = figures["computed_pairs"][name][i]
        row += f" {name} {pairs:.0%} of the pairs, {ratios[i]:.2f} [{low:.2f}, {high:.2f}] of the time;"
    print(row.rstrip(";"))
lab.show_claim(claim)

# %% [markdown]
# The hierarchy divides the cost by a number that depends on how many layers stay full. It does not
# change the exponent: the full layers still grow as $n^2$. And in short texts windows need not save any
# time: their blocks are many small operations.
#
# ## Quiz

# %%
lab.quiz("15")

# %% [markdown]
# ## Summary
#
# - A window costs $n (2r + 1)$ scores, but only if the matrix is never made. $L$ layers see $L \cdot r$
#   tokens far.
# - Global tokens connect all in two layers, random blocks in a few. That news *can* pass does not mean
#   that it does.
# - Windows below and full attention above keep what is far within reach, at a fraction of the cost.
# - Linear attention replaces $e^{q \cdot k}$ by $\phi(q) \cdot \phi(k)$: one state of fixed size, a
#   recurrence if causal, and less focus.
# - **Next:** [16 State-space models](16_state_space_models.ipynb) choose what such a state keeps.
#   **Read:** Beltagy et al. 2020, [Longformer](https://arxiv.org/abs/2004.05150), section 3; Zaheer et
#   al. 2020, [Big Bird](https://arxiv.org/abs/2007.14062), section 2; Katharopoulos et al. 2020,
#   [Transformers are RNNs](https://arxiv.org/abs/2006.16236), section 3; Choromanski et al. 2021,
#   [Rethinking Attention with Performers](https://arxiv.org/abs/2009.14794), section 2.
