# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 07 · BERT: pre-training
#
# *What can a model learn from text with holes in it?*
#
# After this lesson you can
#
# - build BERT's input from token, segment and position embeddings
# - mask 15 % of the tokens by the 80/10/10 rule, and say why the rule is needed
# - pre-train a small BERT, and judge it against unigram and bigram baselines
# - account for the 110.1 million parameters of BERT-Base term by term
#
# **Time:** 55 minutes · **You need first:** [04 The Transformer](04_transformer.ipynb)
#
# **On the zoo map:** part II, The zoo · **New parts:** Segment embedding, Class token, Masked-language head, Next-sentence head · **Models:** BERT, MiniLM
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/07_bert.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F07_bert.ipynb) · [Solutions](solutions/07_bert.ipynb)

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

lab.begin("07")

# %% [markdown]
# ## The question
#
# *The cat [MASK] on the mat.* One word is hidden. You can say a lot about it: a verb, in the past,
# done by cats, and followed by *on*. You know this from the words on **both** sides. The GPT of
# lesson 06 reads from left to right. At the same place it knows *The cat*, and no more.

# %%
sentence = "the cat [MASK] on the mat".split()
hole = sentence.index("[MASK]")
print("GPT  sees:", " ".join(sentence[:hole]))
print("BERT sees:", " ".join(sentence))

# %% [markdown]
# Why does GPT not look ahead? Because it would see the answer: the next word stands right there.
# BERT (2018) has another way out. It cuts holes into the text and asks for what was in them. Then
# every token may look at every other, and no text needs a label from a person. **What can a model
# learn from text with holes in it?**
#
# Sections 1 to 5 are the *core*. Sections 6 and 7 go *further*.

# %% [markdown]
# ## 1 · Words in pieces
#
# A vocabulary of whole words is never complete. BERT's vocabulary holds *pieces*: frequent words
# are one piece, rare ones are put together from several. The method is called **WordPiece**. A
# piece that does not begin a word is written with `##` in front.
#
# Where do the pieces come from? Start with single letters. Then, again and again, join one pair of
# neighbours into a new piece. Here is that training on the text of the Python language reference,
# which every Python carries for its `help()`.

# %%
import re
from collections import Counter

from zoo_lessons.datasets.prose import paragraphs

text = " ".join(paragraphs("reference", "train")).lower()
words = Counter(re.findall("[a-z]+", text))
pieces = {word: [word[0], *(f"##{letter}" for letter in word[1:])] for word in words}
print("mask ->", [*"m", *(f"##{letter}" for letter in "ask")])


def count_pairs():
    """How often each pair of neighbours occurs in the text."""
    pairs = Counter()
    for word, parts in pieces.items():
        for pair in zip(parts, parts[1:], strict=False):
            pairs[pair] += words[word]
    return pairs


# %%
def join(pair):
    """Replace the pair by one piece, in every word."""
    joined = pair[0] + pair[1].removeprefix("##")
    for parts in pieces.values():
        place = 0
        while place < len(parts) - 1:
            if (parts[place], parts[place + 1]) == pair:
                parts[place : place + 2] = [joined]
            place += 1
    return joined


# %% tags=["nbval-ignore-output"]
merges = []
for _ in range(12):
    pair, count = count_pairs().most_common(1)[0]
    merges.append(join(pair))
    print(f"{pair[0]:>5} + {pair[1]:6} -> {merges[-1]:7} {count:6} times")

# %% [markdown]
# Letters become endings and small words within a few steps. Is this what the library does? We let
# it train on the same words and look at its first joins.

# %%
from zoo_lessons.datasets.subwords import WORDPIECE_SPECIAL_TOKENS, train_wordpiece

library = train_wordpiece([" ".join(words.elements())], vocab_size=120)
by_id = sorted(library.get_vocab(), key=library.token_to_id)
longer = [piece for piece in by_id if len(piece.removeprefix("##")) > 1]
joined = [piece for piece in longer if piece not in WORDPIECE_SPECIAL_TOKENS]
print("the library's first joins are ours:", joined[: len(merges)] == merges)

# %% [markdown]
# One remark. Joining the *most frequent* pair is what byte-pair encoding does, and what the trainer
# in `tokenizers` does under the name WordPiece. The original WordPiece (Schuster and Nakajima,
# 2012) joins the pair that makes the text most likely, roughly the one with the largest
#
# $$ \frac{\text{count}(ab)}{\text{count}(a)\,\text{count}(b)} $$
#
# This favours pieces that hardly occur without each other:

# %% tags=["nbval-ignore-output"]
single, pairs = Counter(), count_pairs()
for word, parts in pieces.items():
    for part in parts:
        single[part] += words[word]
likely = {pair: count / (single[pair[0]] * single[pair[1]]) for pair, count in pairs.items()}
print("most frequent next: ", [a + b.removeprefix("##") for (a, b), _ in pairs.most_common(5)])
best = sorted(likely, key=likely.get, reverse=True)[:5]
print("most likely next:   ", [a + b.removeprefix("##") for a, b in best])


# %% [markdown]
# What both have in common is how they *cut* a word afterwards.
#
# ### Longest match first
#
# To cut a word, take the longest piece of the vocabulary that the word begins with. Go on with the
# rest, now among the pieces with `##`. If nothing fits, the whole word becomes `[UNK]`.
#
# ### Exercise 1 · WordPiece (★★☆, 10 min)

