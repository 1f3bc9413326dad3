# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 17 · Smaller models
#
# *How much of a model can go before its quality does?*
#
# After this lesson you can
#
# - distil a model by its logits, by its features, and by both
# - count what sharing layers saves, and what it costs
# - let easy inputs leave early, and measure the speed-up on real batches
# - draw the Pareto front of quality against time and size
#
# **Time:** 60 minutes · **You need first:** [08 Fine-tuning BERT](08_fine_tuning_bert.ipynb)
#
# **On the zoo map:** part III, Efficiency · **New parts:** Layer sharing, Factorised embedding, Early exit · **Models:** DistilBERT, ALBERT, BERT
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/17_smaller_models.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F17_smaller_models.ipynb) · [Solutions](solutions/17_smaller_models.ipynb)

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
# ## The question
#
# Lesson 08 asked MiniLM which of six topics a paragraph is about. Here is that task again, with
# paragraphs cut to 24 tokens.

# %%
import textwrap

import torch

from zoo_lessons.datasets.topics import TOPICS, passages_by_topic
from zoo_lessons.weights import load_pretrained, load_tokenizer

tokenizer = load_tokenizer("minilm")
tokenizer.enable_truncation(24)
tokenizer.enable_padding(length=24)


def encode(passages):
    """Token ids (passages, tokens), attention_mask (passages, tokens), labels (passages)."""
    found = tokenizer.encode_batch([passage.text for passage in passages])
    ids, mask = ([getattr(one, part) for one in found] for part in ("ids", "attention_mask"))
    return torch.tensor(ids), torch.tensor(mask), torch.tensor([p.label for p in passages])


passages = {"train": passages_by_topic("train", 64), "test": passages_by_topic("test", 30)}
train, test = (encode(part) for part in passages.values())
print("train", tuple(train[0].shape), "· test", tuple(test[0].shape), "(passages, tokens)")
print("topics:", ", ".join(TOPICS))

# %% tags=["nbval-ignore-output"]
for passage in passages["test"][:3]:
    print(f"{TOPICS[passage.label]:16}", textwrap.shorten(passage.text, 78))

# %% [markdown]
# MiniLM read far more than such passages before it came here, and it sends each of them through all
# six layers, the plain ones and the puzzling ones alike. There are three ways to make use of that:
#
# - **Keep fewer layers**, and let the whole model teach the small one (*distillation*, sections 2
#   to 5).
# - **Use fewer layers for easy inputs** (*early exit*, section 6).
# - **Store fewer numbers** for as many layers (*sharing*, section 7), or cut out what matters
#   least (*pruning*, section 8).
#
# Each saves something else: parameters, time, or both. **How much of a model can go before its
# quality does?** Section 9 draws the answer in one picture. Sections 1 to 6 are the core; 7 to 9
# go further.

# %% [markdown]
# ## 1 · Where the parameters are
#
# Before cutting, look where there is something to cut. With vocabulary size $V$, width $d$, $L$
# layers and hidden width $d_\text{ff} = 4d$, an encoder has about
#
# $$ \underbrace{V d}_{\text{words}} + L \big( \underbrace{4 d^2}_{\text{attention}} +
# \underbrace{8 d^2}_{\text{feed-forward}} \big) $$
#
# parameters. On the `meta` device tensors have a shape and no numbers, so even large models can be
# counted at once.
#
# **Predict.** DistilBERT has half of BERT's layers. Does it have half of its parameters?

# %%
from zoo_lessons.models import (
    AlbertConfig,
    AlbertModel,
    BertConfig,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
)


def count(module):
    """Parameters, each counted once."""
    return sum(p.numel() for p in module.parameters())


with torch.device("meta"):
    zoo = {
        "BERT-Base": BertModel(BertConfig()),
        "DistilBERT": DistilBertModel(DistilBertConfig.base()),
        "ALBERT-base": AlbertModel(AlbertConfig.base()),
        "MiniLM": BertModel(BertConfig.minilm()),
    }
for name, model in zoo.items():
    words, layers = count(model.embeddings), count(model.layers)
    print(f"{name:12} {count(model) / 1e6:6.1f} M: embeddings {words / 1e6:5.1f}, "
          f"{len(model.layers):2} layers {layers / 1e6:5.1f}")  # fmt: skip
saved = 1 - count(zoo["DistilBERT"]) / count(zoo["BERT-Base"])
print(f"DistilBERT has {saved:.0%} fewer parameters than BERT-Base")

# %% [markdown]
# Not half: the embeddings stay. **C24 says that BERT has 110 million parameters and DistilBERT
# 40 % fewer**, and the count agrees, but for rounding. The time of a forward pass does halve, for
# looking up a word's vector costs next to nothing.
#
# ALBERT's twelve layers count only once, because they are the same layer; section 7 explains it.
# MiniLM, which we use throughout, is itself made by distillation ([Wang et al.,
# 2020](https://arxiv.org/abs/2002.10957)): by its model card it keeps every second layer of a student
# that had twelve.

# %% [markdown]
# ## 2 · A teacher's doubts
#
# Why should a small model learn from a large one, when it could learn from the labels? Because a
# teacher says more. Let us build one. MiniLM stays frozen, and after each of its six layers a
# linear classifier reads the first token, [CLS]. We need the six later; for now the last one is the
# teacher, and the one after layer 2 plays a student, who knows less.

# %%
from zoo_lessons.early_exit import EarlyExit, early_exit_loss
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.distill import record_layers

seed_everything(0)
model = EarlyExit(load_pretrained("minilm"), len(TOPICS)).eval()


