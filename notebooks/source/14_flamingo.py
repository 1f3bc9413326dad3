# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 14 · Flamingo
#
# *How can a frozen language model learn to see?*
#
# After this lesson you can
#
# - turn any number of image patches into a fixed number of latents
# - add gated cross-attention that changes nothing at first, and prove it
# - mask text so that it sees only its own image
# - measure few-shot prompting from no example to eight
#
# **Time:** 55 minutes · **You need first:** [06 GPT: generation](06_gpt.ipynb) · [12 CLIP](12_clip.ipynb)
#
# **On the zoo map:** part II, The zoo · **New parts:** Perceiver resampler, Gated cross-attention · **Models:** Flamingo, GPT-2
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/14_flamingo.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F14_flamingo.ipynb) · [Solutions](solutions/14_flamingo.ipynb)

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

lab.begin("14")

# %% [markdown]
# ## The question
#
# Below are four drawings with a word each, and a fifth without. The words are made up; you have never
# seen them. What is the fifth called?

# %%
import matplotlib.pyplot as plt

from zoo_lessons.datasets.episodes import Episodes

episodes = Episodes("test", 200, shots=4, ways=4, order="turns", num_pictures=800)
episode = episodes[13]


def show_items(episode, caption, alt):
    """The drawings of an episode in a row, each with its word; the query has a question mark."""
    fig, axes = plt.subplots(1, len(episode.items), figsize=(9, 2.1))
    for ax, item in zip(axes, episode.items, strict=True):
        ax.imshow(episodes.pictures.image(item.picture))
        ax.set_title("?" if item is episode.query else item.word, fontsize=11)
        ax.set(xticks=[], yticks=[])
    lab.show_figure(fig, caption, alt)


show_items(
    episode,
    "An episode: four examples, called shots, and a query.",
    "Five small drawings of one coloured shape each. Four have a made-up word above them, the fifth "
    "has a question mark.",
)

# %%
names = [f"{item.name} = {item.word}" for item in episode.shots]
print(", ".join(names))
print(f"the query shows a {episode.query.name}, so it is a {episode.query.word}")


# %% [markdown]
# You have just learnt words from one example each, and no weight of yours was updated by gradient
# descent. Language models can do this with text: put examples into the prompt, and they go on in the
# same way. CLIP (lesson 12) sees but does not speak. A language model speaks but does not see, and the
# best ones are far too large to train again. **How can a frozen language model learn to see?**
#
# **Flamingo** ([Alayrac et al. 2022](https://arxiv.org/abs/2204.14198)) joins a frozen vision encoder
# and a frozen language model by new layers, and trains only these. There are two kinds of them, and
# a mask:
#
# 1. a **resampler** turns the patches of an image into a fixed number of vectors (section 1);
# 2. **gated cross-attention** lets the text look at them (section 2);
# 3. the mask decides which text looks at which image (section 4).

# %% [markdown]
# ## 1 · Any number of patches, a fixed number of latents
#
# An image of 224×224 pixels has 196 patches (lesson 09), a larger image has more, a video has as many
# *per frame*. If the text looked at patches, its cost would grow with every pixel. Flamingo's
# resampler is a small Transformer whose queries are **latents**: $R$ trained vectors, the same for each
# image. One of its attentions:
#
# $$ Z' = Z + \mathrm{softmax}\!\left(\frac{(Z W^Q)\,([X; Z]\, W^K)^\top}{\sqrt{d_k}}\right) [X; Z]\, W^V $$
#
# $Z$ are the $R$ latents, $X$ the patches of one image, and the semicolon puts one below the other.
# There is one output row for each *query*, so $R$ rows come out, however many patches go in. Keys and
# values come from the patches **and the latents**: a latent can see what the others have found.
#
# **Predict.** Does the order of the patches matter to this formula? Does it matter whether $[X; Z]$ or
# $[Z; X]$ is written?
#
# ### Exercise 1 · One attention of the resampler (★★☆, 8 min)

