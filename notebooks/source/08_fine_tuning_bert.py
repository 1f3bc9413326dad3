# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 08 · Fine-tuning BERT
#
# *How does one pretrained encoder serve many tasks?*
#
# After this lesson you can
#
# - fine-tune an encoder for classification, and find out how many labels it takes
# - answer questions with a start and an end head, unanswerable ones included
# - tag sequences with a conditional random field, and explain what it forbids
# - compare each result with the baseline that a careful person would try first
#
# **Time:** 60 minutes · **You need first:** [07 BERT: pre-training](07_bert.ipynb)
#
# **On the zoo map:** part II, The zoo · **New parts:** Classification head, Start and end heads, Conditional random field · **Models:** BERT, MiniLM
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/08_fine_tuning_bert.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F08_fine_tuning_bert.ipynb) · [Solutions](solutions/08_fine_tuning_bert.ipynb)

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

# %% [markdown]
# ## The question
#
# Three people come with three requests about texts.
#
# - *Sort my notes:* which of six topics is this paragraph about?
# - *Answer me:* who sold the brass lamp?
# - *Sort my references:* which words are the authors, which the title?
#
# The first wants one label per text, the second a piece of the text, the third a label per word. Each
# of them has a few hundred or a few thousand examples. That is far too little to learn English from.
# But MiniLM has read English by the gigabyte. What it knows sits in the vectors that it gives to the
# words:

# %%
import torch

from zoo_lessons.weights import load_pretrained, load_tokenizer

encoder, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")

encoded = tokenizer.encode("The cat sat on the mat")
with torch.no_grad():
    hidden = encoder(torch.tensor([encoded.ids])).last_hidden_state
print(encoded.tokens)
print("one vector per token:", tuple(hidden.shape), "(batch, tokens, d_model)")

# %% [markdown]
# MiniLM has never seen any of the three tasks. **How does one pretrained encoder serve them all?**
#
# Sections 1 to 8 and 11 are the core of this lesson; the minutes above are for them. Sections 9 and
# 10, tagging and search, go further.

# %% [markdown]
# ## 1 · One encoder, many heads
#
# The answer of the BERT paper ([Devlin et al., 2018](https://arxiv.org/abs/1810.04805), section 3.2
# and figure 4) is short: keep the encoder, put one small layer on top, and train everything a little.
# That is **fine-tuning**. The small layer is called a **head**. Let $h_0, h_1, \dots, h_{n-1}$ be the
# encoder's vectors of the $n$ tokens, each with $d$ numbers. $h_0$ belongs to [CLS].
#
# | task | the head computes | shape |
# |---|---|---|
# | one label per text | $W \tanh(W_p h_0 + b_p) + b$, from [CLS] alone | one row of scores, one per class |
# | one label per token | $W h_i + b$, for each token $i$ | $n$ rows of scores, one per tag |
# | a piece of the text | $s \cdot h_i$ and $e \cdot h_i$, for each token $i$ | two scores per token: start, end |
#
# $W$, $b$, $s$ and $e$ are all that is new. ($W_p$ and $b_p$ are the *pooler* of lesson 07, which comes
# with the encoder.) How much is that?

# %%
from zoo_lessons.models import BertForQuestionAnswering, BertForSequenceClassification
from zoo_lessons.models.bert import BertForTokenClassification

kinds = {
    "six labels per text": (BertForSequenceClassification, 6),
    "five labels per token": (BertForTokenClassification, 5),
    "a start and an end": (BertForQuestionAnswering, 2),
}
pretrained = sum(p.numel() for p in encoder.parameters())
print(f"encoder: {pretrained:,} parameters")
for name, (kind, num_labels) in kinds.items():
    model = kind.from_encoder(encoder, num_labels=num_labels)  # a copy of the encoder, a new head
    new = sum(p.numel() for key, p in model.named_parameters() if not key.startswith("bert."))
    print(f"{name:21} {new:5,} new parameters, {new / pretrained:.4%} of the encoder")

# %% [markdown]
# One or two thousand new numbers beside 22 million trained ones. The rest of the lesson asks what this
# buys, and each time compares with what a careful person would try first.

# %% [markdown]
# ## 2 · A topic from one vector
#
# Our texts are paragraphs from the documentation of the libraries that this course installs. The label
# is where a paragraph comes from: `scipy.stats` writes about statistics, `matplotlib` about drawing.
# Nobody checked these labels by hand, and paragraphs that name their library are left out. No
# module has paragraphs in two splits.

# %% tags=["nbval-ignore-output"]
import textwrap

from zoo_lessons.datasets.topics import TOPICS, passages_by_topic

train = passages_by_topic("train", 16)
test = passages_by_topic("test", 20)
print(f"{len(train)} passages to learn from, {len(test)} to be tested on; topics: {TOPICS}")
for passage in test[:4]:
    print(f"\n{TOPICS[passage.label]} ({passage.module}): {textwrap.shorten(passage.text, 150)}")


# %% [markdown]
# Some of these are hard for you, too. With six topics, guessing is right in one of six.
#
# A classifier wants one vector per passage, but the encoder gives one per token. BERT takes the
# first, $h_0$: in pre-training, [CLS] had to say whether one sentence follows another. The other
# obvious choice is the mean of all tokens:
#
# $$ \bar h = \frac{\sum_i m_i h_i}{\sum_i m_i} $$
#
# where $m_i$ is 1 for a real token and 0 for padding (`attention_mask`).
#
# ### Exercise 1 · Mean pooling (★☆☆, 5 min)

# %% tags=["exercise"]
def mean_pool(hidden, attention_mask):
    """The mean of the real tokens: (batch, tokens, d_model) -> (batch, d_model).

    attention_mask: (batch, tokens), 1 for a token and 0 for padding.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("08.mean_pool", mean_pool)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The mask has one number per token, `hidden` has $d$. `attention_mask[..., None]` gives it a last
# axis of size 1, which stretches.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Divide by how many ones the mask has in each row. `hidden.mean(dim=1)` divides by the padded length.
#
# </details>

# %% [markdown]
# Now let the encoder stay as it is, **frozen**, and use its vectors as features for a logistic
# regression. It gets them from the six layers without a single gradient.

# %%
def as_tensors(passages, length=32):
    """Token ids and mask, cut or padded to 32 tokens, and labels."""
    tokenizer.enable_truncation(length)
    tokenizer.enable_padding(length=length)
    found = tokenizer.encode_batch([passage.text for passage in passages])
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = torch.tensor([one.ids for one in found])  # (passages, tokens)
    mask = torch.tensor([one.attention_mask for one in found])
    return ids, mask, torch.tensor([passage.label for passage in passages])


@torch.no_grad()
def vectors(ids, mask):
    """Frozen MiniLM's two candidates, each (passages, d_model)."""
    hidden = encoder(ids, mask).last_hidden_state  # (passages, tokens, d_model)
    weights = mask[..., None]
    return {"[CLS]": hidden[:, 0], "mean": (hidden * weights).sum(dim=1) / weights.sum(dim=1)}


data = {"train": as_tensors(train), "test": as_tensors(test)}
features = {split: vectors(ids, mask) for split, (ids, mask, _) in data.items()}
print({name: tuple(x.shape) for name, x in features["train"].items()})

# %% [markdown]
# **Predict.** MiniLM's makers trained it to place sentences of like meaning close together, and they
# took the *mean* as the sentence. Which of the two vectors is better for topics?

# %% tags=["nbval-ignore-output"]
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

labels = {split: tensors[2] for split, tensors in data.items()}


def accuracy(train_features, test_features, c=1.0):
    classifier = LogisticRegression(C=c, max_iter=2000).fit(train_features, labels["train"])
    return classifier.score(test_features, labels["test"])


frozen = {}
for name in ("[CLS]", "mean"):
    frozen[name] = accuracy(features["train"][name], features["test"][name])
words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
frozen["words (TF-IDF)"] = accuracy(
    words.fit_transform([p.text for p in train]), words.transform([p.text for p in test]), c=10
)
for name, share in frozen.items():
    print(f"{name:15} {share:.0%} right")

# %%
print("MiniLM's mean beats counting words:", frozen["mean"] > frozen["words (TF-IDF)"])

# %% [markdown]
# The TF-IDF features weigh each word (and pair of words) by how rare it is. They come from the whole
# passage, MiniLM's vectors from its first 32 tokens. With 16 examples per topic, many words of a test
# passage never occurred in training, and there is nothing to count for them. MiniLM brings what it
# has read elsewhere. [CLS] and mean are too close to call on one draw; section 4 has more.

# %% [markdown]
# ## 3 · Frozen or fine-tuned
#
# A frozen encoder gives all tasks the same vectors. **Fine-tuning** lets the task change the encoder.
# With labels $y$ and scores $z = W \bar h + b$, the loss is the cross-entropy of lesson 03, and its
# gradient now flows on, from the head down into the layers.
#
# To save time we train the two upper layers and the head, and leave the embeddings and four layers
# as they are. They do not even store anything for the gradient.

# %%
from torch import nn
from torch.nn import functional as F

from zoo_lessons.training import fit