# %% tags=["exercise"]
def my_wordpiece(word, vocabulary):
    """Cut a word into pieces, the longest match first.

    word: a string without spaces. vocabulary: a set of pieces, those inside words with ## in front.

    Returns a list of pieces, or ["[UNK]"] if some part of the word matches nothing.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("07.wordpiece", my_wordpiece)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Keep a number `start`: how much of the word is cut already. Try `end` from `len(word)` downwards.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The candidate is `word[start:end]`, with `"##"` in front if `start` is not 0. Python's `for ...
# else` says what happens when no candidate was found.
#
# </details>

# %% [markdown]
# Does the library cut by this rule too? We take the vocabulary of a small BERT that section 5
# loads. For each piece the library gives, we look for a longer one that would have fitted.

# %%
from zoo_lessons.checkpoints import load_trained, trained_tokenizer

tokenizer = trained_tokenizer("bert_prose")  # 2000 pieces, trained on all the prose of section 5
vocabulary = set(tokenizer.get_vocab())


def is_longest(piece, rest):
    """Whether no longer piece than this one begins the rest of the word."""
    mark = "##" if piece.startswith("##") else ""
    length = len(piece) - len(mark)
    return not any(mark + rest[:end] in vocabulary for end in range(length + 1, len(rest) + 1))


wrong = 0
for word in words:
    rest = word
    for piece in tokenizer.encode(word, add_special_tokens=False).tokens:
        wrong += not is_longest(piece, rest)
        rest = rest[len(piece.removeprefix("##")) :]
print("pieces that were not the longest match:", wrong)

# %% [markdown]
# Next to it the vocabulary of a real model. MiniLM uses BERT's own 30,522 pieces, trained on books
# and Wikipedia.

# %%
from zoo_lessons.weights import load_pretrained, load_tokenizer

minilm, real_tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
print(f"ours {tokenizer.get_vocab_size():,} pieces, MiniLM {real_tokenizer.get_vocab_size():,}")
for sentence in (
    "The cat sat on the mat.",
    "The iterator yields tuples.",
    "Transformers pretrain.",
):
    print()
    for name, each in {"ours": tokenizer, "MiniLM": real_tokenizer}.items():
        tokens = each.encode(sentence, add_special_tokens=False).tokens
        print(f"{name:7} {len(tokens):2}  {' '.join(tokens)}")


# %% [markdown]
# Ours knows *iterator* and *tuple*, and has never heard of cats. A vocabulary is a picture of the
# text that it was trained on.

# %% [markdown]
# ## 2 · Three embeddings, one sum
#
# BERT reads one text, or two at a time: a question and a passage, or sentence A and sentence B. A
# row of input looks like this:
#
# $$ \texttt{[CLS]}\; a_1 \dots a_m\; \texttt{[SEP]}\; b_1 \dots b_n\; \texttt{[SEP]} $$
#
# `[CLS]` stands for the whole row, and `[SEP]` ends a sentence. Which sentence a token belongs to
# is its **segment**: 0 for A, with `[CLS]` and the first `[SEP]`, and 1 for B, with the last
# `[SEP]`. Padding has segment 0.
#
# ### Exercise 2 · Segment ids (★☆☆, 5 min)

# %% tags=["exercise"]
def my_segment_ids(length_a, length_b, length):
    """The segments of a row with length_a and length_b tokens of text, padded to `length`.

    Returns a list of `length` numbers, 0 or 1.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("07.segment_ids", my_segment_ids)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# How many tokens are there before $b_1$? Count `[CLS]` and the first `[SEP]`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Three lists, one after the other: zeros for A, ones for B, zeros for the padding.
#
# </details>

# %%
import torch

encoding = real_tokenizer.encode("the cat sat on the mat", "it fell asleep")
input_ids = torch.tensor([encoding.ids])  # (1, tokens)
token_type_ids = torch.tensor([encoding.type_ids])
for token, segment in zip(encoding.tokens, encoding.type_ids, strict=True):
    print(f"{token}:{segment}", end="  ")

# %% [markdown]
# Each token gets three vectors: one for its piece $w_t$, one for its place $t$, one for its segment
# $s_t$. All three are rows of trained tables. Their sum goes through a LayerNorm:
#
# $$ x_t = \text{LN}\big(E_{w_t} + P_t + S_{s_t}\big) $$
#
# Built by hand from MiniLM's tables, and compared with the library's `BertEmbeddings`:

# %%
embeddings = minilm.embeddings
with torch.no_grad():
    word = embeddings.word.weight[input_ids]  # (1, tokens, d_model)
    place = embeddings.positions.weight.detach()[: input_ids.shape[1]]  # (tokens, d_model)
    segment = embeddings.segment.weight[token_type_ids]  # (1, tokens, d_model)
    total = word + place + segment

    before_norm = []
    hook = embeddings.norm.register_forward_pre_hook(lambda _, given: before_norm.append(given[0]))
    from_library = embeddings(input_ids, token_type_ids)
    hook.remove()

assert torch.allclose(total, before_norm[0], atol=1e-6)
assert torch.allclose(embeddings.norm(total), from_library, atol=1e-5)
print("shape", tuple(from_library.shape), "· equal before and after LayerNorm:", True)

# %%
parts = {
    "word": word[0],
    "position": place,
    "segment": segment[0],
    "sum": total[0],
    "after LayerNorm": from_library[0] * total.std() / from_library.std(),
}
fig = lab.heatmaps(
    {name: part[:, :12] for name, part in parts.items()},
    encoding.tokens,
    row_axis="token",
    column_axis="number 0 to 11 of 384",
    value="value",
    limits=(-0.12, 0.12),
    cmap="coolwarm",
)
lab.show_figure(
    fig,
    "The same word has the same row wherever it stands: compare both 'the'. The segment has "
    "only two different rows. In the sum the two 'the' differ. LayerNorm's output is scaled "
    "down here to the colours of the others.",
    "Five heat maps of 12 tokens by 12 numbers: word, position, segment, their sum, and the sum "
    "after LayerNorm. In the word map, the rows of both 'the' are equal. In the segment map, "
    "the rows of the first sentence are equal to each other, and those of the second too.",
)

# %% [markdown]
# Lesson 03 added positions to words. The segment is one more such signal, with a table of two rows.

# %% [markdown]
# ## 3 · Holes in the text
#
# The first task: hide 15 % of the tokens, and predict them. Why 15 %? Each hole gives one answer to
# learn from, so few holes make learning slow. But every hole also takes a word away from the
# context of the others. The paper took 15 %; later work found that more can be better (Wettig et
# al., 2022).
#
# Hiding has a catch. `[MASK]` occurs in pre-training only, never in the texts that the model is
# used on. A model could learn to work at `[MASK]` alone and neglect all visible words. So of the
# chosen tokens
#
# | share | what the model reads | what it is good for |
# |---|---|---|
# | 80 % | `[MASK]` | it must use the context |
# | 10 % | a random token | it cannot trust what it reads, so it must check each word |
# | 10 % | the token itself | it must not conclude that each visible word is wrong |
#
# All three are predicted. For every other token the label is -100, which the loss leaves out.
#
# **Try this.** Type a sentence and press *Draw again* a few times. Then set the rate to 50 %: could
# *you* still fill the holes?

