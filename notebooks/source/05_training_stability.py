# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 05 · Training stability
#
# *Why do some runs diverge, and what keeps them on course?*
#
# After this lesson you can
#
# - make a run diverge on purpose, and say from its curves why it did
# - add clipping, warm-up and mixed precision, and tell what each of them contributes
# - explain what fp16 loses and bf16 keeps, and how loss scaling helps
# - debug a model that does not learn, one check at a time
#
# **Time:** 50 minutes · **You need first:** [04 The Transformer](04_transformer.ipynb)
#
# **On the zoo map:** part I, Foundations · **Models:** Transformer
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/05_training_stability.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F05_training_stability.ipynb) · [Solutions](solutions/05_training_stability.ipynb)

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

lab.begin("05")

# %% [markdown]
# ## The question
#
# In lesson 04 a Transformer learned to translate captions into French. It had two layers on each
# side, and settings that somebody had found for it. Here is the same task, with a model that is
# narrower and three times as deep, and settings that nobody has looked at.

# %%
import math
from functools import partial

import torch
from torch.nn import functional as F

from zoo_lessons.datasets.shapes import translation_pairs
from zoo_lessons.datasets.words import encode_batch, word_tokenizer

english, french = zip(*translation_pairs("train", 4000), strict=True)
words, mots = word_tokenizer(english), word_tokenizer(french)
source = encode_batch(words, english)
target = encode_batch(mots, french, add_bos=True, add_eos=True)
print(english[0], "->", french[0])
print("source", tuple(source.input_ids.shape), " target", tuple(target.input_ids.shape))

# %%
from zoo_lessons.models import Transformer, TransformerConfig


def new_model(layers=6, norm="post", seed=0):
    """A Transformer for the captions: 32 wide, with so many layers in encoder and decoder."""
    torch.manual_seed(seed)
    return Transformer(
        TransformerConfig(
            vocab_size=words.get_vocab_size(),
            target_vocab_size=mots.get_vocab_size(),
            d_model=32,
            num_heads=4,
            d_ff=64,
            num_layers=layers,
            norm=norm,
            dropout=0.0,
        )  # fmt: skip
    )


# %%
def batch(step, size=32):
    """Which sentences step number `step` sees: three tensors (size, length)."""
    rows = torch.randint(len(english), (size,), generator=torch.Generator().manual_seed(step))
    return source.input_ids[rows], source.attention_mask[rows], target.input_ids[rows]


def translation_loss(model, batch):
    """Mean cross-entropy of each next French token, padding left out, as in lesson 04."""
    input_ids, attention_mask, target_ids = batch
    labels = target_ids[:, 1:].masked_fill(target_ids[:, 1:] == 0, -100)  # -100 is not counted
    logits = model(input_ids, attention_mask, target_ids[:, :-1]).logits
    return F.cross_entropy(logits.transpose(1, 2), labels)


# %% [markdown]
# Before any training, two numbers say what to expect.
#
# - A model that knows nothing gives each of the $V$ tokens of the vocabulary the same probability.
#   Its loss is $\log V$. A fresh model should start a little above that.
# - A model that knows how often each token occurs, and does not look at the sentence, has the loss
#   $-\sum_t p_t \log p_t$, where $p_t$ is the share of token $t$: the **entropy** of the
#   frequencies. A model has learned something about *translation* only when it is below.

# %%
labels = target.input_ids[:, 1:]
p = labels[labels != 0].bincount().double()
p = p / p.sum()  # (vocabulary,)
vocabulary = mots.get_vocab_size()
guess = torch.special.entr(p).sum().item()  # entr(p) is -p log p
with torch.no_grad():
    first_loss = translation_loss(new_model(), batch(0)).item()

assert abs(first_loss - math.log(vocabulary)) < 1
print(f"log V = log {vocabulary} = {math.log(vocabulary):.2f}")
print(f"entropy of the frequencies {guess:.2f}")
print(f"first loss within 1 of log V: {abs(first_loss - math.log(vocabulary)) < 1}")

# %% [markdown]
# Now train, 100 steps, with the learning rate $3 \cdot 10^{-3}$ that served well in lesson 04. If a
# run breaks off, `fit` says so and returns the record of every step up to there.
#
# **Predict.** Where will the loss be after 100 steps: near 4, near 3, or below 1?

# %%
from zoo_lessons.training import fit


def train(model, steps=100, clip_norm=None, **options):
    """`fit` on the captions, without clipping unless asked for."""
    return fit(model, batch, translation_loss, steps=steps, clip_norm=clip_norm, **options)


# %% tags=["nbval-ignore-output"]
runs = {"as it is": train(new_model(), lr=3e-3, track_updates=True)}
print(runs["as it is"])

# %% tags=["nbval-ignore-output"]
import matplotlib.pyplot as plt

fig, ax = plt.subplots()
lab.training_curves(runs, title="A run that does not get going", y_axis="loss (nats)", ax=ax)
ax.axhline(guess, color="grey", linewidth=1, linestyle=":")
ax.annotate("word frequencies only", (60, guess + 0.04), color="dimgrey")
lab.show_figure(
    fig,
    "The loss drops in some ten steps to what word frequencies alone explain. From there it creeps: "
    "half of the run brings it hardly any further.",
    "Line chart of the loss against 100 steps. It falls from 4.4 to about 3.8 within fifteen steps, "
    "to a dotted line at the entropy of the word frequencies, creeps to 3.6 until step 60, and ends "
    "near 3.",
)
assert runs["as it is"].loss[20:45].mean() > 0.9 * guess


# %% [markdown]
# No error, no NaN, and half of the run is wasted: from step 20 to 45 the loss is still within 10 %
# of what word frequencies alone explain (the `assert` above says so), with hardly a trace of
# translation. Had this been a run of four weeks, two of them would be gone.
#
# **Why do some runs diverge, and what keeps them on course?** This lesson breaks runs on purpose,
# in two ways, and repairs each of them by its cause.

