"""Tagging references, word by word and with a CRF: how much do rules between tags add, and when?

The task is `datasets.references`: mark authors, title and venue of a reference whose quotation
marks were taken away. MiniLM stays frozen; a head on its vectors is trained.

- *encoders*: "words", MiniLM's word vectors alone, which see no neighbour; "MiniLM", the output of
  its block `BLOCK`, the best of its six on validation references (`blocks` has them all); "MiniLM +
  LSTM", the same with a bidirectional LSTM in the head.
- *heads*: "softmax", each word by itself, with steps that BIO forbids left in; "softmax, legal
  only", the same model, decoded by Viterbi's algorithm with nothing but the rules of BIO; "CRF",
  the rules and learned transitions.
- *references to learn from*: `SIZES`, drawn by the seed, which also starts the head.

All figures are entity-level F1 (exact spans), [seed], on "test" (other works, the same libraries)
and "other" (another library, whose writers have their own habits). "illegal" is the share of test
references in which the softmax takes a step that BIO forbids; the CRF cannot.

Baselines without a network: "most frequent tag" gives each word the tag that it has most often in
training; "rule" takes the longest run of words without punctuation and figures for the title, what
stands before it for the authors, and what comes next for the venue.

`seen` is recall on the test entities that stand in the training references word by word, and on the
others, with the share of the former.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from zoo_lessons.datasets.references import TAGS, TYPES, Reference, references
from zoo_lessons.records import experiment
from zoo_lessons.tagging import (
    NO_LABEL,
    TaggingHead,
    entities,
    entity_scores,
    has_illegal_step,
    word_features,
)
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.weights import load_pretrained, load_tokenizer

BLOCK = 3
ENCODERS = {"words": (0, 0), "MiniLM": (BLOCK, 0), "MiniLM + LSTM": (BLOCK, 64)}  # block, LSTM
ALL = 10**6  # references; there are about 400
SIZES = {"words": (20, 80, ALL), "MiniLM": (20, 80, ALL), "MiniLM + LSTM": (20, ALL)}
SEEDS = range(3)
STEPS, BATCH = 200, 32
RATE = 1e-2  # the best of a few on validation references, with LSTM and without
CRF_RATE = 2e-2  # for the transitions
JUDGED = ("test", "other")


def labels_of(found: Sequence[Reference]) -> list[Tensor]:
    """Indices into `TAGS`, (words,) for each reference."""
    return [torch.tensor([TAGS.index(tag) for tag in one.tags]) for one in found]


def train(
    features: Sequence[Tensor],
    labels: Sequence[Tensor],
    *,
    crf: bool,
    lstm: int = 0,
    seed: int = 0,
    steps: int = STEPS,
) -> TaggingHead:
    """A head trained on these sentences, in evaluation mode."""
    seed_everything(seed)
    head = TaggingHead(features[0].shape[1], TAGS, crf=crf, lstm=lstm)
    rules = [] if head.crf is None else list(head.crf.parameters())
    others = [p for name, p in head.named_parameters() if not name.startswith("crf.")]
    groups = [{"params": others, "lr": RATE}, {"params": rules, "lr": CRF_RATE}]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
    chance = random.Random(seed)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        chosen = chance.sample(range(len(features)), min(BATCH, len(features)))
        x = pad_sequence([features[i] for i in chosen], batch_first=True)
        y = pad_sequence([labels[i] for i in chosen], batch_first=True, padding_value=NO_LABEL)
        return x, y

    fit(
        head,
        batch,
        lambda head, batch: head.loss(*batch),
        steps=steps,
        optimizer=optimizer,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return head.eval()


def f1(found: Sequence[Reference], tags: Sequence[Sequence[str]]) -> float:
    return round(entity_scores([one.tags for one in found], tags).f1, 4)


# --- baselines without a network ---------------------------------------------------------------


def most_frequent_tags(train: Sequence[Reference], found: Sequence[Reference]) -> list[list[str]]:
    """Each word's most frequent tag in `train`; unknown words get the most frequent of all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for one in train:
        for word, tag in zip(one.words, one.tags, strict=True):
            counts[word.lower()][tag] += 1
            counts[""][tag] += 1  # no word is empty
    best = {word: count.most_common(1)[0][0] for word, count in counts.items()}
    return [[best.get(word.lower(), best[""]) for word in one.words] for one in found]


def rule_tags(words: Sequence[str]) -> list[str]:
    """The title is the longest run of words without punctuation and figures; see the module."""
    runs, start = [], 0
    for place, word in enumerate([*words, "."]):
        if word != ":" and not word[0].isalpha():
            runs.append((start, place))
            start = place + 1
    title = max(runs, key=lambda run: run[1] - run[0])
    later = [run for run in runs if run[0] >= title[1] and run[1] > run[0]]
    years = [i for i, word in enumerate(words[: title[0]]) if word == "(" or word[0].isdigit()]
    authors = (0, min([*years, title[0]]))
    while authors[1] and not words[authors[1] - 1][0].isalpha():
        authors = (0, authors[1] - 1)
    tags = ["O"] * len(words)
    for name, span in zip(TYPES, (authors, title, *later[:1]), strict=False):
        for place in range(*span):
            tags[place] = f"{'B' if place == span[0] else 'I'}-{name}"
    return tags


