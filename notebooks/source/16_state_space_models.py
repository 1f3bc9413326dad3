# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 16 · State-space models
#
# *Can a recurrence do attention's work at linear cost?*
#
# After this lesson you can
#
# - discretise a linear system, and run it as a loop and as a parallel scan
# - explain what selection adds, and build Mamba
# - compare constant memory with a growing key-value cache
# - test attention, Mamba and a hybrid on copying and induction
#
# **Time:** 55 minutes · **You need first:** [15 Sparse, hierarchical and linear attention](15_efficient_attention.ipynb)
#
# **On the zoo map:** part III, Efficiency · **New parts:** Selective scan, Causal depthwise convolution, Gating · **Models:** Mamba
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/16_state_space_models.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F16_state_space_models.ipynb) · [Solutions](solutions/16_state_space_models.ipynb)

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

lab.begin("16")

# %% [markdown]
# ## The question
#
# *The cat sat on the mat.* To write the next word, a GPT looks at all six words again. It keeps a
# key and a value of every word, in every layer, as long as it writes (lesson 06). Attention also
# compares each word with each other: twice the text, four times the work. Lesson 15 made attention
# see less. Here we give it up, and go back to an older idea: read from left to right, and keep one
# **state** of fixed size.
#
# $$ h_t = a\, h_{t-1} + x_t $$
#
# $x_t$ is the new word, $h_t$ the state after it, and $a$ says how much of the old state stays. Let
# each word be its own axis, so that we can see what of it is left in the state.

# %%
import torch

words = "The cat sat on the mat".split()
x = torch.eye(len(words))  # (words, axes): word t is 1 on axis t
for a in (1.0, 0.5):
    h = torch.zeros(len(words))
    for word in x:
        h = a * h + word
    print(f"a = {a}: ", ", ".join(f"{w} {v:.3f}" for w, v in zip(words, h.tolist(), strict=True)))


# %% [markdown]
# With $a = 1$ nothing is forgotten, and the order is lost: a bag of words. With $a = \tfrac12$ the
# order shows, and *The* is nearly gone. Attention can reach back to *cat* however far away it is.
# Here, *cat* fades in the same way as *on*, whether or not it matters.
#
# **Can a recurrence do attention's work at linear cost?** We build the best answer so far: the
# **state space model**, and the one that made it choose what to keep, **Mamba** (Gu and Dao 2023).

# %% [markdown]
# ## 1 · A state that changes with time
#
# Which $a$? For a memory of a thousand words, $a = 0.999$; for ten thousand, $0.9999$. The
# interesting values crowd together just below 1, and above 1 the state explodes. Training such a
# number is delicate.
#
# So a state space model describes the state in **continuous time**, as an engineer would describe a
# tank with a hole, and takes steps afterwards:
#
# $$ h'(t) = A\, h(t) + B\, x(t) \qquad\qquad y(t) = C\, h(t) + D\, x(t) $$
#
# - $A$ says how the state changes by itself. With $A < 0$ it drains: after a time $1 / |A|$, a share
#   $1/e$, about a third, is left.
# - $B$ says how the input $x$ enters the state, $C$ how the output $y$ reads it.
# - $D$ lets part of the input pass by the state.
#
# A text has no time, it has words. One word takes a time $\Delta$, the **step length**. If the
# input stays constant during a step (it is *held*, hence **zero-order hold**), the equation can be
# solved exactly. Of the old state $e^{\Delta A}$ stays. And what enters during the step drains,
# too, from the moment when it came in:
#
# $$ h_t = \bar A\, h_{t-1} + \bar B\, x_t \qquad \bar A = e^{\Delta A} \qquad
#    \bar B = (\Delta A)^{-1} (e^{\Delta A} - I)\, \Delta B $$
#
# In all that follows $A$ is diagonal: each number of the state goes its own way, $I$ is 1, and
# $(\Delta A)^{-1}$ is a division. In $\bar B$ one $\Delta$ cancels the other.
#
# ### Exercise 1 · Zero-order hold (★☆☆, 8 min)