# %%
from zoo_lessons.lab.widgets import MaskingExplorer


def pieces_of(sentence):
    return real_tokenizer.encode(sentence).tokens


by_id = sorted(real_tokenizer.get_vocab(), key=real_tokenizer.token_to_id)
MaskingExplorer("The cat sat on the mat and looked at the dog.", pieces_of, by_id, draw=4)


# %% [markdown]
# ### Exercise 3 · Mask tokens (★★☆, 10 min)
#
# Chance comes in from outside, so that the check can repeat it. `chance` and `fate` hold a number
# from 0 to 1 for each token. A token is chosen if its `chance` is below 0.15 and it is not special.
# Of the chosen ones, those with `fate` below 0.8 become `[MASK]` (id 4), those from 0.8 to 0.9 take
# the token of `random_ids`, and the rest stay.

# %% tags=["exercise"]
def my_mask_tokens(input_ids, is_special, chance, fate, random_ids):
    """All arguments (batch, length); is_special is Boolean, chance and fate lie in [0, 1).

    Returns masked input ids and labels, both (batch, length).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("07.mask_tokens", my_mask_tokens)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compute the Boolean tensor `chosen` first. Take the labels from `input_ids` before you change
# anything: `input_ids.masked_fill(~chosen, -100)`.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `torch.where(condition, a, b)` takes from a where the condition holds, and from b elsewhere.
#
# </details>

# %% [markdown]
# The library's version draws the numbers itself, from a generator. Over many tokens, the shares
# come out as asked:

# %%
from zoo_lessons.datasets.masking import IGNORED, mask_tokens
from zoo_lessons.datasets.subwords import CLS_ID, MASK_ID, PAD_ID, SEP_ID

generator = torch.Generator().manual_seed(0)
ids = torch.randint(5, 2000, (1000, 64), generator=generator)  # (batch, length)
special = {"mask_token_id": MASK_ID, "special_ids": [PAD_ID, CLS_ID, SEP_ID]}
masked, labels = mask_tokens(ids, vocab_size=2000, **special, generator=generator)

chosen = labels != IGNORED
print(f"chosen {chosen.float().mean():.1%} of all tokens; of these")
print(f"  [MASK]    {(masked == MASK_ID)[chosen].float().mean():.1%}")
print(f"  unchanged {(masked == ids)[chosen].float().mean():.1%}")


# %% [markdown]
# ### The loss
#
# The model gives each position a score for each of the $V$ pieces. The loss is the cross-entropy of
# lesson 03, averaged over the set $C$ of chosen positions **only**:
#
# $$ L = -\frac{1}{|C|} \sum_{t \in C} \log p_t(w_t) $$
#
# Its exponential is the perplexity of lesson 06: among how many equally likely pieces the model
# seems to choose.
#
# ### Exercise 4 · Find the bug: a loss that is too good (★★☆, 8 min)
#
# A colleague reports a loss of 0.9 after one step. Even stranger: the loss falls when the batch has
# more padding. Run the cell below the function, then repair the function.

# %% tags=["exercise"]
def repaired_loss(logits, labels):
    """logits (batch, length, vocabulary); labels (batch, length), -100 where nothing was chosen."""
    chosen = labels != -100
    targets = labels.masked_fill(~chosen, 0)
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return (losses * chosen).mean()


# %%
from torch.nn import functional as F

logits = torch.zeros(2, 20, 2000)  # all 2000 pieces equally likely: the loss must be log 2000 = 7.6
labels = torch.full((2, 20), -100)
labels[:, [3, 8, 11]] = 7
print(f"loss            {repaired_loss(logits, labels):.2f}, should be 7.60")
padded = F.pad(labels, (0, 20), value=-100)
print(f"with padding    {repaired_loss(torch.zeros(2, 40, 2000), padded):.2f}, should be 7.60")

# %% tags=["check"]
lab.check("07.masked_loss", repaired_loss)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# By how many positions does `.mean()` divide? By how many should it?
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.cross_entropy` can do all of it: look up `ignore_index`.
#
# </details>

# %% [markdown]
# ## 4 · Does B follow A?
#
# The second task looks at whole sentences. Sentence B is the true next one in half of the pairs,
# and a sentence from another document in the other half. From the vector of `[CLS]` the model says
# which: label 0 means *next*, label 1 means *random*.
#
# ### Exercise 5 · A pair of sentences (★★☆, 8 min)
#
# Make one pair. `coin` and `draw` are random numbers from 0 to 1. If `coin` is below 0.5, B is the
# next sentence of the document, *if there is one*. Otherwise list all sentences of the *other*
# documents in order, and take the one at place `int(draw * number of them)`.

# %% tags=["exercise"]
def my_sentence_pair(documents, document, place, coin, draw):
    """documents: a list of lists of sentences. A is documents[document][place].

    Returns (A, B, label): two strings, and 0 for next or 1 for random.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("07.sentence_pair", my_sentence_pair)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two conditions must hold for a true pair: the coin, and that A is not the last of its document.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `enumerate(documents)` gives number and document together. Leave out the one with A's number.
#
# </details>

# %% [markdown]
# The text from here on is the prose of section 1 together with the docstrings of the standard
# library and of five scientific packages. Documents are split into training, validation and test,
# and no ten consecutive words occur in two of them. The library's `sentence_pairs` fills a row with
# whole sentences, and exchanges the Bs of half the pairs *among each other*.

# %%
from zoo_lessons.datasets.masking import sentence_pairs
from zoo_lessons.datasets.prose import documents, sentences


def tokenised(split):
    """Documents of sentences of token ids."""
    result = []
    for document in documents("all", split):
        lines = [line for part in document.paragraphs for line in sentences(part)]
        encoded = tokenizer.encode_batch(lines, add_special_tokens=False)
        result.append([each.ids for each in encoded])
    return result


def pairs_of(texts, seed, random_share=0.5):
    ends = {"cls_token_id": CLS_ID, "sep_token_id": SEP_ID, "random_share": random_share}
    return sentence_pairs(texts, length=64, **ends, generator=torch.Generator().manual_seed(seed))


