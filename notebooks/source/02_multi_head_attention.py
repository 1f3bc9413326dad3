# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 02 · Multi-head attention
#
# *What do several heads see that one head cannot?*
#
# After this lesson you can
#
# - build multi-head attention from a loop over heads to one batched product
# - explain what the projections and the output matrix change
# - find heads in a real model that follow a pattern, such as looking one word back
# - test by ablation and control sentences whether a head does what its picture suggests
#
# **Time:** 55 minutes · **You need first:** [01 Attention](01_attention.ipynb)
#
# **On the zoo map:** part I, Foundations · **New parts:** Multi-head attention · **Models:** MiniLM
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/02_multi_head_attention.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F02_multi_head_attention.ipynb) · [Solutions](solutions/02_multi_head_attention.ipynb)

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

lab.begin("02")

# %% [markdown]
# ## The question
#
# In *The cat sat on the mat*, the word *sat* needs two things: who sat (*cat*), and where (*mat*).
# One attention gives it one set of weights, so it gets one weighted mean. Suppose that it shares its
# weight evenly between the two.

# %%
import torch

from zoo_lessons.layers import scaled_dot_product_attention

meaning = {"cat": torch.tensor([1.0, 0.0]), "mat": torch.tensor([0.0, 1.0])}
cat_on_mat = 0.5 * meaning["cat"] + 0.5 * meaning["mat"]
mat_on_cat = 0.5 * meaning["mat"] + 0.5 * meaning["cat"]
print("The cat sat on the mat: sat receives", cat_on_mat.tolist())
print("The mat sat on the cat: sat receives", mat_on_cat.tolist())

# %% [markdown]
# The mean no longer says who sat on whom. Two attentions could: one fetches the sitter, the other
# the place, and the two results are kept apart. Such attentions, working side by side, are called
# **heads**. **What do several heads see that one head cannot?**
#
# ## 1 · A loop over heads
#
# Overview articles often explain heads like this. Take vectors of width $d_\text{model}$ and cut
# each into $h$ slices of width $d_k = d_\text{model} / h$. Attend within each slice alone, then put
# the results side by side (**Concat**):
#
# $$ \text{head}_i = \mathrm{Attention}(x_i, x_i, x_i) \qquad
# y = \mathrm{Concat}(\text{head}_1, \dots, \text{head}_h) $$
#
# Here $x_i$ is slice $i$ of the vectors, used as query, key and value at once. Attention is the
# formula of lesson 01.

# %%
batch, length, d_model, num_heads = 2, 6, 12, 3
d_k = d_model // num_heads
x = torch.randn(batch, length, d_model)


def slices_loop(x):
    """The loop over heads: (batch, length, d_model) -> the same shape."""
    heads = []
    for i in range(num_heads):
        piece = x[:, :, i * d_k : (i + 1) * d_k]  # (batch, length, d_k)
        output, _ = scaled_dot_product_attention(piece, piece, piece)
        heads.append(output)
    return torch.cat(heads, dim=-1)


print(tuple(x.shape), "->", tuple(slices_loop(x).shape))

# %% [markdown]
# The shapes are right, and there are three sets of weights instead of one. But look at who can talk
# to whom.
#
# **Predict.** We change the first feature of every token. Which of the 12 output features change?

# %%
changed = x.clone()
changed[:, :, 0] += 1.0
moved = (slices_loop(changed) - slices_loop(x)).abs().amax(dim=(0, 1))  # (d_model,)
print("output features that moved:", (moved > 0).nonzero().flatten().tolist())

# %% [markdown]
# Only those of slice 0. There are walls between the slices: what stands in one slice can never
# reach another, and no head can compare a feature of its own slice with one of another slice. The
# paper that introduced heads has no such walls.
#
# ## 2 · Projections choose what a head reads
#
# In [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.2.2, each head first makes
# its own query, key and value from the **whole** vector, by three matrices. A fourth matrix mixes
# what the heads found:
#
# $$ \text{head}_i = \mathrm{Attention}(x W_i^Q,\; x W_i^K,\; x W_i^V) \qquad
# y = \mathrm{Concat}(\text{head}_1, \dots, \text{head}_h)\, W^O $$
#
# $W_i^Q$, $W_i^K$ and $W_i^V$ have the shape $d_\text{model} \times d_k$; they are the head's
# **projections**. $W^O$ has the shape $d_\text{model} \times d_\text{model}$.

# %%
draw = torch.Generator().manual_seed(2)
w_q, w_k, w_v = torch.randn(3, num_heads, d_model, d_k, generator=draw) / d_model**0.5
w_o = torch.randn(d_model, d_model, generator=draw) / d_model**0.5


