"""Do other wordings of few sentences help a classifier? Synonyms, blind edits, back-translation.

The task is `datasets.what_happened`: six answers, each told in many ways, a quarter of them in the
test only. Three classifiers learn from 5, 20 or 80 sentences of each answer, alone or
with copies:

- "random edits": swaps and deletions (`training.augment_text.random_edits`);
- "synonyms": neighbours in MiniLM's embedding table (`replace_words`);
- "back-translation": English to French to English, sampled (`translation.back_translate`);
- "synonyms + back-translation": half of the copies each.

The classifiers: "TF-IDF", logistic regression on words and pairs of words; "small Transformer",
trained from nothing with a tenth of the words hidden; "frozen MiniLM", logistic regression on the
vectors of a pretrained encoder, to which all wordings are familiar.

Each run has a seed, which draws the training sentences, the copies and the start of the weights.
What is to be chosen (the number of copies, the strength of the regressions, the learning rate) is
chosen on validation sentences, a quarter of whose ways of telling are in neither other split, for a
seed that is not used again. An effect is the difference to the same seed's run without copies; the
interval is Student's at 95 %, over seeds, for these 300 test sentences.

Beside it:

- "real": accuracy without copies for more numbers of real sentences, and "worth": with how many
  real sentences of each answer one gets as far as with the copies (interpolated on a logarithmic
  axis; null where the copies do not help, or where more real sentences than we tried would do);
- "coping": what the translators make of sentences that their generator cannot write: how many words
  they do not know, what came back unchanged;
- "telltale words": in how many copies the words that tell the answer are kept, tell another answer,
  or are gone (`what_happened.after_change`);
- "neighbours": how often a synonym of the generator's word lists is among a word's 1 and 3 nearest
  words; by MiniLM's table, by the vectors that MiniLM gives to single words, and by the table
  without forms of the same word.

Nothing here is timed: the figures are the same on every run of one machine. It takes about ten
minutes of one core.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from experiments.effects import effect
from zoo_lessons.datasets.everyday import sentence_pairs, synonyms
from zoo_lessons.datasets.what_happened import (
    LABELS,
    Message,
    after_change,
    messages,
)
from zoo_lessons.datasets.words import PAD_ID, UNK_ID, encode_batch, word_tokenizer
from zoo_lessons.layers.attention import padding_mask
from zoo_lessons.layers.blocks import EncoderBlock
from zoo_lessons.layers.positions import SinusoidalPositions
from zoo_lessons.records import experiment, load_record
from zoo_lessons.retrieval import sentence_embeddings
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.augment_text import (
    WordNeighbours,
    random_edits,
    replace_words,
    with_copies,
)
from zoo_lessons.translation import Translator, back_translate, unknown_words
from zoo_lessons.weights import load_pretrained, load_tokenizer

TASK = "what happened"
METHODS = ("random edits", "synonyms", "back-translation", "synonyms + back-translation")
COUNTS = (5, 20, 80)  # training sentences of each answer
FEW_COUNTS = COUNTS[:2]  # for MiniLM, whose vectors of all copies would take longest
MORE_COUNTS = (5, 10, 20, 40, 80, 160)  # without copies
COPIES = (2, 4)
SEEDS, TUNING_SEED = range(5), 100
EVALUATED = {"validation": 40, "test": 50}  # of each answer
STRENGTHS = (1.0, 10.0, 100.0)  # scikit-learn's C: larger is a weaker penalty
RATES = (1e-3, 3e-3)
STEPS, BATCH = 120, 32
TEMPERATURE = 0.7
Sentences = tuple[Sequence[str], Sequence[int]]  # texts and labels


class Changes:
    """What the methods make of sentences; each sentence's copies are made once for a seed."""

    def __init__(self):
        self.neighbours = WordNeighbours.from_minilm()
        self.there = Translator.load("english_to_french")
        self.back = Translator.load("french_to_english")

    def copies(self, method: str, texts: Sequence[str], seed: int) -> list[list[str]]:
        """max(COPIES) rounds of copies, each (texts,)."""
        rounds = max(COPIES)
        chance = random.Random(f"{method} {seed}")
        if method == "random edits":
            return [[random_edits(text, chance) for text in texts] for _ in range(rounds)]
        if method == "synonyms":
            return [
                [replace_words(text, self.neighbours, chance) for text in texts]
                for _ in range(rounds)
            ]
        generator = torch.Generator().manual_seed(seed)
        return [
            back_translate(
                self.there, self.back, texts, temperature=TEMPERATURE, generator=generator
            )
            for _ in range(rounds)
        ]