# %% tags=["exercise"]
def resample(latents, patches, w_q, w_k, w_v):
    """One head, without norms.

    latents (num_latents, d), patches (batch, patches, d), w_q, w_k, w_v (d, d).
    Returns (batch, num_latents, d).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("14.resample", resample)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `latents.expand(len(patches), -1, -1)` gives each image of the batch its own latents. Who asks, and
# who is asked?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `seen = torch.cat([patches, latents], dim=1)` is what keys *and* values are made from. Queries are
# made from the latents alone. Add the latents at the end.
#
# </details>

# %% [markdown]
# The library's `PerceiverResampler` stacks this with feed-forward layers, heads and norms. Give it 9
# patches, 196, or a video of 8 frames:

# %%
import torch

from zoo_lessons.models.flamingo import PerceiverResampler

resampler = PerceiverResampler(48, num_heads=4, num_layers=2, num_latents=8, max_frames=8).eval()
inputs = {
    "9 patches": torch.randn(1, 9, 48),
    "196 patches": torch.randn(1, 196, 48),
    "8 frames of 196": torch.randn(1, 8, 196, 48),  # (batch, frames, patches, width)
}
with torch.no_grad():
    for name, patches in inputs.items():
        print(f"{name:16} -> {tuple(resampler(patches).shape)} (batch, latents, width)")
    shuffled = inputs["196 patches"][:, torch.randperm(196)]
    same = torch.allclose(resampler(shuffled), resampler(inputs["196 patches"]), atol=1e-5)
print("the order of the patches does not matter:", same)


# %% [markdown]
# Attention is a sum over keys, and a sum has no order: neither that of the patches nor that of the two
# parts of $[X; Z]$. Where a patch was, its own vector must say: the vision encoder's position
# embeddings see to that. For a video, the resampler adds one trained vector per frame. So an image is a
# video of one frame.

# %% [markdown]
# ## 2 · A gate that starts shut
#
# Now the text must look at the latents. Cross-attention (lesson 04) does that: queries from the text,
# keys and values from the latents. We put a new block *before* a block of the language model:
#
# $$ x \leftarrow x + \tanh(\alpha_1)\,\mathrm{attention}(x, Z), \qquad
#    x \leftarrow x + \tanh(\alpha_2)\,\mathrm{feedforward}(x) $$
#
# $x$ is the text, and $\alpha_1$, $\alpha_2$ are two trained numbers. A fresh block holds random
# weights, and random weights would ruin a language model that took months to train.
#
# **Predict.** Which start value of $\alpha$ leaves the language model as it was? And can a gate that
# starts there ever open?
#
# ### Exercise 2 · Gates that start at zero (★☆☆, 6 min)

# %% tags=["exercise"]
def gated_block(x, attend, feed_forward, gates=None):
    """x (batch, length, d). attend(x) and feed_forward(x) return the shape of x.

    gates (2,): alpha 1 and alpha 2. None is a fresh block: use the values that it starts with.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("14.gated_block", gated_block)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# tanh(0) = 0. What is added must be nothing; what was there before must pass whole.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two lines, each of the form `x = x + gate * layer(x)`. The second reads what the first has left.
#
# </details>

# %% [markdown]
# ### Unchanged, bit for bit
#
# Take the GPT that lesson 06 trained on prose, a ViT, and untrained Flamingo layers between. The logits
# must not be *close* to the GPT's: they must be the same bits. (This GPT has no token for images. Its
# token 0, which begins each text, marks the image's place here.)

# %%
from zoo_lessons.checkpoints import load_trained, trained_tokenizer
from zoo_lessons.models import ViT, ViTConfig
from zoo_lessons.models.flamingo import Flamingo

gpt = load_trained("gpt_prose")
prose_tokenizer = trained_tokenizer("gpt_prose")
small_vit = ViT(ViTConfig(48, 8, d_model=48, num_layers=2, num_heads=4, d_ff=96, num_labels=0))
untrained = Flamingo.from_pretrained_parts(
    small_vit, gpt, image_token_id=0, num_latents=8, resampler_layers=2, resampler_heads=4,
    cross_heads=4,
).eval()  # fmt: skip

ids = torch.tensor([[0, *prose_tokenizer.encode("The cat sat on the mat").ids]])
with torch.no_grad():
    alone = gpt(ids).logits
    with_image = untrained(ids, torch.rand(1, 1, 3, 48, 48)).logits  # one image
assert torch.equal(with_image, alone)
print("with an image and without, the same bits:", True)

# %% [markdown]
# Can the gates open? A gradient says where a small step would help. Look at the first step:

# %%
loss = untrained(ids, torch.rand(1, 1, 3, 48, 48)).logits.logsumexp(dim=-1).mean()
loss.backward()
first = untrained.gated[0]
for name in ("attention_gate", "feed_forward_gate", "attention.q.weight", "attention.out.weight"):
    print(f"{name:21} has a gradient:", bool(first.get_parameter(name).grad.abs().sum() > 0))
untrained.zero_grad(set_to_none=True)


# %% [markdown]
# The gate's gradient asks "what if a little of that came through?", and the answer is not zero. What
# lies *behind* the shut gate gets none in the first step. In the second step the gate stands ajar, and
# everything learns.