def projected_loop(x, output_matrix=True):
    """The paper's formula, one head at a time: (batch, length, d_model) -> the same shape."""
    heads = []
    for i in range(num_heads):
        output, _ = scaled_dot_product_attention(x @ w_q[i], x @ w_k[i], x @ w_v[i])
        heads.append(output)  # (batch, length, d_k)
    joined = torch.cat(heads, dim=-1)
    return joined @ w_o if output_matrix else joined


print(tuple(projected_loop(x).shape))


# %% [markdown]
# Repeat the test for every input feature: which outputs does it move?

# %%
def influence(layer):
    """1 where an input feature (row) moves an output feature (column), else 0."""
    rows = []
    for feature in range(d_model):
        changed = x.clone()
        changed[:, :, feature] += 1.0
        rows.append((layer(changed) - layer(x)).abs().amax(dim=(0, 1)) > 0)
    return torch.stack(rows)


panels = {"slices alone": slices_loop, "with projections and W^O": projected_loop}
fig = lab.heatmaps(
    {name: influence(layer) for name, layer in panels.items()},
    row_axis="input feature",
    column_axis="output feature",
    value="moved (1) or not (0)",
)
lab.show_figure(
    fig,
    "Left: three blocks, one per head. A feature never leaves its slice. Right: with projections and "
    "W^O every input feature reaches every output feature.",
    "Two square maps of 12 input by 12 output features. Left: three filled blocks of 4 by 4 on the "
    "diagonal, the rest empty. Right: completely filled.",
)

# %% [markdown]
# ### A projection by hand
#
# Reaching everything is no aim in itself. The point is choice. Here are three shapes. Each knows its
# own name and colour, and asks for the colour of another shape. Its vector has three slices of three
# features: name, the name it asks for, colour.

# %%
shapes = ["circle", "square", "star"]
asks_for = ["star", "circle", "square"]
colours = ["red", "green", "blue"]


def one_hot(words, choices):
    return torch.eye(len(choices))[[choices.index(word) for word in words]]


table = torch.cat(
    [one_hot(shapes, shapes), one_hot(asks_for, shapes), torch.eye(3)], dim=-1
)  # (shapes, 9): name | asks for | colour
print(table.int())

# %% [markdown]
# The circle (first row) asks for the star. To answer, a head must compare the *asks for* slice of one
# shape with the *name* slice of another, and hand over the *colour* slice. A head that sees a single
# slice cannot. A head with projections can, and we can write them down: matrices that copy one slice
# and drop the rest. The factor 8 makes the look-up hard.
#
# **Predict.** Which shape does the circle look at, with slice heads, and with the projected one?

# %%
name, asks, colour = torch.eye(9).split(3, dim=-1)  # each (9, 3): copies one slice
output, chosen = scaled_dot_product_attention(8 * table @ asks, table @ name, table @ colour)

maps = {}
for title, copy in {"slice head: name": name, "slice head: asks for": asks}.items():
    piece = table @ copy
    maps[title] = scaled_dot_product_attention(8 * piece, piece, piece)[1]
maps["projected head"] = chosen
for shape, wanted, row in zip(shapes, asks_for, output, strict=True):
    print(f"{shape:6} asks for {wanted:6} and receives {colours[row.argmax()]}")

# %%
fig = lab.heatmaps(
    maps, shapes, shapes, row_axis="query", column_axis="key", value="weight", limits=(0, 1)
)
lab.show_figure(
    fig,
    "A slice compared with itself always finds itself. The projected head follows the question: "
    "circle looks at star, square at circle, star at square.",
    "Three maps of three shapes by three shapes. The two slice heads have their weight on the "
    "diagonal. The projected head has it on circle-star, square-circle and star-square.",
)

# %% [markdown]
# That is what the projections change:
#
# - $W^Q$ and $W^K$ choose **what is compared with what**. They may differ, so *A looks at B* does not
#   mean *B looks at A*. Without them the scores are symmetric: $x_i \cdot x_j = x_j \cdot x_i$, and a
#   token tends to find itself.
# - $W^V$ chooses **what is handed over**.
# - $W^O$ chooses **where it goes**. Heads may also add to the same feature: Concat followed by $W^O$
#   is a sum over heads, $\sum_i \text{head}_i\, W_i^O$, where $W_i^O$ are the rows of $W^O$ that
#   belong to head $i$.

# %%
heads = [
    scaled_dot_product_attention(x @ w_q[i], x @ w_k[i], x @ w_v[i])[0] for i in range(num_heads)
]
summed = sum(head @ rows for head, rows in zip(heads, w_o.split(d_k), strict=True))
assert torch.allclose(summed, projected_loop(x), atol=1e-6)
print("Concat then W^O equals a sum over heads: True")