@torch.no_grad()
def first_tokens(ids, mask):
    """[CLS] after each layer: (layers, passages, d_model)."""
    found = []
    for part_ids, part_mask in zip(ids.split(64), mask.split(64), strict=True):
        with record_layers(model.encoder) as states:
            model.encoder(part_ids, part_mask)
        found.append(torch.stack(states)[:, :, 0])
    return torch.cat(found, dim=1)


vectors = {name: first_tokens(*part[:2]) for name, part in (("train", train), ("test", test))}
print("train", tuple(vectors["train"].shape), "(layers, passages, d_model)")


# %% tags=["nbval-ignore-output"]
def every_logit(classifiers, x):
    """x (layers, passages, d_model) -> logits (layers, passages, topics)."""
    return torch.stack([classify(part) for classify, part in zip(classifiers, x, strict=True)])


def loss(classifiers, labels):
    return early_exit_loss(every_logit(classifiers, vectors["train"]), labels)


history = fit(model.classifiers, lambda step: train[2], loss, steps=150, lr=1e-2, weight_decay=0.1)
with torch.no_grad():
    logits = every_logit(model.classifiers, vectors["test"])  # (layers, passages, topics)
accuracy = (logits.argmax(-1) == test[2]).double().mean(dim=1)
print("share right after each layer:", [f"{share:.0%}" for share in accuracy.tolist()])

# %%
assert accuracy[-1] > 0.45 and accuracy[-1] > accuracy[0]
print("the last classifier is right far more often than chance (17 %), and than the first")

# %% [markdown]
# What does the teacher say about a passage? A label says *arrays*, and nothing else. The teacher
# gives every topic a probability, and the ranking of the wrong ones holds what it knows about
# topics: which of them it takes for neighbours ([Hinton et al.,
# 2015](https://arxiv.org/abs/1503.02531), section 1).
#
# A sure teacher hides it: if one class gets nearly everything, little is left to read in the
# others. So both sides are **softened**. With logits $z$ and temperature $T$,
#
# $$ p_i(T) = \frac{e^{z_i / T}}{\sum_j e^{z_j / T}} $$
#
# $T = 1$ leaves the probabilities as they are, and a larger $T$ evens them out (lesson 06 used it
# to choose words).

# %% tags=["nbval-ignore-output"]
teacher_logits, student_logits = logits[-1], logits[1]  # (passages, topics)
example = 0
print(textwrap.shorten(passages["test"][example].text, 90), "\n")
print(f"{'':18}", *(f"T = {t:<4}" for t in (1, 2, 4, 8)))
softened = [(teacher_logits[example] / t).softmax(-1) for t in (1, 2, 4, 8)]
for i, topic in enumerate(TOPICS):
    print(f"{topic:18}", *(f"{p[i]:<8.3f}" for p in softened))

# %% [markdown]
# The student should give the same probabilities. How far it is from that says the
# *Kullback-Leibler divergence*, here from the teacher's $q$ to the student's $p$, for one example:
#
# $$ \mathrm{KL}(q \,\|\, p) = \sum_i q_i \log \frac{q_i}{p_i} $$
#
# It is 0 if the two agree, and weights each class by how likely **the teacher** thinks it. Turned
# round, with $p$ and $q$ exchanged, it would weight by the student's opinion, and a student could
# ignore a class by giving it no probability. First as a loop, then at once:

# %%
import math

from torch.nn import functional as F

T = 2.0
q = (teacher_logits / T).softmax(dim=-1)  # (passages, topics)
p = (student_logits / T).softmax(dim=-1)

by_loop = 0.0
for i in range(len(q)):
    for c in range(len(TOPICS)):
        by_loop += q[i, c].item() * math.log(q[i, c].item() / p[i, c].item()) / len(q)

log_q = (teacher_logits / T).log_softmax(dim=-1)
log_p = (student_logits / T).log_softmax(dim=-1)
at_once = (log_q.exp() * (log_q - log_p)).sum(dim=-1).mean()
pytorch = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
assert math.isclose(by_loop, at_once.item(), rel_tol=1e-4)
assert torch.allclose(at_once, pytorch, rtol=1e-4)
print("the loop, the tensors and PyTorch agree")

# %% [markdown]
# One thing is missing. The derivative of the divergence with respect to a student's logit is
#
# $$ \frac{\partial\, \mathrm{KL}}{\partial z_i} = \frac{1}{T} \, (p_i - q_i), $$
#
# and at a high temperature $p_i - q_i$ itself shrinks like $1/T$, because both come close to even.
# So the gradient falls like $1/T^2$. If the loss is added to another one, a change of $T$ would
# silently change which of them counts. The factor $T^2$ takes that back:
#
# $$ \mathcal{L}_\text{soft} = T^2 \, \mathrm{KL}\big(q(T) \,\|\, p(T)\big) $$

# %%
for t in (1.0, 2.0, 4.0, 8.0, 16.0):
    z = student_logits.clone().requires_grad_()
    divergence = F.kl_div(
        (z / t).log_softmax(-1),
        (teacher_logits / t).log_softmax(-1),
        reduction="batchmean",
        log_target=True,
    )
    (gradient,) = torch.autograd.grad(divergence, z)
    expected = ((z / t).softmax(-1) - (teacher_logits / t).softmax(-1)) / t / len(z)
    assert torch.allclose(gradient, expected, atol=1e-7)
print("autograd's gradient is (p - q) / T, divided by the batch")

# %% [markdown]
# **Try this.**
#
# 1. Move the temperature from 1 to 20. Which wrong topics does the teacher rank high?
# 2. Watch the two curves on the right. From which temperature on does the one with $T^2$ change little,
#    while the other goes on falling?
# 3. Find an example on which the teacher is wrong. What would the student learn from it?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import TemperatureExplorer

