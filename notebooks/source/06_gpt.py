# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 06 · GPT: generation
#
# *How does predicting the next word become writing?*
#
# After this lesson you can
#
# - turn an encoder into a language model by changing its mask
# - generate text greedily, by sampling with temperature, top-k and top-p, and by beam search
# - write a key-value cache that equals recomputation, and measure what it saves
# - judge a language model by its perplexity against n-gram baselines
#
# **Time:** 55 minutes · **You need first:** [04 The Transformer](04_transformer.ipynb)
#
# **On the zoo map:** part II, The zoo · **New parts:** Language-model head, Key-value cache · **Models:** GPT-2
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/06_gpt.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F06_gpt.ipynb) · [Solutions](solutions/06_gpt.ipynb)

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

lab.begin("06")

# %% [markdown]
# ## The question
#
# *The cat sat on the ...* You have an idea how this goes on, and so does everybody who has read
# enough English. Nobody labelled a text for you. The text itself holds the answers: each word is the
# answer to what came before it.
#
# The captions of the shapes world are such a text. What follows *a small red* there? Count.

# %%
from collections import Counter

from zoo_lessons.datasets.shapes import translation_pairs

captions = {
    split: [english for english, _ in translation_pairs(split, size)]
    for split, size in {"train": 10_000, "validation": 1000, "test": 1000}.items()
}
beginning = "a small red "
following = Counter(
    text.split(beginning)[1].split()[0].strip(",")
    for text in captions["train"]
    if beginning in text
)
for word, count in following.most_common():
    print(f"{beginning}{word:9} {count:3} times, {count / following.total():.0%}")

# %% [markdown]
# That is a **language model**: for each beginning, a probability for each next word. (*triangle* is
# missing on purpose: the training captions never show a red triangle. Remember it for section 8.)
#
# Counting breaks down as beginnings get longer. Most beginnings of ten words occur once or never, and
# a count of zero says nothing. We need something that has never seen exactly this beginning and knows
# all the same. And if it can say what comes next, it can also *write*: choose a word, append it, ask
# again. **How does predicting the next word become writing?**
#
# Section 5 goes *further*. Short of time? Leave out section 8 as well.

# %% [markdown]
# ## 1 · Only the mask changes
#
# Lesson 04 had two stacks. The encoder reads a whole sentence; the decoder writes one, looking only
# back, and asks the encoder about the source. If there is no source, the decoder needs no
# cross-attention. What is left of its block? Self-attention and feed-forward, each in a residual:
# **an encoder block**. Only the mask differs.
#
# Let us see that. We take an encoder, replace one token of a sentence, and ask which outputs change.

# %%
import torch
from torch import nn

from zoo_lessons.layers import EncoderBlock, causal_mask

words = "The cat sat on the mat".split()
x = torch.randn(1, len(words), 32)  # (batch, tokens, d_model): six tokens
blocks = nn.ModuleList(EncoderBlock(32, num_heads=4, d_ff=64, norm="pre") for _ in range(3))


@torch.no_grad()
def encode(x, mask=None):
    for block in blocks:
        x = block(x, mask)
    return x  # (batch, tokens, d_model)


def influence(mask=None):
    """True at (i, j) where another token j changes output i: (tokens, tokens)."""
    changes = torch.zeros(len(words), len(words), dtype=torch.bool)
    for j in range(len(words)):
        other = x.clone()
        other[0, j] = torch.randn(32)
        changes[:, j] = (encode(other, mask) - encode(x, mask))[0].abs().amax(dim=-1) > 1e-6
    return changes


# %% [markdown]
# **Predict.** Without a mask, which outputs change when *mat*, the last word, is replaced? And with
# `causal_mask` from lesson 01?

# %%
free, causal = influence(), influence(causal_mask(len(words)))
assert free.all() and torch.equal(causal, causal_mask(len(words)))
fig = lab.heatmaps(
    {"no mask: an encoder": free, "causal mask: a decoder": causal},
    words,
    words,
    row_axis="output of",
    column_axis="replaced token",
    value="changes (1) or not (0)",
)
lab.show_figure(
    fig,
    "The same three blocks with the same weights. On the right, an output depends on its own token "
    "and on earlier ones only, even through three layers.",
    "Two heat maps with the six words of The cat sat on the mat as rows and columns. Left: all "
    "squares are 1. Right: the lower triangle with the diagonal is 1, the rest 0.",
)

# %% [markdown]
# Read the last column on the right: replacing *mat* changes only the output of *mat*. So the output
# of *the*, just before, cannot know that *mat* follows. We may ask it to predict just that.
#
# **GPT** (Radford et al. 2018) is this stack with an embedding below and a prediction on top. The
# first GPT was post-norm. We build its successor, GPT-2 (2019), which is pre-norm (lesson 04).

# %%
from zoo_lessons.lab.diagrams import stack_diagram

encoder = [
    ("tokens", "input"),
    ("embedding + positions", "input"),
    ("self-attention", "attention"),
    ("feed-forward", "feed-forward"),
    ("one vector per token", "output"),
]
gpt = [encoder[0], encoder[1], ("masked self-attention", "attention"), encoder[3]]
gpt += [("LayerNorm", "feed-forward"), ("logits of the next token", "output")]
fig = stack_diagram(
    {"Encoder (lesson 04)": encoder, "GPT": gpt},
    repeated={"Encoder (lesson 04)": (2, 3, "N ×"), "GPT": (2, 3, "N ×")},
)
lab.show_figure(
    fig,
    "GPT is an encoder with a causal mask, one more LayerNorm (it is pre-norm), and a layer that "
    "scores every token of the vocabulary. The scores reuse the embedding table.",
    "Diagram of two stacks. Encoder: tokens, embedding plus positions, N times self-attention and "
    "feed-forward, one vector per token. GPT: the same with masked self-attention, then LayerNorm, "
    "then logits of the next token.",
)

# %% [markdown]
# In code, for the captions. The tokenizer of lesson 04 makes one token of each word; `[BOS]` stands
# in front, `[EOS]` behind.

# %%
from zoo_lessons.datasets.words import BOS_ID, EOS_ID, decode_batch, encode_batch, word_tokenizer
from zoo_lessons.models import GPT, GPTConfig

tokenizer = word_tokenizer(captions["train"])
config = GPTConfig(
    vocab_size=tokenizer.get_vocab_size(),
    d_model=64,
    num_layers=2,
    num_heads=4,
    d_ff=256,
    max_length=32,
    dropout=0.0,
)
model = GPT(config).eval()
batch = encode_batch(tokenizer, captions["train"][:3], add_bos=True, add_eos=True)
print("input_ids", tuple(batch.input_ids.shape), "(batch, length)")
print("logits", tuple(model(batch.input_ids).logits.shape), "(batch, length, vocabulary)")


# %% [markdown]
# A mask that leaks is the worst bug that a language model can have: the loss becomes wonderful, and
# the model useless. So we test for it before training. Change the last token: no earlier logits may
# move.

