# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 02 · Multi-head attention: solutions
#
# Solutions to the exercises of [02_multi_head_attention](../02_multi_head_attention.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/02_multi_head_attention.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F02_multi_head_attention.ipynb)

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
# ## Exercise 1 · Split heads
#
# Cut the last axis into heads, and move the heads in front of the length.

# %%
import torch


def split_heads(x, num_heads):
    batch, length, d_model = x.shape
    x = x.reshape(batch, length, num_heads, d_model // num_heads)
    return x.transpose(1, 2)  # (batch, num_heads, length, head_dim)


lab.check("02.split_heads", split_heads)

# %% [markdown]
# The features of one token stand next to each other in memory. So the last axis, and only it, may be
# cut: the first head_dim features of a token are head 0's. The exchange of axes comes after.
#
# The trap is `x.reshape(batch, num_heads, length, head_dim)`. It has the right shape, and it deals
# whole stretches of tokens to each head. Three tokens of four features show it:

# %%
x = torch.arange(12).reshape(1, 3, 4)
print("right, head 0:", split_heads(x, 2)[0, 0].tolist())
print("wrong, head 0:", x.reshape(1, 2, 3, 2)[0, 0].tolist())

# %%
lab.check("02.split_heads", lambda x, h: x.reshape(len(x), h, x.shape[1], x.shape[2] // h))

# %% [markdown]
# ## Exercise 2 · Multi-head attention by hand
#
# Project, split, attend, merge, mix.

# %%
from zoo_lessons.layers import scaled_dot_product_attention


def multi_head_attention(x, w_q, w_k, w_v, w_o, num_heads):
    q, k, v = (split_heads(x @ w, num_heads) for w in (w_q, w_k, w_v))
    heads, _ = scaled_dot_product_attention(q, k, v)  # (batch, heads, length, head_dim)
    merged = heads.transpose(1, 2).flatten(2)  # (batch, length, d_model)
    return merged @ w_o


lab.check("02.multi_head_attention", multi_head_attention)


# %% [markdown]
# The attention of lesson 01 works on the last two axes, so the heads ride along as one more batch
# axis. Its $\sqrt{d_k}$ uses the last axis, which is the width of one head.
#
# Common mistakes: a scale of $\sqrt{d_\text{model}}$, which makes all heads too soft; a forgotten
# $W^O$; and a merge without exchanging the axes first. The check tells them apart, because its inputs
# keep the softmax away from saturation:

# %%
def without_output_matrix(x, w_q, w_k, w_v, w_o, num_heads):
    return multi_head_attention(x, w_q, w_k, w_v, torch.eye(x.shape[-1]).to(x), num_heads)


lab.check("02.multi_head_attention", without_output_matrix)


# %% [markdown]
# ## Exercise 3 · Find the bug
#
# The heads must stand next to each other before they can be joined.

# %%
def merge_heads(heads):
    batch, num_heads, length, head_dim = heads.shape
    return heads.transpose(1, 2).reshape(batch, length, num_heads * head_dim)


lab.check("02.merge_heads", merge_heads)

# %% [markdown]
# The colleague's reshape read the numbers in the order (heads, length, head_dim), so a row of the
# result held several tokens of one head. No error is raised, because the number of elements fits. The
# layer even trains, since some information gets through. Give every token its own number to see the
# damage:

# %%
numbered = torch.arange(3).reshape(1, 1, 3, 1).expand(1, 2, 3, 2)  # 2 heads, 3 tokens
print("right:", merge_heads(numbered)[0].tolist())
print("wrong:", numbered.reshape(1, 3, 4)[0].tolist())

# %% [markdown]
# ## Exercise 4 · Find the head that looks one word back
#
# Score each head by the mean of the line below the diagonal, and take the largest.

# %%
from zoo_lessons.layers import record_attention
from zoo_lessons.weights import load_pretrained, load_tokenizer

model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")


def looks_back(maps):
    """Mean weight on the token before: (layers, heads, tokens, tokens) -> (layers, heads)."""
    return maps.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=-1)


sentences = ["The cat sat on the mat", "Rain fell all night on the roof", "Who left the door open"]
scores = torch.zeros(6, 12)
for sentence in sentences:
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([tokenizer.encode(sentence).ids]))
    scores += looks_back(maps.stack()[:, 0]) / len(sentences)
previous_word_head = divmod(scores.argmax().item(), 12)
print("(layer, head):", previous_word_head)

# %%
lab.check("02.previous_word_head", previous_word_head)

# %% [markdown]
# `offset=-1` takes the weights of query $i$ on key $i - 1$. Several sentences matter: in a single one
# a head may look back by chance.
#
# With `offset=+1` you find the head that looks one word *ahead*, and the check says so. It also
# recognises an answer counted from 1, and layer and head in the wrong order:

# %%
lab.check("02.previous_word_head", lambda maps: maps.diagonal(1, -2, -1).mean(dim=-1))


# %% [markdown]
# ## Exercise 5 · Count the parameters
#
# Four square matrices, four bias vectors.

# %%
def attention_parameters(d_model, num_heads, bias=True):
    weights = 4 * d_model * d_model
    return weights + (4 * d_model if bias else 0)


lab.check("02.count_parameters", attention_parameters)

# %% [markdown]
# $W^Q$ of one head has $d_\text{model} \times d_\text{model} / h$ numbers, and there are $h$ heads, so
# $h$ cancels out. The same holds for $W^K$ and $W^V$. $W^O$ is $d_\text{model} \times d_\text{model}$.
# Whoever writes $3 d^2$ has forgotten $W^O$; whoever multiplies by $h$ gives each head the full width.