# %% [markdown]
# ### Claim C36, measured
#
# By hand is not proof that training finds such matrices, or that it needs all of them. So the shapes
# task was given to five layers with four heads each: every shape asks for the colour of one shape and
# the size of another, and the answer is read from the last slice of the output. All were trained in
# the same way, with five seeds. `make record` did this and stored the figures, which the next cell
# reads; the code is in
# [`experiments/c36_projections.py`](../experiments/c36_projections.py).
#
# **Predict.** Which layers solve it: slices alone, slices with $W^O$, slices behind a shared linear
# layer, projections without $W^O$, or projections with $W^O$?

# %%
import matplotlib.pyplot as plt

from zoo_lessons.records import load_claim, load_record

record = load_record("c36_projections")
accuracy = record["figures"]["accuracy"]
means = {name: sum(values) / len(values) for name, values in accuracy.items()}
for name, values in accuracy.items():
    print(f"{name:20} {means[name]:6.1%}   seeds {min(values):.1%} to {max(values):.1%}")
print("recorded", record["date"], "on", record["machine"]["device"])

# %%
fig, ax = plt.subplots(figsize=(8, 3.2))
ax.barh(list(means), list(means.values()), color="#56b4e9")
for row, values in enumerate(accuracy.values()):
    ax.plot(values, [row] * len(values), "o", color="black", markersize=4)
ax.axvline(record["figures"]["chance"], color="grey", linestyle="--", label="guessing")
ax.invert_yaxis()
ax.set(title="Colour and size both right", xlabel="share of shapes (dots: seeds)", xlim=(0, 1.02))
ax.legend(loc="upper right")
lab.show_figure(
    fig,
    "Only the paper's layer solves the task. W^O alone repairs nothing; a shared layer in front, or "
    "projections without W^O, solve part of it.",
    "Horizontal bars of accuracy for five layers: slices and slices with W^O are lowest, little above "
    "the dashed line of guessing; mix and projections lie between; projections with W^O reach 1.",
)

# %%
lab.show_claim(load_claim("C36"))

# %% [markdown]
# Read the bars from top to bottom. *Slices* and *slices + W^O* are equal: mixing afterwards cannot
# recover what no head has fetched. A shared linear layer in front (*mix*) helps a good deal, since it
# can put name and question into the same slice. But the scores stay symmetric: a shape that looks at
# the one it asks for also looks at those that ask for it. *Projections* find the right shapes, but
# only one head can write to the last slice, and it has one set of weights for two questions. So the
# claim's picture of parallel subspaces holds, with the two parts that the loop leaves out.
#
# ## 3 · All heads in one product
#
# A loop over heads is slow: many small products, one after the other. Put the $h$ matrices
# $W_1^Q \dots W_h^Q$ side by side, and one product $x W^Q$ makes the queries of all heads. Then cut
# the last axis into (heads, head_dim) and move the heads in front of the length, so that one batched
# attention serves all heads at once.

# %%
wide_q, wide_k, wide_v = (w.transpose(0, 1).flatten(1) for w in (w_q, w_k, w_v))
print("W^Q of all heads:", tuple(wide_q.shape))


def split(y):
    """(batch, length, d_model) -> (batch, heads, length, head_dim)."""
    return y.unflatten(-1, (num_heads, d_k)).transpose(1, 2)


def batched(x):
    output, weights = scaled_dot_product_attention(
        split(x @ wide_q), split(x @ wide_k), split(x @ wide_v)
    )  # (batch, heads, length, head_dim), (batch, heads, length, length)
    return output.transpose(1, 2).flatten(2) @ w_o


assert torch.allclose(batched(x), projected_loop(x), atol=1e-6)
print("one product equals the loop: True")


# %% [markdown]
# The three matrices can be put side by side too, so that a single product makes queries, keys and
# values. The library does this.
#
# ### Exercise 1 · Split heads (★☆☆, 6 min)
#
# Above, `split` used `unflatten`. Write it for any number of heads, with the tools you like:
# `view`, `reshape`, `chunk`, `transpose`, `permute`. Beware: there is a way to get the right shape
# with the wrong numbers in it.