TemperatureExplorer(
    TOPICS,
    teacher_logits[:20],
    student_logits[:20],
    names=[passage.text for passage in passages["test"][:20]],
    truth=test[2][:20].tolist(),
    temperature=2.0,
)


# %% [markdown]
# ### Exercise 1 · Soft targets (★★☆, 8 min)

# %% tags=["exercise"]
def my_soft_target_loss(student_logits, teacher_logits, temperature):
    """T² · KL(teacher ‖ student), both softened by the temperature.

    Both logits are (batch, classes). Returns the mean over the batch, ().
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("17.soft_targets", my_soft_target_loss)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Divide *both* logits by the temperature, then take `log_softmax` of both.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `at_once` above is the divergence. Sum over the classes, mean over the batch, then the factor.
#
# </details>

# %% [markdown]
# ## 3 · A teacher's ways
#
# The logits are what a teacher says. Its hidden states are how it gets there. FitNets ([Romero et
# al., 2015](https://arxiv.org/abs/1412.6550)) let a student imitate them: **feature distillation**.
# Two questions come up. Which of the teacher's layers? And how is the distance of two vectors
# measured?
#
# **Which layers.** A student of three layers has half of the depth, so each of its layers must do
# the work of two. After its first layer it should be where the teacher is after *two*.
#
# ### Exercise 2 · Which layers to compare (★☆☆, 4 min)
#
# The teacher's layers are numbered from 0. Which of them should the student's layers be compared
# with? The number of the teacher's layers is a multiple of the student's.

# %% tags=["exercise"]
def my_matching_layers(teacher_layers, student_layers):
    """Numbers of layers -> a list: for each student layer the number of the teacher's."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("17.matching_layers", my_matching_layers)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many of the teacher's layers does one student layer replace? Mark them on paper for 6 and 3.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Compare with the *last* of the layers that it replaces.
#
# </details>
#
# **Which distance.** DistilBERT asks for the same direction: one minus the cosine of the two
# vectors $h$ (student) and $g$ (teacher) of each token,
#
# $$ \mathcal{L}_\text{feature} = 1 - \frac{h \cdot g}{\lVert h \rVert \, \lVert g \rVert}, $$
#
# 0 for the same direction, 1 at a right angle, 2 for opposite ones. If the widths differ, a linear
# layer brings the student's to the teacher's first. `record_layers` collects the states. Here is
# how the direction of MiniLM's own states changes with depth:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.training.distill import feature_loss, soft_target_loss

ids, mask, _ = (part[:32] for part in test)
with torch.no_grad(), record_layers(model.encoder) as states:
    model.encoder(ids, mask)
distances = [[feature_loss(a, b, mask.bool()).item() for b in states] for a in states]
fig = lab.heatmap(
    distances,
    [str(i) for i in range(1, 7)],
    [str(i) for i in range(1, 7)],
    title="How far MiniLM's layers are from each other",
    row_axis="after layer",
    column_axis="after layer",
    value="1 - cosine",
    numbers=True,
)
lab.show_figure(
    fig,
    "The first layers turn the vectors little by little, the last one by far the most. A student's layer "
    "that replaces two has the way of both to go in one step.",
    "Heat map of six by six layers: zero on the diagonal, growing away from it, most toward layer 6.",
)


# %% [markdown]
# ### Exercise 3 · A loss for features (★★☆, 6 min)
#
# Mind the padding: what the two models make of it is nobody's concern.