class TopicClassifier(nn.Module):
    """MiniLM with a linear head on the mean of its tokens; the lower layers are frozen."""

    def __init__(self, trained_layers=2):
        super().__init__()
        self.bert = load_pretrained("minilm")
        self.head = nn.Linear(self.bert.config.d_model, len(TOPICS))
        self.bert.requires_grad_(False)
        self.bert.layers[-trained_layers:].requires_grad_(True)

    def forward(self, ids, mask):
        hidden = self.bert(ids, mask).last_hidden_state  # (batch, tokens, d_model)
        weights = mask[..., None]
        return self.head((hidden * weights).sum(dim=1) / weights.sum(dim=1))  # (batch, topics)


torch.manual_seed(0)
classifier = TopicClassifier()
trained = sum(p.numel() for p in classifier.parameters() if p.requires_grad)
print(f"{trained:,} of {sum(p.numel() for p in classifier.parameters()):,} parameters are trained")

# %% tags=["nbval-ignore-output"]
draw = torch.Generator().manual_seed(0)


def batch(step):
    rows = torch.randint(len(train), (16,), generator=draw)
    return [part[rows] for part in data["train"]]


history = fit(
    classifier,
    batch,
    lambda model, batch: F.cross_entropy(model(*batch[:2]), batch[2]),
    steps=25,
    lr=3e-4,
    schedule="warmup_linear",
)
with torch.no_grad():
    found = classifier.eval()(*data["test"][:2]).argmax(dim=-1)
tuned = (found == labels["test"]).float().mean().item()
print(f"fine-tuned {tuned:.0%} right, frozen {frozen['mean']:.0%}")

# %% tags=["nbval-ignore-output"]
fig = lab.training_curves(
    {"fine-tuning": history}, title="25 steps of fine-tuning", y_axis="cross-entropy", smooth=5
)
lab.show_figure(
    fig,
    "The loss on the training passages falls quickly. That alone says little: with 96 passages, a "
    "model with millions of parameters can learn them by heart.",
    "Line chart: cross-entropy falls from about 1.8 to about 0.8 within 25 steps.",
)


# %% [markdown]
# Compare the two percentages above. The difference may lie within the luck of drawing 96 passages and
# testing on 120. Section 4 repeats this with several draws.
#
# ### Exercise 2 · Find the bug: a frozen encoder that trembles (★★☆, 8 min)
#
# A colleague trains a head on a frozen encoder. The encoder's weights do not move, the optimizer has
# the right parameters, and yet the same passages give other logits each time, and the result is a
# little worse than it should be. Run the cell below the function, then repair the function.

# %% tags=["exercise"]
def train_head(encoder, head, inputs, labels, lr, steps):
    """Train a copy of the head by gradient descent on the [CLS] vectors of a frozen encoder.

    inputs: token ids (batch, tokens). Returns the trained head's logits (batch, classes).
    """
    encoder, head = copy.deepcopy(encoder).train(), copy.deepcopy(head)
    optimizer = torch.optim.SGD(head.parameters(), lr=lr)
    for _ in range(steps):
        cls = encoder(inputs).last_hidden_state[:, 0]  # (batch, d_model)
        optimizer.zero_grad()
        F.cross_entropy(head(cls), labels).backward()
        optimizer.step()
    with torch.no_grad():
        return head(encoder(inputs).last_hidden_state[:, 0])


# %%
import copy

head = nn.Linear(384, len(TOPICS))
some = data["train"][0][:8], labels["train"][:8]
once, again = (train_head(encoder, head, *some, lr=0.1, steps=0) for _ in range(2))
print("no step at all, same logits twice:", torch.allclose(once, again))

# %% tags=["check"]
lab.check("08.frozen_bug", train_head)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which part of an encoder gives another result on each call? Which switch turns it off?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `requires_grad_(False)` and leaving the encoder out of the optimizer stop its *weights*. Dropout
# depends on `train()` and `eval()` alone. And it must be off while the head is trained, too.
#
# </details>

# %% [markdown]
# ### How fast?
#
# The learning rate is the setting that fine-tuning depends on most. Too small, and a few dozen steps
# lead nowhere. Too large, and they wipe out what pre-training has put into the weights.
#
# **Predict.** For BERT with all its layers, the paper recommends 2e-5 to 5e-5 and a few passes over
# thousands of examples (appendix A.3). We have 96 examples, 40 steps and two layers. Which of 3e-5,
# 1e-4, 3e-4 and 1e-3 is best?

# %%
from zoo_lessons.records import load_claim, load_record

record = load_record("topic_classification")["figures"]
fig = lab.lines(
    {"fine-tuned, mean": list(zip(*record["sweep"], strict=True))},
    record["rates"],
    title=f"{record['sweep_per_topic']} labels per topic",
    x_axis="peak learning rate",
    y_axis="accuracy on validation",
    log="x",
)
lab.show_figure(
    fig,
    "Small rates do not get far enough in 40 steps. From 3e-4 to 1e-3 little changes: only two layers "
    "move, and the frozen ones below them stay what they were.",
    "Line chart with a logarithmic rate axis: validation accuracy rises from about 0.38 at 3e-5 over "
    "0.57 at 1e-4 to 0.68 at 3e-4, and is 0.67 at 1e-3, with a wider range over the seeds.",
)
print(f"best on validation: {record['best_rate']:g}")

# %% [markdown]
# The rate was chosen on *validation* passages, and the next section measures on *test* passages.
# Choosing and measuring on the same texts would flatter the winner.

# %% [markdown]
# ## 4 · How many labels does it take?
#
# `make record` trained everything three times, each time on other passages, with 4, 16 and 64 labels
# per topic. All logistic regressions chose their strength by cross-validation. The last line is a
# control: a BERT of MiniLM's size with *random* weights shows what pre-training is worth.

# %%
fig = lab.lines(
    record["accuracy"],
    record["per_topic"],
    title=f"Accuracy on {record['test_passages']} passages of unseen modules",
    x_axis="labels per topic",
    y_axis="accuracy",
    log="x",
)
fig.axes[0].axhline(1 / len(record["topics"]), color="grey", linewidth=1, linestyle=":")
lab.show_figure(
    fig,
    "MiniLM needs far fewer labels than counting words: with 16 it is ahead of TF-IDF with 64. "
    "Fine-tuning adds a little once there are some labels. The dotted line is guessing.",
    "Line chart of accuracy against 4, 16 and 64 labels per topic. The three lines of MiniLM lie close "
    "together and rise from 0.4 to 0.6 and almost 0.7. TF-IDF rises from 0.26 to 0.53. Random weights "
    "stay between 0.2 and 0.34.",
)
most = record["per_topic"][-1]
share = sum(record["random_trained"]) / record["seeds"]
print(f"random weights, all layers trained on {most} labels per topic: {share:.0%}")

# %%
import numpy as np

runs = {name: np.array(rows) for name, rows in record["accuracy"].items()}  # (seeds, sizes)
sizes = " or ".join(map(str, record["per_topic"]))
print(f"accuracy with {sizes} labels per topic: mean (lowest to highest of the seeds)\n")
for name, values in runs.items():
    cells = [f"{v.mean():.0%} ({v.min():.0%} to {v.max():.0%})" for v in values.T]
    print(f"{name:17}", *(f"{cell:>20}" for cell in cells))
chosen = record["fine_tuned_cls"]
print(f"\nfine-tuned from [CLS], {record['sweep_per_topic']} labels per topic: "
      f"{np.mean(chosen):.0%} ({min(chosen):.0%} to {max(chosen):.0%})")  # fmt: skip

# %% [markdown]
# What to read from this:
#
# - **Pre-training is what counts.** The same architecture with random weights learns little from so
#   few labels, frozen or trained. Counting words is much better than *that*.
# - **Labels.** MiniLM with 16 labels per topic beats TF-IDF with 64. At 64 the gap is still wide, but
#   from 16 on TF-IDF climbs faster: the more labels, the less pre-training matters.
# - **Frozen or fine-tuned?** With 4 labels per topic there is nothing between them. With 64,
#   fine-tuning is ahead by a few points. Begin frozen.
# - **[CLS] or mean?** The mean is ahead at every size, as its training suggests, but by less than you
#   may have predicted: one or two points, within the spread of the seeds. MiniLM's [CLS] reads all
#   tokens in every layer, and little is lost by taking it alone.
# - **It disappoints, too.** Almost a third of the passages go wrong at best. A paragraph on an argument
#   that may be `None` could come from any of the libraries, and no model reads a topic out of a text
#   that does not tell it.

# %% [markdown]
# ## 5 · An answer is a span
#
# Now the second request. The passages are generated by `datasets.reading`, so that we know what it
# takes to answer. Read one:

# %%
from zoo_lessons.datasets.reading import reading_questions

questions = reading_questions("validation", 200)
for example in [questions[i] for i in (10, 8, 2)]:
    print(textwrap.fill(example.passage, 100))
    print(f"  {example.question}  ->  {example.answer or '(the passage does not say)'}\n")

# %% [markdown]
# Every sentence names two candidates of the same kind, and in either order: *Vera bought it from
# Arthur*, *Arthur sold it to Vera*. People and things come back in other sentences. And a quarter of
# the questions have no answer. They ask for a thing that is not there, or for something that the
# passage does not tell.
#
# What can be done without reading? Take the sentence that shares most words with the question, and
# in it the nearest candidate. We are generous and *tell* this baseline which pieces of the passage are
# people, places and years.