# %% [markdown]
# ## 1 · Too far in one step: clipping
#
# Start with the louder failure. **Gradient descent** changes each weight by
#
# $$ \Delta\theta = -\eta \, g $$
#
# where $\theta$ stands for the weights, $\eta$ is the learning rate and $g$ the gradient of the
# loss. (Momentum, used below, adds up past steps; the argument stays.) The length of a step is
# $\eta \lVert g \rVert$: a long gradient makes a long step. But the gradient describes the loss
# only near the present weights. After a step that is too long, the loss is higher, the slope
# steeper, the next gradient longer, and the next step longer still.
#
# A shallow pre-norm model, which is easy to train, and a rate that is too high:

# %% tags=["nbval-ignore-output"]
def by_sgd(lr, **options):
    """A shallow pre-norm model, trained by gradient descent with momentum 0.9."""
    model = new_model(layers=2, norm="pre")
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return train(model, steps=60, optimizer=optimizer, **options)


sgd = {"no clipping": by_sgd(2.0)}
print([f"{norm:.1f}" for norm in sgd["no clipping"].grad_norm[-7:-1]], "last gradient norms")

# %% [markdown]
# There it is: a loss that is not a number any more. Once a NaN is in the weights, every output is
# NaN, and no later step brings the model back. Only the last checkpoint helps.
#
# **Clipping by the global norm** (Pascanu et al. 2013) limits the length of the step and keeps its
# direction:
#
# $$ \lVert g \rVert = \sqrt{\sum_i \lVert g_i \rVert^2} \qquad
#    g_i \leftarrow g_i \cdot \min\!\Big(1, \frac{c}{\lVert g \rVert}\Big) $$
#
# Here $g_i$ is the gradient of parameter tensor $i$, and $c$ is the limit. All tensors together
# count as one long vector. First as a loop over every number, then with tensors, then PyTorch's:

# %%
gradients = [torch.tensor([[3.0, 0.0], [0.0, 4.0]]), torch.tensor([12.0])]
total = 0.0
for gradient in gradients:
    for number in gradient.flatten().tolist():
        total += number**2
norm = math.sqrt(total)

vectorised = torch.stack([gradient.norm() for gradient in gradients]).norm()  # a norm of norms
assert math.isclose(norm, vectorised) and torch.nn.utils.get_total_norm(gradients) == norm
print("norms of the tensors", [gradient.norm().item() for gradient in gradients], "together", norm)


# %% [markdown]
# ### Exercise 1 · Clip by the global norm (★★☆, 8 min)

