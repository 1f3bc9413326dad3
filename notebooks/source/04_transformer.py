# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 04 · The Transformer
#
# *How do these parts become a machine that translates?*
#
# After this lesson you can
#
# - assemble encoder and decoder blocks from attention, feed-forward, residuals and LayerNorm
# - tell post-norm from pre-norm, and measure what each does to gradients by depth
# - train a Transformer with teacher forcing to translate captions into French
# - read word order out of the cross-attention, and check the reading
#
# **Time:** 60 minutes · **You need first:** [03 Positional encodings](03_positional_encodings.ipynb)
#
# **On the zoo map:** part I, Foundations · **New parts:** Token embedding, Feed-forward network, Residual, post-norm, Residual, pre-norm, Cross-attention · **Models:** Transformer
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/04_transformer.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F04_transformer.ipynb) · [Solutions](solutions/04_transformer.ipynb)

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

lab.begin("04")

# %% [markdown]
# ## The question
#
# Here are sentences about pictures, in English and in French. They come from the *shapes world*, a
# small generated world that the whole course trains on.

# %%
from zoo_lessons.datasets.shapes import translation_pairs

train_pairs = translation_pairs("train", 10_000)
for english, french in train_pairs[:4]:
    print(english, "\n   ", french)

# %% [markdown]
# Compare *a small blue circle* with *un petit cercle bleu*: the colour moves behind the noun. It also
# changes its form with the noun's gender: a grey circle is *gris*, but a grey star is *grise*, because
# *étoile* is feminine. And *above a star* is *au-dessus d'une étoile*, where two words have merged.
#
# So the machine we want cannot translate word by word. For each French word it must know which
# English words matter now, wherever they stand, and what it has written so far. **How do attention
# and positions become a machine that translates?** What is still missing is small: a layer that
# computes, a way to stack layers without breaking them, and a second kind of block.

# %% [markdown]
# ## 1 · A layer that computes: feed-forward
#
# A Transformer is a stack of equal **blocks**. The first half of a block is the attention of lesson 02.
# It moves information between tokens, but its output is only a weighted mean of values. The second
# half computes something *from* what has arrived. It is a small network with one hidden layer,
# applied to each token by itself:
#
# $$ \text{FFN}(x) = \max(0,\; x W_1 + b_1)\, W_2 + b_2 $$
#
# $W_1$ widens the token from $d_\text{model}$ to $d_\text{ff}$ numbers (`up`), $\max(0, \cdot)$ is
# the activation ReLU, and $W_2$ narrows it again (`down`). The 2017 paper takes
# $d_\text{ff} = 4\, d_\text{model}$.
#
# "By itself" means that a loop over the tokens gives the same result as one call:

# %%
import torch

from zoo_lessons.layers import FeedForward

feed_forward = FeedForward(d_model=8, d_ff=32, activation="relu")
x = torch.randn(2, 5, 8)  # (batch, tokens, d_model)

one_by_one = torch.stack([feed_forward(x[:, t]) for t in range(5)], dim=1)
at_once = feed_forward(x)  # (batch, tokens, d_model)
assert torch.allclose(one_by_one, at_once, atol=1e-6)
print("shape", tuple(at_once.shape), "· token by token gives the same:", True)

# %% [markdown]
# ## 2 · Stacking without breaking
#
# One block is not enough: later blocks should build on what earlier ones found. So we stack them.
# What happens to the gradient when it travels back through a stack?
#
# **Predict.** A stack of 24 blocks, freshly initialised. The gradient enters at the top with size 1.
# How much of it arrives at the bottom?

# %%
from torch import nn

from zoo_lessons.layers import MultiHeadAttention


def gradient_through(join, depth=24, width=64):
    """Size of the gradient at the bottom of a stack whose gradient at the top has size 1."""
    torch.manual_seed(0)
    x = start = torch.randn(1, 16, width, requires_grad=True)
    for _ in range(depth):
        for sublayer in (MultiHeadAttention(width, 4), FeedForward(width, 4 * width, "relu")):
            x = join(x, sublayer, nn.LayerNorm(width))
    top = torch.randn_like(x)
    (bottom,) = torch.autograd.grad(x, start, top / top.norm())
    return bottom.norm().item()


plain = gradient_through(lambda x, f, norm: f(x))
print(f"plain stack: less than 1e-15 arrives: {plain < 1e-15}")


