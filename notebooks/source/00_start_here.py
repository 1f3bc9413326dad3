# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 00 · Start here
#
# *What does attention look like in a real model, and how does this course work?*
#
# After this lesson you can
#
# - explore the attention heads of a real pretrained model on a sentence of your own
# - choose a route through the course that fits your time and purpose
# - tell what this computer can run, and what it will skip
# - work with the exercises, hints, solutions and quizzes
#
# **Time:** 25 minutes · **You need first:** some Python; nothing about Transformers
#
# **On the zoo map:** part I, Foundations · **Models:** MiniLM
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/00_start_here.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F00_start_here.ipynb)

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

lab.begin("00")

# %% [markdown]
# ## 1 · Look inside a real model
#
# A Transformer reads a sentence by letting every word look at every other word. *How much* each
# word looks at each other word is a table of numbers between 0 and 1: an **attention map**. A model
# makes many such maps at once. Each comes from one **head**, and heads are grouped in **layers**
# that work one after the other.
#
# Let us look before we explain. Run the next cell (Shift+Enter). It loads
# [MiniLM](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), a small model that
# search engines use to compare sentences. The model came with the course's packages, so nothing is
# downloaded.

# %%
import torch

from zoo_lessons.layers import record_attention
from zoo_lessons.weights import load_pretrained, load_tokenizer

model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
parameters = sum(p.numel() for p in model.parameters())
print(f"{model.config.num_layers} layers with {model.config.num_heads} heads each")
print(f"{parameters / 1e6:.1f} million trained numbers")

# %% [markdown]
# The tokenizer cuts a sentence into **tokens**: words or pieces of words. It adds `[CLS]` at the
# start and `[SEP]` at the end, because the model was trained with them.

# %%
sentence = "The cat sat on the mat"
print(tokenizer.encode(sentence).tokens)

# %% [markdown]
# Now the maps. `attend` runs the model on a sentence while `record_attention` watches.
#
# **Try this in the picture below.**
#
# 1. Each small square is one head. Click a few: some draw a diagonal line, some a vertical one,
#    some a cloud.
# 2. In the open head, each row is a word that looks, and each column is a word that is looked at.
#    Move the pointer over it and read the numbers. Click a row to hold it.
# 3. Type a sentence of your own in the box and press Enter.

# %%
from zoo_lessons.lab.widgets import AttentionExplorer


def attend(sentence):
    """Attention maps (layers, heads, tokens, tokens) of a sentence, and its tokens."""
    encoded = tokenizer.encode(sentence)
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([encoded.ids]))  # (1, tokens)
    return maps.stack()[:, 0], encoded.tokens


AttentionExplorer(*attend(sentence), on_text=attend, text=sentence, layer=0, head=2)

# %% [markdown]
# What you see is real: these are the numbers the model computes when it reads your sentence. The
# model's code is part of this course, short enough to read in one sitting, and it gives the same
# output as the well-known `transformers` library. Check it:

# %%
import transformers

from zoo_lessons.weights import pretrained_folder

theirs = transformers.BertModel.from_pretrained(pretrained_folder("minilm"), local_files_only=True)
input_ids = torch.tensor([tokenizer.encode(sentence).ids])
with torch.no_grad():
    difference = model(input_ids).last_hidden_state - theirs(input_ids).last_hidden_state
print("largest difference below 0.00001:", difference.abs().max().item() < 1e-5)

# %% [markdown]
# A map shows where a head looks. It does not show *why*, nor whether the model needs that head.
# Lesson 02 asks both questions, and tests the answers instead of guessing from pictures.

# %% [markdown]
# ## 2 · What this course is
#
# You build every part of a Transformer, from one formula to complete models: the original
# Transformer, GPT, BERT, ViT, MAE, CLIP, BLIP, Flamingo, Mamba and their relatives. Then you make
# them smaller, faster and ready to serve. Four habits run through all lessons:
#
# - **Formula, code, picture, cost.** Each step is shown in these four forms, with the same symbols.
# - **Exact.** Each model that `transformers` has, too, loads the weights of that one and gives the
#   same output. A test checks it.
# - **Measured.** Articles claim that one method is "3-4x faster" and another "solves vanishing
#   gradients". Lessons run such claims here and show the figure that comes out, kind or not.
# - **Offline.** Everything runs on a laptop without a network. A GPU is used when there is one.
#
# ## 3 · The zoo map
#
# The parts in the upper half are used again and again in the models below them. Choose a part to see
# which models use it, or a model to see what it is made of. The panel links to the lesson.