# %% [markdown]
# ## 3 · Frozen means frozen
#
# The vision encoder and the language model must stay as they are. Two things change a module in
# training: the optimizer, which moves whatever has a gradient, and the module's own *mode*. In training
# mode, dropout disturbs its output, and BatchNorm's statistics follow the new data.
#
# ### Exercise 3 · Frozen means frozen (★☆☆, 5 min)

# %% tags=["exercise"]
def freeze(module):
    """Stop a module from being trained, everything inside it included. Returns the same module."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("14.freeze", freeze)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# One method of `nn.Module` is about gradients, one about the mode. Both reach into all submodules.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `module.requires_grad_(...)` and `module.eval()`. Both return the module.
#
# </details>

# %% [markdown]
# How does one *know* that nothing moved? Take a **fingerprint**: a hash over the bytes of all weights.
# One changed bit gives another fingerprint. Then train for a few steps.

# %%
from torch.nn import functional as F

from zoo_lessons.models.flamingo import fingerprint
from zoo_lessons.training import fit


def next_token_loss(model, batch):
    ids, images = batch
    logits = model(ids, images).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())


before = {part: fingerprint(getattr(untrained, part)) for part in ("vision", "language")}
shut = [gate.tanh().item() for gate in (first.attention_gate, first.feed_forward_gate)]
batch = (ids, torch.rand(1, 1, 3, 48, 48))
fit(untrained, lambda step: batch, next_token_loss, steps=10, lr=1e-2, progress=False, device="cpu")
after = {part: fingerprint(getattr(untrained, part)) for part in before}
assert after == before
print("fingerprints before and after training are equal:", True)
frozen = [*untrained.vision.parameters(), *untrained.language.parameters()]
print("frozen weights with a gradient:", sum(p.grad is not None for p in frozen))
print("gates before:", shut, "and open after:", bool(first.attention_gate.tanh().abs() > 0.01))

# %% [markdown]
# `Flamingo` also overrides `train()`: whoever calls `model.train()`, as every training loop does, would
# otherwise bring the frozen parts back into training mode. With GPT-2's dropout of 0.1, the language
# model would then read every text with a tenth of its activations set to zero.

# %% [markdown]
# ## 4 · Images and words in turns
#
# A web page is text with images in it. Flamingo reads it as it is: the token `<image>` marks each
# image's place. Which images may a word look at? All of them, one might say. The paper's choice is
# stricter: **the last image before it, and no other**. What earlier images showed reaches the word
# through the language model's own attention, from the words that stood after *them*.
#
# Count the images: $\varphi_t$ is the number of `<image>` tokens up to position $t$. The word at $t$
# may look at image $i$ if $i = \varphi_t$. Before the first image, $\varphi_t = 0$: such a word sees no
# image, and attention adds zero to it.
#
# **Try this.**
#
# 1. Walk along the text with the arrow keys. Where does the blue frame jump?
# 2. Go to the last word. Through which words can it learn what the first image shows?
# 3. Tick *All previous images*. Which part of the mask fills?

# %%
from zoo_lessons.lab.widgets import InterleaveExplorer

drawings = [episodes.pictures.image(item.picture) for item in episode.items]
told = [f"<image> is a {item.word} ." for item in episode.shots]
words = ["Five", "drawings", ":", *" ".join(told).split(), "<image>", "is", "a"]
InterleaveExplorer(words, drawings, query=11, num_latents=8)


# %% [markdown]
# ### Exercise 4 · Which image a word sees (★★☆, 8 min)

# %% tags=["exercise"]
def image_mask(is_image, num_images):
    """is_image: Boolean (batch, length), True at <image> tokens.

    Returns Boolean (batch, length, num_images), True = may attend.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("14.image_mask", image_mask)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `cumsum` along the text gives each position its $\varphi_t$.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Images are numbered from 1 here. With the counts in `last` (batch, length), compare
# `last[..., None]` with `torch.arange(1, num_images + 1)`.
#
# </details>

# %% [markdown]
# Each image has several latents, so each column of this mask is repeated that many times. Let us see
# the mask at work in a real model: record the attention of a gated block with two images of 8 latents.
# (To this GPT, "cat" is two tokens, and so is "sat".)

# %%
from zoo_lessons.layers import record_attention
from zoo_lessons.models.flamingo import image_mask as library_image_mask

words = ids[0, 1:].tolist()
text = torch.tensor([[*words[:3], 0, *words[3:5], 0, words[5]]])  # 0 is an image's place
print(library_image_mask(text == 0, 2).int()[0].T)
with torch.no_grad(), record_attention(untrained.gated) as maps:
    untrained(text, torch.rand(1, 2, 3, 48, 48))