# %% [markdown]
# Nothing arrives. Each layer shrinks the gradient a little, and 48 shrinkings in a row leave nothing.
# The bottom layers would never learn. Two additions cure this.
#
# ### The residual connection
#
# Add the input of a layer to its output:
#
# $$ y = x + f(x) $$
#
# The derivative of $y$ with respect to $x$ is $1 + f'(x)$. The 1 is a road on which the gradient
# passes untouched, however small $f'$ is.
#
# ### LayerNorm
#
# Sums grow: after many additions the numbers are large. **LayerNorm** brings each token back to mean
# 0 and variance 1 over its own $d$ numbers, then scales with a trained gain $g$ and shifts with a
# trained bias $b$:
#
# $$ \text{LN}(x) = \frac{x - \mu}{\sqrt{\sigma^2 + \epsilon}} \odot g + b, \qquad
# \mu = \frac{1}{d}\sum_i x_i, \quad \sigma^2 = \frac{1}{d}\sum_i (x_i - \mu)^2 $$
#
# $\epsilon$ is a small number that avoids a division by zero. $\odot$ multiplies number by number.
#
# ### Exercise 1 · LayerNorm (★☆☆, 8 min)

# %% tags=["exercise"]
def layer_norm(x, gain, bias, eps=1e-5):
    """Normalise each token of x (batch, tokens, d) over its own d numbers.

    gain, bias: (d,). Returns a tensor of the shape of x.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("04.layer_norm", layer_norm)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Which axis do the $d$ numbers of one token lie along? `keepdim=True` keeps the mean in a shape that
# can be subtracted.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `x.var(...)` divides by $d - 1$ unless you pass `unbiased=False`. The formula divides by $d$.
#
# </details>

# %% [markdown]
# ### Before or after?
#
# There are two places for the norm, and the choice matters:
#
# $$ \text{post-norm: } \text{LN}(x + f(x)) \qquad\qquad \text{pre-norm: } x + f(\text{LN}(x)) $$
#
# The 2017 paper and BERT use post-norm. GPT-2, ViT and most models since use pre-norm, which leaves
# the road through the additions completely free.
#
# ### Exercise 2 · An encoder block (★★☆, 8 min)
#
# An **encoder block** is attention, then feed-forward, each with a residual and a norm. Write the
# post-norm block of the paper.

# %% tags=["exercise"]
def post_norm_block(x, attention, feed_forward, norm1, norm2):
    """x: (batch, tokens, d_model). The other arguments are functions of such a tensor.

    Returns a tensor of the same shape.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("04.post_norm_block", post_norm_block)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two lines, one per sub-layer. Each is "add, then normalise".
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The second line starts from the result of the first, not from the block's input.
#
# </details>

# %% [markdown]
# ### Gradient against depth
#
# Now the same stack of 24 blocks, joined in five ways.

# %%
joins = {
    "plain": lambda x, f, norm: f(x),
    "norm only": lambda x, f, norm: norm(f(x)),
    "residual only": lambda x, f, norm: x + f(x),
    "post-norm": lambda x, f, norm: norm(x + f(x)),
    "pre-norm": lambda x, f, norm: x + f(norm(x)),
}
arrives = {name: gradient_through(join) for name, join in joins.items()}
for name in ("post-norm", "pre-norm"):
    print(f"{name}: between 0.01 and 100 arrives: {0.01 < arrives[name] < 100}")

# %% [markdown]
# One seed and one depth could be luck. The next figure has ten seeds and depths from 1 to 64. It
# takes a minute to compute, so it was recorded by `make record`. Its weights start as the
# Transformer's of section 3 do, larger than those of `nn.Linear` above. So the plain stack loses its
# gradient more slowly than in our cell, and a residual without a norm lets it grow faster.

# %%
from zoo_lessons.records import load_claim, load_record

record = load_record("c05_gradient_depth")["figures"]
medians = {name: values["gradient"][1] for name, values in record["joins"].items()}
fig = lab.lines(
    medians,
    record["depths"],
    title="Gradient that arrives at the first block",
    x_axis="blocks in the stack",
    y_axis="gradient at the bottom / at the top",
    log="xy",
)
fig.axes[0].set(ylim=(1e-10, 1e6))
lab.show_figure(
    fig,
    "Plain stacks lose the gradient, residuals alone let it explode. With a norm it stays within a "
    f"factor of ten of 1. Medians over {record['seeds']} seeds; the plain line goes on below the frame.",
    "Line chart with logarithmic axes: gradient ratio against 1 to 64 blocks. Between 16 and 32 "
    "blocks, plain leaves the frame at the bottom and residual only at the top. Norm only, "
    "post-norm and pre-norm stay between 0.1 and 10.",
)