# %%
@torch.no_grad()
def leaks(model, length=12):
    """Whether a change of the last token changes logits before it."""
    input_ids = torch.randint(1, model.config.vocab_size, (1, length))
    other = input_ids.clone()
    other[0, -1] = (other[0, -1] + 1) % model.config.vocab_size
    before, after = model(input_ids).logits[:, :-1], model(other).logits[:, :-1]
    return not torch.allclose(before, after, atol=1e-6)


print("GPT leaks:", leaks(model))


# %% [markdown]
# ## 2 · The loss: every position is an exercise
#
# Write $x_1, \dots, x_n$ for the tokens of a text. Its probability is a product, by the chain rule of
# probability:
#
# $$ p(x_1, \dots, x_n) = \prod_{t} p(x_t \mid x_1, \dots, x_{t-1}) $$
#
# Nothing is assumed here; any distribution over texts can be written so. The model supplies the
# factors: the softmax of its logits at position $t - 1$. Training makes the true text likely. The
# loss is the negative logarithm, per token:
#
# $$ \ell = -\frac{1}{n - 1} \sum_{t=2}^{n} \log p(x_t \mid x_1, \dots, x_{t-1}) $$
#
# It is the cross-entropy of lesson 03. With the natural logarithm, its unit is called a **nat**. The
# targets are the inputs, shifted by one:
#
# | position | 0 | 1 | 2 | 3 |
# |---|---|---|---|---|
# | the model reads | [BOS] | a | red | ring |
# | it should predict | a | red | ring | [EOS] |
#
# The first token is never predicted, and the logits at the last one have no target. In a padded
# batch, only real tokens are targets.
#
# ### Exercise 1 · The loss of a language model (★★☆, 8 min)

# %% tags=["exercise"]
def next_token_loss(logits, input_ids, attention_mask):
    """Mean loss in nats per predicted token, a scalar tensor.

    logits: (batch, length, vocabulary). input_ids, attention_mask: (batch, length), 0 is padding.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("06.next_token_loss", next_token_loss)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which column of the logits has no target? Which column of `input_ids` is never a target? Cut both.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# A Boolean mask picks positions: `logits[:, :-1][real]` has the shape (targets, vocabulary). The mask
# must say whether the *target* is real. `F.cross_entropy` does the rest.
#
# </details>

# %%
from torch.nn import functional as F


def caption_loss(model, batch):
    """Mean loss in nats per predicted token; batch: ids and mask (batch, length)."""
    input_ids, attention_mask = batch
    real = attention_mask[:, 1:].bool()  # (batch, length - 1)
    logits = model(input_ids, attention_mask).logits[:, :-1]  # (batch, length - 1, vocabulary)
    return F.cross_entropy(logits[real], input_ids[:, 1:][real])


encoded = {
    split: encode_batch(tokenizer, texts, add_bos=True, add_eos=True)
    for split, texts in captions.items()
}
first = caption_loss(model, encoded["test"]).item()
guess = torch.tensor(config.vocab_size).log().item()
print(f"a blind guess costs log({config.vocab_size}) = {guess:.2f} nats per token")
print("the untrained model costs about that:", abs(first - guess) < 0.2)

# %% [markdown]
# ### One pass, all positions
#
# A caption of 14 tokens is 13 exercises: 13 beginnings, each with its answer. One could run the model
# 13 times. The causal mask makes this needless: in a single pass, position $t$ computes just what it
# would compute if the text ended there.

# %%
with torch.no_grad():
    input_ids = encoded["test"].input_ids[:1, :9]  # (1, 9)
    at_once = model(input_ids).logits[0]  # (9, vocabulary)
    one_by_one = torch.stack([model(input_ids[:, : t + 1]).logits[0, -1] for t in range(9)])
assert torch.allclose(at_once, one_by_one, atol=1e-5)
print("nine passes and one pass give the same logits:", True)
print("token computations:", sum(range(1, 10)), "in nine passes,", 9, "in one")

# %% [markdown]
# An LSTM is causal by nature and also gets a target at each position. But it must take the positions
# one after the other; a Transformer takes them all at once. Does that make its training faster? Lesson
# 04 timed both (claim C35). Below 1 the Transformer is faster:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.records import load_claim, load_record

record = load_record("c35_training_speed")
training = record["figures"]["training"]["ratio"]
print(f"{record['machine']['device']}, {record['date']}")
for length, ratio in zip(record["figures"]["lengths"], training, strict=True):
    print(f"{length:4} tokens: a Transformer's training step takes {ratio:.2f} of the LSTM's time")
print(f"Claim C35: {load_claim('C35')['verdict']}.")

# %% [markdown]
# A processor with two cores cannot do much at once, so it does not show the advantage. A GPU does
# thousands of things at once, and an LSTM's steps leave most of it idle; this course has not timed
# that.
#
# *Writing* is another matter. Each new token depends on the one before, so a Transformer too goes
# step by step. Section 7 returns to that.
#
# ### Training
#
# 300 steps on batches of 64 captions, with `fit` from lesson 03. It takes some seconds.

# %% tags=["nbval-ignore-output"]
from functools import partial

from zoo_lessons.training import fit
from zoo_lessons.training.schedules import warmup_cosine


def batch_of_captions(step, size=64):
    """The same step always gives the same batch."""
    chooser = torch.Generator().manual_seed(step)
    rows = torch.randint(len(captions["train"]), (size,), generator=chooser)
    return encoded["train"].input_ids[rows], encoded["train"].attention_mask[rows]


torch.manual_seed(0)
model = GPT(config)
schedule = partial(warmup_cosine, warmup_steps=30, total_steps=300)
history = fit(model, batch_of_captions, caption_loss, steps=300, lr=3e-3, schedule=schedule)
model.eval()
history

# %% [markdown]
# Now it can write. Start from `[BOS]`, take a token, append it, ask again. For the moment we draw each
# token with the probability that the model gives it.

# %%
from zoo_lessons.generation import generate


def write_captions(count, seed=0, **options):
    """Texts that the caption model writes, from [BOS] to [EOS] or 24 tokens."""
    chance = torch.Generator().manual_seed(seed)
    start = torch.full((count, 1), BOS_ID)
    return generate(
        model,
        start,
        max_new_tokens=24,
        eos_token_id=EOS_ID,
        generator=chance,
        **{"temperature": 1.0, **options},
    )


# %% tags=["nbval-ignore-output"]
written = decode_batch(tokenizer, write_captions(200)[:, 1:])
print("\n".join(written[:8]))
copied = len(set(written) & set(captions["train"])) / len(written)
print(f"\nof 200 texts, {copied:.0%} stand in the training set word for word")


# %% [markdown]
# Most of these are good captions, and the model made them up. Some are broken. How good is it, then?
# We need a number.

# %% [markdown]
# ## 3 · Perplexity
#
# The loss on text that the model has not seen is a fair judge, but who can picture nats? Take the
# exponential:
#
# $$ \text{perplexity} = e^{\ell} $$
#
# A model that is undecided between $k$ equally likely tokens has the loss $\log k$, so its perplexity
# is $k$. A perplexity of 3 says: on average, as unsure as with a fair choice among three.
#
# ### Exercise 2 · Perplexity of a test set (★★☆, 6 min)
#
# A test set comes in batches. Each gives the loss of every token, and a mask.

# %% tags=["exercise"]
def perplexity(batches):
    """batches: a list of (losses, mask), both (batch, length); losses in nats, mask 0 = padding.

    Batches may differ in size. Returns one number for the whole test set.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("06.perplexity", perplexity)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Each *token* of the test set counts the same, in whichever batch it lies.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Two sums over all batches, one division, one exponential, in this order.