# %% tags=["exercise"]
def my_feature_loss(student, teacher, attention_mask):
    """1 - cosine, the mean over real tokens.

    student and teacher are (batch, length, d_model), attention_mask (batch, length) is 1 for
    tokens and 0 for padding. Returns ().
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("17.feature_loss", my_feature_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `F.cosine_similarity(..., dim=-1)` gives one number for each token: (batch, length).
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Index the distances with `attention_mask.bool()`, then take the mean of what is left.
#
# </details>

# %% [markdown]
# ## 4 · DistilBERT
#
# DistilBERT ([Sanh et al., 2019](https://arxiv.org/abs/1910.01108)) puts this together:
#
# - **The body.** BERT with half of the layers, no segments, no pooler.
# - **The start.** Its layers are copies of every second layer of the teacher.
# - **The loss.** Three terms: soft targets, masked words (lesson 07), cosine of the hidden states.
#
# `distil_from` makes the start. It leaves the teacher's layers 0, 2 and 4; any others can be named.
# A useful check of such a copy: with *all* layers, the student must say what its teacher says.

# %%
from zoo_lessons.models.distilbert import distil_from

bert = load_pretrained("minilm")
student, whole = distil_from(bert), distil_from(bert, range(6))
ids, mask = test[0][:8], test[1][:8]
with torch.no_grad():
    expected = bert(ids, mask).last_hidden_state
    found = whole(ids, mask).last_hidden_state
assert torch.allclose(found, expected, atol=1e-4)
print("with all six layers the copy computes what MiniLM does", tuple(found.shape))
print(f"with layers 0, 2, 4: {count(student) / 1e6:.1f} M of {count(bert) / 1e6:.1f} M parameters, "
      f"{count(student.layers) / count(bert.layers):.0%} of those in layers")  # fmt: skip

# %% [markdown]
# And our DistilBERT beside that of `transformers`, with the same random weights:

# %%
import transformers

from zoo_lessons.weights import from_transformers

config = transformers.DistilBertConfig(
    vocab_size=30522, n_layers=3, n_heads=4, dim=64, hidden_dim=256
)
theirs = transformers.DistilBertModel(config).eval()
ours = from_transformers(theirs).eval()
with torch.no_grad():
    a = ours(ids, mask).last_hidden_state
    b = theirs(input_ids=ids, attention_mask=mask).last_hidden_state
assert torch.allclose(a[mask.bool()], b[mask.bool()], atol=1e-4)
print("same hidden states", tuple(a.shape))

# %% [markdown]
# At the published sizes, DistilBERT and ALBERT (section 7), recorded:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.records import load_claim, load_record

lab.model_table(load_record("efficiency_model_table"), ["DistilBERT", "ALBERT"])

# %% [markdown]
# | | paper | this course | `transformers` 5.23 |
# |---|---|---|---|
# | starts from | "one layer out of two" | layers 0, 2, 4, ..., or as given | published weights only |
# | the teacher's segments | removed | segment 0 is added to the positions | removed |
# | loss | soft targets + masked words + cosine | each term by itself; `make record` compares them | none, it only runs the model |
# | features compared | the last hidden states | every layer's, or as you like | none |
#
# The authors' published code takes layers 0, 2, 4, 7, 9 and 11 of twelve, so the last one is among
# them; the paper does not say which.

# %% [markdown]
# ## 5 · Claim C08: does it transfer?
#
# **C08: logit and feature distillation transfer knowledge from a large model to a small one.** To
# measure it, `make record` made a teacher: six classifiers as in section 2, then fine-tuned together
# with MiniLM, on 384 labelled passages. Then it trained a student of three layers in five ways. The
# first four differ in nothing but the loss, the fifth also in its passages:
#
# - *alone*: the labels;
# - *logits*: the labels, and soft targets at $T = 2$;
# - *features*: the labels, and the cosine of hidden states after the teacher's layers 2, 4 and 6;
# - *both*: all three;
# - *no labels*: soft targets and features, on two and a half times as many passages, none of whose
#   labels the student sees. A teacher can be asked about any text.
#
# Students start from layers 0, 2 and 4 of MiniLM as it was *before* fine-tuning: what they know of
# topics, they learn.
#
# **Predict.** Which of the five comes closest to the teacher? Can a student without labels be
# better than one with labels?

# %% tags=["nbval-ignore-output"]
import matplotlib.pyplot as plt
import numpy as np

record = load_record("c08_distillation")
figures = record["figures"]
ways = ["alone", "logits", "features", "both", "no labels", "teacher"]
print(f"{record['machine']['device']} · {record['date']} · {figures['seeds']} seeds, "
      f"{figures['tested']} test passages")  # fmt: skip
fig, ax = plt.subplots(figsize=(7.5, 3.4))
for place, way in enumerate(ways):
    shares = 100 * np.array(figures["accuracy"][way])
    ax.plot(shares, [place] * len(shares), "o", color="0.55", markersize=5)
    ax.plot(shares.mean(), place, "D", color="tab:blue", markersize=8)
ax.set_yticks(range(len(ways)), ways)
ax.invert_yaxis()
ax.set(title="Three layers taught in five ways, and their teacher", xlabel="accuracy on test (%)")
lab.show_figure(
    fig,
    "Diamonds are means, dots the seeds.",
    "Dot plot of accuracy for the ways alone, logits, features, both, no labels, and for the "
    "teacher, with a dot for each seed.",
)

# %% [markdown]
# The passages are the same for all, so the fairest comparison is passage by passage: where is one
# right and the other not? Its interval is narrower than that of two separate accuracies. The last
# column says how often a student gives its teacher's answer, right or wrong.

# %%
print(f"{'points over a student alone':28} {'mean':>6} {'95 % interval':>18} {'agrees':>8}")
for way in ways[1:-1]:
    gain = {name: 100 * value for name, value in figures["gain"][way].items()}
    agrees = np.mean(figures["agreement"][way])
    print(
        f"{way:28} {gain['mean']:+6.1f} {gain['low']:+9.1f} to {gain['high']:+5.1f} {agrees:8.0%}"
    )

# %%
lab.show_claim(load_claim("C08"))

# %% [markdown]
# *Partly.* Features brought 2.5 points over the student alone. Soft targets brought nothing that can
# be told from zero, and with both together the gain is no longer sure either. The best
# student saw no label at all. But it had more passages, and there is no student here that learned
# from labels of as many, so the table cannot say how much of its gain is the teacher's doing.
#
# Keep the size of the game in mind. The teacher is five points better than the student alone: that
# is all there was to hand on. And why did soft targets not help? A likely reason, which we have not
# tested: this teacher learned from the same 384 passages on which it then teaches. It knows their
# answers and is sure of them (section 6), so it says little more about them than the labels do.
#
# Does the start matter? Two other starts, trained alone with the same labels:

# %%
starts = {
    "every second layer": "alone",
    "first three": "start: first three",
    "random": "start: random",
}
for name, key in starts.items():
    line = f"{name:20} {np.mean(figures['accuracy'][key]):.1%}"
    if key != "alone":
        gain = {bound: 100 * value for bound, value in figures["gain"][key].items()}
        line += f"  {gain['mean']:+.1f} points ({gain['low']:+.1f} to {gain['high']:+.1f})"
    print(line)


# %% [markdown]
# Which layers are copied matters: the first three are the worst start. But copies of every second
# layer are no better than *random* layers here; the interval of their difference includes zero. What
# a student with random layers still has of MiniLM are its word embeddings, which all of them share
# and keep as they are. DistilBERT's authors, with far more training on far more text, report that
# random layers cost 3.69 points on GLUE ([Sanh et al., 2019](https://arxiv.org/abs/1910.01108),
# table 4). Our experiment is too small to speak against that.

# %% [markdown]
# ## 6 · Leave early
#
# A student is small for every input. But inputs differ: some are clear after a layer or two. PABEE
# ([Zhou et al., 2020](https://arxiv.org/abs/2006.04152)) keeps all layers, puts a classifier on
# each, and lets an example **leave when its prediction has stayed the same for some layers in a
# row**. That number is the *patience*.
#
# Let $\hat y_l$ be the prediction after layer $l$. A counter of confirmations is
#
# $$ c_1 = 0, \qquad c_l = \begin{cases} c_{l-1} + 1 & \hat y_l = \hat y_{l-1} \\ 0 &
# \text{otherwise} \end{cases} $$
#
# and the example leaves at the first layer with $c_l \geq$ patience, or after the last. The
# classifiers are trained together, the $j$-th with weight $j$:
#
# $$ \mathcal{L} = \frac{\sum_j j \cdot \mathcal{L}_j}{\sum_j j} $$
#
# That is what we did in section 2, with a frozen MiniLM. So the exits are there to be used.
#
# ### Exercise 4 · Patience (★★☆, 8 min)

# %% tags=["exercise"]
def my_exit_layers(predictions, patience):
    """predictions: (layers, batch), the class that each layer predicts.

    Returns (batch): how many layers each example goes through, from 1 to all.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("17.patience", my_exit_layers)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A loop over examples and layers is fine. Keep a counter for each example.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Start with "all layers" for everybody, and lower it for those who leave.