# %% [markdown]
# One line is a surprise: *norm only*, without any residual, keeps the gradient alive too. Is the
# residual needed at all? Look at what such a stack does to the **tokens**. The next figure shows how
# similar the tokens of one sentence are to each other at the top: 1 means that they all point in the
# same direction.

# %%
alike = {name: values["similarity"][1] for name, values in record["joins"].items()}
fig = lab.lines(
    {name: alike[name][:5] for name in ("norm only", "post-norm", "pre-norm")},
    record["depths"][:5],
    title="Similarity of the tokens at the top",
    x_axis="blocks in the stack",
    y_axis="mean cosine similarity",
    log="x",
)
lab.show_figure(
    fig,
    "Without residuals all tokens are the same after two blocks: attention takes means, and means of "
    "means are all alike. Residuals hold each token's own content longer, pre-norm longest.",
    "Line chart: mean cosine similarity of tokens against 1 to 16 blocks. Norm only is at 1 from two "
    "blocks on. Post-norm rises to about 1 at 16 blocks, pre-norm to about 0.7.",
)
lab.show_claim(load_claim("C05"))

# %% [markdown]
# So the claim holds, with a division of labour: the residual keeps gradients from vanishing and
# tokens apart for longer, the norm keeps gradients from exploding. But depth has its price: at 16
# blocks the tokens of a post-norm stack, too, are nearly alike. All of this is at initialisation;
# lesson 05 trains deep stacks of both kinds.

# %% [markdown]
# ## 3 · Encoder and decoder
#
# The **encoder** is a stack of the blocks above. It reads the English sentence, and each token sees
# all others. Its output, one vector per English token, is called the **memory**.
#
# The **decoder** writes the French sentence from left to right. Its block has a third sub-layer:
#
# 1. *Masked self-attention* over the French words so far. The causal mask of lesson 01 hides the
#    rest.
# 2. **Cross-attention**: queries come from the French side, keys and values from the memory. This is
#    where a French word looks at English words.
# 3. Feed-forward.

# %%
encoder_boxes = [
    ("English tokens", "input"),
    ("embedding + positions", "input"),
    ("self-attention", "attention"),
    ("feed-forward", "feed-forward"),
]
decoder_boxes = [
    ("French tokens so far", "input"),
    ("embedding + positions", "input"),
    ("masked self-attention", "attention"),
    ("cross-attention", "cross"),
    ("feed-forward", "feed-forward"),
    ("next French token", "output"),
]
print(" -> ".join(name for name, _ in decoder_boxes))

# %%
from zoo_lessons.lab.diagrams import stack_diagram

fig = stack_diagram(
    {"Encoder": encoder_boxes, "Decoder": decoder_boxes},
    repeated={"Encoder": (2, 3, "N ×"), "Decoder": (2, 4, "N ×")},
    arrows=[(("Encoder", 3), ("Decoder", 3), "memory")],
)
lab.show_figure(
    fig,
    "The Transformer of 2017. Every box inside a dashed frame has a residual connection and a "
    "LayerNorm. The memory goes to the cross-attention of every decoder block.",
    "Diagram of two stacks. Encoder: English tokens, embedding plus positions, then N times "
    "self-attention and feed-forward. Decoder: French tokens, embedding plus positions, then N times "
    "masked self-attention, cross-attention and feed-forward, then the next French token. An arrow "
    "labelled memory leads from the encoder to the decoder's cross-attention.",
)

# %% [markdown]
# Sentences become tensors through a tokenizer: one word, one token. `[BOS]` says "start", `[EOS]`
# says "done", and `[PAD]` fills short sentences up.

# %%
from zoo_lessons.datasets.words import decode_batch, encode_batch, word_tokenizer

to_english = word_tokenizer(english for english, _ in train_pairs)
to_french = word_tokenizer(french for _, french in train_pairs)
source = encode_batch(to_english, [english for english, _ in train_pairs])
target = encode_batch(to_french, [french for _, french in train_pairs], add_bos=True, add_eos=True)

print(
    "vocabularies:", to_english.get_vocab_size(), "English,", to_french.get_vocab_size(), "French"
)
print(train_pairs[1][1])
print(target.input_ids[1].tolist())