# %% tags=["exercise"]
def zero_order_hold(delta, A, B):
    """A_bar and B_bar of a diagonal system, two tensors.

    delta: step lengths, positive. A: the diagonal, not 0. B: how the input enters. They broadcast.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("16.zero_order_hold", zero_order_hold)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# For single numbers, $(\Delta A)^{-1} (e^{\Delta A} - 1)\, \Delta B$ is a fraction times $B$. Which
# factors cancel?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Test yourself with a very short step: $\bar A$ must be about 1 and $\bar B$ about $\Delta B$.
#
# </details>
#
# Is the formula right? We do not have to believe it. Cut one step into 100,000 tiny ones, and
# follow the equation. An easy slip is to write $\bar A - A$ where $\bar A - I$ belongs. Let us see
# what it would give.

# %%
from zoo_lessons.layers import discretise

delta, A, B, x_t, before = 0.8, -1.7, 0.6, 2.5, -0.4
h, tiny = before, 100_000
for _ in range(tiny):
    h += delta / tiny * (A * h + B * x_t)
A_bar, B_bar = discretise(*(torch.tensor(v, dtype=torch.float64) for v in (delta, A, B)))
print(f"tiny steps:               {h:.4f}")
print(f"zero-order hold, 1 step:  {A_bar * before + B_bar * x_t:.4f}")
wrong = (A_bar - A) / A * B
print(f"with A_bar - A:           {A_bar * before + wrong * x_t:.4f}")

# %% [markdown]
# ### What Mamba's code computes
#
# The paper writes zero-order hold. The authors' code, and that of `transformers`, keep $\bar A$ and
# take only the first term of $\bar B$: $\bar B \approx \Delta B$. By how much does that differ? The
# quotient depends on $z = \Delta A$ alone. Mamba starts with step lengths from 0.001 to 0.1 and
# with $A = -1, -2, \dots, -16$, so $z$ goes from $-0.001$ to $-1.6$.

# %%
z = torch.tensor([-0.001, -0.01, -0.1, -0.5, -1.0, -1.6], dtype=torch.float64)
one = torch.ones(())
exact, simple = (discretise(one, z, one, method=method)[1] for method in ("zoh", "euler"))
for value, factor in zip(z.tolist(), (simple / exact).tolist(), strict=True):
    print(f"ΔA = {value:6}:  ΔB is {factor:.4f} times the exact B_bar")

# %% [markdown]
# For short steps there is no difference; for the longest it is a factor of two. The model can live
# with that: $B$ is learned, and so is $\Delta$. But the two are not the same formula, and a check
# against `transformers` needs the one that it computes. `discretise` has both.
#
# Now move things yourself. **Try this:** (1) With zero-order hold, change Δ. Do the dots ever leave
# the curve? (2) Set the frequency to 0, choose Euler's method, $\bar A = 1 + \Delta A$, and make Δ
# times the decay larger than 2. (3) Choose zero-order hold again, and a frequency above 0: it is
# the imaginary part of $A$. Where does $\bar A$, the cross in the circle, go when Δ grows? (4) Find
# two settings with the same $\bar A$: what must be equal?

# %%
from zoo_lessons.lab.widgets import StateSpaceExplorer

StateSpaceExplorer(delta=0.2, decay=0.5, frequency=1.5)


# %% [markdown]
# What to see: zero-order hold is exact after each step, and its $\bar A$ turns inward, never out of the
# circle. Euler's $1 + \Delta A$ falls below $-1$, and the state grows while its sign changes. And the
# *product* $\Delta A$ decides how much a step forgets. A long step is a strong input and a strong
# forgetting; a step of length 0 changes nothing. Section 4 makes use of that. (S4, an earlier model,
# uses complex $A$, which swings. Mamba's $A$ is real, and so is ours from here on.)

# %% [markdown]
# ## 2 · The same thing as a convolution
#
# One number of state remembers little. A state space model gives each **channel** (each of the
# numbers in a token's vector) $N$ numbers of state, with different $A$: some forget fast, some
# slowly. $C$ mixes them: $y_t = \sum_n C_n h_{t,n}$. Follow an input through the loop: $k$ steps
# later it has met $\bar A$ $k$ times. So
#
# $$ y_t = \sum_{k \ge 0} K_k\, x_{t-k} \qquad\qquad K_k = \sum_n C_n\, \bar A_n^k\, \bar B_n $$
#
# The **kernel** $K$ says how an input echoes $k$ steps later. And a sum of this form is a
# **convolution**, looking back only.
#
# ### Exercise 2 · A causal convolution (★★☆, 8 min)

# %% tags=["exercise"]
def convolve(x, kernel):
    """y[b, t] = sum over k of kernel[k] * x[b, t - k]; before the first input are zeros.

    x: (batch, length). kernel: (size,), any size. Returns (batch, length).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("16.convolve", convolve)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# For one $k$, the whole term is the input moved $k$ places to the right, times one number. Which
# inputs fall off at the end?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Loop over $k$, and add to `y[:, k:]`. A kernel may be longer than the sequence.
#
# </details>
#
# The library's `DiagonalSSM` is such a layer, one kernel for each channel. It computes the
# convolution by fast Fourier transform, and can also go on as a recurrence (`resume`). Both must
# give the same.

# %%
from zoo_lessons.layers import DiagonalSSM

torch.manual_seed(1)
ssm = DiagonalSSM(d_inner=4, d_state=8)
u = torch.randn(1, 64, 4)  # (batch, length, channels)
with torch.no_grad():
    at_once = ssm(u)  # convolution
    step_by_step, state = ssm.resume(u, None)  # recurrence
assert torch.allclose(at_once, step_by_step, atol=1e-5)
print("convolution = recurrence:", True)
print("output", tuple(at_once.shape), "(batch, length, channels)")
print("state ", tuple(state.shape), "(batch, channels, numbers of state)")

# %%
delta = torch.tensor([0.003, 0.01, 0.03, 0.1])
with torch.no_grad():
    ssm.log_delta.copy_(delta.log())  # one step length for each channel
    ssm.C.fill_(1.0)
    kernels = ssm.kernel(64)  # (channels, length)
fig = lab.lines(
    {f"Δ = {d:.3f}": k / k[0] for d, k in zip(delta.tolist(), kernels, strict=True)},
    title="Kernels of four channels",
    x_axis="steps since the input, k",
    y_axis="echo, as a share of the first",
    markers=False,
)
lab.show_figure(
    fig,
    "Eight numbers of state per channel, A = -1 ... -8, all read with C = 1. A channel with long steps "
    "forgets within some tokens; one with short steps remembers for long. Training moves Δ, A, B and C.",
    "Line chart of four kernels over 64 steps, each divided by its first value. The longer the step "
    "length, the faster they fade: with 0.1 nearly to zero after some twenty steps, with 0.003 to "
    "about half after 64.",
)


# %% [markdown]
# Three ways to compute one thing, for $n$ tokens: the loop takes $n$ steps, one after the other;
# the plain convolution $n^2/2$ products, all at once; the Fourier transform about $n \log n$.
# Training takes the Fourier transform, writing takes the loop, with its state of fixed size. That
# is the offer of S4 ([Gu, Goel and Ré 2022](https://arxiv.org/abs/2111.00396)), and it stands on one
# condition: **$\bar A$, $\bar B$ and $C$ are the same for all tokens.** A system like this is called
# **linear and time-invariant (LTI)**.

# %% [markdown]
# ## 3 · The scan, and how to do it in parallel
#
# We are about to break that condition, so we need a fast way without a kernel. The loop, with a
# factor of its own for each step, is called a **scan**:
#
# $$ h_t = a_t\, h_{t-1} + x_t $$
#
# ### Exercise 3 · The scan as a loop (★☆☆, 6 min)

