# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 21 · Serving: solutions
#
# Solutions to the exercises of [21_serving](../21_serving.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/21_serving.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F21_serving.ipynb)

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

lab.begin("21")

# %%
import hashlib
import json

import numpy as np
import torch


# %% [markdown]
# ## Exercise 1 · A batch of texts of unlike length
#
# Each text has its own tokens, and its own number to divide by.

# %%
def text_vectors(hidden, lengths):
    return torch.stack([h[:n].mean(dim=0) for h, n in zip(hidden, lengths, strict=True)])


lab.check("21.text_vectors", text_vectors)

# %% [markdown]
# The mean over the whole width takes padding in. On a service that is worse than a constant error:
# the same text gets another vector whenever a longer one happens to share its batch, and no test of
# single texts finds it.

# %%
lab.check("21.text_vectors", lambda hidden, lengths: hidden.mean(dim=1))


# %% [markdown]
# Without a loop, with a mask, as the library does it:

# %%
def text_vectors_at_once(hidden, lengths):
    lengths = torch.tensor(lengths)[:, None]  # (batch, 1)
    mask = torch.arange(hidden.shape[1]) < lengths  # (batch, longest)
    return (hidden * mask[:, :, None]).sum(dim=1) / lengths


lab.check("21.text_vectors", text_vectors_at_once)


# %% [markdown]
# ## Exercise 2 · Find the bug: the batch is full, and waits
#
# The batch is full when request number `max_batch` is there. It then starts at once, but not before
# the replica is free.

# %%
def next_batch(arrivals, free, window, max_batch):
    opened = max(free, arrivals[0])
    start = opened + window
    if len(arrivals) >= max_batch:
        start = min(start, max(opened, arrivals[max_batch - 1]))
    return start, sum(time <= start for time in arrivals[:max_batch])


lab.check("21.next_batch", next_batch)


# %% [markdown]
# The faulty version waits for the whole window even if sixteen requests lie ready: under heavy load
# every batch is full, so every request pays the window for nothing. A repair that forgets
# `max(opened, ...)` starts a batch in the past, while the replica still computes the one before.

# %%
def starts_in_the_past(arrivals, free, window, max_batch):
    start = max(free, arrivals[0]) + window
    if len(arrivals) >= max_batch:
        start = min(start, arrivals[max_batch - 1])
    return start, sum(time <= start for time in arrivals[:max_batch])


lab.check("21.next_batch", starts_in_the_past)


# %% [markdown]
# ## Exercise 3 · How long did the user wait?
#
# One number carries the queue: when the sender is free again.

# %%
def waits(intended, seconds):
    found, free = [], 0.0
    for due, takes in zip(intended, seconds, strict=True):
        free = max(due, free) + takes
        found.append(free - due)
    return found


lab.check("21.waits", waits)

# %% [markdown]
# What a closed loop writes down is `seconds` alone. After a stall of 1.5 s it shows one slow
# request. The users who were due meanwhile waited, too:

# %%
intended, seconds = [0.0, 0.5, 1.0, 1.5], [0.1, 1.5, 0.1, 0.1]
print("written down:", seconds)
print("waited:      ", [round(wait, 1) for wait in waits(intended, seconds)])
lab.check("21.waits", lambda intended, seconds: seconds)


# %% [markdown]
# ## Exercise 4 · The 99th percentile of a service
#
# Pool all latencies, then take the percentile.

# %%
def p99(latencies):
    return float(np.percentile([wait for one in latencies for wait in one], 99))


lab.check("21.p99", p99)

# %% [markdown]
# Percentiles cannot be averaged, weighted or not: the slowest 1 % of all requests may come from one
# replica alone. That is why Prometheus keeps *buckets*: counts can be added over replicas, and a
# percentile can be taken from the sums.

# %%
lab.check("21.p99", lambda latencies: float(np.mean([np.percentile(one, 99) for one in latencies])))


# %% [markdown]
# ## Exercise 5 · The key of a cached prediction
#
# Everything that the answer depends on belongs into the key, in a form that is the same everywhere.

# %%
def cache_key(model, version, value):
    text = json.dumps(value, sort_keys=True)
    return f"{model}:{version}:{hashlib.sha256(text.encode()).hexdigest()}"


lab.check("21.cache_key", cache_key)

# %% [markdown]
# Python's `hash` of a text is another one in each process, on purpose: otherwise attackers could
# send texts that all collide. In the next process the cache would seem empty. Without the version,
# users would get yesterday's model's answers:

# %%
lab.check(
    "21.cache_key",
    lambda model, version, value: f"{model}:{cache_key(model, version, value).split(':')[2]}",
)


# %% [markdown]
# ## Exercise 6 · Ask again, but not for ever
#
# The last attempt stands outside of `try`, so that its error reaches the caller.

# %%
def answer_or_retry(ask, retries, idempotent):
    for _ in range(retries if idempotent else 0):
        try:
            return ask()
        except ConnectionError:
            continue
    return ask()


lab.check("21.answer_or_retry", answer_or_retry)


# %% [markdown]
# Only `ConnectionError` says that another replica may do better. Catching everything asks every
# replica to fail in turn, and hides from the user what was wrong with the request. (The library's
# router waits a moment before it asks again, and longer each time.)

# %%
def retries_everything(ask, retries, idempotent):
    for _ in range(retries):
        try:
            return ask()
        except ConnectionError:
            continue
    return ask()


lab.check("21.answer_or_retry", retries_everything)


# %% [markdown]
# ## Exercise 7 · A canary's share
#
# Normalise, go through the versions by name, add up.

# %%
def choose_version(weights, place):
    total, end = sum(weights.values()), 0.0
    for version in sorted(weights):
        end += weights[version] / total
        if place < end:
            return version
    return max(version for version, weight in weights.items() if weight > 0)


lab.check("21.choose_version", choose_version)


# %% [markdown]
# The last line is for rounding: the shares may add up to a little less than 1. Without normalising,
# weights of 3 and 1 send everybody to the first version:

# %%
def not_normalised(weights, place):
    end = 0.0
    for version in sorted(weights):
        end += weights[version]
        if place < end:
            return version
    return max(weights)


lab.check("21.choose_version", not_normalised)


# %% [markdown]
# ## Exercise 8 · 48 tests at once
#
# Divide alpha by the number of tests.

# %%
def drift_decision(p_values, alpha):
    threshold = alpha / len(p_values)
    return min(p_values) < threshold, threshold


lab.check("21.drift_decision", drift_decision)

# %% [markdown]
# If nothing has changed, p-values are spread evenly between 0 and 1. Of 48 *independent* ones, at
# least one lies below 0.01 with probability:

# %%
print(f"{1 - 0.99**48:.0%}")
lab.check("21.drift_decision", lambda p_values, alpha: (min(p_values) < alpha, alpha))

# %% [markdown]
# The lesson found fewer false alarms than that without the correction, because the dimensions of a
# model's vector are not independent. Bonferroni's bound holds all the same.