# %% tags=["exercise"]
def clip_by_global_norm(gradients, max_norm):
    """gradients: a list of tensors of any shapes. Leave them as they are.

    Returns a list of new tensors whose norm, all together, is at most max_norm, and the norm that
    the gradients had before.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("05.clip", clip_by_global_norm)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two steps: one number for the whole list, then one factor for all its tensors. What must the
# factor be when the norm is already below the limit?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Sum `g.square().sum()` over the list and take the root. The factor is `max_norm / norm`, but never
# above 1: `.clamp(max=1.0)` does that for a tensor, also where the norm is 0.
#
# </details>

# %% [markdown]
# **Predict.** Same model, same rate, and the norm clipped to 0.5. Does it get through?

# %% tags=["nbval-ignore-output"]
sgd["clipped to 0.5"] = by_sgd(2.0, clip_norm=0.5)

fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
lab.training_curves(sgd, title="Loss", y_axis="loss (nats)", ax=axes[0])
lab.training_curves(sgd, "grad_norm", title="Gradient before clipping", y_axis="norm", log="y",
                    ax=axes[1])  # fmt: skip
axes[0].set_ylim(0, 12)
lab.show_figure(
    fig,
    "One rate, two fates. Without clipping the gradient's norm runs away and the line ends where "
    "the weights stop being numbers. With it, gradients are still long at times, but the steps are "
    "not.",
    "Two line charts over 60 steps. Without clipping, loss and gradient norm shoot up and the lines "
    "end. With clipping the loss falls, with bumps, and the gradient norm stays of the order of 1.",
)
assert len(sgd["clipped to 0.5"]) == 60 and sgd["clipped to 0.5"].loss[-10:].mean() < guess / 2

# %% [markdown]
# How tight must the limit be? No gradient adds more than $\eta \, c$ to a step, so at this rate it
# matters. (With momentum 0.9, a step can add up ten such pieces.) The next figures are recorded:
# `make record` trained the same model on several seeds with several limits, and stored the mean loss
# of the last ten steps.

# %%
from zoo_lessons.records import load_claim, load_record

by_limit = load_record("c11_sgd")["figures"]
print(f"rate {by_limit['rate']}, {by_limit['steps']} steps, {by_limit['seeds']} seeds")
for limit, outcome in by_limit["limits"].items():
    ends = ["NaN" if loss is None else f"{loss:.2f}" for loss in outcome["loss"]]
    print(f"limit {limit:4}: final losses {', '.join(ends)}")


# %% [markdown]
# Without a limit every run dies. A loose one keeps the numbers finite, but finite is not good: a
# loss of 7 is worse than guessing. Clipping repairs steps that are too long *at times*. If the
# typical step is too long, the rate is too high, and a tight limit is a lower rate under another
# name.
#
# ### What is left of it with Adam
#
# Transformers are trained by **Adam** (Kingma & Ba 2015), and Adam divides the gradient by its own
# size. For each weight it keeps a running mean $m$ of the gradient and a running mean $v$ of its
# square. At update $t = 1, 2, \ldots$
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1) g \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2
#    \qquad \Delta\theta = -\eta \, \frac{m / (1 - \beta_1^t)}{\sqrt{v / (1 - \beta_2^t)} + \epsilon} $$
#
# with $\beta_1 = 0.9$, $\beta_2 = 0.999$ and a tiny $\epsilon$ against division by zero. The
# factors $1 - \beta^t$ make up for the means' start at 0. (`fit` uses **AdamW**, which is Adam that
# also shrinks every weight a little at each update, the *weight decay* of Loshchilov & Hutter 2019.)
#
# **Predict.** One weight has the gradient 1 at each of 200 updates, except for a spoiled batch at
# update 50, where it is 100. How long are the steps after that?

# %%
def adam_steps(gradients, beta1=0.9, beta2=0.999, eps=1e-8):
    """Length of each update of one weight, divided by the learning rate: (updates,)."""
    m = v = 0.0
    lengths = []
    for t, g in enumerate(gradients, start=1):
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        lengths.append(m / (1 - beta1**t) / (math.sqrt(v / (1 - beta2**t)) + eps))
    return torch.tensor(lengths)


spoiled = [100.0 if t == 50 else 1.0 for t in range(1, 201)]
steps = {
    "no clipping": adam_steps(spoiled),
    "clipped to 1": adam_steps([min(g, 1.0) for g in spoiled]),
}
for name, lengths in steps.items():
    print(name, [f"update {t}: {lengths[t - 1]:.2f}" for t in (1, 49, 50, 60, 100, 200)])

# %%
weight = torch.nn.Parameter(torch.zeros(()))  # the same from PyTorch
optimizer = torch.optim.Adam([weight], lr=1.0)
for t, gradient in enumerate(spoiled):
    before, weight.grad = weight.item(), torch.tensor(gradient)
    optimizer.step()
    assert math.isclose(before - weight.item(), steps["no clipping"][t], abs_tol=1e-4)

fig = lab.lines(
    steps, range(1, 201), title="One spoiled batch, and Adam's steps", x_axis="update",
    y_axis="step / learning rate", markers=False,
)  # fmt: skip
lab.show_figure(
    fig,
    "With Adam a long gradient does not make a long step. It makes the following steps short: v "
    "remembers the outlier for about a thousand updates.",
    "Line chart over 200 updates. Clipped, every step has length 1. Without clipping the length is "
    "1 until update 50, then falls to about 0.1, and has risen to no more than 0.14 at update 200.",
)

# %% [markdown]
# So clipping has two reasons. With plain gradient descent it keeps one step from ruining the run.
# With Adam it keeps one batch from slowing down hundreds of steps. Either way the limit should lie
# above the norms of ordinary steps; otherwise it changes the learning rate of all of them. Look at
# `history.grad_norm` before you choose it. A limit of 1 is the custom for Transformers.

# %% [markdown]
# ## 2 · Too far in the first steps: warm-up
#
# Back to the stuck run. It was trained by Adam, so its steps were not too long because of long
# gradients. Look at the formula at $t = 1$: $m / (1 - \beta_1) = g$ and $v / (1 - \beta_2) = g^2$.
# What is left is
#
# $$ \Delta\theta = -\eta \, \frac{g}{\sqrt{g^2}} = -\eta \, \mathrm{sign}(g) $$
#
# **Predict.** The gradients of three weights are 1, -2 and 0.001. How far does each move at first?

# %%
for size in (1e-3, 1.0, 1e3):
    gradient = size * torch.tensor([1.0, -2.0, 0.001])
    moves = []
    for optimizer_class in (torch.optim.SGD, torch.optim.Adam):
        weight = torch.nn.Parameter(torch.zeros(3))
        weight.grad = gradient
        optimizer_class([weight], lr=0.01).step()
        moves.append([f"{move:.2g}" for move in weight.tolist()])
    print(f"gradients x {size:g}: SGD {moves[0]}, Adam {moves[1]}")

# %% [markdown]
# *Every* weight moves by the full learning rate, whether its gradient is large, small or mere noise
# of one batch. (In the first row $\epsilon$ shortens one move a little.) All weights of all twelve
# layers move at once, each as if the others stood still. Only after ten or twenty updates does $m$
# average out much of the noise, while $v$ does not, and the steps shrink to what the gradient
# deserves.
#
# Post-norm adds to this. Liu et al. 2020 ("Understanding the Difficulty of Training Transformers",
# section 4) find that small changes of all weights move the output of a post-norm stack more than
# that of a pre-norm stack, the more so the deeper it is. Its gradients are uneven as well, largest in
# the layers near the output (Xiong et al. 2020, section 3.3). But that alone explains little: as you
# have just seen, Adam's first steps do not follow the size of the gradient.
#
# The remedy: small steps while the directions are poor. **Warm-up** raises the rate in a straight
# line from near 0 to its peak; afterwards a **schedule** lets it fall. This course counts a
# schedule as a share of the peak rate. With $s = \text{step} + 1$, the number of the update, and
# $w$ warm-up steps of $T$ in all:
#
# $$ \text{warm-up:}\ \frac{s}{w} \qquad \text{inverse square root:}\ \sqrt{\frac{w}{s}} \qquad
#    \text{cosine:}\ \frac{1}{2}\Big(1 + \cos\Big(\pi\,\frac{s - 1 - w}{T - w}\Big)\Big) $$
#
# **Try this.** In the picture below, make the warm-up longer: where does each curve meet its peak?
# Choose `warmup_inverse_sqrt` and double the total steps: why does nothing change? Which schedule
# would you take if you do not know yet how long you will train?

# %%
from zoo_lessons.lab.widgets import ScheduleExplorer

ScheduleExplorer(
    schedule="warmup_cosine", warmup_steps=60, total_steps=300, peak_rate=3e-3, step=30
)


# %% [markdown]
# ### Exercise 2 · Warm up, then fall (★★☆, 8 min)
#
# The schedule of the 2017 paper (section 5.3) is
# $d_{\mathrm{model}}^{-0.5} \min(s^{-0.5},\ s\, w^{-1.5})$. Write it as a share of its peak.

# %% tags=["exercise"]
def my_warmup_inverse_sqrt(step, warmup_steps):
    """step: updates made so far, 0 for the first. warmup_steps: at least 1.

    Returns the share of the peak rate for this update: a straight line that reaches 1 at update
    number warmup_steps, then the inverse square root, without a jump.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("05.schedule", my_warmup_inverse_sqrt)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Both curves are 1 at $s = w$. Before that point one of them is the lower one, after it the other.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With $s$ = `step + 1`: the smaller of $s / w$ and $\sqrt{w / s}$.
