# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 05 · Training stability: solutions
#
# Solutions to the exercises of [05_training_stability](../05_training_stability.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/05_training_stability.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F05_training_stability.ipynb)

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

# %%
import math

import torch
from torch.nn import functional as F


# %% [markdown]
# ## Exercise 1 · Clip by the global norm
#
# Scale all gradients by one factor, so that their norm, all together, is at most `max_norm`.

# %%
def clip_by_global_norm(gradients, max_norm):
    norm = torch.stack([g.square().sum() for g in gradients]).sum().sqrt()
    factor = (max_norm / norm).clamp(max=1.0)  # never longer than before
    return [g * factor for g in gradients], norm


lab.check("05.clip", clip_by_global_norm)

# %% [markdown]
# - The squares of *all* numbers are summed before the root is taken. Adding norms gives 7 for the
#   sides 3 and 4, whose diagonal is 5.
# - `clamp(max=1.0)` leaves short gradients alone. It also handles a gradient of zeros: `max_norm / 0`
#   is infinite for a tensor, and becomes 1.
# - One factor for all tensors keeps the direction. Clipping each tensor by itself does not:

# %%
gradients = [torch.tensor([10.0]), torch.tensor([1.0])]
together, _ = clip_by_global_norm(gradients, 1.0)
apart = [clip_by_global_norm([g], 1.0)[0][0] for g in gradients]
print("one factor: ", [f"{g.item():.3f}" for g in together], "the ratio is still 10")
print("each by itself:", [f"{g.item():.3f}" for g in apart], "the ratio is 1")

# %%
lab.check("05.clip", lambda gradients, max_norm: (
    [clip_by_global_norm([g], max_norm)[0][0] for g in gradients],
    clip_by_global_norm(gradients, max_norm)[1],
))  # fmt: skip


# %% [markdown]
# ## Exercise 2 · Warm up, then fall
#
# The paper's schedule, as a share of its peak.

# %%
def my_warmup_inverse_sqrt(step, warmup_steps):
    s = step + 1  # the number of this update, from 1
    return min(s / warmup_steps, math.sqrt(warmup_steps / s))


lab.check("05.schedule", my_warmup_inverse_sqrt)

# %% [markdown]
# The paper's $\min(s^{-0.5},\ s\, w^{-1.5})$ has its peak at $s = w$, where both are $w^{-0.5}$.
# Divided by it, they become $\sqrt{w / s}$ and $s / w$. Both are 1 at the peak, so nothing jumps, and
# the smaller of the two is first the line and then the curve. The factor $d_{\mathrm{model}}^{-0.5}$
# only sets the peak rate.
#
# Counting from 0 is the common slip. The first update then has rate 0, and its batch is wasted:

# %%
lab.check("05.schedule", lambda step, warmup_steps: (
    min(step / warmup_steps, math.sqrt(warmup_steps / step)) if step else 0.0
))  # fmt: skip


# %% [markdown]
# ## Exercise 3 · A step with loss scaling
#
# Skip overflows, make fp32, divide, clip: in this order.

# %%
def unscale_and_clip(gradients, scale, max_norm):
    if not all(g.isfinite().all() for g in gradients):
        return None, scale / 2
    true = [g.float() / scale for g in gradients]
    return clip_by_global_norm(true, max_norm)[0], scale


lab.check("05.unscale", unscale_and_clip)

# %% [markdown]
# - `isfinite` is False for infinities *and* for NaN. An overflow in the middle of the network often
#   arrives as NaN, since inf - inf is NaN.
# - `float()` comes before the division. In fp16 the quotient would be 0 again:

# %%
scaled = torch.tensor([1e-8 * 2**16]).half()
print(f"divided in fp16: {(scaled / 2**16).item():.1e}")
print(f"divided in fp32: {(scaled.float() / 2**16).item():.1e}")


# %% [markdown]
# - Clipping comes last. The scaled gradients are 65536 times too long, so clipping them first would
#   shorten every one to `max_norm / scale`, and the model would all but stop:

# %%
def clipped_first(gradients, scale, max_norm):
    if not all(g.isfinite().all() for g in gradients):
        return None, scale / 2
    clipped, _ = clip_by_global_norm([g.float() for g in gradients], max_norm)
    return [g / scale for g in clipped], scale


lab.check("05.unscale", clipped_first)


# %% [markdown]
# ## Exercise 4 · Find the bug: the loss that would not fall
#
# Two changes: the logits go into the loss as they are, and the old gradients are erased.

# %%
def repaired_training(make_model, batches, lr):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs), labels)  # it contains the softmax
        optimizer.zero_grad()  # backward adds to what is there
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


lab.check("05.training_bug", repaired_training)

# %% [markdown]
# With five classes the floor of the doubled softmax is $\log(e + 4) - 1 \approx 0.90$: the loss could
# not fall below it, however well the model knew the batch. That is the symptom of the first mistake.
# Repair it alone, and the loss can fall, but the gradients of all past steps still pile up: the step
# grows from batch to batch, like momentum without friction. On one batch both show within seconds.

# %%
draw = torch.Generator().manual_seed(0)
one = (torch.randn(8, 16, generator=draw), torch.arange(8) % 5)
torch.manual_seed(0)
losses = repaired_training(lambda: torch.nn.Linear(16, 5), [one] * 200, lr=0.5)
print(f"floor with two softmaxes {math.log(math.e + 4) - 1:.2f}")
print("repaired, loss below 0.1:", losses[-1] < 0.1)


# %% [markdown]
# `zero_grad` may stand anywhere but between `backward` and `step`. There it erases what the optimizer
# needs, and the weights never move:

# %%
def erased(make_model, batches, lr):
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    losses = []
    for inputs, labels in batches:
        loss = F.cross_entropy(model(inputs), labels)
        loss.backward()
        optimizer.zero_grad()
        optimizer.step()
        losses.append(loss.item())
    return losses


lab.check("05.training_bug", erased)
