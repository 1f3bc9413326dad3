# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 18 · Better data: solutions
#
# Solutions to the exercises of [18_better_data](../18_better_data.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/18_better_data.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F18_better_data.ipynb)

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

lab.begin("18")

# %% [markdown]
# ## Exercise 1 · The nearest words
#
# Rows of length 1, one product, and the word itself out of the race.

# %%
import random

import torch
from torch.nn import functional as F


def nearest_words(vectors, word, count):
    directions = F.normalize(vectors, dim=-1)  # (words, d_model)
    cosines = directions @ directions[word]  # (words,)
    cosines[word] = -torch.inf
    return cosines.topk(count).indices


lab.check("18.nearest_words", nearest_words)


# %% [markdown]
# Without the division by the lengths, long vectors come first for every word. In an embedding table
# that happens to be frequent or rare words, whichever have the longer vectors:

# %%
def by_dot_product(vectors, word, count):
    scores = vectors @ vectors[word]
    scores[word] = -torch.inf
    return scores.topk(count).indices


lab.check("18.nearest_words", by_dot_product)


# %% [markdown]
# ## Exercise 2 · Copies and their labels
#
# The labels repeat in the order of the texts: all of them, then all of them again.

# %%
def add_copies(texts, labels, change, copies):
    together = list(texts)
    for number in range(copies):
        together += [change(text, number) for text in texts]
    return together, list(labels) * (copies + 1)


lab.check("18.add_copies", add_copies)


# %% [markdown]
# The loop changes `texts`, not `together`: a copy of a copy is farther from what somebody said. Labels
# in blocks fit texts in blocks, and these come in rounds:

# %%
def labels_in_blocks(texts, labels, change, copies):
    together, _ = add_copies(texts, labels, change, copies)
    return together, [label for label in labels for _ in range(copies + 1)]


lab.check("18.add_copies", labels_in_blocks)


# %% [markdown]
# ## Exercise 3 · Find the bug: too good to be true
#
# Split first. Then copy what is left for training.

# %%
def hold_out(pairs, change, copies, held_out, seed):
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    validation, train = shuffled[:held_out], shuffled[held_out:]
    train = train + [(change(x, number), y) for x, y in train for number in range(copies)]
    return sorted(train), sorted(validation)


lab.check("18.leak_bug", hold_out)


# %% [markdown]
# The colleague copied first. So almost every validation sentence had its original or another copy of it
# in training, and the model needed only to recognise it. Half a repair is not enough: with the split
# first and copies of *all* sentences after it, the leak is still there.

# %%
def copies_of_everything(pairs, change, copies, held_out, seed):
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    validation, train = shuffled[:held_out], shuffled[held_out:]
    train = train + [(change(x, number), y) for x, y in pairs for number in range(copies)]
    return sorted(train), sorted(validation)


lab.check("18.leak_bug", copies_of_everything)


# %% [markdown]
# ## Exercise 4 · MixUp
#
# One-hot targets, then the same two lines for images and targets.

# %%
def mixup(images, labels, order, lam, num_labels):
    targets = F.one_hot(labels, num_labels).to(images.dtype)
    mixed = lam * images + (1 - lam) * images[order]
    return mixed, lam * targets + (1 - lam) * targets[order]


lab.check("18.mixup", mixup)


# %% [markdown]
# The partner of image $i$ is image `order[i]`, for pixels and labels alike. Whoever sorts `order` for one
# of the two gets mixtures whose labels belong to other images; training still works a little, so it is
# easily missed. Class numbers themselves cannot be mixed: half a 2 and half an 8 would be a 5.

# %%
def class_numbers(images, labels, order, lam, num_labels):
    mixed, _ = mixup(images, labels, order, lam, num_labels)
    number = (lam * labels + (1 - lam) * labels[order]).round().long()
    return mixed, F.one_hot(number, num_labels).to(images.dtype)


lab.check("18.mixup", class_numbers)


# %% [markdown]
# ## Exercise 5 · CutMix
#
# Clip first. Everything after that uses the clipped box.

# %%
def cutmix(images, targets, order, lam, row, column):
    height, width = images.shape[-2:]
    tall, wide = (round(side * (1 - lam) ** 0.5) for side in (height, width))
    top, left = row - tall // 2, column - wide // 2
    bottom, right = min(top + tall, height), min(left + wide, width)
    top, left = max(top, 0), max(left, 0)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images[order][..., top:bottom, left:right]
    kept = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, kept * targets + (1 - kept) * targets[order]


lab.check("18.cutmix", cutmix)


# %% [markdown]
# `bottom` is computed before `top` is clipped: otherwise the box would be pushed inside instead of cut
# off. `images[order]` is taken before anything is changed, and the change goes into a clone. The
# commonest mistake uses λ as it was drawn, and the check knows it:

# %%
def not_recomputed(images, targets, order, lam, row, column):
    mixed, _ = cutmix(images, targets, order, lam, row, column)
    return mixed, lam * targets + (1 - lam) * targets[order]


lab.check("18.cutmix", not_recomputed)


# %% [markdown]
# ## Exercise 6 · One step uphill
#
# The sign, plus, and only then the limits of an image.

# %%
def fgsm_step(images, gradient, epsilon):
    return (images + epsilon * gradient.sign()).clamp(0, 1)


lab.check("18.fgsm_step", fgsm_step)


# %% [markdown]
# With the gradient itself, pixels with a small gradient would not move, and all gradients of a model
# that is sure of itself are small. With minus, the image becomes *easier* for the model:

# %%
def downhill(images, gradient, epsilon):
    return (images - epsilon * gradient.sign()).clamp(0, 1)


lab.check("18.fgsm_step", downhill)


# %% [markdown]
# ## Exercise 7 · A step, and back into the ball
#
# Step, then limit the difference to the original, then the pixels.

# %%
def pgd_step(changed, images, gradient, step_size, epsilon):
    moved = changed + step_size * gradient.sign()
    change = (moved - images).clamp(-epsilon, epsilon)
    return (images + change).clamp(0, 1)


lab.check("18.pgd_step", pgd_step)


# %% [markdown]
# The ball belongs to the *original* image. Without the projection, eight steps of 0.03 would end 0.24
# away, and the attack would look stronger than it is. Limiting each step instead changes nothing about
# that, since a step is smaller than ε anyway:

# %%
def limits_the_step(changed, images, gradient, step_size, epsilon):
    step = (step_size * gradient.sign()).clamp(-epsilon, epsilon)
    return (changed + step).clamp(0, 1)


lab.check("18.pgd_step", limits_the_step)


# %% [markdown]
# ## Exercise 8 · Into the noise
#
# Add noise to each image of a batch, as much as its own step says.

# %%
def my_noised(images, noise, alpha_bar, timesteps):
    share = alpha_bar[timesteps].view(-1, 1, 1, 1)
    return share.sqrt() * images + (1 - share).sqrt() * noise


lab.check("18.noised", my_noised)


# %% [markdown]
# ᾱ is the share of the *variance* that is still image, so the factors are square roots: their squares
# add up to 1. Without the roots, an image with ᾱ = 0.5 would have half of the variance that it should
# have, and the network would see images at each step that are fainter than those that it meets when
# it draws. `view(-1, 1, 1, 1)` gives each image its own factor; `alpha_bar[timesteps[0]]` would give
# all the first one's, which no test with a single image can notice. And the table holds ᾱ, the
# product of all α so far: α of one step would add that step's noise only. The check says so:

# %%
def by_one_step_alone(images, noise, alpha_bar, timesteps):
    alpha = alpha_bar[timesteps] / alpha_bar[(timesteps - 1).clamp(min=0)]
    share = alpha.view(-1, 1, 1, 1)
    return share.sqrt() * images + (1 - share).sqrt() * noise


lab.check("18.noised", by_one_step_alone)


# %% [markdown]
# ## Exercise 9 · One step back
#
# Guess the clean image, then mix it again with the same noise, for a step with less noise.

# %%
def my_ddim_step(x, noise, now, later):
    guess = (x - (1 - now).sqrt() * noise) / now.sqrt()
    return later.sqrt() * guess + (1 - later).sqrt() * noise


lab.check("18.ddim_step", my_ddim_step)

# %% [markdown]
# The first line solves the formula of exercise 8 for $x_0$, the second applies it at the new
# step. If the network's answer were exact, the result would be exactly the image that the way into
# the noise gives at that step; a test of the library checks that. The common mistakes mix the two
# steps: the guess needs `now` alone, the new image `later` alone. Returning the guess itself jumps to
# the end at once, with the blur that the lesson shows:

# %%
lab.check("18.ddim_step", lambda x, noise, now, later: (x - (1 - now).sqrt() * noise) / now.sqrt())


# %% [markdown]
# ## Exercise 10 · Guidance
#
# Make what the class adds to the answer `guidance` times as large.

# %%
def my_guided(with_label, without_label, guidance):
    return without_label + guidance * (with_label - without_label)


lab.check("18.guided", my_guided)

# %% [markdown]
# At 0 the class has no say, at 1 the answer is the one with the class, and beyond 1 the step goes past
# it. The paper writes $(1 + w)$ for our factor, so its formula starts from the answer *with* the
# class; with our `guidance` that would count the difference once too often. Scaling the whole answer
# instead of the difference would also scale the noise, whose size is fixed:

# %%
lab.check("18.guided", lambda with_label, without_label, w: without_label + w * with_label)