weights = maps[0].weights[0].mean(dim=0)  # (tokens, images * latents)
labels = [prose_tokenizer.id_to_token(i).strip("Ġ") if i else "<image>" for i in text[0].tolist()]
fig = lab.heatmap(
    weights,
    labels,
    [f"{image}.{latent}" for image in (1, 2) for latent in range(8)],
    title="Mean weights of the first gated block",
    row_axis="token",
    column_axis="image.latent",
    value="weight",
)
lab.show_figure(
    fig,
    "Three tokens see nothing, three see the first image's latents, two the second's.",
    "Heat map with eight tokens as rows and sixteen latents as columns. The first three rows are zero. "
    "The next three have weights in the first eight columns, the last two in the other eight.",
)


# %% [markdown]
# Why not all previous images? In the paper's comparison the last image alone worked better. It also
# lets one train with 5 images in a text and use 32: a word never sees more than one at a time.

# %% [markdown]
# ## 5 · Writing, with a cache
#
# With a key-value cache (lesson 06), only new tokens go through the model. The images are read once.
# And the mask? It needs rows for the new tokens only.
#
# ### Exercise 5 · Find the bug: images and a cache (★★☆, 6 min)
#
# A colleague's model describes images well as long as the cache is off. With the cache, it speaks as if
# it were blind. Repair the function.

# %% tags=["exercise"]
def mask_of_new_tokens(is_image, num_images, cached):
    """is_image (batch, length) is the whole text so far; the first `cached` tokens are in the cache.

    Returns the mask of the other tokens, (batch, length - cached, num_images).
    """
    return library_image_mask(is_image[:, cached:], num_images)


# %%
text_so_far = torch.tensor([[True, False, False, False]])  # an image, then three words
print("the last word sees the image:", bool(mask_of_new_tokens(text_so_far, 1, 3).any()))

# %% tags=["check"]
lab.check("14.mask_of_new_tokens", mask_of_new_tokens)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Where does the count of images begin, in the function as it stands?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Make the mask of the whole text first.
#
# </details>
#
# `Flamingo.with_images(pixel_values)` reads the images once and remembers how many `<image>` tokens
# the cache holds. What it returns is a language model like any other, to `generate` and to
# `beam_search` of lesson 06.

# %% [markdown]
# ## 6 · New words from examples
#
# Back to the drawings. To answer, a model needs two abilities:
#
# - **eyes**: it must see that the fifth drawing shows the same shape as one of the others;
# - **learning in context**: it must look back, find the same thing, and repeat the word beside it.
#
# Flamingo's new layers can only bring the first. A word sees one image; no new layer ever compares two
# images. The second must come from the frozen language model, which compares words with words. So we
# need a language model that can do it in text:

# %%
print("with images:", episode.text())
print("in text:    ", episode.text(images=False))

# %% [markdown]
# Can lesson 06's GPT? It has read prose. The record asked it about sentences such as "The circle is
# modip. The star is bilak. The circle is", and looked which of the words shown it finds likeliest.

# %%
from zoo_lessons.records import load_record

record = load_record("flamingo_episodes")
figures = record["figures"]
prose, names = figures["prose"], figures["names"]["8"]
print(
    f"GPT trained on prose: {prose['right']:.0%} right, guessing among the words {prose['chance']:.0%}"
)
print(f"GPT trained on episodes: {names['answerable']:.0%} right, where it can know")
assert names["answerable"] > 0.9 and abs(prose["right"] - prose["chance"]) < 0.1

# %% [markdown]
# The GPT of lesson 06 guesses: it has not learnt to look back for what a new word stands for. A large
# language model meets texts that ask for it: glossaries, lists, quizzes. So the record trained a small
# GPT of lesson 06's kind, with two layers, on episodes *in text*, and then froze it. The task is made
# easy to learn: every made-up word is a single token, and the loss counts a word only where it has
# stood before in its episode. The first time, nothing can tell it.
#
# The **eyes** are those of lesson 12: the image tower of its CLIP, frozen. We can prove it.

# %%
trained = load_trained("flamingo_episodes")
clip = load_trained("clip_shapes")
assert fingerprint(trained.vision) == fingerprint(clip.vision)
print("the eyes are lesson 12's, by fingerprint:", True)
for vectors, found in figures["probe"].items():
    shares = ", ".join(f"{split} {share:.0%}" for split, share in found.items())
    print(f"shapes that a linear probe reads from the {vectors}: {shares}")

# %% [markdown]
# A *linear probe* (lesson 11) is a linear classifier, trained on vectors that stay as they are. The split
# *test* has scenes that training did not show. *Composition* has colours and shapes in pairs
# that neither CLIP nor Flamingo ever met, such as a green star. The second line is about the four latents
# that the trained resampler makes of an image: hardly any shape is lost on the way, and on the unseen
# pairs the latents are even the easier ones to read.
#
# ### Nothing can be memorised
#
# The words are the same in training and test, since a model can only say words that it has. What a word
# *means* is drawn anew in each episode:

# %%
meanings = {}
for each in episodes:
    for item in each.items:
        meanings.setdefault(item.word, set()).add(item.name)
print(len(meanings), "words, for example:", ", ".join(sorted(meanings)[:8]))
print("meanings of each word in 200 episodes, on average:", end=" ")
print(round(sum(map(len, meanings.values())) / len(meanings), 1))

# %% [markdown]
# The record's episodes bind four words to four shapes. Each shot shows any of the four, and so does the
# query. All that a reader can go by is which shots are shown, and how many:
#
# - with no shot, nobody can know the word: a guess is right once in 140;
# - with $s$ shots, the query's shape has been shown with probability $1 - (3/4)^s$; this is the ceiling;
# - whoever does not look, and repeats one of the words shown, is right about once in four.
#
# **Predict.** Where will Flamingo's curve lie between "does not look" and the ceiling? What will happen
# to it if the images of the shots change places among the shots?

# %%
shots = list(range(len(figures["names"])))


def curve(rows):
    """Accuracy on all queries, by number of shots; the mean where there are several seeds."""
    values = [rows[str(s)]["all"] for s in shots]
    return [value[0] if isinstance(value, list) else value for value in values]


# %%
fig = lab.lines(
    {
        "frozen GPT, names for images": curve(figures["names"]),
        "Flamingo": curve(figures["flamingo"]["test"]),
        "Flamingo, unseen pairs": curve(figures["flamingo"]["composition"]),
        "Flamingo, shots' images shuffled": curve(figures["shuffled"]),
        "Flamingo, grey images": curve(figures["blind"]),
        "Flamingo, GPT without binding": curve(figures["unbound"]),
        "Flamingo, gates shut": curve(figures["shut"]),
    },
    shots,
    title="New words learnt from s examples",
    x_axis="shots",
    y_axis="share of queries answered right",
    markers=True,
)
lab.show_figure(
    fig,
    f"Episodes of unseen scenes; mean over {figures['seeds']} seeds of the new layers, one seed for "
    "the last two lines.",
    "Line chart of accuracy against the number of shots from 0 to 8. The GPT that reads names, Flamingo, "
    "and Flamingo on unseen pairs rise together. The other lines stay near a quarter or below.",
)

# %%
print(f"{record['machine']['device']}, {record['date']}; 95 % intervals over the seeds")
print("shots names  Flamingo             unseen pairs         shuffled grey")
for s in map(str, shots):
    row = [f"{s:>5}", f"{figures['names'][s]['all']:5.0%} "]
    for split in ("test", "composition"):
        mean, low, high = figures["flamingo"][split][s]["all"]
        ceiling = figures["can be answered"][split][s]
        row.append(f"{mean:4.0%} ({max(low, 0):.0%}-{high:.0%}) of {ceiling:.0%}".ljust(20))
    row += [f"{figures['shuffled'][s]['all'][0]:7.0%}", f"{figures['blind'][s]['all'][0]:5.0%}"]
    print(" ".join(row))

# %%
few, grey = figures["flamingo"]["test"], figures["blind"]
assert few["0"]["all"][2] < 0.1 and few["8"]["all"][1] > grey["8"]["all"][2] + 0.2
assert few["8"]["all"][1] > figures["shuffled"]["8"]["all"][2] + 0.2
assert few["8"]["all"][1] > figures["unbound"]["8"]["all"] + 0.2
assert few["8"]["all"][1] > few["1"]["all"][2] + 0.2
assert figures["frozen parts unchanged"] and figures["shut gates give the language model"]
print("without shots it knows nothing, and the curve rises with the shots:", True)
print("frozen parts unchanged, by fingerprint:", figures["frozen parts unchanged"])
print(
    "gates shut again: the language model's logits:", figures["shut gates give the language model"]
)