@dataclass
class Draw:
    """A seed's training sentences, and copies of the first `max(COUNTS)` of each answer."""

    seed: int
    messages: list[Message]
    rounds: dict[str, list[list[str]]] = field(default_factory=dict)  # method -> copies

    @classmethod
    def of(cls, changes: Changes, seed: int) -> Draw:
        drawn = cls(seed, messages("train", max(MORE_COUNTS), seed=seed))
        texts = [message.text for message in drawn.copied]
        for method in METHODS[:3]:
            drawn.rounds[method] = changes.copies(method, texts, seed)
        both = zip(drawn.rounds["synonyms"], drawn.rounds["back-translation"], strict=True)
        drawn.rounds[METHODS[3]] = [each for pair in both for each in pair]
        return drawn

    @property
    def copied(self) -> list[Message]:
        return self.messages[: max(COUNTS) * len(LABELS)]

    def sentences(self, count: int, method: str = "", copies: int = 0) -> Sentences:
        """`count` sentences of each answer, and copies of them."""
        number = count * len(LABELS)
        texts = [message.text for message in self.messages[:number]]
        labels = [message.label for message in self.messages[:number]]
        rounds = iter(self.rounds.get(method, []))
        found = with_copies(texts, labels, lambda _: next(rounds)[:number], copies)
        return found.texts, found.labels


# --- three classifiers: fit on sentences, then answer others -------------------------------------

Classify = Callable[[Sequence[str]], Sequence[int]]


def tf_idf(train: Sentences, strength: float, _seed: int) -> Classify:
    """Logistic regression on words and pairs of words."""
    vectors = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\b\w+\b")
    model = LogisticRegression(C=strength, max_iter=1000)
    model.fit(vectors.fit_transform(train[0]), train[1])
    return lambda texts: model.predict(vectors.transform(texts))


class Embedder:
    """MiniLM's vectors of sentences, each computed once."""

    def __init__(self):
        self.model, self.tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
        self.known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        new = sorted(set(texts) - set(self.known))
        if new:
            vectors = sentence_embeddings(self.model, self.tokenizer, new, batch_size=128)
            self.known.update(zip(new, vectors.numpy(), strict=True))
        return np.stack([self.known[text] for text in texts])


def frozen(embed: Embedder) -> Callable[[Sentences, float, int], Classify]:
    """Logistic regression on MiniLM's vectors."""

    def fitted(train: Sentences, strength: float, _seed: int) -> Classify:
        model = LogisticRegression(C=strength, max_iter=1000).fit(embed(train[0]), train[1])
        return lambda texts: model.predict(embed(texts))

    return fitted