# %% tags=["exercise"]
def scan(a, x, initial):
    """All states h_1 ... h_length of h_t = a_t h_{t-1} + x_t, as (batch, length, ...).

    a, x: (batch, length, ...). initial: h_0, the state before the first step, (batch, ...).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("16.scan", scan)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Start with `h = initial`. What is the first state that you return?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Collect the states in a list, then `torch.stack(states, dim=1)`. Do not write into `x`.
#
# </details>
#
# Each step waits for the one before. A GPU that could work on all tokens at once takes one at a time.
# The way out: **two steps are one step.** First $h \leftarrow a_1 h + x_1$, then $h \leftarrow a_2 h +
# x_2$. What is the single step $h \leftarrow a\, h + x$ that does both?
#
# ### Exercise 4 · Join two steps (★★☆, 6 min)

# %% tags=["exercise"]
def join(first, second):
    """The step (a, x) that does what `first` and then `second` do.

    first, second: pairs (a, x) of tensors of one shape, meaning h -> a * h + x.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("16.join", join)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Put $a_1 h + x_1$ in the place of $h$ in the second step, and multiply out.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Collect what stands with $h$: that is $a$. The rest is $x$.
#
# </details>
#
# The library's version, written out, and the property that makes everything possible: joining is
# **associative**. $(1 \circ 2) \circ 3 = 1 \circ (2 \circ 3)$, so steps may be grouped as we like,
# as long as their order stays.

# %%
def joined(first, second):
    (a1, x1), (a2, x2) = first, second
    return a2 * a1, a2 * x1 + x2


steps = [(a, x) for a, x in zip(torch.rand(8), torch.randn(8), strict=True)]
left = joined(joined(steps[0], steps[1]), steps[2])
right = joined(steps[0], joined(steps[1], steps[2]))
assert all(torch.allclose(one, other) for one, other in zip(left, right, strict=True))
swapped = joined(joined(steps[1], steps[0]), steps[2])
print("associative:", True, "· the order may change:", torch.allclose(left[1], swapped[1]))

# %% [markdown]
# Now eight steps in three rounds: neighbours join, then the pairs, then the fours. All joins of a
# round happen at the same time.

# %%
row, rounds = steps, 0
while len(row) > 1:
    row = [joined(row[i], row[i + 1]) for i in range(0, len(row), 2)]
    rounds += 1
    print(f"after round {rounds}: {len(row)} step{'s' * (len(row) > 1)}")
h = torch.zeros(())
for a, x in steps:
    h = a * h + x
print("the last state, as by the loop:", torch.allclose(row[0][1], h))

# %% [markdown]
# That gives the last state. All the others are found on the way back: the state before each pair is
# known, so one more step gives the one in the middle. Read how little code that is: solve half as
# many steps (by the same function), then fill in.

# %%
from zoo_lessons.layers import scan_loop, scan_parallel
from zoo_lessons.layers.ssm import _scan_pairs

lab.show_source(_scan_pairs)

# %%
a, x = torch.rand(2, 1000, 16), torch.randn(2, 1000, 16)  # (batch, length, states)
assert torch.allclose(scan_parallel(a, x), scan_loop(a, x), atol=1e-4)
print("parallel scan = loop:", True)
for length in (8, 1000, 1_000_000):
    print(
        f"{length:9,} tokens: about {2 * (length - 1).bit_length():2} rounds in place of {length:,} steps"
    )

# %% [markdown]
# For training there is `linear_scan`. Autograd would keep what each step, or each round, has made.
# But the gradient of a scan is a scan as well, backward in time, so it keeps only $a$ and $h$.
# Which way is faster depends on the machine. Recorded, forward and backward; below 1 is faster than
# the loop:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.records import load_record

cost = load_record("ssm_cost")
scans = cost["figures"]["scans"]
print(f"{cost['machine']['device']}, {cost['machine']['threads']} threads, {cost['date']}")
print("(batch, length, channels, states) =", tuple(scans["shape"]))
for name, ratio in scans["ratio"].items():
    print(f"{name:9} {1000 * scans['seconds'][name]:7.1f} ms, {ratio:.2f} of the loop's time")

# %% [markdown]
# The loop is slow for two reasons: its thousands of small operations, and the gradient of each
# slice `x[:, t]`, for which autograd makes a tensor as long as the whole sequence.
#
# On a processor with few cores, rounds bring no clear gain over steps in place: one step of the batch
# keeps it busy, and the rounds move everything through memory several times. On a GPU the loop
# would leave it idle. `linear_scan` therefore takes steps on a CPU and rounds on a GPU. (Mamba's
# authors go further: one GPU kernel keeps the states in fast memory and never writes them out.)

# %% [markdown]
# ## 4 · Selection
#
# What is wrong with LTI? The response to a sum is the sum of the responses. So whatever the text
# says, a word $k$ steps back enters with the weight $K_k$: *cat* as much as *on*. The layer cannot
# decide to keep a word, because it never asks which word it is.

# %%
from zoo_lessons.layers import SelectiveSSM

torch.manual_seed(0)
u, v = torch.randn(2, 1, 20, 6)  # two texts of 20 tokens, (batch, length, channels)
for layer in (DiagonalSSM(6, 4), SelectiveSSM(6, 4, dt_rank=2)):
    with torch.no_grad():
        is_linear = torch.allclose(layer(u + v), layer(u) + layer(v), atol=1e-5)
    print(f"{type(layer).__name__}: the response to a sum is the sum of the responses: {is_linear}")

# %% [markdown]
# **Selection**: let the step length, $B$ and $C$ depend on the token. Each is a linear function of
# $x_t$:
#
# $$ \Delta_t = \operatorname{softplus}(\text{linear}(x_t)) \qquad B_t = \text{linear}(x_t) \qquad
#    C_t = \text{linear}(x_t) $$
#
# softplus, $\log(1 + e^z)$, makes a step length positive. $A$ stays a parameter, but $\bar A_t =
# e^{\Delta_t A}$ does depend on the token. That is enough: **a long step forgets the past and takes
# in the token; a step of length 0 skips the token.**
#
# On our sentence, with step lengths set by hand, long for the nouns and near 0 for the rest. ($A =
# -1$, $B = 1$; each word on its own axis, as before.)