#
# </details>
#
# ### Against models that only count
#
# No perplexity is good by itself. What would a careful person try first? Counting, done well. An
# **n-gram** model looks at the last $n - 1$ tokens only: a unigram at none, a bigram at one, a trigram
# at two. Where it has seen too little, it falls back to a shorter memory (Kneser-Ney smoothing, whose
# discounts we tune on the validation captions).

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.ngrams import NGram


def as_lists(encoded):
    """Ids without padding and without [BOS], which an n-gram model supplies itself."""
    pairs = zip(encoded.input_ids, encoded.attention_mask, strict=True)
    return [ids[mask.bool()].tolist()[1:] for ids, mask in pairs]


sequences = {split: as_lists(texts) for split, texts in encoded.items()}
results = {}
for order in range(1, 6):
    counted = NGram(order, config.vocab_size).fit(sequences["train"], sequences["validation"])
    results[f"{order}-gram"] = counted.perplexity(sequences["test"])
with torch.no_grad():
    results["GPT"] = caption_loss(model, encoded["test"]).exp().item()
for name, value in results.items():
    print(f"{name:7} perplexity {value:6.2f}")

# %%
assert results["GPT"] < min(value for name, value in results.items() if name != "GPT")
print("GPT is below every n-gram:", True)

# %% [markdown]
# That was one seed. `make record` trained five, and also let each model write 500 captions, which a
# grammar judged (section 8 shows it):

# %%
record = load_record("gpt_captions")["figures"]
rows = {
    name: {key: [value] for key, value in row.items()} for name, row in record["ngrams"].items()
}
rows["GPT"] = record["gpt"]  # each a list over the seeds


def mean_and_range(values):
    mean = sum(values) / len(values)
    spread = f" ({min(values):.2f} to {max(values):.2f})" if len(values) > 1 else ""
    return f"{mean:5.2f}{spread}"


print(f"{'':8}{'perplexity':22}{'on unseen pairs':22}valid captions")
for name, row in rows.items():
    shown = [mean_and_range(row[key]) for key in ("test", "composition", "valid")]
    print(f"{name:8}{shown[0]:22}{shown[1]:22}{shown[2]}")

# %% [markdown]
# Read the columns.
#
# - **Perplexity.** A longer memory helps counting until the counts become too few: from six tokens on,
#   little is gained. GPT is below all of them with every seed.
# - **Unseen pairs** are captions with a colour and a shape that training never put together, such as a
#   red triangle. The n-grams are stunned: a pair with the count zero. GPT hardly notices. It has
#   learned that *a* colour is followed by *a* shape.
# - **Valid captions.** GPT obeys the grammar most of the time, the best n-gram in less than half of its
#   texts. A small difference in perplexity is a large one in use.
#
# ### On prose
#
# Captions are a toy language. Real English is at hand as well: the documentation that Python and the
# course's packages carry, half a million words of it. Words are too many to be tokens here, so we
# take **byte-pair encoding** on bytes, as GPT-2: start from the 256 bytes, and join the most frequent
# pair of neighbours into a new token, again and again, until there are 2,048 tokens. Nothing is ever
# unknown. A rare word costs more tokens:

# %%
from zoo_lessons.checkpoints import load_trained, trained_tokenizer

prose_model, prose_tokenizer = load_trained("gpt_prose"), trained_tokenizer("gpt_prose")
for text in ("The cat sat on the mat.", "The function returns a list of strings."):
    tokens = prose_tokenizer.encode(text).tokens
    print(len(tokens), "tokens:", " ".join(token.replace("Ġ", "␣") for token in tokens))

# %% [markdown]
# `prose_model` is a GPT with 1.07 million parameters that one recorded experiment trained for some
# minutes (`make record ARGS=gpt_prose`). A few seconds of the same training, live, on the part of the
# text that can be read in a second: the Python language reference.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.datasets.subwords import END_OF_TEXT_ID, encode_blocks

blocks = encode_blocks(prose_tokenizer, paragraphs("reference", "train"), 128)


def prose_loss(model, blocks):
    """Mean loss in nats per predicted token; blocks (batch, length), without padding."""
    logits = model(blocks).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), blocks[:, 1:].flatten())


def batch_of_blocks(step):
    chooser = torch.Generator().manual_seed(step)
    return blocks[torch.randint(len(blocks), (8,), generator=chooser)]


torch.manual_seed(0)
live_model = GPT(prose_model.config)
schedule = partial(warmup_cosine, warmup_steps=100, total_steps=2400)  # that of the recorded run
live = fit(live_model, batch_of_blocks, prose_loss, steps=50, lr=3e-3, schedule=schedule)
live

# %% tags=["nbval-ignore-output"]
record = load_record("gpt_prose")["figures"]
fig = lab.lines(
    {"recorded": record["curve"]["loss"]},
    record["curve"]["step"],
    title="Learning to write prose",
    x_axis="step (8 blocks of 128 tokens)",
    y_axis="loss (nats per token)",
    log="x",
    markers=False,
)
fig.axes[0].plot(live.step + 1, live.loss, color="#d55e00", label="just now", linestyle="--")
fig.axes[0].legend()
lab.show_figure(
    fig,
    "Your run and the recorded one begin alike. Yours falls faster, because it has less to learn: the "
    f"reference alone, again and again. The recorded one goes on for {record['steps']:,} steps.",
    "Line chart with a logarithmic step axis: the loss falls from about 7.6 nats, steeply at first. "
    "The live run covers the first 50 steps of the recorded one.",
)

# %% [markdown]
# ### Comparing across tokenizers
#
# How good is the recorded model, on documents that it has not seen? Careful: its tokens are pieces of
# words. **Perplexity per token depends on the tokenizer.** With larger tokens a text has fewer of them,
# and each is harder to guess. What does not depend on the tokenizer is the loss of the whole text.
# Spread over its bytes, in bits, it can be compared:
#
# $$ \text{bits per byte} = \frac{\ell \cdot \text{tokens}}{\ln 2 \cdot \text{bytes}} $$
#
# One and the same kind of model, a tuned trigram, in three vocabularies:

