# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 07 · BERT: pre-training: solutions
#
# Solutions to the exercises of [07_bert](../07_bert.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/07_bert.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F07_bert.ipynb)

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

lab.begin("07")

# %%
import torch
from torch.nn import functional as F

from zoo_lessons.checkpoints import trained_tokenizer


# %% [markdown]
# ## Exercise 1 · WordPiece
#
# Longest match first, `##` inside the word, and all or nothing.

# %%
def wordpiece(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        for end in range(len(word), start, -1):
            if mark + word[start:end] in vocabulary:
                pieces.append(mark + word[start:end])
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces


lab.check("07.wordpiece", wordpiece)

# %% [markdown]
# The `else` of a `for` runs when the loop was not left by `break`: no candidate fitted. Then the
# pieces found so far are given up, because a word with a hole in it would look like another word.
#
# It is the library's rule. On every word of the documentation, both give the same pieces:

# %%
from zoo_lessons.datasets.prose import paragraphs

tokenizer = trained_tokenizer("bert_prose")
vocabulary = set(tokenizer.get_vocab())
words = {
    word.lower() for text in paragraphs("reference") for word in text.split() if word.isalpha()
}
for word in words:
    assert wordpiece(word, vocabulary) == tokenizer.encode(word, add_special_tokens=False).tokens
print("more than 2,000 words, all equal:", len(words) > 2000)


# %% [markdown]
# The most common slip looks the rest of a word up without `##`:

# %%
def wordpiece_without_marks(word, vocabulary):
    pieces, start = [], 0
    while start < len(word):
        ends = [e for e in range(len(word), start, -1) if word[start:e] in vocabulary]
        if not ends:
            return ["[UNK]"]
        pieces.append(word[start : ends[0]])
        start = ends[0]
    return pieces


lab.check("07.wordpiece", wordpiece_without_marks)


# %% [markdown]
# ## Exercise 2 · Segment ids
#
# Each `[SEP]` belongs to the sentence that it ends.

# %%
def segment_ids(length_a, length_b, length):
    first, second = length_a + 2, length_b + 1  # [CLS] A [SEP], then B [SEP]
    return [0] * first + [1] * second + [0] * (length - first - second)


lab.check("07.segment_ids", segment_ids)

# %% [markdown]
# A has two special tokens and B has one. Whoever counts the first `[SEP]` to B trains a model that
# works, but reads real weights slightly wrongly, with no error to be seen:

# %%
lab.check(
    "07.segment_ids",
    lambda a, b, length: [0] * (a + 1) + [1] * (b + 2) + [0] * (length - a - b - 3),
)


# %% [markdown]
# ## Exercise 3 · Mask tokens
#
# Choose, keep the labels, then change the input.

# %%
def mask_tokens(input_ids, is_special, chance, fate, random_ids):
    chosen = (chance < 0.15) & ~is_special
    labels = input_ids.masked_fill(~chosen, -100)
    masked = input_ids.masked_fill(chosen & (fate < 0.8), 4)
    is_random = chosen & (fate >= 0.8) & (fate < 0.9)
    return torch.where(is_random, random_ids, masked), labels


lab.check("07.mask_tokens", mask_tokens)


# %% [markdown]
# The order matters. Labels that are taken after masking say `[MASK]` where a word should stand, and
# the model learns the one answer that is never useful. `masked_fill` returns a copy, so the
# caller's ids stay as they were.

# %%
def labels_too_late(input_ids, is_special, chance, fate, random_ids):
    masked, labels = mask_tokens(input_ids, is_special, chance, fate, random_ids)
    return masked, masked.masked_fill(labels == -100, -100)


lab.check("07.mask_tokens", labels_too_late)


# %% [markdown]
# ## Exercise 4 · Find the bug: a loss that is too good
#
# `.mean()` divided by all positions, of which only 15 % count.

# %%
def repaired_loss(logits, labels):
    return F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=-100)


lab.check("07.masked_loss", repaired_loss)

# %% [markdown]
# `cross_entropy` leaves out positions whose label is `ignore_index`, and divides by the number of
# the others. -100 is even its default. The faulty loss was smaller by the share of chosen tokens,
# and the gradient with it: training would have worked, more slowly, with a perplexity that nobody
# can compare. A mean of the rows' means is another slip; it lets a row with one hole count as much
# as a row with ten:

# %%
lab.check(
    "07.masked_loss",
    lambda logits, labels: torch.stack(
        [
            F.cross_entropy(row, own) if (own != -100).any() else torch.zeros(())
            for row, own in zip(logits, labels, strict=True)
        ]
    ).mean(),
)


# %% [markdown]
# ## Exercise 5 · A pair of sentences
#
# True only if the coin says so *and* there is a next sentence.

# %%
def sentence_pair(documents, document, place, coin, draw):
    own = documents[document]
    if coin < 0.5 and place + 1 < len(own):
        return own[place], own[place + 1], 0
    others = [s for number, d in enumerate(documents) if number != document for s in d]
    return own[place], others[int(draw * len(others))], 1


lab.check("07.sentence_pair", sentence_pair)


# %% [markdown]
# The library's `sentence_pairs` goes one step further: its wrong Bs are the true Bs of other pairs,
# so that a B alone says nothing about the label. Drawing from *all* documents looks simpler, and
# now and then calls the true next sentence "random":

# %%
def from_all_documents(documents, document, place, coin, draw):
    own = documents[document]
    if coin < 0.5 and place + 1 < len(own):
        return own[place], own[place + 1], 0
    everything = [sentence for d in documents for sentence in d]
    return own[place], everything[int(draw * len(everything))], 1


lab.check("07.sentence_pair", from_all_documents)


# %% [markdown]
# ## Exercise 6 · Count BERT's parameters
#
# Part by part, each with its biases.

# %%
def bert_parameters(vocabulary, positions, d, d_ff, layers):
    square, norm = d * d + d, 2 * d
    embeddings = (vocabulary + positions + 2) * d + norm
    layer = 4 * square + (2 * d * d_ff + d + d_ff) + 2 * norm
    masked_word_head = square + norm + vocabulary  # its matrix is the table of words
    next_sentence_head = 2 * d + 2
    return embeddings + layers * layer + square + masked_word_head + next_sentence_head


print(f"{bert_parameters(30522, 512, 768, 3072, 12):,}")
lab.check("07.bert_parameters", bert_parameters)

# %% [markdown]
# The number of heads does not matter: heads share out the $d$ columns, they add none. Counting the
# output words a second time is the usual slip, and adds 23 million:

# %%
lab.check("07.bert_parameters", lambda v, n, d, f, k: bert_parameters(v, n, d, f, k) + v * d)