# %%
A, B = torch.tensor(-1.0), torch.tensor(1.0)
ways = {
    "every word: Δ = 0.7": torch.full((6,), 0.7),
    "nouns: Δ = 1, others: 0.01": torch.tensor([0.01, 1.0, 0.01, 0.01, 0.01, 1.0]),
}
pictures = {}
for name, delta in ways.items():
    A_bar, B_bar = discretise(delta[:, None], A, B)  # (words, 1)
    states = scan_loop(A_bar.expand(6, 6)[None], (B_bar * torch.eye(6))[None])[0]  # (time, axes)
    pictures[name] = states
fig = lab.heatmaps(
    pictures,
    [f"after {w}" for w in words],
    words,
    row_axis="time",
    column_axis="word",
    value="weight in the state",
    numbers=".2f",
)
lab.show_figure(
    fig,
    "What of each word is in the state, word after word. With equal steps the cat has faded when the "
    "mat comes. With chosen steps the state holds the nouns.",
    "Two heat maps of six times and six words. Left, equal steps: each word enters with 0.50 and "
    "halves with each later word. Right, chosen steps: only cat and mat have weight, 0.23 and 0.63 "
    "at the end.",
)

# %% [markdown]
# Read the last rows. On the right, *sat on the* left the state alone, and *cat* waited. But *mat*
# pushed *cat* down: one number of state cannot hold two things. That is what $N$ numbers per
# channel, many channels, and $B_t$ and $C_t$ are for: $B_t$ chooses where in the state a token is
# written, $C_t$ where it is read. (In lesson 15's causal linear attention, $\phi(k_t)$ and $\phi(q_t)$
# do this; but its $\bar A$ is 1, so it never forgets.)
#
# You may know this mechanism. With $A = -1$, $B = 1$ and zero-order hold, $\Delta =
# \operatorname{softplus}(z)$ makes $\bar B = \sigma(z)$ and $\bar A = 1 - \sigma(z)$, where
# $\sigma$ is the sigmoid: the gate of a recurrent network, $h_t = (1 - g)\, h_{t-1} + g\, x_t$
# (Mamba, theorem 1). We check it:

# %%
from torch.nn import functional as F

z = torch.tensor([-5.0, -1.0, 0.0, 1.0, 5.0])
A_bar, B_bar = discretise(F.softplus(z), A, B)
assert torch.allclose(B_bar, z.sigmoid()) and torch.allclose(A_bar, 1 - z.sigmoid())
for value, keep, take in zip(z.tolist(), A_bar.tolist(), B_bar.tolist(), strict=True):
    print(f"z = {value:4.0f}: keep {keep:.3f} of the state, take in {take:.3f} of the token")


# %% [markdown]
# ### Exercise 5 · One step of a selective state space (★★☆, 10 min)
#
# Write the step as Mamba's code does it, with $\bar B = \Delta B$.

