"""The masking explorer's Python side: the rule, its statistics, the static picture."""

from __future__ import annotations

import numpy as np
import pytest
import traitlets

from zoo_lessons.datasets.masking import IGNORED
from zoo_lessons.lab.widgets import MaskingExplorer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = [f"w{i}" for i in range(50)]
VOCABULARY = SPECIAL + WORDS
SENTENCE = " ".join(WORDS[:20])


def tokenize(text: str) -> list[str]:
    return ["[CLS]", *text.split(), "[SEP]"]


def explorer(text: str = SENTENCE, **options) -> MaskingExplorer:
    return MaskingExplorer(text, tokenize, VOCABULARY, **options)


def test_labels_are_the_true_ids_where_a_token_was_chosen():
    shown = explorer(rate=0.8, draw=4)
    read, labels, fates = shown.masked()
    assert set(fates) == {"masked", "random", "unchanged", "special", ""}
    for token, seen, label, fate in zip(shown.tokens, read, labels, fates, strict=True):
        chosen = fate in ("masked", "random", "unchanged")
        assert label == (VOCABULARY.index(token) if chosen else IGNORED)
        if fate == "masked":
            assert seen == "[MASK]"
        elif fate == "random":
            assert seen in WORDS
        else:
            assert seen == token


def test_the_rule_has_the_papers_shares():
    shown = explorer(rate=0.15)
    fates = []
    for draw in range(1, 1001):
        shown.draw = draw
        fates += shown.masked()[2][1:-1]
    chosen = [fate for fate in fates if fate]
    assert len(chosen) / len(fates) == pytest.approx(0.15, abs=0.01)
    for name, share in (("masked", 0.8), ("random", 0.1), ("unchanged", 0.1)):
        assert chosen.count(name) / len(chosen) == pytest.approx(share, abs=0.02)


def test_special_tokens_are_never_chosen():
    read, labels, fates = explorer("w1 [UNK] w2 [MASK]", rate=1.0).masked()
    assert [read[i] for i in (0, 2, 4, 5)] == ["[CLS]", "[UNK]", "[MASK]", "[SEP]"]
    assert [labels[i] for i in (0, 2, 4, 5)] == [IGNORED] * 4
    assert fates.count("special") == 4


def test_the_rate_adds_tokens_and_changes_no_others():
    shown = explorer(rate=0.2)
    few = shown.masked()
    shown.rate = 0.6
    many = shown.masked()
    kept = [i for i, label in enumerate(few[1]) if label != IGNORED]
    assert 0 < len(kept) < sum(label != IGNORED for label in many[1])
    assert [few[0][i] for i in kept] == [many[0][i] for i in kept]


def test_always_mask_changes_the_fates_only():
    shown = explorer(rate=0.9)
    labels = shown.masked()[1]
    shown.always_mask = True
    read, always, fates = shown.masked()
    assert always == labels
    assert set(fates) == {"masked", "special", ""}
    assert read.count("[MASK]") == fates.count("masked")


def test_draws_differ_and_can_be_had_again():
    shown = explorer(rate=0.5)
    masks = []
    for draw in (1, 2, 3, 2):
        shown.draw = draw
        masks.append(shown.masked()[1])
    assert masks[1] == masks[3]
    assert len({tuple(mask) for mask in masks}) == 3


def test_random_replacements_cover_the_vocabulary():
    shown, seen = explorer(rate=1.0), set()
    for draw in range(1, 200):
        shown.draw = draw
        read, _, fates = shown.masked()
        seen |= {token for token, fate in zip(read, fates, strict=True) if fate == "random"}
    assert seen == set(WORDS)


def test_a_refused_sentence_changes_nothing():
    shown, sent = explorer("w1 w2"), []
    shown.send = sent.append
    for text in ("w1 xyz", "w1 " * 63, "w3"):
        shown._handle_custom_msg({"kind": "sentence", "text": text, "request": "r"}, [])
        if text != "w3":
            assert (shown.text, shown.tokens) == ("w1 w2", ["[CLS]", "w1", "w2", "[SEP]"])
    assert [answer["error"] for answer in sent] == [
        "The token 'xyz' is not in the vocabulary.",
        "The sentence has 65 tokens; 1 to 64 fit here.",
        "",
    ]
    assert shown.tokens == ["[CLS]", "w3", "[SEP]"]


@pytest.mark.parametrize(
    ("vocabulary", "message"),
    [(WORDS, r"has no '\[MASK\]'"), (SPECIAL, "all 5 tokens of the vocabulary are special")],
)
def test_wrong_vocabularies_are_refused(vocabulary, message):
    with pytest.raises(ValueError, match=message):
        MaskingExplorer("w1", tokenize, vocabulary)


@pytest.mark.parametrize("options", [{"rate": 1.1}, {"rate": -0.1}, {"draw": 0}])
def test_other_values_are_refused(options):
    with pytest.raises(traitlets.TraitError):
        explorer(**options)


def test_text_and_picture_follow_the_draw():
    shown, again = explorer(rate=0.3), explorer(rate=0.3)
    assert shown.static_text() == again.static_text()
    assert shown.static_png() == again.static_png()
    fates = shown.masked()[2]
    assert f"of 20 ordinary tokens {fates.count('masked')} masked" in shown.static_text()
    again.draw = 9
    assert shown.static_text() != again.static_text()
    assert shown.static_png() != again.static_png()


def test_picture_of_the_longest_sentence():
    png = explorer(" ".join(np.tile(WORDS[:31], 2)), rate=1.0).static_png()
    assert len(png) < 100_000