# %% [markdown]
# After "of" stands the ceiling: the share of queries whose shape some shot shows. Unseen pairs are other
# episodes, so theirs is another. Read the figure line by line.
#
# - **The frozen GPT with names** reads the truth. What Flamingo lacks to this line, its eyes lack.
# - **Flamingo** follows it closely, and almost as closely on **unseen pairs** of colour and shape. Look
#   at the last rows of the table: with many shots it falls behind a little. One reason may be that each
#   further image is one more that can be mistaken for another.
# - **Shuffled images** are the same images and the same words in the same text; only which belongs to
#   which is wrong. The curve falls to that of a reader who does not look. So it is the *pairs* that are
#   read, not the mere presence of the images.
# - **Grey images** take the eyes away and leave the text. What remains is repetition.
# - **A GPT without binding** read the same texts with the words of each text shuffled. It was joined to
#   the same eyes, and its new layers were trained in the same way. Sight alone does not bring learning
#   in context.
# - **Gates shut** leave the frozen GPT alone with `<image>` tokens that it has never met. With few
#   shots it still repeats one of the words; with more, it often says something else.
#
# ### Why it learns at all
#
# The new layers face a riddle. At first all images look alike to the language model. It could find the
# right word if equal shapes gave equal vectors. But the new layers learn which vectors to give only
# from a language model that finds the right words already.
#
# So the record starts with episodes in which a *name* stands for about half of the images: "circle
# modip `<image>` bilak star bilak `<image>`". Now the word of an image often stands beside a name, which
# the GPT knows, and the gradient tells which name the image should look like. After two fifths of the
# steps all names are gone. (The paper mixes web pages with captioned images, which also say what is on
# them.)
#
# **Predict.** What does the loss look like for a run that begins with images alone?

# %%
every = figures["loss every"]
alone = figures["images alone"]
fig = lab.lines(
    {
        "names for half of the images at first": figures["loss"],
        "images alone from the start": alone["loss"],
    },
    [every * (i + 1) for i in range(len(alone["loss"]))],
    title="What breaks the symmetry",
    x_axis="step",
    y_axis="loss (nats per word that can be known)",
    markers=True,
)
lab.show_figure(
    fig,
    f"Mean loss of each {every} steps: {figures['seeds']} seeds with names at first (band: lowest to "
    "highest), one seed without.",
    "Line chart of two losses over 500 steps. One falls below one half within 200 steps, the other "
    "stays above two.",
)
print(f"images alone: {alone['flamingo']['8']['all']:.0%} right with 8 shots")
assert max(losses[-1] for losses in figures["loss"]) < 0.2 < 1 < alone["loss"][-1]

# %% [markdown]
# With images alone, the loss soon falls only slowly. The model has learnt which words stood before, and
# is right about as often as a guess among them. It might find the way later; this run had no more steps.
#
# ### Train it for a moment
#
# The checkpoint holds all parts. Take the two frozen ones, put fresh layers between, and start as the
# record did, a little simpler: the shots are named in text, and only the query is an image. The encoder
# is frozen, so each drawing is encoded once, before training.

# %%
from zoo_lessons.datasets.episodes import IMAGE_TOKEN
from zoo_lessons.datasets.words import encode_batch
from zoo_lessons.models.flamingo import patch_vectors

tokenizer = trained_tokenizer("flamingo_episodes")
practice = [e for e in Episodes("train", 2400, shots=8, num_pictures=400) if e.answerable]
texts = [
    f"{e.prompt(images=False).rpartition(' ')[0]} {IMAGE_TOKEN} {e.query.word}" for e in practice
]
ids = encode_batch(tokenizer, texts, add_bos=True).input_ids
print(texts[0])
print("texts", tuple(ids.shape), "(episodes, tokens)")

# %%
train_pictures = Episodes("train", 1, shots=8, num_pictures=400).pictures
with torch.no_grad():
    parts = train_pictures.pixel_values().split(100)
    seen = torch.cat([patch_vectors(trained.vision, part) for part in parts])
asked_pictures = torch.tensor([e.query.picture for e in practice])
print("encoded drawings", tuple(seen.shape), "(drawings, class token + patches, width)")


# %%
def query_loss(model, rows):
    """Loss of the word after the image."""
    latents = model.resampler(seen[asked_pictures[rows]])[:, None]  # one image in each text
    logits = model(ids[rows], image_latents=latents).logits[:, -2]
    return F.cross_entropy(logits, ids[rows, -1])


def fresh_layers():
    """The two frozen parts of the checkpoint with new layers between."""
    model = Flamingo(trained.config)
    model.vision.load_state_dict(trained.vision.state_dict())
    model.language.load_state_dict(trained.language.state_dict())
    return model


# %% [markdown]
# A gate is one number that starts at zero, so it gets a larger learning rate than the matrices.

# %% tags=["nbval-ignore-output"]
fresh = fresh_layers()
new = {name: p for name, p in fresh.named_parameters() if p.requires_grad}
gates = [p for name, p in new.items() if name.endswith("_gate")]
others = [p for name, p in new.items() if not name.endswith("_gate")]
groups = [{"params": others}, {"params": gates, "lr": 3e-2}]
optimizer = torch.optim.AdamW(groups, lr=3e-3, weight_decay=0.0)
batches = torch.randperm(len(practice))[: 64 * 30].split(64)
history = fit(fresh, batches, query_loss, steps=150, optimizer=optimizer, device="cpu")
fig = lab.training_curves({"fresh layers": history}, title="150 steps of the new layers", smooth=10)
lab.show_figure(
    fig,
    "The loss of the one word that an image asks for. It falls as the images find their names.",
    "Line chart of the loss over 150 steps, falling.",
)