# %%
from zoo_lessons.question_answering import exact_match, lexical_answer

asked = [example for example in questions if example.answer]
right = 0
for example in asked:
    guess = lexical_answer(example.question, example.passage, example.candidates, threshold=-1)
    right += exact_match(guess.text, example.answer)
print(f"answerable questions that the baseline gets right: {right / len(asked):.0%}")

# %% [markdown]
# That is a lot for a method that cannot read: when the question names one of two people, the other
# one is left. A reader must beat it.
#
# ### Two heads
#
# BERT reads question and passage as one sequence (sections 4.2 and 4.3 of the paper):
#
# `[CLS]` question `[SEP]` passage `[SEP]`
#
# and the segment embedding says which is which: 0 for the question, 1 for the passage. Two trained
# vectors $s$ and $e$ score each token $i$ as the start and as the end of the answer:
#
# $$ S_i = s \cdot h_i \qquad E_i = e \cdot h_i \qquad
# P(\text{start} = i) = \frac{e^{S_i}}{\sum_j e^{S_j}} $$
#
# and likewise for the end. The loss is the mean of two cross-entropies, with *positions* in place of
# classes. If there is no answer, the right start and end are [CLS].

# %%
from zoo_lessons.question_answering import encode_questions, span_positions

example = asked[0]
batch = encode_questions(tokenizer, [example.question], [example.passage])
start, end = span_positions(batch, [example.start], [example.answer])
tokens = tokenizer.encode(example.question, example.passage).tokens
for segment in (0, 1):
    inside = batch.token_type_ids[0] == segment
    print(f"segment {segment}:", *(t for t, here in zip(tokens, inside, strict=True) if here))
print("answer:", tokens[start : end + 1], "· start", int(start), "· end", int(end))


# %% [markdown]
# ## 6 · From scores to a span
#
# The model gives $S_i$ and $E_j$ for every token. Which span is the answer? Taking the best start and
# the best end *each for itself* can give an end before the start, a span across half the passage, or
# a piece of the question. So the score belongs to the pair,
#
# $$ \text{score}(i, j) = S_i + E_j $$
#
# and we take the best *legal* pair: both tokens in the passage, $i \le j$, and not longer than an
# answer may be. It is the model's answer if it beats the score of [CLS], which means *no answer*, by
# more than a threshold $\tau$:
#
# $$ \max_{i \le j} \,(S_i + E_j) \;>\; S_0 + E_0 + \tau $$
#
# ### Exercise 3 · The best span (★★☆, 12 min)

# %% tags=["exercise"]
def choose_span(start_logits, end_logits, in_passage, max_tokens, threshold):
    """The answer's first and last token, or (0, 0) if the passage does not say.

    start_logits, end_logits: (tokens,). in_passage: Boolean (tokens,). An answer has at most
    max_tokens tokens, and its score must be greater than that of [CLS] plus the threshold.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("08.choose_span", choose_span)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two loops do: over i, and over j from i to i + max_tokens - 1.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Begin with `best = (0, 0)` and the score that has to be beaten. Replace both whenever a legal pair
# has a higher one.
#
# </details>

# %% [markdown]
# The library does this for a whole batch with one table of all pairs. Here it is for made-up scores
# where the best end lies before the best start.

# %%
import matplotlib.pyplot as plt

from zoo_lessons.question_answering import best_spans

words = ["[CLS]", "who", "?", "[SEP]", "ada", "sold", "the", "lamp", "[SEP]"]
start_logits = torch.tensor([[0.0, 3, 0, 0, 2, 0, 0, 4, 0]])
end_logits = torch.tensor([[0.0, 3, 0, 0, 5, 0, 0, 1, 0]])
inside = torch.tensor([[False] * 4 + [True] * 4 + [False]])  # the passage

span = best_spans(start_logits, end_logits, inside, max_tokens=3)
first, last = span.start[0], span.end[0]
table = start_logits[0, :, None] + end_logits[0]  # (start, end)
legal = inside[0][:, None] & inside[0] & torch.ones(9, 9, dtype=torch.bool).triu().tril(2)
print("legal pairs:", int(legal.sum()), "of", legal.numel())
print("best legal span:", words[first : last + 1], "with score", float(span.score[0]))

# %%
fig = lab.heatmaps(
    {"all pairs: S + E": table, "legal pairs": table.where(legal, torch.nan)},
    words,
    words,
    row_axis="start",
    column_axis="end",
    value="score",
    limits=(0, 9),
)
lab.show_figure(
    fig,
    "Left: the highest score of all, 9, starts at 'lamp' and ends at 'ada', before it starts. Right: "
    "only legal pairs are left, and 'ada' alone wins with 7.",
    "Two heat maps of nine by nine token pairs. In the right one only a small triangle of nine "
    "squares is filled, and its brightest square is the pair ada, ada.",
)

# %% [markdown]
# ### How good is an answer?
#
# SQuAD ([Rajpurkar et al., 2016](https://arxiv.org/abs/1606.05250), section 6.1) gives two figures.
# Both first *normalise*: lower case, no punctuation, no articles.
#
# - **Exact match** (EM): 1 if both texts are then the same, otherwise 0.
# - **F1**: the overlap as *bags* of words, in which a word counts as often as it occurs. With $c$
#   common words, precision $P = c / |\text{predicted}|$ and recall $R = c / |\text{right}|$:
#
# $$ F_1 = \frac{2 P R}{P + R} $$
#
# "No answer" is an empty bag: F1 is 1 if both are empty, 0 if only one of them is.
#
# ### Exercise 4 · F1 of an answer (★☆☆, 8 min)
#
# `normalise_answer(text)` does the first step.

# %%
from collections import Counter

from zoo_lessons.question_answering import normalise_answer

print(normalise_answer("The old mill!"), "|", Counter("a rose is a rose".split()))


# %% tags=["exercise"]
def answer_f1(predicted, right):
    """F1 of a predicted answer (a string), between 0 and 1. "" stands for no answer."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("08.answer_f1", answer_f1)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `Counter(a) & Counter(b)` keeps each word as often as both have it; `.total()` counts them.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Deal with empty bags first, or you divide by zero.
#
# </details>

# %% [markdown]
# ## 7 · Learn to answer, and to refuse
#
# For topics, frozen vectors went far. Is that so here? Train nothing but $s$ and $e$ on MiniLM's
# vectors as they are.
#
# **Predict.** The two vectors see one token at a time. What can they find out about *who sold the
# lamp*?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.question_answering import answer_questions, best_threshold, span_loss


def encode(examples):
    """The examples as one batch, with the positions of their answers."""
    found = encode_questions(
        tokenizer, [q.question for q in examples], [q.passage for q in examples]
    )
    starts, answers = [q.start for q in examples], [q.answer for q in examples]
    return found, *span_positions(found, starts, answers)


torch.manual_seed(0)
frozen_reader = BertForQuestionAnswering.from_encoder(encoder)
batch, start, end = encode(reading_questions("train", 100))
with torch.no_grad():
    hidden = encoder(*batch.inputs()).last_hidden_state  # (questions, tokens, d_model)

history = fit(
    frozen_reader.qa_outputs,
    lambda step: None,  # all questions at once
    lambda head, _: span_loss(*head(hidden).unbind(-1), start, end, batch.attention_mask),
    steps=100,
    lr=1e-2,
    progress=False,
)
print(f"loss on the training questions: {history.loss[0]:.2f} -> {history.loss[-1]:.2f}")

# %% [markdown]
# The loss has fallen: the two vectors learn that answers are names, places or years. But which? The
# record below has this method too, with more questions, under the name *frozen*: on new passages its
# guesses are so poor that the best threshold lets almost none of them through. MiniLM was made to say
# what a sentence is *about*. Who sold to whom, as the question asks it, must be worked out *between*
# question and passage, in the layers.
#
# So the layers have to be trained, all six of them, which takes minutes. `make record` did it with
# three seeds. The passages begin with one sentence and grow to three: easy ones first. Training
# questions never repeat, so nothing can be learned by heart.

# %%
record = load_record("reading")["figures"]
steps = [count for count, _ in record["plan"]]
print(f"{sum(steps)} steps of {record['batch']} questions, rate {record['rate']:g}, "
      f"{record['seeds']} seeds")  # fmt: skip

# %%
losses = np.array(record["loss"])  # (seeds, steps)
smooth = np.stack([np.convolve(row, np.ones(25) / 25, mode="valid") for row in losses])
fig = lab.lines(
    {"fine-tuning": smooth},
    np.arange(24, losses.shape[1]),
    title="Learning to read (running mean of 25 steps)",
    x_axis="step",
    y_axis="loss",
    markers=False,
)
for border in np.cumsum(steps)[:-1]:
    fig.axes[0].axvline(border, color="grey", linestyle=":")
lab.show_figure(
    fig,
    "Where the passages get a sentence longer (dotted lines), the loss jumps and falls again. With two "
    "sentences more, it ends lower than it did with one: learning goes on all the time.",
    "Line chart: the loss falls from 3 to 0.5 in 250 steps, jumps above 1, falls to 0.4 by step 500, "
    "jumps to 0.7, and falls to 0.2 at step 900. The three seeds lie close together.",
)