# %% tags=["exercise"]
def split_heads(x, num_heads):
    """Cut the last axis into heads.

    x: (batch, length, d_model). Returns (batch, num_heads, length, d_model // num_heads).
    Head 0 owns the first features of every token, head 1 the next ones, and so on.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("02.split_heads", split_heads)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Try it on `torch.arange(12).reshape(1, 3, 4)` with 2 heads: three tokens of four features. What must
# head 0 hold?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A reshape never reorders numbers, it only cuts the line of numbers elsewhere. Cut the last axis
# first. Then exchange two axes.
#
# </details>

# %% [markdown]
# ### Exercise 2 · Multi-head attention by hand (★★☆, 10 min)
#
# Now the whole layer, with the matrices given. `scaled_dot_product_attention(q, k, v)` returns output
# and weights; use it or write the formula yourself.

# %% tags=["exercise"]
def multi_head_attention(x, w_q, w_k, w_v, w_o, num_heads):
    """Concat(head_1 ... head_h) W^O.

    x: (batch, length, d_model). w_q, w_k, w_v, w_o: (d_model, d_model); the columns of head 0 come
    first in w_q, w_k and w_v. Returns (batch, length, d_model).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("02.multi_head_attention", multi_head_attention)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Five steps: project, split, attend, merge, mix. Each is one line. Write the shape behind each line.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Merging undoes splitting: exchange the same two axes again, then make the last two axes one
# (`flatten(2)`).
#
# </details>

# %% [markdown]
# ### Exercise 3 · Find the bug (★★☆, 6 min)
#
# A colleague merges heads like this. The shapes fit, training runs, the loss falls a little and then
# stays. Find out what is wrong, and repair it.

# %% tags=["exercise"]
def merge_heads(heads):
    """(batch, num_heads, length, head_dim) -> (batch, length, num_heads * head_dim)."""
    batch, num_heads, length, head_dim = heads.shape
    return heads.reshape(batch, length, num_heads * head_dim)


# %% tags=["check"]
lab.check("02.merge_heads", merge_heads)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Fill each token's heads with the token's number, merge, and print the result: row 0 must hold only
# zeros. `torch.arange(3).reshape(1, 1, 3, 1).expand(1, 2, 3, 2)` has 2 heads and 3 tokens.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The reshape reads the numbers in the order of the axes: all tokens of head 0 come before the first
# token of head 1.
#
# </details>

# %% [markdown]
# ## 4 · Read the real thing
#
# The library's layer does the five steps in its `forward`, with queries, keys and values made by one
# matrix `qkv`. It can also attend to a second sequence (`memory`); lesson 04 needs that. `bias` and
# `rotary` belong to lesson 03, and `cache` to lesson 06.

# %%
from zoo_lessons.layers import MultiHeadAttention

lab.show_source(MultiHeadAttention.forward)

# %%
lab.show_source(MultiHeadAttention._split_heads)

# %% [markdown]
# Does it agree with the loop of section 2? Copy our matrices into it. `nn.Linear` stores the
# transpose, one row per output.

# %%
layer = MultiHeadAttention(d_model, num_heads, bias=False)
with torch.no_grad():
    layer.qkv.weight.copy_(torch.cat([wide_q, wide_k, wide_v], dim=1).T)
    layer.out.weight.copy_(w_o.T)
    assert torch.allclose(layer(x), projected_loop(x), atol=1e-6)
print("library equals the loop: True")

# %% [markdown]
# And with PyTorch's own `nn.MultiheadAttention`? `from_torch` carries its weights over.

# %%
from torch import nn

from zoo_lessons.layers import record_attention
from zoo_lessons.weights import from_torch

theirs = nn.MultiheadAttention(96, 8, batch_first=True).double().eval()
nn.init.normal_(theirs.in_proj_bias)  # zero by default, which would hide a lost bias
nn.init.normal_(theirs.out_proj.bias)
ours = from_torch(MultiHeadAttention(96, 8).double(), theirs)
x_wide = torch.randn(2, 5, 96, dtype=torch.float64)
with torch.no_grad(), record_attention(ours) as maps:
    wanted, weights = theirs(x_wide, x_wide, x_wide, average_attn_weights=False)
    assert torch.allclose(ours(x_wide), wanted, atol=1e-12)
    assert torch.allclose(maps[0].weights, weights, atol=1e-12)
print("same output and same weights as torch.nn.MultiheadAttention: True")

# %% [markdown]
# Where the versions differ:
#
# | | article's loop | paper | this library | `torch.nn` | `transformers` (BERT) |
# |---|---|---|---|---|---|
# | projections | none | one set per head | one matrix `qkv` | one matrix `in_proj` | three matrices |
# | $W^O$ | none | yes | `out` | `out_proj` | `attention.output.dense` |
# | biases | none | none | by default | by default | always |
# | Boolean mask: True means | no mask | not Boolean | may attend | *ignore* | may attend |
# | weights returned | all | not said | `record_attention` | *mean over heads* by default | with `output_attentions`, eager only |
#
# Two traps stand in italics. `nn.MultiheadAttention` reads Boolean masks the other way round, as
# lesson 01 warned, and it averages the weights over the heads unless you say
# `average_attn_weights=False`.
#
# ## 5 · Real heads
#
# MiniLM has 6 layers with 12 heads each. `attend` runs it on a sentence and returns every map.

