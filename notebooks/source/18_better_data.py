# ---
# jupyter:
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown] tags=["title-card"]
# # 18 · Better data
#
# *When is another example worth more than another layer?*
#
# After this lesson you can
#
# - augment text by synonyms and back-translation, and look at the errors they bring
# - mix images and labels with MixUp and CutMix
# - train against adversarial examples, and draw robustness curves
# - judge augmentation with several seeds and intervals
#
# **Time:** 60 minutes · **You need first:** [08 Fine-tuning BERT](08_fine_tuning_bert.ipynb) · [09 ViT: images as words](09_vit.ipynb)
#
# **On the zoo map:** part III, Efficiency · **New parts:** Adaptive LayerNorm · **Models:** Transformer, MiniLM, DiT
#
# [Open in Colab](https://colab.research.google.com/github/transformer-zoo-lessons/transformer-zoo-lessons/blob/main/notebooks/18_better_data.ipynb) · [Open in Binder](https://mybinder.org/v2/gh/transformer-zoo-lessons/transformer-zoo-lessons/main?labpath=notebooks%2F18_better_data.ipynb) · [Solutions](solutions/18_better_data.ipynb)

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
# ## The question
#
# A model errs. You may give it another layer, or another example. Lesson 09 measured the second: the
# same small CNN and the same ViT, with more and more labelled digits, tested on people whose
# handwriting neither has seen.

# %%
import torch

from zoo_lessons.records import load_claim, load_record

labels_record = load_record("digits_labels")["figures"]
print("labelled digits " + "".join(f"{count:8,}" for count in labels_record["labels"]))
for network in ("CNN", "ViT"):
    means = torch.tensor(labels_record["accuracy"][network]).mean(dim=0)  # over seeds
    print(f"{network:16}" + "".join(f"{mean:8.1%}" for mean in means))

# %% [markdown]
# With 400 labels, the ViT is where the CNN was with 100: another architecture is worth a lot, and so
# are examples, where they are few. But labels cost somebody's time. Can we make examples out of those
# that we have? (Lesson 09 did so already: it moved and turned each digit a little, anew at each step.
# Section 8 takes even that away, so its figures begin lower.)
#
# **When is another example worth more than another layer?** This lesson makes examples in four ways,
# and asks each time whether they help, by how much, and how sure that is:
#
# - *core*: other wordings of a sentence (sections 1 to 5), mixtures of two images (6 to 8);
# - *further*: images changed to mislead (9 to 11), images that a model has drawn (12 and 13).
#
# Section 14 puts all of them into one table. The sixty minutes above are for the core.

# %% [markdown]
# ## 1 · A small task, and few labels
#
# Something happened to a thing, and somebody tells us. Was the thing bought, lost, found, broken,
# repaired or given away? Six answers, 24 ways of telling each, written by hand for this lesson.

# %%
from zoo_lessons.datasets.what_happened import LABELS, messages

train = messages("train", 5)  # 5 sentences of each answer
test = messages("test", 50)
for message in train[:8]:
    print(f"{LABELS[message.label]:9} {message.text}")
print(f"\n{len(train)} sentences to learn from, {len(test)} to be tested on")

# %% [markdown]
# Things and people are the same for all six answers, so only the way of telling counts. A quarter of
# the test sentences is told in ways that the training split does not have, however many sentences we
# take from it. "We stumbled over the tent in the attic" means *found*, and no word of it says so.
#
# What does a classifier make of 30 sentences? We count words and pairs of words (TF-IDF, as in
# [lesson 08](08_fine_tuning_bert.ipynb)) and give the counts to a logistic regression.

# %% tags=["nbval-ignore-output"]
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline


def word_counter():
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b")
    return make_pipeline(words, LogisticRegression(C=10, max_iter=1000))


test_texts, test_labels = [m.text for m in test], [m.label for m in test]
for number in (5, 20, 80):
    some = messages("train", number)
    model = word_counter().fit([m.text for m in some], [m.label for m in some])
    print(f"{number:2} sentences of each answer: {model.score(test_texts, test_labels):.0%} right")


# %% [markdown]
# Guessing is right in one of six. More sentences help most. When there are no more, could we make
# some, from those that we have?
#
# **Augmentation** makes new training examples $(\tilde x, y)$ from an example $(x, y)$: other inputs,
# same label. For a sentence, other input means other *wording*. We try three ways, from blind to
# clever.

# %% [markdown]
# ## 2 · Synonyms from an embedding table
#
# The obvious way: replace words by synonyms. Where do synonyms come from? The published method takes
# them from a dictionary, WordNet ([Wei & Zou, 2019](https://arxiv.org/abs/1901.11196), section 2). We
# have none here, but we have MiniLM. Its embedding table holds a vector $e_w$ for each word $w$, and
# words that are used alike should point in like directions. The **cosine** measures that:
#
# $$ \cos(v, w) = \frac{e_v \cdot e_w}{\lVert e_v \rVert \, \lVert e_w \rVert} $$
#
# It is 1 for the same direction, 0 for a right angle and -1 for the opposite direction. The length of
# a vector does not count.
#
# ### Exercise 1 · The nearest words (★☆☆, 8 min)

# %% tags=["exercise"]
def nearest_words(vectors, word, count):
    """The rows of the `count` words nearest to row `word` by cosine, the nearest first.

    vectors: (words, d_model), of any length. The word itself is not among the result (count,).
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.nearest_words", nearest_words)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `F.normalize(vectors, dim=-1)` divides each row by its length. Then one matrix-vector product gives
# all cosines.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# The word's cosine with itself is the largest of all. Put something in its place that can never win,
# then take `topk(count).indices`.
#
# </details>

# %% [markdown]
# The library's `WordNeighbours` does the same over the 21,358 whole words of MiniLM's vocabulary.
#
# **Predict.** What are the nearest neighbours of *bought*? Of *disappeared*? Of *red*?

# %%
from zoo_lessons.training.augment_text import WordNeighbours

neighbours = WordNeighbours.from_minilm()
print(f"{len(neighbours.words):,} words")
for word in ("bought", "disappeared", "red", "monday", "sister", "happy"):
    nearest = neighbours.nearest(word, 4, own_forms=False)
    print(f"{word:12}", ", ".join(other for other, _ in nearest))

# %% [markdown]
# *Purchased* and *vanished* are what we hoped for. The others show what the table knows and what it
# does not. It puts words together that occur in the same *places* of a sentence: colours with colours,
# days with days, sister with brother, and even *disappeared* with *reappeared* and *happy* with
# *unhappy*. Opposites are used alike. Where the label hangs on such a word, a neighbour can turn it
# into its opposite, and the label becomes a lie.
#
# We left out other forms of the same word ("bikes" for "bike"), which are the nearest of all. How good
# is the rest? The grammar of section 3 has word lists with many pairs of true synonyms. How often
# is the second word of a pair among the nearest of the first? We asked the table, and, as another way,
# the vectors that MiniLM's six layers give to single words.

# %%
text = load_record("augment_text")["figures"]
found = text["neighbours"]
print(f"{found['pairs']} pairs of synonyms, {found['words']:,} words to choose from")
for way in list(found)[2:]:
    one, three = found[way]["nearest 1"], found[way]["nearest 3"]
    print(f"{way:35} nearest: {one:.0%}   among the 3 nearest: {three:.0%}")

# %% [markdown]
# About half of the pairs are found at once, when other forms of the word are left out. The six layers
# find fewer as the nearest word and a few more among the three nearest, and cost a pass through the
# encoder for each word. So we take the table. Half is not much: as often, the nearest word is another
# one, and some of those change the meaning.
#
# Now replace words: in each sentence a fifth of the words, at least one, each by one of its three
# nearest neighbours. Words that carry grammar (*the*, *was*, *not*) stay.

# %%
import random

from zoo_lessons.training.augment_text import random_edits, replace_words

chance = random.Random(2)
for message in train[:6]:
    print(message.text)
    print("   synonyms:", replace_words(message.text, neighbours, chance))
    print("   blind:   ", random_edits(message.text, chance))


# %% [markdown]
# The lines marked *blind* are a control that knows no language: swap two words, or delete one (two more
# edits of Wei & Zou's, whose fourth inserts a synonym somewhere). If synonyms are worth something, they
# should beat that.
#
# ### Exercise 2 · Copies and their labels (★☆☆, 5 min)
#
# Each copy takes over the label of its original. Write the function that puts originals and copies
# together: first all originals, then the first copy of each, then the second copy of each, and so on.

# %% tags=["exercise"]
def add_copies(texts, labels, change, copies):
    """Texts and labels, originals first, then `copies` rounds of changed texts.

    change(text, number): the copy with this number, 0 for the first, of a text.
    Returns two lists of the same length.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.add_copies", add_copies)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Start with `list(texts)`. In each round, change the *originals*, not what the last round made.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `[0, 1] * 3` is `[0, 1, 0, 1, 0, 1]`. Is that the order of your texts?
#
# </details>

