# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 12 · CLIP: solutions
#
# Solutions to the exercises of [12_clip](../12_clip.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/12_clip.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F12_clip.ipynb)

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

lab.begin("12")

# %%
import torch
from torch.nn import functional as F


# %% [markdown]
# ## Exercise 1 · Find the bug: where a text ends
#
# The highest id of a row is `[EOS]` only if `[EOS]` is the last entry of the vocabulary. Ask for the
# id itself.

# %%
def text_vectors(hidden, input_ids, eos_token_id):
    ends = (input_ids == eos_token_id).int().argmax(dim=-1)  # (batch,)
    return hidden[torch.arange(len(hidden)), ends]  # (batch, width)


lab.check("12.text_end", text_vectors)

# %% [markdown]
# `argmax` returns the first of several equal maxima, so padding with `[EOS]`, as CLIP's own tokenizer
# does, is harmless. The pair of indices picks one position per row. `hidden[:, ends]` would pick every
# end from every row, an error that the shape gives away:

# %%
lab.check("12.text_end", lambda hidden, ids, eos: hidden[:, (ids == eos).int().argmax(dim=-1)])


# %% [markdown]
# ## Exercise 2 · The symmetric loss
#
# Unit vectors, one product, divide by the temperature; then a classification of the rows and one of
# the columns.

# %%
def symmetric_loss(image_features, text_features, temperature):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    logits = images @ texts.T / temperature  # (images, texts)
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


lab.check("12.symmetric_loss", symmetric_loss)


# %% [markdown]
# A loss of rows only trains, too, and its curve looks just as good. That makes it a mistake that
# lives long. So does multiplying by the temperature: with 0.07 the softmax becomes so flat that the
# loss hardly leaves $\log n$.

# %%
def one_sided(image_features, text_features, temperature):
    images = F.normalize(image_features, dim=-1)
    texts = F.normalize(text_features, dim=-1)
    return F.cross_entropy(images @ texts.T / temperature, torch.arange(len(images)))


lab.check("12.symmetric_loss", one_sided)


# %% [markdown]
# ## Exercise 3 · Targets for equal captions
#
# A table of matches, each row divided by its sum.

# %%
def soft_targets(captions):
    same = torch.tensor([[float(one == other) for other in captions] for one in captions])
    return same / same.sum(dim=1, keepdim=True)  # (n, n), rows sum to 1


lab.check("12.soft_targets", soft_targets)

# %% [markdown]
# Without `keepdim` the sums have the shape (n,), and broadcasting divides *columns* by them. Here that
# gives the same numbers, since "equal" is symmetric: a mistake that waits for a table that is not.
# Ones that are not shared make the loss grow with the number of twins:

# %%
lab.check(
    "12.soft_targets",
    lambda captions: torch.tensor([[float(a == b) for b in captions] for a in captions]),
)


# %% [markdown]
# ## Exercise 4 · A prompt ensemble
#
# Average over the prompts, then bring the mean back to length 1.

# %%
def ensemble(prompt_embeds):
    return F.normalize(prompt_embeds.mean(dim=1), dim=-1)  # (classes, width)


lab.check("12.class_vectors", ensemble)

# %% [markdown]
# The more the prompts of a class disagree, the shorter their mean. Left so, such a class would lose
# against others by length alone, not by direction.

# %%
lab.check("12.class_vectors", lambda prompt_embeds: prompt_embeds.mean(dim=1))


# %% [markdown]
# ## Exercise 5 · Recall at k
#
# The best `k` answers of each query, and whether the right one is among them.

# %%
def recall_at_k(cosines, k):
    best = cosines.topk(k, dim=1).indices  # (queries, k)
    right = torch.arange(len(cosines))[:, None]  # (queries, 1)
    return (best == right).any(dim=1).float().mean().item()


lab.check("12.recall_at_k", recall_at_k)

# %% [markdown]
# Rows are the queries. Reading the columns answers the opposite question: on a symmetric-looking
# matrix the two figures are close, which hides the mistake.

# %%
lab.check("12.recall_at_k", lambda cosines, k: recall_at_k(cosines.T, k))