class TextClassifier(nn.Module):
    """Two Transformer blocks over words, the mean of the tokens, a linear head."""

    def __init__(self, words: int, width: int = 64):
        super().__init__()
        self.embedding = nn.Embedding(words, width)
        self.positions = SinusoidalPositions(width, 128)
        self.layers = nn.ModuleList(
            EncoderBlock(width, 4, 2 * width, norm="pre", activation="gelu", dropout=0.1)
            for _ in range(2)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, len(LABELS))

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Ids and mask (batch, length) -> logits (batch, answers)."""
        x = self.positions(self.embedding(input_ids))
        for layer in self.layers:
            x = layer(x, padding_mask(attention_mask))
        weights = attention_mask[..., None].to(x.dtype)
        return self.head((self.norm(x) * weights).sum(dim=1) / weights.sum(dim=1))


def small_transformer(train: Sentences, rate: float, seed: int) -> Classify:
    """A Transformer trained from nothing; hidden words prepare it for unknown ones."""
    texts, labels = train
    tokenizer = word_tokenizer(texts)
    ids, mask = encode_batch(tokenizer, texts)
    answers = torch.tensor(labels)
    seed_everything(seed)
    model = TextClassifier(tokenizer.get_vocab_size())
    draw = torch.Generator().manual_seed(seed)

    def some(_step: int) -> tuple[Tensor, Tensor, Tensor]:
        rows = torch.randint(len(texts), (BATCH,), generator=draw)
        length = int(mask[rows].sum(dim=1).max())
        hidden = torch.rand(BATCH, length, generator=draw) < 0.1
        shown = ids[rows, :length]
        shown = shown.masked_fill(hidden & (shown != PAD_ID), UNK_ID)
        return shown, mask[rows, :length], answers[rows]

    fit(
        model,
        some,
        lambda model, batch: F.cross_entropy(model(*batch[:2]), batch[2]),
        steps=STEPS,
        lr=rate,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    model.eval()

    @torch.inference_mode()
    def classify(texts: Sequence[str]) -> list[int]:
        return model(*encode_batch(tokenizer, texts)).argmax(dim=-1).tolist()

    return classify


def accuracy(classify: Classify, held_out: list[Message]) -> float:
    found = classify([message.text for message in held_out])
    right = [int(one) == message.label for one, message in zip(found, held_out, strict=True)]
    return sum(right) / len(right)


# --- the measurements ----------------------------------------------------------------------------


def measure_classifiers(draws: Sequence[Draw], tuning: Draw) -> dict[str, Any]:
    """Accuracies {model: {method: {labels of each answer: [seed]}}}, and what was chosen."""
    validation, test = (messages(split, number) for split, number in EVALUATED.items())
    classifiers = {
        "TF-IDF": (tf_idf, STRENGTHS, COUNTS),
        "small Transformer": (small_transformer, RATES, COUNTS),
        "frozen MiniLM": (frozen(Embedder()), STRENGTHS, FEW_COUNTS),
    }
    accuracies: dict[str, Any] = {}
    chosen: dict[str, Any] = {}
    for model, (fitted, settings, counts) in classifiers.items():
        accuracies[model] = {"none": {}, **{method: {} for method in METHODS}}
        chosen[model] = {"none": {}, **{method: {} for method in METHODS}}
        for method in accuracies[model]:
            numbers = MORE_COUNTS if method == "none" else counts
            for count in numbers:
                options = [
                    (copies, setting)
                    for copies in ((0,) if method == "none" else COPIES)
                    for setting in settings
                ]
                copies, setting = max(
                    options,
                    key=lambda one: accuracy(
                        fitted(tuning.sentences(count, method, one[0]), one[1], TUNING_SEED),
                        validation,
                    ),
                )
                chosen[model][method][count] = {"copies": copies, "setting": setting}
                accuracies[model][method][count] = [
                    round(
                        accuracy(
                            fitted(draw.sentences(count, method, copies), setting, draw.seed), test
                        ),
                        4,
                    )
                    for draw in draws
                ]
    return {"accuracy": accuracies, "chosen": chosen}


def worth(real: dict[int, float], with_copies: float, count: int) -> float | None:
    """How many real sentences of each answer get as far: `real` is accuracy by number."""
    numbers = sorted(real)
    if with_copies <= real[count]:
        return None
    for less, more in zip(numbers, numbers[1:], strict=False):
        if less >= count and real[less] < with_copies <= real[more]:
            way = (with_copies - real[less]) / (real[more] - real[less])
            return round(math.exp((1 - way) * math.log(less) + way * math.log(more)), 1)
    return None


def measure_neighbours(neighbours: WordNeighbours) -> dict[str, dict[str, float]]:
    """How often a synonym is among the nearest 1 and 3 words."""
    pairs = [pair for pair in synonyms() if set(pair) <= set(neighbours.places)]
    encoder, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
    vectors = sentence_embeddings(encoder, tokenizer, neighbours.words, batch_size=256)
    encoded = WordNeighbours(neighbours.words, vectors)
    ways = {
        "MiniLM's table": (neighbours, True),
        "single words, encoded": (encoded, True),
        "MiniLM's table, other words": (neighbours, False),
        "single words, encoded, other words": (encoded, False),
    }
    found: dict[str, Any] = {"pairs": len(pairs), "words": len(neighbours.words)}
    for name, (table, own_forms) in ways.items():
        found[name] = {}
        for count in (1, 3):
            hits = [
                other in [near for near, _ in table.nearest(word, count, own_forms=own_forms)]
                for word, other in pairs
            ]
            found[name][f"nearest {count}"] = round(sum(hits) / len(hits), 4)
    return found


def measure_coping(changes: Changes, draw: Draw, examples: int = 12) -> dict[str, Any]:
    """What the translators make of sentences that their generator cannot write."""
    texts = [message.text for message in draw.copied]
    tokenizer = changes.there.tokenizer
    words = [re.findall(r"\w+", text) for text in texts]
    unknown = [len(unknown_words(tokenizer, text)) for text in texts]
    written = {pair.english for pair in sentence_pairs("train", 20_000)}
    runs = {run for text in written for run in three_word_runs(text)}
    ours = [run for text in texts for run in three_word_runs(text)]
    once = draw.rounds["back-translation"][0]
    return {
        "sentences": len(texts),
        "sentences that the generator wrote": sum(text in written for text in texts),
        "three-word runs that it wrote": round(sum(run in runs for run in ours) / len(ours), 4),
        "unknown words": round(sum(unknown) / sum(map(len, words)), 4),
        "sentences without an unknown word": round(unknown.count(0) / len(unknown), 4),
        "came back unchanged": round(
            sum(text == other for text, other in zip(texts, once, strict=True)) / len(texts), 4
        ),
        "examples": [
            [texts[row], changes.there.translate([texts[row]])[0], once[row]]
            for row in range(examples)
        ],
    }


def three_word_runs(text: str) -> list[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return list(zip(words, words[1:], words[2:], strict=False))


def effects(accuracies: dict[str, Any]) -> list[dict[str, Any]]:
    """One row for each model, method and number of labels."""
    return [
        effect(
            method,
            accuracies[model][method][count],
            accuracies[model]["none"][count],
            task=TASK,
            model=model,
            labels=count * len(LABELS),
        )
        for model in accuracies
        for method in METHODS
        for count in accuracies[model][method]
    ]


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


@experiment(
    "augment_text",
    lesson="18",
    uses=[
        "experiments.effects",
        "experiments.translators",
        "zoo_lessons.datasets.everyday",
        "zoo_lessons.datasets.what_happened",
        "zoo_lessons.datasets.words",
        "zoo_lessons.layers.attention",
        "zoo_lessons.layers.blocks",
        "zoo_lessons.layers.positions",
        "zoo_lessons.retrieval",
        "zoo_lessons.training.augment_text",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
        "zoo_lessons.translation",
    ],
)
def augment_text() -> dict[str, Any]:
    changes = Changes()
    draws = [Draw.of(changes, seed) for seed in SEEDS]
    measured = measure_classifiers(draws, Draw.of(changes, TUNING_SEED))
    accuracies = measured["accuracy"]
    told = {
        method: {
            what: sum(
                after_change(draw.copied, copies)[what]
                for draw in draws
                for copies in draw.rounds[method]
            )
            for what in ("kept", "another", "silent")
        }
        for method in METHODS[:3]
    }
    real = {
        model: {count: mean(seeds) for count, seeds in found["none"].items()}
        for model, found in accuracies.items()
    }
    return {
        "figures": {
            "labels": list(LABELS),
            "counts": list(COUNTS),
            "more_counts": list(MORE_COUNTS),
            "seeds": len(SEEDS),
            "test_sentences": EVALUATED["test"] * len(LABELS),
            "temperature": TEMPERATURE,
            "translators": {
                name: found["checkpoint"]["sha256"]
                for name, found in load_record("translators")["figures"]["directions"].items()
            },
            **measured,
            "effects": effects(accuracies),
            "worth": {
                model: {
                    method: {
                        count: worth(real[model], mean(found[method][count]), count)
                        for count in found[method]
                    }
                    for method in METHODS
                }
                for model, found in accuracies.items()
            },
            "telltale words": told,
            "coping": measure_coping(changes, draws[0]),
            "neighbours": measure_neighbours(changes.neighbours),
        }
    }