# %%
record = load_record("gpt_baselines")["figures"]
print("vocabulary   perplexity per token   per word   bits per byte")
for row in record["tokenizers"]:
    token, word = row["perplexity_per_token"], row["perplexity_per_word"]
    print(f"{row['size']:10,} {token:22.1f} {word:10,.0f} {row['bits_per_byte']:15.3f}")

# %% [markdown]
# The perplexities per token differ several times over, although each line is a trigram. (In
# a small vocabulary three tokens are a short memory, so these are not equally good models: the last
# column tells.) All following lines share one vocabulary.

# %%
print("                perplexity per token   bits per byte")
for name, row in record["models"].items():
    print(f"{name:15} {row['perplexity_per_token']:20,.1f} {row['bits_per_byte']:15.3f}")


def against_best(label, key):
    gain, low, high = record[key]
    print(f"{label}: {gain:+.3f} nats per token ({low:+.3f} to {high:+.3f})")


print(f"\nGain over the {record['best_ngram']}, with 95 % intervals over the test blocks:")
against_best("GPT", "gain_over_best_ngram")
against_best(f"mixture, {record['weight_of_gpt']:.0%} GPT", "gain_of_mixture")

# %%
from itertools import pairwise

places, by_place = record["places"], record["by_place"]
fig = lab.lines(
    by_place,
    range(len(places) - 1),
    title="Who uses a long context?",
    x_axis="place of the token in its block of 128",
    y_axis="perplexity per token",
)
fig.axes[0].set_xticks(range(len(places) - 1), [f"{a} to {b - 1}" for a, b in pairwise(places)])
lab.show_figure(
    fig,
    "An n-gram has all the context it can use after a few tokens. GPT's curve falls for longer, but "
    "is level in the last two parts: so small a model, trained so briefly, makes little of a long "
    "context.",
    "Line chart: perplexity per token in four parts of a block, for GPT, a bigram and the best "
    "n-gram. The n-grams are level after the first part; GPT starts highest and falls, steeply at "
    "first. The best n-gram is lowest throughout.",
)

# %%
about = load_record("gpt_prose")["figures"]
read = about["steps"] * about["batch"] * about["length"]
print(
    f"read in training: {read / 1e6:.1f} M tokens, {read / about['tokens']['train']:.1f} times all text"
)
print(f"tokens read per parameter: {read / about['parameters']:.1f}")
seen = load_record("gpt_repetition")["figures"]["ways"]["true text"]["seen"][0]
print(f"runs of four tokens in held-out text that occur in the training text: {seen:.0%}")


# %% [markdown]
# **On prose, counting wins.** From the trigram up, the n-grams beat our GPT, and not by a little. On
# captions it was the other way round. Why?
#
# - **Too little training.** About 20 tokens per parameter is what a given amount of computing is best
#   spent on (Hoffmann et al. 2022, section 3). Ours got far fewer: some minutes of one processor core do
#   not go further. Its loss was still falling when the run ended.
# - **Documentation repeats its phrases.** Remembering them is what counting is good at.
# - **It does know something else.** The mixture of both is better than either: where the n-gram has
#   never seen a phrase, GPT still has an idea.
#
# Captions have few words and a strict structure: little to remember, much to infer. There 300 steps
# were enough. With more text and computing prose goes the same way, and no n-gram has kept up since.
# The point of a baseline is that you would not have known.

# %% [markdown]
# ## 4 · Choosing a token
#
# The model gives probabilities; somebody must choose. Take a beginning and look at the five likeliest
# tokens.

# %% tags=["nbval-ignore-output"]
def next_logits(ids):
    """The prose model's logits after a list of ids: (vocabulary,)."""
    with torch.no_grad():
        return prose_model(torch.tensor([ids[-128:]])).logits[0, -1]


def prose_ids(text):
    """Ids of the beginning of a paragraph. Paragraphs are told apart by the token <|endoftext|>."""
    return [END_OF_TEXT_ID, *prose_tokenizer.encode(text).ids]


prompt = "This function returns a"
logits = next_logits(prose_ids(prompt))
probability = logits.softmax(dim=-1)
for value, token in zip(*probability.topk(5), strict=True):
    print(f"{value:6.1%}  {prose_tokenizer.decode([token.item()])!r}")


# %% [markdown]
# **Greedy** decoding takes the likeliest, appends it, and asks again:

# %%
def greedy(ids, count):
    """ids: a list. Returns it with the `count` likeliest next tokens, one after the other."""
    for _ in range(count):
        ids = [*ids, next_logits(ids).argmax().item()]
    return ids


ids = prose_ids(prompt)
assert greedy(ids, 12) == generate(prose_model, torch.tensor([ids]), max_new_tokens=12)[0].tolist()
print("agrees with the library's generate:", True)


# %% [markdown]
# **Sampling** draws each token with its probability, as the captions of section 2 were drawn. Between
# and beyond the two lie three dials.
#
# ### Temperature
#
# Divide the logits $z$ by a number $\tau > 0$ before the softmax:
#
# $$ p_i = \frac{e^{z_i / \tau}}{\sum_j e^{z_j / \tau}} $$
#
# **Predict.** What happens to the probabilities as $\tau$ goes to 0? And as it grows without end?
#
# ### Exercise 3 · Temperature (★☆☆, 5 min)
#
# Let $\tau = 0$ mean the limit.

# %% tags=["exercise"]
def with_temperature(logits, temperature):
    """logits: (batch, vocabulary). Returns probabilities of the same shape and dtype."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("06.temperature", with_temperature)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Dividing by a small number makes the differences between logits large.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.one_hot(index, size)` makes a row with a single 1; its dtype is an integer.
#
# </details>

# %%
from zoo_lessons.generation import keep_top_k, keep_top_p, next_token

z = torch.tensor([2.0, 1.0, 0.0, -1.0])  # logits of four tokens
for tau in (0.1, 0.5, 1.0, 2.0, 100.0):
    p = (z / tau).softmax(dim=-1)
    drawn = next_token(z.expand(20_000, 4), temperature=tau).bincount(minlength=4) / 20_000
    assert (drawn - p).abs().max() < 0.02  # the library draws with these probabilities
    print(f"temperature {tau:5}: ", [round(value, 2) for value in p.tolist()])


# %% [markdown]
# ### Top-k and top-p
#
# A vocabulary of thousands has a long tail. Each token in it is unlikely, but together they are not:
# every few words the dice fall on nonsense, and one nonsense word derails the rest. Two ways to cut
# the tail off:
#
# - **top-k** (Fan et al. 2018) keeps the $k$ likeliest tokens,
# - **top-p** (Holtzman et al. 2019), or *nucleus*, keeps the fewest likeliest tokens whose
#   probabilities sum to at least $p$. It keeps few tokens where the model is sure, and many where it
#   is not.
#
# Both set the other logits to $-\infty$; the softmax then renormalises. Top-k takes two lines:

# %%
def top_k(logits, k):
    """Logits (vocabulary,) with all but the k largest set to -inf."""
    smallest_kept = logits.sort(descending=True).values[k - 1]
    return logits.masked_fill(logits < smallest_kept, -torch.inf)


assert torch.equal(top_k(logits, 20), keep_top_k(logits, 20))
print("agrees with the library's keep_top_k:", True)


# %% [markdown]
# ### Exercise 4 · Top-p (★★★, 10 min)
#
# The token that makes the sum reach $p$ stays. With probabilities 0.4, 0.3, 0.2 and 0.1, and
# $p = 0.75$, three tokens stay.

# %% tags=["exercise"]
def top_p(logits, p):
    """logits: (batch, vocabulary), p in (0, 1]. Returns logits, those of dropped tokens -inf."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("06.top_p", top_p)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Sort, softmax, `cumsum`. A token is dropped if the tokens *before* it have reached $p$ already.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `logits.sort(descending=True)` also returns `order`. `torch.zeros_like(dropped).scatter(-1, order,
