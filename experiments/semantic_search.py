"""Search in the Python reference: by words, by meaning, and by both.

The passages are the paragraphs of `prose.paragraphs("reference")`. Three tests:

- "own words" and "named": the questions of `datasets.reference_questions`, whose answers we marked;
- "first sentence": the first sentence of each paragraph that has more than one; its answer is the
  rest of the paragraph. First sentences are taken out of what is searched, so this test does not
  leak. Nobody chose the wording, but a first sentence is no question.

Methods: "BM25" and "TF-IDF of letters" (runs of 3 to 5 letters inside words: "sorting" then finds
"sorted") compare words; "MiniLM" compares mean vectors of a model that was never trained on these
questions; "BM25 + MiniLM" fuses their rankings. Nothing is tuned: all settings are the usual
ones.

Figures: recall@k, the share of questions with a right passage among the first k; MRR, the mean of
1 / rank of the first right passage. Intervals are 95 % bootstrap intervals over the questions, and
so is that of each method's MRR minus BM25's on the same questions.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor

from zoo_lessons.datasets.prose import paragraphs, sentences
from zoo_lessons.datasets.reference_questions import questions
from zoo_lessons.records import experiment
from zoo_lessons.retrieval import BM25, first_ranks, fused, sentence_embeddings
from zoo_lessons.weights import load_pretrained, load_tokenizer

METHODS = ("BM25", "TF-IDF of letters", "MiniLM", "BM25 + MiniLM")
DEPTHS = (1, 5, 10)
DRAWS = 2000
SHOWN = 90  # letters of a passage that the record quotes


def scores_of(passages: Sequence[str], asked: Sequence[str]) -> dict[str, Tensor]:
    """Each method's scores (questions, passages)."""
    bm25 = BM25(passages)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    table = letters.fit_transform(passages)
    model, tokenizer = load_pretrained("minilm"), load_tokenizer("minilm")
    vectors = sentence_embeddings(model, tokenizer, [*passages, *asked])
    scores = {
        "BM25": torch.stack([bm25.scores(text) for text in asked]),
        "TF-IDF of letters": torch.from_numpy((letters.transform(asked) @ table.T).toarray()),
        "MiniLM": vectors[len(passages) :] @ vectors[: len(passages)].T,
    }
    return {**scores, "BM25 + MiniLM": fused(scores["BM25"], scores["MiniLM"])}


def first_sentences(passages: Sequence[str]) -> tuple[list[str], list[str], list[list[int]]]:
    """(what is searched, first sentences, the passage that each belongs to)."""
    searched, asked, answers = [], [], []
    for place, passage in enumerate(passages):
        first, *rest = sentences(passage)
        searched.append(" ".join(rest) or passage)
        if rest:
            asked.append(first)
            answers.append([place])
    return searched, asked, answers


def bootstrap(values: Sequence[float], seed: int = 0) -> list[float]:
    """The mean and its 95 % interval: [mean, low, high]."""
    values = np.asarray(values, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(values), size=(DRAWS, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [0.025, 0.975])
    return [round(float(value), 4) for value in (values.mean(), low, high)]


def judged(ranks: dict[str, list[int]]) -> dict[str, Any]:
    """The figures of one test from each method's ranks, all on the same questions."""
    reciprocal = {name: 1 / np.asarray(places) for name, places in ranks.items()}
    return {
        name: {
            **{f"recall@{k}": bootstrap([rank <= k for rank in places]) for k in DEPTHS},
            "MRR": bootstrap(reciprocal[name]),
            "MRR minus BM25's": bootstrap(reciprocal[name] - reciprocal["BM25"]),
        }
        for name, places in ranks.items()
    }


def measure(passages: Sequence[str]) -> dict[str, Any]:
    """All figures; see the module's docstring."""
    found = questions(passages)
    scores = scores_of(passages, [question.text for question in found])
    answers = [question.answers for question in found]
    ranks = {name: first_ranks(table, answers) for name, table in scores.items()}
    top = {name: table.argmax(dim=1).tolist() for name, table in scores.items()}
    tests = {}
    for kind in ("own words", "named"):
        chosen = [i for i, question in enumerate(found) if question.kind == kind]
        tests[kind] = judged({name: [row[i] for i in chosen] for name, row in ranks.items()})
        tests[kind]["questions"] = len(chosen)

    searched, asked, places = first_sentences(passages)
    other = scores_of(searched, asked)
    tests["first sentence"] = judged({name: first_ranks(t, places) for name, t in other.items()})
    tests["first sentence"]["questions"] = len(asked)
    return {
        "passages": len(passages),
        "tests": tests,
        "asked": [
            {
                "question": question.text,
                "kind": question.kind,
                "answer": passages[question.answers[0]][:SHOWN],
                "rank": {name: ranks[name][i] for name in METHODS},
                "first": {name: passages[top[name][i]][:SHOWN] for name in ("BM25", "MiniLM")},
            }
            for i, question in enumerate(found)
        ],
    }


@experiment(
    "semantic_search",
    lesson="08",
    uses=[
        "zoo_lessons.datasets.cleaning",
        "zoo_lessons.datasets.prose",
        "zoo_lessons.datasets.reference_questions",
        "zoo_lessons.retrieval",
    ],
)
def semantic_search() -> dict[str, Any]:
    return {"figures": measure(paragraphs("reference"))}