# %% [markdown]
# ## 3 · There and back again
#
# The clever way: **back-translation**. Translate the sentence into French and translate the result
# back. A translation keeps what is said and chooses its own words, and so does the way back:
#
# $$ y \sim p(y \mid x), \qquad \tilde x \sim p(\tilde x \mid y) $$
#
# Here $x$ is the English sentence, $y$ a French one, and $\tilde x$ the paraphrase.
# [Sennrich et al. (2016)](https://arxiv.org/abs/1511.06709) used it to train translators,
# [Xie et al. (2020)](https://arxiv.org/abs/1904.12848) to augment classification. Both words of a pair
# like *bike* and *bicycle* become *vélo* or *bicyclette*, and on the way back either may come out.
#
# We need two translators. Both are the Transformer of [lesson 04](04_transformer.ipynb), trained by
# `make record` on 80,000 pairs of everyday sentences. A grammar writes the pairs, and chooses the
# English and the French wording of each meaning independently:

# %%
from zoo_lessons.datasets.everyday import sentence_pairs

for pair in sentence_pairs("train", 40)[5:12]:
    print(f"{pair.english}\n    {pair.french}")

# %% [markdown]
# *Tarn* and *fep* stand for things whose names are in no vocabulary. No translator knows every word, so
# ours practise: an unknown word is read as [UNK], and where the model writes [UNK], the unknown word is
# put in again ([Luong et al., 2015](https://arxiv.org/abs/1410.8206)).

# %%
from zoo_lessons.translation import Translator, back_translate

to_french = Translator.load("english_to_french")
to_english = Translator.load("french_to_english")
parameters = sum(p.numel() for p in to_french.model.parameters())
print(f"{parameters:,} parameters each, {to_french.tokenizer.get_vocab_size()} words")
for sentence in ("the cat sat on the mat", "the wombat sat on the mat"):
    print(to_french.translate([sentence])[0])

# %%
record = load_record("translators")["figures"]
for direction, figures in record["directions"].items():
    print(f"{direction:18} exact {figures['exact']:.0%}   chrF {figures['chrF']:.2f}")

# %% [markdown]
# On 500 sentences of the grammar, which put events and things together as training never did (but for
# a few short ones, such as "it is broken"), that share of the translations is the reference word by
# word. It cannot be near 100 %: the reference is one of several right wordings, chosen by chance. chrF
# ([Popović, 2015](https://aclanthology.org/W15-3049/)) counts shared runs of letters and forgives more.
#
# One detail decides whether the copies differ. If each word is the likeliest one, the same sentence
# always returns the same way. So we *sample*, as [Edunov et al. (2018)](https://arxiv.org/abs/1808.09381)
# recommend, at temperature 0.7 (lesson 06).
#
# **Predict.** The grammar never wrote sentences like those of our task. How will the translators cope?

# %% tags=["nbval-ignore-output"]
generator = torch.Generator().manual_seed(1)
sentences = [message.text for message in messages("train", 20, seed=1)][:10]
returned = back_translate(to_french, to_english, sentences, temperature=0.7, generator=generator)
for before, french, after in zip(sentences, to_french.translate(sentences), returned, strict=True):
    print(f"{before}\n    {french}\n    {after}")

# %%
coping = text["coping"]
print(f"{coping['sentences']} training sentences of the task")
print(f"written by the grammar, too:        {coping['sentences that the generator wrote']}")
print(f"their runs of three words that are: {coping['three-word runs that it wrote']:.0%}")
print(f"unknown words:                      {coping['unknown words']:.0%}")
print(f"sentences without an unknown word:  {coping['sentences without an unknown word']:.0%}")
print(f"came back unchanged:                {coping['came back unchanged']:.0%}")

# %% [markdown]
# One word in four is unknown to the translators, and only one sentence in twenty has none of these.
# Read the examples again with that in mind. Where a sentence is close to the grammar, it comes back as
# we hoped, in other words. Where it is far from it, the words fall out of order, and sometimes the
# meaning turns round: look for a kite that *stopped working*. A translator is as good as its training
# data, and ours saw none like this. Large translators cope far better; they, too, are at their worst
# where a text is unlike all they have read.
#
# Does the *label* survive? We can count that roughly: each answer has telltale words (*lost*,
# *missing*, *cannot find* ...). Take the sentences that have telltale words of their own answer only.
# How many of their copies still do?

# %%
for method, counts in text["telltale words"].items():
    total = sum(counts.values())
    shares = "   ".join(f"{what} {number / total:.1%}" for what, number in counts.items())
    print(f"{method:17} {shares}   of {total} copies")

# %% [markdown]
# Back-translation keeps most labels: it turns few sentences silent, though some come back with the
# words of another answer. Synonyms silence the most, as they aim at the words that carry meaning. Not
# all of that is damage: *vanished* for *disappeared* is a good synonym that our list does not have.
# Blind edits lose a telltale word only when they happen to delete it, or to tear a phrase apart.

# %% [markdown]
# ## 4 · Does it help?
#
# `make record` took 5, 20 and 80 training sentences of each answer, five times anew, and trained three
# classifiers on them: with the sentences alone, and with two or four copies of each. How many copies,
# and the settings of the classifier, were chosen on validation sentences.
#
# - *TF-IDF*: the word counter from above;
# - *small Transformer*: two blocks, trained from nothing, with a tenth of the words hidden;
# - *frozen MiniLM*: its vectors of the sentences, with a logistic regression. MiniLM has read English
#   by the gigabyte.
#
# **Predict.** Which of the three gains most from other wordings? Which least?

# %%
import numpy as np
from matplotlib import pyplot as plt


def seeds_by_count(model, method):
    """Accuracies (seeds, numbers of labels) and the numbers."""
    found = text["accuracy"][model][method]
    return np.array(list(found.values())).T, [int(count) for count in found]


fig, axes = plt.subplots(1, 3, figsize=(9, 3.6), sharey=True)
for ax, model in zip(axes, text["accuracy"], strict=True):
    for method in text["accuracy"][model]:
        values, counts = seeds_by_count(model, method)
        style = {"color": "black", "linewidth": 2.5} if method == "none" else {"marker": "o"}
        ax.plot(counts, values.mean(axis=0), label=method, **style)
    ax.set(title=model, xscale="log", xlabel="real sentences of each answer")
    ax.set_xticks(text["more_counts"], text["more_counts"])
    ax.minorticks_off()
axes[0].set_ylabel(f"accuracy on {text['test_sentences']} test sentences")
axes[0].legend(fontsize=8)
lab.show_figure(
    fig,
    "The black line is real sentences alone, the others have copies as well. Wherever they differ by "
    "more than a hair, the black line is above, except for back-translation at five sentences with "
    "TF-IDF. MiniLM with copies was measured at 5 and 20 sentences only.",
    "Three line charts with a logarithmic axis of 5 to 160 real sentences of each answer. TF-IDF rises "
    "from about 0.42 to 0.85, the small Transformer from 0.39 to 0.83, frozen MiniLM from 0.51 to 0.93. "
    "The four lines with copies lie close to the line without, mostly a little below it.",
)

# %%
print("gain in points over no copies, with its 95 % interval over seeds")
for model in text["accuracy"]:
    print(f"\n{model}")
    for method in list(text["accuracy"][model])[1:]:
        rows = [r for r in text["effects"] if (r["model"], r["method"]) == (model, method)]
        cells = [
            f"{r['labels'] // 6:3}: {r['gain_points']:+5.1f} [{r['low']:+5.1f}, {r['high']:+5.1f}]"
            for r in rows
        ]
        print(f"  {method:28}", "  ".join(cells))
above = sum(row["low"] > 0 for row in text["effects"])
below = sum(row["high"] < 0 for row in text["effects"])
print(f"\nof {len(text['effects'])} intervals, {above} lie above zero and {below} below")

# %% [markdown]
# No interval lies above zero. Not one of these methods clearly helps here, and synonyms and
# back-translation hurt some of the classifiers. (With so many intervals at 95 %, one or two would miss
# zero by luck alone, so do not make much of any single one.) The largest mean gain is
# back-translation's with five sentences and TF-IDF, and its interval reaches below zero.
#
# Why so little? We did not test the reasons one by one. Three are likely:
#
# - *The copies say little that is new.* A test sentence is hard when its way of telling is new. Copies
#   give the old ways of telling in slightly other words.
# - *They are not always right.* You have seen their errors, and every copy teaches its own. MiniLM, which
#   knows how English goes, may be led astray by sentences that nobody would write.
# - *The baseline is not weak.* All settings were chosen for the classifier without copies as carefully
#   as for the others, and the small Transformer hides words in training, which is augmentation already.
#
# And look at the right panel: to start from a model that has read English is worth more than any copy.
#
# Another way to say it: how many *real* sentences of each answer would have got as far as five (or
# twenty) with their copies? None means that the copies did not help.

# %%
for model, methods in text["worth"].items():
    print(model)
    for method, found in methods.items():
        shares = ", ".join(f"{n} real + copies = {worth or 'none'}" for n, worth in found.items())
        print(f"  {method:28} {shares}")


# %% [markdown]
# A real sentence beats copies of another one. Where copies were worth anything at all, those of all five
# (or twenty) sentences together were worth less than one more real sentence. The literature reports
# gains: Wei & Zou's are largest where the training sets are smallest, on networks that were trained
# from nothing, and Xie et al. paraphrase with far stronger translators. What carries over is the order
# of things to try: more real examples, a pretrained model, and then augmentation, *measured*, against a
# baseline that was tuned as well.