# %% [markdown]
# Now the model. `Transformer` puts together what you know: embeddings times $\sqrt{d_\text{model}}$
# plus sinusoidal positions, encoder, decoder, and an output layer that scores every French word. The
# output layer reuses the embedding table (section 3.4 of the paper). For its sake the table starts
# with small numbers; the factor $\sqrt{d_\text{model}}$ makes the words as large as the positions.

# %%
from zoo_lessons.models import Transformer, TransformerConfig

config = TransformerConfig(
    vocab_size=to_english.get_vocab_size(),
    target_vocab_size=to_french.get_vocab_size(),
    d_model=64,
    num_layers=2,
    num_heads=4,
    d_ff=256,
    dropout=0.0,
)
model = Transformer(config)
output = model(source.input_ids[:3], source.attention_mask[:3], target.input_ids[:3, :-1])
print("memory", tuple(output.encoder_last_hidden_state.shape), "(batch, English tokens, d_model)")
print("logits", tuple(output.logits.shape), "(batch, French tokens, French vocabulary)")

# %% [markdown]
# ### The same in PyTorch
#
# PyTorch has `nn.TransformerEncoder` and `nn.TransformerDecoder`. We copy their weights into ours
# and compare.

# %%
from zoo_lessons.layers import causal_mask
from zoo_lessons.models.transformer import Decoder
from zoo_lessons.weights import from_torch

layer = nn.TransformerDecoderLayer(64, 4, 256, batch_first=True, dropout=0.0)
theirs = nn.TransformerDecoder(layer, num_layers=2).eval()
ours = from_torch(Decoder(config), theirs).eval()

y, memory = torch.randn(2, 6, 64), torch.randn(2, 9, 64)
with torch.no_grad():
    difference = ours(y, memory, causal_mask(6)) - theirs(y, memory, tgt_mask=~causal_mask(6))
print("largest difference below 0.00001:", difference.abs().max().item() < 1e-5)


# %% [markdown]
# Note the `~`: in `nn.TransformerDecoder`, True means *may not look*. Where the sources differ:
#
# | | paper | this course | `torch.nn.Transformer` | `transformers` (Marian) |
# |---|---|---|---|---|
# | norm | after the sum | either | either | after the sum |
# | last LayerNorm of a stack | none | with pre-norm | always | none |
# | activation | ReLU | ReLU by default | ReLU | SiLU in the published models |
# | positions | sinusoidal | sinusoidal | none | sinusoidal, sines first, cosines after |
# | output layer | the embedding | the embedding | none | the embedding, plus a bias |
# | mask says | hidden scores | True = may look | True = may **not** look | 1 = may look |
#
# A test of this course loads Marian's weights into `Transformer` and compares outputs, gradients and
# translations.

# %% [markdown]
# ## 4 · Teacher forcing
#
# How does one train a writer? At each position, show the decoder the *true* beginning of the
# sentence and ask for the next word. This is **teacher forcing**: even if the model would have
# written something else, the teacher's words stand there. The causal mask lets all positions be
# trained in one pass, because none can see its own answer.
#
# So from one target sentence come two tensors, shifted against each other:
#
# | position | 0 | 1 | 2 | 3 |
# |---|---|---|---|---|
# | decoder sees | [BOS] | un | cercle | bleu |
# | should predict | un | cercle | bleu | [EOS] |
#
# ### Exercise 3 · Teacher forcing (★★☆, 8 min)
#
# Make both tensors from a padded batch of targets. Where the label would be `[PAD]` (id 0), put
# -100: `cross_entropy` skips that value.

