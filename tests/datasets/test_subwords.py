from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from tokenizers import Tokenizer

from zoo_lessons.datasets.prose import paragraphs
from zoo_lessons.datasets.subwords import (
    CLS_ID,
    END_OF_TEXT_ID,
    MASK_ID,
    PAD_ID,
    SEP_ID,
    UNK_ID,
    encode_blocks,
    train_byte_bpe,
    train_wordpiece,
)
from zoo_lessons.datasets.words import word_tokenizer

VOCAB_SIZE = 1000


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return paragraphs("reference", "train")


@pytest.fixture(scope="module")
def wordpiece(texts: list[str]) -> Tokenizer:
    return train_wordpiece(texts, VOCAB_SIZE)


@pytest.fixture(scope="module")
def byte_bpe(texts: list[str]) -> Tokenizer:
    return train_byte_bpe(texts, VOCAB_SIZE)


def test_wordpiece_has_the_ids_and_the_pairs_of_bert(wordpiece: Tokenizer) -> None:
    assert wordpiece.get_vocab_size() == VOCAB_SIZE
    special = [wordpiece.token_to_id(f"[{name}]") for name in ("PAD", "UNK", "CLS", "SEP", "MASK")]
    assert special == [PAD_ID, UNK_ID, CLS_ID, SEP_ID, MASK_ID] == [0, 1, 2, 3, 4]
    pair = wordpiece.encode("the list", "a [MASK]")
    assert pair.tokens == ["[CLS]", "the", "list", "[SEP]", "a", "[MASK]", "[SEP]"]
    assert pair.type_ids == [0, 0, 0, 0, 1, 1, 1]


def test_wordpiece_ignores_case_and_accents_and_joins_pieces(wordpiece: Tokenizer) -> None:
    encoding = wordpiece.encode("Évaluation, unbelievably!", add_special_tokens=False)
    assert any(token.startswith("##") for token in encoding.tokens)
    assert wordpiece.decode(encoding.ids) == "evaluation, unbelievably!"
    assert wordpiece.encode("☃", add_special_tokens=False).ids == [UNK_ID]
    # "##s" is a piece of a word, not a special token that is looked for in the text.
    assert wordpiece.encode("##s", add_special_tokens=False).tokens == ["#", "#", "s"]


def test_wordpiece_writes_its_texts_without_unknown_tokens(
    wordpiece: Tokenizer, texts: list[str]
) -> None:
    assert not any(UNK_ID in encoding.ids for encoding in wordpiece.encode_batch(texts))


@pytest.mark.parametrize("text", ["The list.", "  Two  spaces\n and 日本語 ☃ é", "<|endoftex"])
def test_byte_bpe_gives_back_every_text(byte_bpe: Tokenizer, text: str) -> None:
    assert byte_bpe.get_vocab_size() == VOCAB_SIZE
    assert byte_bpe.token_to_id("<|endoftext|>") == END_OF_TEXT_ID == 0
    assert byte_bpe.decode(byte_bpe.encode(text).ids) == text


def test_blocks_hold_the_texts_one_after_the_other(byte_bpe: Tokenizer, texts: list[str]) -> None:
    blocks = encode_blocks(byte_bpe, texts[:40], 16)
    assert blocks.dtype == torch.long and blocks.shape[1] == 16
    # Decoding leaves the end tokens out, so the texts stand without anything between them.
    assert "".join(texts[:40]).startswith(
        byte_bpe.decode(blocks.flatten().tolist()).rstrip("\ufffd")
    )
    total = sum(len(byte_bpe.encode(text).ids) + 1 for text in texts[:40])
    assert total - 16 < blocks.numel() <= total
    assert 35 <= int((blocks == END_OF_TEXT_ID).sum()) <= 40


def test_wordpiece_blocks_end_texts_with_sep(wordpiece: Tokenizer) -> None:
    blocks = encode_blocks(wordpiece, ["the list", "the list", "the"], 3)
    the, lists = (wordpiece.token_to_id(word) for word in ("the", "list"))
    assert blocks.tolist() == [[the, lists, SEP_ID]] * 2


def test_the_same_vocabulary_in_every_process(wordpiece: Tokenizer, byte_bpe: Tokenizer) -> None:
    code = (
        "from zoo_lessons.datasets.prose import paragraphs; "
        "from zoo_lessons.datasets.subwords import train_byte_bpe, train_wordpiece; "
        "texts = paragraphs('reference', 'train'); "
        f"print(train_wordpiece(texts, {VOCAB_SIZE}).to_str()); "
        f"print(train_byte_bpe(texts, {VOCAB_SIZE}).to_str())"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "1", "RAYON_NUM_THREADS": "3"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == [wordpiece.to_str(), byte_bpe.to_str()]


@pytest.mark.parametrize("train", [train_wordpiece, train_byte_bpe])
def test_errors(train) -> None:
    with pytest.raises(TypeError, match="one string: 'the list'"):
        train("the list", 500)
    with pytest.raises(ValueError, match="at least one word"):
        train(["  "], 500)
    with pytest.raises(ValueError, match="vocab_size=6"):
        train(["the list"], 6)


def test_errors_of_blocks(byte_bpe: Tokenizer) -> None:
    with pytest.raises(TypeError, match="one string"):
        encode_blocks(byte_bpe, "the list", 4)
    with pytest.raises(ValueError, match="length=0"):
        encode_blocks(byte_bpe, ["the list"], 0)
    with pytest.raises(ValueError, match="length=99 is more than the"):
        encode_blocks(byte_bpe, ["the list"], 99)
    with pytest.raises(ValueError, match="neither"):
        encode_blocks(word_tokenizer(["the list"]), ["the list"], 1)