texts = {split: tokenised(split) for split in ("train", "test")}
pairs = pairs_of(texts["train"], seed=0)
print("more than 5,000 pairs of 64 tokens:", len(pairs.input_ids) > 5000)

# %% tags=["nbval-ignore-output"]
for label, name in enumerate(("next", "random")):
    row = (pairs.next_sentence_label == label).nonzero()[0, 0]
    ids, segments = pairs.input_ids[row], pairs.token_type_ids[row]
    a, b = (tokenizer.decode(ids[segments == s].tolist()) for s in (0, 1))
    print(f"{name}\n  A {a}\n  B {b}")

# %% [markdown]
# Why exchange Bs, instead of drawing new sentences? Because then wrong Bs are the true Bs of other
# pairs. If wrong ones were, say, shorter on average, a model could win without reading A.
#
# But one thing does give the answer away: a wrong B comes from another document, and so it has
# another *topic*.
#
# **Predict.** How often is it right to say "next" when A and B share words, with rare words counting
# more? A coin gives 50 %.

# %%
from zoo_lessons.records import load_claim, load_record

record = load_record("bert_prose")["figures"]
shared = record["next_sentence"]["shared words"]
print(f"right by shared words, on held-out pairs: {shared:.0%}")

# %% [markdown]
# Counting shared words needs no model. Keep this number in mind: it is what a next-sentence head
# has to beat. (It comes from the record of section 5, as the others there.)

# %% [markdown]
# ## 5 · Pre-training
#
# The model is the encoder of lesson 04 with two heads on top: one scores pieces at each position,
# and one reads `[CLS]`, by way of one more layer called the *pooler*. The losses of both tasks are
# added.

# %%
from functools import partial

from zoo_lessons.models import BertConfig, BertForPreTraining
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.schedules import warmup_linear


def pretraining_loss(model, batch):
    """Masked tokens plus next sentence; batch: pairs with holes, and their labels."""
    pairs, labels = batch
    encoded = model.bert(pairs.input_ids, pairs.attention_mask, pairs.token_type_ids)
    chosen = labels != IGNORED
    scores = model.predictions(encoded.last_hidden_state[chosen])  # (chosen, vocabulary)
    relation = model.seq_relationship(encoded.pooler_output)  # (batch, 2)
    return F.cross_entropy(scores, labels[chosen]) + F.cross_entropy(
        relation, pairs.next_sentence_label
    )


generator = torch.Generator().manual_seed(0)


def next_batch(step):
    rows = pairs.rows(torch.arange(32 * step, 32 * step + 32) % len(pairs.input_ids))
    masked, labels = mask_tokens(rows.input_ids, vocab_size=2000, **special, generator=generator)
    return rows._replace(input_ids=masked), labels


# %% [markdown]
# We train for some seconds. One trick saves time: the output bias starts at the logarithm of each
# piece's frequency, so that the model need not learn how frequent *the* is.

# %% tags=["nbval-ignore-output"]
trained = load_trained("bert_prose")  # see below
seed_everything(0)
live = BertForPreTraining(trained.config)
every_id = torch.tensor([id for text in texts["train"] for line in text for id in line])
counts = torch.bincount(every_id, minlength=2000) + 1.0
with torch.no_grad():
    live.predictions.decoder.bias.copy_((counts / counts.sum()).log())

schedule = partial(warmup_linear, warmup_steps=300, total_steps=record["steps"])
history = fit(live, next_batch, pretraining_loss, steps=120, lr=3e-3, schedule=schedule)
print(f"loss of the first 20 steps {history.loss[:20].mean():.2f}, "
      f"of the last 20 {history.loss[-20:].mean():.2f}")  # fmt: skip

# %% [markdown]
# Very little happened. Holes make learning slow: only 15 % of the tokens give an answer, where GPT
# gets one at each token but the first. `make record ARGS=bert_prose` ran the same training for
# longer. Its curve shows what was about to come:

# %% tags=["nbval-ignore-output"]
curve = record["curve"]
fig = lab.lines(
    {"recorded": curve["loss"]},
    curve["step"],
    title="Pre-training on prose",
    x_axis="step (32 pairs of up to 64 tokens)",
    y_axis="loss of both tasks (nats)",
    markers=False,
    log="x",
)
smooth = history.loss.reshape(-1, 10).mean(axis=1)  # means of ten steps
fig.axes[0].plot(range(10, 121, 10), smooth, color="#d55e00", linestyle="--", label="just now")
fig.axes[0].legend()
lab.show_figure(
    fig,
    "For a long time the model knows only how frequent each piece is. Then it finds out that "
    "neighbours matter, and the loss falls. The run of a moment ago is the dashed start. The axis "
    "of the steps is logarithmic.",
    "Line chart with a logarithmic axis: loss against training steps. The line falls slowly at "
    "first, then steeply. A short dashed line lies at the very beginning.",
)

# %% [markdown]
# ### Is it any good?
#
# A perplexity means little without something to compare it with. Three counts from the same
# training text answer the same questions, at the same holes of held-out documents:
#
# - **unigram**: how frequent is each piece?
# - **bigram**: which piece follows the left neighbour?
# - **two-sided bigram**: which piece fits between both neighbours?
#
# **Predict.** The small BERT sees both sides, up to 60 other pieces. Which of the three does it beat?

# %% tags=["nbval-ignore-output"]
print(f"{'':18} perplexity  right at first guess   ({record['holes']:,} holes)")
for name, result in record["masked"].items():
    print(f"{name:18} {result['perplexity']:10.1f}  {result['accuracy']:.1%}")

# %%
perplexity = {name: result["perplexity"] for name, result in record["masked"].items()}
print("better than the unigram:         ", perplexity["BERT"] < perplexity["unigram"])
print("better than the bigram:          ", perplexity["BERT"] < perplexity["bigram"])
print("better than the two-sided bigram:", perplexity["BERT"] < perplexity["two-sided bigram"])

# %% [markdown]
# It beats all three, the last one by a hair: this is one run, and another seed might fall on the
# other side. Think what that means. A table that looks at two neighbours is nearly as good as a
# model that looks at 64 tokens. That is no verdict on BERT. It is what a quarter of a million
# parameters and less than an hour on one processor core give. The paper's run saw 128,000 tokens in
# each of a million steps (appendix A.2).
#
# And the second task?