# %%
from zoo_lessons.lab.widgets import ZooMap

ZooMap()

# %% [markdown]
# ## 4 · Routes
#
# Lessons build on each other, but few people need all of them. These are four ways through. Within
# a lesson, sections marked *further* can wait.

# %%
lab.routes()

# %% [markdown]
# ## 5 · Your computer
#
# The next cell looks at what is installed and says what will be slower or skipped on this machine,
# and why. Nothing is sent anywhere.

# %% tags=["nbval-ignore-output"]
lab.environment()


# %% [markdown]
# ## 6 · How exercises work
#
# From lesson 01 on, each lesson has at least three exercises. An exercise is a function to complete,
# right where its idea has just been explained. The cell below it checks your answer. Nobody marks
# it: try as often as you like.
#
# Here is a warm-up. A tensor of shape `(rows, columns)` comes in. Divide each number by the sum of
# its **row**, so that every row sums to 1.
#
# ### Exercise 1 · Rows that sum to one (★☆☆, 3 min)

# %% tags=["exercise"]
def rows_to_one(x):
    """Divide each row by its sum.

    x: (rows, columns), positive numbers. Returns a tensor of the same shape.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("00.rows_to_one", rows_to_one)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `x.sum(dim=...)` adds along one axis. Which axis runs along a row?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The sums must have shape `(rows, 1)` to be divided into each row. `keepdim=True` keeps that axis.
#
# </details>
#
# The check above says that you have not tried yet, and the lesson goes on. So "Run All" always
# works. A wrong answer gets more than a red cross. Let us make a typical mistake on purpose and
# divide by the sum of each **column**:

# %%
lab.check("00.rows_to_one", lambda x: x / x.sum(dim=0, keepdim=True))

# %% [markdown]
# And this is what a correct answer looks like:

# %%
lab.check("00.rows_to_one", lambda x: x / x.sum(dim=1, keepdim=True))

# %% [markdown]
# Stuck? Open the hints one by one. From lesson 01 on, each lesson also has a **solutions notebook**
# in `notebooks/solutions/`, with the answers and the reasons. Reading it does not change your own
# notebook.
#
# ### Your progress
#
# When an exercise passes, the course notes it, so that you find your place again. The note is one
# small file in your own folder on this computer: which exercises you have tried, how often until
# they passed, and the day of that. It holds neither your code nor your name, and nothing is sent
# anywhere. What this lesson checks for you (the two cells above) and what a solutions notebook
# checks does not count.
#
# Once you have solved something, the zoo map in section 3 shows for each lesson how many exercises
# are solved. Here is the same as a table, with what comes next:

# %%
lab.progress()

# %% [markdown]
# `lab.forget_progress()` deletes the file, and says what was in it. To keep none at all, set the
# environment variable `ZOO_PROGRESS` to `off` before you start Jupyter. On Binder and Colab the file
# lies on the machine that is lent to you, and goes with it; on Colab each notebook even has a
# machine of its own.
#
# ## 7 · Quizzes
#
# A lesson ends with a few questions. Every answer, right or wrong, comes with an explanation.

# %%
lab.quiz("00")

# %% [markdown]
# ## 8 · Read the real thing
#
# `show_source` prints the library code that a lesson uses, as it is now. So what you read is what
# runs. This is the function that watched the model in section 1:

# %%
lab.show_source(record_attention)

# %% [markdown]
# ## 9 · Notation
#
# The formulas use these symbols, and the code uses these names. They are the same in all lessons.

# %%
lab.notation()

# %% [markdown]
# ## 10 · Glossary

# %%
lab.glossary()

# %% [markdown]
# ## Summary
#
# - A model reads a sentence with many heads; each head has an attention map, and you have seen
#   MiniLM's.
# - The zoo map shows which parts each model is made of, and where you meet them.
# - Pick a route; lessons link to what they need.
# - Exercises name your mistake, hints come in two strengths, solutions are in their own notebooks.
# - Next: [01 Attention](01_attention.ipynb), where the numbers in the picture come from.
