# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 13 · BLIP: solutions
#
# Solutions to the exercises of [13_blip](../13_blip.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/13_blip.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F13_blip.ipynb)

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

lab.begin("13")

# %% [markdown]
# ## Exercise 1 · Find the bug: who sees whom
#
# The faulty function puts the padding into the axis of the queries. It belongs into the axis of the
# keys.

# %%
import torch


def text_mask(attention_mask, causal):
    keys = attention_mask.bool()[:, None, None, :]  # (batch, 1, 1, length)
    length = attention_mask.shape[1]
    earlier = torch.ones(length, length, dtype=torch.bool).tril()
    return keys & earlier if causal else keys.expand(-1, 1, length, -1)


lab.check("13.text_mask", text_mask)

# %% [markdown]
# **Why it works.** A mask's last axis is the key, the token that is looked at. With the padding
# there, its column is `False` for every query. `keys & earlier` broadcasts to (batch, 1, length,
# length), and the axis of length 1 serves all heads.
#
# **Common mistakes.** To hide padding in *both* axes looks thorough, but then a padded query may
# see nothing at all, and a softmax over nothing is no number. Without `causal` nothing may look
# like a triangle: an encoder's first token reads the last. A triangle above the diagonal, or one
# without the diagonal, lets a token see the future, or not even itself.

# %% [markdown]
# ## Exercise 2 · Hard negatives
#
# A softmax over the texts that do not match.

# %%
import math


def negative_weights(logits_per_image, same):
    return logits_per_image.masked_fill(same, -math.inf).softmax(dim=1)


lab.check("13.negative_weights", negative_weights)

# %% [markdown]
# **Why it works.** $e^{-\infty} = 0$, so what matches gets no share, and the rest still sums to 1.
#
# **Common mistakes.** To mask *after* the softmax leaves rows that sum to less than 1. To mask with
# 0 does not hide anything: $e^0 = 1$. Who leaves out the diagonal only forgets that two images of a
# batch can have equal captions. And `argmax` in place of a draw always takes the hardest of all,
# which on the web is too often a true caption of another image.

# %% [markdown]
# ## Exercise 3 · The LM loss
#
# Position $t$ predicts token $t + 1$; padding is no target.

# %%
from torch.nn import functional as F


def caption_loss(logits, input_ids, attention_mask, label_smoothing):
    labels = input_ids.masked_fill(attention_mask == 0, -100)
    return F.cross_entropy(
        logits[:, :-1].flatten(0, 1),
        labels[:, 1:].flatten(),
        ignore_index=-100,
        label_smoothing=label_smoothing,
    )


lab.check("13.caption_loss", caption_loss)

# %% [markdown]
# **Why it works.** Cutting the last logits and the first label leaves as many of each, and lays
# every prediction beside the token that it should have named. The mask went into the labels before
# the cut, so it is cut with them. `cross_entropy` then averages over the targets that are left.
#
# **Common mistakes.** Without the shift each position is scored on the token that it has just read;
# the loss falls to nothing and the model cannot write. A mask that is cut at the other end counts
# the first padding token of each short text. A mean of the texts' means weighs a word of a short
# caption more than one of a long caption.

# %% [markdown]
# ## Exercise 4 · How many passes?
#
# The image is encoded once. The text is read once for ITC, three times for ITM, once for LM.

# %%
passes = (1, 5)
lab.check("13.passes", passes)


# %% [markdown]
# **Why it works.** What the image encoder makes does not depend on the text, so all losses share
# it. ITM judges $n$ pairs that match, $n$ images with a wrong text and $n$ texts with a wrong
# image: $3n$ texts.
#
# **Common mistakes.** (1, 3) forgets that ITM needs pairs that do not match, (1, 4) that it takes
# them both ways.

# %% [markdown]
# ## Exercise 5 · Re-rank the best
#
# Sort by cosine, then sort the first $k$ again by match.

# %%
def rerank(cosines, match_scores, k):
    best = cosines.argsort(descending=True)
    first, rest = best[:k], best[k:]
    return torch.cat([first[match_scores[first].argsort(descending=True)], rest])


lab.check("13.rerank", rerank)


# %% [markdown]
# **Why it works.** `match_scores[first]` are the scores of the best candidates, in the order of
# their cosines. Their argsort says which *places* of `first` come first, and indexing `first` turns
# places back into candidates.
#
# **Common mistakes.** Without that last step the result holds numbers from 0 to $k - 1$, which are
# places and no candidates. `match_scores[:k]` are scores of other candidates altogether. Adding
# both scores mixes a cosine with a log-odds; they have different scales.

# %% [markdown]
# ## Exercise 6 · Pseudo-labels
#
# Mix the labels, shared evenly among what matches, with the teacher's probabilities.

# %%
def soft_targets(same, teacher_logits, alpha):
    labels = same / same.sum(dim=1, keepdim=True)  # rows sum to 1
    return (1 - alpha) * labels + alpha * teacher_logits.softmax(dim=1)


lab.check("13.soft_targets", soft_targets)

# %% [markdown]
# **Why it works.** Both parts have rows that sum to 1, and so has a mixture with weights $1 -
# \alpha$ and $\alpha$.
#
# **Common mistakes.** Logits in place of probabilities make targets negative or larger than 1.
# `dim=0` lets each *text* distribute its 1 over the images; that is the target of the other
# direction. To use the teacher's first choice alone throws away its doubts, which were the point.