# dropped)` brings a Boolean mask from sorted order back to the vocabulary's.
#
# </details>
#
# **Predict.** After which beginning does top-p with $p = 0.9$ keep more tokens: *The number*, or
# *This function returns a*?

# %% tags=["nbval-ignore-output"]
for text in ("The number", "This is equivalent", "This function returns a"):
    logits = next_logits(prose_ids(text))
    kept = keep_top_p(logits, 0.9).isfinite().sum().item()
    print(f"{text!r}: top-p keeps {kept} tokens, top-k with k = 20 keeps 20")

# %% [markdown]
# Now play. Outlines are the model's own probabilities, bars what the dials leave of them.
#
# **Try this.**
#
# 1. Temperature 0.2, then 2. What happens to the tail, the last bar?
# 2. Temperature 1.5 with top-p 0.9. Compare the number of tokens that stay with temperature 1.
# 3. Press *Take the likeliest* twenty times. Start again, and press *Ten more* instead. Then type a
#    beginning of your own.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import SamplingExplorer

SamplingExplorer(
    prompt,
    [prose_tokenizer.id_to_token(i) for i in range(prose_tokenizer.get_vocab_size())],
    next_logits,
    prose_ids,
    byte_level=True,
)


# %% [markdown]
# ## 5 · Searching: beam search (further)
#
# Greedy decoding takes the best next token each time. That need not give the best *text*: a good first
# token may lead into a poor continuation. **Beam search** keeps several unfinished texts, the *beams*,
# extends each by every token, and keeps the best again. The score of a text is its log-probability,
# the sum over its tokens.
#
# ### Exercise 5 · One step of beam search (★★★, 10 min)
#
# Texts are tuples of tokens. Token 0 ends a text.

# %% tags=["exercise"]
def beam_step(beams, log_probabilities, num_beams):
    """beams: a list of (tokens, score). log_probabilities(tokens) returns (vocabulary,).

    A beam that ends with token 0 is finished: it stays as it is and competes with the others.
    Returns the num_beams best (tokens, score), best first.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("06.beam_step", beam_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Make one list of all candidates, of all beams together. Sort it once.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `for token, value in enumerate(log_probabilities(tokens).tolist())` gives each continuation and its
# log-probability. `(*tokens, token)` is the longer text.
#
# </details>
#
# Does it find the best text? For three tokens we can try all: the caption model has 44 tokens, so
# there are $44^3 = 85{,}184$ continuations.

# %%
from zoo_lessons.generation import beam_search


@torch.no_grad()
def log_probability(ids, after):
    """Log-probability of each row's tokens from position `after` on: ids (batch, length)."""
    log_p = model(ids[:, :-1]).logits.log_softmax(dim=-1)  # (batch, length - 1, vocabulary)
    each = log_p.gather(-1, ids[:, 1:, None])[..., 0]  # (batch, length - 1)
    return each[:, after - 1 :].sum(dim=-1)


def compare_searches(text, steps=3):
    """The log-probability that each search reaches, and the best of all continuations."""
    start = encode_batch(tokenizer, [text], add_bos=True).input_ids  # (1, length)
    every = torch.cartesian_prod(*[torch.arange(config.vocab_size)] * (steps - 1))
    every = torch.cat([start.expand(len(every), -1), every], dim=1)
    with torch.no_grad():
        last = model(every).logits[:, -1].log_softmax(dim=-1)  # the third token, all at once
    found = {"best of all": (log_probability(every, start.shape[1])[:, None] + last).max().item()}
    for beams in (1, 2, 4):
        best = beam_search(model, start, num_beams=beams, max_new_tokens=steps, length_penalty=0)
        found[f"{beams} beams"] = best[0].score
    return found


# %% tags=["nbval-ignore-output"]
for text in ("the green circle is", "a large red moon at the", "a small red circle", "there is a"):
    found = compare_searches(text)
    assert max(found.values()) <= found["best of all"] + 1e-4
    print(f"{text}: ", ", ".join(f"{name} {value:.2f}" for name, value in found.items()))

# %% tags=["nbval-ignore-output"]
start = encode_batch(tokenizer, ["the green circle is"], add_bos=True).input_ids
for beams in (1, 2):
    best = beam_search(model, start, num_beams=beams, max_new_tokens=3, length_penalty=0)[0]
    print(f"{beams} beam(s): {decode_batch(tokenizer, best.ids[None, 1:])[0]}")

# %% [markdown]
# One beam is greedy. After *the green circle is* it takes the likeliest next word, whose continuations
# then share the probability among many; a second beam has kept a word that starts a likelier text. Two
# beams looked at a few hundred texts and came to the best of 85,184. That need not be so: see whether a
# line above misses it. Beam search promises nothing.
#
# But is the *likeliest* text what we want? On to the next section.
#
# A detail: longer texts have more factors below 1, so a sum of log-probabilities favours short texts.
# `beam_search` therefore divides a finished text's score by its length to the power `length_penalty`.

# %% [markdown]
# ## 6 · What goes wrong
#
# The same model, the same beginning, four ways to choose.

# %% tags=["nbval-ignore-output"]
import textwrap


def write_prose(text, **options):
    """The text and 70 tokens more; ¶ is the end of a paragraph."""
    ids = torch.tensor([prose_ids(text)])
    chance = torch.Generator().manual_seed(1)
    found = generate(prose_model, ids, max_new_tokens=70, generator=chance, **options)[0]
    written = prose_tokenizer.decode(found[1:].tolist(), skip_special_tokens=False)
    return written.replace("<|endoftext|>", " ¶ ")


ways = {
    "greedy": {"temperature": 0.0},
    "temperature 1": {"temperature": 1.0},
    "top-p 0.9": {"temperature": 1.0, "top_p": 0.9},
    "temperature 2": {"temperature": 2.0},
}
for name, options in ways.items():
    print(f"--- {name}")
    print(textwrap.fill(write_prose(prompt, **options), 96))