# %% tags=["nbval-ignore-output"]
for name, model in {"after 150 steps": fresh, "checkpoint": trained}.items():
    gates = [gate.attention_gate.tanh().item() for gate in model.gated]
    print(f"{name:15} attention gates, by layer:", [round(gate, 3) for gate in gates])

# %% [markdown]
# The gates are open by a crack. They are no measure of importance: behind a small gate stand large
# weights, and a shut gate takes everything away, as the figure above shows.
#
# ### Ask it
#
# The checkpoint on the episode that this lesson began with, and on more:

# %%
from zoo_lessons.generation import generate


def answer(episode, prompt=None):
    """The word that the checkpoint writes after the episode's prompt, or after another one."""
    prompt_ids = encode_batch(tokenizer, [prompt or episode.prompt()], add_bos=True).input_ids
    reader = trained.with_images(episodes.pixel_values(episode)[None])  # one row of images
    return tokenizer.decode(generate(reader, prompt_ids, max_new_tokens=1)[0, -1:].tolist())


# %% tags=["nbval-ignore-output"]
for each in [episode, *(episodes[i] for i in range(5))]:
    told = ", ".join(f"{item.name} = {item.word}" for item in each.shots)
    print(f"{told}; {each.query.name}? {answer(each)} (right: {each.query.word})")

# %%
asked = list(episodes)[:60]
right = [each for each in asked if answer(each) == each.query.word]
print("right on at least 80 % of 60 episodes:", len(right) / len(asked) >= 0.8)
assert len(right) / len(asked) >= 0.8


# %% [markdown]
# ### Test what you see: swap two words
#
# A picture of attention is no explanation; an intervention is a better one. Swap the words of two shots
# and leave all images as they are. If the model reads the examples, its answer must follow the swap.

# %%
def swapped(episode):
    """The prompt with the query's word and another shot's word exchanged, and what is right then."""
    mine = episode.query.word
    other = next(item.word for item in episode.shots if item.word != mine)
    prompt = episode.prompt().replace(mine, "*").replace(other, mine).replace("*", other)
    return prompt, other


follows = 0
for each in right:
    prompt, expected = swapped(each)
    follows += answer(each, prompt) == expected
print("the answer follows the swap in at least 80 % of cases:", follows / len(right) >= 0.8)
assert follows / len(right) >= 0.8

# %% [markdown]
# ## 7 · What it costs
#
# In the paper's largest model, 70 billion parameters of 80 are the frozen language model: the new layers
# are the small part, and that is the point. In ours they are the largest of the three, since what they
# join is tiny.

# %%
counts = figures["parameters"]
for part, count in counts.items():
    print(f"{part:9} {count:8,} parameters{'' if part == 'new' else ', frozen'}")


def attention_pairs(length, images, patches, latents):
    """Pairs of text token and image vector in one cross-attention, without and with resampler."""
    return length * images * patches, length * images * latents


for patches in (145, 257, 1025):
    without, with_resampler = attention_pairs(256, 5, patches, 64)
    print(
        f"{patches:5} patches: {without:9,} pairs without a resampler, {with_resampler:,} with 64"
    )

# %% [markdown]
# With a resampler the text's cost no longer depends on the size of the images. It has a price, too: what
# the latents cannot hold, the text will never see. Our small model has 4 latents for 145 vectors.
#
# Training costs less memory than it seems: frozen weights need no gradients and no optimizer state. But
# the gradient must still flow *through* the frozen language model to reach the new layers below.

# %% [markdown]
# ## 8 · Eighty of what?
#
# One of the articles says that Flamingo "handles 80 modalities". A **modality** is a kind of input: text,
# images, sound. Which ones does Flamingo take? Count the inputs of `forward`: token ids, and pixels of
# images or of videos.

# %%
from zoo_lessons.records import load_claim

three = load_record("c30_three_models")["figures"]
print("modalities:", ", ".join(three["modalities"]))
for name, sizes in three["published"].items():
    print(
        f"{name:13} {sizes['all']:5} billion parameters, {sizes['language']:5} of them frozen text"
    )
lab.show_claim(load_claim("C30"))

# %% [markdown]
# The 80 is in the name, Flamingo-80B, and counts parameters. The other parts of the claim are about
# MobileViT and MAE; lessons 10 and 11 measured them.
#
# ### C10: encoders, a shared space, cross-attention
#
# This ends the part on vision and language. The articles name three ways in which modalities meet: an
# encoder for each, a space that they share, and cross-attention. CLIP has the first two, BLIP adds the
# third, and Flamingo adds it to a language model that never learns.