#
# </details>
#
# Now with the whole test set. Slide the patience.
#
# **Try this.**
#
# 1. Which patience halves the layers? What does it cost in accuracy?
# 2. Show the ones that leave *wrong*. Would more layers have helped them?
# 3. Look for a passage that all layers get right, and for one that changes its class three times.
#    Can you see why?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import PatienceExplorer

confidence, predictions = logits.softmax(dim=-1).max(dim=-1)  # (layers, passages) each
names = [textwrap.shorten(passage.text, 110) for passage in passages["test"]]
PatienceExplorer(predictions, test[2], TOPICS, confidence, names=names, patience=2)

# %% [markdown]
# ### Does it save time?
#
# Only if the layers above are not computed. In a batch that means: take out the rows that leave,
# and go on with the others. `EarlyExit.predict` does so. Here on real batches of 30, beside a pass
# through all layers. A ratio below 1 is a saving.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import compare

batches = list(zip(test[0].split(30), test[1].split(30), strict=True))[:2]


def run(**rule):
    return lambda: [model.predict(ids, mask, **rule) for ids, mask in batches]


with torch.no_grad():
    ways_to_leave = {
        "all layers": lambda: [model.encoder(ids, mask) for ids, mask in batches],
        "patience 1": run(patience=1),
        "patience 2": run(patience=2),
        "patience 3": run(patience=3),
    }
    comparison = compare(ways_to_leave, rounds=3, warmup=1)
for name in ways_to_leave:
    print(f"{name:12} {comparison.ratio(name):.2f} of the time")

# %% [markdown]
# A layer on ten rows takes more than a third of its time on thirty: small matrices use a processor
# less well. So expect to save less time than layers. Section 9 has the recorded
# figures, one by one and in batches.
#
# ### Sure is not right
#
# There is a simpler rule: leave when the classifier is sure, say at 90 %. It needs a single
# layer, and no patience. Its weakness is a trained classifier's opinion of itself. These are the
# *fine-tuned* exits of section 5's teachers, on test passages:

# %% tags=["nbval-ignore-output"]
early = figures["early_exit"]  # one a seed
layers = range(1, len(early[0]["layer_accuracy"]) + 1)
fig = lab.lines(
    {
        "how sure they are": [[100 * x for x in e["layer_confidence"]] for e in early],
        "how often they are right": [[100 * x for x in e["layer_accuracy"]] for e in early],
    },
    layers,
    title="Classifiers after each layer, fine-tuned",
    x_axis="after layer",
    y_axis="mean probability, share right (%)",
)
lab.show_figure(
    fig,
    "Up to layer 3 the classifiers are right more often than they think, from layer 4 on less often.",
    "Line chart over six layers with two lines: the mean probability of the predicted class, and "
    "the share that is right.",
)
sure, right = (sum(e[key][-1] for e in early) for key in ("sure", "sure_and_right"))
print(f"the last classifier gives 90 % or more to {sure} passages; {right / sure:.0%} are right")
mean_sure, mean_right = (
    np.mean([e[key][-1] for e in early]) for key in ("layer_confidence", "layer_accuracy")
)
print(f"after layer 6: {mean_sure:.0%} for the predicted class, {mean_right:.0%} right")

# %% [markdown]
# Fine-tuning has made the upper classifiers sure. After layer 6 the predicted class gets 92 % on
# average, and is right in 60 % of the passages. They learned to be sure of 384 passages, and are as
# sure of others. So a threshold of 90 % does not mean that 90 % are right. Patience never asks how
# sure a classifier is, only whether the class stays.
#
# Which rule trades better? Each dot is one patience or one threshold, the mean over the seeds.

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots(figsize=(7, 3.6))
for rule, marker, color in (("patience", "o", "tab:blue"), ("confidence", "s", "tab:orange")):
    used = np.mean([[row["layers"] for row in e[rule]] for e in early], axis=0)
    right = 100 * np.mean([[row["accuracy"] for row in e[rule]] for e in early], axis=0)
    ax.plot(used, right, marker=marker, color=color, label=rule)
    for row, x, y in zip(early[0][rule], used, right, strict=True):
        ax.annotate(
            f"{row[rule]:g}", (x, y), textcoords="offset points", xytext=(4, -11), fontsize=8
        )
        print(f"{rule} {row[rule]:g}: {x:.2f} layers, {y:.1f} % right")