# %%
from zoo_lessons.weights import load_pretrained, load_tokenizer

model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")


def attend(sentence):
    """Maps (layers, heads, queries, keys) of a sentence, and its tokens."""
    encoded = tokenizer.encode(sentence)
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([encoded.ids]))  # (1, tokens)
    return maps.stack()[:, 0], encoded.tokens


sentence = "The cat sat on the mat"
attention, tokens = attend(sentence)
print(tuple(attention.shape), tokens)

# %% [markdown]
# **Try this.**
#
# 1. Many heads show one bright column at `[CLS]`. That is a place to rest: a head that finds nothing
#    often puts its weight there. Under *Special tokens* choose *hide* to see what is left.
# 2. Find a head in which *sat* looks at *cat*, and one in which *on* looks at *mat*. Write down their
#    layer and number: section 6 puts such heads to the test.
# 3. Type a sentence of your own, and see whether your heads do the same there.

# %%
from zoo_lessons.lab.widgets import AttentionExplorer

AttentionExplorer(attention, tokens, on_text=attend, text=sentence)

# %% [markdown]
# [BertViz](https://github.com/jessevig/bertviz) (Vig, 2019) draws the same numbers as lines. In the
# **head view**, tokens that look stand on the left, tokens that are looked at on the right. Each
# colour is a head; double-click one to see it alone, and choose the layer above. Hover over a token
# to see its lines only.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import head_view, model_view

head_view(attention, tokens, layer=1, heads=[4, 7, 8])

# %% [markdown]
# The **model view** shows every head of every layer as a thumbnail. Click one to enlarge it. Lines
# that run parallel, one step up or down, are heads that look at neighbours. Lines that gather at one
# point are heads at rest.

# %% tags=["nbval-ignore-output"]
model_view(attention, tokens)

# %% [markdown]
# For a sentence of your own: `head_view(*attend("..."))` and `model_view(*attend("..."))`.
#
# ### Exercise 4 · Find the head that looks one word back (★★☆, 8 min)
#
# One head of MiniLM looks at the word before, whatever the words are. Which one? Answer with
# `(layer, head)`, counted from 0 as in the explorer. Find it by eye, or write code that scores all 72
# heads. You may also hand over a function that takes maps `(layers, heads, tokens, tokens)` and
# returns one score per head. The check runs the model on sentences that you have not seen.

# %% tags=["exercise"]
previous_word_head = ...

# %% tags=["check"]
lab.check("02.previous_word_head", previous_word_head)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Row $i$ of a map belongs to the token that looks. Where in the map do you find the weights that go
# from each token to the one before it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# They form the line below the main diagonal: `attention.diagonal(offset=-1, dim1=-2, dim2=-1)`. Take
# the mean of it for each head, on several sentences, and find the largest.
#
# </details>

# %% [markdown]
# ## 6 · Relation, neighbour, or neither?
#
# Articles show pictures of heads and say: this head links *cat* and *sat*, that one *on* and *mat*.
# Here are the heads of MiniLM that give such a link a weight of at least 0.3.

# %%
def weight(sentence, query, key):
    """The weight of one word on another in every head: (layers, heads)."""
    attention, tokens = attend(sentence)
    return attention[:, :, tokens.index(query), tokens.index(key)]


for query, key in [("sat", "cat"), ("on", "mat")]:
    found = weight(sentence, query, key)
    heads = sorted((found >= 0.3).nonzero().tolist(), key=lambda place: -found[tuple(place)])
    print(query, "->", key)
    for layer_index, head in heads:
        print(f"   layer {layer_index}, head {head:2}: {found[layer_index, head]:.2f}")

# %% [markdown]
# Is (0, 2) a head for subjects of verbs? There is another explanation. *cat* is the word **before**
# *sat*. Move the two apart, and the explanations differ: a head that reads the relation follows the
# word; a head that reads positions stays with the neighbour.
#
# **Predict.** In *The cat often sat on the mat*, what does *sat* look at in head (0, 2)? And does
# the other strong head, (5, 11), stay with *cat*?

# %%
control = "The cat often sat on the mat"
for head in [(0, 2), (5, 11)]:
    before = weight(sentence, "sat", "cat")[head]
    after = weight(control, "sat", "cat")[head]
    neighbour = weight(control, "sat", "often")[head]
    print(f"{head}: sat -> cat {before:.2f}, then {after:.2f}; sat -> often {neighbour:.2f}")

# %% [markdown]
# (0, 2) is a mere neighbour head: it looks one word back, and *often* now stands there. (5, 11)
# passes this test. Is it the relation, then? One more question: do only verbs look at *cat*?

