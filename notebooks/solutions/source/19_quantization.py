# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 19 · Quantization: solutions
#
# Solutions to the exercises of [19_quantization](../19_quantization.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/19_quantization.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F19_quantization.ipynb)

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

lab.begin("19")

# %%
import torch


# %% [markdown]
# ## Exercise 1 · An asymmetric grid
#
# The three formulas. 256 points have 255 gaps, and `low` lands on -128.

# %%
def quantize_asymmetric(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - round(low / scale)
    q = ((x / scale).round() + zero_point).clamp(-128, 127).to(torch.int8)
    return q, scale, zero_point


lab.check("19.asymmetric", quantize_asymmetric)


# %% [markdown]
# The order matters: round, add, clamp, and only then convert. The conversion keeps the lowest eight bits of
# a number and drops the rest, so 130 becomes -126:

# %%
def without_clamp(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - round(low / scale)
    return ((x / scale).round() + zero_point).to(torch.int64).to(torch.int8), scale, zero_point


lab.check("19.asymmetric", without_clamp)


# %% [markdown]
# And if the zero point is not rounded, no integer stands for 0. Then padding turns into a small number, and
# so does each zero behind a ReLU: an error with the same sign everywhere, which sums do not average away.

# %%
def zero_point_not_rounded(x, low, high):
    scale = (high - low) / 255
    zero_point = -128 - low / scale
    return (x / scale + zero_point).round().clamp(-128, 127).to(torch.int8), scale, zero_point


lab.check("19.asymmetric", zero_point_not_rounded)


# %% [markdown]
# ## Exercise 2 · One scale for each output channel
#
# A row of the weight makes an output channel, so its maximum runs over the columns.

# %%
def quantize_channels(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127  # (d_out, 1)
    return (weight / scale).round().to(torch.int8), scale


lab.check("19.channels", quantize_channels)


# %% [markdown]
# No clamp is needed: nothing in a row is larger than its maximum, so all quotients lie within -127 and 127.
# Over the wrong axis, there is a scale for each *input*. With a square matrix nothing complains:

# %%
def wrong_axis(weight):
    scale = weight.abs().amax(dim=0, keepdim=True) / 127
    return (weight / scale).round().to(torch.int8), scale


lab.check("19.channels", wrong_axis)


# %% [markdown]
# ## Exercise 3 · A linear layer in integers
#
# To int32 first, then subtract, multiply and add; both scales last. In this form the zero point goes before
# the product. A real kernel multiplies int8 numbers as they are and subtracts $z \sum_c q_{w,ic}$ from the sums.

# %%
def integer_linear(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    x = q_x.to(torch.int32) - x_zero_point
    total = x @ q_weight.to(torch.int32).T  # (tokens, d_out), int32
    return x_scale * weight_scale * total


lab.check("19.integer_linear", integer_linear)


# %% [markdown]
# Without the conversion, PyTorch stays in int8. It has no room even for the difference: 127 - (-128) is 255.

# %%
def in_int8(q_x, x_scale, x_zero_point, q_weight, weight_scale):
    return x_scale * weight_scale * ((q_x - x_zero_point) @ q_weight.T)


lab.check("19.integer_linear", in_int8)


# %% [markdown]
# ## Exercise 4 · Find the bug: a scale that knows too much
#
# Three things were wrong. The test batches took part, so the report was measured on data that the model had
# been fitted to. Each batch overwrote the scale of those before it. And `max()` does not see that -8 is large.

# %%
def static_scale(calibration, test):
    return max(batch.abs().max().item() for batch in calibration) / 127


lab.check("19.calibration_bug", static_scale)


# %%
def with_test_batches(calibration, test):
    return max(batch.abs().max().item() for batch in calibration + test) / 127


lab.check("19.calibration_bug", with_test_batches)


# %% [markdown]
# ## Exercise 5 · Two numbers in a byte
#
# `stack` along a new last axis puts the two halves of a byte beside each other, `flatten` joins the axes. In two's
# complement, what is above 7 stands for 16 less.

# %%
def unpack(packed):
    halves = torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).to(torch.int8)
    return torch.where(halves > 7, halves - 16, halves)


lab.check("19.unpack", unpack)


# %% [markdown]
# Without the last line, -1 comes back as 15:

# %%
def unsigned(packed):
    return torch.stack((packed & 15, packed >> 4), dim=-1).flatten(-2).to(torch.int8)


lab.check("19.unpack", unsigned)


# %% [markdown]
# ## Exercise 6 · A gradient through a rounding
#
# Clamp the weight to the range: that is the part whose slope counts. Then replace its *value* by that of the
# grid, with `detach`, so that the rounding has no part in the gradient.

# %%
def weight_gradient(weight, x, target, scale):
    weight = weight.clone().requires_grad_(True)
    inside = weight.clamp(-7.5 * scale, 7.5 * scale)
    on_grid = scale * (weight / scale).round().clamp(-7, 7)
    rounded = inside + (on_grid - inside).detach()
    (x @ rounded.T - target).square().mean().backward()
    return weight.grad


lab.check("19.straight_through", weight_gradient)


# %% [markdown]
# Left to itself, PyTorch is honest about the staircase: the gradient is 0, and nothing is ever learned.

# %%
def honest(weight, x, target, scale):
    weight = weight.clone().requires_grad_(True)
    rounded = scale * (weight / scale).round().clamp(-7, 7)
    (x @ rounded.T - target).square().mean().backward()
    return weight.grad


lab.check("19.straight_through", honest)