# %% tags=["exercise"]
def selective_step(h, u, raw_delta, A, B, C, D):
    """One token through a selective state space: its output (batch, d_inner) and the new state.

    h: the state, (batch, d_inner, d_state). u: the token, (batch, d_inner).
    raw_delta: step lengths before softplus, (batch, d_inner). A: (d_inner, d_state), negative.
    B, C: (batch, d_state), the same for all channels. D: (d_inner,).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("16.selective_step", selective_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Everything happens in the shape (batch, d_inner, d_state). Give `delta` and `u` an axis at the
# end, and `B` and `C` one in the middle.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# New state: `exp(delta * A) * h + delta * B * u`. Output: the sum over the states of `C` times the
# *new* state, plus `D * u`.
#
# </details>
#
# The library's `selective_scan` does all tokens. It makes $\bar A$ and $\bar B x$ for some hundred
# tokens at once (they need the memory: batch × length × d_inner × d_state numbers), scans them, and
# reads them with $C$:

# %%
from zoo_lessons.layers import selective_scan

lab.show_source(selective_scan, without_docstring=True)

# %% [markdown]
# ## 5 · The Mamba block
#
# One layer of Mamba takes the place of attention *and* of the feed-forward layer. A projection
# makes two branches, each twice as wide as the token's vector. One is mixed over time; the other is
# a **gate**.

# %%
from zoo_lessons.lab.diagrams import stack_diagram

transformer = [
    ("LayerNorm", "input"),
    ("self-attention", "attention"),
    ("+ residual", "output"),
    ("LayerNorm", "input"),
    ("feed-forward", "feed-forward"),
    ("+ residual", "output"),
]
mamba = [
    ("RMSNorm", "input"),
    ("to two branches", "feed-forward"),
    ("convolution, SiLU", "attention"),
    ("selective state space", "attention"),
    ("× SiLU(other branch)", "cross"),
    ("projection, + residual", "output"),
]
fig = stack_diagram({"Transformer block": transformer, "Mamba block": mamba})
lab.show_figure(
    fig,
    "Data flows upward. Two things of a Mamba block mix tokens: the short convolution and the state "
    "space. The gate is the branch that sees no other token in this block.",
    "Diagram of two stacks. Transformer block: LayerNorm, self-attention, residual, LayerNorm, "
    "feed-forward, residual. Mamba block: RMSNorm, projection to two branches, convolution "
    "with SiLU, selective state space, product with SiLU of the other branch, projection and "
    "residual.",
)

# %% [markdown]
# **The convolution** is *depthwise*: each channel has its own kernel of four numbers and looks at
# no other channel. It is *causal*: all padding is on the left. It mixes the three tokens before
# into a token, from which $\Delta$, $B$ and $C$ are then made. It is the convolution of section 2
# again, with a learned kernel:

# %%
from zoo_lessons.layers import CausalConv

conv = CausalConv(channels=3, kernel_size=4, bias=False)
x = torch.randn(2, 9, 3)  # (batch, length, channels)
with torch.no_grad():
    kernel = conv.weight[1, 0].flip(0)  # PyTorch stores the oldest first
    by_hand = sum(kernel[k] * F.pad(x[..., 1], (k, 0))[:, :9] for k in range(4))
    assert torch.allclose(conv(x)[..., 1], by_hand, atol=1e-6)
dense = torch.nn.Conv1d(1536, 1536, 4, bias=False)
print("channel 1 by hand = CausalConv:", True)
print(f"parameters for 1536 channels: depthwise {1536 * 4:,}, dense {dense.weight.numel():,}")


# %% [markdown]
# **The gate** multiplies the state space's output by $\operatorname{SiLU}(g) = g\, \sigma(g)$,
# where $g$ is the other branch. The state decides what is remembered; the gate decides what of it
# this token shows.
#
# ### Exercise 6 · Find the bug: the gate (★★☆, 8 min)
#
# This block runs, and nothing complains. But something that ought to happen to the state space's
# output happens to its input. Find it.

# %% tags=["exercise"]
def gated_mixer(mixer, x):
    """mixer: has in_proj, conv, ssm, out_proj. x: (batch, length, d_model) -> the same shape."""
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)  # (batch, length, d_inner) each
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u * F.silu(gate)))


# %% tags=["check"]
lab.check("16.gate", gated_mixer)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compare the order of the operations with the diagram, from bottom to top.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# With the bug, a token whose gate is 0 never enters the state. A token should be able to be
# remembered without being shown.
#
# </details>
#
# ## 6 · Read the real thing
#
# The block in the library. `state` is for writing: it holds the last three tokens of the
# convolution and the state of the state space.

# %%
from zoo_lessons.models import Mamba, MambaConfig
from zoo_lessons.models.mamba import MambaMixer

lab.show_source(MambaMixer.forward, without_docstring=True)

# %% [markdown]
# ### The same in transformers
#
# `MambaForCausalLM` is Hugging Face's Mamba. We give it random weights everywhere, load them into
# ours, and compare logits.

# %%
import transformers

from zoo_lessons.weights import from_transformers

theirs = transformers.MambaForCausalLM(
    transformers.MambaConfig(vocab_size=300, hidden_size=48, num_hidden_layers=3, state_size=8)
).eval()
with torch.no_grad():
    for name, parameter in theirs.named_parameters():
        noise = 0.2 * torch.randn_like(parameter)
        parameter.copy_(noise + ("norm" in name) if "A_log" not in name else parameter + noise)
ours = from_transformers(theirs)
ids = torch.randint(300, (2, 25))
with torch.no_grad():
    mine, reference = ours(ids).logits, theirs(ids).logits
difference = (mine - reference).abs().max() / reference.abs().max()
print("largest difference of the logits below 0.00001:", difference.item() < 1e-5)

# %% [markdown]
# Without its GPU kernels, `transformers` runs Mamba on a CPU as a loop in Python that makes new
# tensors at each step; ours scans in place. On your machine, for these two small models:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import compare

ids = torch.randint(300, (2, 128))
with torch.no_grad():
    times = compare({"transformers": lambda: theirs(ids), "ours": lambda: ours(ids)}, rounds=5)
print("ours takes less time than transformers:", times.ratio("ours") < 1)

# %% [markdown]
# And recorded, at the published size: how far the outputs are apart with the same weights (relative
# to the largest), how much code, how large, how fast. (`transformers` keeps parts of Mamba in float32
# whatever the model's precision: that is the difference in the column of float64.)

# %% tags=["nbval-ignore-output"]
lab.model_table(load_record("efficiency_model_table"), ["Mamba-130M"])

# %% [markdown]
# | | paper | this course | `transformers` |
# |---|---|---|---|
# | $\bar B$ | zero-order hold (equation 4) | $\Delta B$, as the authors' code | $\Delta B$ |
# | scan | parallel, in one GPU kernel | in place on a CPU, rounds on a GPU | a loop on a CPU |
# | activation | SiLU, also of the gate | by config; the gate always SiLU | the same |
# | precision | not spelled out | the model's own | residual, A, D, B, norm in float32 |
# | output layer | shares the embedding | shares it | shares it; may be untied |

# %% [markdown]
# ## 7 · Writing with constant memory
#
# To write, a Mamba needs its state, and nothing else. Let one read a text token by token and count
# the bytes that it keeps.

# %%
sizes = {"vocab_size": 100, "d_model": 64, "num_layers": 4, "num_heads": 4, "d_ff": 128}
models = {
    "Mamba": Mamba(MambaConfig(**sizes)).eval(),
    "hybrid, one layer of attention": Mamba(MambaConfig(**sizes, attention_layers=(3,))).eval(),
}
ids = torch.randint(100, (1, 200))
for name, model in models.items():
    cache, logits, kept = model.new_cache(), [], []
    with torch.no_grad():
        for token in ids.split(1, dim=1):  # (1, 1) each
            logits.append(model(token, cache=cache).logits)
            kept.append(cache.nbytes)
        assert torch.allclose(torch.cat(logits, dim=1), model(ids).logits, atol=1e-4)
    print(
        f"{name}: {kept[0]:,} bytes after 1 token, {kept[99]:,} after 100, {kept[199]:,} after 200"
    )


# %% [markdown]
# Token by token gives the same logits as all at once (asserted above). One layer keeps
#
# $$ \text{bytes} = \text{batch} \cdot d_\text{inner} \cdot (N + \text{kernel} - 1) \cdot
#    \text{bytes per number} $$
#
# and no $n$ stands in it, while a layer of attention keeps $2\, n\, d_\text{model}$ numbers. At the
# published sizes, for one text, in 16 bits (GPT-2 has positions for 1,024 tokens; its line shows what a
# longer one would keep):

# %%
def mamba_bytes(config, bytes_per_number=2):
    layers = config.num_layers - len(config.attention_layers)
    return layers * config.d_inner * (config.d_state + config.d_conv - 1) * bytes_per_number


def attention_bytes(layers, d_model, tokens, bytes_per_number=2):
    return 2 * layers * d_model * tokens * bytes_per_number


assert kept[0] == mamba_bytes(models[name].config, 4) + attention_bytes(1, 64, 1, 4)
c = MambaConfig.mamba_130m()
lengths = [16, 64, 256, 1024, 4096, 16384]
series = {
    "GPT-2 small, 12 layers": [attention_bytes(12, 768, n) / 1e6 for n in lengths],
    "Mamba-130M with 3 of 24 layers attention": [
        (mamba_bytes(c) * 21 / 24 + attention_bytes(3, 768, n)) / 1e6 for n in lengths
    ],
    "Mamba-130M, 24 layers": [mamba_bytes(c) / 1e6 for _ in lengths],
}

# %%
fig = lab.lines(
    series,
    lengths,
    title="What must be kept to go on writing",
    x_axis="tokens so far",
    y_axis="megabytes, for one text, 16 bits",
    log="xy",
)
lab.show_figure(
    fig,
    "Attention's cache grows with the text; Mamba's state does not. A hybrid grows, too, but in few "
    "layers only.",
    "Line chart with logarithmic axes, 16 to 16,384 tokens. GPT-2 small rises in a straight line from "
    "0.6 to 604 megabytes. Mamba-130M stays at 1.4. The hybrid starts near 1.4 and rises later.",
)
same = mamba_bytes(c) / attention_bytes(12, 768, 1)
print(
    f"Mamba-130M keeps {mamba_bytes(c) / 1e6:.1f} MB: as much as GPT-2 small keeps of {same:.0f} tokens"
)

# %% [markdown]
# Is that a miracle? No: it is a **choice of what to lose**. What is not in the state cannot be
# asked for later. A cache loses nothing, and pays for it. So the question of this lesson becomes:
# which tasks need the whole text, and which only a well-kept summary?
#
# How long one more token takes, recorded for three small models with random weights:

# %% tags=["nbval-ignore-output"]
figures = cost["figures"]
fig = lab.lines(
    {name: [1000 * s for s in v] for name, v in figures["writing"]["seconds"].items()},
    figures["lengths"],
    title="Time of one more token",
    x_axis="tokens so far",
    y_axis="milliseconds",
    log="x",
)
lab.show_figure(
    fig,
    f"Two layers of width {figures['d_model']}. {cost['machine']['device']}, {cost['date']}, recorded by "
    "make record.",
    "Line chart of milliseconds for one more token against the tokens so far, on a logarithmic axis, for "
    "Mamba, attention and a hybrid.",
)
for length, ratio in zip(figures["lengths"], figures["writing"]["ratio"]["attention"], strict=True):
    print(f"after {length:4} tokens attention takes {ratio:.2f} of Mamba's time")

# %% [markdown]
# Mamba's line is level: a token costs the same wherever it stands. Attention's line rises, for each
# token reads a longer cache. But at this small width it starts lower, probably because a step of Mamba
# takes more small operations. The ratios say how near the two have come at the longest text.
#
# ## 8 · Can it do attention's work?
#
# Three tasks, made so that each asks for one ability. Every sequence is new, and only the questions
# count: the places after which an answer stands.

# %%
from zoo_lessons.datasets.sequence_tasks import TASKS, as_text, sequence_batch, vocabulary_size

setting = {"num_symbols": 8, "kept": 5, "places": 12, "questions": 4}
for task in TASKS:
    example = sequence_batch(task, 1, generator=torch.Generator().manual_seed(3), **setting)
    marks = ["?" if asked else " " for asked in example.asked[0].tolist()]
    print(f"{task:18} {as_text(example.input_ids[0])}")
    print(f"{'':18} {' '.join(marks)}\n")

# %% [markdown]
# - **Copying**: after `>`, say the symbols again. They stand at the same places in every example: an
#   answer lies a fixed number of steps back.
# - **Selective copying**: the symbols stand at random places. One must tell them from the noise `·` and
#   remember them in order.
# - **Induction**: after a bar, a symbol returns. What followed it at first? Any neighbouring pair may be
#   asked for. This is what the *induction heads* of a Transformer do (Olsson et al. 2022).
#
# **Predict.** Which of the three can a linear, time-invariant state space learn?
#
# Let us train three models for some seconds on induction: a state space without selection, Mamba,
# and a **hybrid**, whose second layer is attention. (All three have two layers. Attention has no
# positions here: the order is Mamba's business. And as our texts are short, all step lengths start ten
# times as long as usual.)

# %% tags=["nbval-ignore-output"]
from functools import partial

from zoo_lessons.training import fit
from zoo_lessons.training.schedules import warmup_cosine


def answer_loss(model, batch):
    """Mean loss of the answers, in nats; batch: ids and places of the questions (batch, length)."""
    input_ids, asked = batch
    logits = model(input_ids[:, :-1]).logits
    return F.cross_entropy(logits[asked[:, :-1]], input_ids[:, 1:][asked[:, :-1]])


kinds = {
    "LTI state space": {"selective": False},
    "Mamba": {},
    "hybrid": {"attention_layers": (1,), "num_heads": 2, "d_ff": 32},
}


def new_model(kind):
    model = Mamba(MambaConfig(vocabulary_size(8), 32, 2, d_state=4, **kinds[kind]))
    for layer in model.layers:  # the usual first steps are for long texts: about ten times as long
        if hasattr(layer, "mixer"):
            ssm = layer.mixer.ssm
            steps = ssm.log_delta if isinstance(ssm, DiagonalSSM) else ssm.dt_proj.bias
            steps.data += torch.tensor(10.0).log()
    return model


# %% tags=["nbval-ignore-output"]
histories, scores = {}, {}
test = sequence_batch("induction", 500, generator=torch.Generator().manual_seed(1), **setting)
for kind in kinds:
    torch.manual_seed(0)
    chance = torch.Generator().manual_seed(0)
    histories[kind] = fit(
        model := new_model(kind),
        lambda step, chance=chance: sequence_batch("induction", 32, generator=chance, **setting),
        answer_loss,
        steps=150,
        lr=1e-2,
        schedule=partial(warmup_cosine, warmup_steps=20, total_steps=150),
    )
    with torch.no_grad():
        right = model(test.input_ids[:, :-1]).logits.argmax(dim=-1) == test.input_ids[:, 1:]
    scores[kind] = right[test.asked[:, :-1]].float().mean().item()
assert scores["hybrid"] > max(scores["Mamba"], scores["LTI state space"])
print(", ".join(f"{kind}: {score:.0%} of the answers right" for kind, score in scores.items()))

# %% tags=["nbval-ignore-output"]
fig = lab.training_curves(histories, title="Induction, 150 steps", y_axis="loss, nats", smooth=10)
lab.show_figure(
    fig,
    "Some seconds of training. The recorded runs below are longer, with tuned rates and three seeds.",
    "Line chart of three training losses over 150 steps: the hybrid's falls to nearly 0, the others "
    "stay far above.",
)

# %% [markdown]
# The recorded comparison: five models of two layers and about the same size, three seeds. Each has the
# better of two learning rates, chosen once, on induction with the first seed. The two kinds of attention
# by themselves get positions (lesson 03), for nothing else tells them the order. Two things to compare
# with: a blind guess; and, in the copying tasks, a model that knows which symbols there were but not
# their order (no symbol occurs twice, so it guesses among those not said yet). Plain copying is for the
# two state spaces only.

# %% tags=["nbval-ignore-output"]
tasks = load_record("ssm_tasks")["figures"]
results = tasks["tasks"]
print(f"{tasks['steps']} steps of {tasks['batch']} examples; right answers, mean and 95 % interval")
print(f"{'':18}" + "".join(f"{task:>24}" for task in results))
for kind in tasks["parameters"]:
    row = f"{kind:18}"
    for found in results.values():
        text = ""
        if kind in found:
            low, high = found[kind]["interval"]
            text = f"{found[kind]['mean']:.0%} ({max(0, low):.0%} to {min(1, high):.0%})"
        row += f"{text:>24}"
    print(row)
print(f"blind guess: {tasks['blind_guess']:.0%}; ", end="")
print(f"copying, the set without its order: {tasks['knows_the_set']:.0%}")

# %% tags=["nbval-ignore-output"]
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 3, figsize=(9, 3.6), sharey=True)
for ax, (task, found) in zip(axes, results.items(), strict=True):
    for index, kind in enumerate(tasks["parameters"]):
        if kind in found:
            curve = torch.tensor(found[kind]["curve"])  # (seeds, points)
            style = ["-", "--", "-.", ":", (0, (5, 1))][index]
            ax.plot(tasks["curve_steps"], curve.mean(0), color=f"C{index}", ls=style, label=kind)
            low, high = curve.amin(0), curve.amax(0)
            ax.fill_between(tasks["curve_steps"], low, high, color=f"C{index}", alpha=0.15)
    ax.set(title=task, xlabel="steps", ylim=(0, 1.02))
axes[0].set_ylabel("share of right answers")
fig.legend(*axes[-1].get_legend_handles_labels(), loc="outside lower center", ncols=5)
lab.show_figure(
    fig,
    "Validation accuracy during training: mean and range of three seeds. Recorded by make record.",
    "Three line charts, one per task: the share of right answers against training steps, for five "
    "models, and for two in plain copying.",
)

# %% [markdown]
# Read the table from left to right.
#
# - **Copying.** The state space without selection learns it: a fixed distance is what a kernel is
#   good for.
# - **Selective copying.** Now the distance changes with the noise, and its accuracy stays
#   below Mamba's in all three seeds, in two of them far below. It does better than one who knows the set: late symbols and early ones
#   fade differently, which tells something about the order. Mamba and both kinds of attention get
#   nearly everything right.
# - **Induction.** The hybrid is right in every answer, in all three seeds, and nearly so after 100
#   steps. Mamba and attention by themselves get there in some seeds only, within the steps that we
#   gave them. Some curves still rise: with three seeds and 700 steps we see who learns *faster*, not
#   who can learn it at all.
#
# Why is the hybrid so quick? A likely reason, not tested here: an induction head needs to know, at
# each token, which token came before. Attention must first learn to look one place back; Mamba's
# convolution over four tokens has that from the start. Mamba in turn must learn to write five pairs
# into its state and to read one of them out; attention has all tokens at hand. Each half brings
# what the other lacks. That fits what larger hybrids report (Jamba has one layer of attention in
# eight), but our models are tiny and our texts short: nothing here says how the five compare at the
# size of a real language model.
#
# ### What does it select?
#
# The trained Mamba of the record (selective copying, first seed) reads an example. `softplus` of
# what `dt_proj` makes is the step length, for each token and channel; here is its mean over the
# channels.

# %%
from zoo_lessons.checkpoints import load_trained

trained = load_trained("mamba_copying")
example = sequence_batch(
    "selective copying", 1, generator=torch.Generator().manual_seed(3), **setting
)
seen = []
hooks = [
    layer.mixer.ssm.dt_proj.register_forward_hook(lambda *call: seen.append(F.softplus(call[2][0])))
    for layer in trained.layers
]
with torch.no_grad():
    trained(example.input_ids)
for hook in hooks:
    hook.remove()
steps = torch.stack(seen).mean(dim=-1)  # (layers, length)
fig = lab.heatmap(
    steps,
    ["layer 1", "layer 2"],
    as_text(example.input_ids[0]).split(),
    title="Mean step length of each token",
    column_axis="token",
    value="Δ, mean over channels",
)
lab.show_figure(
    fig,
    "Where Mamba takes long steps on one example of selective copying.",
    "Heat map with two rows, the layers, and eighteen tokens as columns: mean step lengths.",
)

# %% [markdown]
# A picture is not a proof. The test: make the step lengths the same for all tokens (their mean, for
# each channel), and ask for the answers again. The same with $B$ and $C$, which choose where to
# write and read. Recorded, for each seed:

# %% tags=["nbval-ignore-output"]
for seed, found in enumerate(tasks["selection"]):
    at = found["step_lengths"]
    shown = ", ".join(
        f"layer {i + 1}: {a:.2f} at symbols, {b:.2f} at noise"
        for i, (a, b) in enumerate(zip(at["symbols"], at["noise"], strict=True))
    )
    without = found["same_for_all"]
    print(f"seed {seed}: mean step length, {shown}")
    print(
        f"        accuracy {found['accuracy']:.0%}, with equal step lengths {without['delta']:.0%}, "
        f"with equal B and C {without['B and C']:.0%}"
    )

# %% [markdown]
# In the picture `>` stands out, and the first answer after it. From the means one would not guess which
# tokens are symbols: noise does not get short steps, as the story of section 4 would have it. Yet the
# choice is there. With equal step lengths each seed loses part of its answers; with equal $B$ and
# $C$, more. So this Mamba selects mostly by **where it writes and reads**, and by small differences
# of the step length in single channels. The nouns of section 4 show what the formula *can* do; what
# a trained model does, one has to measure. (A caution: with a mean in its place, the model also gets
# into states that it never met in training. The loss shows that it uses the differences, not that it
# uses nothing else.)

# %% [markdown]
# ## 9 · What it costs
#
# **Parameters.** Inside a block there are $E = 2d$ channels with $N = 16$ numbers of state; step
# lengths come from a bottleneck of $R = d / 16$. Term by term, for Mamba-130M:

# %%
d, E, N, R = c.d_model, c.d_inner, c.d_state, c.d_model // 16
terms = {
    "projection to two branches, d · 2E": d * 2 * E,
    "convolution, 4E + E": 5 * E,
    "Δ, B and C of the token, E · (R + 2N)": E * (R + 2 * N),
    "Δ out of the bottleneck, R · E + E": R * E + E,
    "A and D, E · N + E": E * N + E,
    "projection back, E · d": E * d,
    "RMSNorm, d": d,
}
for name, count in terms.items():
    print(f"{name:40} {count:10,}  {count / sum(terms.values()):5.1%}")
total = c.num_layers * sum(terms.values()) + c.vocab_size * d + d
with torch.device("meta"):  # counts without allocating
    assert total == sum(p.numel() for p in Mamba(c).parameters())
print(f"{'24 layers, embedding, last norm':40} {total:10,}")

# %% [markdown]
# Nearly all of it is the projections, to the two branches and back, $6d^2$: half of a Transformer's
# block. So Mamba takes twice as many layers. The state space, which does all the remembering, is a
# few per cent.
#
# **Time and memory.** Per token, the work is the same at the beginning of a text as at its end.
# Recorded: one pass over a text, without gradients, for two layers of Mamba, two of attention
# (lesson 06's GPT, with PyTorch's fused attention) and one of each. The fused kernel makes no
# matrix of scores, but the causal mask is a matrix of $n \times n$ as well. Mamba scans 256 tokens
# at a time, so its memory starts with what 256 tokens need, and then grows slowly.

# %% tags=["nbval-ignore-output"]
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6))
panels = {
    ("Time to read a text", "seconds"): figures["reading"]["seconds"],
    ("Memory to read it", "megabytes"): {
        name: [b / 1e6 for b in values] for name, values in figures["memory"].items()
    },
}
for ax, ((title, unit), series) in zip(axes, panels.items(), strict=True):
    lab.lines(
        series, figures["lengths"], title=title, x_axis="tokens", y_axis=unit, log="xy", ax=ax
    )
lab.show_figure(
    fig,
    f"Width {figures['d_model']}, two layers. {cost['machine']['device']}, {cost['date']}, recorded by "
    "make record.",
    "Two line charts with logarithmic axes, time and memory against the number of tokens, for Mamba, "
    "attention and a hybrid.",
)

# %% tags=["nbval-ignore-output"]
fitted = figures["reading"]["exponent"]
lengths = next(iter(fitted.values()))["lengths"]
print(f"cost = constant · n^p, fitted from {lengths[0]} to {lengths[-1]} tokens:")
for name, found in fitted.items():
    low, high = found["interval"]
    memory = figures["memory_exponent"][name]["value"]
    print(
        f"{name:10} time p = {found['value']:.2f} ({low:.2f} to {high:.2f}), memory p = {memory:.2f}"
    )
print(f"the last doubling, {lengths[-2]} to {lengths[-1]} tokens:")
for name, seconds in figures["reading"]["seconds"].items():
    memory = figures["memory"][name]
    print(
        f"{name:10} time × {seconds[-1] / seconds[-2]:.1f}, memory × {memory[-1] / memory[-2]:.1f}"
    )
ratio = figures["reading"]["ratio"]["attention"]
for length, value in zip(figures["lengths"], ratio, strict=True):
    print(f"{length:5} tokens: attention takes {value:.2f} of Mamba's time")

# %% [markdown]
# The claim that this course tests says that state space models bring **linear cost** (a part of
# C14; its other parts, adaptive depth and fused attention, belong to lessons 17 and 20). The
# exponents above are the measurement; mind their intervals, for four lengths make a rough fit. Two
# things to see besides:
#
# - **The constant counts.** A scan on a CPU takes its steps one by one, and at short lengths attention is
#   faster than Mamba. Linear cost wins when the text is long enough, and where that is, the ratios say.
# - **A hybrid** is paid by the Mamba layer while texts are short, and by the attention layer in the
#   end: compare its exponent with what its last doubling costs. What it buys is in section 8.
#
# ## Quiz

# %%
lab.quiz("16")

# %% [markdown]
# ## Summary
#
# - A state space model is a linear recurrence that comes from continuous time: $\bar A = e^{\Delta A}$,
#   $\bar B = (\Delta A)^{-1}(e^{\Delta A} - I)\,\Delta B$. Mamba's code takes $\bar B = \Delta B$.
# - If nothing depends on the token, it is a convolution, and cannot choose what to keep. If $\Delta$, $B$
#   and $C$ depend on the token, it can; it is then computed by a scan, in parallel if need be, because
#   joining steps is associative.
# - A Mamba block: projection to two branches, short causal convolution, selective state space, gate,
#   projection.
# - Mamba keeps a state of fixed size; attention keeps everything. On our small tasks the state
#   space with selection copied better among noise than the one without, and one layer of Mamba with one
#   of attention learned induction fastest.
# - **Next:** [17 Smaller models](17_smaller_models.ipynb). **Read:** Gu and Dao 2023,
#   [Mamba](https://arxiv.org/abs/2312.00752), sections 2 and 3; Gu, Gupta, Goel and Ré 2022,
#   [S4D](https://arxiv.org/abs/2206.11893), sections 3 and 4; Lieber et al. 2024,
#   [Jamba](https://arxiv.org/abs/2403.19887), section 2, for a hybrid; Blelloch 1990, *Prefix Sums and
#   Their Applications*, section 1.4.