# %% [markdown]
# Now all methods on the same new questions. *Known wordings* use the sentence patterns of training,
# with other people, things and places. *New wordings* never occurred: "Ruth paid James a good price
# for the ..." instead of "Ruth bought ... from James".

# %%
kinds = {"exact_match": "all", "answerable": "with answer", "unanswerable": "without"}
splits = {"validation": "Known wordings", "test": "New wordings"}
for split, title in splits.items():
    print(f"{title}: exact match, mean (lowest to highest of the seeds)")
    print(f"{'':12}" + "".join(f"{kind:>22}" for kind in kinds.values()))
    for name, runs in record["methods"].items():
        print(f"{name:12}", end="")
        for kind in kinds:
            values = [run[split][kind] for run in runs]
            spread = f"({min(values):.0%} to {max(values):.0%})" if len(values) > 1 else ""
            print(f"{np.mean(values):>8.0%} {spread:13}", end="")
        print()
    print()

# %% [markdown]
# On **known wordings** the fine-tuned model reads. The people, things and places are new to it, each
# sentence offers two candidates, and still it is right far more often than the baseline, which was
# *told* the candidates. And it knows when to be silent.
#
# On **new wordings** it falls behind the baseline. The columns say how: without an answer it is right
# as often as before, with an answer seldom. It has fallen silent. A likely reason: in training, many
# questions without an answer asked for something that the passage does not tell, and a question in
# words that it never met looks just like those. The generator has four wordings for each relation,
# and the model has learned *these*, not English. MiniLM has read that *purchase* means *buy*, but
# nothing in training asked for it.
#
# This is the most useful failure of the lesson. **A model learns what its training data are, not what
# you had in mind.** Had we tested on known wordings only, we would have reported a model that reads.
# SQuAD's hundred thousand questions were written by people, each in their own words, for this reason.
#
# ### The checkpoint
#
# We load what the first seed learned. The file keeps only the *change* of MiniLM: for each matrix, the
# difference between fine-tuned and pretrained, cut to rank 32 (a product of a tall and a wide
# matrix). That a change in few directions is enough is the idea behind LoRA ([Hu et al.,
# 2021](https://arxiv.org/abs/2106.09685), section 4.1), which trains such products from the start.

# %%
from zoo_lessons.checkpoints import load_trained

reader = load_trained("minilm_reading")
full = 4 * sum(p.numel() for p in reader.parameters())
print(f"{full / 1e6:.0f} MB as a model, {record['checkpoint']['bytes'] / 1e6:.1f} MB as a change")
whole, kept = record["methods"]["fine-tuned"][0], record["checkpoint_scores"]
for name, found in {"whole model": whole, "kept change": kept}.items():
    print(f"{name}: exact match on known wordings {found['validation']['exact_match']:.0%}")

# %% [markdown]
# What do the two heads say? Take one question and draw both probabilities over the tokens.
#
# **Predict.** Which tokens get the two highest bars?

# %%
shown = next(q for q in questions if q.kind == "places" and q.answer)
batch, start, end = encode([shown])
tokens = tokenizer.encode(shown.question, shown.passage).tokens
with torch.no_grad():
    output = reader(*batch.inputs())
chances = torch.cat([output.start_logits, output.end_logits]).softmax(dim=-1)  # (2, tokens)
print(shown.question, "->", shown.answer)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(9, 3.4))
places = np.arange(len(tokens))
ax.bar(places - 0.2, chances[0], 0.4, label="start")
ax.bar(places + 0.2, chances[1], 0.4, label="end", hatch="//")
ax.set_xticks(places, tokens, rotation=90)
ax.set(
    title="Where does the answer start, where does it end?", ylabel="probability", xlabel="token"
)
ax.legend()
lab.show_figure(
    fig,
    "Of all tokens, only the two places of the right sentence are left. Between them the heads "
    "hesitate, and lean to the wrong one: where the wagon is now, not where it was before.",
    "Bar chart of two probabilities over the tokens of question and passage. All bars are near zero "
    "except those at church, boat and house; the tallest start is at boat.",
)

# %% [markdown]
# ### When to say nothing
#
# The threshold $\tau$ trades one kind of error for another. At a low $\tau$ the model always answers;
# at a high one it never does. The library's `answer_questions` gives each answer its *margin*, the
# score of the span less that of [CLS], so one run serves all thresholds.
#
# **Predict.** Which curve falls as $\tau$ grows, which one rises?

# %% tags=["nbval-ignore-output"]
asked = reading_questions("validation", 120, seed=1)
answers = answer_questions(
    reader, tokenizer, [q.question for q in asked], [q.passage for q in asked], threshold=-1e9
)
margins = np.array([answer.margin for answer in answers])
right = np.array([exact_match(a.text, q.answer) for a, q in zip(answers, asked, strict=True)])
silent = np.array([not q.answer for q in asked])

taus = np.linspace(margins.min() - 1, margins.max() + 1, 60)
gives = margins > taus[:, None]  # (thresholds, questions)
points = np.where(gives, right, silent)
curves = {
    "with an answer": points[:, ~silent].mean(axis=1),
    "without an answer": points[:, silent].mean(axis=1),
    "all": points.mean(axis=1),
}
best = best_threshold(margins.tolist(), right.tolist(), silent.tolist())
print(f"best threshold on these questions: {best:.1f}, exact match {curves['all'].max():.0%}")
for kind in ("people", "places", "years"):
    chosen = np.array([q.kind == kind and q.answerable for q in asked])
    print(f"if it must answer: {kind} {right[chosen].mean():.0%} right")

# %% tags=["nbval-ignore-output"]
fig = lab.lines(
    curves,
    taus,
    title="120 validation questions",
    x_axis="threshold τ",
    y_axis="exact match",
    markers=False,
)
fig.axes[0].axvline(best, color="grey", linestyle=":")
lab.show_figure(
    fig,
    "A higher threshold keeps the model from answering what the passage does not say, and costs "
    "right answers. The dotted line is the best compromise here.",
    "Line chart: exact match against the threshold. Questions with an answer fall from high to 0, "
    "those without rise from 0 to 1, all questions together have a maximum between.",
)

# %% [markdown]
# The lines printed before the figure show where the errors are. People and years are mostly right.
# With places this model does worse than a coin tossed between the two: *before* and *now* hang on
# small words and on their order, and it has mixed them up.
#
# Now the same for new wordings. Is the model silent because it has no idea, or although it has one?

# %% tags=["nbval-ignore-output"]
asked = [q for q in reading_questions("test", 100) if q.answer]
answers = answer_questions(
    reader, tokenizer, [q.question for q in asked], [q.passage for q in asked], threshold=-1e9
)
silence = np.mean([answer.margin <= best for answer in answers])
forced = np.mean([exact_match(a.text, q.answer) for a, q in zip(answers, asked, strict=True)])
print(f"new wordings, questions with an answer: silent {silence:.0%}")
print(f"if it must answer (τ = -∞), right {forced:.0%}")

# %% [markdown]
# Both. It is silent on most, and some of its silence hides a right answer; forced to speak, it is
# wrong on more than half. No threshold turns that into reading.
#
# Where you put $\tau$ depends on what an error costs. A search box may guess; a doctor's assistant
# should rather say nothing.

# %% [markdown]
# ## 8 · Ask the Python reference
#
# Our reader has learned from lamps and keys. Does it read real prose? Here is a passage of the
# Python reference, read from your own installation. Ask, and see the answer marked in the text.
#
# **Try this.** Ask what the text says in other words. Ask something that it does not say. Then put a
# passage of your own into `passage` and run the cell again.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.lab.widgets import Answer, AskBox

passage = next(text for text in paragraphs("reference") if '".pdbrc" exists' in text)
threshold = record["checkpoint_scores"]["threshold"]


def ask(question):
    """Mark the reader's answer in the passage, and say how sure it is."""
    (found,) = answer_questions(reader, tokenizer, [question], [passage], threshold=threshold)
    sure = 1 / (1 + np.exp(-(found.margin - threshold)))
    rows = [("the marked span", sure), ("the passage does not say", 1 - sure)]
    return Answer(rows, passage, (found.first, found.last) if found.last > found.first else None)


AskBox(
    ask,
    examples=[
        "Where is the file read first?",
        "Who wrote the debugger?",
        "When is the file read?",
        "What is it useful for?",
    ],
    values="share",
)

# %% [markdown]
# With the four examples, you see the reader at its best and at its worst. *Where is the file read
# first?* gets the right answer, though neither files nor directories occurred in training. *Who
# wrote the debugger?* is refused, as it should be. But *When is the file read?* is answered with a
# place, and *What is it useful for?* is refused, although the passage says it: no training question
# began with *what*. And the shares are no probabilities to rely on: they say how one span compares
# with [CLS], on data that look like the training data.
#
# A reader for real questions needs real questions. That is what SQuAD was made for, and a
# model that was fine-tuned on it has the same two heads as this one.

# %% [markdown]
# ## 9 · Tags that follow rules (further)
#
# Scientific libraries cite papers in their docstrings. Here are three such references, with a blank
# around each mark, as the tagger will get them. Who wrote the work, what is its title, and where did
# it appear?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.references import TAGS, references