# %%
attention, tokens = attend(sentence)
at_cat = attention[5, 11, :, tokens.index("cat")]
for token, share in zip(tokens, at_cat.tolist(), strict=True):
    print(f"{token:6} -> cat {share:.2f}")

# %% [markdown]
# Everyone looks at *cat*, even *the* and `[CLS]`. So the head says that *cat* is an important word
# of this sentence. It says nothing about *sat*.
#
# For *on* and *mat* the distance is two, because of *the*. Put more words between.

# %%
control = "The cat sat on the old red mat"
for head in [(1, 4), (1, 7), (5, 3), (3, 1)]:
    before, after = (weight(text, "on", "mat")[head] for text in (sentence, control))
    at_sat = weight(sentence, "sat", "mat")[head]
    print(f"{head}: on -> mat {before:.2f}, then {after:.2f}; sat -> mat {at_sat:.2f}")

# %% [markdown]
# Now the picture is richer. (1, 4) lets go when *mat* moves away. (5, 3) holds on, but *sat* looks at
# *mat* as well. (3, 1) holds on, and *sat* does not look there. It behaves like a head that links a
# preposition to its noun. (Its row for the first *the* shows that it also leads from an article to its
# noun.)
#
# ### Does it matter? Silence the head
#
# A map shows where a head looks, not whether the model uses what it finds. So we test. Exchange *cat*
# for *dog*: the final vector of *sat* moves, because news of the change has reached it. Then silence
# one head with `ablate_heads` and see how much of the movement disappears. A head that carries the
# subject to the verb must make a large difference.

# %%
from zoo_lessons.layers import ablate_heads


def final_vector(sentence, word):
    """The model's last vector of a word: (384,)."""
    encoded = tokenizer.encode(sentence)
    with torch.no_grad():
        output = model(torch.tensor([encoded.ids]))
    return output.last_hidden_state[0, encoded.tokens.index(word)]


def movement():
    one, other = (final_vector(f"The {word} sat on the mat", "sat") for word in ("cat", "dog"))
    return (one - other).norm()


intact = movement()
for layer_index, head in [(0, 2), (5, 11), (3, 1)]:
    with ablate_heads(model, {f"layers.{layer_index}.attention": [head]}):
        print(
            f"without {(layer_index, head)}: {1 - movement() / intact:.0%} of the movement is gone"
        )

# %% [markdown]
# **Surprise.** The head whose picture says *sat -> cat* most clearly, (0, 2), carries almost nothing
# of it to the end. The head in which everyone stares at *cat*, (5, 11), carries much. Head (3, 1) of
# *on* and *mat* is there for comparison: a figure near 0, even a negative one, says that *sat* moves
# as much as with all heads.
#
# ### Claim C03, measured
#
# One sentence proves little. The record holds the same measurements for 120 sentences made from word
# lists ("The teacher waited on the bench"), three ways of putting words between, all 72 heads, and
# random heads for comparison; see [`experiments/c03_heads.py`](../experiments/c03_heads.py). The table
# lists the heads that give the link a mean weight of at least 0.3, which is the column *base*. With
# words put between, *word moved* is the weight on the word in its new place, and *old place* the
# weight at the old distance. *Others* is what the other words give to the same word, and *effect* is
# the share of the movement that is gone without the head. The first rule that fits names the kind:
#
# - *everyone looks there*: *others* is at least half of *base*;
# - *follows the word*: at least half the weight moves along with the word;
# - *keeps the place*: the weight stays behind, at the old distance.

# %%
record = load_record("c03_heads")
for relation, found in record["figures"]["relations"].items():
    print(f"{relation:19}  base  word moved  old place  others  effect  kind")
    for each in found["heads"]:
        columns = [f"{each[name]:.2f}" for name in ("base", "moved_word", "moved_place", "others")]
        print(
            f"   layer {each['layer']}, head {each['head']:2}  "
            "{}        {}       {}    {}".format(*columns)
            + f"   {each['effect']:5.1%}  {each['kind']}"
        )
print("recorded", record["date"], "on", record["machine"]["device"])

# %%
fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
for ax, (relation, found) in zip(axes, record["figures"]["relations"].items(), strict=True):
    base, effect = (torch.tensor(x) for x in (found["all"]["base"], found["effect"]))
    ax.plot(base.flatten(), 100 * effect.flatten(), "o", color="#56b4e9", label="one head")
    limit = 100 * effect.flatten().quantile(0.95)
    ax.axhline(limit, color="grey", linestyle="--", label="95 % of heads are below")
    strongest = divmod(effect.argmax().item(), effect.shape[1])
    named = {strongest, *((each["layer"], each["head"]) for each in found["heads"])}
    for index, place in enumerate(sorted(named, key=lambda place: base[place].item())):
        where, shift = (base[place], 100 * effect[place]), (0, (6, -16, 18)[index % 3])
        ax.annotate(
            str(place), where, xytext=shift, ha="center", textcoords="offset points", fontsize=9
        )
    ax.set(title=relation, xlabel="weight on the word (the picture)", xlim=(-0.08, 1.1))
