# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 01 · Attention
#
# *How can a word look up what it needs from all the other words?*
#
# After this lesson you can
#
# - derive attention from a dictionary look-up and write it in four lines
# - explain why the scores are divided by the square root of d_k, and show what breaks without it
# - write padding and causal masks, and say why masking comes before the softmax
# - predict how time and memory grow with the length of the input
#
# **Time:** 60 minutes · **You need first:** [00 Start here](00_start_here.ipynb)
#
# **On the zoo map:** part I, Foundations · **New parts:** Scaled dot-product attention, Padding mask, Causal mask
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/01_attention.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F01_attention.ipynb) · [Solutions](solutions/01_attention.ipynb)

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

lab.begin("01")

# %% [markdown]
# ## The question
#
# Here is a dictionary. Its keys are the words of *The cat sat on the mat*. Its values say what kind
# of word each one is.

# %%
word_class = {
    "the": "determiner",
    "cat": "noun",
    "sat": "verb",
    "on": "preposition",
    "mat": "noun",
}
print(word_class["cat"])
print("kitten" in word_class)

# %% [markdown]
# `word_class["kitten"]` would be a `KeyError`. That is a pity: a kitten is almost a cat, and the
# answer for *cat* would do.
#
# A word inside a Transformer is in this position all the time. It needs something that another word
# of the sentence has, and it can only describe what it needs, not name the place. **How can a word
# look up what it needs from all the other words?** The answer takes four lines of code. This lesson
# builds them one by one.

# %% [markdown]
# ## 1 · A look-up that never fails
#
# A dictionary compares the **query** (`"kitten"`) with each **key** (`"the"`, `"cat"`, ...) and
# returns the **value** of the key that is equal. Three changes make it soft:
#
# 1. Instead of asking *equal or not*, give each key a **score**: how similar is it to the query?
# 2. Turn the scores into **weights**: positive numbers that sum to 1.
# 3. Return the **weighted mean of all values**.
#
# To measure similarity, words must be numbers. MiniLM, the model of lesson 00, stores a vector of
# 384 numbers for every word and piece of a word that it knows. Training has given similar vectors to
# words that are used alike. We borrow these vectors.

# %%
import math

import torch

from zoo_lessons.weights import load_pretrained, load_tokenizer

model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
table = model.embeddings.word.weight.detach()  # (words, width)


def vector(word):
    """MiniLM's vector for a word: (384,)."""
    return table[tokenizer.token_to_id(word)]


print(f"{table.shape[0]} words, {table.shape[1]} numbers each")

# %% [markdown]
# **Step 1, the scores.** The score of a query $q$ with key number $j$ is their dot product:
#
# $$ s_j = q \cdot k_j = \sum_{c} q_c \, k_{jc} $$
#
# Multiply the numbers in equal places and add up. The sum is large when the two vectors point the
# same way, near 0 when they have nothing to do with each other.
#
# **Predict.** Which of the five keys gets the highest score for *kitten*? Which comes second?

# %%
q = vector("kitten")  # (width,)
k = torch.stack([vector(word) for word in word_class])  # (keys, width)

scores = torch.zeros(len(word_class))
for j in range(len(word_class)):
    for c in range(len(q)):
        scores[j] += q[c] * k[j, c]

assert torch.allclose(scores, k @ q, atol=1e-5)  # the same as one matrix product
for word, score in zip(word_class, scores.tolist(), strict=True):
    print(f"{word:4} {score:6.2f}")

# %% [markdown]
# **Step 2, the weights.** Scores can be negative, and they do not sum to anything in particular. The
# **softmax** repairs both. It takes the exponential of each score, which is always positive, and
# divides by the sum:
#
# $$ w_j = \frac{e^{s_j}}{\sum_{j'} e^{s_{j'}}} $$

# %%
exponentials = scores.exp()
weights = exponentials / exponentials.sum()

assert torch.allclose(weights, scores.softmax(dim=0))
for word, weight in zip(word_class, weights.tolist(), strict=True):
    print(f"{word:4} {weight:.2f}")
print(f"sum  {weights.sum():.2f}")

# %% [markdown]
# **Step 3, the mean of the values.** Words such as "noun" cannot be averaged, so each value becomes
# a vector too: one place per class, 1 in its own and 0 elsewhere. The output of the look-up is
#
# $$ o = \sum_j w_j \, v_j $$
#
# where $v_j$ is the value of key $j$.

# %%
classes = ["determiner", "noun", "verb", "preposition"]
v = torch.zeros(len(word_class), len(classes))  # (keys, classes)
for j, name in enumerate(word_class.values()):
    v[j, classes.index(name)] = 1

output = torch.zeros(len(classes))
for j in range(len(word_class)):
    output += weights[j] * v[j]

assert torch.allclose(output, weights @ v)  # again one matrix product
for name, share in zip(classes, output.tolist(), strict=True):
    print(f"{name:12} {share:.2f}")