# %%
for name, value in record["next_sentence"].items():
    print(f"{name:13} {value:.1%}")
print(f"\nperplexity at holes       {record['masked']['BERT']['perplexity']:6.1f}")
for part, result in record["without"].items():
    print(f"  without {part:12}    {result['perplexity']:6.1f}")

# %% [markdown]
# The head is better than a coin, and worse than counting shared words. Whatever it has learned, a
# cheaper rule does more.
#
# The last lines take a part of the input away from the *trained* model: every position, or both
# segments, get the same vector. Without positions nothing is left of what it knew: it is worse than
# the unigram. The segments matter too, though much less.

# %% [markdown]
# ### Both sides, or one?
#
# Now the contrast with lesson 06, inside one model. At each hole we hide all tokens to the right,
# or all to the left, with an attention mask. This is not quite fair: BERT was never trained with one
# side missing. But the counts of one side and of both tell the same story.

# %%
from zoo_lessons.layers import record_attention

held_out = pairs_of(texts["test"], seed=7, random_share=0.0).rows(slice(200))
masked, labels = mask_tokens(
    held_out.input_ids, vocab_size=2000, **special, shares=(1.0, 0.0, 0.0),
    generator=torch.Generator().manual_seed(7),
)  # fmt: skip
test = held_out._replace(input_ids=masked)
row, hole = (labels != IGNORED).nonzero().T  # of each hole
answers = labels[row, hole]


@torch.no_grad()
def hole_loss(model, side="both"):
    """Mean loss at the holes in nats. One row of input per hole, 256 of them at a time."""
    place, total = torch.arange(64), 0.0
    for i in torch.arange(len(hole)).split(256):
        left, right = place <= hole[i, None], place >= hole[i, None]
        visible = {"both": left | right, "left": left, "right": right}[side]
        mask = test.attention_mask[row[i]] * visible
        output = model.bert(test.input_ids[row[i]], mask, test.token_type_ids[row[i]])
        scores = model.predictions(output.last_hidden_state[torch.arange(len(i)), hole[i]])
        total += F.cross_entropy(scores, answers[i], reduction="sum").item()
    return total / len(hole)


# %% tags=["nbval-ignore-output"]
import math

import matplotlib.pyplot as plt
import numpy as np

from zoo_lessons.lab.plots import COLORS

sides = {side: math.exp(hole_loss(trained, side)) for side in ("both", "left", "right")}
bars = {
    "unigram": perplexity["unigram"],
    "bigram": perplexity["bigram"],
    "two-sided bigram": perplexity["two-sided bigram"],
    **{f"BERT, {side}": value for side, value in sides.items()},
}
fig, ax = plt.subplots(figsize=(7.5, 3.4))
ax.barh(list(bars), list(bars.values()), color=["#999999"] * 3 + ["#0072b2"] * 3)
ax.bar_label(ax.containers[0], fmt="%.0f", padding=3)
ax.invert_yaxis()
ax.set(title="What each side is worth", xlabel="perplexity at the holes (less is better)")
lab.show_figure(
    fig,
    "Both sides together are worth far more than either one, for counts and for BERT. With one side "
    "hidden BERT is worse than the bigram, which was made for that. The bars of "
    "BERT are over the first 200 test pairs, those of the counts over all.",
    "Bar chart of perplexities: unigram highest among the counts, then bigram, then two-sided "
    "bigram. BERT with both sides is lower than BERT with the left or the right side only.",
)

# %%
print("both sides beat the left one: ", sides["both"] < sides["left"])
print("both sides beat the right one:", sides["both"] < sides["right"])

# %% [markdown]
# ### Fill in the blank
#
# Your turn. This model has read **nothing but Python documentation**: the language reference and
# docstrings. It knows no cats. Write `[MASK]` where a word is missing.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.lab.widgets import Answer, AskBox


def fill(sentence):
    """The eight likeliest pieces for the first [MASK]."""
    encoding = tokenizer.encode(sentence)
    if MASK_ID not in encoding.ids:
        raise ValueError("Write [MASK] where a word is missing.")
    if len(encoding.ids) > 64:
        raise ValueError(f"This has {len(encoding.ids)} tokens; the model reads at most 64.")
    with torch.no_grad():
        scores = trained(torch.tensor([encoding.ids])).prediction_logits[0]
    best = scores[encoding.ids.index(MASK_ID)].softmax(-1).topk(8)
    names = [tokenizer.id_to_token(id) for id in best.indices.tolist()]
    return Answer(
        list(zip(names, best.values.tolist(), strict=True)),
        text=f"{record['parameters']:,} parameters, trained on Python documentation only.",
    )


# %% tags=["nbval-ignore-output"]
AskBox(
    fill,
    label="A sentence with [MASK]",
    button="Fill",
    examples=[
        "This function returns a list [MASK] strings.",
        "If the argument is not given, the default value [MASK] used.",
        "Return True if the [MASK] is empty.",
        "The cat sat on the [MASK].",
    ],
)

# %% [markdown]
# Could we ask MiniLM instead, which was trained on far more text? Its tables and layers are here,
# but it was trained further to compare sentences, and its package carries no masked-word head:

# %%
import safetensors

from zoo_lessons.weights import pretrained_folder

with safetensors.safe_open(pretrained_folder("minilm") / "model.safetensors", "pt") as file:
    names = list(file.keys())
print(len(names), "tensors, of which in a masked-word head:", sum("cls." in name for name in names))

# %% [markdown]
# So nobody can fill blanks with it. What it is good for comes in lesson 08.

# %% [markdown]
# ## 6 · What do the layers look at? (further)
#
# Here is the attention of the trained model, on a sentence with a hole. Look for heads with a bright
# diagonal beside the main one: they look at a neighbour.

# %%
from zoo_lessons.lab.widgets import AttentionExplorer

seed_everything(0)
untrained = BertForPreTraining(trained.config).eval()


def look(sentence, model=trained):
    """Maps (layers, heads, queries, keys) and tokens."""
    encoding = tokenizer.encode(sentence)
    with torch.no_grad(), record_attention(model) as maps:
        model(torch.tensor([encoding.ids]))
    return maps.stack()[:, 0], encoding.tokens


