# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 16 · State-space models: solutions
#
# Solutions to the exercises of [16_state_space_models](../16_state_space_models.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/16_state_space_models.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F16_state_space_models.ipynb)

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

# %%
import torch
from torch.nn import functional as F


# %% [markdown]
# ## Exercise 1 · Zero-order hold
#
# One $\Delta$ cancels the other, and what is left is $(e^{\Delta A} - 1) / A \cdot B$.

# %%
def zero_order_hold(delta, A, B):
    A_bar = torch.exp(delta * A)
    return A_bar, torch.expm1(delta * A) / A * B


lab.check("16.zero_order_hold", zero_order_hold)

# %% [markdown]
# `expm1` is $e^z - 1$ without the loss of digits near 0; plain `A_bar - 1` passes as well. Why it
# is right: with a constant input the state moves toward the rest position $-Bx/A$, and of the
# distance to it the share $e^{\Delta A}$ is left after a step. Put $\bar A h + \bar B x$ in, and
# that is what comes out. A slip of the pen, and what the check says:

# %%
lab.check(
    "16.zero_order_hold",
    lambda delta, A, B: (torch.exp(delta * A), (torch.exp(delta * A) - A) / A * B),
)


# %% [markdown]
# ## Exercise 2 · A causal convolution
#
# For each $k$, move the input $k$ places to the right and add it with its weight.

# %%
def convolve(x, kernel):
    y = torch.zeros_like(x)
    for k in range(min(len(kernel), x.shape[1])):
        y[:, k:] += kernel[k] * x[:, : x.shape[1] - k]
    return y


lab.check("16.convolve", convolve)


# %% [markdown]
# The first $k$ outputs get nothing from this term: before the text there is nothing. With
# `F.conv1d` two things must be right: all zeros on the left, and the kernel turned round, because
# PyTorch's "convolution" multiplies the *last* entry of its kernel with the newest input. If the
# zeros stand on both sides, as is usual for images, the future leaks:

# %%
def centred(x, kernel):
    left = len(kernel) // 2
    padded = F.pad(x, (left, len(kernel) - 1 - left))
    return padded.unfold(1, len(kernel), 1) @ kernel.flip(0)


lab.check("16.convolve", centred)


# %% [markdown]
# ## Exercise 3 · The scan as a loop
#
# Start from `initial`, and keep each state after its input has entered.

# %%
def scan(a, x, initial):
    h, states = initial, []
    for t in range(x.shape[1]):
        h = a[:, t] * h + x[:, t]
        states.append(h)
    return torch.stack(states, dim=1)


lab.check("16.scan", scan)

# %% [markdown]
# `h = a * h + x` makes a new tensor at each step. Written in place (`h *= a`), the list would hold
# one tensor many times, and `initial` would change for the caller. Whoever starts from zeros cannot
# go on with a text in pieces:

# %%
lab.check("16.scan", lambda a, x, initial: scan(a, x, torch.zeros_like(initial)))


# %% [markdown]
# ## Exercise 4 · Join two steps
#
# $a_2 (a_1 h + x_1) + x_2 = (a_2 a_1)\, h + (a_2 x_1 + x_2)$.

# %%
def join(first, second):
    (a1, x1), (a2, x2) = first, second
    return a2 * a1, a2 * x1 + x2


lab.check("16.join", join)

# %% [markdown]
# The first input is in the state when the second step comes, so it fades by $a_2$. The second input
# enters last. A rule with $a_1 x_1$ in its place looks as good, and is not even associative: a
# parallel scan with it would give another result for another number of processors.

# %%
lab.check("16.join", lambda one, two: (two[0] * one[0], one[0] * one[1] + two[1]))


# %% [markdown]
# ## Exercise 5 · One step of a selective state space
#
# Everything happens in the shape (batch, d_inner, d_state).

# %%
def selective_step(h, u, raw_delta, A, B, C, D):
    delta = F.softplus(raw_delta)[..., None]  # (batch, d_inner, 1)
    A_bar = torch.exp(delta * A)  # (batch, d_inner, d_state)
    h = A_bar * h + delta * B[:, None] * u[..., None]
    return (h * C[:, None]).sum(dim=-1) + D * u, h


lab.check("16.selective_step", selective_step)


# %% [markdown]
# Without softplus, half of the step lengths would be negative, and $e^{\Delta A}$ above 1: the
# state would grow. And $\Delta$ must scale the input as well, or a skipped token would enter all
# the same:

# %%
def input_at_full_strength(h, u, raw_delta, A, B, C, D):
    delta = F.softplus(raw_delta)[..., None]
    h = torch.exp(delta * A) * h + B[:, None] * u[..., None]
    return (h * C[:, None]).sum(dim=-1) + D * u, h


lab.check("16.selective_step", input_at_full_strength)


# %% [markdown]
# ## Exercise 6 · Find the bug: the gate
#
# The gate multiplied the input of the state space. It belongs to its output.

# %%
def gated_mixer(mixer, x):
    u, gate = mixer.in_proj(x).chunk(2, dim=-1)  # (batch, length, d_inner) each
    u = F.silu(mixer.conv(u))
    return mixer.out_proj(mixer.ssm(u) * F.silu(gate))


lab.check("16.gate", gated_mixer)


# %% [markdown]
# Such a bug raises no error, and the model still learns something. What is lost: with the gate
# before the state, a token that shows nothing now can also not be remembered for later. Comparing
# with a reference implementation finds it at once; looking at the loss does not. If the two halves
# are exchanged, the check says so:

# %%
def exchanged(mixer, x):
    gate, u = mixer.in_proj(x).chunk(2, dim=-1)
    return mixer.out_proj(mixer.ssm(F.silu(mixer.conv(u))) * F.silu(gate))


lab.check("16.gate", exchanged)