# %% tags=["exercise"]
def teacher_forcing(target_ids):
    """target_ids: (batch, length), each row [BOS] ... [EOS] [PAD] ... with ids 1, 2 and 0.

    Returns decoder_input_ids and labels, both (batch, length - 1).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("04.teacher_forcing", teacher_forcing)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Inputs drop the last column, labels drop the first.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `labels.masked_fill(condition, -100)` returns a copy with -100 wherever the condition is True.
#
# </details>

# %% [markdown]
# The loss is the cross-entropy of lesson 03, now over all French positions of the batch. The French
# padding needs no mask of its own: it stands at the end, where the causal mask hides it from every
# real word, and its labels are skipped.

# %%
from torch.nn import functional as F


def translation_loss(model, batch):
    """Mean cross-entropy per French token; batch: ids, mask (batch, n) and targets (batch, m)."""
    input_ids, attention_mask, target_ids = batch
    labels = target_ids[:, 1:].masked_fill(target_ids[:, 1:] == config.pad_token_id, -100)
    logits = model(input_ids, attention_mask, target_ids[:, :-1]).logits  # (batch, m - 1, words)
    return F.cross_entropy(logits.transpose(1, 2), labels)


def batch(step, size=128):
    """A random batch; the same step always gives the same one."""
    generator = torch.Generator().manual_seed(step)
    rows = torch.randint(len(train_pairs), (size,), generator=generator)
    return source.input_ids[rows], source.attention_mask[rows], target.input_ids[rows]


torch.manual_seed(0)
model = Transformer(config)
first = translation_loss(model, batch(0)).item()
print(f"a model that knows nothing should lose about log({config.target_vocab_size}) = "
      f"{torch.tensor(config.target_vocab_size).log():.1f}; between 3 and 8: {3 < first < 8}")  # fmt: skip

# %% [markdown]
# ## 5 · Training
#
# 300 steps with `fit` from lesson 03: AdamW, a learning rate that warms up over 60 steps and then
# falls along a cosine, gradients clipped at norm 1. Lesson 05 asks why each of these is there. This
# takes about half a minute on two cores.

# %% tags=["nbval-ignore-output"]
from functools import partial

from zoo_lessons.training import fit
from zoo_lessons.training.schedules import warmup_cosine

schedule = partial(warmup_cosine, warmup_steps=60, total_steps=300)
history = fit(model, batch, translation_loss, steps=300, lr=3e-3, schedule=schedule)
history

# %% tags=["nbval-ignore-output"]
fig = lab.training_curves(
    {"training": history}, title="Learning to translate", y_axis="loss per token", log="y"
)
lab.show_figure(
    fig,
    "The loss falls from that of a blind guess to almost nothing within 300 steps.",
    "Line chart with a logarithmic axis: loss against step. It starts above 4, falls steeply in the "
    "first 100 steps and ends near 0.005.",
)


# %% [markdown]
# Now the model writes by itself. **Greedy decoding** feeds it `[BOS]`, takes the likeliest next word,
# appends it, and repeats until `[EOS]`.

# %%
def translate(sentences):
    """Translate English sentences, each word the likeliest one."""
    input_ids, attention_mask = encode_batch(to_english, sentences)
    return decode_batch(to_french, model.eval().generate(input_ids, attention_mask, 24))


for sentence in (
    "a small purple cross to the left of a large grey star",
    "the green moon is above the blue heart",
):
    print(sentence, "\n   ", translate([sentence])[0])


# %% [markdown]
# The strict measure is **exact match**: the share of sentences without a single wrong word. We take
# 500 sentences that are not in the training set, and 500 with a colour and shape that were never seen
# *together* in training (a purple cross is one of them).

# %%
def exact_match(split, size=500):
    pairs = translation_pairs(split, size)
    written = translate([english for english, _ in pairs])
    return sum(ours == french for ours, (_, french) in zip(written, pairs, strict=True)) / size


assert not {e for e, _ in train_pairs} & {e for e, _ in translation_pairs("test", 500)}
held_out, composition = exact_match("test"), exact_match("composition")
print("held-out sentences: exact match >= 99 %:", held_out >= 0.99)
print("unseen colour-shape pairs: exact match >= 97 %:", composition >= 0.97)

# %% tags=["nbval-ignore-output"]
print(f"held-out {held_out:.1%}, unseen combinations {composition:.1%} (this run)")

# %% [markdown]
# Such a figure should make you suspicious. Is the task too easy? It is small: some sixty French words
# and a few sentence patterns. Let us try without learning: a dictionary, word by word, and the same
# dictionary with one rule of French grammar, "put the colour behind the noun".

# %%
import re

COLOURS = "red orange yellow green blue purple grey black"
dictionary = dict(
    zip(
        f"{COLOURS} the a an large small circle square triangle star cross heart moon ring is and "
        "above below left right there between centre top bottom to of in at from".split(),
        "rouge orange jaune vert bleu violet gris noir le un un grand petit cercle carré triangle "
        "étoile croix cœur lune anneau est et au-dessus en-dessous gauche droite il-y entre centre "
        "haut bas à de au en de".split(),
        strict=True,
    )
)


def by_rule(english, swap):
    if swap:
        english = re.sub(rf"({COLOURS.replace(' ', '|')}) (\w+)", r"\2 \1", english)
    return re.sub(r"\w+", lambda word: dictionary.get(word[0], word[0]), english)


pairs = translation_pairs("test", 500)
for name, swap in {"word by word": False, "with colours swapped": True}.items():
    right = sum(by_rule(english, swap) == french for english, french in pairs)
    print(f"{name}: {by_rule(pairs[0][0], swap)}\n    exact match {right / 500:.1%}")
print("French:", pairs[0][1])

# %% [markdown]
# Gender, contractions and word order depend on words elsewhere in the sentence. That is what the
# model has learned. And what has it not learned? Anything outside its small world:

# %% tags=["nbval-ignore-output"]
print("the moon is green ->", translate(["the moon is green"])[0])


# %% [markdown]
# This sentence follows none of the patterns that it was trained on. The answer is fluent and wrong,
# and nothing in it says so. Larger models do the same on a larger scale.

# %% [markdown]
# ### Exercise 4 · Find the bug: fine alone, wrong in company (★★★, 10 min)
#
# A colleague wrote the step that scores the next word. Each sentence is translated well by itself.
# But in a batch with longer sentences, short ones get other scores. Run the next two cells to see
# it, then repair the function.

# %% tags=["exercise"]
def next_token_logits(model, input_ids, attention_mask, decoder_input_ids):
    """Scores of the next French token: (batch, target_vocab_size).

    input_ids, attention_mask: (batch, English length). decoder_input_ids: (batch, French so far).
    """
    memory = model.encode(input_ids, attention_mask)
    hidden = model.decode(decoder_input_ids, memory)
    return model.logits(hidden[:, -1])


# %%
sentences = [
    "the moon is green",
    "from left to right, a small blue ring, a red star and a black moon",
]
begin = torch.tensor([[config.bos_token_id]])
torch.manual_seed(0)
untrained = Transformer(config).eval()  # shows the leak more clearly than a trained model
with torch.no_grad():
    alone = next_token_logits(untrained, *encode_batch(to_english, sentences[:1]), begin)
    together = next_token_logits(
        untrained, *encode_batch(to_english, sentences), begin.expand(2, 1)
    )
print("same scores alone and in a batch:", torch.allclose(alone[0], together[0], atol=1e-4))

# %% tags=["check"]
lab.check("04.padding_bug", next_token_logits)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The memory has a vector for every English position, the padding included. Who still looks at those?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Read the arguments of `model.decode` with `help(model.decode)`.
#
# </details>

# %% [markdown]
# ## 6 · Watching words change places
#
# Cross-attention maps show which English words the decoder looks at when it writes each French word.
# Rows are the French words *about to be written*, columns the English words. Open a head of layer 1,
# which is the second. If a row's bright square stands left or right of the diagonal, words change
# places. Type a caption of your own: the model translates it, and the maps follow.

# %%
from zoo_lessons.lab.widgets import AttentionExplorer
from zoo_lessons.layers import record_attention


def look_across(english, french=None):
    """Cross-attention (layers, heads, French, English) while writing; English and French words."""
    french = french or translate([english])[0]
    input_ids, attention_mask = encode_batch(to_english, [english])
    decoder_ids = encode_batch(to_french, [french], add_bos=True).input_ids
    with torch.no_grad(), record_attention(model) as maps:
        model(input_ids, attention_mask, decoder_ids)
    words = to_english.encode(english).tokens
    return maps.stack("cross")[:, 0], words, [*to_french.encode(french).tokens, "[EOS]"]


caption = "the green circle is to the left of the purple star"
AttentionExplorer(*look_across(caption), on_text=look_across, text=caption, layer=1)

# %% [markdown]
# The mean over the heads of the second layer makes it plain:

# %% tags=["nbval-ignore-output"]
maps, english_words, french_words = look_across(caption)
fig = lab.heatmap(
    maps[1].mean(0),
    french_words,
    english_words,
    title="Cross-attention, layer 1, mean of four heads",
    row_axis="French word being written",
    column_axis="English word looked at",
    value="weight",
)
lab.show_figure(
    fig,
    "The row of vert looks at green, one column to the left of what cercle looked at: this is the "
    "reordering. The articles look at the nouns too, whose gender they need.",
    "Heat map of attention weights, French words in rows and English words in columns. Bright squares "
    "follow the sentence, but for each noun and adjective they are swapped.",
)

# %% [markdown]
# ### Is the picture true?
#
# A bright square shows where the model looks, not that the look matters. So we test it. For every
# colour word in 100 held-out sentences we ask two questions. Does the mean map of the second layer
# point at the right English word? And if we *hide* that one word from the cross-attention, does the
# colour go wrong? As a control we hide another word of the same sentence.

# %%
ENGLISH_COLOUR = {
    "rouge": "red", "orange": "orange", "jaune": "yellow", "vert": "green", "verte": "green",
    "bleu": "blue", "bleue": "blue", "violet": "purple", "violette": "purple", "gris": "grey",
    "grise": "grey", "noir": "black", "noire": "black",
}  # fmt: skip


def next_word(english, french_ids, hidden=None):
    """The next French word when one English position is hidden from the cross-attention."""
    input_ids, visible = encode_batch(to_english, [english])
    memory = model.encode(input_ids)  # the encoder still reads the whole sentence
    if hidden is not None:
        visible[0, hidden] = 0
    logits = model.logits(model.decode(french_ids, memory, visible)[0, -1])
    return to_french.id_to_token(logits.argmax().item())


# %% tags=["nbval-ignore-output"]
import random
from collections import Counter

counts, chooser = Counter(), random.Random(0)
for english, french in translation_pairs("test", 100):
    maps, english_words, french_words = look_across(english, french)
    ids = encode_batch(to_french, [french], add_bos=True).input_ids
    for row, word in enumerate(french_words):
        source_word = ENGLISH_COLOUR.get(word)
        if english_words.count(source_word) != 1:
            continue  # not a colour, or the sentence names this colour twice
        place = english_words.index(source_word)
        other = chooser.choice([i for i in range(len(english_words)) if i != place])
        counts["colours"] += 1
        counts["points at its word"] += int(maps[1].mean(0)[row].argmax()) == place
        with torch.no_grad():
            for name, hidden in {"its word": place, "another word": other}.items():
                right = next_word(english, ids[:, : row + 1], hidden) == word
                counts[f"right with {name} hidden"] += right

share = {name: count / counts["colours"] for name, count in counts.items()}
for name, value in share.items():
    print(f"{name:32} {counts[name]:4}  {value:.0%}")

# %%
print("the map points at the right word in over 95 %:", share["points at its word"] > 0.95)
print(
    "colours right with another word hidden, over 95 %:",
    share["right with another word hidden"] > 0.95,
)
print(
    "colours right with their word hidden, under 40 %:", share["right with its word hidden"] < 0.4
)

# %% [markdown]
# Here the picture is true: the word that the map points at is the word that the model uses. Keep in
# mind that this is one small model and one kind of word. Lesson 02 showed pictures that looked as
# convincing and meant less.

# %% [markdown]
# ## 7 · Claims: distance and parallel training
#
# Two claims of overview articles can be checked now.
#
# ### Gradients over distance
#
# **C02: attention avoids the vanishing gradient that RNNs have over long sequences.** Lesson 01
# measured attention alone. Next to recurrent networks, at initialisation, it looks like this. Two of
# them start in a way that is known to help: the RNN with an orthogonal matrix from state to state,
# which by itself shrinks nothing, and the LSTM with forget gates that a bias of 1 holds open.

# %%
record = load_record("c02_gradient_distance")["figures"]
medians = {name: values["gradient"][1] for name, values in record["models"].items()}
fig = lab.lines(
    medians,
    record["distances"],
    title="Gradient of the last output at the first token",
    x_axis="distance (tokens)",
    y_axis="gradient norm",
    log="xy",
)
fig.axes[0].set(ylim=(1e-8, 3))
lab.show_figure(
    fig,
    f"Medians over {record['seeds']} seeds. Recurrent networks multiply by a factor at every step; "
    "attention shares one gradient among all tokens.",
    "Line chart with logarithmic axes: gradient norm against distance from 1 to 256 tokens. All four "
    "recurrent networks fall out of the frame, the plain RNN first; attention and the Transformer "
    "block fall slowly in proportion to 1/n.",
)
lab.show_claim(load_claim("C02"))

# %% [markdown]
# ### Training time per token
#
# **C35: parallel computation makes training faster than an RNN's.** A Transformer trains on all
# positions at once; an LSTM has to step through them. A CPU with two cores can run little in
# parallel, so this is a hard test. Both models have the same width and about the same number of
# parameters. `make record` timed their training steps in turn, on the machine named below.

# %% tags=["nbval-ignore-output"]
record = load_record("c35_training_speed")
figures = record["figures"]
print(record["machine"]["device"], "·", record["date"], "· torch", record["machine"]["torch"])
fig = lab.lines(
    {
        "training step": figures["training"]["ratio"],
        "forward pass only": figures["forward"]["ratio"],
        "LSTM": [1.0] * len(figures["lengths"]),
    },
    figures["lengths"],
    title="Time of the Transformer relative to the LSTM",
    x_axis="tokens in a sequence",
    y_axis="Transformer's time / LSTM's time",
    log="x",
)
lab.show_figure(
    fig,
    "Below 1 the Transformer is faster. Its cost per token grows with the length; the LSTM's does not.",
    "Line chart: ratio of the Transformer's time to the LSTM's against sequence length, for a "
    "training step and for the forward pass alone, with a reference line at 1.",
)
lab.show_claim(load_claim("C35"))

# %% [markdown]
# ## 8 · Read the real thing
#
# The block that you wrote in exercise 2, as the library has it. `Residual` holds the norm; the same
# class serves post-norm and pre-norm.

# %%
from zoo_lessons.layers.blocks import EncoderBlock, Residual

lab.show_source(Residual)

# %%
lab.show_source(EncoderBlock)

# %% [markdown]
# And the loop that writes the translation:

# %%
lab.show_source(Transformer.generate)


# %% [markdown]
# ## 9 · What it costs
#
# **Parameters.** With width $d$ and hidden width $d_\text{ff}$, attention has $4d^2 + 4d$ parameters,
# the feed-forward $2 d\, d_\text{ff} + d + d_\text{ff}$, a LayerNorm $2d$. An encoder block has one
# attention and two norms, a decoder block two attentions and three norms.

# %%
def block_parameters(d, d_ff, attentions, norms):
    return attentions * (4 * d * d + 4 * d) + (2 * d * d_ff + d + d_ff) + norms * 2 * d


for name, sizes in {"ours": config, "paper's base": TransformerConfig.base()}.items():
    encoder = sizes.num_layers * block_parameters(sizes.d_model, sizes.d_ff, 1, 2)
    decoder = sizes.num_layers * block_parameters(sizes.d_model, sizes.d_ff, 2, 3)
    words = (sizes.vocab_size + (sizes.target_vocab_size or 0)) * sizes.d_model
    total = encoder + decoder + words
    with torch.device("meta"):  # counts without allocating
        assert total == sum(p.numel() for p in Transformer(sizes).parameters())
    print(f"{name}: encoder {encoder:,}, decoder {decoder:,}, embeddings {words:,}, all {total:,}")

# %% [markdown]
# The paper's table 3 gives 65 million for the base model. We count a little less. One reason may be
# the vocabulary, of which the paper says only that it has "about 37000" tokens.
#
# **Computing.** A block with $n$ tokens takes $8 n d^2$ FLOPs for the four projections, $4 n^2 d$ for
# attention and $4 n d\, d_\text{ff}$ for the feed-forward. With $d_\text{ff} = 4d$ that is
# $24 n d^2 + 4 n^2 d$: attention's own part overtakes the rest only when $n > 6d$.

# %%
for d, n in ((64, 12), (64, 384), (512, 512), (512, 8192)):
    rest, attention = 24 * n * d**2, 4 * n**2 * d
    print(f"d = {d:3}, n = {n:4}: attention's share {attention / (attention + rest):.0%}")

# %% [markdown]
# **Writing** is slower than reading. `generate` runs the decoder once per word, each time over all
# words so far: $m$ words cost $1 + 2 + \dots + m \approx m^2 / 2$ token computations instead of $m$.
# Lesson 06 keeps the keys and values of earlier words in a cache and computes each word once.

# %% [markdown]
# ## Quiz

# %%
lab.quiz("04")

# %% [markdown]
# ## Summary
#
# - A block moves information between tokens (attention), then computes on each token (feed-forward).
# - Residual connections and LayerNorm let blocks be stacked: gradients neither vanish nor explode,
#   and tokens stay apart for longer.
# - The decoder adds a causal mask and cross-attention to the memory. Teacher forcing trains all its
#   positions at once.
# - In our translator, cross-attention shows colours changing places, and hiding a word shows that
#   the picture is true.
# - **Next:** [05 Training stability](05_training_stability.ipynb). **Read:** Vaswani et al. 2017,
#   [Attention Is All You Need](https://arxiv.org/abs/1706.03762), sections 3.1, 3.3 and 3.4; Xiong et
#   al. 2020, [On Layer Normalization in the Transformer
#   Architecture](https://arxiv.org/abs/2002.04745), section 3; Dong et al. 2021, [Attention is not
#   all you need](https://arxiv.org/abs/2103.03404), section 2, on tokens that become alike.