axes[0].set_ylabel("movement gone without the head (%)")
axes[0].legend(loc="center right")
lab.show_figure(
    fig,
    "Each dot is a head: right is a bright picture, up is a large effect. A bright picture is no sign "
    "of a large effect.",
    "Two scatter plots of 72 heads, weight on the word against effect of silencing. For cat-sat, head "
    "(0, 2) lies far right and low; (5, 11) has a third of that weight and is highest. For on-mat, "
    "six labelled heads lie right and low, (5, 3) is high, and (4, 10), with no weight, is highest.",
)

# %%
lab.show_claim(load_claim("C03"))

# %%
for relation, found in record["figures"]["relations"].items():
    together, random = found["together"]["shown"], found["together"]["random"]
    print(
        f"{relation}: silencing all that show it removes {together:.0%}; "
        f"random heads of the same layers {min(random):.0%} to {max(random):.0%}"
    )
distance = record["figures"]["distance"]
print(
    f"weight that two heads place differently: {min(distance):.0%} to {max(distance):.0%} by layer"
)

# %% [markdown]
# What to keep:
#
# - Heads do differ. Two heads of the same layer place a large part of their weight on different
#   words, as the last line says.
# - The famous picture *sat -> cat* is here a neighbour head plus a head for important words. Neither
#   is about verbs and subjects.
# - *on -> mat* is better founded. Two heads follow the noun, and other words give it less than half
#   of that weight. Yet silencing one of them hardly keeps the noun from *on*. Silencing all heads
#   that show the link takes away half of its influence, more than any random set does.
# - News takes detours. The head with the largest effect for *on*, (4, 10), does not look at *mat* at
#   all (next cell). It prefers the first word, *the*. If that word has something to tell about *mat*,
#   an earlier layer brought it there. No single map shows such a path.
# - These figures are MiniLM's. [Clark et al., 2019](https://arxiv.org/abs/1906.04341) found heads in
#   BERT-Base that follow some relations closely, and compared each with the best fixed distance: the
#   same control as ours.

# %%
attention, tokens = attend(sentence)
for token, share in zip(tokens, attention[4, 10, tokens.index("on")].tolist(), strict=True):
    print(f"on -> {token:6} {share:.2f}")

# %% [markdown]
# ## 7 · 8, 12 or 16 heads?
#
# Cut the same width into more heads, and what changes? The recorded experiment
# [`experiments/head_counts.py`](../experiments/head_counts.py) counts and times layers of MiniLM's
# width on 128 tokens.
#
# **Predict.** Which of the three columns differ: parameters, operations, bytes of the weights?

# %%
record = load_record("head_counts")
cost = record["figures"]["cost"]
for name, row in cost["counted"].items():
    print(
        f"{name:8}  {row['parameters']:,} parameters  {row['flops']:,} operations  "
        f"{row['weights_bytes']:,} bytes of weights"
    )

# %% [markdown]
# Only the attention weights grow: one map per head. Parameters and matrix products are the same,
# because more heads are narrower heads. More weights take more exponentials, so the time may grow a
# little. Measured side by side:

# %%
from zoo_lessons.bench import Comparison

fig = Comparison.from_dict(cost["times"]).plot()
lab.show_figure(
    fig,
    f"Time of one layer, recorded on {record['date']} by make record. The grey band is what noise "
    "alone does.",
    "Horizontal bars: time of layers with 8, 12 and 16 heads relative to 8 heads, with intervals and "
    "the band of the control.",
)

# %% [markdown]
# And quality? That depends on how many different look-ups a token has to make. In the recorded task
# each token has to name the ten tokens before it, and one layer has to fetch them all.
#
# **Predict.** From which number of heads on does it work?

# %%
accuracy = record["figures"]["accuracy"]
counts = [int(count) for count in accuracy]
runs = torch.tensor([row["accuracy"] for row in accuracy.values()]).T  # (seeds, counts)
fig = lab.lines(
    {"accuracy": runs},
    counts,
    title="Ten look-ups at once, width 48",
    x_axis="number of heads",
    y_axis="share of symbols right",
    log="x",
)
ax = fig.axes[0]
ax.axhline(record["figures"]["chance"], color="grey", linestyle="--")
ax.set_ylim(0, 1.05)
lab.show_figure(
    fig,
    "Few heads cannot look in ten directions at once. With enough heads the curve is flat. The dashed "
    "line is guessing.",
    "Accuracy against the number of heads 1, 2, 4, 8, 12, 16 on a logarithmic axis: it rises from "
    "about 0.2 to near 1 and levels off.",
)
print(
    "mean accuracy:",
    {count: round(float(mean), 3) for count, mean in zip(counts, runs.mean(dim=0), strict=True)},
)

