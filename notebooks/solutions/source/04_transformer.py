# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 04 · The Transformer: solutions
#
# Solutions to the exercises of [04_transformer](../04_transformer.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/04_transformer.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F04_transformer.ipynb)

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

lab.begin("04")

# %%
import torch


# %% [markdown]
# ## Exercise 1 · LayerNorm
#
# Normalise each token over its own numbers, then scale and shift.

# %%
def layer_norm(x, gain, bias, eps=1e-5):
    mean = x.mean(dim=-1, keepdim=True)  # (batch, tokens, 1)
    variance = x.var(dim=-1, keepdim=True, unbiased=False)  # (batch, tokens, 1)
    return (x - mean) / torch.sqrt(variance + eps) * gain + bias


lab.check("04.layer_norm", layer_norm)

# %% [markdown]
# `dim=-1` is the axis of one token's numbers, and `keepdim=True` lets the mean be subtracted from
# each of them. The variance divides by $d$: LayerNorm describes the numbers that are there. With
# PyTorch's default, which divides by $d - 1$, the check says so: for $d = 6$ the results differ by
# 9 %, and models with pretrained weights would drift a little in every layer.

# %%
lab.check(
    "04.layer_norm",
    lambda x, gain, bias, eps=1e-5: (
        (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, keepdim=True) + eps) * gain + bias
    ),
)


# %% [markdown]
# ## Exercise 2 · An encoder block
#
# Add, then normalise, twice.

# %%
def post_norm_block(x, attention, feed_forward, norm1, norm2):
    x = norm1(x + attention(x))
    return norm2(x + feed_forward(x))


lab.check("04.post_norm_block", post_norm_block)


# %% [markdown]
# The second line starts from the new `x`. That is the point of a residual: each sub-layer corrects
# what stands there already. The most common slip is the pre-norm block, which also trains well, so
# nobody notices until pretrained weights give nonsense:

# %%
def pre_norm_block(x, attention, feed_forward, norm1, norm2):
    x = x + attention(norm1(x))
    return x + feed_forward(norm2(x))


lab.check("04.post_norm_block", pre_norm_block)


# %% [markdown]
# ## Exercise 3 · Teacher forcing
#
# Inputs lose their last column, labels their first; padding is no label.

# %%
def teacher_forcing(target_ids):
    decoder_input_ids = target_ids[:, :-1]
    labels = target_ids[:, 1:].masked_fill(target_ids[:, 1:] == 0, -100)
    return decoder_input_ids, labels


lab.check("04.teacher_forcing", teacher_forcing)

# %% [markdown]
# The last column can go because nothing follows the last token, and the first because nobody has to
# predict `[BOS]`. `[EOS]` stays a label, otherwise the model never learns to stop. Without the shift
# the loss looks wonderful, because the decoder sees each answer and copies it:

# %%
lab.check("04.teacher_forcing", lambda ids: (ids, ids.masked_fill(ids == 0, -100)))


# %% [markdown]
# ## Exercise 4 · Find the bug: fine alone, wrong in company
#
# The cross-attention looked at padding. Give the mask to `decode` too.

# %%
def next_token_logits(model, input_ids, attention_mask, decoder_input_ids):
    memory = model.encode(input_ids, attention_mask)  # (batch, English, d_model)
    hidden = model.decode(decoder_input_ids, memory, attention_mask)  # (batch, French, d_model)
    return model.logits(hidden[:, -1])  # (batch, French vocabulary)


lab.check("04.padding_bug", next_token_logits)


# %% [markdown]
# The encoder's mask keeps real tokens from reading padding. It does not remove the padding's own
# vectors from the memory, and the cross-attention read those. A batch of one has no padding, so the
# bug hides in exactly the test that one writes first. Moving the mask from the encoder to the
# decoder only moves the leak:

# %%
def mask_in_decoder_only(model, input_ids, attention_mask, decoder_input_ids):
    hidden = model.decode(decoder_input_ids, model.encode(input_ids), attention_mask)
    return model.logits(hidden[:, -1])


lab.check("04.padding_bug", mask_in_decoder_only)
