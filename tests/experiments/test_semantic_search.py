"""The search experiment: its intervals, and that first sentences are not searched."""

from __future__ import annotations

import numpy as np

from experiments.semantic_search import METHODS, bootstrap, first_sentences, judged


def test_first_sentences_are_taken_out():
    passages = ["One sentence only, it stays.", "The first. The second. The third."]
    searched, asked, answers = first_sentences(passages)
    assert searched == [passages[0], "The second. The third."]
    assert (asked, answers) == (["The first."], [[1]])


def test_bootstrap_holds_the_mean_and_narrows():
    values = np.random.default_rng(1).random(400)
    mean, low, high = bootstrap(values)
    assert low < mean < high and mean == round(values.mean(), 4)
    _, low_few, high_few = bootstrap(values[:40])
    assert high_few - low_few > 2 * (high - low)
    assert bootstrap([1, 1, 1]) == [1, 1, 1]


def test_judged_counts_ranks():
    ranks = dict.fromkeys(METHODS, [1, 4, 20, 2])
    ranks["MiniLM"] = [1, 1, 1, 1]
    figures = judged(ranks)
    assert figures["BM25"]["recall@1"][0] == 0.25
    assert figures["BM25"]["recall@5"][0] == 0.75
    assert figures["BM25"]["MRR"][0] == 0.45
    assert figures["MiniLM"]["MRR minus BM25's"][0] == 0.55
