from __future__ import annotations

import pytest
import torch

from zoo_lessons.datasets.shapes import translation_pairs
from zoo_lessons.datasets.words import (
    BOS_ID,
    EOS_ID,
    PAD_ID,
    UNK_ID,
    decode_batch,
    encode_batch,
    word_tokenizer,
)

TEXTS = ["l'étoile rouge est au-dessus d'un carré, à droite", "un carré"]


def test_special_ids_are_fixed() -> None:
    tokenizer = word_tokenizer(TEXTS)
    ids = [tokenizer.token_to_id(token) for token in ("[PAD]", "[BOS]", "[EOS]", "[UNK]")]
    assert ids == [PAD_ID, BOS_ID, EOS_ID, UNK_ID] == [0, 1, 2, 3]


def test_elisions_and_punctuation_are_tokens_of_their_own() -> None:
    tokens = word_tokenizer(TEXTS).encode(TEXTS[0]).tokens
    assert tokens == [
        *("l'", "étoile", "rouge", "est", "au-dessus", "d'", "un", "carré", ","),
        *("à", "droite"),
    ]


@pytest.mark.parametrize("language", [0, 1])
@pytest.mark.parametrize("split", ["test", "composition"])
def test_captions_survive_a_round_trip(language: int, split: str) -> None:
    tokenizer = word_tokenizer(pair[language] for pair in translation_pairs("train", 4000))
    texts = [pair[language] for pair in translation_pairs(split, 1500)]
    batch = encode_batch(tokenizer, texts, add_bos=True, add_eos=True)
    assert UNK_ID not in batch.input_ids
    assert decode_batch(tokenizer, batch.input_ids) == texts


@pytest.mark.parametrize("text", ["is there a blue star?", "qu'est-ce, l'eau? oui: d'accord!"])
def test_other_sentences_survive_too(text: str) -> None:
    tokenizer = word_tokenizer([text])
    assert tokenizer.decode(tokenizer.encode(text).ids) == text


def test_english_apostrophes_stay_inside_their_word() -> None:
    assert word_tokenizer(["don't stop"]).encode("don't stop").tokens == ["don't", "stop"]


def test_the_vocabulary_does_not_depend_on_the_order_of_texts() -> None:
    assert word_tokenizer(TEXTS).get_vocab() == word_tokenizer(TEXTS[::-1]).get_vocab()


def test_case() -> None:
    assert word_tokenizer(["The cat"]).encode("THE Cat").tokens == ["the", "cat"]
    kept = word_tokenizer(["The cat"], lowercase=False)
    assert kept.encode("The the").ids == [kept.token_to_id("The"), UNK_ID]


def test_encode_batch_pads_and_masks() -> None:
    tokenizer = word_tokenizer(["a b c"])
    a, b, c = (tokenizer.token_to_id(word) for word in "abc")
    batch = encode_batch(tokenizer, ["a b c", "b x"], add_bos=True, add_eos=True)
    expected = [[BOS_ID, a, b, c, EOS_ID], [BOS_ID, b, UNK_ID, EOS_ID, PAD_ID]]
    assert batch.input_ids.tolist() == expected
    assert batch.attention_mask.tolist() == [[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]]
    assert batch.input_ids.dtype == batch.attention_mask.dtype == torch.int64
    plain = encode_batch(tokenizer, ["a", "b c"], length=4)
    assert plain.input_ids.tolist() == [[a, 0, 0, 0], [b, c, 0, 0]]


def test_decode_batch_stops_at_the_first_eos() -> None:
    tokenizer = word_tokenizer(["a b c"])
    a, b, c = (tokenizer.token_to_id(word) for word in "abc")
    ids = torch.tensor([[BOS_ID, a, b, EOS_ID, c], [BOS_ID, c, b, a, a]])
    assert decode_batch(tokenizer, ids) == ["a b", "c b a a"]


def test_bad_arguments_are_refused() -> None:
    tokenizer = word_tokenizer(["a b c"])
    with pytest.raises(TypeError, match="list of strings, got one string: 'a b'"):
        encode_batch(tokenizer, "a b")
    with pytest.raises(ValueError, match="at least one text"):
        encode_batch(tokenizer, [])
    with pytest.raises(ValueError, match="length=2 is too short: the longest text has 3 tokens"):
        encode_batch(tokenizer, ["a b c"], length=2)
    with pytest.raises(ValueError, match="at least one word"):
        word_tokenizer(["  "])