# %% [markdown]
# ## 5 · Too good to be true
#
# ### Exercise 3 · Find the bug: too good to be true (★★☆, 8 min)
#
# A colleague holds out a part of the data for validation and reports wonderful figures. On new
# sentences, the same model is poor. Find out why, and repair the function.

# %% tags=["exercise"]
def hold_out(pairs, change, copies, held_out, seed):
    """Split (text, label) pairs into training, with copies, and validation.

    change(text, number): the copy with this number of a text. `held_out`: so many of the original
    pairs go into validation, the first ones after random.Random(seed) has shuffled them. Returns
    two sorted lists of pairs.
    """
    everything = list(pairs)
    everything += [(change(x, number), y) for x, y in pairs for number in range(copies)]
    random.Random(seed).shuffle(everything)
    return sorted(everything[held_out:]), sorted(everything[:held_out])


# %% tags=["nbval-ignore-output"]
pairs = [(message.text, message.label) for message in train]
part, validation = hold_out(
    pairs, lambda x, number: replace_words(x, neighbours, random.Random(number)), 4, 30, seed=0
)
model = word_counter().fit(*zip(*part, strict=True))
print(f"validation: {model.score(*zip(*validation, strict=True)):.0%} right")
print(f"test:       {model.score(test_texts, test_labels):.0%} right")

# %% tags=["check"]
lab.check("18.leak_bug", hold_out)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Print a validation sentence. Then look for training sentences that are almost the same.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Shuffle and split the *originals* first. Then make copies, of the training part alone.
#
# </details>

# %% [markdown]
# This bug is called a **leak**: something of the validation data has got into training. Augmentation is
# an easy way to one, because copies look like new examples. The rule: split first, by *origin*, and
# augment only what you train on. `with_copies` in the library returns the origin of each text, which
# scikit-learn's `GroupKFold` takes as its groups.

# %% [markdown]
# ## 6 · MixUp: between two images
#
# Words can be replaced by other words. What is the synonym of a digit? We could move it or turn it a
# little (lesson 09 did). **MixUp** (Zhang et al. 2018) does something bolder: it lays two training
# images over each other, and their labels, too.
#
# $$ \tilde x = \lambda\, x_i + (1 - \lambda)\, x_j \qquad \tilde y = \lambda\, y_i + (1 - \lambda)\, y_j $$
#
# $x_i$ and $x_j$ are two images of a batch, $y_i$ and $y_j$ their labels as *one-hot* vectors (1 at
# the class, 0 elsewhere), and $\lambda$ (`lam`) is the share of the first, from 0 to 1.

# %%
from zoo_lessons.datasets.digits import digits

train, unseen = digits("train"), digits("test")  # the people of the test wrote nothing in train
images, labels = train.images[[3, 7]], train.labels[[3, 7]]  # (2, 1, 8, 8), (2,)
lambdas = [1.0, 0.8, 0.6, 0.4, 0.2, 0.0]
fig, axes = plt.subplots(1, 6, figsize=(9, 2.2))
for ax, lam in zip(axes, lambdas, strict=True):
    ax.imshow(-(lam * images[0, 0] + (1 - lam) * images[1, 0]), cmap="gray", vmin=-1, vmax=0)
    ax.set(xticks=[], yticks=[], title=f"λ = {lam:g}")
    ax.grid(False)
    ax.spines[:].set_visible(False)
    ax.set_xlabel(f'{lam:g} "{labels[0]}" + {1 - lam:g} "{labels[1]}"')
lab.show_figure(
    fig,
    "A three fades into a seven. Below each image stands its label.",
    "Six images of 8 by 8 pixels. The first is a written three, the last a seven, those between show "
    "both, in changing shares.",
)

# %% [markdown]
# Such images do not exist in the world. What should a model learn from them? That its answer should
# change *evenly* on the way from one example to the next, instead of jumping somewhere at a place that
# the few examples do not determine.
#
# The target is now a distribution, and cross-entropy takes it as it is. It is the two usual losses,
# in the same shares:

# %%
from torch.nn import functional as F

lam, logits = 0.7, torch.randn(1, 10)
target = lam * F.one_hot(labels[:1], 10) + (1 - lam) * F.one_hot(labels[1:], 10)  # (1, 10)
loss = F.cross_entropy(logits, target)
first, second = (F.cross_entropy(logits, label) for label in labels.split(1))
assert torch.allclose(loss, lam * first + (1 - lam) * second)
print("loss of the mixed target = λ · first loss + (1 - λ) · second loss:", True)

# %% [markdown]
# In training, the partners are the same batch in another order, and $\lambda$ is drawn from a Beta
# distribution, $\lambda \sim \mathrm{Beta}(\alpha, \alpha)$. With $\alpha = 1$ all shares are equally
# likely; with a small $\alpha$ most images stay nearly as they are.

# %%
from zoo_lessons.training.mixing import draw_lambda

generator = torch.Generator().manual_seed(0)
for alpha in (0.2, 1.0):
    drawn = torch.tensor([draw_lambda(alpha, generator) for _ in range(1000)])
    nearly = ((drawn < 0.1) | (drawn > 0.9)).double().mean()
    print(f"α = {alpha}: in {nearly:.0%} of the draws one image has more than nine tenths")


# %% [markdown]
# ### Exercise 4 · MixUp (★☆☆, 6 min)

# %% tags=["exercise"]
def mixup(images, labels, order, lam, num_labels):
    """Mix each image with its partner, and the labels with the same shares.

    images: (batch, channels, height, width). labels: (batch,), class numbers.
    order: (batch,); the partner of image i is image order[i].
    lam: the share of the image itself.
    Returns the mixed images, and targets (batch, num_labels) of the images' dtype.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.mixup", mixup)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `images[order]` are the partners. The labels need the same two steps, after they are one-hot.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `F.one_hot(labels, num_labels)` gives whole numbers; `.to(images.dtype)` makes them fit.
#
# </details>
#
# ## 7 · CutMix: a box from another image
#
# A mixture of two digits looks like neither. **CutMix** (Yun et al. 2019) keeps both sharp: it cuts a
# box out of the first image and fills it with the same box of the second. The label is mixed by area.
# For a share $\lambda$ of the first image, an image of $H \times W$ pixels gets a box of
#
# $$ h = H \sqrt{1 - \lambda} \qquad w = W \sqrt{1 - \lambda} $$
#
# so that its area is $(1 - \lambda) H W$. Its centre is drawn from all pixels.
#
# **Predict.** The centre is a pixel in the corner. Which share of the label should the first image get:
# more than $\lambda$, less, or $\lambda$?

# %%
from zoo_lessons.lab.widgets import MixExplorer

some = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
names = [f"a {label}" for label in train.labels[some].tolist()]
MixExplorer(train.images[some, 0], names, first=0, second=7, row=1, column=6)

# %% [markdown]
# Move the box in the mixture (drag it, or use the arrow keys). At the edge, a part of it falls outside,
# so less than $1 - \lambda$ was exchanged. The label must say what is *in the image*: count again,
#
# $$ \lambda' = 1 - \frac{\text{pixels exchanged}}{H W} $$
#
# and mix the labels with $\lambda'$. How wrong would the labels be if we forgot that? We try all
# centres.

# %%
from zoo_lessons.training.mixing import cut_box

for lam in (0.9, 0.5, 0.1):
    kept = torch.tensor(
        [1 - cut_box(32, 32, lam, (r, c)).area / 32**2 for r in range(32) for c in range(32)]
    )
    print(f"λ = {lam}: the first image keeps {kept.mean():.2f} on average, up to {kept.max():.2f}")


# %% [markdown]
# With $\lambda = 0.1$, the target would say "nearly all of this is the second image" over images of
# which the first often fills half. Nothing would break. The labels would be wrong, quietly.
#
# ### Exercise 5 · CutMix (★★☆, 12 min)

# %% tags=["exercise"]
def cutmix(images, targets, order, lam, row, column):
    """Each image with a box from its partner, and the targets mixed by area.

    images: (batch, channels, height, width). targets: (batch, classes), one-hot.
    order: (batch,); the partner of image i is image order[i].
    lam: the box has sides of round(height * sqrt(1 - lam)) and round(width * sqrt(1 - lam)) pixels;
    its first row is row - (its height) // 2, its first column column - (its width) // 2. The
    edge of the image clips it.
    Returns the new images and targets.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.cutmix", cutmix)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Compute four numbers: top, bottom, left, right. Clip each with `max(..., 0)` or `min(..., height)`.
# Then everything else, the exchange and the shares, uses the clipped numbers.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# `mixed[..., top:bottom, left:right] = ...` on a clone. The share of the first image is 1 minus the
# clipped area over `height * width`.
#
# </details>
#
# The library's version, on a batch with partners drawn at random:

# %%
from zoo_lessons.training.mixing import random_cutmix, random_mixup

batch, targets = train.images[:6], F.one_hot(train.labels[:6], 10).float()
rows = {"as it is": (batch, targets)}
for name, mix in {"MixUp": random_mixup, "CutMix": random_cutmix}.items():
    rows[name] = mix(batch, targets, torch.Generator().manual_seed(52))