train_references, test_references = references("train"), references("test")
for one in test_references[:3]:
    print(textwrap.fill(" ".join(one.words), 100, subsequent_indent="    "), "\n")

# %% [markdown]
# This is **sequence tagging**: each word gets a label. The text itself knew the answer once. Its
# writers had put the title in quotation marks. `references` removed the marks and kept what they
# said: the title is what stood between them, the authors stood before, and the venue (journal or
# publisher) comes after, up to the first number or bracket. Trained on these, a tagger can read the
# many references in which nobody marked anything.
#
# Such a run of words, one title or one list of authors, is called an **entity**. It has several words,
# so a label must also say where it begins. In **BIO** tags, `B-TITLE` begins a title, `I-TITLE` is
# inside one, and `O` is outside of everything. With authors, title and venue that makes seven tags.

# %% tags=["nbval-ignore-output"]
for word, tag in list(zip(one.words, one.tags, strict=True))[:16]:
    print(f"{word:16} {tag}")
print(f"{len(train_references)} references to train on, {len(test_references)} to test on")

# %% [markdown]
# No work is in both parts, and none counts twice. Is the task too easy? Commas and full stops help,
# but they stand between authors, inside titles and inside names of journals alike. *Statistics*
# begins the title of one work and the journal of another. Two baselines without a network will tell.

# %% [markdown]
# ### Words and pieces
#
# MiniLM does not read words. Its tokenizer splits them into pieces, and [CLS] and [SEP] stand
# around them. `word_ids` says which word each piece came from.

# %%
encoder, word_pieces = load_pretrained("minilm"), load_tokenizer("minilm")  # fresh ones
encoded = word_pieces.encode(["Breiman", ",", "bootstrapping", "trees"], is_pretokenized=True)
for piece, word in zip(encoded.tokens, encoded.word_ids, strict=True):
    print(f"{piece:8} word {word}")


# %% [markdown]
# The model gives a vector for every piece, and we have a label for every word. BERT's paper
# (section 5.3) settles it: the **first piece** carries the label. All other positions get the label
# $-100$, which `cross_entropy` leaves out.
#
# ### Exercise 5 · One label for a word in pieces (★☆☆, 6 min)

# %% tags=["exercise"]
def my_align_labels(word_ids, labels):
    """word_ids: for each piece its word's number, or None. labels: one int per word.

    Returns a list with one int per piece: the word's label at its first piece, -100 elsewhere.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("08.align_labels", my_align_labels)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A piece is a first piece if its word's number differs from that of the piece before.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Go through `word_ids` and remember the number before. For None, write -100 and remember None.
#
# </details>

# %% [markdown]
# ### Word by word
#
# What a careful person tries first: a linear layer gives each word a score for each of the seven
# tags, and a softmax picks. The encoder stays frozen here, so its vectors are computed once. We
# read them after the *third* of its six blocks. MiniLM was trained to make vectors of whole
# sentences, and its last blocks serve that purpose; the record behind the figure below tried all of
# them.
#
# To see what little data does, we train on 60 references.

# %%
from torch.nn.utils.rnn import pad_sequence

from zoo_lessons.tagging import NO_LABEL, TaggingHead, word_features

few, tested = train_references[:60], test_references[:60]
features = word_features(encoder, word_pieces, [one.words for one in few], block=3)
test_features = word_features(encoder, word_pieces, [one.words for one in tested], block=3)
x = pad_sequence(features, batch_first=True)  # (references, words, d_model)
tag_ids = pad_sequence(
    [torch.tensor([TAGS.index(tag) for tag in one.tags]) for one in few],
    batch_first=True,
    padding_value=NO_LABEL,
)  # (references, words)
print("d_model", x.shape[-1], "· labels fit the words:", tag_ids.shape == x.shape[:2])


# %% tags=["nbval-ignore-output"]
def train_tagger(crf, steps=60):
    torch.manual_seed(0)
    head = TaggingHead(x.shape[-1], TAGS, crf=crf)
    batches = [(x, tag_ids)]
    fit(head, batches, lambda head, batch: head.loss(*batch), steps=steps, lr=2e-2, progress=False)
    return head.eval()


softmax_head = train_tagger(crf=False)
by_word = softmax_head.predict(test_features)
for word, tag, true in list(zip(tested[2].words, by_word[2], tested[2].tags, strict=True))[:16]:
    print(f"{word:16} {tag:10} {'' if tag == true else 'should be ' + true}")


# %% [markdown]
# Many single tags are right. But does an *entity* come out right? An entity counts only if its
# type, its first and its last word are all correct. **Precision** is the share of the found
# entities that are right, **recall** the share of the true ones that were found, and **F1** their
# harmonic mean, $2PR/(P+R)$.
#
# Some tag sequences are nonsense from the start: `I-TITLE` behind `O` continues a title that never
# began. BIO calls such a step **illegal**.
#
# ### Exercise 6 · From tags to entities (★★☆, 10 min)

# %% tags=["exercise"]
def my_entity_spans(tags):
    """tags: a list such as ["B-TITLE", "I-TITLE", "O"]. Illegal I- tags start nothing.

    Returns a list of (type, first word, word after the last), in order: [("TITLE", 0, 2)].
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("08.entity_spans", my_entity_spans)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Each B- tag appends a new span. An I- tag may lengthen the last span: under which two conditions?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The type must be the same, and the last span must end exactly where the I- tag stands.
#
# </details>

# %%
from zoo_lessons.tagging import entities, has_illegal_step

truth = [one.tags for one in tested]


def scores(found):
    """Precision, recall and F1 over all references together."""
    true_spans = {(i, *span) for i, tags in enumerate(truth) for span in entities(tags)}
    spans = {(i, *span) for i, tags in enumerate(found) for span in entities(tags)}
    right = len(true_spans & spans)
    precision, recall = right / len(spans), right / len(true_spans)
    return precision, recall, 2 * precision * recall / (precision + recall)


pairs = zip(sum(map(list, truth), []), sum(by_word, []), strict=True)
words_right = [true == guess for true, guess in pairs]
illegal = sum(has_illegal_step(tags) for tags in by_word) / len(by_word)
print("more than 75 % of the words right:  ", sum(words_right) > 0.75 * len(words_right))
print("less than 65 % entity F1:           ", scores(by_word)[2] < 0.65)
print("illegal in more than half of them:  ", illegal > 0.5)

# %% tags=["nbval-ignore-output"]
print(f"words right {sum(words_right) / len(words_right):.0%}, illegal {illegal:.0%}")
print("precision {:.2f}, recall {:.2f}, F1 {:.2f}".format(*scores(by_word)))

# %% [markdown]
# A title of ten words needs ten right decisions, and each word decides alone.
#
# ### A score for the whole sequence
#
# A **conditional random field** (CRF; Lafferty, McCallum and Pereira, 2001) scores the sequence as
# a whole. Let $e_{t,y}$ be the score of tag $y$ at word $t$ (`emissions`, what the linear layer
# gave), and $T_{y,y'}$ a trained score of going from tag $y$ to tag $y'$ (`transitions`). Tags also
# have trained scores for coming first, $\text{start}_y$, and for coming last, $\text{end}_y$. A
# sequence $y = y_1 \dots y_n$ scores
#
# $$ s(y) = \text{start}_{y_1} + \sum_{t=1}^{n} e_{t,y_t} + \sum_{t=2}^{n} T_{y_{t-1},y_t}
# + \text{end}_{y_n} $$
#
# and a softmax over *all sequences* turns scores into probabilities:
#
# $$ p(y) = \frac{e^{s(y)}}{Z}, \qquad Z = \sum_{y'} e^{s(y')} $$
#
# The loss is $-\log p$ of the true sequence, as always. An illegal transition gets the score
# $-\infty$, and every sequence with it the probability 0.
#
# **Predict.** Three tags and five words. How many sequences are in the sum? And with our seven tags
# and thirty words?

# %%
from itertools import product

num_tags, length = 3, 5
emissions = torch.randn(length, num_tags, dtype=torch.float64)
transitions = torch.randn(num_tags, num_tags, dtype=torch.float64)  # (from, to)
start, end = torch.randn(2, num_tags, dtype=torch.float64)


def score(y):
    total = start[y[0]] + end[y[-1]] + sum(emissions[t, y[t]] for t in range(length))
    return total + sum(transitions[y[t - 1], y[t]] for t in range(1, length))


all_scores = {y: score(y) for y in product(range(num_tags), repeat=length)}
log_z = torch.stack(list(all_scores.values())).logsumexp(dim=0)
print(f"{len(all_scores)} sequences; with 7 tags and 30 words: {7**30:.0e}")

# %% [markdown]
# Nobody sums $10^{25}$ terms. But sequences share their beginnings. Let $a_{t,y}$ be the log of the
# summed $e^{\text{score}}$ of all beginnings that end at word $t$ in tag $y$. Then one step needs
# only the values of the step before:
#
# $$ a_{1,y} = \text{start}_y + e_{1,y}, \qquad
# a_{t,y'} = e_{t,y'} + \log \sum_{y} e^{a_{t-1,y} + T_{y,y'}}, \qquad
# \log Z = \log \sum_y e^{a_{n,y} + \text{end}_y} $$
#
# This is the **forward algorithm**. It takes $n \cdot \text{tags}^2$ steps. First with plain loops:

# %%
a = [start[y] + emissions[0, y] for y in range(num_tags)]
for t in range(1, length):
    a = [
        emissions[t, to]
        + torch.stack([a[y] + transitions[y, to] for y in range(num_tags)]).logsumexp(dim=0)
        for to in range(num_tags)
    ]
looped = torch.stack([a[y] + end[y] for y in range(num_tags)]).logsumexp(dim=0)
assert torch.allclose(looped, log_z)
print("three loops agree with the sum over all sequences")


# %% [markdown]
# ### Exercise 7 · The log-partition of a CRF (★★★, 15 min)
#
# $\log Z$ is called the **log-partition**. Write it for a padded batch, with one loop over the
# words and none over the tags. All lengths are at least 1.

# %% tags=["exercise"]
def my_log_partition(emissions, transitions, start, end, mask):
    """log Z of each sentence: (batch,).

    emissions: (batch, length, tags). transitions: (tags, tags), from and to. start, end: (tags,).
    mask: Boolean (batch, length), False at padding.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("08.log_partition", my_log_partition)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Keep `scores` (batch, tags). `scores[:, :, None] + transitions` has the axes (batch, from, to).
# Over which of them does the formula sum?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# At a padded position, nothing happens: `torch.where(mask[:, t, None], longer, scores)`.
#
# </details>

# %% [markdown]
# The library's `CRF` holds the three scores as parameters. Put in ours, it must agree. Its `decode`
# finds the best sequence with **Viterbi's algorithm**: the same recursion with $\max$ in place of
# the log of the sum, which remembers where each maximum came from. And its `marginals`, the
# probability of each tag at each word, are the gradient of $\log Z$ with respect to the emissions.

# %%
from zoo_lessons.layers import CRF

crf = CRF(num_tags).double()
with torch.no_grad():
    for parameter, values in ((crf.transitions, transitions), (crf.start, start), (crf.end, end)):
        parameter.copy_(values)
batch = emissions[None].requires_grad_()  # (1, length, tags)
assert torch.allclose(crf.log_partition(batch), log_z)
assert tuple(crf.decode(batch)[0]) == max(all_scores, key=all_scores.get)
(gradient,) = torch.autograd.grad(crf.log_partition(batch).sum(), batch)
assert torch.allclose(crf.marginals(batch), gradient)
print("log-partition, best sequence and marginals agree")

# %% [markdown]
# ### Does it help?
#
# Same vectors, same 60 references, same number of steps. **Predict.** How many illegal sequences
# are left?

# %%
crf_head = train_tagger(crf=True)
as_sequence = crf_head.predict(test_features)
gain = scores(as_sequence)[2] - scores(by_word)[2]
print("illegal sequences:", sum(has_illegal_step(tags) for tags in as_sequence))
print("F1 is higher by more than 0.1:", gain > 0.1)

# %% tags=["nbval-ignore-output"]
only_legal = softmax_head.predict(test_features, "legal only")
for name, found in {"softmax": by_word, "legal only": only_legal, "CRF": as_sequence}.items():
    print("{:11} precision {:.2f}, recall {:.2f}, F1 {:.2f}".format(name, *scores(found)))

# %% [markdown]
# *Legal only* takes the softmax's own scores, and lets Viterbi's algorithm pick the best sequence
# that BIO allows. So forbidding nonsense brings part of the gain. Does the rest come from the
# transitions that the CRF has learned? Here they are.

# %% tags=["nbval-ignore-output"]
learned = crf_head.crf.transitions.detach().clone()
learned[~crf_head.crf.allowed] = float("nan")
fig = lab.heatmap(
    learned, TAGS, TAGS, title="Transitions of the trained CRF", row_axis="from", column_axis="to",
    value="score", numbers=".1f", cmap="coolwarm", limits=(-0.6, 0.6),
)  # fmt: skip
fig.set_size_inches(7, 5.4)
lab.show_figure(
    fig,
    "Blank squares are forbidden. What is common scores a little higher: to stay inside an entity, "
    "to leave it to O, to begin a title or venue behind O.",
    "Heat map of learned scores from each of seven tags to each of seven tags. Steps from I- tags "
    "to the same tag and to O are slightly positive, most others slightly negative, and illegal steps "
    "are blank.",
)

# %% [markdown]
# That looks like an explanation, so test it. **Predict.** Wipe these scores out after training, and
# decode the CRF's emissions with nothing but the rules. How much of the gain is lost?

# %%
wiped = crf_head.predict(test_features, "legal only")
change = scores(as_sequence)[2] - scores(wiped)[2]
print("F1 changes by less than 0.08:", abs(change) < 0.08)

# %% tags=["nbval-ignore-output"]
print(f"with transitions {scores(as_sequence)[2]:.2f}, wiped out {scores(wiped)[2]:.2f}")

# %% [markdown]
# Little. Here, most of what the CRF gained is in the *emissions*. Its loss asks that the right
# sequence beat all other legal ones, not that each word win by itself, and the linear layer has
# learned something else under it. The rules did their part during training.

# %% [markdown]
# ### When does it help?
#
# One draw of 60 references proves little. `make record` trained heads on 20, 80 and all references
# with several seeds, on three encoders: MiniLM's bare *word* vectors, which see no neighbour; its
# third block, as above; and the same with a bidirectional LSTM on top, which is trained to look at
# neighbours for exactly this task.

# %% tags=["nbval-ignore-output"]
record = load_record("tagging")
tagging = record["figures"]
heads = ["softmax", "softmax, legal only", "CRF"]
fig, axes = plt.subplots(1, 3, figsize=(9, 3.8), sharey=True)
for ax, (name, sizes) in zip(axes, tagging["f1"].items(), strict=True):
    runs = {head: torch.tensor([row[head]["test"] for row in sizes.values()]).T for head in heads}
    counts = [int(size) for size in sizes]
    lab.lines(runs, counts, title=name, x_axis="references to train on", y_axis="", log="x", ax=ax)
    ax.axhline(tagging["baselines"]["rule"]["test"], color="grey", label="rule by hand")
    ax.get_legend().remove()
axes[0].set(ylabel="entity F1, test references", ylim=(0, 1))
axes[2].legend(loc="lower right", fontsize=9)
lab.show_figure(
    fig,
    f"Means and ranges of {tagging['seeds']} seeds. The weaker the encoder, the more the CRF "
    "adds. The grey line is a rule without any learning.",
    "Three line charts of entity F1 against 20 to 400 training references, for bare word vectors, "
    "for MiniLM and for MiniLM with an LSTM. The distance between CRF and softmax is largest for "
    "word vectors and smallest with the LSTM on all references.",
)
print(f"{record['machine']['device']} · {record['date']} · {record['command']}")

# %% tags=["nbval-ignore-output"]
from statistics import mean

print(f"{'':14} from  illegal   CRF  elsewhere  gain over legal only")
for name, sizes in tagging["f1"].items():
    for size, row in sizes.items():
        legal, chained = row["softmax, legal only"]["test"], row["CRF"]["test"]
        gains = [one - other for one, other in zip(chained, legal, strict=True)]
        print(
            f"{name:14} {size:>4} {mean(row['illegal']):8.0%}  {mean(chained):.2f} "
            f"{mean(row['CRF']['other']):10.2f}  {mean(gains):+.2f} "
            f"({min(gains):+.2f} to {max(gains):+.2f})"
        )
for name, baseline in tagging["baselines"].items():
    print(f"{name:28}  {baseline['test']:.2f} {baseline['other']:10.2f}")
seen = tagging["seen"]
print(
    f"last CRF: recall {seen['seen']:.2f} on the {seen['share seen']:.0%} of entities that training "
    f"has word by word, {seen['unseen']:.2f} on the others"
)
print("softmax after block 0 to 6, validation:", *(f"{f1:.2f}" for f1 in tagging["blocks"]))

# %% [markdown]
# The table has the number of references to learn from, the share of test references in which the
# softmax takes an illegal step, and the CRF's F1 on the test references and *elsewhere*, explained
# below. Read the panels from left to right.
#
# - **Words alone** tell a softmax next to nothing: *of* can stand anywhere. With the CRF the same
#   vectors become useful.
# - **MiniLM, word by word** (softmax), loses against a rule that we wrote by hand in a few lines (the
#   title is the longest run of words without punctuation). With the CRF, 20 references match that
#   rule and 80 beat it.
# - **With the LSTM and all references**, the gain is gone: over the seeds it is positive and
#   negative. The LSTM reads the neighbours itself, and few illegal steps are left to repair.
#
# So a CRF pays when emissions are weak, and with an encoder that can learn context it pays when
# labels are few. A strong tagger hardly needs it. If you only want legal output, decode with the
# rules alone; that needs no training.
#
# "Elsewhere" are references from `networkx`, whose writers have other habits. All taggers lose
# there, which a test on the same libraries would have hidden. Few test entities occur in training
# word by word, mostly venues; the others are found nearly as well. Two more cautions. The end of
# a venue follows a rule of ours, not the writers' marks. And MiniLM's model card lists titles of
# scientific papers among its training data: it may have met some of these titles, though never
# their tags.
#
# ### Read what nobody marked
#
# Now the use. These references never had marks, so there is no gold answer: judge for yourself.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.references import unmarked

new = unmarked()[:4]
new_features = word_features(encoder, word_pieces, new, block=3)
for words, tags in zip(new, crf_head.predict(new_features), strict=True):
    print(textwrap.fill(" ".join(words), 100, subsequent_indent="    "))
    for name, first, after in entities(tags):
        print(f"    {name:8} {' '.join(words[first:after])}")

# %% [markdown]
# ## 10 · Search by meaning (further)
#
# Someone asks: *How do I compare words without caring about capital letters?* The Python reference
# has the answer, but it says "caseless matching" and "casefolded", and none of the words of the
# question. A search that compares words cannot find it. Compare meanings, then: one vector for the
# question, one for each passage, and the closest passage wins.
#
# The passages are paragraphs of the reference. To keep waiting short, we take at most two short
# ones of each section here; the evaluation below takes all.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.prose import documents

passages = [
    (document.name, paragraph)
    for document in documents("reference")
    for paragraph in [text for text in document.paragraphs if 15 <= len(text.split()) <= 60][:2]
]
print(len(passages), "passages, for instance:\n")
print(textwrap.fill(passages[40][1], 100))

# %% [markdown]
# A **sentence embedding** is the mean of the last block's vectors over all tokens, padding left
# out, scaled to length 1. That is the recipe of MiniLM's model card, and what the model was trained
# for: on a billion pairs such as a question and its answer, it learned to put the two close
# together ([Reimers and Gurevych, 2019](https://arxiv.org/abs/1908.10084), describe the method).
# The dot product of two such vectors is the cosine of their angle.

# %%
from zoo_lessons.retrieval import sentence_embeddings

embedded = sentence_embeddings(encoder, word_pieces, [text for _, text in passages])
assert torch.allclose(embedded.norm(dim=1), torch.ones(len(passages)), atol=1e-5)
print("d_model", embedded.shape[1], "· all vectors have length 1")


# %% [markdown]
# Ask your own question. English, please; MiniLM knows hardly anything else.
#
# **Try this.** Ask the same thing twice, in other words. Then ask for something that is not there,
# such as a recipe for bread: the box always answers, and only the low similarity gives it away.

# %% tags=["nbval-ignore-output"]
def search(question):
    (asked,) = sentence_embeddings(encoder, word_pieces, [question])
    similarity = embedded @ asked  # (passages,)
    values, places = similarity.topk(3)
    found = [passages[i] for i in places.tolist()]
    return Answer(
        [(name, value, text) for (name, text), value in zip(found, values.tolist(), strict=True)]
    )


AskBox(
    search,
    label="Your question about Python",
    button="Search",
    values="similarity",
    value_format=".2f",
    examples=[
        "How do I make my own objects callable like a function?",
        "Is it the brackets or the comma that makes a pair of values?",
        "How large can a whole number get?",
        "a recipe for bread",
    ],
)

# %% [markdown]
# ### What a careful person tries first
#
# Search by words is older, faster, and good. **BM25** (Robertson and Zaragoza, 2009) adds up, over
# the words $w$ of the question that occur $n_w$ times in a passage of length $\ell$,
#
# $$ \text{idf}_w \cdot \frac{n_w}{n_w + k_1 \left(1 - b + b\, \ell / \bar\ell\right)}, \qquad
# \text{idf}_w = \log\left(1 + \frac{N - N_w + 0.5}{N_w + 0.5}\right) $$
#
# Here $\bar\ell$ is the mean length, and $N_w$ of the $N$ passages hold the word. Rare words count
# more; repetition helps less and less ($k_1 = 1.2$); long passages are marked down ($b = 0.75$).

# %%
import math

from zoo_lessons.retrieval import BM25, words

question = "assign a value to an item of a list"
counted = [words(text) for _, text in passages]
mean_length = sum(map(len, counted)) / len(counted)
idf = {}
for word in words(question):
    holding = sum(word in passage for passage in counted)
    idf[word] = math.log(1 + (len(counted) - holding + 0.5) / (holding + 0.5))


def bm25_score(passage):
    length = 1 - 0.75 + 0.75 * len(passage) / mean_length
    times = {word: passage.count(word) for word in idf}
    return sum(idf[w] * times[w] / (times[w] + 1.2 * length) for w in words(question))


looped = torch.tensor([bm25_score(passage) for passage in counted])
assert torch.allclose(looped, BM25([text for _, text in passages]).scores(question), atol=1e-4)
print("the loop and the library's BM25 agree on all passages")

# %% [markdown]
# ### A test that does not leak
#
# To compare the two we need questions with known answers, and nothing in the question may give the
# answer away for free. `make record` ran three tests on all paragraphs of the reference:
#
# - **own words**: questions as someone might ask who does not know the terms of the reference;
# - **named**: exact names, as one types them into a search box, such as `popitem`;
# - **first sentence**: the first sentence of a paragraph must find the *rest* of that paragraph.
#   First sentences are taken out of what is searched.
#
# We wrote the first two kinds ourselves, in `datasets.reference_questions`: we chose paragraphs,
# and asked for each what it answers. So the first kind is made hard for word search and the second
# easy; look at both. Nobody chose the wording of the third.
#
# The measure is the **mean reciprocal rank** (MRR): the mean of 1 / rank of the first right
# passage. **Predict.** Where does each method win? Does a combination of both beat each?

# %% tags=["nbval-ignore-output"]
record = load_record("semantic_search")
figures = record["figures"]
methods = ["BM25", "TF-IDF of letters", "MiniLM", "BM25 + MiniLM"]
fig, ax = plt.subplots(figsize=(8.5, 3.8))
for i, (method, hatch) in enumerate(zip(methods, ["", "//", "..", "xx"], strict=True)):
    rows = torch.tensor([test[method]["MRR"] for test in figures["tests"].values()])
    middle, low, high = rows.T
    places = torch.arange(len(rows)) + 0.2 * (i - 1.5)
    ax.bar(places, middle, 0.19, hatch=hatch, label=method, edgecolor="white")
    bars = [middle - low, high - middle]
    ax.errorbar(places, middle, bars, fmt="none", ecolor="black", capsize=3)
names = [f"{name}\n({test['questions']} questions)" for name, test in figures["tests"].items()]
ax.set_xticks(range(len(names)), names)
ax.set(title=f"Search among {figures['passages']} paragraphs", ylabel="mean reciprocal rank")
ax.set_ylim(0, 1)
ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
lab.show_figure(
    fig,
    "Bars: mean reciprocal rank, with 95 % bootstrap intervals over the questions. Meaning wins "
    "where people use their own words; for exact names, counting words is as good.",
    "Bar chart of mean reciprocal rank for three tests and four methods. Own words: MiniLM "
    "highest, both word methods low. Named: all high. First sentence: MiniLM a little higher than the rest.",
)
print(f"{record['machine']['device']} · {record['date']} · {record['command']}")

# %% tags=["nbval-ignore-output"]
for test, results in figures["tests"].items():
    print(f"{test} ({results['questions']} questions)")
    for method in methods:
        shares = "  ".join(f"@{k} {results[method][f'recall@{k}'][0]:.0%}" for k in (1, 5, 10))
        difference, low, high = results[method]["MRR minus BM25's"]
        print(
            f"   {method:18} recall {shares:24}  MRR {results[method]['MRR'][0]:.2f}, "
            f"minus BM25's {difference:+.2f} ({low:+.2f} to {high:+.2f})"
        )


# %% [markdown]
# - In people's **own words**, MiniLM's MRR is about twice BM25's, and the interval of the
#   difference leaves out zero.
# - For exact **names**, BM25 is ahead, but fourteen questions are too few to be sure.
# - With **first sentences**, MiniLM leads by little; with hundreds of questions, that little is
#   certain.
# - The **combination** disappoints. It is second in all three tests and first in none: where BM25
#   finds nothing, its ranking is noise, and the fusion trusts it as much as the other. It is the
#   cautious choice if you do not know what people will ask.
#
# Even the best is no oracle: for questions in own words, the right paragraph is the first hit in
# less than a third of the cases. Where does each fail? Here are the questions on which the two
# differ most.

# %% tags=["nbval-ignore-output"]
def show_failures(loser, winner, count=3):
    ratio = [one["rank"][loser] / one["rank"][winner] for one in figures["asked"]]
    for i in sorted(range(len(ratio)), key=lambda i: -ratio[i])[:count]:
        one = figures["asked"][i]
        print(f"{one['question']}  ({winner}: rank {one['rank'][winner]})")
        print(
            f"   {loser} has it at rank {one['rank'][loser]}. Its first: {one['first'][loser]}..."
        )
        print(f"   right: {one['answer']}...\n")


show_failures("BM25", "MiniLM")
show_failures("MiniLM", "BM25")


# %% [markdown]
# Search by words fails where no word is shared. Search by meaning fails on details: a dictionary's
# order is close to any text about order. What does it cost? One pass of the encoder per passage,
# once; then one pass per question and $N \cdot d$ multiplications for $N$ passages. BM25 needs no
# model at all. And a vector holds only what the encoder read: at most 256 pieces of a passage.

# %% [markdown]
# ## 11 · Two streams belong to XLNet
#
# One of the overview articles behind this course says that BERT answers questions "with two-stream
# attention". You have just built question answering, and there was one stream: one vector $h_i$ per
# token, and two heads on top. Two-stream attention comes from another model, XLNet
# ([Yang et al., 2019](https://arxiv.org/abs/1906.08237), section 2.3), and it serves *pre-training*.
#
# XLNet has no [MASK]. It predicts the tokens one after the other like GPT, but in a random order, so
# that in time each token is predicted from words on both sides. This brings a dilemma. When token $i$
# is predicted, its vector must know the *place* $i$, but not the *word* at $i$. When a later token is
# predicted, the vector of $i$ must know the word. One vector cannot do both, so XLNet keeps two:
#
# - the **content stream** $h_i$: it sees the tokens before $i$ in the order, *and itself*;
# - the **query stream** $g_i$: it sees the tokens before $i$ in the order, *not itself*. It starts from
#   one trained vector, the same for all, and its place.
#
# ### Exercise 8 · Two streams (★★☆, 8 min)
#
# Write both masks for a given order.

# %% tags=["exercise"]
def stream_masks(order):
    """order: list of positions, order[0] is predicted first.

    Returns (content, query), both Boolean (tokens, tokens): may the row look at the column?
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("08.stream_masks", stream_masks)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make a list `turn`, where `turn[i]` says when token i is predicted. For the order 2, 0, 1 it is
# 1, 2, 0.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Compare all pairs: `turn[None, :]` belongs to the columns, `turn[:, None]` to the rows. The two masks
# differ in one sign.
#
# </details>