# %%
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 3, figsize=(9, 3))
bars = [
    ("1  scores q · k", list(word_class), scores),
    ("2  weights (softmax)", list(word_class), weights),
    ("3  output: mean of values", classes, output),
]
for ax, (title, names, values) in zip(axes, bars, strict=True):
    ax.bar(names, values.tolist())
    ax.set_title(title)
    ax.tick_params(axis="x", rotation=35)
lab.show_figure(
    fig,
    "Looking up 'kitten', which is not a key. 'cat' scores highest, so the value of 'cat' counts "
    "most, and the output says noun.",
    "Three bar charts. Scores of five keys: cat 0.87, mat 0.13, the others near 0. Weights: cat "
    "0.36, the others between 0.15 and 0.17. Output: noun 0.54, the other three about 0.15.",
)

# %% [markdown]
# The dictionary now answers *noun* for a word that it does not hold. Note two things.
#
# - **Keys and values are different things.** Keys are for finding, values are for handing over. Here
#   a key has 384 numbers and a value has 4.
# - **No step chooses.** There is no `if` and no `max`. A small change of the query changes the output
#   a little, so the output has a gradient, and what makes the query can be *trained*.

# %% [markdown]
# ## 2 · Many queries at once
#
# Every word of a sentence asks at the same time. Put the queries under each other as the rows of a
# matrix $Q$, the keys as the rows of $K$, the values as the rows of $V$. All scores, weights and
# outputs are then three matrix operations:
#
# $$ S = Q K^\top \qquad A = \mathrm{softmax}(S) \qquad O = A V $$
#
# $S_{ij}$ is the score of query $i$ with key $j$. The softmax runs over each **row**: every query
# has a weight of 1 to share out among the keys.

# %%
words = {
    "kitten": "noun",
    "rug": "noun",
    "table": "noun",
    "sit": "verb",
    "lay": "verb",
    "a": "determiner",
    "this": "determiner",
    "upon": "preposition",
    "under": "preposition",
}
q = torch.stack([vector(word) for word in words])  # (queries, width)
print("q", tuple(q.shape), " k", tuple(k.shape), " v", tuple(v.shape))

rows = [(k @ query).softmax(dim=0) @ v for query in q]  # one query at a time
output = (q @ k.T).softmax(dim=-1) @ v  # all at once: (queries, classes)
assert torch.allclose(torch.stack(rows), output, atol=1e-6)
print("output", tuple(output.shape))

# %% [markdown]
# **Predict.** What is the highest class for *under*? And for *a*?

# %%
for word, row in zip(words, output, strict=True):
    print(f"{word:7}", classes[row.argmax()])


# %% [markdown]
# Everything is a noun. Nothing is broken; look again at the weights of *kitten* in the figure of
# section 1. Except for *cat*, they are almost equal. So the output is close to a plain mean of all
# values, and two of the five values are nouns.
#
# The scores are too small. Multiply them by a number $\beta$ before the softmax and see what
# happens. (Its inverse, $\tau = 1/\beta$, is called the **temperature**.)

# %%
def look_up(beta):
    return (beta * q @ k.T).softmax(dim=-1) @ v  # (queries, classes)


for beta in [1, 2, 4, 16, 64, 1000]:
    found = [classes[i] for i in look_up(beta).argmax(dim=-1)]
    wrong = [word for word, name in zip(words, found, strict=True) if words[word] != name]
    print(f"beta {beta:4}: {len(words) - len(wrong):2} of {len(words)} right; wrong: {wrong[:3]}")

# %%
fig = lab.heatmaps(
    {f"beta = {beta}": look_up(beta) for beta in (1, 16, 1000)},
    list(words),
    classes,
    row_axis="query",
    value="share of the output",
    limits=(0, 1),
)
fig.set_figheight(4.8)
lab.show_figure(
    fig,
    "The same look-up with small, medium and huge scores. Left: a vague mean. Right: each query "
    "takes exactly one value, as a dictionary does, and 'table' takes a wrong one. Middle: close "
    "keys are pooled.",
    "Three heat maps with nine queries as rows and four word classes as columns. With beta 1 all "
    "rows look alike, noun highest. With beta 16 each row favours its own class, some clearly and "
    "some not. With beta 1000 each row has a single 1.",
)

# %% [markdown]
# Nine words picked by hand prove nothing about language, but they show what the size of the scores
# does:
#
# - **Small scores** give nearly equal weights: the mean of all values, whatever the query.
# - **Huge scores** give all weight to one key: the hard dictionary is back. *table* is closest to
#   *sat* and gets its class, although *cat* and *mat* together had more to say.
# - **In between**, close keys are pooled, and the answer is best.
#
# So the size of the scores matters. What sets it?

