# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 08 · Fine-tuning BERT: solutions
#
# Solutions to the exercises of [08_fine_tuning_bert](../08_fine_tuning_bert.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/08_fine_tuning_bert.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F08_fine_tuning_bert.ipynb)

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

lab.begin("08")

# %%
import copy
from collections import Counter

import torch
from torch.nn import functional as F

from zoo_lessons.question_answering import normalise_answer


# %% [markdown]
# ## Exercise 1 · Mean pooling
#
# Sum the vectors of the real tokens, and divide by how many there are.

# %%
def mean_pool(hidden, attention_mask):
    mask = attention_mask[..., None].to(hidden.dtype)  # (batch, tokens, 1)
    return (hidden * mask).sum(dim=1) / mask.sum(dim=1)  # (batch, d_model)


lab.check("08.mean_pool", mean_pool)

# %% [markdown]
# `[..., None]` turns (batch, tokens) into (batch, tokens, 1), so that one mask value multiplies all
# $d$ numbers of a token. The common slip divides by the padded length. Then a text's vector depends
# on the longest text of its batch:

# %%
lab.check("08.mean_pool", lambda hidden, mask: (hidden * mask[..., None]).mean(dim=1))


# %% [markdown]
# ## Exercise 2 · Find the bug: a frozen encoder that trembles
#
# `train()` switches dropout on, in a frozen encoder too. It has to be in evaluation mode all the time.

# %%
def train_head(encoder, head, inputs, labels, lr, steps):
    encoder, head = copy.deepcopy(encoder).eval(), copy.deepcopy(head)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr)
    with torch.no_grad():
        cls = encoder(inputs).last_hidden_state[:, 0]  # (batch, d_model)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(head(cls), labels).backward()
        optimizer.step()
    return head(cls).detach()


lab.check("08.frozen_bug", train_head)


# %% [markdown]
# One word repairs it: `.eval()` in place of `.train()`. Once the vectors are always the same, they
# need to be computed only once, before the loop, and without a graph for the gradient. That is the
# other reward of freezing: each further step costs next to nothing.
#
# Three switches are easily mixed up. `requires_grad_(False)` stops gradients, leaving weights out of
# the optimizer stops updates, and `eval()` stops dropout. Calling it only before the last line leaves
# the head trained on noise:

# %%
def eval_too_late(encoder, head, inputs, labels, lr, steps):
    encoder, head = copy.deepcopy(encoder).train(), copy.deepcopy(head)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(head(encoder(inputs).last_hidden_state[:, 0]), labels).backward()
        optimizer.step()
    return head(encoder.eval()(inputs).last_hidden_state[:, 0]).detach()


lab.check("08.frozen_bug", eval_too_late)


# %% [markdown]
# ## Exercise 3 · The best span
#
# Search all legal pairs. The score to beat at the start is that of [CLS], plus the threshold.

# %%
def choose_span(start_logits, end_logits, in_passage, max_tokens, threshold):
    best, score = (0, 0), start_logits[0] + end_logits[0] + threshold
    for i in range(len(start_logits)):
        for j in range(i, min(i + max_tokens, len(start_logits))):
            here = start_logits[i] + end_logits[j]
            if in_passage[i] and in_passage[j] and here > score:
                best, score = (i, j), here
    return best


lab.check("08.choose_span", choose_span)


# %% [markdown]
# `range(i, i + max_tokens)` holds exactly the ends of spans with 1 to `max_tokens` tokens. Starting
# from the score of [CLS] deals with "no answer" without a special case. The tempting shortcut takes
# the best start first and the best end after it. It is faster, and it misses a pair whose start is
# only second best:

# %%
def greedy_span(start_logits, end_logits, in_passage, max_tokens, threshold):
    i = start_logits.masked_fill(~in_passage, -torch.inf).argmax().item()
    ends = [j for j in range(i, min(i + max_tokens, len(start_logits))) if in_passage[j]]
    j = max(ends, key=lambda place: end_logits[place])
    beats = start_logits[i] + end_logits[j] > start_logits[0] + end_logits[0] + threshold
    return (i, j) if beats else (0, 0)


lab.check("08.choose_span", greedy_span)


# %% [markdown]
# ## Exercise 4 · F1 of an answer
#
# Count the common words as bags, then take the harmonic mean of precision and recall.

# %%
def answer_f1(predicted, right):
    predicted, right = normalise_answer(predicted).split(), normalise_answer(right).split()
    if not predicted or not right:
        return float(predicted == right)
    common = (Counter(predicted) & Counter(right)).total()
    if common == 0:
        return 0.0
    precision, recall = common / len(predicted), common / len(right)
    return 2 * precision * recall / (precision + recall)


lab.check("08.answer_f1", answer_f1)