# %% [markdown]
# Eight heads are nearly enough for ten look-ups, since a head can share its weight between two. With
# twelve all ten are found, and sixteen add nothing. There is no magic in 8, 12 or 16: what counts is
# how many look-ups the task needs. Published models mostly fix the *width* of a head (64 in the paper, BERT and GPT-2)
# and take as many as fit: 8 at width 512, 12 at 768, 16 at 1024. MiniLM's heads are 32 wide. And
# this is a made-up task with one layer. In trained language models many heads can be removed with
# little loss ([Michel et al., 2019](https://arxiv.org/abs/1905.10650)).
#
# ## 8 · What it costs
#
# For one sequence of $n$ tokens at width $d$:
#
# | | formula | depends on the number of heads? |
# |---|---|---|
# | parameters | $4 d^2 + 4 d$ | no |
# | operations of the four projections | $8 n d^2$ | no |
# | operations of scores and means | $4 n^2 d$ | no |
# | attention weights, if kept | $h n^2$ numbers | yes |
#
# A product and a sum count as two operations. PyTorch can count them for us.

# %%
from torch.utils.flop_counter import FlopCounterMode

d, n, h = 384, 128, 12
layer = MultiHeadAttention(d, h)
with torch.no_grad(), record_attention(layer) as maps, FlopCounterMode(display=False) as counter:
    layer(torch.randn(1, n, d))
assert sum(p.numel() for p in layer.parameters()) == 4 * d**2 + 4 * d
assert counter.get_total_flops() == 8 * n * d**2 + 4 * n**2 * d
assert maps[0].weights.numel() == h * n**2
print(f"parameters          {4 * d**2 + 4 * d:,} ({4 * (4 * d**2 + 4 * d) / 1e6:.1f} MB in fp32)")
print(f"projections         {8 * n * d**2:,} operations")
print(f"scores and means    {4 * n**2 * d:,} operations")
print(f"weights, if kept    {4 * h * n**2 / 1e6:.1f} MB in fp32")

# %% [markdown]
# **Predict.** At which length do scores and means cost as much as the projections?

# %%
for n in [128, 384, 768, 4096, 32768]:
    share = 4 * n**2 * d / (8 * n * d**2 + 4 * n**2 * d)
    kept = 4 * h * n**2 / 1e6
    print(f"n {n:6}: {share:4.0%} of the operations are quadratic; weights {kept:10,.1f} MB")


# %% [markdown]
# At $n = 2d$ the two are equal: $8 n d^2 = 4 n^2 d$. For short texts the projections dominate, and
# attention is cheap. For long ones the quadratic part takes over; lesson 15 is about that. The weights
# would need gigabytes, which is why the fused kernel never keeps them, and why `record_attention` is
# for looking, not for training.
#
# ### Exercise 5 · Count the parameters (★☆☆, 4 min)
#
# Write the count for any layer, with and without biases.

# %% tags=["exercise"]
def attention_parameters(d_model, num_heads, bias=True):
    """Number of parameters of MultiHeadAttention(d_model, num_heads, bias=bias)."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("02.count_parameters", attention_parameters)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One head's $W^Q$ has the shape d_model × (d_model / num_heads). How large are all heads' together?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `sum(p.numel() for p in MultiHeadAttention(6, 2).parameters())` tells you whether your formula is
# right for one case.
#
# </details>

# %% [markdown]
# ## Quiz

# %%
lab.quiz("02")

# %% [markdown]
# ## Summary
#
# - A head makes one set of weights per token. Several heads let a token fetch several things at once
#   and keep them apart.
# - $W^Q$ and $W^K$ choose what is compared with what, $W^V$ what is handed over, $W^O$ where it goes.
#   Slices without them cannot see each other.
# - All heads run in one batched product. Their number changes neither parameters nor operations, only
#   the number of maps.
# - A bright picture is a question, not an answer: move the words apart, look who else looks there, and
#   silence the head.
# - In MiniLM, *sat -> cat* is a neighbour head and a head for important words. Heads that link *on* to
#   *mat* exist, but each alone carries little.
#
# **Next:** [03 Positional encodings](03_positional_encodings.ipynb). How does head (0, 2) know which
# word comes before? **Read on:** Vaswani et al. (2017), section 3.2.2; Clark et al., *What Does BERT
# Look At?* (2019), sections 3 and 4; Michel et al., *Are Sixteen Heads Really Better than One?*
# (2019), section 3; Jain and Wallace, *Attention is not Explanation* (2019).
