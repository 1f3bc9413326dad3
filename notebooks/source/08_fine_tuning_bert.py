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

# %% [markdown]
# ## 1 · One encoder, many heads

# %% [markdown]
# ## 2 · A topic from one vector

# %% [markdown]
# ## 3 · Frozen or fine-tuned

# %% [markdown]
# ## 4 · How many labels does it take?

# %% [markdown]
# ## 5 · An answer is a span

# %% [markdown]
# ## 6 · From scores to a span

# %% [markdown]
# ## 7 · Learn to answer, and to refuse

# %% [markdown]
# ## 8 · Ask the Python reference

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

# %% [markdown]
# ## 12 · Read the real thing

# %% [markdown]
# ## 13 · What it costs

# %% [markdown]
# ## Quiz

# %% [markdown]
# ## Summary