# %%
lab.show_claim(load_claim("C10"))

# %% [markdown]
# ## 9 · Read the real thing
#
# The block is what the formulas of section 2 say, with a norm before each layer:

# %%
from zoo_lessons.models.flamingo import GatedCrossAttention

lab.show_source(GatedCrossAttention.forward, without_docstring=True)

# %% [markdown]
# And this is how the blocks get into a GPT that knows nothing of them: PyTorch calls a *hook* before
# each block of the language model, and the hook returns another input.

# %%
lab.show_source(Flamingo._gated_blocks, without_docstring=True)

# %% [markdown]
# ### The same in transformers
#
# Flamingo's weights were never published. Idefics (Laurençon et al. 2023) rebuilt it, and `transformers`
# has its modules. Ours can be set to the same choices, and must then give the same numbers. All weights
# are random, gates included: with gates at zero, two blocks agree whatever they hold.

# %%
import transformers
from transformers.models.idefics.modeling_idefics import IdeficsGatedCrossAttentionLayer

from zoo_lessons.weights import load_renamed

theirs = IdeficsGatedCrossAttentionLayer(
    transformers.IdeficsConfig(
        hidden_size=24,
        intermediate_size=44,
        num_attention_heads=3,
        vision_config={"embed_dim": 20, "num_attention_heads": 4},
        alpha_type="vector",
        attn_implementation="sdpa",
    ),
    layer_idx=0,
).eval()
for parameter in theirs.parameters():
    torch.nn.init.normal_(parameter, std=0.3)

# %%
ours = GatedCrossAttention(
    24, 3, 44, 20, activation="silu", glu=True, norm="rms", gate="channel", eps=1e-6
)
ours = load_renamed(ours, theirs.state_dict()).eval()
x, latents = torch.randn(2, 7, 24), torch.randn(2, 10, 20)
with torch.no_grad():
    reference = theirs(
        x,
        image_hidden_states=latents,
        image_attention_mask=torch.zeros(2, 1, 7, 10),
        cross_attention_gate=torch.ones(2, 7),
    )
    difference = (ours(x, latents) - reference).abs().max() / reference.abs().max()
print("largest difference below 0.00001:", difference.item() < 1e-5)
assert difference < 1e-5

# %% [markdown]
# And at the sizes of Idefics-9B, from the recorded table of models:

# %% tags=["nbval-ignore-output"]
lab.model_table(load_record("multimodal_model_table"), ["Flamingo"])

# %% [markdown]
# Where paper, lesson and `transformers` differ:
#
# | | paper | this lesson | Idefics in `transformers` |
# |---|---|---|---|
# | vision encoder | NFNet-F6, trained as CLIP is; frozen | lesson 12's CLIP, frozen | CLIP's ViT |
# | language model | Chinchilla, frozen | GPT, frozen | LLaMA |
# | resampler's activation | squared ReLU | squared ReLU | ReLU |
# | frame embeddings | one for each of 8 frames | as many as wanted, 0 for images | none |
# | gated block's feed-forward | squared ReLU | squared ReLU | SwiGLU |
# | gated block's norm | not spelled out | LayerNorm | RMSNorm |
# | gates | one number each | one number each, or one per channel | either |
# | norms on each head's q and k | none | none, or on request | an option |

# %% [markdown]
# ## Quiz

# %%
lab.quiz("14")

# %% [markdown]
# ## Summary
#
# - A **resampler** turns any number of patches into a fixed number of latents: the latents ask, patches
#   and latents answer.
# - **Gated cross-attention** starts shut. At first the language model is the same, bit for bit; training
#   opens the gates.
# - **Frozen** means no gradients and evaluation mode; a fingerprint of the bytes proves it.
# - Each word sees the **last image before it**. What earlier images showed travels through the text.
# - Few-shot learning is the language model's skill. Flamingo gives it eyes: with grey images, or with a
#   language model that cannot bind, the examples are of no use.
#
# **Where next.** [Alayrac et al. 2022](https://arxiv.org/abs/2204.14198), sections 2 and 3.1 (few-shot
# results against the number of shots); [Jaegle et al. 2021](https://arxiv.org/abs/2103.03206),
# sections 3.1 and 3.2 (Perceiver, the resampler's ancestor); [Tsimpoukelli et al.
# 2021](https://arxiv.org/abs/2106.13884), section 4 (Frozen: binding new words to images, the task of
# this lesson). Next: part III begins with
# [15 Sparse, hierarchical and linear attention](15_efficient_attention.ipynb), attention that
# leaves scores out.