#
# </details>

# %% [markdown]
# The same deep model, the same batches, the same peak rate, and half of the steps for warm-up. The
# stuck run had spent its full rate on the steps in which this one is still taking small ones.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.training import constant, warmup_inverse_sqrt

warm_model = new_model()
warmup = partial(constant, warmup_steps=50)
runs["with warm-up"] = train(warm_model, lr=3e-3, schedule=warmup, track_updates=True)
for name, history in runs.items():
    print(f"{name:13} loss of the last ten steps {history.loss[-10:].mean():.2f}")

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 3, figsize=(9, 3.4))
panels = {"loss": "Loss (nats)", "grad_norm": "Gradient norm", "update_ratio": "Update ratio"}
for ax, (field, title) in zip(axes, panels.items(), strict=True):
    log = "" if field == "loss" else "y"
    lab.training_curves(runs, field, title=title, y_axis=title.lower(), log=log, ax=ax)
    if field != "loss":
        ax.get_legend().remove()  # the same two lines as in the first panel
axes[0].axhline(guess, color="grey", linewidth=1, linestyle=":")
axes[0].legend(loc="upper right")
lab.show_figure(
    fig,
    "Read the right panel first: how far each update moves the weights, as a share of their size. "
    "At the full rate the first updates are the longest of the run, and the gradient (middle) "
    "shrinks several times over. Warmed up, the run passes the plateau while its steps are still small.",
    "Three line charts over 100 steps for the run as it is and the run with warm-up. Loss: one "
    "stays near the dotted line until step 50, the other falls steadily to about 1. Gradient norm: "
    "that of the stuck run is far lower until step 70. Update ratio: without warm-up it starts at "
    "0.02 and falls; with warm-up it rises from 0.0003 to 0.005.",
)
assert runs["with warm-up"].loss[-10:].mean() < runs["as it is"].loss[-10:].mean() - 0.3

# %% [markdown]
# One run is one draw. With five other seeds (`make robust`), three runs got stuck without warm-up, and
# two got through by themselves. With warm-up none got stuck, and each ended lower.
#
# ## 3 · Where the norm stands
#
# The other way to save this run is not to build it. Lesson 04 drew how the gradient passes through
# depth at the start of training (claim C05). Here are its figures again, for post-norm
# $\mathrm{LN}(x + f(x))$ and pre-norm $x + f(\mathrm{LN}(x))$: the norm of the gradient at the
# first block's input over that at the last block's output.

# %%
c05 = load_record("c05_gradient_depth")["figures"]
for name in ("post-norm", "pre-norm"):
    medians = c05["joins"][name]["gradient"][1]  # quartiles: low, median, high
    print(f"{name:9}", {d: m for d, m in zip(c05["depths"], medians, strict=True) if d <= 16})

# %% [markdown]
# At twelve layers or so, neither gradient has vanished. Yet vanishing is not the only way to be
# hard to train. The next figures are recorded: `make record` trained the captions model on several
# seeds, without warm-up and without clipping, and stored the mean loss of the last ten steps.
#
# **Predict.** Two depths, two places for the norm. Which of the four gets stuck?

# %%
stability = load_record("c11_stability")["figures"]
seeds = stability["seeds"]
print(f"{stability['steps']} steps, Adam at {stability['rate']}, no warm-up, {seeds} seeds")
for name, runs_of_it in stability["depth"].items():
    losses = ", ".join(f"{loss:.2f}" for loss in runs_of_it["loss"])
    print(f"{name:24} converged {runs_of_it['converged']} of {seeds}; final losses {losses}")
print(f"(converged: below half of {stability['guess']:.2f}, the entropy of the word frequencies)")

# %% [markdown]
# Pre-norm leaves a path from the output to every layer that no LayerNorm cuts, and it trains
# without warm-up at both depths. That is why GPT-2, ViT and nearly all large models since have it.
# Post-norm needs warm-up here as soon as it is deep. Why does anyone still use it? Where it trains,
# its final quality is often as good or better (Liu et al. 2020, section 1), and the weights of BERT
# are post-norm.

# %% [markdown]
# ## 4 · Which rate?
#
# The peak rate is the one setting that always needs a look. The **learning-rate finder** (Smith
# 2017, section 3.3) tries all rates in one short run. Smith lets the rate rise in a straight line;
# here it grows by the same factor from step to step. At first nothing is learned, then the loss
# falls, then it explodes.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.training import learning_rate_finder

easy = new_model(layers=2, norm="pre")
found = learning_rate_finder(
    easy, batch, translation_loss, min_rate=1e-5, max_rate=1.0, steps=80, clip_norm=None
)
print(f"suggested peak rate: {found.suggestion:.1e}")

# %% tags=["nbval-ignore-output"]
fig, ax = plt.subplots()
ax.plot(found.rates, found.losses, alpha=0.3, color="C0")
ax.plot(found.rates, found.smoothed, color="C0", label="running mean")
ax.axvline(found.suggestion, color="C1", linestyle="--", label="suggestion")
ax.set(xscale="log", ylim=(0, 10), title="One run over all rates", xlabel="learning rate",
       ylabel="loss (nats)")  # fmt: skip