fig, axes = plt.subplots(3, 6, figsize=(9, 6.2))
for line, (name, (pictures, wanted)) in zip(axes, rows.items(), strict=True):
    line[0].set_ylabel(name)
    for ax, picture, target in zip(line, pictures, wanted, strict=True):
        ax.imshow(-picture[0], cmap="gray", vmin=-1, vmax=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        shares = [f'{target[label]:.2f} "{label}"' for label in target.nonzero()[:, 0].tolist()]
        ax.set(xticks=[], yticks=[], xlabel="\n".join(shares))
lab.show_figure(
    fig,
    "One batch, as it is, after MixUp and after CutMix, with its targets. All images of a batch share "
    "one λ and one box. This box was clipped at the lower edge.",
    "Three rows of six digits. First row: clear digits. Second row: two digits laid over each other. "
    "Third row: digits with a rectangle from another digit. Below each image stand the shares of its "
    "labels.",
)

# %% [markdown]
# ## 8 · What do they bring where labels are few?
#
# A fair test needs four things: nobody who wrote training digits writes test digits; the methods
# share seeds, labelled digits, starts, steps and learning rate; what is to be chosen ($\alpha$) is
# chosen on other people's digits; and several seeds give an interval. That takes minutes, so it was
# recorded by `make record`: the small CNN of lesson 09 and its ViT, each with about 58,000 parameters.
#
# Five ways to treat a batch: *none* takes the digits as they are. *Shifts* is what lesson 09 does: each
# digit is moved, turned, resized and slanted a little. Then MixUp, and CutMix. *Shifts + mixing* shifts
# first, and then takes one of these two, drawn for each batch.

# %%
record = load_record("augment_images")
images_record = record["figures"]
print(f"{record['machine']['device']}, {record['date']}; {images_record['seeds']} seeds")
for name, found in images_record["alphas"].items():
    print(f"{name}: α = {found['alpha']}, chosen on validation writers")
for network, runs in images_record["runs"].items():
    print(f"\n{network + ', accuracy on new writers':34}" + "".join(f"{n:>7} labels" for n in runs))
    for method in next(iter(runs.values())):
        means = [torch.tensor(found[method]["accuracy"]).mean() for found in runs.values()]
        print(f"{method:34}" + "".join(f"{mean:>14.1%}" for mean in means))


# %% [markdown]
# Now the differences, seed by seed, with their intervals. If a 95 % interval lies right of zero, the
# method helped; if it contains zero, these seeds do not tell.

# %%
def show_effects(rows, title, caption, alt):
    """Gains in points with their intervals, accuracy on the left, under attack on the right."""
    kinds = [kind for kind in ("accuracy", "robust") if any(r["kind"] == kind for r in rows)]
    names = list(dict.fromkeys(effect_name(row) for row in rows))
    height = 1.3 + 0.27 * len(names)
    fig, axes = plt.subplots(1, len(kinds), figsize=(9, height), sharey=True, squeeze=False)
    for ax, kind in zip(axes[0], kinds, strict=True):
        for row in (row for row in rows if row["kind"] == kind):
            y = -names.index(effect_name(row))
            color = "#009e73" if row["low"] > 0 else "#d55e00" if row["high"] < 0 else "#767676"
            ax.plot([row["low"], row["high"]], [y, y], color=color)
            ax.plot(row["gain_points"], y, "o", color=color)
        ax.axvline(0, color="black", linewidth=1)
        ax.set(xlabel="gain (points)", title=kind if kind == "accuracy" else "under attack (PGD)")
    axes[0, 0].set_yticks([-i for i in range(len(names))], names)
    fig.suptitle(title, fontweight="bold")
    lab.show_figure(fig, caption, alt)


def effect_name(row):
    against = "" if row["against"] == "none" else f" over {row['against']}"
    return f"{row['method']}{against}, {row['model']}, {row['labels']:,}"


# %%
show_effects(
    [row for row in images_record["effects"] if row["kind"] == "accuracy"],
    title="What changed images add to the accuracy on new writers",
    caption="Mean gain and 95 % interval over seeds, by method, network and number of labels. Green: "
    "the interval lies above zero. Orange: below. Grey: it contains zero.",
    alt="One interval for each method, network and number of labels, around a line at zero. "
    "The cell below prints all of them.",
)


# %% [markdown]
# The same in words, and the rows side by side:

# %%
def in_words(row):
    """What an interval allows to say."""
    if row["low"] > 0:
        return "helps"
    return "hurts" if row["high"] < 0 else "no clear effect"


def print_effects(rows):
    for row in rows:
        interval = f"[{row['low']:+.1f}, {row['high']:+.1f}]"
        print(f"{effect_name(row):48}{row['gain_points']:+6.1f} {interval:>15}  {in_words(row)}")


print_effects(row for row in images_record["effects"] if row["kind"] == "accuracy")

# %% [markdown]
# Against unchanged images, everything helped, and each interval lies above zero. Three things to see:
#
# - **Mixing and shifting are not the same.** With the CNN, shifts with mixing on top gain more than
#   shifts alone, clearly so with 50 and 200 labels. With all labels the interval reaches zero, and the
#   ViT at 200 labels gains nothing on top of shifts. Somebody who compares MixUp with *nothing* does
#   not find that out.
# - **The simplest is hard to beat.** Shifts cost no thought about labels and gain about as much as
#   CutMix; MixUp gains least with the CNN, though it helps, too.
# - **Examples against labels.** With 200 labels, shifts and mixing read more of the new digits right
#   than 1,157 labels do without. That is what the question of this lesson asked for. And the ViT, which
#   knows least about images in advance, gains most from being shown that a shifted digit is the same
#   digit.
#
# What limits this: learning rates were chosen with shifts, in longer runs, so the others may be a
# little better than shown; the digits are small, and "new writers" are few people.

# %% [markdown]
# ## 9 · Examples made to mislead (further)
#
# So far we asked how many *unchanged* digits are read right. Now somebody wants the model to
# fail. How little must be changed?
#
# First we need a model. It is the CNN of the record, in a few lines.

# %% tags=["nbval-ignore-output"]
from torch import nn

from zoo_lessons.training import fit


def small_cnn():
    """Three convolutions; images (batch, 1, 8, 8) from 0 to 1 -> logits (batch, 10)."""
    convolutions = [nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, padding=1)]
    convolutions += [nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(64, 64, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*convolutions, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, 10))


def random_batch(step):
    rows = torch.randint(len(train.labels), (64,))
    return train.images[rows], train.labels[rows]