# %% [markdown]
# Greedy runs in circles: once a phrase has occurred, the model finds it likelier still. Temperature 2
# is word salad. In between the text has the *sound* of documentation and no sense; one million
# parameters learn grammar and habit, not facts. And nothing in the text says which sentence is true.
#
# The model also knows nothing beyond what it has read. So how does it end the sentence that this lesson
# began with?

# %% tags=["nbval-ignore-output"]
probability = next_logits(prose_ids("The cat sat on the")).softmax(dim=-1)
likeliest = zip(*probability.topk(6), strict=True)
ends = [f"{prose_tokenizer.decode([token.item()])!r} {p:.1%}" for p, token in likeliest]
mat = prose_tokenizer.encode(" mat").ids[0]
place = int((probability > probability[mat]).sum()) + 1
print("The cat sat on the ...", ", ".join(ends))
print(f"' mat' has {probability[mat]:.2%} and comes at place {place} of {len(probability):,}")

# %% [markdown]
# No documentation has ever told it where cats sit. (Such beginnings of words as it does offer lead into
# the terms of programmers.)
#
# How much does each way repeat itself? The record measured 48 continuations of held-out paragraphs: the
# share of runs of four tokens that have occurred before in the same continuation.

# %%
record = load_record("gpt_repetition")["figures"]
print("                   repeated runs      seen in training   loss under the model itself")
for name, row in record["ways"].items():
    share, low, high = row["repetition"]
    interval = f"({max(low, 0):.0%} to {high:.0%})"
    print(
        f"{name:18} {share:4.0%} {interval:14} {row['seen'][0]:10.0%} {row['nats'][0]:19.2f} nats"
    )

# %% [markdown]
# Compare each line with the first, the true continuations.
#
# - **Greedy and beam search run in circles**, which true text hardly ever does.
# - **And yet their texts are far likelier than the true one**: look at the last column. True text is not
#   the likeliest text. People do not say what everybody expects. Searching harder for likely text, as
#   beam search does, makes this worse. Where there is one right answer, as in translation, it helps.
# - **Temperature 1** is as surprising as true text and does not repeat itself. But part of its surprise
#   is the tail: nonsense where a person would have put meaning.
# - **Top-k and top-p** are less surprising than true text, without circles. Which mix of dull and
#   strange you want depends on the use. There is no best setting.

# %% [markdown]
# ## 7 · The key-value cache
#
# Writing token $t$, the model reads all $t$ tokens again, though only one is new. Is anything about the
# old tokens different? The causal mask says no: section 1 showed that later tokens do not influence
# earlier outputs, in any layer. So the keys and values of old tokens stay what they were. **Keep them.**
# The new token needs its own query, key and value; its query asks all keys.

# %%
from zoo_lessons.layers import MultiHeadAttention, scaled_dot_product_attention

layer = MultiHeadAttention(16, num_heads=1).eval()


def attend(x_new, cache):
    """x_new: (batch, 1, d_model). cache: a dict with the keys and values so far."""
    q, k, v = layer.qkv(x_new).chunk(3, dim=-1)  # each (batch, 1, d_model), for a single head
    cache["k"] = torch.cat([cache["k"], k], dim=1)  # (batch, tokens so far, d_model)
    cache["v"] = torch.cat([cache["v"], v], dim=1)
    output, _ = scaled_dot_product_attention(q, cache["k"], cache["v"])
    return layer.out(output)


x = torch.randn(2, 6, 16)
cache = {"k": torch.zeros(2, 0, 16), "v": torch.zeros(2, 0, 16)}
with torch.no_grad():
    step_by_step = torch.cat([attend(x[:, t : t + 1], cache) for t in range(6)], dim=1)
    at_once = layer(x, mask=causal_mask(6))
assert torch.allclose(step_by_step, at_once, atol=1e-6)
print("token by token with a cache, all at once with a mask: the same", True)

# %% [markdown]
# Note what is missing: no mask. A single new token may look at everything in the cache. (Several new
# tokens at once need a mask among themselves. `causal_mask(queries, keys)` makes it: the queries are
# the *last* positions.)
#
# The library's `KeyValueCache` does the same in each layer. The model must then give the same logits as
# without:

# %%
from zoo_lessons.layers import KeyValueCache

ids = torch.tensor([prose_ids("If the argument is None, the default is used.")])
cache = KeyValueCache(prose_model.config.num_layers)
with torch.no_grad():
    steps = [prose_model(ids[:, t : t + 1], cache=cache).logits for t in range(ids.shape[1])]
    whole = prose_model(ids).logits
assert torch.allclose(torch.cat(steps, dim=1), whole, atol=1e-4)
print("with the cache and by recomputation: the same logits", True)


# %% [markdown]
# ### Exercise 6 · Find the bug: the cache that drifts (★★☆, 6 min)
#
# A colleague passes the positions by hand. The text begins well, then drifts off. The next cell shows
# the difference; repair the function.

# %% tags=["exercise"]
def logits_with_cache(model, prompt_ids, new_ids):
    """Logits after the prompt and after each new token: (batch, 1 + new, vocabulary)."""
    cache = KeyValueCache(model.config.num_layers)
    logits = [model(prompt_ids, cache=cache).logits[:, -1]]
    for step in range(new_ids.shape[1]):
        position_ids = torch.full((len(new_ids), 1), cache.length + 1)
        output = model(new_ids[:, step : step + 1], position_ids=position_ids, cache=cache)
        logits.append(output.logits[:, -1])
    return torch.stack(logits, dim=1)


# %%
with torch.no_grad():
    with_cache = logits_with_cache(prose_model, ids[:, :5], ids[:, 5:])
print("same logits as recomputation:", torch.allclose(with_cache, whole[:, 4:], atol=1e-4))

# %% tags=["check"]
lab.check("06.cache_position", logits_with_cache)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Positions count from 0. A prompt of 5 tokens has the positions 0 to 4.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# What is `cache.length` at the moment when the position is computed?
#
# </details>
#
# ### What it saves
#
# One more token after 127, with the cache and without, on your machine:

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import compare

ids = blocks[:1]  # (1, 128)
cache = KeyValueCache(prose_model.config.num_layers)
with torch.no_grad():
    prose_model(ids[:, :-1], cache=cache)
stored = [(layer_cache.keys, layer_cache.values) for layer_cache in cache]


@torch.no_grad()
def one_step():
    for layer_cache, (keys, values) in zip(cache, stored, strict=True):  # as before the last token
        layer_cache.keys, layer_cache.values = keys, values
    return prose_model(ids[:, -1:], cache=cache)


@torch.no_grad()
def recompute():
    return prose_model(ids)