# %% [markdown]
# `Counter & Counter` takes the smaller count of each word: *New York New York* has only one *York* in
# common with *New York New Jersey*. Two empty answers agree, so they score 1; this line decides about
# all unanswerable questions. With sets, a word that is said twice counts once:

# %%
def f1_of_sets(predicted, right):
    predicted, right = (set(normalise_answer(text).split()) for text in (predicted, right))
    if not predicted or not right:
        return float(predicted == right)
    return 2 * len(predicted & right) / (len(predicted) + len(right))


lab.check("08.answer_f1", f1_of_sets)


# %% [markdown]
# ## Exercise 5 · One label for a word in pieces
#
# The first piece carries its word's label; everything else is left out of the loss.

# %%
def align_labels(word_ids, labels):
    aligned, before = [], None
    for word in word_ids:
        is_first = word is not None and word != before
        aligned.append(labels[word] if is_first else -100)
        before = word
    return aligned


lab.check("08.align_labels", align_labels)

# %% [markdown]
# `before` starts as None, so [CLS] and [SEP], whose word is None, are never first pieces. A common
# mistake is to give the later pieces the label 0. That trains the model to end every entity inside
# its words, and the check says so:

# %%
lab.check(
    "08.align_labels",
    lambda word_ids, labels: [
        -100 if word is None else label if label != -100 else 0
        for word, label in zip(word_ids, align_labels(word_ids, labels), strict=True)
    ],
)


# %% [markdown]
# ## Exercise 6 · From tags to entities
#
# A B- tag opens a span. An I- tag lengthens the last span if the type is the same and nothing lies
# between.

# %%
def entity_spans(tags):
    spans = []
    for place, tag in enumerate(tags):
        prefix, _, name = tag.partition("-")
        if prefix == "B":
            spans.append((name, place, place + 1))
        elif prefix == "I" and spans and spans[-1][0] == name and spans[-1][2] == place:
            spans[-1] = (name, spans[-1][1], place + 1)
    return spans


lab.check("08.entity_spans", entity_spans)


# %% [markdown]
# No span is ever "open", so none can be lost at the end of the sentence: each I- tag writes its end
# at once. Many scripts let an I- tag start an entity when no B- tag came before. That is kinder to a
# tagger that makes illegal steps, and figures from such a script cannot be compared with ours.

# %% [markdown]
# ## Exercise 7 · The log-partition of a CRF
#
# One step adds the transitions, sums over the earlier tag in logarithms, and adds the emissions.

# %%
def log_partition(emissions, transitions, start, end, mask):
    scores = start + emissions[:, 0]  # (batch, tags)
    for t in range(1, emissions.shape[1]):
        paths = scores[:, :, None] + transitions  # (batch, from, to)
        longer = paths.logsumexp(dim=1) + emissions[:, t]  # (batch, tags)
        scores = torch.where(mask[:, t, None], longer, scores)
    return (scores + end).logsumexp(dim=1)


lab.check("08.log_partition", log_partition)


# %% [markdown]
# `scores[:, :, None]` stands along the rows of `transitions`, which are the tags *from* which a step
# goes, so the sum runs over axis 1. Summed over axis 2, the result has the right shape and is wrong:

# %%
def over_the_wrong_axis(emissions, transitions, start, end, mask):
    scores = start + emissions[:, 0]
    for t in range(1, emissions.shape[1]):
        longer = (scores[:, :, None] + transitions).logsumexp(dim=2) + emissions[:, t]
        scores = torch.where(mask[:, t, None], longer, scores)
    return (scores + end).logsumexp(dim=1)


lab.check("08.log_partition", over_the_wrong_axis)


# %% [markdown]
# A version that multiplies exponentials and takes the logarithm at the end passes on small scores
# and gives inf on scores in the hundreds. `logsumexp` subtracts the maximum first.

# %% [markdown]
# ## Exercise 8 · Two streams
#
# Find each token's turn, then compare turns.

# %%
def stream_masks(order):
    turn = torch.empty(len(order), dtype=torch.long)
    turn[torch.tensor(order)] = torch.arange(len(order))  # turn[i]: when token i is predicted
    content = turn[None, :] <= turn[:, None]  # (tokens that look, tokens looked at)
    query = turn[None, :] < turn[:, None]
    return content, query


lab.check("08.stream_masks", stream_masks)


# %% [markdown]
# `order` answers "which token comes at turn t?"; the mask needs "at which turn comes token i?". The
# one is the inverse permutation of the other. Taking `order` itself for the turns works for left to
# right, where both are the same, and for no other order that is not its own inverse:

# %%
def order_as_turns(order):
    turn = torch.tensor(order)
    return turn[None, :] <= turn[:, None], turn[None, :] < turn[:, None]


lab.check("08.stream_masks", order_as_turns)