example = "This function returns a list [MASK] strings, or None if the list is empty."
AttentionExplorer(*look(example), on_text=look, text=example)

# %% [markdown]
# One sentence proves nothing, so we count. Over 200 held-out pairs: which share of each head's
# attention goes to the previous token, the next one, the token itself, other occurrences of the
# same piece, and `[CLS]` and `[SEP]`?

# %%
position = torch.arange(64)
offset = position - position[:, None]  # (queries, keys): key minus query
ids = test.input_ids
keys = {
    "previous": (offset == -1).expand(len(ids), -1, -1),
    "next": (offset == 1).expand(len(ids), -1, -1),
    "itself": (offset == 0).expand(len(ids), -1, -1),
    "same piece": (ids[:, None] == ids[:, :, None]) & (offset != 0),
    "[CLS], [SEP]": ((ids == CLS_ID) | (ids == SEP_ID))[:, None].expand(-1, 64, -1),
}  # each (batch, queries, keys)


def attention_shares(model):
    """Mean share of attention per kind of key: name -> (layers, heads)."""
    with torch.no_grad(), record_attention(model) as maps:
        model.bert(test.input_ids, test.attention_mask, test.token_type_ids)
    weights = maps.stack()  # (layers, batch, heads, queries, keys)
    real = test.attention_mask.bool()
    result = {}
    for name, key in keys.items():
        share = (weights * key[:, None]).sum(-1)  # (layers, batch, heads, queries)
        result[name] = share.transpose(2, 3)[:, real].mean(1)
    return result


# %% tags=["nbval-ignore-output"]
before, after = attention_shares(untrained), attention_shares(trained)
heads = [f"{layer}.{head}" for layer in range(2) for head in range(4)]
fig = lab.heatmaps(
    {
        name: torch.stack([share.flatten() for share in shares.values()])
        for name, shares in {"before training": before, "after training": after}.items()
    },
    list(keys),
    heads,
    row_axis="kind of key",
    column_axis="layer.head",
    value="share of attention",
    numbers=True,
    limits=(0, 1),
)
lab.show_figure(
    fig,
    "Before training every head spreads its attention evenly. After training, one head of the "
    "first layer looks at the previous token and another one at the next, and at little else.",
    "Two heat maps with five kinds of keys in rows and eight heads in columns. Before training all "
    "shares are small. After training head 0.0 has 0.9 on the previous token, and head 0.3 on the "
    "next.",
)

# %%
first, second = after["previous"].max().item(), after["next"].max().item()
print("a head with more than half of its attention on the previous token:", first > 0.5)
print("a head with more than half of its attention on the next token:    ", second > 0.5)

# %% [markdown]
# Nobody built this in. In training, the model found the two-sided bigram: one head fetches the left
# neighbour, one the right.

# %% [markdown]
# ### Are these heads used?
#
# A share of attention says where a head looks, not whether it matters. So we silence each head and
# measure the loss at the holes. If neighbour heads do the work, silencing them must hurt most.

# %% tags=["nbval-ignore-output"]
from zoo_lessons.layers import ablate_heads

neighbours = (after["previous"] + after["next"]).flatten()
intact = hole_loss(trained)
cost = []
for layer in range(2):
    for head in range(4):
        with ablate_heads(trained, {f"bert.layers.{layer}.attention": [head]}):
            cost.append(hole_loss(trained) - intact)

fig, ax = plt.subplots(figsize=(6.5, 3.6))
for layer, marker in enumerate("os"):
    own = slice(4 * layer, 4 * layer + 4)
    ax.plot(neighbours[own], cost[own], marker, label=f"layer {layer}")
for name, x, y in zip(heads[:4], neighbours.tolist(), cost, strict=False):
    shift = (-8, 8 if name in ("0.2", "0.3") else -16)
    ax.annotate(name, (x, y), textcoords="offset points", xytext=shift)
ax.set(
    title="Silencing one head",
    xlabel="share of its attention on the two neighbours",
    ylabel="added loss at holes (nats)",
)
ax.legend(loc="center")
lab.show_figure(
    fig,
    "Each point is a head; those of layer 0 have their names. Two heads look at neighbours, and "
    "losing one of them costs many times as much as losing any other.",
    "Scatter plot of eight heads: added loss when silenced against the share of attention on "
    "neighbouring tokens. Six heads lie at the lower left; two lie far up on the right.",
)

# %%
costs = torch.tensor(cost)
two = neighbours.argsort()[-2:]  # the heads that look at neighbours most
others = [head for head in range(8) if head not in two]
print("losing either of the two costs more than 0.5 nats: ", bool(costs[two].min() > 0.5))
print("losing any other head costs less than a third of it:",
      bool(costs[others].max() < costs[two].min() / 3))  # fmt: skip

# %% [markdown]
# Here the picture is true: the heads that look at the neighbours are the ones the model lives on.
# What the second layer does with them, eight numbers cannot say.

# %% [markdown]
# ## 7 · Does each task earn its place? (further)
#
# Two questions remain. Does the 80/10/10 rule do anything that hiding alone does not? And does
# next-sentence prediction help? Each needs several runs with several seeds, and a run on prose is
# long. So `make record ARGS=bert_tasks` asked them on captions of the shapes world, where fewer steps
# do. A document is all captions of one picture. B follows A if both tell of the same picture.

# %%
from zoo_lessons.datasets.shapes import captions, sample_scene

scene = sample_scene(np.random.default_rng(0), num_objects=(2,))
for caption in captions(scene)[:3]:
    print(caption.english)

# %% [markdown]
# The record compares three ways of pre-training, otherwise equal: BERT's own, one in which every
# chosen token becomes `[MASK]`, and one without the next-sentence task. It takes five measures, on
# held-out pictures:
#
# - **filling holes**: share of `[MASK]`s filled rightly, in true pairs;
# - **slips**: one visible word is replaced by a wrong one. How often does the model score the true
#   word above the wrong one that it reads?
# - **visible words**: at words that are not hidden, is the model's first guess the word itself?
# - **colour probe**: can a logistic regression read a shape's colour off the vector of the word
#   *circle*?
# - **next sentence**: accuracy of that head.
#
# **Predict.** Which measure suffers most if every chosen token becomes `[MASK]`? Which suffers
# without the next-sentence task?