ax.legend()
lab.show_figure(
    fig,
    "Left: too small to learn anything in one step. Middle: the loss falls. Right: it explodes. "
    "The suggestion is a tenth of the rate where the loss was lowest.",
    "Line chart of the loss against the learning rate from 0.00001 to 1, logarithmic. It is flat, "
    "then falls, reaches its lowest point near 0.1, and rises steeply. A dashed vertical "
    "line marks the suggestion a factor of ten to the left of the lowest point.",
)
assert 1e-3 < found.suggestion < 1e-1

# %% [markdown]
# The finder is a guide, not a law. It sees the rates in rising order, which is a warm-up of its
# own, so it does not see the trap of section 2. It also changes with batch size and clipping: run
# it with the settings that you will train with.

# %% [markdown]
# ## 5 · Sixteen bits
#
# Half the bits halve the memory and, where the processor has units for it, make matrix products
# several times as fast. There are two ways to spend 16 bits. Both keep one for the sign. **fp16**
# has 5 bits for the exponent and 10 for the digits; **bf16** has 8 and 7. The exponent sets the
# range, the digits set the precision.

# %%
dtypes = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
print("      largest    smallest > 0   step above 1   bytes")
for name, dtype in dtypes.items():
    info = torch.finfo(dtype)
    smallest = info.smallest_normal * info.eps  # the last one before 0: a subnormal number
    print(f"{name}  {info.max:.3g}  {smallest:12.2g}  {info.eps:12.2g}  {info.bits // 8:10}")

# %% [markdown]
# **Predict.** Six numbers, written down in both formats. Which come back as they were, which as 0,
# which as infinity?

# %%
numbers = [1.001, 3.14159, 257.0, 65504.0, 70000.0, 1e-8]
for number in numbers:
    kept = {name: torch.tensor(number).to(dtype).item() for name, dtype in dtypes.items()}
    print(f"{number:>8}: fp16 {kept['fp16']:<12.6g} bf16 {kept['bf16']:.6g}")

# %% [markdown]
# - **fp16 loses range.** Above 65504 everything is infinite: $e^{12}$ already, or the loss summed
#   over a large batch. Below about $6 \cdot 10^{-8}$ everything is 0, and gradients can be as small.
# - **bf16 loses digits.** It has the range of fp32 and two to three decimal digits. 257 becomes 256.
#
# The lost digits matter where something small is added to something large. That is what an update
# does:

# %%
for name, dtype in dtypes.items():
    weight = torch.ones((), dtype=dtype)
    for _ in range(1000):
        weight = weight + torch.tensor(0.001, dtype=dtype)
    print(f"{name}: 1 + 1000 times 0.001 = {weight.item():.4f}")

# %% [markdown]
# In bf16 a thousand updates of 0.001 change nothing: each is less than half a step, and is rounded
# away. So **mixed precision** (Micikevicius et al. 2018) keeps the weights and Adam's means in
# fp32. Only the expensive part, the matrix products, runs in 16 bits. PyTorch's `autocast` chooses
# per operation:

# %%
x, weight = torch.randn(4, 8), torch.randn(8, 8, requires_grad=True)
with torch.autocast("cpu", dtype=torch.bfloat16):
    product = x @ weight
    loss = F.cross_entropy(product, torch.arange(4))
loss.backward()
results = {"weights": weight, "matrix product": product, "loss": loss, "gradient": weight.grad}
for name, result in results.items():
    print(f"{name:15} {str(result.dtype).removeprefix('torch.')}")


# %% [markdown]
# ### Loss scaling
#
# In fp16 there is the range to care about. Here is the gradient of $a w$ with respect to $w$, which
# is $a$, if it passes through fp16 on its way back:

# %%
def fp16_gradient(a, scale=1.0):
    """The gradient of a * w, with the loss multiplied by `scale` before the way back."""
    w = torch.tensor(1.0, requires_grad=True)
    loss = a * w.half().float()  # w is used in fp16, so its gradient passes through fp16
    (loss * scale).backward()
    return w.grad.item()


print("a = 1e-8:              ", fp16_gradient(1e-8))
scaled = fp16_gradient(1e-8, scale=2.0**16)
print(f"a = 1e-8, scaled 2**16:  {scaled:.3e}, divided by the scale {scaled / 2**16:.3e}")
print("a = 3,    scaled 2**16: ", fp16_gradient(3.0, scale=2.0**16))

# %% [markdown]
# The chain rule passes a factor on the loss to every gradient. Multiply the loss by $S$, go back,
# divide the gradients by $S$ in fp32: nothing has changed, except that small gradients have crossed
# fp16's gap. If $S$ is too large, some gradient overflows. That is easy to see (it is infinite or
# NaN), so the scale can look after itself: **skip** the step and halve $S$; after many good steps,
# double it.

# %%
scale = 2.0**16
while math.isinf(fp16_gradient(3.0, scale)):
    print(f"scale {scale:7.0f}: overflow, skip this step")
    scale /= 2
print(f"scale {scale:7.0f}: gradient {fp16_gradient(3.0, scale) / scale}")

# %% [markdown]
# How many gradients of our own model would fp16 lose? Take the model that was warmed up.

# %% tags=["nbval-ignore-output"]
warm_model.zero_grad()
translation_loss(warm_model, batch(100)).backward()
sizes = torch.cat([p.grad.abs().flatten() for p in warm_model.parameters() if p.grad is not None])
sizes = sizes[sizes > 0]

fig, ax = plt.subplots(figsize=(8, 3.4))
ax.hist(sizes.log2().tolist(), bins=80)
for power, label in ((-24, "fp16: 0 below this"), (-14, "fp16: fewer digits below")):
    ax.axvline(power, color="C1", linestyle="--" if power == -24 else ":", label=label)
ax.set(title="Gradients of the captions model", xlabel="power of 2", ylabel="how many",
       xlim=(-40, 0))  # fmt: skip