# %% [markdown]
# ## 3 · Why divide by √d_k?
#
# Call the width of queries and keys $d_k$. A score is a sum of $d_k$ products, and longer sums are
# larger. By how much?
#
# Suppose that the entries of $q$ and $k$ are independent random numbers with mean 0 and variance 1,
# as they roughly are when training starts. Then each product $q_c k_c$ has mean 0 and variance 1
# too. Variances of independent numbers add up, so the score has variance $d_k$, and its standard
# deviation is $\sqrt{d_k}$.
#
# **Predict.** The standard deviation of the scores is 2 at $d_k = 4$. What is it at $d_k = 1024$?

# %%
for d_k in [4, 16, 64, 256, 1024]:
    q, k = torch.randn(2, 5000, d_k)  # 5000 pairs of a query and a key
    scores = (q * k).sum(dim=-1)  # (5000,)
    print(f"d_k {d_k:4}: std {scores.std():5.1f}, divided by √d_k {scores.std() / d_k**0.5:.2f}")

# %% [markdown]
# Wide vectors make huge scores, and huge scores make a hard look-up. At the start of training that
# is bad in two ways. The model grabs one key before it has learned which key is any good. Worse, it
# can hardly change its mind, as we see next.
#
# ### The gradient dies
#
# Training moves the weights by moving the scores. If score $j$ rises a little, weight $i$ changes by
#
# $$ \frac{\partial w_i}{\partial s_j} = w_i \, ([i = j] - w_j) $$
#
# where $[i = j]$ is 1 for $i = j$ and 0 otherwise. This table of numbers is the **Jacobian** of the
# softmax. When one weight is almost 1 and the others almost 0, each entry contains a factor that is
# almost 0.

# %%
from torch.autograd.functional import jacobian


def softmax_jacobian(weights):
    """The formula above: (keys,) -> (keys, keys)."""
    return torch.diag(weights) - torch.outer(weights, weights)


for row in [[1.0, 0.0, -1.0, 0.0], [16.0, 0.0, -16.0, 0.0]]:
    scores = torch.tensor(row, dtype=torch.float64)
    weights = scores.softmax(dim=0)
    slopes = softmax_jacobian(weights)
    assert torch.allclose(slopes, jacobian(lambda s: s.softmax(dim=0), scores))
    print("scores ", row, "-> weights", [round(w, 3) for w in weights.tolist()])
    print(f"largest entry of the Jacobian: {slopes.abs().max():.7f}")

# %% [markdown]
# The second row has the same scores as the first, 16 times as large. Its softmax is **saturated**:
# the weights hardly react to the scores any more, so no error signal gets through. That row cannot
# learn that it looks at the wrong key.
#
# Now see it happen. Slide $d_k$ in the picture below.
#
# **Try this.**
#
# 1. Move $d_k$ from 1 to 512. In the table *not divided* one key takes everything; the table
#    *divided* (by $\sqrt{d_k}$) stays soft.
# 2. Compare the curves. **Entropy**, $-\sum_j w_j \ln w_j$, says how many keys share the weight: 0 for
#    one key, $\ln 8 \approx 2.08$ if all eight share alike. (Its unit, with the natural logarithm, is
#    the *nat*.) **Gradient** is the size (norm) of the Jacobian: how strongly the weights react.
# 3. Change the random draw at $d_k = 512$. Find one where two keys are nearly tied: its gradient is
#    alive.

# %%
from zoo_lessons.lab.widgets import SoftmaxPlayground

SoftmaxPlayground(d_k=64)

# %% [markdown]
# ### Exercise 1 · Which rows have lost their gradient? (★☆☆, 4 min)
#
# Each row below holds the scores of one query. Decide *without computing* which rows have lost their
# gradient (no entry of the Jacobian above 0.01). Write their letters, for instance `"ae"`.

# %%
from zoo_lessons.lab.exercises.lesson_01 import ROWS

for letter, row in ROWS.items():
    print(letter, row)

# %% tags=["exercise"]
dead_rows = ...

# %% tags=["check"]
lab.check("01.dead_rows", dead_rows)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What happens to the weights if you add 100 to all scores of a row?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# An entry $w_i (1 - w_i)$ is near 0 only if $w_i$ is near 0 or near 1. In which rows is that so for
# all weights?
#
# </details>

# %% [markdown]
# ### The formula
#
# The cure costs one division. If scores have the standard deviation $\sqrt{d_k}$, divide by
# $\sqrt{d_k}$, and they have the standard deviation 1 at every width. That gives **scaled
# dot-product attention**, equation 1 of [Vaswani et al., 2017](https://arxiv.org/abs/1706.03762):
#
# $$ \mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d_k}}\right) V $$
#
# The division does not force the look-up to be soft. It only makes the start soft: a model that
# needs a hard look-up can learn larger queries and keys. Section 4 shows one that did.
#
# ### Exercise 2 · Attention in four lines (★★☆, 8 min)
#
# Write the formula. It should also work when there are more axes in front, such as a batch: all
# operations then apply to the last two axes.

