# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 06 · GPT: generation: solutions
#
# Solutions to the exercises of [06_gpt](../06_gpt.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/06_gpt.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F06_gpt.ipynb)

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

lab.begin("06")

# %%
import math

import torch
from torch.nn import functional as F


# %% [markdown]
# ## Exercise 1 · The loss of a language model
#
# Logits lose their last column, targets their first; the mask goes with the targets.

# %%
def next_token_loss(logits, input_ids, attention_mask):
    real = attention_mask[:, 1:].bool()  # (batch, length - 1): is the target a token?
    return F.cross_entropy(logits[:, :-1][real], input_ids[:, 1:][real])


lab.check("06.next_token_loss", next_token_loss)

# %% [markdown]
# Indexing with a Boolean mask lists the positions that count, so the mean is over real targets only.
# The mask is cut like the targets: with `attention_mask[:, :-1]` the last real token of each text
# would be trained to predict padding. Without any shift the model sees the answer and copies it:

# %%
lab.check(
    "06.next_token_loss",
    lambda logits, ids, mask: F.cross_entropy(logits[mask.bool()], ids[mask.bool()]),
)


# %% [markdown]
# ## Exercise 2 · Perplexity of a test set
#
# Sum over all tokens, divide once, take the exponential last.

# %%
def perplexity(batches):
    total = sum((losses * mask).sum().item() for losses, mask in batches)
    tokens = sum(mask.sum().item() for _, mask in batches)
    return math.exp(total / tokens)


lab.check("06.perplexity", perplexity)


# %% [markdown]
# The last batch of a test set is usually smaller than the others. A mean of the batches' means counts
# its tokens more than the rest, and the figure depends on the batch size. Averaging the perplexities
# themselves is worse: the exponential lets one bad batch rule.

# %%
def mean_of_perplexities(batches):
    each = [math.exp((losses * mask).sum() / mask.sum()) for losses, mask in batches]
    return sum(each) / len(each)


lab.check("06.perplexity", mean_of_perplexities)


# %% [markdown]
# ## Exercise 3 · Temperature
#
# Divide before the softmax; zero is a case of its own.

# %%
def with_temperature(logits, temperature):
    if temperature == 0:
        return F.one_hot(logits.argmax(dim=-1), logits.shape[-1]).to(logits.dtype)
    return (logits / temperature).softmax(dim=-1)


lab.check("06.temperature", with_temperature)

# %% [markdown]
# As $\tau$ falls, the differences between logits grow, and the largest takes everything; as it rises,
# they vanish, and all tokens become equally likely. Dividing by zero gives NaN or infinity, so 0 needs
# its own line. Dividing the *probabilities* does nothing once they are made to sum to 1 again:

# %%
lab.check(
    "06.temperature",
    lambda logits, tau: (
        with_temperature(logits, 0)
        if tau == 0
        else F.normalize(logits.softmax(dim=-1) / tau, p=1, dim=-1)
    ),
)


# %% [markdown]
# ## Exercise 4 · Top-p
#
# A token goes if the likelier ones have reached $p$ without it.

# %%
def top_p(logits, p):
    ordered, order = logits.sort(dim=-1, descending=True)
    probability = ordered.softmax(dim=-1)  # (batch, vocabulary), falling
    before = probability.cumsum(dim=-1) - probability  # the sum of the likelier tokens
    dropped = before >= p  # in sorted order; the next line brings it to the vocabulary's
    dropped = torch.zeros_like(dropped).scatter(-1, order, dropped)
    return logits.masked_fill(dropped, -math.inf)


lab.check("06.top_p", top_p)


# %% [markdown]
# The sum *before* a token decides, not the sum with it. So the token that crosses $p$ stays, and the
# likeliest always does: nothing comes before it. With `cumsum > p` instead, a token with probability
# 0.9 would be dropped at $p = 0.8$, and nothing would be left to draw.

# %%
def drops_the_crossing_token(logits, p):
    ordered, order = logits.sort(dim=-1, descending=True)
    above = ordered.softmax(dim=-1).cumsum(dim=-1) > p
    dropped = torch.zeros_like(above).scatter(-1, order, above)
    return logits.masked_fill(dropped, -math.inf)


lab.check("06.top_p", drops_the_crossing_token)


# %% [markdown]
# ## Exercise 5 · One step of beam search
#
# One list of candidates, sorted once. Finished beams enter it unchanged.

# %%
def beam_step(beams, log_probabilities, num_beams):
    candidates = []
    for tokens, score in beams:
        if tokens[-1] == 0:
            candidates.append((tokens, score))
            continue
        for token, value in enumerate(log_probabilities(tokens).tolist()):
            candidates.append(((*tokens, token), score + value))
    return sorted(candidates, key=lambda beam: beam[1], reverse=True)[:num_beams]


lab.check("06.beam_step", beam_step)


# %% [markdown]
# Scores add, because logarithms of factors add. All beams compete in one list, so one beam may have
# several successors and another none. The likely slip is to extend each beam by its own best token:
# that is greedy search from several starts.

# %%
def each_beam_alone(beams, log_probabilities, num_beams):
    best = []
    for tokens, score in beams:
        if tokens[-1] != 0:
            value, token = log_probabilities(tokens).max(dim=-1)
            tokens, score = (*tokens, token.item()), score + value.item()
        best.append((tokens, score))
    return sorted(best, key=lambda beam: beam[1], reverse=True)[:num_beams]


lab.check("06.beam_step", each_beam_alone)

# %% [markdown]
# ## Exercise 6 · Find the bug: the cache that drifts
#
# After $n$ tokens, at positions 0 to $n - 1$, the next position is $n$: `cache.length`, without the
# `+ 1`.

# %%
from zoo_lessons.layers import KeyValueCache


def logits_with_cache(model, prompt_ids, new_ids):
    cache = KeyValueCache(model.config.num_layers)
    logits = [model(prompt_ids, cache=cache).logits[:, -1]]
    for step in range(new_ids.shape[1]):
        position_ids = torch.full((len(new_ids), 1), cache.length)  # before the call adds its token
        output = model(new_ids[:, step : step + 1], position_ids=position_ids, cache=cache)
        logits.append(output.logits[:, -1])
    return torch.stack(logits, dim=1)


lab.check("06.cache_position", logits_with_cache)


# %% [markdown]
# The bug is easy to overlook: one position too far hardly changes the logits of a trained model, no
# error is raised, and the text still reads well at first. Only the comparison with recomputation finds
# it. `GPT` counts on from the cache by itself when no positions are given. Counting only the new tokens
# is the other likely slip:

# %%
def counts_new_tokens_only(model, prompt_ids, new_ids):
    cache = KeyValueCache(model.config.num_layers)
    logits = [model(prompt_ids, cache=cache).logits[:, -1]]
    for step in range(new_ids.shape[1]):
        position_ids = torch.full((len(new_ids), 1), step)
        output = model(new_ids[:, step : step + 1], position_ids=position_ids, cache=cache)
        logits.append(output.logits[:, -1])
    return torch.stack(logits, dim=1)


lab.check("06.cache_position", counts_new_tokens_only)