ax.legend()
lab.show_figure(
    fig,
    "Here fp16 would do: most of the heap lies right of the dotted line. The tail between the lines "
    "loses digits, and what lies left of the dashed line becomes 0. Scaling by 2**16 moves all of "
    "it sixteen places to the right.",
    "Histogram of the sizes of all gradients as powers of two: one heap around 2 to the -9, with "
    "a tail that crosses the dotted line at -14 and ends near -20, and a few values below the "
    "dashed line at -24.",
)
for scale in (1.0, 2.0**16):
    lost, blown = (sizes * scale).half() == 0, (sizes * scale).half().isinf()
    print(f"scale {scale:5.0f}: {lost.double().mean():.2%} become 0, {blown.sum()} overflow")


# %% [markdown]
# This model is small, and its gradients are large. Elsewhere the heap lies further left: the
# detection network of Micikevicius et al. (2018, section 3.2, figure 3) diverges unless its loss is
# scaled.
#
# ### Exercise 3 · A step with loss scaling (★★★, 12 min)
#
# `backward` has run on the scaled loss. Make the gradients ready for the optimizer. The order
# matters.

# %% tags=["exercise"]
def unscale_and_clip(gradients, scale, max_norm):
    """gradients: a list of fp16 tensors, all of them too large by the factor scale.

    Returns two things:
    - the true gradients as fp32 tensors, clipped to the global norm max_norm; or None, if any
      number is infinite or NaN, so that the step must be skipped;
    - the scale for the next step: half of it after a skipped step, otherwise as it is.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("05.unscale", unscale_and_clip)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Four things happen: look for infinities, make fp32, divide, clip. `max_norm` is meant for true
# gradients. Which order follows?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `g.isfinite().all()` is False for infinities and NaN. `g.float() / scale` divides in fp32, where
# 1e-8 exists. Then use your function of exercise 1.
#
# </details>

# %% [markdown]
# With bf16 none of this is needed: its range is that of fp32. That is why bf16 has replaced fp16
# for training wherever the hardware has it.

# %% [markdown]
# ## 6 · All three together
#
# Overview articles say that clipping, warm-up and mixed precision make training stabler and
# faster. To see what each contributes, the record holds all eight combinations on the deep
# post-norm model, on several seeds.

# %%
print(f"{stability['steps']} steps, {seeds} seeds, post-norm, rate {stability['rate']}")
print(f"warm-up: {stability['warmup_steps']} steps; clipping: norm {stability['max_norm']}")
for name, runs_of_it in stability["table"].items():
    losses = ", ".join(f"{loss:.2f}" for loss in runs_of_it["loss"])
    print(f"{name:27} converged {runs_of_it['converged']} of {seeds}; final losses {losses}")

# %%
added = ["none", "clipping", "warm-up", "warm-up + clipping"]
precisions = {"fp32": added, "bf16": ["bf16", *(f"{name} + bf16" for name in added[1:])]}
means = torch.tensor(
    [[stability["table"][name]["loss"] for name in names] for names in precisions.values()]
).mean(dim=-1)  # (precisions, remedies)
fig = lab.heatmap(
    means, list(precisions), added, title="Final loss, mean over seeds", row_axis="precision",
    column_axis="added", value="loss (nats)", numbers=True,
)  # fmt: skip
lab.show_figure(
    fig,
    "Compare columns: what clipping and warm-up add. Compare rows: what bf16 changes.",
    "Heat map of the mean final loss with two rows (fp32, bf16) and four columns (none, clipping, "
    "warm-up, both), each with its number. The highest losses are in the first column.",
)

# %% [markdown]
# Three things to read from it. **Warm-up** is what this model needed: with it every run converges,
# and nothing that is added improves on it by more than the seeds differ. **Clipping** alone helps
# on every seed, though Adam divides by the gradient's size; it cannot replace warm-up. **bf16**
# changes little in either direction; of the losses without warm-up, where runs are about to leave
# the plateau or not, no single one should be trusted. Its promise is speed, which section 9 shows.
#
# ### Claim C11, measured

# %%
lab.show_claim(load_claim("C11"))

# %% [markdown]
# Keep the limits of this table in mind: one small task, one rate, three seeds, and a model that was
# built to fail without help. Pre-norm at the same depth trains without any of the three (section
# 3). What carries over is the cause behind each of them.

# %% [markdown]
# ## 7 · A model that does not learn
#
# Most runs that fail do so not for want of warm-up but because of a mistake. It raises no error;
# the loss is the only witness. Go through these checks in order. Each takes seconds.
#
# | check | what you should see | if not |
# |---|---|---|
# | **first loss** | about $\log V$ | far above: logits too large, or wrong labels; far below: the answer leaks in |
# | **shapes and masks** | changing a later word changes no earlier output; padding changes nothing | a mask is missing or turned round |
# | **one batch** | the loss goes to 0 | the loop, the loss or the labels are wrong, not the settings |
# | **gradient norms** | every parameter has one, none is 0 or huge | something is detached, frozen or unused |
# | **update ratio** | about 1e-3 to 1e-2 a step | 0: nothing is updated; near 1: rate too high |
# | **rate** | the finder's curve | see section 4 |
#
# We did the first one at the start. Here is the second. A caption's last French word is swapped for
# another, then the English sentence gets more padding.

# %%
model = new_model(layers=2, norm="pre").eval()
input_ids, attention_mask, target_ids = (part[:1] for part in batch(0))
end = int((target_ids != 0).sum()) - 1
changed = target_ids.clone()
changed[0, end - 1] = 4 if target_ids[0, end - 1] != 4 else 5
more = F.pad(input_ids, (0, 3)), F.pad(attention_mask, (0, 3))
with torch.no_grad():
    logits = model(input_ids, attention_mask, target_ids).logits
    later = model(input_ids, attention_mask, changed).logits
    padded = model(*more, target_ids).logits
print("earlier outputs unchanged:", torch.allclose(logits[:, : end - 1], later[:, : end - 1]))
print("the later one changed:    ", not torch.allclose(logits[:, end - 1], later[:, end - 1]))
print("padding changes nothing:  ", torch.allclose(logits, padded, atol=1e-5))


# %% [markdown]
# And the third, **overfit one batch**: eight sentences, again and again. A model that cannot learn
# them by heart will learn nothing. Two broken losses stand beside the sound one: the first gives
# `cross_entropy` probabilities instead of logits, the second forgets to shift the labels by one
# place.
#
# **Predict.** What will each of the three curves do?

# %%
def softmax_twice(model, batch):
    input_ids, attention_mask, target_ids = batch
    labels = target_ids[:, 1:].masked_fill(target_ids[:, 1:] == 0, -100)
    logits = model(input_ids, attention_mask, target_ids[:, :-1]).logits
    return F.cross_entropy(logits.softmax(dim=-1).transpose(1, 2), labels)


def not_shifted(model, batch):
    input_ids, attention_mask, target_ids = batch
    labels = target_ids[:, :-1].masked_fill(target_ids[:, :-1] == 0, -100)
    logits = model(input_ids, attention_mask, target_ids[:, :-1]).logits
    return F.cross_entropy(logits.transpose(1, 2), labels)


# %% tags=["nbval-ignore-output"]
eight = [part[:8] for part in batch(0)]
losses = {"sound": translation_loss, "softmax twice": softmax_twice, "not shifted": not_shifted}
one_batch, translations = {}, {}
for name, loss in losses.items():
    model = new_model(layers=2, norm="pre")
    one_batch[name] = fit(model, lambda step: eight, loss, steps=60, lr=5e-3, progress=False)
    output = model.eval().generate(*eight[:2], max_new_tokens=eight[2].shape[1] - 1)
    output = F.pad(output, (0, eight[2].shape[1] - output.shape[1]))
    translations[name] = (output == eight[2]).all(dim=1).sum().item()

# %% tags=["nbval-ignore-output"]
floor = math.log(math.e + vocabulary - 1) - 1
fig, ax = plt.subplots()
lab.training_curves(one_batch, title="One batch, by heart", y_axis="loss (nats)", ax=ax)
ax.axhline(floor, color="grey", linewidth=1, linestyle=":")
lab.show_figure(
    fig,
    "Sound: down to 0. Softmax twice: slow, and it can never cross the dotted line. Not shifted: "
    "low from the start, which is too good to be true.",
    "Line chart of three losses over 60 steps. Sound falls from 5 to near zero. Not shifted starts "
    "at 1.7, far below log V, and falls to near zero. Softmax twice creeps from 4.1 to 3.4 and "
    "stays above a dotted line at about 3.1.",
)
for name, history in one_batch.items():
    print(f"{name:14} final loss {history.loss[-1]:.2f}, {translations[name]} of 8 translated")
assert translations["sound"] >= 6 and translations["not shifted"] == 0
assert one_batch["softmax twice"].loss.min() > floor


# %% [markdown]
# The floor can be computed. Probabilities lie between 0 and 1; used as logits, the best case is 1
# for the right token and 0 for the $V - 1$ others:
#
# $$ -\log \frac{e^1}{e^1 + (V - 1)\,e^0} = \log(e + V - 1) - 1 $$
#
# A loss that stops at a number which you can derive is a mistake that you can name. The third curve
# is the treacherous one: its loss is splendid, because the decoder reads each answer in its own
# input, and it translates nothing. **A loss that is too good is a symptom too.**
#
# ### Exercise 4 · Find the bug: the loss that would not fall (★★☆, 10 min)
#
# This loop has two mistakes. It runs, and the loss even moves. Below it is tried on one batch: a
# linear model with eight random examples of 16 numbers and five classes, which it should learn by
# heart. Run both cells, compare the losses with what you know, then repair the function.

# %% tags=["exercise"]
def repaired_training(make_model, batches, lr):
    """make_model() returns a new model; batches is a list of pairs: inputs (rows, width), labels.

    Makes one SGD step for each batch. Returns the list of the losses, as floats.
    """
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for inputs, labels in batches:
        probabilities = model(inputs).softmax(dim=-1)
        loss = F.cross_entropy(probabilities, labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %%
draw = torch.Generator().manual_seed(0)
one = (torch.randn(8, 16, generator=draw), torch.arange(8) % 5)
torch.manual_seed(0)
losses = repaired_training(lambda: torch.nn.Linear(16, 5), [one] * 200, lr=0.5)
print(f"first loss near log 5 = {math.log(5):.2f}:", abs(losses[0] - math.log(5)) < 0.7)
print("learned by heart, loss below 0.1:", losses[-1] < 0.1)

# %% tags=["check"]
lab.check("05.training_bug", repaired_training)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compute the floor $\log(e + V - 1) - 1$ for five classes and compare it with `losses[-1]`. That is
# one mistake. For the other, print the norm of the gradient after each `backward`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.cross_entropy` contains the softmax: give it the logits. And `backward` *adds* to `.grad`; who
# empties it, and when?
#
# </details>

# %% [markdown]
# ## 8 · Read the real thing
#
# The loop that trained every run of this lesson, and its clipping. You know each line: the rate,
# the loss under autocast, `scale`, `unscale_`, clip, update, in this order.

# %%
from zoo_lessons.training import training_steps
from zoo_lessons.training.loop import clip_gradients

lab.show_source(training_steps)

# %%
lab.show_source(clip_gradients)

# %% [markdown]
# Ours, the papers' and the `Trainer` of `transformers` (its defaults) differ:
#
# | | Vaswani et al. 2017, 5.3 | Xiong et al. 2020 | this course, `fit` | `transformers.Trainer` |
# |---|---|---|---|---|
# | norm | post | post and pre compared | either | what the model has |
# | warm-up | 4000 of 100,000 steps | pre-norm: none needed | what the schedule says; none by default | none (`warmup_steps=0`) |
# | afterwards | inverse square root | inverse square root | constant by default | linear to 0 |
# | optimizer | Adam, $\beta_2 = 0.98$, $\epsilon = 10^{-9}$ | Adam, and SGD | AdamW, 0.999, $10^{-8}$ | AdamW, 0.999, $10^{-8}$ |
# | clipping | not mentioned | not the subject | norm 1 | norm 1 (`max_grad_norm`) |
# | first update | $s = 1$: a small rate | a small rate | a small rate | rate 0: counts from 0 |
# | precision | not mentioned | not mentioned | fp32, bf16, fp16 | fp32; `bf16=True`, `fp16=True` |
#
# With a warm-up, the schedules of `transformers` start at 0, so the first update changes nothing:

# %%
from transformers import get_inverse_sqrt_schedule

theirs = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
schedule = get_inverse_sqrt_schedule(theirs, num_warmup_steps=4)
for step in range(7):
    ours = warmup_inverse_sqrt(step, warmup_steps=4)
    print(f"update {step + 1}: ours {ours:.3f}, transformers {schedule.get_last_lr()[0]:.3f}")
    theirs.step()
    schedule.step()

# %% [markdown]
# ## 9 · What it costs
#
# **Memory.** Training keeps four numbers for each parameter. Count them.

# %%
model = new_model()
optimizer = torch.optim.AdamW(model.parameters())
translation_loss(model, batch(0)).backward()
optimizer.step()
parameters = sum(p.numel() for p in model.parameters())
state = [value for kept in optimizer.state.values() for value in kept.values() if value.ndim]
kinds = {
    "weights": model.parameters(),
    "gradients": (p.grad for p in model.parameters()),
    "Adam's m and v": state,
}
for name, tensors in kinds.items():
    print(f"{name:15} {sum(t.numel() * t.element_size() for t in tensors) // parameters:2} bytes")

# %% [markdown]
# That is 16 bytes per parameter: a model of 7 billion parameters needs 112 GB before it has seen
# one token. Mixed precision does not change this: weights, gradients and means stay in fp32, and
# 16-bit copies of the weights come on top. What it halves is part of the **activations**, which the
# way back needs and which grow with the batch.
#
# **Computing.** The norm takes 2 operations per parameter (square, add), the scaling 1: $3N$ for
# $N$ parameters. The way there and back takes about $6N$ *per token* (2 there, 4 back). With 512
# tokens in a batch, clipping is a thousandth of the work. Warm-up is one multiplication.
#
# The peak memory of forward and backward through two encoder blocks, as PyTorch's allocator counts
# it, without the weights:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import peak_memory
from zoo_lessons.layers import EncoderBlock

blocks = torch.nn.Sequential(*(EncoderBlock(128, 4, 512, norm="pre") for _ in range(2)))


def forward_backward(tokens, bf16):
    x = torch.zeros(8, tokens, 128)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        loss = blocks(x).square().mean()
    loss.backward()
    blocks.zero_grad()


for tokens in (64, 256):
    fp32, bf16 = (peak_memory(partial(forward_backward, tokens, half)) for half in (False, True))
    print(f"8 x {tokens:3} tokens: fp32 {fp32 / 1e6:5.1f} MB, bf16 {bf16 / fp32:.2f} of that")

# %% [markdown]
# **Time.** The recorded comparison of a whole training step, with blocks of three widths. Ratios to
# fp32 without clipping; below 1 is faster. The verdict compares with the noise of two equal steps.

# %%
timing = load_record("c11_timing")
print(f"{timing['figures']['tokens']} tokens per step on {timing['machine']['device']}")
for name in ("fp32, clipped", "bf16, clipped"):
    row = timing["figures"][name]
    for width, ratio, (low, high), verdict in zip(
        timing["figures"]["widths"], row["ratio"], row["interval"], row["verdict"], strict=True
    ):
        print(f"{name} at width {width:3}: {ratio:.2f} ({low:.2f} to {high:.2f}), {verdict}")

# %% [markdown]
# In narrow layers, converting to bf16 and back costs more than the smaller products save; the gain
# comes with width, and only on processors with units for bf16. Clipping hardly shows. As the count
# above says, it passes over the parameters and not over the tokens, so its share is small unless the
# batch is.

# %% [markdown]
# ## Quiz

# %%
lab.quiz("05")

# %% [markdown]
# ## Summary
#
# - A step that is too long makes the next gradient longer. Clipping by the global norm limits the
#   length and keeps the direction; with Adam it protects the running means from one bad batch.
# - Adam's first updates move every weight by the full rate, whatever the gradient. Warm-up keeps them
#   small while their directions are poor; deep post-norm models need it, pre-norm models hardly do.
# - fp16 loses range, bf16 loses digits. Weights stay in fp32; fp16 needs loss scaling: scale, go
#   back, unscale, clip, and skip overflows.
# - A model that does not learn: first loss, masks, one batch by heart, gradient and update norms,
#   then the rate. A loss that is too good is a symptom too.
# - **Next:** [06 GPT](06_gpt.ipynb) uses all of this to train a language model. **Read:** Xiong et
#   al. 2020, [On Layer Normalization in the Transformer
#   Architecture](https://arxiv.org/abs/2002.04745), sections 3.2 and 3.3; Pascanu et al. 2013, [On
#   the difficulty of training recurrent neural networks](https://arxiv.org/abs/1211.5063), section
#   3.2; Micikevicius et al. 2018, [Mixed Precision Training](https://arxiv.org/abs/1710.03740),
#   section 3; Smith 2017, [Cyclical Learning Rates](https://arxiv.org/abs/1506.01186), section 3.3.