full = 100 * np.mean([e["layer_accuracy"][-1] for e in early])
ax.axhline(full, color="0.5", linewidth=1, linestyle=":", label="all six layers")
ax.set(title="What leaving early costs", xlabel="layers used, mean", ylabel="accuracy (%)")
ax.legend()
lab.show_figure(
    fig,
    "Fine-tuned exits, mean of the seeds. Numbers are the patience or the threshold.",
    "Line chart of accuracy against mean layers used for patience 1 to 5 and confidence 0.5 to "
    "0.99, with the accuracy of all layers as a dotted line.",
)


# %% [markdown]
# The two rules lie close together; neither is clearly better here. Patience 2 uses 4.35 of six layers
# and gives up one point, patience 3 uses 5.2 and gives up none. A classifier that is too sure is
# still surer of the passages on which it is right, so the threshold sorts well, even though it is
# no probability.
#
# ### Exercise 5 · Find the bug: one answer for the whole batch (★★☆, 6 min)
#
# This function should let each example leave at the first layer that is sure enough. With a batch
# of one it does. With larger batches an example's answer depends on its neighbours. Repair it.

# %% tags=["exercise"]
def confident_exits(layer_logits, confidence):
    """layer_logits: (layers, batch, classes).

    Returns (batch): the first layer, from 1, that gives some class at least this probability; all
    layers if none does.
    """
    layers, batch, _ = layer_logits.shape
    for layer in range(layers):
        sure = layer_logits[layer].softmax(dim=-1).amax(dim=-1).mean()
        if sure >= confidence:
            return torch.full((batch,), layer + 1)
    return torch.full((batch,), layers)


# %% tags=["check"]
lab.check("17.batch_exit", confident_exits)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# What is the shape of `sure` before and after `.mean()`?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Make a Boolean (layers, batch), force its last row to True, and find each column's first True:
# `argmax` of integers does that.
#
# </details>

# %% [markdown]
# ## 7 · Claim C07: sharing across layers
#
# **C07: sharing $W^Q$, $W^K$ and $W^V$ across layers cuts parameters.** The article that this course
# grew from illustrates it with code that makes queries, keys and values of a layer in one matrix
# product. That is worth having, and this course does it everywhere. But it shares nothing. Three
# matrices lie side by side in one; each still has its own numbers:

# %%
from torch import nn

d = 384
separate = [nn.Linear(d, d) for _ in range(3)]
fused = nn.Linear(d, 3 * d)
with torch.no_grad():
    fused.weight.copy_(torch.cat([each.weight for each in separate]))
    fused.bias.copy_(torch.cat([each.bias for each in separate]))
x = torch.randn(2, 5, d)
assert torch.allclose(fused(x), torch.cat([each(x) for each in separate], dim=-1), atol=1e-5)
print("the same outputs; parameters:", sum(count(each) for each in separate), "and", count(fused))


# %% [markdown]
# To *share* means that several layers refer to one and the same matrix. One step of training then
# changes it for all of them, and a file stores it once.
#
# ### Exercise 6 · Share the attention (★★☆, 6 min)

