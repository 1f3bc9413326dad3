# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 24 · Report card: solutions
#
# Solutions to the exercises of [24_report_card](../24_report_card.ipynb), with the reasons. Try each exercise yourself first: the hints in the lesson help.
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/solutions/24_report_card.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2Fsolutions%2F24_report_card.ipynb)

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

lab.begin("24")

# %%
import torch


# %% [markdown]
# ## Exercise 1 · A verdict
#
# Turn both ends over first: the largest time ratio gives the slowest speed-up. Then three comparisons, from the
# strongest statement down.

# %%
def verdict(time_ratio, claimed, some):
    low, high = time_ratio
    slowest, fastest = 1 / high, 1 / low
    if slowest >= claimed:
        return "reproduced"
    if slowest >= some:
        return "partly"
    return "the article is wrong" if fastest < some else "not measurable here"


lab.check("24.verdict", verdict)


# %% [markdown]
# The tempting mistake is to call a claim reproduced as soon as its value lies within the interval. Then the worse
# the measurement, the wider the interval, and the more is "reproduced":

# %%
def touched(time_ratio, claimed, some):
    low, high = time_ratio
    return "reproduced" if 1 / low >= claimed else verdict(time_ratio, claimed, some)


print("a very bad measurement, touched:", touched((0.1, 10.0), 3.4, 2.0))
print("a very bad measurement, ours:   ", verdict((0.1, 10.0), 3.4, 2.0))
lab.check("24.verdict", touched)


# %% [markdown]
# And whoever judges by the middle of the interval is certain of everything:

# %%
def middle(time_ratio, claimed, some):
    return verdict([sum(time_ratio) / 2] * 2, claimed, some)


lab.check("24.verdict", middle)


# %% [markdown]
# ## Exercise 2 · One number for many speed-ups
#
# The mean of the logarithms, and back. Old and new swapped change the sign of each logarithm, so the result turns
# over.

# %%
def summary(old, new):
    return (old / new).log().mean().exp().item()


lab.check("24.summary", summary)

# %%
old, new = torch.tensor([4.0, 1.0]), torch.tensor([1.0, 2.0])
print(
    f"{summary(old, new):.4f} times {summary(new, old):.4f} is {summary(old, new) * summary(new, old):.4f}"
)


# %% [markdown]
# The ratio of the totals answers another question: how long does this very list of cases take? One long case then
# decides. It is right for somebody who runs exactly this list, and for nobody else.

# %%
def of_totals(old, new):
    return (old.sum() / new.sum()).item()


lab.check("24.summary", of_totals)


# %% [markdown]
# ## Exercise 3 · Side by side
#
# Divide within the rounds, then take the median. The control's extremes say how far a thing can be from itself.

# %%
def side_by_side(first, again, second):
    ratio = (second / first).median().item()
    control = again / first  # (rounds,)
    low, high = control.min().item(), control.max().item()
    if ratio < min(1, low):
        return ratio, "faster"
    return ratio, "slower" if ratio > max(1, high) else "no clear difference"


lab.check("24.side_by_side", side_by_side)


# %% [markdown]
# Medians of each column, taken before dividing, mix rounds from before and within a slow spell:

# %%
def medians_first(first, again, second):
    ratio = (second.median() / first.median()).item()
    return ratio, side_by_side(first, again, second)[1]


lab.check("24.side_by_side", medians_first)


# %% [markdown]
# And without a control, each ratio below 1 is a discovery:

# %%
def without_control(first, again, second):
    ratio = (second / first).median().item()
    return ratio, "faster" if ratio < 1 else "slower" if ratio > 1 else "no clear difference"


lab.check("24.side_by_side", without_control)


# %% [markdown]
# ## Exercise 4 · Find the bug: the best of many runs
#
# Two things were wrong. The recipe was chosen by the test scores, so these no longer tell what to expect. And the
# best seed was reported, which nobody can order. Choose by the mean on validation, report the mean on test.

# %%
def chosen_and_reported(validation, test):
    recipe = validation.mean(dim=0).argmax().item()  # mean over seeds: (recipes,)
    return recipe, test[:, recipe].mean().item()


lab.check("24.best_of_bug", chosen_and_reported)

# %% [markdown]
# How much does it matter? Six recipes that are all equally good, five seeds, many repetitions: what is reported,
# where 80 % is the truth.

# %%
chance = torch.Generator().manual_seed(0)
reports = {"best of all": [], "chosen on test": [], "as above": []}
for _ in range(2000):
    validation, test = 0.80 + 0.03 * torch.randn(2, 5, 6, generator=chance)
    reports["best of all"].append(test.max().item())
    reports["chosen on test"].append(chosen_and_reported(test, test)[1])
    reports["as above"].append(chosen_and_reported(validation, test)[1])
for name, values in reports.items():
    print(f"{name:15} {sum(values) / len(values):.1%}")


# %% [markdown]
# Averaging over the seeds helps a lot. But even a mean, chosen on the test set as the highest of six, is too high:

# %%
def chosen_on_test(validation, test):
    return chosen_and_reported(test, test)


lab.check("24.best_of_bug", chosen_on_test)