# %%
from zoo_lessons.layers.two_stream import two_stream_masks

words = "the cat sat on the mat".split()
order = [2, 5, 1, 0, 3, 4]
content, query = two_stream_masks(order)
bert = torch.ones(6, 6, dtype=torch.bool)  # every token sees every token
print("order:", [f"{words[i]} ({i})" for i in order])
print("the query stream never sees its own token:", not query.diagonal().any().item())

# %%
fig = lab.heatmaps(
    {"BERT": bert.float(), "XLNet: content": content.float(), "XLNet: query": query.float()},
    [f"{i} {word}" for i, word in enumerate(words)],
    [f"{i} {word}" for i, word in enumerate(words)],
    row_axis="token that looks",
    column_axis="token looked at",
    value="may look (1) or not (0)",
    limits=(0, 1),
)
lab.show_figure(
    fig,
    "Masks for the order sat, mat, cat, the, on, the. BERT's lets all through. In XLNet's, row 2 "
    "('sat', first in the order) sees itself in the content stream and nothing in the query stream. "
    "The two differ in the diagonal only.",
    "Three heat maps of six by six squares. BERT: all filled. XLNet content: irregular, with a full "
    "diagonal. XLNet query: the same without the diagonal.",
)

# %% [markdown]
# Now let both streams compute, with the attention of lesson 01. Keys and values come from the content
# stream; only the queries differ. Which words does the *prediction of token 1* depend on? The
# gradient tells.

