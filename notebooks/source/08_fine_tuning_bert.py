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
# **Time:** 60 minutes · **You need first:** 07 BERT: pre-training
#
# **On the zoo map:** part II, The zoo · **New parts:** Classification head, Start and end heads, Conditional random field · **Models:** BERT, MiniLM
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/08_fine_tuning_bert.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F08_fine_tuning_bert.ipynb) · [Solutions](solutions/08_fine_tuning_bert.ipynb)

# %% tags=["setup"]
import importlib.util
import os
import sys

if "google.colab" in sys.modules and not importlib.util.find_spec("zoo_lessons"):
    repository = "https://github.com/transformer-zoo-lessons/transformer-zoo-lessons"
    os.system(f"git clone --quiet --depth 1 {repository} course")
    os.system("pip install --quiet --editable course")
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
# - *Mark the names:* which words are people, which are places?
#
# The first wants one label per text, the second a piece of the text, the third a label per word. Each
# of them has a few hundred examples. That is far too little to learn English from. But MiniLM has
# read English by the gigabyte. What it knows sits in the vectors that it gives to the words:

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
# Sections 1 to 8 and 11 are the core of this lesson. Sections 9 and 10, tagging and search, go
# further.

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
# $W$, $W_p$, $b$, $b_p$, $s$ and $e$ are all that is new. ($W_p$, $b_p$ is the *pooler*, which exists
# since pre-training.) How much is that?

# %%
from zoo_lessons.models import BertForQuestionAnswering, BertForSequenceClassification
from zoo_lessons.models.bert import BertForTokenClassification

kinds = {
    "a text": BertForSequenceClassification.from_encoder(encoder, num_labels=6),
    "each token": BertForTokenClassification.from_encoder(encoder, num_labels=5),
    "a span": BertForQuestionAnswering.from_encoder(encoder),
}
pretrained = sum(p.numel() for p in encoder.parameters())
print(f"encoder: {pretrained:,} parameters")
for name, model in kinds.items():
    new = sum(p.numel() for key, p in model.named_parameters() if not key.startswith("bert."))
    print(f"labels for {name:10}: {new:5,} new parameters, {new / pretrained:.4%} of the encoder")

# %% [markdown]
# A few thousand new numbers beside 22 million trained ones. The rest of the lesson asks what this
# buys, and each time compares with what a careful person would try first.

# %% [markdown]
# ## 2 · A topic from one vector
#
# Our texts are paragraphs from the documentation of the libraries that this course installs. The label
# is where a paragraph comes from: `scipy.stats` writes about statistics, `matplotlib` about drawing.
# Nobody checked these labels by hand, and paragraphs that name their library are left out. No
# module has paragraphs in two splits.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.topics import TOPICS, passages_by_topic

train = passages_by_topic("train", 16)
test = passages_by_topic("test", 30)
print(f"{len(train)} passages to learn from, {len(test)} to be tested on; topics: {TOPICS}")
for passage in test[:4]:
    print(f"\n{TOPICS[passage.label]} ({passage.module}): {passage.text[:150]}")

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
# The TF-IDF features weigh each word (and pair of words) by how rare it is. With 16 examples per
# topic, most words of a test passage never occurred in training, so there is nothing to count.
# MiniLM brings what it has read elsewhere.

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
    steps=30,
    lr=3e-4,
    schedule="warmup_linear",
)
with torch.no_grad():
    found = classifier.eval()(*data["test"][:2]).argmax(dim=-1)
tuned = (found == labels["test"]).float().mean().item()
print(f"fine-tuned {tuned:.0%} right, frozen {frozen['mean']:.0%}")

# %% tags=["nbval-ignore-output"]
fig = lab.training_curves(
    {"fine-tuning": history}, title="Thirty steps of fine-tuning", y_axis="cross-entropy", smooth=5
)
lab.show_figure(
    fig,
    "The loss on the training passages falls quickly. That alone says little: with 96 passages, a "
    "model with millions of parameters can learn them by heart.",
    "Line chart: cross-entropy falls from about 1.8 to below 0.5 within 30 steps.",
)