# %%
tasks = load_record("bert_tasks")["figures"]
measures = {
    "accuracy": "filling holes",
    "slips": "slips",
    "visible": "visible words",
    "probe": "colour probe",
    "next_sentence": "next sentence",
}
fig, ax = plt.subplots(figsize=(8.5, 3.8))
for index, (arm, runs) in enumerate(tasks["arms"].items()):
    for column, name in enumerate(measures):
        values = [run[name] for run in runs]
        place = column + 0.27 * (index - 1)
        colour, hatch = COLORS[index], ["", "//", ".."][index]
        label = arm if column == 0 else None
        ax.bar(place, np.mean(values), 0.25, color=colour, hatch=hatch, alpha=0.55, label=label)
        ax.plot([place] * len(values), values, "o", color="black", markersize=4)
ax.set_xticks(range(len(measures)), measures.values())
ax.set(title="Three ways of pre-training on captions", ylabel="share right", ylim=(0, 1.05))
ax.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
lab.show_figure(
    fig,
    f"Bars are means, dots are {tasks['seeds']} seeds. Chance is one in eight for the "
    "probe and one in two for the next sentence.",
    "Grouped bars: five measures, for BERT, for always [MASK] and for no next sentence, with a "
    "dot for each seed.",
)

# %% [markdown]
# The differences, with 95 % intervals over the seeds. An interval that contains 0 says nothing.

# %%
found = load_record("c22_bert")["figures"]
for comparison, differences in found.items():
    print(comparison)
    for name, (mean, low, high) in differences.items():
        clear = "" if low <= 0 <= high else "  *"
        print(f"  {measures[name]:14} {mean:+.3f} ({low:+.3f} to {high:+.3f}){clear}")

# %% [markdown]
# Read the stars. **80/10/10** costs nothing at the holes, and shows where nothing is hidden. The
# model that has only ever been asked about `[MASK]` names the word that stands before its eyes only
# about half of the time, and its vectors for visible words tell less about their neighbours.
# Texts without holes are what a pretrained model is used on, so this is the point of the rule. But
# it has a price: a model that has learned to keep most visible words also trusts a wrong one more
# often. That is the measure *slips*, where hiding alone wins.
#
# **Next-sentence prediction** learns its own task, far from perfectly, and leaves the other
# measures where they were, as far as three seeds can tell.
#
# ### Claim C22, measured

# %%
lab.show_claim(load_claim("C22"))

# %% [markdown]
# What do others find? The paper's own table 8 compares mixtures: after fine-tuning they differ
# little, and more where frozen vectors are used. RoBERTa (Liu et al., 2019, section 4.2) drops
# next-sentence prediction and gets better; ALBERT (Lan et al., 2019, section 3.1) says why: telling
# documents apart by topic is too easy, as the shared words of section 4 showed. It asks for the
# *order* of two neighbours instead.

# %% [markdown]
# ## 8 · Read the real thing
#
# The head that scores pieces, and the model around it. Note the last line of the head's `__init__`:
# the decoder's matrix *is* the table of word embeddings.

# %%
from zoo_lessons.models.bert import MaskedTokenHead

lab.show_source(MaskedTokenHead)

# %%
lab.show_source(BertForPreTraining)

# %% [markdown]
# ### The same in transformers
#
# A `transformers` model with random weights, loaded into ours, on a padded batch of pairs:

# %%
import transformers

from zoo_lessons.weights import from_transformers

sizes = {"vocab_size": 2000, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}
settings = transformers.BertConfig(**sizes, intermediate_size=100, max_position_embeddings=64)
theirs = transformers.BertForPreTraining(settings).eval()
with torch.no_grad():
    for parameter in theirs.parameters():
        parameter.normal_(std=0.3)  # at its own small start, all outputs would be nearly equal
ours = from_transformers(theirs)

rows = pairs.rows(slice(8))
inputs = {
    "input_ids": rows.input_ids,
    "attention_mask": rows.attention_mask,
    "token_type_ids": rows.token_type_ids,
}
with torch.no_grad():
    mine, reference = ours(**inputs), theirs(**inputs)
for name in ("prediction_logits", "seq_relationship_logits"):
    a, b = getattr(mine, name), getattr(reference, name)
    print(f"{name}: equal within 0.00001:", bool((a - b).abs().max() < 1e-5 * b.abs().max()))

# %% [markdown]
# | | paper and its code | this lesson | `transformers` |
# |---|---|---|---|
# | holes | a fixed number per row | each token with 15 % | each token with 15 % |
# | when | ten fixed maskings per text | new in each step | new in each step |
# | random token | any piece, special ones too | any ordinary piece | any piece, special ones too |
# | label elsewhere | weight 0 | -100 | -100 |
# | wrong B | from another document | the true B of another document's pair | left to you |
# | label "next" | 0 | 0 | 0 |
# | dropout | 0.1 | 0 here, since the run is short | 0.1 |
# | length of a row | 128, then 512 | 64 | up to 512 |
#
# With a network you can go on with the real BERT-Base, 440 MB from the Hugging Face hub, and ask it
# for the cat. Set `wanted` to `True`. Without a network, the cell says what to do instead.

# %%
wanted = False
if wanted:
    try:
        real = load_pretrained("bert-base-uncased")  # its file names BertForMaskedLM
        ids = real_tokenizer.encode("The cat [MASK] on the mat.").ids
        with torch.no_grad():
            scores = real(torch.tensor([ids])).logits[
                0, ids.index(real_tokenizer.token_to_id("[MASK]"))
            ]
        print([real_tokenizer.id_to_token(id) for id in scores.topk(5).indices.tolist()])
    except FileNotFoundError as problem:
        print(problem)
else:
    print("Nothing was downloaded. The lesson goes on with its own model.")