comparison = compare({"with cache": one_step, "without": recompute}, rounds=5)
print(f"without the cache: {comparison.ratio('without'):.1f} times as long")

# %% [markdown]
# The gain grows with the text. Recorded with a larger model:

# %% tags=["nbval-ignore-output"]
from matplotlib.ticker import LogLocator

record = load_record("kv_cache")
figures = record["figures"]
print(record["machine"]["device"], "·", record["date"], "· torch", record["machine"]["torch"])
fig = lab.lines(
    {name: [1000 * s for s in seconds] for name, seconds in figures["seconds"].items()},
    figures["lengths"],
    title="Time of one more token",
    x_axis="tokens so far",
    y_axis="milliseconds",
    log="xy",
)
fig.axes[0].yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
for which in (fig.axes[0].yaxis.set_minor_formatter, fig.axes[0].yaxis.set_major_formatter):
    which("{x:.0f}")
lab.show_figure(
    fig,
    f"A GPT of {figures['parameters'] / 1e6:.1f} M parameters. Without a cache, each token costs as "
    "much as reading the whole text again.",
    "Line chart with logarithmic axes: milliseconds for one more token against the tokens so far, 16 "
    "to 512. Without a cache the time rises with the length; with a cache it stays nearly level.",
)
slower = figures["times_slower_without"]
print(f"without the cache: {slower[0]:.1f} to {slower[-1]:.1f} times as long")


# %% [markdown]
# A text of $m$ tokens costs $1 + 2 + \dots + m \approx m^2/2$ token computations without the cache, and
# $m$ with it. The price is memory. Each layer keeps a key and a value of $d_\text{model}$ numbers for
# each token:
#
# $$ \text{bytes} = 2 \cdot \text{layers} \cdot \text{batch} \cdot n \cdot d_\text{model} \cdot \text{bytes per number} $$

# %%
def cache_bytes(config, tokens, batch=1, bytes_per_number=4):
    return 2 * config.num_layers * batch * tokens * config.d_model * bytes_per_number


assert cache.nbytes == cache_bytes(prose_model.config, tokens=cache.length)
print(f"our model, {cache.length} tokens: {cache.nbytes:,} bytes, as the formula says")
gpt2 = GPTConfig.small()
print(f"GPT-2 small, 1024 tokens, float16: {cache_bytes(gpt2, 1024, 1, 2) / 1e6:.1f} MB per text")
print(f"the same for 64 texts at once: {cache_bytes(gpt2, 1024, 64, 2) / 1e9:.1f} GB")
print(f"GPT-2 small's weights in float16: {124_439_808 * 2 / 1e9:.2f} GB")  # section 10 counts them

# %% [markdown]
# Serving many users fills the memory with caches, not with weights. Lesson 21 manages them.

# %% [markdown]
# ## 8 · Use: only captions that can be drawn
#
# A model that writes captions is useful when a program can rely on them: every caption a sentence that
# the drawing program understands. Ours breaks the rules now and then. Train longer? That helps, and
# promises nothing. Instead, **forbid wrong tokens while writing.** At each step, ask the grammar which
# words may follow, and set all other logits to $-\infty$.

# %%
from zoo_lessons.datasets.shapes.grammar import CaptionGrammar

grammar = CaptionGrammar()
print("after 'a small red':", sorted(grammar.next_words(["a", "small", "red"])))
print("after 'a small red ring above':", grammar.next_words("a small red ring above".split()))
for text in ("the red ring is above the blue star", "the cat sat on the mat"):
    print(f"{text!r} is a caption:", grammar.accepts(text.split()))


# %%
def only_captions(ids):
    """ids of a text so far -> the ids that may follow."""
    words = [tokenizer.id_to_token(token) for token in ids[1:]]  # without [BOS]
    allowed = grammar.next_words(words)  # "" stands for the end
    return [tokenizer.token_to_id(word) if word else EOS_ID for word in allowed]


def share_valid(ids):
    """The share of texts, ids (batch, length) from [BOS] on, that are captions."""
    texts = decode_batch(tokenizer, ids[:, 1:])
    return sum(grammar.accepts(tokenizer.encode(text).tokens) for text in texts) / len(texts)


# %% tags=["nbval-ignore-output"]
valid = {}
for temperature in (0.5, 1.0, 1.5):
    for name, rule in {"free": None, "constrained": only_captions}.items():
        ids = write_captions(200, temperature=temperature, allowed_tokens=rule)
        valid[temperature, name] = share_valid(ids)
    print(f"temperature {temperature}: ", end="")
    print(", ".join(f"{n} {valid[temperature, n]:.1%} valid" for n in ("free", "constrained")))

# %%
assert all(share == 1 for (_, name), share in valid.items() if name == "constrained")
print("constrained: all captions valid, at each temperature:", True)
print(
    "free: some invalid at temperature 1 and 1.5:", max(valid[1.0, "free"], valid[1.5, "free"]) < 1
)

# %% [markdown]
# From here it is a small step to **filling in a form**: two shapes, both with their sizes, and the first
# one a red triangle, which no training caption ever showed. The grammar allows only captions with two
# objects in the canonical wording; the order fixes two of the words.

# %%
two_shapes = CaptionGrammar(num_objects=(2,), wordings=["canonical"])
order = {2: "red", 3: "triangle"}  # place in the caption: the word that must stand there


def as_ordered(ids):
    words = [tokenizer.id_to_token(token) for token in ids[1:]]
    allowed = two_shapes.next_words(words)
    if len(words) in order:
        allowed = allowed & {order[len(words)]}
    return [tokenizer.token_to_id(word) if word else EOS_ID for word in allowed]


ordered = decode_batch(tokenizer, write_captions(4, seed=2, allowed_tokens=as_ordered)[:, 1:])
assert all("red triangle" in text for text in ordered)
print("four captions, all with a red triangle:", True)

# %%
from zoo_lessons.datasets.shapes import Scene, ShapeObject, render


def scene_of(caption):
    """The scene of a canonical caption with two objects."""
    words = caption.split()
    relation = "left to right" if "left" in words else "top to bottom"
    places = {"left to right": ("left", "right"), "top to bottom": ("top", "bottom")}[relation]
    described = (words[1:4], words[-3:])  # size, colour, shape of each
    return Scene(
        tuple(
            ShapeObject(shape, color, size, place)
            for (size, color, shape), place in zip(described, places, strict=True)
        )
    )


# %% tags=["nbval-ignore-output"]
import matplotlib.pyplot as plt

fig, axes = plt.subplots(1, 4, figsize=(9, 2.9))
for ax, text in zip(axes, ordered, strict=True):
    ax.imshow(render(scene_of(text), 96, "easy", 0))
    ax.set_title(textwrap.fill(text, 20), fontsize=9, fontweight="normal")
    ax.set_axis_off()
lab.show_figure(
    fig,
    "Written by the model, ordered by us, drawn by the shapes world: every caption has its picture.",
    "Four small pictures, each with two coloured shapes and its caption above. In each, one of the "
    "shapes is a red triangle.",
)