# %% [markdown]
# Compare the two figures above. On a handful of labels the frozen encoder is often as good, and it
# costs nothing: the difference lies within the luck of drawing 96 passages. Section 4 repeats this
# with several draws.
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
# The learning rate is the one setting that fine-tuning depends on most. The pretrained weights are
# worth keeping: a rate that is right for training from nothing shakes them to pieces.
#
# **Predict.** Pre-training used rates around 1e-4. Which of 3e-5, 1e-4, 3e-4, 1e-3 is best here, and
# which one is too much?

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
    "SWEEPCAPTION",
    "SWEEPALT",
)
print(f"best on validation: {record['best_rate']:g}")

# %% [markdown]
# The rate was chosen on *validation* passages, and the next section measures on *test* passages.
# Choosing and measuring on the same texts would flatter the winner.

# %% [markdown]
# ## 4 · How many labels does it take?
#
# `make record` trained everything three times, each time on other passages, with 4, 16 and 64 labels
# per topic. Both logistic regressions chose their strength by cross-validation. Two lines are
# controls: a BERT of MiniLM's size with *random* weights shows what pre-training is worth.

# %%
shown = {name: rows for name, rows in record["accuracy"].items()}
fig = lab.lines(
    shown,
    record["per_topic"],
    title=f"Accuracy on {record['test_passages']} passages of unseen modules",
    x_axis="labels per topic",
    y_axis="accuracy",
    log="x",
)
fig.axes[0].axhline(1 / len(record["topics"]), color="grey", linewidth=1, linestyle=":")
lab.show_figure(
    fig,
    "LABELSCAPTION",
    "LABELSALT",
)
most = record["per_topic"][-1]
mean = sum(record["random_trained"]) / record["seeds"]
print(f"random weights, all layers trained on {most} labels per topic: {mean:.0%}")

# %% [markdown]
# ## 5 · An answer is a span
#
# Now the second request. The passages are generated by `datasets.reading`, so that we know what it
# takes to answer. Read one:

# %%
from zoo_lessons.datasets.reading import reading_questions

questions = reading_questions("validation", 200)
for example in questions[EXAMPLES]:
    print(example.passage)
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
for name, row in {"segment": batch.token_type_ids, "passage": batch.in_passage.int()}.items():
    print(f"{name:8}", *row[0].tolist())
print("tokens  ", *tokens)
print("answer  ", tokens[start : end + 1], "at", int(start), "to", int(end))

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
batch, start, end = encode(reading_questions("train", 150))
with torch.no_grad():
    hidden = encoder(*batch.inputs()).last_hidden_state  # (questions, tokens, d_model)

history = fit(
    frozen_reader.qa_outputs,
    lambda step: None,  # all questions at once
    lambda head, _: span_loss(*head(hidden).unbind(-1), start, end, batch.attention_mask),
    steps=150,
    lr=1e-2,
    progress=False,
)
print(f"loss on the training questions: {history.loss[0]:.2f} -> {history.loss[-1]:.2f}")

# %% [markdown]
# The record below has this method too, with more questions, under the name *frozen*. It learns that
# answers are names, places or years, and not much more. A frozen MiniLM was made to say what a
# sentence is *about*. Who sold to whom, as the question asks it, must be worked out *between*
# question and passage, in the layers.
#
# So all layers have to be trained, which takes minutes. `make record` did it, FINETEXT

# %%
record = load_record("reading")["figures"]
steps = [count for count, _ in record["plan"]]
print(f"{sum(steps)} steps of {record['batch']} questions, rate {record['rate']:g}, "
      f"{record['seeds']} seeds")  # fmt: skip

# %%
import numpy as np

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
    "LOSSCAPTION",
    "LOSSALT",
)

