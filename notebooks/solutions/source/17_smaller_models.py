# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 17 · Smaller models: solutions
#
# Solutions to the exercises of [17_smaller_models](../17_smaller_models.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/17_smaller_models.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F17_smaller_models.ipynb)

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

lab.begin("17")

# %% [markdown]
# ## Exercise 1 · Soft targets
#
# T² times the divergence of the student from the teacher, both softened.

# %%
import torch
from torch import nn
from torch.nn import functional as F


def soft_target_loss(student_logits, teacher_logits, temperature):
    student = (student_logits / temperature).log_softmax(dim=-1)
    teacher = (teacher_logits / temperature).log_softmax(dim=-1)
    divergence = (teacher.exp() * (teacher - student)).sum(dim=-1)  # (batch)
    return temperature**2 * divergence.mean()


lab.check("17.soft_targets", soft_target_loss)


# %% [markdown]
# **Why it works.** `log_softmax` gives the logarithms directly, without the overflow that a
# logarithm of a softmax may meet. Their difference, weighted with the teacher's probabilities, is
# the divergence of each example. `F.kl_div(student, teacher, reduction="batchmean",
# log_target=True)` is the same; mind that it wants the *student first*, and as logarithms.
#
# **Common mistakes.** With the two sides exchanged the loss is still 0 for a perfect student, so a
# test on equal logits does not find the mistake; the check's unequal ones do. A temperature on one
# side only shows at once on equal logits: the loss is not 0. Without T² training runs, and the soft
# targets count for less, the higher the temperature.

# %% [markdown]
# ## Exercise 2 · Which layers to compare
#
# For each student layer, the last of the teacher's layers that it replaces.

# %%
def matching_layers(teacher_layers, student_layers):
    step = teacher_layers // student_layers  # teacher layers for one student layer
    return [step * (i + 1) - 1 for i in range(student_layers)]


lab.check("17.matching_layers", matching_layers)
print(matching_layers(6, 3), matching_layers(12, 4))


# %% [markdown]
# **Why it works.** After its layer $i$, counted from 0, the student has done $i + 1$ of its steps,
# and the teacher the same share of its way after $\text{step} \cdot (i + 1)$ layers, the last of
# which has the number $\text{step} \cdot (i + 1) - 1$.
#
# **Common mistakes.** 0, 2, 4 is the answer to another question: which layers to *copy* at the
# start. For the comparison it comes a layer too early, and the teacher's last layer, on which its
# answer rests, would never be looked at. The teacher's last layers, 3, 4, 5, ask the student's
# first layer to do in one step what takes the teacher four.

# %% [markdown]
# ## Exercise 3 · A loss for features
#
# One minus the cosine, over real tokens.

# %%
def feature_loss(student, teacher, attention_mask):
    distance = 1 - F.cosine_similarity(student, teacher, dim=-1)  # (batch, length)
    return distance[attention_mask.bool()].mean()


lab.check("17.feature_loss", feature_loss)


# %% [markdown]
# **Why it works.** The cosine runs over the last axis, the width, and leaves one number a token.
# Indexing with a Boolean keeps the real tokens of all texts in one row, so each counts once.
#
# **Common mistakes.** To multiply the distances by the mask and then take `mean()` divides by the
# padding, too: a batch with a long text would have a smaller loss. To mask the *states* is worse,
# because the cosine of two zero vectors is 0, and its distance 1.

# %% [markdown]
# ## Exercise 4 · Patience
#
# Count confirmations in a row; leave when there are enough.

# %%
def exit_layers(predictions, patience):
    layers, batch = predictions.shape
    left = torch.full((batch,), layers)
    for i in range(batch):
        confirmed = 0
        for layer in range(1, layers):
            same = predictions[layer, i] == predictions[layer - 1, i]
            confirmed = confirmed + 1 if same else 0
            if confirmed >= patience:
                left[i] = layer + 1
                break
    return left


lab.check("17.patience", exit_layers)


# %% [markdown]
# **Why it works.** `left` starts with "all layers", so an example that never settles needs no case
# of its own. `layer` counts from 0, so an example that leaves there has used `layer + 1` layers.
#
# **Common mistakes.** Without the reset, two confirmations far apart count as two in a row. Without
# `break`, the last such layer wins instead of the first. To decide once for the batch is a mistake
# of another kind: the answer to one text would depend on its neighbours.

# %% [markdown]
# ## Exercise 5 · Find the bug: one answer for the whole batch
#
# The mean over the batch decides for all. Each example must decide for itself.

# %%
def confident_exits(layer_logits, confidence):
    sure = layer_logits.softmax(dim=-1).amax(dim=-1) >= confidence  # (layers, batch)
    sure[-1] = True  # whoever is never sure leaves after the last layer
    return sure.int().argmax(dim=0) + 1


lab.check("17.batch_exit", confident_exits)


# %% [markdown]
# **Why it works.** `argmax` of zeros and ones gives the first 1 in each column. The last row is set
# to True, so that there is one.
#
# **Common mistakes.** `all()` and `any()` in place of the mean have the same flaw: one decision for
# everybody. Without the last row, `argmax` of a column of zeros is 0, and the least sure examples
# would leave first. With batches of one the bug does not show, which is how it gets through tests.

# %% [markdown]
# ## Exercise 6 · Share the attention
#
# Let all layers refer to the first one's module, and count what is left.

# %%
def shared_attention(make_layer, num_layers):
    layers = nn.ModuleList(make_layer() for _ in range(num_layers))
    for layer in layers[1:]:
        layer.attention = layers[0].attention
    return sum(p.numel() for p in layers.parameters())


lab.check("17.share_attention", shared_attention)

# %% [markdown]
# **Why it works.** Assigning a module makes both layers hold the same object, with the same
# parameters. `parameters()` of the list gives each of them once.
#
# **Common mistakes.** `copy.deepcopy` and `load_state_dict` make the numbers *equal*, not the same:
# the first step of training drives them apart, and none is saved. Whoever sums over
# `layer.parameters()` of each layer counts the shared ones again and again. Assigning only
# `layer.attention.qkv` leaves each layer its own $W^O$.