# %% [markdown]
# A constraint has a price that is easy to miss. The model does not know that it will be constrained, so
# it spends probability on beginnings that it would later have left. The texts are valid, but they are
# not distributed as "the model's texts, given that they are valid". For that one would have to draw
# freely and throw the invalid ones away.

# %% [markdown]
# ## 9 · Read the real thing
#
# The whole model is one `forward`:

# %%
lab.show_source(GPT.forward, without_docstring=True)

# %%
lab.show_source(generate, without_docstring=True)

# %% [markdown]
# ### The same in transformers
#
# `GPT2LMHeadModel` is Hugging Face's GPT-2. We give it random weights, load them into ours, and compare
# logits, greedy texts and beam search.

# %%
from transformers import GPT2Config, GPT2LMHeadModel

from zoo_lessons.weights import from_transformers

sizes = {"vocab_size": 500, "n_positions": 64, "n_embd": 48, "n_layer": 3, "n_head": 4}
theirs = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)).eval()
with torch.no_grad():
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)  # GPT-2's own start is so small that all logits are nearly equal
ours = from_transformers(theirs)

ids = torch.randint(1, 500, (1, 10))
with torch.no_grad():
    mine, reference = ours(ids).logits, theirs(ids).logits
difference = (mine - reference).abs().max() / reference.abs().max()
print("largest difference of the logits below 0.00001:", difference.item() < 1e-5)

# %%
new = {"max_new_tokens": 20, "pad_token_id": 0}
greedy = theirs.generate(ids, do_sample=False, **new)
beams = theirs.generate(ids, do_sample=False, num_beams=4, **new)
assert torch.equal(generate(ours, ids, max_new_tokens=20, eos_token_id=0), greedy)
best = beam_search(ours, ids, num_beams=4, max_new_tokens=20, eos_token_id=0)[0]
assert torch.equal(best.ids, beams[0])
print("same greedy text and same beam-search text:", True)

# %% [markdown]
# | | GPT-2 paper | this course | `transformers` |
# |---|---|---|---|
# | parameters of the smallest model | 117 M | 124.4 M | 124.4 M |
# | output layer | shares the embedding (GPT, 2018) | shares it | shares it; may be untied |
# | weights of linear layers | not spelled out | `Linear`, (out, in) | `Conv1D`, (in, out) |
# | activation | GELU (GPT, 2018) | its tanh approximation | the same |
# | temperature 0 | not defined | greedy | `do_sample=False` |
# | ties at the k-th place | not defined | all kept | all kept |
# | padding of prompts | none | on the left | on the left |
#
# The paper's count of 117 M is too low; the next section counts.
#
# With a network you can go on with the real GPT-2, 548 MB from the Hugging Face hub. Set `wanted` to
# `True`. Without one, the cell says what to do instead.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.weights import load_pretrained, load_tokenizer

wanted = False
if wanted:
    try:
        real, real_tokenizer = load_pretrained("gpt2"), load_tokenizer("gpt2")
        ids = torch.tensor([real_tokenizer.encode("The cat sat on the").ids])
        written = generate(real, ids, max_new_tokens=30, temperature=0.8, top_p=0.9)
        print(real_tokenizer.decode(written[0].tolist()))
    except FileNotFoundError as problem:
        print(problem)
else:
    print("Nothing was downloaded. The lesson goes on with its own model.")

# %% [markdown]
# ## 10 · What it costs
#
# **Parameters.** GPT-2 small has width $d = 768$, 12 layers, 50,257 tokens and 1,024 positions. Term
# by term:

# %%
c, d = gpt2, gpt2.d_model
terms = {
    "token embedding, V · d": c.vocab_size * d,
    "positions, n · d": c.max_length * d,
    "attention, 12 · (4d² + 4d)": c.num_layers * (4 * d * d + 4 * d),
    "feed-forward, 12 · (8d² + 5d)": c.num_layers * (8 * d * d + 5 * d),
    "LayerNorms, 12 · 4d + 2d": c.num_layers * 4 * d + 2 * d,
    "output layer, shared": 0,
}
for name, count in terms.items():
    print(f"{name:30} {count:12,}  {count / sum(terms.values()):5.1%}")
print(f"{'together':30} {sum(terms.values()):12,}")
with torch.device("meta"):  # counts without allocating
    assert sum(terms.values()) == sum(p.numel() for p in GPT(gpt2).parameters())

# %% [markdown]
# **Computing.** Each weight of a matrix takes part in one multiplication and one addition per token:
# about $2N$ FLOPs per token, $N$ being the parameters without the two tables that are only looked up,
# but with the output layer. Attention adds $4\,d\,n$ per layer for a token that looks at $n$ others.

# %%
weights = sum(terms.values()) - c.max_length * d  # the token table counts as the output layer
for n in (1, 128, 1024):
    attention = 4 * d * n * c.num_layers
    print(
        f"context {n:4}: {2 * weights / 1e6:.0f} + {attention / 1e6:5.1f} million FLOPs per token, "
        f"attention's own share {attention / (2 * weights + attention):.0%}"
    )

# %% [markdown]
# Training takes about three times as much, $6N$ per token: the backward pass costs twice the forward
# pass. When writing with a cache, one text at a time, each token must read all $N$ weights from memory
# to do $2N$ operations; memory, not arithmetic, then sets the pace. Lessons 19 and 21 use that.
#
# **Beside `transformers`.** The recorded table of models: same weights, how far the outputs are apart
# (relative to the largest), how much code, how large, how fast.

# %% tags=["nbval-ignore-output"]
lab.model_table(load_record("model_table"), ["Transformer", "GPT", "BERT-Base"])

# %% [markdown]
# ## Quiz

# %%
lab.quiz("06")

# %% [markdown]
# ## Summary
#
# - A causal mask turns an encoder into a decoder: no output depends on later tokens, so each position
#   can learn to predict the next token, all positions in one pass.
# - Perplexity is $e^{\text{loss}}$; only bits per byte compare across tokenizers. A tuned n-gram is the
#   baseline to beat.
# - Greedy and beam search find likely texts and run in circles; temperature, top-k and top-p trade
#   repetition against nonsense.
# - A key-value cache gives the same logits for one token's work, and costs memory that grows with the
#   text.
# - **Next:** [07 BERT](07_bert.ipynb) fills holes instead of writing on. **Read:** Radford et al. 2019,
#   [Language Models are Unsupervised Multitask
#   Learners](https://cdn.openai.com/better-language-models/language_models_are_unsupervised_multitask_learners.pdf),
#   section 2; Holtzman et al. 2019, [The Curious Case of Neural Text
#   Degeneration](https://arxiv.org/abs/1904.09751), sections 3 and 4; Chen & Goodman 1998, *An
#   Empirical Study of Smoothing Techniques for Language Modeling*, section 2.
