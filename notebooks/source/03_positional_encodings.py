# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 03 · Positional encodings
#
# *How does attention, which sees a bag of words, learn their order?*
#
# After this lesson you can
#
# - show that attention alone cannot tell one word order from another
# - derive and write sinusoidal, learned, relative and rotary positions
# - train a small model with the course's training loop
# - compare the four on sequences longer than the training set had
#
# **Time:** 55 minutes · **You need first:** [02 Multi-head attention](02_multi_head_attention.ipynb)
#
# **On the zoo map:** part I, Foundations · **New parts:** Sinusoidal positions, Learned positions, Relative position bias, Rotary positions (RoPE)
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/03_positional_encodings.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F03_positional_encodings.ipynb) · [Solutions](solutions/03_positional_encodings.ipynb)

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

# %% [markdown]
# ## The question
#
# *The cat sat on the mat* and *the mat sat on the cat* use the same words. You notice at once that
# they mean different things. Does attention?

# %%
import matplotlib.pyplot as plt
import torch
from torch import nn
from torch.nn import functional as F

from zoo_lessons.layers import EncoderBlock

first = "the cat sat on the mat".split()
second = "the mat sat on the cat".split()
vocabulary = sorted(set(first))

embedding = nn.Embedding(len(vocabulary), 16)  # a random vector for each word
block = EncoderBlock(d_model=16, num_heads=4, d_ff=32).eval()  # attention, then feed-forward


def read(words):
    """Words -> one output vector for each: (words, 16)."""
    ids = torch.tensor([[vocabulary.index(word) for word in words]])  # (batch 1, words)
    return block(embedding(ids))[0].detach()


print("output", tuple(read(first).shape))

# %% [markdown]
# The block is the Transformer's: multi-head attention from lesson 02, then a small network applied
# to each word on its own (lesson 04 takes it apart). Its weights are random.
#
# **Predict.** In the first sentence *cat* is word 1, in the second it is word 5. Do its two output
# vectors differ? What about *sat*?

# %%
one, other = read(first), read(second)
for word in ["cat", "sat", "mat"]:
    same = torch.allclose(one[first.index(word)], other[second.index(word)], atol=1e-6)
    print(f"{word}: same output in both sentences: {same}")
print("mean over the sentence the same:", torch.allclose(one.mean(0), other.mean(0), atol=1e-6))

# %% [markdown]
# Every word's output is the same. A classifier on top of these vectors gets equal inputs, so it
# gives equal answers, however well it is trained. For this block a sentence is a *bag of words*.
# **How does attention, which sees a bag of words, learn their order?** There are four common
# answers. This lesson builds all of them, and then lets them compete.

# %% [markdown]
# ## 1 · Why attention cannot see order
#
# Lesson 01 gave the output of query $i$ as a weighted mean over the keys $j$:
#
# $$ o_i = \sum_j w_{ij} \, v_j \qquad w_{ij} = \frac{e^{q_i \cdot k_j / \sqrt{d_k}}}
# {\sum_{j'} e^{q_i \cdot k_{j'} / \sqrt{d_k}}} $$
#
# Both sums run over all keys, and a sum does not depend on the order of its terms. The place $j$
# appears as a label only: no number in the formula says *where* a key stands. Put the words in
# another order, and the outputs move along with their words, unchanged. One says that attention is
# **permutation equivariant**.

# %%
order = torch.tensor([3, 0, 5, 1, 4, 2])
shuffled = read([first[place] for place in order])
assert torch.allclose(shuffled, one[order], atol=1e-6)
print("shuffled words:", " ".join(first[place] for place in order))
print("the outputs are the old ones in the new order")

# %% [markdown]
# So the **place** of a word, its number counted from 0, must be put in from outside. There are three
# doors.
#
# | door | encoding | used in |
# |---|---|---|
# | add a vector for the place to the word's vector | sinusoidal | the Transformer of 2017 |
# | | learned | BERT, GPT-2, ViT |
# | add a number for the distance to each score | relative | T5, Swin |
# | turn queries and keys before their dot product | rotary (RoPE) | RoFormer, Llama, GPT-J |

# %% [markdown]
# ## 2 · Sinusoidal positions
#
# The plainest idea is to add the number of the place itself: 0, 1, 2, 3 ...
#
# **Predict.** Word vectors have entries of about 1 in size. What does word 300 look like after
# adding 300 to each of its entries?

# %%
cat, mat = embedding.weight[vocabulary.index("cat")], embedding.weight[vocabulary.index("mat")]
for place in [0, 3, 300]:
    similarity = F.cosine_similarity(cat + place, mat + place, dim=0)
    print(f"similarity of 'cat' and 'mat' at place {place:3}: {similarity:.3f}")