# --- figures -----------------------------------------------------------------------------------


def recall_by_acquaintance(
    train: Sequence[Reference], found: Sequence[Reference], tags: Sequence[Sequence[str]]
) -> dict[str, float]:
    """Recall on entities that training has word by word, on the others, and the former's share."""

    def texts(one: Reference) -> dict[tuple[str, int, int], tuple[str, ...]]:
        return {span: (span[0], *one.words[span[1] : span[2]]) for span in entities(one.tags)}

    known = {text for one in train for text in texts(one).values()}
    hits: dict[bool, list[bool]] = {True: [], False: []}
    for one, guess in zip(found, tags, strict=True):
        right = set(entities(guess))
        for span, text in texts(one).items():
            hits[text in known].append(span in right)
    return {
        "seen": round(sum(hits[True]) / len(hits[True]), 4),
        "unseen": round(sum(hits[False]) / len(hits[False]), 4),
        "share seen": round(len(hits[True]) / (len(hits[True]) + len(hits[False])), 4),
    }


def measure(seeds: range = SEEDS, *, steps: int = STEPS, sizes: Any = SIZES) -> dict[str, Any]:
    """All figures; see the module's docstring."""
    data = {name: references(name) for name in ("train", "validation", *JUDGED)}
    labels = labels_of(data["train"])
    model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")

    def features(name: str, block: int) -> list[Tensor]:
        return word_features(model, tokenizer, [one.words for one in data[name]], block=block)

    blocks = []
    for block in range(len(model.layers) + 1):
        head = train(features("train", block), labels, crf=False, steps=steps)
        blocks.append(f1(data["validation"], head.predict(features("validation", block))))

    results: dict[str, Any] = {}
    last = {}
    for encoder, (block, lstm) in ENCODERS.items():
        encoded = {name: features(name, block) for name in ("train", *JUDGED)}
        for size in sizes[encoder]:
            size = min(size, len(labels))
            row = results.setdefault(encoder, {})[str(size)] = _empty_row()
            for seed in seeds:
                chosen = random.Random(seed).sample(range(len(labels)), size)
                inputs = [encoded["train"][i] for i in chosen], [labels[i] for i in chosen]
                plain = train(*inputs, crf=False, lstm=lstm, seed=seed, steps=steps)
                chained = train(*inputs, crf=True, lstm=lstm, seed=seed, steps=steps)
                for name in JUDGED:
                    tags = {
                        "softmax": plain.predict(encoded[name]),
                        "softmax, legal only": plain.predict(encoded[name], "legal only"),
                        "CRF": chained.predict(encoded[name]),
                    }
                    for head, found in tags.items():
                        row[head][name].append(f1(data[name], found))
                    if name == "test":
                        illegal = [has_illegal_step(one) for one in tags["softmax"]]
                        row["illegal"].append(round(sum(illegal) / len(illegal), 4))
                        last[encoder] = tags
    best = last["MiniLM + LSTM"]  # of the largest size and the last seed
    return {
        "references": {name: len(found) for name, found in data.items()},
        "blocks": blocks,
        "f1": results,
        "baselines": {
            "most frequent tag": {
                name: f1(data[name], most_frequent_tags(data["train"], data[name]))
                for name in JUDGED
            },
            "rule": {
                name: f1(data[name], [rule_tags(one.words) for one in data[name]])
                for name in JUDGED
            },
        },
        "seen": recall_by_acquaintance(data["train"], data["test"], best["CRF"]),
        "by_type": {
            name: {head: _f1_of(name, data["test"], found) for head, found in best.items()}
            for name in TYPES
        },
    }


def _empty_row() -> dict[str, Any]:
    heads = ("softmax", "softmax, legal only", "CRF")
    return {**{head: {name: [] for name in JUDGED} for head in heads}, "illegal": []}


def _f1_of(name: str, found: Sequence[Reference], tags: Sequence[Sequence[str]]) -> float:
    """F1 of one type of entity."""

    def only(sequence: Sequence[str]) -> list[str]:
        return [tag if tag.endswith(f"-{name}") else "O" for tag in sequence]

    return round(entity_scores([only(one.tags) for one in found], list(map(only, tags))).f1, 4)


@experiment(
    "tagging",
    lesson="08",
    uses=[
        "zoo_lessons.datasets.references",
        "zoo_lessons.layers.crf",
        "zoo_lessons.tagging",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def tagging() -> dict[str, Any]:
    about = {"seeds": len(SEEDS), "steps": STEPS, "block": BLOCK}
    return {"figures": {**about, **measure()}}