# %% [markdown]
# Now all methods on the same new questions. *Known wordings* use the sentence patterns of training,
# with other people, things and places. *New wordings* never occurred: "Ruth paid James a good price
# for the ..." instead of "Ruth bought ... from James".

# %%
# %%
methods = {**record["methods"], "kept in 2.4 MB": [record["checkpoint_scores"]]}
columns = {"validation": "known wordings", "test": "new wordings"}
print(f"exact match in %, mean over seeds (lowest to highest); {record['questions']} questions each\n")
print(f"{'':15}" + "".join(f"{name:>22}" for name in columns.values()))
for name, runs in methods.items():
    cells = []
    for split in columns:
        values = [100 * run[split]["exact_match"] for run in runs]
        cells.append(f"{np.mean(values):.0f} ({min(values):.0f} to {max(values):.0f})")
    print(f"{name:15}" + "".join(f"{cell:>22}" for cell in cells))

# %% [markdown]
# METHODSTEXT
#
# ### The checkpoint
#
# We load what the first seed learned. The file keeps only the *change* of MiniLM: for each matrix, the
# difference between fine-tuned and pretrained, cut to rank 32 (a product of a tall and a wide
# matrix). That fine-tuning changes little, and in few directions, is the idea behind LoRA ([Hu et al.,
# 2021](https://arxiv.org/abs/2106.09685), section 4.1), which trains such products from the start.

# %%
from zoo_lessons.checkpoints import load_trained

reader = load_trained("minilm_reading")
full = 4 * sum(p.numel() for p in reader.parameters())
print(f"{full / 1e6:.0f} MB as a model, {record['checkpoint']['bytes'] / 1e6:.1f} MB as a change")

# %% [markdown]
# What do the two heads say? Take one question and draw both probabilities over the tokens.

# %%
shown = next(q for q in questions if q.kind == "places" and q.answer)
batch, start, end = encode([shown])
tokens = tokenizer.encode(shown.question, shown.passage).tokens
with torch.no_grad():
    output = reader(*batch.inputs())