# %% tags=["exercise"]
def attention(q, k, v):
    """softmax(q kᵀ / √d_k) v.

    q: (..., queries, d_k); k: (..., keys, d_k); v: (..., keys, d_v).
    Returns the output (..., queries, d_v) and the weights (..., queries, keys).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("01.attention", attention)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `k.transpose(-2, -1)` swaps the last two axes and leaves the others alone. `k.T` would not.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# $d_k$ is `q.shape[-1]`. Each row of the weights belongs to one query and must sum to 1, so the
# softmax runs along the axis of the keys, which is the last one.
#
# </details>

# %% [markdown]
# ### Claim C01, measured
#
# The claim: *the division by $\sqrt{d_k}$ matters*. We drew random queries with 16 keys each, thousands
# of times at each width, with and without the division, and recorded the entropy of the weights and
# the gradient of the weights **with respect to the query**. That gradient is what training sees. It
# counts two more effects: wide keys pass more of it on, and the division takes some away.
#
# **Predict.** Without the division, does the gradient of *every* query die?

# %%
from zoo_lessons.records import load_claim, load_record

record = load_record("c01_scale")
figures, widths = record["figures"], record["figures"]["widths"]
both = ("divided", "not divided")
median = {f"{name}, median": figures[name]["query_median"] for name in both}
mean = {"not divided, mean": figures["not divided"]["query_mean"]}

fig, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8))
lab.lines(
    {name: figures[name]["entropy"] for name in both},
    widths, title="Entropy of the weights", x_axis="width d_k", y_axis="nats", log="x", ax=left,
)  # fmt: skip
lab.lines(
    median | mean,
    widths, title="Gradient at the query", x_axis="width d_k", y_axis="norm", log="xy", ax=right,
)  # fmt: skip
lab.show_figure(
    fig,
    f"Recorded on {record['date']} ({record['machine']['device']}) by: {record['command']}. Divided, "
    "both stay level at every width. Not divided, the entropy falls towards 0 and the median gradient "
    "towards nothing, while the mean gradient does not fall at all.",
    "Two line charts over d_k from 4 to 1024. Left: entropy is level at about 2.4 nats when divided "
    "and falls to 0.1 when not. Right, logarithmic: the divided median is level at 0.3; the median "
    "without division rises to 1, then falls below 0.001; the mean without division rises from 0.6 "
    "to 1.7.",
)

# %%
lab.show_claim(load_claim("C01"))

# %% [markdown]
# The division keeps softmax and gradient alike at all widths, so the claim holds. But the curves add
# two things that the short version of the story leaves out.
#
# - At small widths nothing dies. Up to about 64 the undivided gradient is even *larger*: the
#   division pays off for wide vectors, and the paper says so too (section 3.2.1).
# - Not every query dies. A few, where two keys are nearly tied, have a huge gradient, and these hold up
#   the mean. So training without the division is not only slow but uneven: most queries learn
#   nothing, and a few jump.

# %% [markdown]
# ## 4 · A sentence that looks at itself
#
# So far the queries came from outside the dictionary. In **self-attention** the words of one sentence
# are all three: queries, keys and values. With the plain word vectors as all three this would be
# dull, because each word is most similar to itself. So a model makes three different vectors from
# the vector $x$ of a word, with three trained matrices:
#
# $$ q = x W^Q \qquad k = x W^K \qquad v = x W^V $$
#
# $W^Q$ learns what to ask for, $W^K$ what to be found by, $W^V$ what to hand over. (MiniLM adds a
# trained bias to each of the three.) Lesson 02 builds this; here we borrow it. One **head** of MiniLM
# is exactly the formula above, with $d_k = 32$. Take the first layer, head 3, and apply the formula by
# hand.

# %%
from zoo_lessons.layers import record_attention

encoded = tokenizer.encode("The cat sat on the mat")
input_ids = torch.tensor([encoded.ids])  # (1, tokens)
with torch.no_grad(), record_attention(model) as maps:
    model(input_ids)
    x = model.embeddings(input_ids)  # (1, tokens, 384)
    qkv = model.layers[0].attention.qkv(x)  # (1, tokens, 3 * 12 * 32)
q, k, v = qkv.unflatten(-1, (3, 12, 32))[0].permute(1, 2, 0, 3)  # each (heads, tokens, 32)

weights = (q[3] @ k[3].T / 32**0.5).softmax(dim=-1)  # (tokens, tokens)
assert torch.allclose(weights, maps[0].weights[0, 3], atol=1e-6)
print(
    "q, k, v of head 3:", tuple(q[3].shape), "- the formula gives the map that the model computes"
)

# %%
fig = lab.heatmap(
    weights,
    encoded.tokens,
    encoded.tokens,
    title="MiniLM, first layer, head 3",
    row_axis="query: the word that looks",
    column_axis="key: the word that is looked at",
    value="weight",
    numbers=True,
    limits=(0, 0.8),
)
lab.show_figure(
    fig,
    "Read the row of 'sat': its largest weights are on 'mat' and 'cat'. Each row sums to 1. The first "
    "row belongs to [CLS], a token that the model adds.",
    "Heat map of attention weights among eight tokens. [CLS] gives 0.79 to [SEP]. 'sat' gives 0.29 "
    "to 'mat' and 0.22 to 'cat'. The other rows spread their weight widely.",
)

# %% [markdown]
# That the verb looks at both nouns is pleasing, and it is one sentence and one head of 72. Lesson 02
# tests such readings instead of trusting them.
#
# Two observations that will return:
#
# - The two *the* have similar rows and columns. They differ only because MiniLM adds a vector for
#   the position to each word. Without it they would be exactly equal: the formula itself does
#   not know the order of the words. Lesson 03 deals with that.
# - MiniLM was trained with the division by $\sqrt{d_k}$. Does it matter to the trained model? Take
#   it away from all 12 heads of the first layer and compare the entropy.

# %%
scores = q @ k.transpose(-2, -1)  # (heads, tokens, tokens)
for name, scale in {"with": 32**0.5, "without": 1.0}.items():
    entropy = torch.special.entr((scores / scale).softmax(dim=-1)).sum(dim=-1)  # (heads, tokens)
    print(f"{name:8} the division: mean entropy {entropy.mean():.2f} of {math.log(8):.2f} at most")
spread = scores.std(dim=(1, 2)) / 32**0.5
print(f"std of the scaled scores: {spread.min():.1f} to {spread.max():.1f} by head")

# %% [markdown]
# Without the division the heads would be almost hard look-ups. With it, most are soft, and one of
# the twelve has learned to be hard all the same: its scores have a standard deviation of about 9.
# The scale sets the start, training sets the rest.

# %% [markdown]
# ## 5 · Masks: what may be looked at
#
# Sometimes a query must *not* see a key. There are two reasons.
#
# ### Padding
#
# A computer works through several sentences at once, a **batch**. A tensor is rectangular, so short
# sentences are filled up with a meaningless token, the **padding**. The tokenizer tells real tokens
# from padding with an `attention_mask`: 1 for a token, 0 for padding.

# %%
tokenizer.enable_padding()
batch = tokenizer.encode_batch(["The cat sat on the mat", "The cat slept"])
tokenizer.no_padding()

attention_mask = torch.tensor([sentence.attention_mask for sentence in batch])  # (batch, keys)
for sentence in batch:
    print(" ".join(f"{token:5}" for token in sentence.tokens))
print(attention_mask)

# %% [markdown]
# No query may look at `[PAD]`. A **mask** $M$ says so: $M_{ij}$ is True where query $i$ may look at
# key $j$. The mask acts on the scores, before the softmax:
#
# $$ A = \mathrm{softmax}(S') \qquad S'_{ij} = \begin{cases} S_{ij} & \text{if } M_{ij} \\
# -\infty & \text{otherwise} \end{cases} $$
#
# since $e^{-\infty} = 0$: the hidden key gets no weight, and the others share all of it.

# %%
scores = torch.tensor([[2.0, 1.0, 0.0, 3.0]])  # (queries, keys); the last key is padding
mask = torch.tensor([[True, True, True, False]])

print("no mask:", scores.softmax(dim=-1))
hidden = scores.masked_fill(~mask, -math.inf)  # ~ turns True into False and back
print("masked: ", hidden.softmax(dim=-1))


# %% [markdown]
# ### Exercise 3 · Padding mask (★☆☆, 6 min)
#
# In a batch, the scores have the shape `(batch, heads, queries, keys)`. (Heads come in lesson 02;
# think of 1.) Turn an `attention_mask` of shape `(batch, keys)` into a mask that can be laid over
# these scores. PyTorch compares shapes **from the right** and stretches axes of size 1.

# %% tags=["exercise"]
def my_padding_mask(attention_mask):
    """attention_mask: (batch, keys), 1 = token, 0 = padding.

    Returns a Boolean mask (batch, 1, 1, keys), True = may be looked at.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("01.padding_mask", my_padding_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# All queries of a sentence, in all heads, may look at the same keys. So the axes of heads and queries
# have size 1.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `tensor.bool()` turns 1 and 0 into True and False. Indexing with `None` inserts an axis of size 1:
# `x[:, None]` has the shape `(batch, 1, keys)`.
#
# </details>

# %% [markdown]
# Does the mask do its job? The short sentence must get the same output alone and in the batch,
# whatever the padding holds.

# %%
from zoo_lessons.layers import padding_mask, scaled_dot_product_attention

x = torch.randn(2, 1, 8, 16)  # (batch, heads, tokens, width)
mask = padding_mask(attention_mask)  # (batch, 1, 1, keys)
masked, _ = scaled_dot_product_attention(x, x, x, mask)
unmasked, _ = scaled_dot_product_attention(x, x, x)

short = x[1:, :, :5]  # the second sentence without its padding
alone, _ = scaled_dot_product_attention(short, short, short)
print("with mask, same as alone:   ", torch.allclose(masked[1:, :, :5], alone, atol=1e-6))
print("without mask, same as alone:", torch.allclose(unmasked[1:, :, :5], alone, atol=1e-6))


# %% [markdown]
# ### The future
#
# A model that writes text learns to predict the next word. In training it is given the whole
# sentence, so the word it should predict is right there. It would copy instead of learn. A **causal
# mask** hides the future: each query sees its own position and those before it.
#
# ### Exercise 4 · Causal mask (★☆☆, 5 min)

# %% tags=["exercise"]
def my_causal_mask(length):
    """Returns a Boolean mask (length, length): True where key j is not later than query i."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("01.causal_mask", my_causal_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Row 0 has one True, row 1 has two, the last row has only True. What shape do they form?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.ones(length, length, dtype=torch.bool)` is True everywhere. `tensor.tril()` keeps the lower
# triangle with the diagonal.
#
# </details>

# %% [markdown]
# The picture below shows masks as grids: row = query, column = key, filled = may look.
#
# **Try this.** Choose *causal + padding*: why do the last rows see no more keys than the rows above
# them? Choose *sliding window*: how does the number of allowed pairs grow when you double the
# length? (Lesson 15 builds on that answer.)

# %%
from zoo_lessons.lab.widgets import MaskExplorer

MaskExplorer(length=12, padding=3)

# %% [markdown]
# Now your own mask. Change the rule in the next cell and run it and the one below again. For
# instance, let each word see every second word, or only the word before it.

# %%
from zoo_lessons.layers import causal_mask

position = torch.arange(8)
my_mask = (position[:, None] - position).abs() <= 1  # neighbours only ...
my_mask[:, 0] = True  # ... and everyone sees [CLS]

MaskExplorer(tokens=encoded.tokens, masks={"my mask": my_mask})

# %%
names = {"no mask": None, "causal": causal_mask(8), "my mask": my_mask}
panels = {name: scaled_dot_product_attention(q[3], k[3], v[3], m)[1] for name, m in names.items()}
fig = lab.heatmaps(
    panels,
    encoded.tokens,
    encoded.tokens,
    row_axis="query",
    column_axis="key",
    value="weight",
    limits=(0, 1),
)
lab.show_figure(
    fig,
    "The head of section 4 under three masks. What the mask takes away goes to the keys that are "
    "left: in the causal panel, [CLS] has nothing but itself to look at.",
    "Three heat maps of attention weights among eight tokens. Without a mask all squares are filled. "
    "With the causal mask only the lower left triangle is filled, and the first row is 1 at its "
    "first square. The third panel follows the mask of the cell above.",
)


# %% [markdown]
# ### Exercise 5 · Find the bug: hidden, but not silent (★★☆, 8 min)
#
# A colleague wrote masked attention. It runs, the weights of hidden keys are 0, and the model even
# trains. But here is a strange thing: change only the *last* word of a sentence, and the output for
# the *first* word changes too, in spite of the causal mask. Run the cell, then repair the function.

# %% tags=["exercise"]
def repaired_attention(q, k, v, mask):
    """q (..., queries, d_k), k (..., keys, d_k), v (..., keys, d_v), mask True = may be looked at.

    Returns the output (..., queries, d_v).
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
    weights = scores.softmax(dim=-1)
    weights = weights * mask
    return weights @ v


# %%
x = torch.randn(6, 16)  # (tokens, width)
other = x.clone()
other[-1] = torch.randn(16)  # another last word
before = repaired_attention(x, x, x, causal_mask(6))
after = repaired_attention(other, other, other, causal_mask(6))
print("output of the first word unchanged:", torch.allclose(before[0], after[0]))

# %% tags=["check"]
lab.check("01.mask_bug", repaired_attention)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Print `weights.sum(dim=-1)` just before the last line. What should each row sum to?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The denominator of the softmax sums over *all* keys, hidden ones included. The hidden keys must be
# out before it is computed. Dividing by the new sum afterwards is not enough: try a hidden key
# with a score of 200.
#
# </details>

# %% [markdown]
# ### A query that may look at nothing
#
# If a row of the mask has no True, all its scores are $-\infty$, and the softmax divides 0 by 0. One
# NaN then spreads to all that follows. The library returns zeros for such a query.

# %%
x = torch.randn(3, 4)
nothing = causal_mask(3) & torch.tensor([False, True, True])  # the first token is hidden
print("written out: ", (x @ x.T).masked_fill(~nothing, -math.inf).softmax(dim=-1)[0])
print("the library: ", scaled_dot_product_attention(x, x, x, nothing)[1][0])

# %% [markdown]
# ## 6 · The same in PyTorch
#
# PyTorch has this formula built in, as one fused operation. Ours must agree with it, with and without
# a mask.

# %%
from torch.nn import functional as F

q, k, v = torch.randn(3, 2, 4, 10, 16, dtype=torch.float64)  # each (batch, heads, tokens, width)
for name, mask in {"no mask": None, "causal": causal_mask(10)}.items():
    ours, weights = scaled_dot_product_attention(q, k, v, mask)
    theirs = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert (ours - theirs).abs().max() < 1e-12
    print(
        f"{name}: equal to 12 decimals, output {tuple(ours.shape)}, weights {tuple(weights.shape)}"
    )


# %% [markdown]
# The fused operation does not return the weights: it never stores them, as section 9 shows.
#
# Masks are where libraries differ, and where silent mistakes are made. Before you pass a mask, look
# up what True means.
#
# | | paper | this course | `F.scaled_dot_product_attention` | `nn.MultiheadAttention` | `transformers` |
# |---|---|---|---|---|---|
# | mask says | hidden scores become $-\infty$ | `True` = may look | `True` = may look | `True` = may **not** look | `attention_mask`: 1 = may look |
# | numbers instead | no | no (use `bias`) | added to the scores | added to the scores | 0 and 1 only |
# | scale | $1/\sqrt{d_k}$ | the same | the same, or `scale=` | the same | the same for BERT |
# | query without a key | not said | zeros | zeros | NaN, or zeros without weights | all keys equally (eager) |
# | weights | - | yes | no | on request | `attn_implementation="eager"` |

# %% [markdown]
# ## 7 · How far can it look? (further)
#
# Before attention, sentences were read by *recurrent* networks, word after word. There, the first
# word reaches the hundredth through ninety-nine steps, and its gradient usually shrinks at each.
# Attention looks at every word directly, in one step. Does its gradient care about distance?
#
# Take a sequence of random vectors and one attention with random $W^Q$, $W^K$, $W^V$. How strongly
# does the *last* output react to the token at each distance? That is the gradient with respect to
# this token, of a random direction of the output.
#
# **Predict.** Draw the curve in your mind: gradient against distance.

# %%
def last_output_gradient(length, width=32, draws=200):
    """Median size of the last output's gradient with respect to each token: (length,)."""
    x = torch.randn(draws, length, width, requires_grad=True)
    w_q, w_k, w_v = torch.randn(3, width, width) / width**0.5
    output, _ = scaled_dot_product_attention((x @ w_q)[:, -1:], x @ w_k, x @ w_v)
    direction = F.normalize(torch.randn(draws, 1, width), dim=-1)
    (output * direction).sum().backward()
    return x.grad.norm(dim=-1).median(dim=0).values


lengths = [32, 128, 512]
gradients = {length: last_output_gradient(length) for length in lengths}

# %%
fig, ax = plt.subplots(figsize=(8, 3.6))
for length, gradient in gradients.items():
    distance = torch.arange(length - 1, 0, -1)  # the last token itself (distance 0) is left out
    ax.plot(distance, gradient[:-1], label=f"{length} tokens")
ax.set(
    xscale="log", yscale="log", ylim=(5e-4, 0.2), title="Gradient of the last output",
    xlabel="distance to the token (positions)", ylabel="median gradient norm",
)  # fmt: skip
ax.legend()
lab.show_figure(
    fig,
    "The lines are flat: a token 500 positions away counts as much as its neighbour. But longer "
    "sequences lie lower, since more tokens share one weight of 1.",
    "Line chart with logarithmic axes: median gradient norm against distance for sequences of 32, "
    "128 and 512 tokens. Each line is horizontal with some noise. The level falls by a factor of "
    "about four from each length to the next.",
)
for length, gradient in gradients.items():
    near, far = gradient[length // 2 : -1].median(), gradient[: length // 2].median()
    print(f"{length:3} tokens: far / near half {far / near:.1f}, mean gradient x tokens "
          f"{gradient[:-1].mean() * length:.1f}")  # fmt: skip

# %% [markdown]
# Distance does not matter; the number of tokens does, and only as $1/n$. A plain recurrent network
# loses a *factor* at each step, which is far worse. Lesson 04 puts RNNs, LSTMs and attention side by
# side, all at the start of training as here: that is claim C02, and this is its first half.

# %% [markdown]
# ## 8 · Read the real thing
#
# First the formula. You have written all of it, except `bias`: numbers that are added to the scores,
# which lesson 03 uses for positions. Then the layer that the Transformers of this course call. It
# takes PyTorch's fused operation, unless someone wants to see the weights.

# %%
lab.show_source(scaled_dot_product_attention)

# %%
from zoo_lessons.layers import DotProductAttention

lab.show_source(DotProductAttention)

# %% [markdown]
# ## 9 · What it costs
#
# Take one head with $n$ queries, $n$ keys, and width $d_k = d_v = d$. The formula has no parameters;
# its cost is computing and memory.
#
# - **Computing.** $QK^\top$ makes $n^2$ scores from $d$ multiplications and $d$ additions each:
#   $2 n^2 d$ operations (FLOPs). $AV$ takes as many again. Together $4 n^2 d$.
#   (The softmax adds a few per score, which we leave out: they do not grow with $d$.)
# - **Memory.** $Q$, $K$, $V$ and the output hold $4nd$ numbers. The weights hold $n^2$.
#
# Let PyTorch count: the operations of the formula as we wrote it, and the peak memory of it and of
# the fused operation.

# %%
from functools import partial

from torch.utils.flop_counter import FlopCounterMode

from zoo_lessons.bench import compare, fit_exponent, peak_memory

d, lengths = 64, [128, 256, 512, 1024, 2048]
forms = {"written out": scaled_dot_product_attention, "fused": F.scaled_dot_product_attention}
peak = {name: [] for name in forms}
for n in lengths:
    q, k, v = torch.randn(3, 1, 1, n, d)  # each (batch, heads, tokens, width)
    with FlopCounterMode(display=False) as counter:
        scaled_dot_product_attention(q, k, v)
    assert counter.get_total_flops() == 4 * n**2 * d
    for name, form in forms.items():
        peak[name].append(peak_memory(partial(form, q, k, v)))
    assert peak["written out"][-1] == 2 * 4 * n**2 + 4 * n * d  # bytes; 4 for each number
    print(f"n {n:4}: {4 * n**2 * d / 1e6:6.0f} MFLOP, {peak['written out'][-1] / 1e6:5.1f} MB")

# %% [markdown]
# Both counts are exact. The written-out form holds scores *and* weights at its peak, $2n^2$ numbers of
# 4 bytes, besides the output. Twice the length costs four times the operations, and close to four
# times the memory.
#
# The fused operation computes the weights in blocks and throws each block away, so it needs memory
# for the output and a few blocks only. Lesson 20 builds it.

# %% tags=["nbval-ignore-output"]
fig = lab.lines(
    {name: [size / 1e6 for size in sizes] for name, sizes in peak.items()},
    lengths,
    title="Peak memory of one head, d = 64",
    x_axis="tokens n",
    y_axis="MB",
    log="xy",
)
lab.show_figure(
    fig,
    "The written-out form grows with the square of the length; the fused form about in proportion "
    "to it, in steps, since its blocks grow with the length too.",
    "Line chart with logarithmic axes: megabytes against 128 to 2048 tokens. The written-out form "
    "rises in a steep straight line from 0.16 to 34. The fused form rises half as steeply and stays "
    "below 2.",
)
for name in forms:
    power, _ = fit_exponent(lengths, peak[name])
    print(f"{name:12} memory ~ n^{power:.1f}")

# %% [markdown]
# Now the clock. We time both forms at growing lengths and fit a straight line through the logarithms:
# its slope is the exponent $p$ in *time* $\sim n^p$.

# %% tags=["nbval-ignore-output"]
seconds = {name: [] for name in forms}
for n in lengths:
    q, k, v = torch.randn(3, 1, 1, n, d)
    calls = {name: partial(form, q, k, v) for name, form in forms.items()}
    times = compare(calls, rounds=5, target_seconds=0.005)
    for name in forms:
        seconds[name].append(min(times.seconds[name]))  # the run that was disturbed least

for name in forms:
    power, (low, high) = fit_exponent(lengths, seconds[name])
    print(f"{name:12} time ~ n^{power:.1f} (95 % interval {low:.1f} to {high:.1f})")

# %% [markdown]
# On a quiet machine both exponents approach 2 as $n$ grows: the fused operation saves memory and
# trips to memory, not operations. At small $n$ fixed costs count, so a fit over small lengths
# comes out lower; on a busy machine the interval is wide. Lesson 15 leaves out part of the $n^2$ scores
# to get below 2.

# %% [markdown]
# ## Quiz

# %%
lab.quiz("01")

# %% [markdown]
# ## Summary
#
# - Attention is a soft dictionary: scores $QK^\top$ say how well keys fit a query, the softmax turns
#   them into weights, and the output is the weighted mean of the values.
# - Scores of vectors of width $d_k$ have a standard deviation of $\sqrt{d_k}$. Divided by it, the
#   softmax starts soft and its gradient alive; without it, the typical gradient dies.
# - A mask sets hidden scores to $-\infty$ *before* the softmax. Padding masks hide filler, causal
#   masks hide the future.
# - Every token is one step away from every other, at a price of $4 n^2 d$ operations and, written
#   out, $n^2$ weights.
# - **Next:** [02 Multi-head attention](02_multi_head_attention.ipynb) runs several of these side by
#   side. **Read:** Vaswani et al. 2017, [Attention Is All You
#   Need](https://arxiv.org/abs/1706.03762), section 3.2.1 and its footnote 4 on the scale; Bahdanau
#   et al. 2014, [Neural Machine Translation by Jointly Learning to Align and
#   Translate](https://arxiv.org/abs/1409.0473), section 3.1, where attention began with additive
#   scores; Dao et al. 2022, [FlashAttention](https://arxiv.org/abs/2205.14135), section 3, for the
#   fused form.