# %% [markdown]
# At place 300 the words are gone: every vector points where the number points. Dividing by the
# sentence's length does not help, since the same number would then mean other places in other
# sentences. We want numbers that
#
# - stay small, however long the text is;
# - differ from place to place;
# - make the same *step* look the same everywhere: one place on is one place on.
#
# A clock does all three. Its hands stay on the dial, and the second hand moves by the same angle each
# second. One hand comes round again soon, so a clock has several, each slower than the one before. A
# hand at angle $\alpha$ is a point $(\sin \alpha, \cos \alpha)$: two numbers between −1 and 1.
#
# That is the encoding of [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), section 3.5. Place
# $p$ gets a vector of $d$ numbers, which are $d/2$ hands. Hand number $i$ fills the dimensions $2i$ and
# $2i + 1$:
#
# $$ \mathrm{PE}_{p,\,2i} = \sin(p\,\theta_i) \qquad \mathrm{PE}_{p,\,2i+1} = \cos(p\,\theta_i)
# \qquad \theta_i = \frac{1}{10000^{2i/d}} $$
#
# $\theta_i$ is the **frequency** of hand $i$: the angle, in radians, by which it moves per place. Its
# **wavelength** $2\pi/\theta_i$ is the number of places for a full turn. The number 10000 is called
# the **base**.