chances = torch.cat([output.start_logits, output.end_logits]).softmax(dim=-1)  # (2, tokens)
print(shown.question, "->", shown.answer)

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(10, 3.4))
places = np.arange(len(tokens))
ax.bar(places - 0.2, chances[0], 0.4, label="start")
ax.bar(places + 0.2, chances[1], 0.4, label="end", hatch="//")
ax.set_xticks(places, tokens, rotation=90)
ax.set(title="Where does the answer start, where does it end?", ylabel="probability", xlabel="token")
ax.legend()
lab.show_figure(
    fig,
    "Both heads point at the answer; what is left over shows what else was considered.",
    "Bar chart over the tokens of question and passage: one tall bar for the start and one for the "
    "end, both on the answer.",
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
asked = reading_questions("validation", 150, seed=1)
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

# %% tags=["nbval-ignore-output"]
fig = lab.lines(
    curves,
    taus,
    title="150 validation questions",
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
# Where you put $\tau$ depends on what an error costs. A search box may guess; a doctor's assistant
# should rather say nothing.

# %% [markdown]
# ## 8 · Ask the Python reference
#
# Our reader has learned from lamps and keys. Does it read real prose? Here is a passage of the
# Python reference, read from your own installation. Ask, and see the answer marked in the text.
#
# **Try this.** Ask what the text says in other words. Ask something that it does not say. Then put a
# passage of your own into `passage` and run both cells again.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.lab.widgets import Answer, AskBox

passage = next(text for text in paragraphs("reference") if "PASSAGEKEY" in text)
threshold = record["checkpoint_scores"]["threshold"]


def ask(question):
    """Mark the reader's answer in the passage, and say how sure it is."""
    (found,) = answer_questions(reader, tokenizer, [question], [passage], threshold=threshold)
    sure = 1 / (1 + np.exp(-(found.margin - threshold)))
    rows = [("the marked span", sure), ("the passage does not say", 1 - sure)]
    return Answer(rows, passage, (found.first, found.last) if found.last > found.first else None)


AskBox(ask, examples=[EXAMPLESREF], values="share")

# %% [markdown]
# REFTEXT

# %% [markdown]
# <!-- further sections, sequence tagging and semantic search: written by their author, from here -->

# %% [markdown]
# ## 9 · Tags that follow rules (further)

# %% [markdown]
# ## 10 · Search by meaning (further)

# %% [markdown]
# <!-- further sections: to here -->

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
# ### Exercise 5 · Two streams (★★☆, 8 min)
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
# drops the query stream and fine-tunes the content stream with all tokens visible: start and end
# heads again (the paper's section 2.6 and appendix A). So where the article puts two streams, neither
# BERT nor even XLNet has them.
#
# ### Claim C23, measured
#
# The claim has three parts. All three were recorded: sections 4, 7 and 9.

# %%
claim = load_claim("C23")
print(f"Claim C23: {claim['says']}\nVerdict: {claim['verdict']}.\n{claim['explanation']}")

# %% tags=["nbval-ignore-output"]
print(f"Here: {claim['ours']}")

# %% [markdown]
# ## 12 · Read the real thing
#
# The head of section 5 as the library has it, and what it shares with the other four heads.

# %%
from zoo_lessons.models.bert import BertWithHead

lab.show_source(BertForQuestionAnswering)

# %%
lab.show_source(BertWithHead)

# %%
lab.show_source(best_spans)

# %% [markdown]
# | | paper | this course | `transformers` |
# |---|---|---|---|
# | classifier reads | [CLS] | [CLS] through the pooler (`BertForSequenceClassification`); sections 2 to 4 also take the mean | [CLS] through the pooler |
# | dropout before the head | 0.1 | 0.1 (classification and tagging) | the same, with its own rate |
# | start and end | two vectors | one linear layer with two outputs | the same |
# | loss | sum of the log-likelihoods of start and end | mean of two cross-entropies | mean of two cross-entropies, out-of-range positions ignored |
# | legal spans | $j \ge i$ | $j \ge i$, in the passage, at most 15 tokens | left to the pipeline (`max_answer_len=15`) |
# | no answer | span of [CLS], threshold $\tau$ | the same | the same, off by default |

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
    model = TopicClassifier(max(trained_layers, 1))
    if trained_layers == 0:
        model.bert.requires_grad_(False)
    ids, mask, y = (part[:16] for part in data["train"])
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(ids, mask), y).backward()
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
CHECKPOINTCELL

# %% [markdown]
# ## Quiz

# %%
lab.quiz("08")

# %% [markdown]
# ## Summary
#
# - One pretrained encoder serves many tasks: a head of a few thousand parameters on [CLS], on the
#   mean, or on every token, and some training of the layers below.
# - SUMMARYLABELS
# - An answer is a span: two scores per token, the best *legal* pair, and [CLS] for "the passage does
#   not say". Exact match and F1 measure it, and a baseline without reading tells what they are worth.
# - Tags that depend on each other want a CRF, and sentence vectors make a search engine (sections 9
#   and 10). Two-stream attention belongs to XLNet, not to BERT.
# - **Next:** 09 ViT takes the encoder to images. **Read:** Devlin et al. 2018,
#   [BERT](https://arxiv.org/abs/1810.04805), sections 3.2, 4 and 5.3 (frozen features); Rajpurkar et
#   al. 2018, [Know What You Don't Know](https://arxiv.org/abs/1806.03822), section 3, on questions
#   without an answer; Yang et al. 2019, [XLNet](https://arxiv.org/abs/1906.08237), section 2.3;
#   Mosbach et al. 2021, [On the Stability of Fine-tuning
#   BERT](https://arxiv.org/abs/2006.04884), section 4, on learning rates.