# %%
from zoo_lessons.layers import scaled_dot_product_attention

place = torch.randn(6, 16)  # a vector per position
h = torch.randn(6, 16, requires_grad=True)  # content stream: the words
g = torch.randn(16).expand(6, 16)  # query stream: the same start for every token

new_g, _ = scaled_dot_product_attention(g + place, h + place, h, query)
new_h, _ = scaled_dot_product_attention(h + place, h + place, h, content)
for name, stream in {"query stream g_1": new_g, "content stream h_1": new_h}.items():
    (gradient,) = torch.autograd.grad(stream[1].sum(), h, retain_graph=True)
    depends = [f"{words[i]} ({i})" for i in range(6) if gradient[i].abs().sum() > 0]
    print(f"{name:18} depends on {depends}")

# %% [markdown]
# $g_1$ can predict *cat* because it depends on *sat* and *mat* alone: what came before it in the
# order. $h_1$ depends on *cat* too, and that is what later tokens need. For question answering XLNet
# drops the query stream and uses the content stream as an ordinary Transformer (end of section 2.3),
# again with a head for the start and one for the end. So where the article puts two streams, neither
# BERT nor even XLNet has them.
#
# ### Claim C23, measured
#
# The claim has three parts. All three were recorded: sections 4, 7 and 9.

# %%
lab.show_claim(load_claim("C23"))

# %% [markdown]
# ## 12 · Read the real thing
#
# The head of section 5 as the library has it, and what it shares with the other four heads.

# %%
from zoo_lessons.models.bert import BertWithHead

lab.show_source(BertForQuestionAnswering)

# %%
lab.show_source(BertWithHead, without_docstring=True)

# %%
lab.show_source(best_spans, without_docstring=True)

# %% [markdown]
# | | paper | this course | `transformers` |
# |---|---|---|---|
# | classifier reads | [CLS] | [CLS] through the pooler (`BertForSequenceClassification`); sections 2 to 4 also take the mean | [CLS] through the pooler |
# | dropout before the head | 0.1 | 0.1 (classification and tagging) | the same, with its own rate |
# | start and end | two vectors | one linear layer with two outputs | the same |
# | loss | sum of the log-likelihoods of start and end | mean of two cross-entropies | mean of two cross-entropies, out-of-range positions ignored |
# | legal spans | $j \ge i$ | $j \ge i$, in the passage, at most 15 tokens | the model gives scores; choosing a span is left to you |
# | no answer | span of [CLS], threshold $\tau$ | the same | left to you |

# %% [markdown]
# ## 13 · What it costs
#
# Let $N$ be the parameters of the layers and $n$ the tokens. A forward pass takes about $2 N n$ FLOPs
# (a multiplication and an addition per weight and token). A backward pass takes $2 N n$ for the
# gradients of the inputs, and $2 N n$ for those of the weights. A frozen layer below all trained ones
# needs neither. We let PyTorch count.

# %%
from torch.utils.flop_counter import FlopCounterMode


def step_flops(trained_layers):
    """FLOPs of one training step of the topic classifier on 16 texts of 32 tokens."""
    classifier.bert.requires_grad_(False)
    classifier.bert.layers[6 - trained_layers :].requires_grad_(True)
    ids, mask, y = (part[:16] for part in data["train"])
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(classifier(ids, mask), y).backward()
    return counter.get_total_flops()


frozen_step = step_flops(0)
for count in (0, 1, 2, 6):
    print(f"{count} layers trained: {step_flops(count) / frozen_step:.2f} times the frozen step")

# %% [markdown]
# Six layers cost nearly three times the frozen step: forward, and two parts backward. (Nearly: below
# the first layer no gradient of the inputs is needed.)
#
# **Memory.** Training with AdamW keeps 16 bytes per trained parameter: weight, gradient, and two
# running means of 4 bytes each. A frozen parameter keeps 4. Besides, the activations of all trained
# layers wait for the backward pass.
#
# **Storage.** Each fully fine-tuned task is a whole new model.

# %%
from zoo_lessons.models import BertConfig, BertModel

with torch.device("meta"):  # counts without allocating
    base = sum(p.numel() for p in BertModel(BertConfig.base()).parameters())
for name, size in {"MiniLM": pretrained, "BERT-Base": base}.items():
    print(
        f"{name:9} fine-tuning {16 * size / 1e9:.2f} GB before activations, frozen "
        f"{4 * size / 1e9:.2f} GB; ten tasks on disk {10 * 4 * size / 1e9:.1f} GB"
    )

reading = load_record("reading")["figures"]
size = 10 * reading["checkpoint"]["bytes"]
print(f"ten changes of rank {reading['rank']} on disk: {size / 1e9:.3f} GB")

# %% [markdown]
# ## Quiz

# %%
lab.quiz("08")

# %% [markdown]
# ## Summary
#
# - One pretrained encoder serves many tasks: a head of a few thousand parameters on [CLS], on the
#   mean, or on every token, and some training of the layers below.
# - With few labels a frozen encoder and a small classifier go far: here, 16 labels per topic do more
#   than 64 do for TF-IDF. Fine-tuning adds some points when there are more labels.
# - An answer is a span: two scores per token, the best *legal* pair, and [CLS] for "the passage does
#   not say". Exact match and F1 measure it, and a baseline without reading tells what they are worth.
# - Tags that depend on each other want a CRF, and sentence vectors make a search engine (sections 9
#   and 10). Two-stream attention belongs to XLNet, not to BERT.
# - **Next:** [09 ViT](09_vit.ipynb) takes the encoder to images. **Read:** Devlin et al. 2018,
#   [BERT](https://arxiv.org/abs/1810.04805), sections 3.2, 4 and 5.3 (frozen features); Rajpurkar et
#   al. 2018, [Know What You Don't Know](https://arxiv.org/abs/1806.03822), section 4, on questions
#   without an answer; Yang et al. 2019, [XLNet](https://arxiv.org/abs/1906.08237), section 2.3;
#   Mosbach et al. 2021, [On the Stability of Fine-tuning
#   BERT](https://arxiv.org/abs/2006.04884), section 6, on learning rates.