# %%
d = 8
for i in range(d // 2):
    theta = 1 / 10000 ** (2 * i / d)
    print(f"hand {i}: {theta:.3f} radians per place, once round in {2 * torch.pi / theta:6.0f}")


# %% [markdown]
# ### Exercise 1 · The sinusoidal table (★★☆, 8 min)
#
# Write the whole table, one row per place, starting with place 0. Sine and cosine of a hand stand
# side by side.

# %% tags=["exercise"]
def my_sinusoids(length, d_model, base=10000.0):
    """Returns the table (length, d_model), float32; d_model is even."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("03.sinusoidal", my_sinusoids)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make the frequencies first: `torch.arange(0, d_model, 2)` holds the numbers $2i$. Then all angles
# at once: a column of places times a row of frequencies.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Begin with `table = torch.zeros(length, d_model)` and fill its even columns, `table[:, 0::2]`, with
# the sines of the angles. `torch.sin` takes radians.
#
# </details>

# %% [markdown]
# The lesson goes on with the library's table. A loop over the formula agrees with it.

# %%
import math

from zoo_lessons.layers import sinusoidal_positions

table = sinusoidal_positions(64, 32)  # (places, d)
for p in range(64):
    for i in range(16):
        angle = p / 10000 ** (2 * i / 32)
        assert math.isclose(table[p, 2 * i], math.sin(angle), abs_tol=1e-5)
        assert math.isclose(table[p, 2 * i + 1], math.cos(angle), abs_tol=1e-5)
print("table", tuple(table.shape), "- the loop agrees")

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
image = left.imshow(table, aspect="auto", interpolation="nearest")
left.set(title="The table", xlabel="dimension", ylabel="place")
left.grid(False)
fig.colorbar(image, ax=left, label="value")
for i, style in zip([0, 3, 6], ["-", "--", "-."], strict=True):
    right.plot(table[:, 2 * i], style, label=f"hand {i}")
right.set(title="The sine of three hands", xlabel="place", ylabel="value")
right.legend(loc="lower left")
lab.show_figure(
    fig,
    "Each row of the table is the vector of one place. The first columns change quickly from row to "
    "row and tell neighbours apart; the last hardly change and tell the beginning from the end.",
    "Left: heat map of 64 places by 32 dimensions, with fast stripes in the left columns that become "
    "slower to the right and constant at the end. Right: sine curves of hands 0, 3 and 6, each "
    "slower than the one before.",
)

# %% [markdown]
# ### What a dot product sees
#
# Attention compares by dot products. Take one hand at two places $m$ and $n$. A sum formula from
# school says
#
# $$ \sin a \, \sin b + \cos a \, \cos b = \cos(a - b) $$
#
# so with all hands together
#
# $$ \mathrm{PE}_m \cdot \mathrm{PE}_n = \sum_i \cos\bigl((m - n)\,\theta_i\bigr) $$
#
# The places themselves are gone. Only the distance $m - n$ is left.
#
# The same geometry says how to *move*. To go $s$ places on, turn each hand by $s\,\theta_i$. That is
# one fixed matrix $R_s$ for all places, so a linear layer can learn "look $s$ places back".

# %%
products = table @ table.T  # (places, places)
for m, n in [(3, 8), (13, 18), (50, 55)]:
    print(f"places {m:2} and {n:2}: {products[m, n]:.4f}")

theta = 1 / 10000 ** (torch.arange(0, 32, 2) / 32)
sin, cos = (5 * theta).sin(), (5 * theta).cos()  # a step of 5 places
moved = torch.stack(
    [table[:, 0::2] * cos + table[:, 1::2] * sin, table[:, 1::2] * cos - table[:, 0::2] * sin], -1
).flatten(1)
assert torch.allclose(moved[:-5], table[5:], atol=1e-5)
print("turning the hands of every place gives the place 5 further on")

# %% [markdown]
# **Try this.** In the picture below:
#
# 1. Select other pairs (hands). Which is the first whose wavelength is longer than the text?
# 2. Change the base to 10. Why do far places now look alike?
# 3. Switch the view to dot products. Is the product the same for a distance of +5 and −5? What
#    does that mean for telling *before* from *after*?

# %%
from zoo_lessons.lab.widgets import PositionExplorer

PositionExplorer(length=64, d_model=64, pair=4, position=20)

# %% [markdown]
# The product is symmetric: $\cos$ forgets the sign. So the bare dot product knows how far, but not in
# which direction. The trained matrices $W^Q$ and $W^K$ mend that: they can turn the hands of the
# query before they are compared with those of the key.
#
# The library's layer adds the table to the word vectors. With it, the two sentences differ.

# %%
from zoo_lessons.layers import SinusoidalPositions

add_positions = SinusoidalPositions(d_model=16)


def read_in_order(words):
    ids = torch.tensor([[vocabulary.index(word) for word in words]])  # (1, words)
    return block(add_positions(embedding(ids)))[0].detach()


one, other = read_in_order(first), read_in_order(second)
gap = (one[first.index("cat")] - other[second.index("cat")]).abs().max()
print(f"'cat' differs between the sentences by more than 0.1: {gap > 0.1}")

# %% [markdown]
# ## 3 · Learned positions
#
# If a linear layer has to make sense of the table anyway, why not learn the table? BERT, GPT-2 and
# ViT do: one trained vector per place, added to the word.
#
# $$ x_p \leftarrow x_p + P_p \qquad P \in \mathbb{R}^{\text{max length} \times d} $$

# %%
from zoo_lessons.layers import LearnedPositions

learned = LearnedPositions(max_length=6, d_model=16)
print("parameters:", sum(p.numel() for p in learned.parameters()), "= 6 · 16")
try:
    learned(torch.zeros(1, 7, 16))
except ValueError as error:
    print(error)

# %% [markdown]
# That is the price: the table ends. Place 6 has no vector. One can make the table longer than any
# training text, but then its last rows keep the random numbers they started with.
#
# What does such a table learn? MiniLM from lesson 00 has one for 512 places.
#
# **Predict.** Nobody told MiniLM that place 20 stands beside place 21. Are their vectors similar?

# %%
from zoo_lessons.weights import load_pretrained

minilm = load_pretrained("minilm")
rows = minilm.embeddings.positions.weight.detach()  # (512, 384)
units = F.normalize(rows - rows.mean(dim=0), dim=-1)  # what all places share is no information
similarity = units @ units.T  # cosines, (512, 512)
for distance in [1, 2, 3, 5, 8, 11, 32]:
    mean = similarity[:128, :128].diagonal(distance).mean()
    print(f"mean cosine at distance {distance:2}: {mean:.2f}")

# %%
sinusoids = F.normalize(sinusoidal_positions(64, 384), dim=-1)
fig = lab.heatmaps(
    {"sinusoidal": sinusoids @ sinusoids.T, "learned (MiniLM)": similarity[:64, :64]},
    row_axis="place",
    column_axis="place",
    value="cosine",
    limits=(-1, 1),
)
lab.show_figure(
    fig,
    "Similarity of every place with every other. Both are brightest on the diagonal, and both are "
    "striped along it: the similarity depends on the distance, hardly on the place.",
    "Two heat maps of 64 by 64 places. Both have a bright diagonal. The sinusoidal one fades smoothly "
    "away from it. The learned one has about ten parallel stripes on each side, brighter and darker "
    "in turn, and its first row and column are grey.",
)


# %% [markdown]
# Training has found out that places form a line: neighbours are alike. It has even made waves of its
# own. The cosine falls, comes back at distances 5 and 11, and fades. And place 0 stands apart: the
# token there is always [CLS].
#
# ## 4 · Relative positions
#
# Grammar is about distances: the adjective *just before* the noun, the verb *soon after* the subject.
# Whether that happens at place 3 or 300 does not matter. So give up places and tell attention
# distances. The score is where two places meet, and there T5 ([Raffel et al.,
# 2020](https://arxiv.org/abs/1910.10683), section 2.1) adds a trained number:
#
# $$ S_{ij} = q_i \cdot k_j + b_{\,j - i} $$
#
# One number per distance and per head: a head can learn to look one word back by a large $b_{-1}$.
# (T5 leaves out the division by $\sqrt{d_k}$ and starts with smaller weights instead.)
#
# ### Exercise 2 · The distance of every pair (★☆☆, 4 min)
#
# The distance is *key minus query*: negative for a key that comes before the query.

# %% tags=["exercise"]
def my_distance(queries, keys):
    """Returns the distances j - i as integers (queries, keys)."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("03.distance", my_distance)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `torch.arange(n)` counts from 0 to n − 1. A column minus a row gives a table.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Rows belong to queries, so the query's number must be constant along a row: `[:, None]` makes a
# column.
#
# </details>

# %% [markdown]
# ### Buckets
#
# One number per distance would again end somewhere: training on 512 words never shows distance 600.
# And is the difference between 300 and 301 worth a parameter? T5 sorts distances into **buckets**:
# near ones get a bucket each, farther ones share, in steps that grow like a logarithm, and from
# `max_distance` on all share the last.
#
# With $B$ buckets, half are for keys before (and at) the query and half for keys after it. Of a
# half with $H = B/2$ buckets, the first $E = H/2$ are exact. A distance $r = |j - i| \ge E$ gets
#
# $$ \text{bucket}(r) = \min\left( H - 1, \; E + \left\lfloor \frac{\ln (r/E)}
# {\ln (\text{max distance}/E)} \, (H - E) \right\rfloor \right) $$
#
# and keys after the query have $H$ added.

# %%
from zoo_lessons.layers import relative_position_bucket


def bucket_of(distance, buckets=32, max_distance=128):
    half, exact = buckets // 2, buckets // 4
    start = half if distance > 0 else 0
    r = abs(distance)
    if r < exact:
        return start + r
    share = math.log(r / exact) / math.log(max_distance / exact)
    return start + min(half - 1, exact + int(share * (half - exact)))


distances = torch.arange(-150, 151)
buckets = relative_position_bucket(distances)  # 32 buckets, last from 128 on
loop = torch.tensor([bucket_of(distance) for distance in distances.tolist()])
print("loop and library agree:", torch.equal(loop, buckets))
print("bucket sizes, keys before:", torch.bincount(buckets[distances <= 0]).tolist())

# %%
fig, ax = plt.subplots(figsize=(8, 3.6))
ax.step(distances, buckets, where="mid")
ax.axvline(0, color="grey", linewidth=1)
ax.set(
    title="T5's buckets", xlabel="distance: key minus query (places)", ylabel="bucket",
    yticks=range(0, 33, 4),
)  # fmt: skip
lab.show_figure(
    fig,
    "Left of 0, keys before the query: buckets 0 to 15. Right of 0, keys after it: buckets 17 to 31. "
    "Steep near 0, where each distance has its own bucket; flat far away.",
    "Step plot of the bucket number against distances from -150 to 150. From the middle the number "
    "rises in both directions, fast near 0 and then in ever longer steps, to 15 on the left and 31 "
    "on the right, where it stays level.",
)

# %% [markdown]
# ### Exercise 3 · Which bucket? (★☆☆, 3 min)
#
# There are 32 buckets, and the last begins at distance 128. Give the buckets of the three distances
# −5, +5 and −200 from the text and the picture, without running the function.

# %% tags=["exercise"]
three_buckets = ...  # such as (1, 2, 3)

# %% tags=["check"]
lab.check("03.bucket", three_buckets)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many distances on one side have a bucket of their own? Is 5 one of them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The half for keys before the query has the numbers 0 to 15. Keys after it have 16 added.
#
# </details>

# %% [markdown]
# The layer holds a table (buckets, heads) and looks up every pair. It is the same bias as in
# `transformers`, number for number. And it repairs the bag of words: the block takes it as `bias`.

# %%
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from zoo_lessons.layers import RelativePositionBias

bias = RelativePositionBias(num_heads=4)
nn.init.normal_(bias.weight)  # (32 buckets, 4 heads)
t5 = T5Attention(T5Config(num_heads=4, d_kv=8), has_relative_attention_bias=True, layer_idx=0)
t5.relative_attention_bias.weight.data.copy_(bias.weight)

assert torch.equal(
    T5Attention._relative_position_bucket(distances, True, 32, 128), buckets
)  # the buckets ...
assert torch.equal(t5.compute_bias(70, 70), bias(70))  # ... and the bias
print("bias", tuple(bias(70).shape), "- equal to transformers, bit for bit")

x = embedding(torch.tensor([[vocabulary.index(word) for word in first]]))  # (1, words, 16)
moved = block(x[:, order], bias=bias(6))
print("still a bag of words:", torch.allclose(moved, block(x, bias=bias(6))[:, order], atol=1e-4))

# %% [markdown]
# **Try this.** The explorer below holds three encodings. Compare *T5 bias* with *sinusoidal* as dot
# products against distance: which of them may treat *before* and *after* differently? Then look at
# MiniLM's table, and move the position: do you find the waves of section 3 again?

# %%
PositionExplorer(
    tables={"MiniLM (learned)": rows[:128]},
    biases={"T5 bias (random)": bias(64)},
    source="T5 bias (random)",
    view="products",
    position=20,
)


# %% [markdown]
# ## 5 · Rotary positions
#
# A bias adds the same number whatever the words are. Sinusoids let words and distance mix, but only
# through additions that the model must untangle. Rotary positions
# ([Su et al., 2021](https://arxiv.org/abs/2104.09864), section 3.2) ask for the best of both: a way
# to change queries by their place $m$ and keys by their place $n$ such that the score of the two
# depends on the words and on $m - n$, and on nothing else.
#
# Section 2 has shown such a thing: hands of a clock. Take a query with two numbers, a point in the
# plane. *Turn* it by the angle $m\theta$, and the key by $n\theta$:
#
# $$ R_m = \begin{pmatrix} \cos m\theta & -\sin m\theta \\ \sin m\theta & \cos m\theta \end{pmatrix}
# \qquad (R_m q) \cdot (R_n k) = q^\top R_m^\top R_n \, k = q^\top R_{n-m} \, k $$
#
# since turning back by $m\theta$ and forward by $n\theta$ is turning by $(n-m)\theta$. The score
# knows the words ($q$, $k$) and the distance ($n - m$).

# %%
def turn(pair, angle):
    """Rotate a point of the plane: (2,) -> (2,)."""
    a, b = pair
    return torch.stack(
        [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
    )


q, k = torch.tensor([1.0, 0.5]), torch.tensor([0.3, 1.0])
theta = 0.3
for m, n in [(2, 5), (12, 15), (5, 2)]:
    score = turn(q, m * theta) @ turn(k, n * theta)
    print(f"query at {m:2}, key at {n:2}: score {score:.4f}")


# %% [markdown]
# Equal distances give equal scores, and here the direction counts: −3 is not +3.
#
# A real query has $d$ numbers. Cut them into $d/2$ pairs and turn pair $i$ with its own frequency
# $\theta_i = 10000^{-2i/d}$, the same as in section 2: fast pairs for near, slow pairs for far.
#
# ### Exercise 4 · Rotate the pairs (★★☆, 10 min)
#
# Turn every row of `x`. The first row stands at place 0. Pairs are neighbours: dimensions (0, 1),
# (2, 3), and so on.

# %% tags=["exercise"]
def my_rotate(x, base=10000.0):
    """x: (..., length, d) with d even. Returns x with each pair turned, same shape."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("03.rotate", my_rotate)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `x[..., 0::2]` holds the first number of every pair, `x[..., 1::2]` the second, both
# (..., length, d/2). The angles have the shape (length, d/2).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `turn` above is the formula for one pair. It also works on whole tensors with `angle.cos()` and
# `angle.sin()`. Put the pairs together again with `torch.stack([...], dim=-1).flatten(-2)`.
#
# </details>

# %% [markdown]
# The picture shows one pair of a query at place $m$ and a key at place $n$, and beside it the sum
# over all pairs.
#
# **Try this.**
#
# 1. Move *shift*. Both arrows turn. Does the product change?
# 2. Go to a slow pair and move $n$. How far do you have to go until anything happens?
# 3. Find a distance at which a fast pair's product is 1 again. Why is one pair not enough?
# 4. With $q = k$ the lower curve is symmetric. Choose random directions: are +5 and −5 still alike?

# %%
from zoo_lessons.lab.widgets import RoPERotor

RoPERotor(m=12, n=4, pair=2, head_dim=16)

# %% [markdown]
# ### Two layouts, one idea
#
# The paper and GPT-J pair neighbours. Llama pairs dimension $i$ with $i + d/2$, because two halves are
# quicker to cut than every second number. The rotations are the same; only the dimensions have other
# numbers. But a model trained with one layout computes nonsense with the other, and no error says
# so. So check against the real ones.

# %%
from transformers import LlamaConfig
from transformers.models.gptj.modeling_gptj import apply_rotary_pos_emb as gptj_rotate
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama_rotate

from zoo_lessons.layers import Rotary

q, k = torch.randn(2, 2, 4, 9, 16)  # each (batch, heads, length, head_dim)
llama = LlamaRotaryEmbedding(LlamaConfig(hidden_size=64, num_attention_heads=4))
theirs_q, theirs_k = llama_rotate(q, k, *llama(q, torch.arange(9)[None]))
ours_q, ours_k = Rotary(16)(q, k)
assert torch.allclose(ours_q, theirs_q, atol=1e-5) and torch.allclose(ours_k, theirs_k, atol=1e-5)

angle = torch.arange(9.0)[:, None] * 10000 ** (-torch.arange(0, 16, 2) / 16)
theirs = gptj_rotate(q.transpose(1, 2), angle.sin()[None], angle.cos()[None]).transpose(1, 2)
assert torch.allclose(Rotary(16, interleaved=True).rotate(q), theirs, atol=1e-5)

halves = torch.cat([torch.arange(0, 16, 2), torch.arange(1, 16, 2)])  # neighbours -> halves
same = torch.allclose(Rotary(16).rotate(q[..., halves]), theirs[..., halves], atol=1e-5)
print("Llama: equal. GPT-J: equal. One is the other with its dimensions renumbered:", same)


# %% [markdown]
# Values are not turned. In the score the two rotations cancel down to the distance. A turned value
# would meet nothing that turns it back, and the output would depend on where the text begins.
#
# ### Exercise 5 · Find the bug: a distance that is none (★★☆, 10 min)
#
# A colleague wrote the scores of rotary attention. Shapes are right, and the model trains, a little
# worse than expected. But a sentence that starts at place 40 (after a long prompt, say) gets other
# scores than the same sentence at place 0. With rotary positions that cannot be. With *one* head all
# is well. Run the cell below, then repair the function.

# %% tags=["exercise"]
def repaired_scores(q, k, num_heads, start=0):
    """q (batch, queries, d_model), k (batch, keys, d_model); the first key stands at `start`.

    Returns the scores (batch, heads, queries, keys).
    """
    q, k = Rotary(q.shape[-1])(q, k, offset=start)
    q = q.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (batch, heads, queries, head_dim)
    k = k.unflatten(-1, (num_heads, -1)).transpose(1, 2)  # (batch, heads, keys, head_dim)
    return q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])


# %%
q, k = torch.randn(2, 1, 6, 16)  # each (batch, tokens, d_model)
for num_heads in [1, 4]:
    at_0, at_40 = (repaired_scores(q, k, num_heads, start) for start in (0, 40))
    print(f"{num_heads} head(s): same scores:", torch.allclose(at_0, at_40, atol=1e-3))

# %% tags=["check"]
lab.check("03.rope_bug", repaired_scores)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `Rotary(16)` pairs dimension 0 with dimension 8. After the split into 4 heads, in which head is
# each of them?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A rotation cancels in the score only if both numbers of a pair are summed in the same dot product.
# So each head has to turn its own pairs. Which axis must be the places when `Rotary` is called?
#
# </details>

# %% [markdown]
# ## 6 · The training loop
#
# Which encoding is best? That takes a task and training. The task: **for each word, which noun came
# last before it?** The words are random, so only order helps.

# %%
from zoo_lessons.datasets.last_noun import NO_LABEL, NOUNS, WORDS, last_noun_batch

batch = last_noun_batch(1, 10, torch.Generator().manual_seed(3))
print("word     last noun before it")
for word, label in zip(batch.input_ids[0], batch.labels[0], strict=True):
    print(f"{WORDS[word]:8} {'-' if label == NO_LABEL else NOUNS[label]}")

# %% [markdown]
# The model is small: word vectors, two blocks, one linear layer that scores the eight nouns for every
# word. The option `positions` picks the encoding and changes nothing else.

# %%
from zoo_lessons.models.tagger import Tagger, TaggerConfig

lab.show_source(Tagger)


# %% [markdown]
# Training repeats five lines. Take a batch; compute the **loss**, here the cross-entropy between
# scores and right nouns; forget the old gradient; compute the new one; take a step against it.

# %%
def loss_fn(model, batch):
    """Mean cross-entropy over the words that have a label."""
    logits = model(batch.input_ids)  # (batch, length, nouns)
    return F.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=NO_LABEL)


words = torch.Generator().manual_seed(0)
model = Tagger(TaggerConfig(len(WORDS), len(NOUNS), positions="rotary"))
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
losses = []
for _ in range(60):
    batch = last_noun_batch(32, 32, words)
    loss = loss_fn(model, batch)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

assert losses[-1] < 0.8 * losses[0]
print(f"guessing among 8 nouns costs ln 8 = {math.log(8):.2f}; the loss is now below 1.5: "
      f"{losses[-1] < 1.5}")  # fmt: skip

# %% [markdown]
# That is all there is to it, and you can write this loop for any model of the course. A real run needs
# more, so from here on the lessons call `fit`, which does the same five lines and adds
#
# - a **progress bar** with loss and time left, and a **history** of every step;
# - **gradient clipping**: a gradient longer than `clip_norm` is scaled down (lesson 05);
# - a **schedule** that warms the learning rate up and lets it fall again (lesson 05);
# - a **clean stop**: *Kernel → Interrupt* ends the run after the current step, and the model keeps
#   what it has learned;
# - **checkpoints** that a later run can resume from, 16-bit precision, a GPU if there is one, and an
#   end with a clear message if the loss is no longer a number.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.training import fit


def train(positions, *, base=10000.0, steps=400):
    """A trained model and its history; the same batches for all."""
    torch.manual_seed(0)
    words = torch.Generator().manual_seed(0)
    config = TaggerConfig(len(WORDS), len(NOUNS), positions=positions, max_distance=24)
    model = Tagger(config)
    if positions == "rotary":
        model.rotary.base = base
    history = fit(
        model, lambda step: last_noun_batch(32, 32, words), loss_fn,
        steps=steps, lr=4e-3, schedule="warmup_cosine", device="cpu",
    )  # fmt: skip
    return model.eval(), history


model, history = train("none")
print(history)

# %% [markdown]
# **Try this.** Run the cell above again and choose *Kernel → Interrupt* before it is done (or press
# Esc, then I twice). The history says that it was interrupted, and the next cell still runs.
#
# Here is the core of `fit`. Find the five lines.

# %%
from zoo_lessons.training import training_steps

lab.show_source(training_steps, without_docstring=True)

# %% [markdown]
# ## 7 · Four encodings, one task
#
# The model without positions is done. Now the four others, with the same steps, batches, and learning
# rate, on sequences of 32 words. The relative bias gets a `max_distance` of 24, so that 32 words fill
# every bucket. The learned table gets 128 rows, so that it can be tried on 128 words at all;
# training only touches the first 32.
#
# **Predict.** Which of the five learn the task? Which will still know it on 128 words?

# %% tags=["nbval-ignore-output"]
models, histories = {"none": model}, {"none": history}
for positions in ["sinusoidal", "learned", "relative", "rotary"]:
    models[positions], histories[positions] = train(positions)

fig = lab.training_curves(histories, title="Training on 32 words", smooth=20, y_axis="loss")
lab.show_figure(
    fig,
    "Without positions the loss stays high: the bag of words holds no more. The other four fall.",
    "Line chart of the loss over 400 steps. The line of the model without positions flattens out "
    "early at a high loss; the four others fall towards 0.",
)

# %% tags=["nbval-ignore-output"]
lengths = [32, 48, 64, 96, 128]


@torch.no_grad()
def accuracy(model, length):
    """Share of right nouns on fresh sequences."""
    batch = last_noun_batch(64, length, torch.Generator().manual_seed(99))
    right = model(batch.input_ids).argmax(dim=-1) == batch.labels  # (batch, length)
    return (right.sum() / (batch.labels != NO_LABEL).sum()).item()


results = {name: [accuracy(model, length) for length in lengths] for name, model in models.items()}
print(f"{'words':11}" + "".join(f"{length:6}" for length in lengths))
for name, row in results.items():
    print(f"{name:11}" + "".join(f"{value:6.2f}" for value in row))
for name in ["sinusoidal", "learned", "relative", "rotary"]:
    assert results[name][0] > results["none"][0] + 0.2, name  # order is learned ...
assert results["relative"][-1] > results["sinusoidal"][-1] + 0.1  # ... and carried far by one

# %% [markdown]
# On 32 words all four know the order, and the bag of words does not. It is not at chance (1 in 8)
# either. What can a bag of words know? Which noun is in it most often. Name that one for every word:

# %% tags=["nbval-ignore-output"]
batch = last_noun_batch(64, 32, torch.Generator().manual_seed(99))
counts = F.one_hot(batch.input_ids, len(WORDS))[..., : len(NOUNS)].sum(dim=1)  # (batch, nouns)
guess = counts.argmax(dim=-1, keepdim=True)  # one noun for the whole sequence: (batch, 1)
share = ((guess == batch.labels).sum() / (batch.labels != NO_LABEL).sum()).item()
print(f"the most frequent noun: {share:.2f}, the model without positions: {results['none'][0]:.2f}")
assert abs(share - results["none"][0]) < 0.06

# %% [markdown]
# So the model without positions has learned what there was to learn.
#
# On longer sequences the others part. One run is an anecdote, so here are five seeds.

# %% [markdown]
# ### Claim C04, measured
#
# The claim: *positions can be encoded in four ways: sinusoidal, relative, rotary and learned*. The
# experiment repeats the comparison with more steps and five seeds. It adds a second relative bias
# with T5's own `max_distance` of 128. T5 was trained on 512 words; here, distances beyond 31 never
# come up in training.

# %%
from zoo_lessons.records import load_claim, load_record

record = load_record("c04_positions")
figures = record["figures"]
places = [figures["span"] * (span + 0.5) for span in range(len(figures["by_place"]["none"][0]))]
print(figures["seeds"], "seeds,", figures["steps"], "steps each; lengths", figures["lengths"])

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(9, 4.4), sharey=True)
lab.lines(
    figures["accuracy"], figures["lengths"],
    title="By length of the sequence", x_axis="words", y_axis="accuracy", ax=left,
)  # fmt: skip
lab.lines(
    figures["by_place"], places,
    title="By place, in 128 words", x_axis="place of the word", y_axis="", ax=right,
)  # fmt: skip
left.axvline(figures["trained_length"], color="grey", linestyle=":")
right.axvline(figures["trained_length"], color="grey", linestyle=":")
left.get_legend().remove()
right.legend(fontsize=8, loc="lower left", ncols=2)
right.set_ylim(0, 1.03)
lab.show_figure(
    fig,
    f"Recorded on {record['date']} ({record['machine']['device']}) by: {record['command']}. Mean and "
    f"range of {figures['seeds']} seeds. The dotted line is the length of training. On the right, two "
    "lines break there and the others are level.",
    "Two line charts of accuracy. Left, against 32 to 128 words: relative stays highest, rotary holds "
    "to 64 words and then drops, sinusoidal and learned drop at once, none is low throughout. Right, "
    "against the place within 128 words.",
)

# %%
lab.show_claim(load_claim("C04"))

# %% [markdown]
# The claim holds: all four ways work where they were trained. Beyond that each fails, and the right
# panel shows two kinds of failure. (Beyond the dotted line training has shown nothing.)
#
# - **Sinusoidal and learned** speak of *places*. In the first 32 places they still know a lot,
#   beyond the dotted line they do no better than a bag of words. Learned rows 32 to 127 were never
#   touched: the cell below looks. The sinusoidal table goes on, but the layers above have
#   never met its later rows.
# - **Relative and rotary** speak of *distances*. Their lines are level: no place is worse than
#   another. What hurts are keys at distances that training has not shown, and a word in a long
#   sequence has such keys wherever it stands.
#
# Compare the two relative biases, which differ in nothing but `max_distance`. With 24, training fills
# every bucket, and far keys share one that is known. With 128, the buckets beyond distance 31 are
# still at their random start near 0, and far nouns that should count for nothing count for
# something. The decline that is left comes with length itself: more far keys share the softmax.
#
# **Rotary** holds up to twice the length, and then falls off a cliff. Why there?

# %% tags=["nbval-ignore-output"]
spread = models["learned"].added.weight.detach().std(dim=1)  # (places,)
print(f"typical entry of a learned row: {spread[:32].mean():.2f} for places 0 to 31, "
      f"{spread[32:].mean():.2f} beyond; at the start 0.02")  # fmt: skip
assert spread[:32].mean() > 2 * spread[32:].mean()

# %% [markdown]
# ### The cliff (further)
#
# Our heads have a width of 8: four pairs. They are the four hands printed in section 2. Within 32
# words, hand 1 makes at most half a turn, so a larger angle always meant *farther*. After 63 places it
# has come round, and a noun 63 words back looks to it like a noun close by. Sequences of 64 words
# hardly have such distances; those of 96 do. That is a guess from a picture of hands. So test it.
#
# **Predict.** With the base 300,000 instead of 10,000, hand 1 needs 147 places for a turn. If the
# guess is right, what happens to the cliff?

# %% tags=["nbval-ignore-output"]
models["rotary, base 300000"], _ = train("rotary", base=300_000.0)
for name in ["rotary", "rotary, base 300000"]:
    results[name] = [accuracy(models[name], length) for length in lengths]
    print(f"{name:20}" + "".join(f"{value:6.2f}" for value in results[name]))

kept = {name: row[-1] / row[0] for name, row in results.items()}  # share kept at 128 words
assert kept["rotary, base 300000"] > kept["rotary"] + 0.15

# %% [markdown]
# The cliff is gone, and nothing else was changed. There is a price too: slower hands tell neighbours
# apart less well, and after the same number of steps the model knows less at 32 words. Large models
# have 64 pairs per head and make the same trade: Llama 3 uses the base 500,000 for its long contexts
# ([Llama team, 2024](https://arxiv.org/abs/2407.21783), section 3.2).
#
# What this comparison does not show: our task rewards looking *near*. Other tasks, larger models, and
# other training lengths can change the ranking. What stays is the habit: ask what training has shown.

# %% [markdown]
# ## 8 · Read the real thing
#
# You have now met every line of `zoo_lessons/layers/positions.py`. Here are the two that act inside
# attention. `offset` in `Rotary` is for generating text: the keys of earlier words are kept, and a
# single new query must know that it stands at their end.

# %%
lab.show_source(RelativePositionBias, without_docstring=True)

# %%
lab.show_source(Rotary, without_docstring=True)

# %% [markdown]
# ## 9 · What it costs
#
# Take a model with $L$ layers, $h$ heads, width $d$ and $n$ words. We count multiplications and
# additions (FLOPs) of one pass.
#
# | | parameters | FLOPs | longer than training |
# |---|---|---|---|
# | sinusoidal | 0 | $nd$, once | runs; untrained sums of word and place |
# | learned | max length · $d$ | $nd$, once | stops at the end of the table |
# | relative (T5) | buckets · $h$, shared by all layers | $h n^2$ in each of $L$ layers | runs; good if all buckets were trained |
# | rotary | 0 | $3 \cdot 2nd$ in each of $L$ layers | runs; slow pairs reach new angles |
#
# Rotary makes each of the $2nd$ numbers of queries and keys from two products and a sum: 3 FLOPs. The
# bias is the only one that grows with $n^2$, and it must be held in memory: $h n^2$ numbers.

# %%
L, h, d, n = 12, 12, 768, 512  # BERT-Base
costs = {
    "sinusoidal": (0, n * d),
    "learned": (512 * d, n * d),
    "relative": (32 * h, L * h * n**2),
    "rotary": (0, L * 3 * 2 * n * d),
}
encoder = L * (24 * n * d**2 + 4 * n**2 * d)  # projections and feed-forward, scores and outputs
for name, (parameters, flops) in costs.items():
    print(f"{name:11}{parameters:8} parameters {flops / 1e6:6.1f} MFLOP"
          f" = {100 * flops / encoder:.4f} % of the encoder's")  # fmt: skip
assert LearnedPositions(512, d).weight.numel() == costs["learned"][0]
assert RelativePositionBias(h).weight.numel() == costs["relative"][0]

# %% [markdown]
# Next to the rest of the model, none of them costs anything worth counting. The choice is about what
# a model can learn and how far it reaches, not about price. One caution: FLOPs are not time. The bias
# must be read from memory for every pair, and the fastest fused attention kernels do not take one.
#
# Where papers, this course and `transformers` differ:
#
# | | paper | this course | `transformers` |
# |---|---|---|---|
# | sinusoids, order | sine, cosine, sine, ... | the same; halves with `interleaved=False` | halves (Marian) |
# | word vectors before adding | times $\sqrt{d}$ | lesson 04: the same; here: not | Marian: as configured |
# | learned: positions of padding | not said | counted from 0 | BERT the same; RoBERTa starts at 2 |
# | T5: scale of the scores | not said | $1/\sqrt{d_k}$ | none: smaller initial weights instead |
# | T5: where the bias lives | shared by all layers | whoever calls decides; here shared | in the first layer, handed on |
# | RoPE: pairs | neighbours | halves; neighbours with `interleaved=True` | Llama halves, GPT-J neighbours |
# | RoPE: how much of a head | all | all | GPT-J: the first 64 of 256 dimensions |

# %% [markdown]
# ## Quiz

# %%
lab.quiz("03")

# %% [markdown]
# ## Summary
#
# - Attention sums over keys, and a sum has no order. Without positions, a sentence is a bag of words.
# - Sinusoidal and learned positions are vectors added to the words. The first are a formula whose dot
#   products depend on distance; the second are trained and end with their table.
# - A relative bias adds a trained number per distance and head to the scores; buckets let far
#   distances share. Rotary positions turn queries and keys, so that the score depends on the words and
#   their distance.
# - That an encoding *can* be computed at any length does not mean that the model works there. What
#   training never showed, be it a row, a bucket or an angle, is not learned.
# - **Next:** [04 The Transformer](04_transformer.ipynb). **Read:** Vaswani et al. 2017, [Attention Is
#   All You Need](https://arxiv.org/abs/1706.03762), section 3.5; Raffel et al. 2020,
#   [T5](https://arxiv.org/abs/1910.10683), section 2.1; Su et al. 2021,
#   [RoFormer](https://arxiv.org/abs/2104.09864), sections 3.2 and 3.4; Press et al. 2021, [Train Short,
#   Test Long](https://arxiv.org/abs/2108.12409), sections 2 and 3, for a bias that needs no training; Peng et
#   al. 2023, [YaRN](https://arxiv.org/abs/2309.00071), section 3, for how rotary models are stretched.
