"""Everyday sentences: French grammar, several wordings, splits, and words that nobody knows."""

import re

import pytest

from zoo_lessons.datasets.everyday import agree, sentence_pairs, synonyms
from zoo_lessons.datasets.words import UNK_ID, decode_batch, encode_batch, word_tokenizer


@pytest.fixture(scope="module")
def pairs():
    return sentence_pairs("train", 3000)


@pytest.mark.parametrize(
    ("spelt", "said"),
    [
        ("je ai vu le ami de le oncle", "j'ai vu l'ami de l'oncle"),
        ("je ne ai pas lu la lettre à le roi", "je n'ai pas lu la lettre au roi"),
        ("ma écharpe et ce ordinateur", "mon écharpe et cet ordinateur"),
        ("un vieux ami, un nouveau hôtel", "un vieil ami, un nouvel hôtel"),
        ("le livre de le garçon que elle a vu", "le livre du garçon qu'elle a vu"),
        ("le chat se est assis", "le chat s'est assis"),
    ],
)
def test_french_words_said_together(spelt, said):
    assert agree(spelt) == said


def test_no_french_word_that_elides_stands_before_a_vowel(pairs):
    wrong = r"\b(je|ne|le|la|de|que|ce|ma|ta|sa|vieux|nouveau) [aeiouéèêâîôûœh]|\b(de|à) le\b"
    assert [pair for pair in pairs if re.search(wrong, pair.french)] == []


def test_participles_agree_with_what_stands_before_them(pairs):
    french = [pair.french for pair in pairs]
    forms = {"f": (r"la|une|ma|cette", "e"), "m": (r"le|un|ce", "é")}
    for articles, ending in forms.values():
        passive = rf"^(?:{articles}) (?:petite? )?\w+ a été (\w+)"
        after_que = rf"^(?:{articles}) \w+ que (?:mon|la|le|nous) ?\w* (?:a|avons) (\w+) "
        for pattern in (passive, after_que):
            found = {m for text in french for m in re.findall(pattern, text)}
            assert found, pattern
            if ending == "e":
                assert all(participle.endswith("e") for participle in found), found
            else:
                assert not any(participle.endswith("ée") for participle in found), found


def test_a_seed_gives_the_same_sentences_and_another_seed_others(pairs):
    assert sentence_pairs("train", 50) == pairs[:50]
    assert sentence_pairs("train", 50, seed=1) != pairs[:50]
    assert sentence_pairs("train", 0) == []


def test_one_meaning_has_several_wordings_on_either_side(pairs):
    english = " ".join(pair.english for pair in pairs)
    french = " ".join(pair.french for pair in pairs)
    assert {"bike", "bicycle", "mended", "repaired"} <= set(english.split())
    assert {"vélo", "bicyclette", "réparé", "arrangé"} <= set(french.split())
    with_bike = [pair.french for pair in pairs if "bike" in pair.english.split()]
    assert any("vélo" in text for text in with_bike)
    assert any("bicyclette" in text for text in with_bike)


def test_the_splits_put_other_things_and_events_together(pairs):
    test = sentence_pairs("test", 2000, invented=0.0)
    sold = re.compile(r"\bsold (?:the|a|an|my) (\w+)$")
    taught, tested = (
        {match[1] for pair in split for match in [sold.search(pair.english)] if match}
        for split in (sentence_pairs("train", 20_000, invented=0.0), test)
    )
    assert taught and tested and not taught & tested


def test_invented_words_are_the_same_in_both_languages_and_unknown():
    known = sentence_pairs("train", 3000, invented=0.0)
    tokenizer = word_tokenizer([text for pair in known for text in (pair.english, pair.french)])
    pairs = sentence_pairs("train", 300, invented=1.0)
    sides = [[pair.english for pair in pairs], [pair.french for pair in pairs]]
    english, french = (
        (encode_batch(tokenizer, side).input_ids == UNK_ID).sum(dim=1) for side in sides
    )
    same = english == french
    assert (english > 0).float().mean() > 0.9
    assert same.float().mean() > 0.9  # a rare word of the vocabulary may be missing, too


def test_sentences_survive_the_tokenizer(pairs):
    some = [text for pair in pairs[:300] for text in (pair.english, pair.french)]
    tokenizer = word_tokenizer(some)
    assert decode_batch(tokenizer, encode_batch(tokenizer, some, add_eos=True).input_ids) == some


def test_synonyms_go_both_ways():
    pairs = synonyms()
    assert ("bicycle", "bike") in pairs and ("mended", "fixed") in pairs
    assert {(b, a) for a, b in pairs} == set(pairs)
    assert all(a != b for a, b in pairs)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("valid", 1), {}, "split 'valid'"),
        (("train", -1), {}, "count=-1"),
        (("train", 1), {"invented": 1.5}, "invented=1.5"),
    ],
)
def test_errors(arguments, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        sentence_pairs(*arguments, **options)