# %% tags=["exercise"]
def my_shared_attention(make_layer, num_layers):
    """Build `num_layers` layers with make_layer(); let all use the attention of the first.

    A layer has the parts `attention`, `feed_forward`, `residual1` and `residual2`. The others stay
    each layer's own. Returns how many parameters the layers have together.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("17.share_attention", my_shared_attention)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `nn.ModuleList.parameters()` gives the parameters of a shared module once, so `count` of section 1
# counts them once.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `layer.attention = first.attention` makes two layers refer to the same module.
#
# </details>
#
# ALBERT ([Lan et al., 2019](https://arxiv.org/abs/1909.11942)) shares everything: one layer, used
# twelve times. It also narrows the table of words. With $V$ words, width $d$ and a narrow width
# $e$, a table of $V \cdot e$ numbers and a matrix $e \cdot d$ replace $V \cdot d$. `AlbertConfig`
# has a switch for what is shared.
#
# **Predict.** Attention is a third of a layer's parameters. What share of BERT-Base goes when all
# layers share one attention?

# %%
import dataclasses

wide = AlbertConfig(vocab_size=30522, d_embedding=768)  # as wide as BERT's
with torch.device("meta"):
    for sharing in ("none", "attention", "feed_forward", "all"):
        model_of = AlbertModel(dataclasses.replace(wide, sharing=sharing))
        print(f"shares {sharing:13} {count(model_of) / 1e6:6.1f} M")
    albert = AlbertModel(AlbertConfig.base())
print(f"all, and narrow words {count(albert) / 1e6:6.1f} M (ALBERT-base)")

# %% [markdown]
# What does it cost? Small encoders of four layers learned to fill masked words in the
# captions of the shapes world (lesson 07), three seeds each. As a control there is a single layer,
# which has exactly the parameters of "all" and a quarter of its computation.

# %%
sharing = load_record("c07_sharing")["figures"]
print(
    f"{sharing['steps']} steps, {sharing['seeds']} seeds, {sharing['hidden_words']} hidden words\n"
)
print(f"{'shared':14} {'parameters':>10} {'filled rightly':>15}   seeds")
for name, rows in sharing["accuracy"].items():
    seeds = " ".join(f"{100 * row:.1f}" for row in rows)
    print(f"{name:14} {sharing['parameters'][name]:>10,} {np.mean(rows):15.1%}   {seeds}")

# %%
lab.show_claim(load_claim("C07"))

# %% [markdown]
# *Partly.* The count is right: sharing attention saves a quarter of BERT-Base. (That is the whole of
# attention, as in ALBERT. $W^Q$, $W^K$ and $W^V$ alone, of which the claim speaks, are three quarters
# of it; $W^O$ is the rest.) But it had a price: five points here, and the verdict allows two. Sharing
# everything costs one point more and saves far more, if anything is to be shared. And depth is worth
# something by itself: four passes through one layer fill four points more than the single layer,
# which has exactly the same parameters.
#
# Mind what sharing does *not* save. The layers are still computed one after the other, so time
# stays the same; so do the activations that training keeps. What shrinks are the file, the
# optimizer's state, and, on a small device, the weights that must be read from memory.

# %% [markdown]
# ## 8 · Cut out what matters least
#
# Lesson 02 silenced single heads to see what they do. [Michel et al.,
# 2019](https://arxiv.org/abs/1905.10650) do it to all, and find that many heads can go. To try each
# of 72 heads takes 72 runs over the data. A derivative is cheaper: multiply the output of head $h$
# by a gate $\xi_h = 1$, and ask how much the loss would change if the gate moved,
#
# $$ I_h = \mathbb{E}_x \left| \frac{\partial \mathcal{L}(x)}{\partial \xi_h} \right| . $$
#
# One pass back gives it for all heads. The absolute value stands inside the mean, so that examples
# do not cancel. `prune_heads` then makes the matrices really smaller:

# %%
from zoo_lessons.pruning import head_importance, prune_heads

ids, mask, labels = (part[:64] for part in train)


def losses():
    return F.cross_entropy(model(ids, mask).logits, labels, reduction="none")


importance = head_importance(model, [losses])  # layer's name -> (heads)
least = {name: row.argsort()[:6].tolist() for name, row in importance.items()}
pruned = prune_heads(model, least)
attention = model.encoder.layers[0].attention, pruned.encoder.layers[0].attention
print("q, k, v of a layer:", *(tuple(each.qkv.weight.shape) for each in attention))
print(f"without half of the heads: {count(pruned) / count(model):.1%} of the parameters")

# %% [markdown]
# What is left of the fine-tuned teachers' accuracy when 3, 6 or 9 of the 12 heads of each layer go,
# with no training afterwards? Those that matter least, random ones, and, to see whether the measure
# means anything, those that matter most.

# %% tags=["nbval-ignore-output"]
pruning = figures["pruning"]
series = {
    which: [
        [100 * full_row[-1], *(100 * x for x in seed["accuracy"][which])]
        for full_row, seed in zip(
            [e["layer_accuracy"] for e in early], pruning["seeds"], strict=True
        )
    ]
    for which in ("least important", "random", "most important")
}
fig = lab.lines(
    series,
    [0, *pruning["counts"]],
    title="Heads cut out of each layer, without further training",
    x_axis="heads gone, of 12 in each layer",
    y_axis="accuracy (%)",
)
lab.show_figure(
    fig,
    "Means of three teachers, with their range.",
    "Line chart of accuracy against 0, 3, 6 and 9 heads cut, for the least important, random and "
    "most important heads.",
)
for which, runs in series.items():
    lost = np.mean(runs, axis=0)[0] - np.mean(runs, axis=0)[1:]
    print(f"{which:16} points lost:", *(f"{points:5.1f}" for points in lost))

# %% [markdown]
# Three of twelve heads can go for about one point if they are the least important or random ones, and
# for four if they are the most important. With six gone the means are 4, 6 and 12 points lower. Those
# without the most important heads are then the worst in each of the three seeds; the other two
# choices overlap. With nine gone the least important choice has lost 15 points, the other two 26. So
# the measure says something. It is rough, though: with three heads gone its order does not hold in
# each of the three seeds, and these are teachers that had no chance to recover by further training.

# %% [markdown]
# ## 9 · One picture: quality against time and size
#
# Now all on one page. A way of making a model smaller is worth a look if no other is both better
# and cheaper. Those that pass are the **Pareto front**. Times were recorded side by side, as shares
# of the full model's; a time does not depend on how a student was taught.

# %% tags=["nbval-ignore-output"]
timed = load_record("smaller_models_time")
times = timed["figures"]["times"]
mean = {name: 100 * np.mean(rows) for name, rows in figures["accuracy"].items()}
by_patience = 100 * np.mean([[r["accuracy"] for r in e["patience"]] for e in early], axis=0)
half = 100 * np.mean([s["accuracy"]["least important"][1] for s in pruning["seeds"]])
sizes = {name: value / 1e6 for name, value in timed["figures"]["parameters"].items()}
points = {  # name -> (row of the times, accuracy, million parameters)
    "6 layers": ("6 layers", mean["teacher"], sizes["6 layers"]),
    "3 layers, alone": ("3 layers", mean["alone"], sizes["3 layers"]),
    "3 layers, features": ("3 layers", mean["features"], sizes["3 layers"]),
    "3 layers, no labels": ("3 layers", mean["no labels"], sizes["3 layers"]),
    "half of the heads": ("half of the heads", half, sizes["half of the heads"]),
}
for i in range(4):
    points[f"patience {i + 1}"] = (f"patience {i + 1}", by_patience[i], sizes["6 layers"])


# %%
def front(costs, qualities):
    """Which points no other beats in both: a list of Booleans."""
    pairs = list(zip(costs, qualities, strict=True))
    return [
        not any(c <= cost and q >= quality and (c, q) != (cost, quality) for c, q in pairs)
        for cost, quality in pairs
    ]


assert front([1, 2, 3], [5, 4, 6]) == [True, False, True]
print("the second point is dearer and worse than the first")

# %% tags=["nbval-ignore-output"]
batch = times["batches of 30"]
fig, axes = plt.subplots(1, 2, figsize=(9, 4), sharey=True)
for ax, axis in zip(axes, ("time, share of six layers", "million parameters"), strict=True):
    costs = [batch[row]["ratio"] if ax is axes[0] else size for row, _, size in points.values()]
    qualities = [quality for _, quality, _ in points.values()]
    best = front(costs, qualities)
    print(f"on the front by {axis}:", ", ".join(n for n, b in zip(points, best, strict=True) if b))
    for i, name in enumerate(points):
        color = "tab:blue" if best[i] else "0.65"
        ax.plot(costs[i], qualities[i], "o", color=color, markersize=8)
        if ax is axes[0] or not name.startswith("patience"):
            below = name.startswith("patience")  # students and patiences lie close together
            ax.annotate(name, (costs[i], qualities[i]), textcoords="offset points",
                        xytext=(6, -13 if below else 5), fontsize=8)  # fmt: skip
    ax.set(xlabel=axis)
    ax.margins(x=0.25)
axes[0].set(ylabel="accuracy (%)", title="Quality against time, batches of 30")
axes[1].set(title="Quality against size")
lab.show_figure(
    fig,
    "Blue points are on the Pareto front. On the right all patiences have the size of six layers.",
    "Two scatter plots of accuracy, against the share of time and against millions of parameters, "
    "for the full model, students of three layers, pruned heads and four patiences.",
)
print(f"{timed['machine']['device']} · {timed['date']} · {timed['machine']['threads']} threads")

# %% tags=["nbval-ignore-output"]
print(f"{'share of the full time':22} {'layers':>8} {'batches of 30':>22} {'one by one':>22}")
for name in batch:
    cells = []
    for row in (batch[name], times["one by one"][name]):
        low, high = row["interval"]
        cells.append(f"{row['ratio']:.2f} ({low:.2f} to {high:.2f})")
    used = timed["figures"]["layers"]["batches of 30"].get(name, "")
    print(f"{name:22} {used:>8} {cells[0]:>22} {cells[1]:>22}")

# %% [markdown]
# Go from right to left in the left picture. What is cheaper than six layers and not on the front is a
# bad bargain: something else costs less and is right more often. The three students take the same
# time and have the same size, whatever they were taught, so only the best taught of them can be on a
# front. Early exit keeps the size of the whole model, so on the right it gains nothing. (That
# patience 3 is on that front, and the six layers are not, is a difference within the noise.) And it
# pays for its classifiers before it saves anything: that is the row "classifiers only" of the table.
# Compare the two columns of times, too. In a batch the layers above still run for those who stay, on
# fewer rows; one by one they do not run at all. So one might expect to save more one by one. But for
# a single short passage, the classifier and the decision after each layer weigh more.
#
# Which point to take is no question of the picture. It depends on what is scarce: with memory for
# half of the layers only a student will do; with a mix of easy and hard inputs and no memory to
# save, early exit needs no second model. The front says which choices need not be considered. These
# are one small task and 360 passages, so differences of a point or two are noise.

# %% [markdown]
# ## 10 · Read the real thing

# %%
lab.show_source(soft_target_loss)

# %%
lab.show_source(EarlyExit.predict)

# %%
lab.show_source(distil_from)

# %% [markdown]
# ## 11 · What it costs
#
# | | parameters | time of a pass | training |
# |---|---|---|---|
# | half of the layers | embeddings stay, layers halve | halves | a teacher's pass over every passage, once if its answers are kept |
# | early exit | a classifier a layer more | less, depending on the input | as before, and all classifiers |
# | shared attention | a quarter fewer in BERT-Base | the same | the same time, less memory for the optimizer |
# | everything shared | one layer's | the same | the same time, less memory for the optimizer |
# | heads pruned | 4 · d · head_dim a head | attention's part shrinks, the feed-forward part stays | one pass back for the importance |
#
# Let us check the last line. Attention is $4d^2$ of a layer's $12 d^2$ parameters, so cutting half
# of the heads can save a sixth of a layer at most:

# %%
layer, cut = model.encoder.layers[0], pruned.encoder.layers[0]
print(f"a layer: {count(layer):,} parameters; with half of the heads {count(cut):,}: "
      f"{1 - count(cut) / count(layer):.1%} fewer")  # fmt: skip
assert abs(1 - count(cut) / count(layer) - 1 / 6) < 0.01

# %% [markdown]
# ## Quiz

# %%
lab.quiz("17")

# %% [markdown]
# ## Summary
#
# - Half of the layers are less than half of the parameters, because the embeddings stay: DistilBERT
#   has 40 % fewer than BERT, and takes about half of the time.
# - A student can learn from a teacher's softened probabilities, T² · KL(teacher ‖ student), and from
#   its hidden states, compared after matching layers. Here
#   features helped and soft targets did not; the best student had more text and no labels.
# - With a classifier on each layer, an example leaves when the prediction has settled. What is saved
#   depends on the input, and in batches time falls less than layers do. A sure classifier is not
#   therefore right.
# - Sharing saves parameters and no time; fused q, k and v share nothing. Heads can be ranked by one
#   derivative each, and half of them are a sixth of a layer.
# - **Next:** [18 Better data](18_better_data.ipynb);
#   [19 Quantization](19_quantization.ipynb) makes each number smaller instead. **Read:** [Hinton et
#   al. 2015](https://arxiv.org/abs/1503.02531), sections 1 and 2; [Sanh et al.
#   2019](https://arxiv.org/abs/1910.01108), sections 2 and 3; [Zhou et al.
#   2020](https://arxiv.org/abs/2006.04152), section 3; [Lan et al.
#   2019](https://arxiv.org/abs/1909.11942), section 3.