def loss_of(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


plain = small_cnn()
settings = {"lr": 3e-3, "schedule": "warmup_cosine", "device": "cpu", "seed": 0}
fit(plain, random_batch, loss_of, steps=200, **settings)
with torch.no_grad():
    right = (plain(unseen.images).argmax(dim=1) == unseen.labels).double().mean()
print(f"{right:.1%} of new writers' digits are read right")
assert right > 0.85

# %% [markdown]
# Training follows the gradient of the loss with respect to the *weights*, downhill. The same loss also
# has a gradient with respect to the *pixels*: it says how each pixel would have to change to make the
# loss larger. **FGSM**, the fast gradient sign method (Goodfellow et al. 2015, section 4), goes one
# step uphill:
#
# $$ x' = x + \varepsilon \cdot \mathrm{sign}\left(\frac{\partial L}{\partial x}\right) $$
#
# Each pixel moves by $\varepsilon$, no matter how large its gradient is. That is the most that is
# allowed when no pixel may move by more than $\varepsilon$ (the $L_\infty$ ball of radius $\varepsilon$).
#
# **Predict.** We move each pixel by 0.15 of the way from white to black: once up or down at random,
# once along the sign of the gradient. How many digits are still read right?

# %% tags=["nbval-ignore-output"]
from zoo_lessons.adversarial import fgsm, is_right, loss_gradient

epsilon = 0.15
coin = torch.randn(unseen.images.shape, generator=torch.Generator().manual_seed(0)).sign()
noisy = (unseen.images + epsilon * coin).clamp(0, 1)
misled = fgsm(plain, *unseen, epsilon=epsilon)
shares = {}
for name, changed in {"as written": unseen.images, "random": noisy, "FGSM": misled}.items():
    shares[name] = is_right(plain, changed, unseen.labels).double().mean().item()
    print(f"{name:10} {shares[name]:.1%} read right")
assert shares["FGSM"] < shares["random"] - 0.2

# %% tags=["nbval-ignore-output"]
fooled = is_right(plain, noisy, unseen.labels) & ~is_right(plain, misled, unseen.labels)
chosen = fooled.nonzero()[:5, 0]
columns = {"as written": unseen.images, "random": noisy, "FGSM": misled}
fig, axes = plt.subplots(3, 5, figsize=(8, 5.6))
for line, (name, pictures) in zip(axes, columns.items(), strict=True):
    line[0].set_ylabel(name)
    with torch.no_grad():
        sure, guess = plain(pictures[chosen]).softmax(dim=1).max(dim=1)
    for ax, picture, label, share in zip(line, pictures[chosen], guess, sure, strict=True):
        ax.imshow(-picture[0], cmap="gray", vmin=-1, vmax=0)
        ax.grid(False)
        ax.spines[:].set_visible(False)
        ax.set(xticks=[], yticks=[], xlabel=f"read as {label} ({share:.0%})")
lab.show_figure(
    fig,
    "Five digits, with random changes and with FGSM's, of the same size in every pixel. We read the "
    "three rows nearly alike. The model does not.",
    "Three rows of five digits. The second and third row look equally noisy. Below the first two rows "
    "stand the right classes, below the third row wrong ones, with the model's probability.",
)


# %% [markdown]
# Both changes are equally large. One has a *direction*. In 64 dimensions, a random direction is almost
# at right angles to the gradient; the sign of the gradient adds up all 64 small contributions.
#
# ### Exercise 6 · One step uphill (★☆☆, 4 min)

# %% tags=["exercise"]
def fgsm_step(images, gradient, epsilon):
    """Move each pixel by epsilon so that the loss grows, and keep pixels from 0 to 1.

    images, gradient: (batch, channels, height, width). Returns the changed images.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.fgsm_step", fgsm_step)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `gradient.sign()` is 1, 0 or -1. Uphill is plus. The image, not the step, must stay from 0 to 1.
#
# </details>
#
# ## 10 · Many small steps, and training against them (further)
#
# One large step assumes that the loss rises along a straight line. **PGD**, projected
# gradient descent on the negative loss (Madry et al. 2018, section 2.1), takes small steps, looks at
# the gradient anew each time, and comes back whenever it has left the ball:
#
# $$ x^{t+1} = \Pi_{\varepsilon}\left(x^{t} + \eta \cdot \mathrm{sign}\left(\frac{\partial L}{\partial x^{t}}\right)\right) $$
#
# $\eta$ is the step size. The projection $\Pi_\varepsilon$ takes the nearest allowed image: each pixel
# within $\varepsilon$ of the *original*, and from 0 to 1. The start is a random point of the ball.
#
# ### Exercise 7 · A step, and back into the ball (★★☆, 8 min)

# %% tags=["exercise"]
def pgd_step(changed, images, gradient, step_size, epsilon):
    """One step uphill from `changed`, then back to within epsilon of `images`, and to 0 to 1.

    changed, images, gradient: (batch, channels, height, width). gradient is the one at `changed`.
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.pgd_step", pgd_step)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# The limit is on the difference to the original image, whatever way led there.
#
# </details>
#
# <details><summary>Hint 2</summary>
#
# Clamp `moved - images` to ± ε, add it to `images`, and clamp the sum to 0 to 1.
#
# </details>
#
# Written out with the library's `loss_gradient`, and compared with the library's `pgd`:

# %%
from zoo_lessons.adversarial import pgd

x, y = unseen.images[:50], unseen.labels[:50]
changed, step_size = x, 0.03
for _ in range(8):
    changed = changed + step_size * loss_gradient(plain, changed, y).sign()
    changed = (x + (changed - x).clamp(-0.1, 0.1)).clamp(0, 1)
library = pgd(plain, x, y, epsilon=0.1, step_size=step_size, steps=8, random_start=False)
assert torch.equal(changed, library)
print("eight steps by hand = the library's:", True)
print("no pixel moved by more than 0.1:", ((changed - x).abs() <= 0.1 + 1e-6).all().item())

# %% [markdown]
# **Adversarial training** turns the attack into data. Each batch is replaced by what PGD makes of it,
# against the model *as it is now*, with the labels unchanged:
#
# $$ \min_\theta \; \mathbb{E}_{(x, y)} \max_{\|x' - x\|_\infty \le \varepsilon} L(\theta, x', y) $$
#
# The inner maximum is the attack, the outer minimum the training. A hundred steps of it here, half as
# many as above, with the same $\varepsilon$; each costs four gradients instead of one.

# %% tags=["nbval-ignore-output"]
hardened = small_cnn()


def attacked_batch(step):
    pictures, classes = random_batch(step)
    return pgd(hardened, pictures, classes, epsilon=epsilon, steps=3), classes


fit(hardened, attacked_batch, loss_of, steps=100, **settings)
live = {}
for name, model in {"plain": plain, "hardened": hardened}.items():
    seeded = torch.Generator().manual_seed(0)
    attack = pgd(model, *unseen, epsilon=epsilon, steps=10, generator=seeded)
    live[name] = is_right(model, attack, unseen.labels).double().mean().item()
    unchanged = is_right(model, *unseen).double().mean()
    print(f"{name:9} as written {unchanged:.1%}, under PGD {live[name]:.1%}")
assert live["hardened"] > live["plain"] + 0.05

# %% [markdown]
# The hardened model withstands more, and reads fewer of the unchanged digits. Does robustness always cost
# accuracy? These hundred steps cannot tell. The recorded runs are longer, and train with a smaller
# $\varepsilon$.
#
# ### Robustness curves
#
# One $\varepsilon$ says little. The recorded curves show the accuracy for growing $\varepsilon$, with
# all 1,157 labels: unchanged training, shifts, MixUp, CutMix, and adversarial training at
# $\varepsilon = 0.1$. "Random noise" is a control: trained on changes of the same size that do not
# look for the model's weakness.

# %%
adversarial = load_record("adversarial")["figures"]
largest = str(max(images_record["labels"]))
methods = {**images_record["runs"]["CNN"][largest], **adversarial["runs"]["CNN"][largest]}
fig = lab.lines(
    {name: found["curve"] for name, found in methods.items()},
    images_record["epsilons"],
    title="How much attack does each model withstand?",
    x_axis="ε, the largest change of a pixel (0 to 1)",
    y_axis="accuracy on new writers under PGD",
)
lab.show_figure(
    fig,
    "Robustness curves: mean and range of the seeds, PGD with 20 steps. At ε = 0 stands the usual "
    "accuracy.",
    "Seven falling lines of accuracy against ε from 0 to 0.2, one for each way of training. The "
    "cell below prints two points of each.",
)

# %%
at = images_record["epsilons"].index(images_record["epsilon"])
print(f"{'':24}{'as written':>12}{'ε = ' + str(images_record['epsilon']):>10}")
for name, found in methods.items():
    means = torch.tensor(found["curve"]).mean(dim=0)
    print(f"{name:24}{means[0]:>12.1%}{means[at]:>10.1%}")

# %% [markdown]
# And the differences to unchanged training at $\varepsilon = 0.1$, for all numbers of labels:

# %%
under_attack = [*images_record["effects"], *adversarial["effects"]]
print_effects(row for row in under_attack if row["kind"] == "robust")

# %% [markdown]
# - **Adversarial training** stands apart: about 19 points at $\varepsilon = 0.1$. Random noise of the
#   same size has no clear effect, so it is the attack that teaches. Beyond the $\varepsilon$ that it
#   has trained with, it falls, too.
# - It even reads *unchanged* digits better than unchanged training does, by about as much as shifts.
#   Attacked images are new images, and there were few. With plenty of data, robustness usually costs
#   accuracy (Tsipras et al. 2019, [Robustness may be at odds with
#   accuracy](https://arxiv.org/abs/1805.12152)).
# - **CutMix and shifts** withstand a little more than unchanged training where labels are not too few.
# - **MixUp** made the CNN more accurate in every comparison of section 8. Under attack it brings the
#   CNN nothing, and with 50 labels it costs about 16 points. The ViT gains from it in both. Accuracy
#   does not tell robustness: measure both.
#
# ## 11 · Can the curves be believed? (further)
#
# A curve shows what *one attack* found. If it fails, the model may be robust, or its
# gradients may lead nowhere: **gradient masking**. It has signs (Athalye et al. 2018, section 3.1; the
# last is ours):
#
# - one step does more harm than many, or random noise more than either;
# - without a limit ($\varepsilon = 1$, any image allowed) some digits still withstand;
# - images made against *another* model do more harm than those made against the model itself;
# - more steps, or more starts, keep finding more.
#
# MixUp and CutMix may flatten the loss around the training images, so they are suspects. Four models,
# one seed, all labels:

# %%
for name, found in adversarial["masking"].items():
    listed = ", ".join(f"{attack} {share:.0%}" for attack, share in found["attacks"].items())
    print(f"{name}: {listed}")
    print(f"    signs of masking: {'; '.join(found['signs']) or 'none'}\n")

# %% [markdown]
# No sign in any of the four. Fifty steps find hardly more than twenty, other starts a point or so
# more, an attack without limit fools every digit, and a stranger's images do less harm than the
# model's own gradient. So the curves can be believed as far as these attacks go. They stay upper bounds:
# combinations of attacks find more (Croce & Hein 2020, [AutoAttack](https://arxiv.org/abs/2003.01690)).

# %% [markdown]
# ## 12 · Drawn digits: a GAN (further)
#
# MixUp and CutMix make new examples out of two old ones. A *generator* goes on where they
# stop: it learns what digits look like and draws new ones, each for a class that we ask for. An
# article that this course grew from says that such samples make classifiers better, and harder to fool.
# We look at two kinds of generators, and then at that sentence.
#
# A *generative adversarial network* (Goodfellow et al. 2014) has two halves. The generator $G$ makes
# an image out of random numbers $z$ and a class $y$. The discriminator $D$ scores how real an image
# looks and how well it fits its class. $D$ wants scores above 1 for real images and below -1 for
# drawn ones; what is beyond counts no more (hinge loss, Miyato et al. 2018):
#
# $$ L_D = \max(0,\ 1 - D(x, y)) + \max(0,\ 1 + D(G(z, y), y)), \qquad L_G = -D(G(z, y), y) $$
#
# $G$ never sees a real digit. All it knows comes through the gradient of $D$. Both are small
# convolutional networks, in `zoo_lessons/models/gan.py`; `make record` trained them on the 1,157
# training digits.

# %%
from zoo_lessons.checkpoints import load_trained
from zoo_lessons.models.gan import Discriminator

real, unseen = digits("train"), digits("test")  # the test digits are by other writers
gan = load_trained("gan_digits")
classes = torch.arange(10).repeat_interleave(12)  # twelve of each class
drawn = gan.draw(classes, torch.Generator().manual_seed(0))  # (120, 1, 8, 8), from -1 to 1
print(f"G: {sum(p.numel() for p in gan.parameters()):,} parameters")
print(f"D: {sum(p.numel() for p in Discriminator(gan.config).parameters()):,}, not needed any more")


# %%
def show_digits(groups, title, caption, alt):
    """Digits (n, 1, 8, 8) from -1 to 1 under each name, as many in a row as there are."""
    columns = max(len(images) for images in groups.values())
    fig, axes = plt.subplots(len(groups), columns, figsize=(9, 0.4 + 0.85 * len(groups)))
    for line, (name, images) in zip(axes.reshape(len(groups), -1), groups.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center")
        for ax in line:
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        for ax, image in zip(line, images, strict=False):
            ax.imshow(-image[0].clamp(-1, 1), cmap="gray", vmin=-1, vmax=1)
    fig.suptitle(title)
    lab.show_figure(fig, caption, alt)


fours = 2 * real.images[real.labels == 4][:12] - 1
show_digits(
    {"real": fours, "GAN": drawn[classes == 4], "GAN, 8": drawn[classes == 8]},
    title="Fours that people wrote, fours and eights that the GAN drew",
    caption="Twelve of each. The drawn fours are easy to read. Some of the eights are not.",
    alt="Three rows of twelve small grey digits: real fours, drawn fours that look as if written by "
    "hand, and drawn eights, some of which could be another digit.",
)

# %% [markdown]
# The two networks play against each other, so there is no loss that falls. What can be watched is
# the gap between the scores of real and of drawn digits. While it is small, $D$ can hardly tell them
# apart. When it grows without end, $D$ has learned the training digits by heart, and its gradient no
# longer tells $G$ anything. Two things hold it back here: *spectral norm* bounds how steep $D$ can get,
# and $D$ sees real *and* drawn digits moved and turned a little, anew each time (Zhao et al. 2020).

# %%
generators = load_record("digits_generators")["figures"]
curves = generators["curves"]
parts = len(curves["GAN real"])
fig = lab.lines(
    {"real": curves["GAN real"], "drawn": curves["GAN drawn"]},
    x=(torch.arange(parts) + 0.5) * generators["steps"]["GAN"] / parts,
    title="What D thinks of real and of drawn digits",
    x_axis="step",
    y_axis="mean score",
    markers=False,
)
lab.show_figure(
    fig,
    "Means over stretches of the recorded training. The scores wander; the gap stays small.",
    "Two lines over the training steps, the mean score of real digits and, just below it, that of "
    "drawn digits. Both go up and down together, and rise towards the end.",
)

# %% [markdown]
# ## 13 · Drawn digits: diffusion (further)
#
# A GAN is hard to balance. *Diffusion* (Ho et al. 2020) has one network and an ordinary
# loss. The idea: noise can be added to an image by a formula. A network learns to find the noise in
# a noisy image. To draw, start with noise alone and take it out, a little at a time.
#
# **Into the noise.** Time runs from $t = 0$, the image $x_0$, to $t = T$, noise. From here on,
# $\varepsilon$ is no longer the limit of an attack: it is noise from a standard normal, one number for
# each pixel. The image at step $t$ is
#
# $$ x_t = \sqrt{\bar\alpha_t}\, x_0 + \sqrt{1 - \bar\alpha_t}\, \varepsilon $$
#
# $\bar\alpha_t$ (`alpha_bar[t]`) is the share of the variance that is still image: 1 at the start and
# almost 0 at the end. The squares of the two factors add up to 1, so pixels of variance 1 keep it. We
# use a quarter of a cosine, squared (Nichol & Dhariwal 2021, equation 17).

# %%
from zoo_lessons.diffusion import cosine_alpha_bar

alpha_bar = cosine_alpha_bar(1000)  # (1001,)
fig = lab.lines(
    {"image: √ᾱ": alpha_bar.sqrt(), "noise: √(1 - ᾱ)": (1 - alpha_bar).sqrt()},
    title="How much of each is in x_t",
    x_axis="step t",
    y_axis="factor",
    markers=False,
)
lab.show_figure(
    fig,
    "The factors of image and noise. They cross where each has half of the variance.",
    "Two lines over steps 0 to 1,000: one falls from 1 to 0 along a cosine, the other rises from 0 "
    "to 1 along a sine. They cross at about step 500, at 0.71.",
)


# %% [markdown]
# ### Exercise 8 · Into the noise (★☆☆, 5 min)
#
# Write the formula for a batch in which every image has its own step.

# %% tags=["exercise"]
def my_noised(images, noise, alpha_bar, timesteps):
    """Add noise to each image, as much as its step says.

    images, noise: (batch, channels, height, width)
    alpha_bar: the schedule, (T + 1,)
    timesteps: int64 (batch,)
    returns: x_t, the shape of images
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.noised", my_noised)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# `alpha_bar[timesteps]` has one number for each image. To multiply it with images it needs three more
# axes.
#
# </details>
# <details><summary>Hint 2</summary>
#
# `share = alpha_bar[timesteps].view(-1, 1, 1, 1)`. Both factors are square roots: of the share, and
# of what is left of 1.
#
# </details>
#
# **Predict.** Below is one digit at six steps. Up to which step will you recognise it?

# %%
from zoo_lessons.diffusion import noised

steps = torch.tensor([0, 200, 400, 600, 800, 1000])
noise = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(1))
digit = (2 * unseen.images[6:7] - 1).expand(6, -1, -1, -1)
noisy = noised(digit, noise, alpha_bar[steps])
show_digits(
    {"x_t": noisy},
    title=f"A {unseen.labels[6]} at steps " + ", ".join(map(str, steps.tolist())),
    caption="One digit with more and more noise. Pixels beyond black and white are cut off here.",
    alt="Six squares of 8 by 8 pixels. In the first a digit is clear, in each further one it is "
    "harder to see, and the last is noise.",
)

# %% [markdown]
# **The loss.** The network $\varepsilon_\theta$ gets the noisy image, the step and the class $y$, and
# should say what the noise was:
#
# $$ L = \frac{1}{n} \sum_{\text{pixels}} \left(\varepsilon - \varepsilon_\theta(x_t, t, y)\right)^2 $$
#
# with a random digit, a random step and new noise each time. A network that always answers 0 has the
# loss 1. In a tenth of the batch the class is hidden; we shall need that.
#
# **The network** is a ViT (lesson 09) on patches of 2 × 2 pixels: a *diffusion Transformer*, DiT
# (Peebles & Xie 2023). How does a ViT learn of the step and the class? Both become one vector
# $c$, and $c$ sets the scale, the shift and a gate for each sub-layer:
#
# $$ x \leftarrow x + g(c) \odot f\big(\mathrm{LN}(x) \odot (1 + s(c)) + b(c)\big) $$
#
# $f$ is attention, then feed-forward. The layer that computes $s$, $b$ and $g$ starts at zero. So all
# gates start closed, and a new block changes nothing (adaLN-Zero).

# %%
from zoo_lessons.diffusion import diffusion_loss
from zoo_lessons.models.diffusion_transformer import DiT

dit = load_trained("dit_digits")
c, fresh = dit.config, DiT(dit.config)
x, condition = torch.randn(2, 16, c.d_model), torch.randn(2, c.d_model)  # 16 patches
assert torch.equal(fresh.layers[0](x, condition), x)  # the gates are closed
pixels = 2 * unseen.images - 1
with torch.no_grad():
    for name, model in {"new": fresh, "trained": dit}.items():
        generator = torch.Generator().manual_seed(0)
        loss = diffusion_loss(model, pixels, unseen.labels, alpha_bar, generator=generator)
        print(f"{name:8} loss on unseen writers {loss:.1f}")
print(f"{sum(p.numel() for p in dit.parameters()):,} parameters")

# %%
lab.show_source(type(dit.layers[0]))

# %% [markdown]
# **One look.** Solved for $x_0$, the formula turns a guess of the noise into a guess of the image:
#
# $$ \hat x_0 = \frac{x_t - \sqrt{1 - \bar\alpha_t}\, \varepsilon_\theta(x_t, t, y)}{\sqrt{\bar\alpha_t}} $$
#
# **Predict.** The noisy digits from above, step by step: where will the guess be sharp, and where
# will it be a blur? At step 1,000 the network knows the class and nothing else.

# %%
label = unseen.labels[6].expand(5)
share = alpha_bar[steps[1:]].view(-1, 1, 1, 1)
with torch.no_grad():
    found = dit(noisy[1:], steps[1:], label).noise
guess = (noisy[1:] - (1 - share).sqrt() * found) / share.sqrt()
show_digits(
    {"x_t": noisy[1:], "guess at x_0": guess},
    title="What the network takes the digit to be, at steps 200 to 1,000",
    caption="With little noise the guess is the digit itself. With much noise it turns towards what "
    "digits of this class look like on average; at the last step, the division by √ᾱ, which is "
    "almost 0, blows every error up.",
    alt="Two rows of five squares: noisy digits above, guesses below. The first guesses resemble "
    "the digit; the later ones differ from it more and more.",
)


# %% [markdown]
# So one look is not enough. **The way back** goes in small steps: guess $x_0$, then go to a step $s <
# t$ by putting the guess and the same noise together again, in the shares that belong to $s$ (DDIM,
# Song et al. 2021, equation 12):
#
# $$ x_s = \sqrt{\bar\alpha_s}\, \hat x_0 + \sqrt{1 - \bar\alpha_s}\, \varepsilon_\theta(x_t, t, y) $$
#
# At $x_s$ there is less noise, so the next guess is better. Ho et al.'s own sampler (DDPM) takes all
# 1,000 steps and adds a little new noise in each. DDIM adds none, and a few dozen steps do.
#
# ### Exercise 9 · One step back (★★☆, 8 min)
#
# `now` is $\bar\alpha_t$ and `later` is $\bar\alpha_s$, which is larger.

# %% tags=["exercise"]
def my_ddim_step(x, noise, now, later):
    """From x_t to x_s, which has less noise.

    x: x_t, (batch, channels, height, width)
    noise: what the network takes for the noise in x, the same shape
    now, later: ᾱ at t and at s, ()
    returns: x_s, the same shape
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.ddim_step", my_ddim_step)


# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Two lines: first the guess at $x_0$, which uses `now` only; then the new mixture, which uses `later`
# only.
#
# </details>
# <details><summary>Hint 2</summary>
#
# The second line is the exercise before, with the guess as the image and the *same* noise.
#
# </details>
#
# **Louder about the class.** The network also answers without the class, since it was hidden now and
# then. The difference of the two answers is what the class adds. *Classifier-free guidance* (Ho &
# Salimans 2022) makes that part larger, by a factor $w$:
#
# $$ \tilde\varepsilon = \varepsilon_\theta(x_t, t, \varnothing) + w\,\big(\varepsilon_\theta(x_t, t, y) -
# \varepsilon_\theta(x_t, t, \varnothing)\big) $$
#
# ### Exercise 10 · Guidance (★☆☆, 4 min)

# %% tags=["exercise"]
def my_guided(with_label, without_label, guidance):
    """The noise with the label's part of it made `guidance` times as large.

    with_label, without_label: two answers of the network, the same shape
    guidance: w; 0 forgets the label, 1 leaves the answer with the label as it is
    """
    raise NotImplementedError


# %% tags=["check"]
lab.check("18.guided", my_guided)

# %% [markdown]
# <details><summary>Hint 1</summary>
#
# Start from one answer and walk towards the other: at $w = 1$ you arrive, beyond it you walk past.
#
# </details>
# <details><summary>Hint 2</summary>
#
# Test your formula in your head with $w = 0$ and $w = 1$ before you run it.
#
# </details>
#
# Now draw: from noise alone, in 25 steps, with $w = 1.5$. `denoising` yields every moment on the way.

# %%
from zoo_lessons.diffusion import denoising

tens = torch.arange(10)
options = {"steps": generators["visited"], "guidance": generators["guidance"]}
film = list(denoising(dit, tens, alpha_bar, generator=torch.Generator().manual_seed(3), **options))
moments = [*film[::3], film[-1]]
print("t =", [moment.timestep for moment in moments])
show_digits(
    {f"{label}": [moment.images[label] for moment in moments] for label in (2, 5, 8)},
    title="From noise to a digit: x_t on the way from step 1,000 to step 0",
    caption="Three digits being drawn, from left to right, at the steps printed above. The noise "
    "fades while the strokes come out.",
    alt="Three film strips of ten squares. Each begins with noise on the left and ends on the right "
    "with a clear digit: a 2, a 5 and an 8.",
)
show_digits(
    {f"{label}": [moment.guess[label] for moment in moments] for label in (2, 5, 8)},
    title="The network's guess at x_0, at the same moments",
    caption="The first guess is worth nothing: it was divided by √ᾱ, which is almost 0 there, and "
    "then cut to black and white. The next ones are blurred, an average of what may come. Each step "
    "decides a little more.",
    alt="The same three film strips with the guesses. After a first square of black and white "
    "patches, a blurred digit becomes sharper from square to square.",
)

# %% [markdown]
# **Predict.** The same noise, four times: without the class, with it, and louder. What will $w = 4$
# do to the variety?

# %%
from zoo_lessons.diffusion import draw

fives = torch.full((10,), 5)
rows = {}
for w in (0.0, 1.0, 1.5, 4.0):
    generator = torch.Generator().manual_seed(7)
    rows[f"w = {w}"] = draw(dit, fives, alpha_bar, steps=15, guidance=w, generator=generator)
show_digits(
    rows,
    title="Ten fives, asked for more and more loudly",
    caption="Each column begins with the same noise. At w = 0 the class is not told, and any digit may "
    "come. Loud digits are darker and clearer, and more alike.",
    alt="Four rows of ten drawn digits. The first row shows various digits, the second mostly fives, "
    "the third and the fourth clear fives; those of the last row resemble each other.",
)

# %% [markdown]
# ### Does it draw, or does it remember?
#
# A generator could repeat its training digits. Then its samples would be no new data at all. So we
# look for the nearest training digit of each sample, by the Euclidean distance of the 64 pixels.

# %%
samples = film[-1].images  # one of each class
distance = torch.cdist(samples.flatten(1), 2 * real.images.flatten(1) - 1)  # (10, 1157)
closest = distance.argmin(dim=1)
show_digits(
    {"drawn": samples, "nearest": 2 * real.images[closest] - 1},
    title="Ten drawn digits, and below each the nearest of 1,157 training digits",
    caption="Each has its relatives among the training digits. None of the ten is a copy.",
    alt="Two rows of ten digits. Those in one column resemble each other without being equal.",
)


# %% [markdown]
# How near is too near? Compare with digits that nobody copied: digits of the test writers to their
# nearest training digit, and each training digit to its nearest *other*. The last column asks the
# opposite question: how far are the test writers' digits from the nearest drawn one? What a generator
# never draws shows there.

# %%
def row(name, found):
    near, covered = found["nearest"], found["covered"]
    print(f"{name:18} {near['median']:8.2f} {near['5 %']:8.2f} {covered:14.2f}", end="")
    print(f" {found['fit']:14.1%}" if "fit" in found else "")


record = load_record("digits_generators")
print(f"{record['machine']['device']}, {record['date']}; {generators['drawn']:,} samples each")
print(
    f"{'to training digits':18} {'median':>8} {'5 %':>8} {'unseen to it':>14} {'right class':>14}"
)
test = {**generators["real"], "nearest": generators["real"]["nearest"]["test writers"]}
row("test writers", test)
for name, found in generators["models"].items():
    row(name, found)
itself = generators["real"]["nearest"]["training digits"]
print(f"{'training, others':18} {itself['median']:8.2f} {itself['5 %']:8.2f}")

# %% [markdown]
# No sign of copies: the nearest twentieth of the samples (the column 5 %) is about as near to the
# training digits as the nearest twentieth of the training digits is to each other, or farther. The GAN
# stays closer to what it saw (1.01) than the diffusion model (1.21), whose samples are as new to the
# training set as digits of other people are (1.15). And both have caught most of the variety: a digit
# of a test writer is nearly as close to a drawn digit (1.21 and 1.23) as to a real one (1.15).
#
# "Right class" is what a CNN says that learned from all training digits (for the test writers: its
# accuracy). It cannot see whether the samples are as varied as real digits.
#
# ### What a sample costs
#
# The GAN runs once for a digit. The diffusion model runs twice for each of 25 steps, with and without
# the class. PyTorch counts the operations; the clock is another question, so we ask it, too.

# %%
cost = generators["cost"]
for name, found in cost.items():
    print(
        f"{name:10} {found['parameters']:8,} parameters, {found['FLOPs of a digit'] / 1e6:6.1f} "
        f"million operations a digit, {found['FLOPs of a training step'] / 1e9:.1f} billion a "
        "training step"
    )
ratio = cost["diffusion"]["FLOPs of a digit"] / cost["GAN"]["FLOPs of a digit"]
print(f"a diffusion sample takes {ratio:.0f} times as many operations as a GAN sample")

# %% tags=["nbval-ignore-output"]
from zoo_lessons.bench import compare

hundred = torch.arange(100) % 10
compare(
    {
        "GAN": lambda: gan.draw(hundred),
        "diffusion": lambda: draw(dit, hundred, alpha_bar, steps=5, guidance=1.5),
    }
)

# %% [markdown]
# The cell above takes 5 steps instead of 25, to be quick: multiply its ratio by five.
#
# ### Do the samples help?
#
# The same CNN as in the sections before, tested on writers that nobody learned from. Half of what it
# sees is real, half is drawn by a generator that learned from exactly the same labelled digits. All
# are moved and turned a little ("shifts"), as in the generators' training. So the fair comparison is
# with shifts alone, which cost nothing.

# %%
record = load_record("generated_samples")
found = record["figures"]
print(
    f"{record['machine']['device']}, {record['date']}; {found['seeds']} seeds; robust: PGD, "
    f"ε = {found['epsilon']}"
)
for kind in ("accuracy", "robust"):
    heads = " ".join(f"{count:6,} labels" for count in found["labels"])
    print(f"\n{kind:24} {heads}")
    for method, runs in found[kind].items():
        means = torch.tensor(runs).mean(dim=0)  # (label counts,)
        print(f"{method:24} " + " ".join(f"{mean:13.1%}" for mean in means))

# %% [markdown]
# What do the samples add to shifts, in points, and how sure is that? The line is the 95 % interval of
# the mean over seeds. A method helps where its whole interval lies right of zero.

# %%
chosen = [each for each in found["effects"] if each["against"] == "shifts"]
show_effects(
    chosen,
    title="What drawn digits add to real ones",
    caption="Mean and 95 % interval over seeds, on new writers; right: under attack.",
    alt="Two panels with one interval for each generator, number of labels, and with or without real "
    "digits, around a line at zero. The cell below prints all of them.",
)

# %%
for kind in ("accuracy", "robust"):
    print(kind)
    print_effects(each for each in chosen if each["kind"] == kind)

# %% [markdown]
# No interval lies above zero. *With real digits*, accuracy stays where shifts alone brought it: the mean
# changes by less than a point. Under attack there is no clear change either, but for diffusion
# samples with all labels: they cost about three points, and their interval lies below zero. *Samples
# only*: a CNN that never saw a real digit reads 87 % of the new writers' digits after 200 labels, and
# 91 % or 92 % after all. So the generators have caught most of what a digit is, not all of it, and such
# a CNN is much easier to fool.
#
# Why no gain? We did not test the reasons; two are plausible. A generator knows nothing but the
# labelled digits, so it cannot tell the classifier how *other* people write, and that is what the test
# asks. And shifts already give the classifier new views of each digit. A generator that was trained on
# far more images than the classifier has labels for is another case, which we did not measure. Do the
# samples only repeat the labelled digits? The record has the distances:

# %%
for name, runs in found["nearest"].items():
    means = torch.tensor(runs).mean(dim=0)
    print(
        f"{name:14} "
        + "  ".join(
            f"{count:,} labels: {mean:.2f}"
            for count, mean in zip(found["labels"], means, strict=True)
        )
    )

# %% [markdown]
# The rows are the median distance to the nearest of the labelled digits, as in the table further up,
# for 200 labels and for all. With 200, the GAN stays nearer to them (1.12) than the digits of other
# people are (1.37), and the diffusion model is farther away (1.49). Neither helped: to be new is not
# enough. With all labels, every seed drew from the two checkpoints above. Their own training was done
# once, so the intervals there say how much the samples and the classifier's start matter, and not how
# much another GAN would differ.

# %% [markdown]
# ## 14 · What helped?
#
# All methods of this lesson, with their intervals. A method *helps* if the interval of its gain lies
# above zero in at least half of its comparisons and below zero in none; the experiment's docstring has
# the rules. Drawn digits came on top of shifts, so they are compared with shifts; the others with
# unchanged training data.

# %%
claim_record = load_record("c13_better_data")["figures"]
print(f"{'':28}{'kind':10}{'against':9}{'gain, points':>16}  above  below  verdict")
for row in sorted(claim_record["summaries"], key=lambda row: row["kind"]):
    gain = f"{row['least_gain']:+.1f} to {row['most_gain']:+.1f}"
    counts = [f"{row[side]:>5}/{row['comparisons']}" for side in ("above", "below")]
    start = f"{row['method']:28}{row['kind']:10}{row['against']:9}{gain:>16}"
    print(start, *counts, "  " + row["verdict"])

# %%
rows = claim_record["effects"]
most = {}  # (task, classifier) -> its largest number of labels
for row in rows:
    key = row["task"], row["model"]
    most[key] = max(row["labels"], most.get(key, 0))
chosen = [row for row in rows if row["labels"] == most[row["task"], row["model"]]]
show_effects(
    chosen,
    title="Every method, with the most labels that its classifier had",
    caption="Gain with its 95 % interval, by method, classifier, and number of labels. Left: unchanged "
    "examples. Right: digits under attack.",
    alt="Two panels of intervals around a line at zero, one row for each method, classifier and "
    "number of labels. The table above sums them up.",
)
lab.show_claim(load_claim("C13"))

# %% [markdown]
# Three things to take from the table:
#
# - **Shifts vary the inputs as the test does.** People write a digit a little higher, or slanted, and
#   shifted digits cover some of that. Our sentences were hard where their *way of telling* was new, and no
#   synonym and no translation of an old one brings that. It is not the whole story: a mixture looks like
#   no digit of the test, and helped as well.
# - **Accuracy and robustness are two columns** for a reason. For the CNN, only adversarial training,
#   which was made for it, raises the second by a large margin. The ViT with 200 labels, which falls to
#   almost any attack, gains in both from every change of its images.
# - **"Helps" depends on what it is compared with.** Much of what mixing gains over *nothing*, shifts gain
#   as well. Drawn digits were asked the harder question, what they add to shifts: nothing, here.
#
# All this holds for small models, little data and few test writers. Large models and other data may
# answer otherwise; the way to ask is the same.
#
# ### Read the real thing
#
# CutMix, and PGD, as the library has them:

# %%
from zoo_lessons.training.mixing import cutmix as library_cutmix

lab.show_source(library_cutmix, without_docstring=True)

# %%
lab.show_source(pgd, without_docstring=True)

# %% [markdown]
# ## 15 · What it costs
#
# Back-translation costs two translations for each copy. A Transformer does about two operations per
# parameter and token, in the encoder once, and in our decoder, which reads its prefix again at each
# step, once per prefix. Replacing words costs one row of cosines for each *different* word.

# %%
words = [len(to_french.tokenizer.encode(sentence).ids) + 1 for sentence in sentences]
length = sum(words) / len(words)
half = parameters / 2  # about half in the encoder, half in the decoder with its word scores
there_and_back = 2 * (2 * half * length + 2 * half * length * (length + 1) / 2)
print(
    f"{length:.0f} tokens a sentence; one copy by back-translation: {there_and_back / 1e6:.0f} Mflop"
)
print(
    f"one row of cosines: {2 * neighbours.vectors.numel() / 1e6:.0f} Mflop, kept for the next time"
)

# %% [markdown]
# | | when | cost |
# |---|---|---|
# | synonyms | once per copy | one row of cosines for each different word |
# | back-translation | once per copy | two translations |
# | MixUp, CutMix | in each batch | one copy of the batch |
# | adversarial training | in each batch | as many more gradients as the attack has steps |
# | GAN samples | train once, then once per sample | one run of the generator |
# | diffusion samples | train once, then once per sample | one run of the network per step, two with guidance |
#
# Counted for the CNN of section 9, in gradients of a batch for the same number of steps:

# %%
attack_steps = adversarial["training_steps"]
for name, gradients in {"none, shifts, MixUp, CutMix": 1, "adversarial": 1 + attack_steps}.items():
    print(f"{name:28} {gradients} forward and backward runs a batch")

# %% [markdown]
# ### Where paper and lesson differ
#
# | | paper | this lesson |
# |---|---|---|
# | synonyms | from WordNet (Wei & Zou 2019, section 2) | neighbours in MiniLM's embedding table |
# | back-translation | large translators (Xie et al. 2020) | two million parameters in all, 80,000 pairs of a grammar |
# | MixUp | one λ a batch in the paper's listing; large images, hundreds of epochs | one λ a batch, too; 8 × 8 pixels, 300 steps |
# | CutMix | the clipping stands in the code, not in the paper | clipped, λ recomputed |
# | PGD | 40 steps on MNIST, ε = 0.3 (Madry et al. 2018, section 5) | 20 steps, ε = 0.1; 3 in training |
# | generated samples | generators trained on tens of thousands of images | trained on the labelled digits alone |
#
# ## Quiz

# %%
lab.quiz("18")

# %% [markdown]
# ## Summary
#
# - Augmentation makes new inputs and keeps or mixes the label. Look at what it makes: neighbours are not
#   synonyms, and what changes the label teaches a lie.
# - MixUp and CutMix mix labels in the shares that are *in the image*; a clipped box changes them.
# - Split first, by origin, then augment the training part. Compare over seeds, with intervals, against
#   the cheapest thing that might do as well.
# - Accuracy and robustness are two questions. An attack that fails proves nothing until stronger ones
#   fail, too.
# - **Next:** [19 Quantization](19_quantization.ipynb) makes models smaller by rounding their weights.
#   **Read:** Zhang et al. 2018, [mixup](https://arxiv.org/abs/1710.09412), section 2; Yun et al. 2019,
#   [CutMix](https://arxiv.org/abs/1905.04899), section 3; Madry et al. 2018,
#   [Towards deep learning models resistant to adversarial attacks](https://arxiv.org/abs/1706.06083),
#   sections 2 and 5; Athalye et al. 2018, [Obfuscated gradients](https://arxiv.org/abs/1802.00420),
#   section 3; Ho et al. 2020, [DDPM](https://arxiv.org/abs/2006.11239), section 3.