# %% [markdown]
# ## 9 · What it costs
#
# "BERT-Base has 110 million parameters." Where are they?
#
# ### Exercise 6 · Count BERT's parameters (★★☆, 10 min)
#
# Count the model with both heads. Parts: three tables (words, positions, two segments) and a
# LayerNorm; per layer the four linear layers of attention, two of the feed-forward, and two
# LayerNorms; the pooler ($d$ to $d$); the masked-word head (a linear layer $d$ to $d$, a LayerNorm,
# the *tied* table, and a bias for each word); the next-sentence head ($d$ to 2). Every linear layer
# has a bias.

# %% tags=["exercise"]
def my_bert_parameters(vocabulary, positions, d, d_ff, layers):
    """All parameters of BERT with its pre-training heads, as a whole number."""
    raise NotImplementedError


# %% tags=["check"]
lab.check("07.bert_parameters", my_bert_parameters)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# A linear layer from $n$ to $m$ has $nm + m$ parameters, a LayerNorm $2d$. Section 9 of lesson 04
# has the formula of a layer.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Check yourself against `sum(p.numel() for p in BertForPreTraining(config).parameters())` with a
# small config, part by part.
#
# </details>

# %% [markdown]
# Here are the terms, read off the model itself. `torch.device("meta")` builds it without memory.

# %%
from zoo_lessons.models import BertModel

with torch.device("meta"):
    base = BertForPreTraining(BertConfig.base())


def size(*parts):
    return sum(p.numel() for part in parts for p in part.parameters())


layers = base.bert.layers
terms = {
    "word embeddings": size(base.bert.embeddings.word),
    "positions": size(base.bert.embeddings.positions),
    "segments and LayerNorm": size(base.bert.embeddings.segment, base.bert.embeddings.norm),
    "12 × attention": size(*(layer.attention for layer in layers)),
    "12 × feed-forward": size(*(layer.feed_forward for layer in layers)),
    "12 × 2 LayerNorms": size(
        *(r.norm for layer in layers for r in (layer.residual1, layer.residual2))
    ),
    "pooler": size(base.bert.pooler),
    "masked-word head, without the tied table": size(base.predictions)
    - size(base.bert.embeddings.word),
    "next-sentence head": size(base.seq_relationship),
}
for name, count in terms.items():
    print(f"{name:42} {count:12,}")
print(f"{'together':42} {sum(terms.values()):12,}")
assert sum(terms.values()) == size(base) == 110_106_428

# %%
fig, ax = plt.subplots(figsize=(8, 2.2))
groups = {
    "embeddings": sum(list(terms.values())[:3]),
    "attention": terms["12 × attention"],
    "feed-forward": terms["12 × feed-forward"],
}
groups["all else"] = sum(terms.values()) - sum(groups.values())
left = 0
for index, (name, count) in enumerate(groups.items()):
    label = f"{name}\n{count / 1e6:.1f} M"
    ax.barh(0, count / 1e6, left=left, color=COLORS[index], alpha=0.5, edgecolor="black")
    ax.text(left + count / 2e6, 0 if count > 2e6 else 0.55, label, ha="center", va="center")
    left += count / 1e6
ax.set(title="BERT-Base, 110.1 M parameters", xlabel="millions", yticks=[], ylim=(-0.5, 0.8))
lab.show_figure(
    fig,
    "More than half of BERT is feed-forward. A fifth is the table of 30,522 words.",
    "One stacked bar: embeddings 23.8 million, attention 28.3 million, feed-forward 56.7 "
    "million, all else 1.3 million.",
)

# %% [markdown]
# The paper says 110 M (section 3); this is the part of claim C24 that can be counted. Lessons 17
# and 19 take up the rest of it. Not all of these parameters work for every token: of the word
# table, a token uses one row. And the layout at other sizes:

# %%
with torch.device("meta"):
    models = {
        "BERT-Base with heads": base,
        "BERT-Base, encoder": BertModel(BertConfig.base()),
        "BERT-Large with heads": BertForPreTraining(BertConfig.large()),
        "MiniLM, encoder": BertModel(BertConfig.minilm()),
        "the BERT of this lesson": BertForPreTraining(trained.config),
    }
assert size(models["MiniLM, encoder"]) == size(minilm)
for name, model in models.items():
    table = size((model.bert if hasattr(model, "bert") else model).embeddings.word)
    print(f"{name:24} {size(model):12,}   of which word table {table / size(model):.0%}")

# %% [markdown]
# **Computing.** An encoder costs the same for each token as lesson 04's: $24 d^2 + 4 n d$ FLOPs per
# layer when $d_\text{ff} = 4d$. The head over the vocabulary adds $2 d V$ per *scored* token, which
# is why `pretraining_loss` scores only the holes:

# %%
c, n = BertConfig.base(), 128
encoder = c.num_layers * (24 * c.d_model**2 + 4 * n * c.d_model)
head = 2 * c.d_model * c.vocab_size
print(f"per token: encoder {encoder / 1e6:.0f} MFLOP, word scores {head / 1e6:.0f} MFLOP")
print(f"word scores, share of the whole: {head / (head + encoder):.0%} at every token, "
      f"{0.15 * head / (0.15 * head + encoder):.0%} at the holes only")  # fmt: skip

# %% [markdown]
# ## Quiz

# %%
lab.quiz("07")

# %% [markdown]
# ## Summary
#
# - BERT adds three tables: word pieces, positions, segments. WordPiece cuts a word by the longest
#   match.
# - Of 15 % chosen tokens, 80 % become `[MASK]`, 10 % a random token, 10 % stay. Labels are -100
#   elsewhere, and the loss is a mean over the chosen tokens only.
# - Holes let both sides be seen, but give few answers per text. Our small BERT stays at word
#   frequencies for long, and ends level with a count of both neighbours.
# - Next-sentence prediction can mostly be solved by topic. Judge a model against the cheapest thing
#   that could have done the same.
# - **Next:** [08 Fine-tuning BERT](08_fine_tuning_bert.ipynb). **Read:** Devlin et al. 2018,
#   [BERT](https://arxiv.org/abs/1810.04805), sections 3.1 and 5.1 and appendix A; Liu et al. 2019,
#   [RoBERTa](https://arxiv.org/abs/1907.11692), section 4; Lan et al. 2019,
#   [ALBERT](https://arxiv.org/abs/1909.11942), section 3.1; Wettig et al. 2022, [Should You Mask 15
#   % in Masked Language Modeling?](https://arxiv.org/abs/2202.08005), section 3.
