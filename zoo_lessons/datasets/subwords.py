"""Subword tokenizers, trained on given texts: BERT's WordPiece and GPT-2's byte-level BPE.

Both are those of the `tokenizers` library, and the same texts give the same vocabulary, whatever
the number of threads. Sources: WordPiece, Schuster & Nakajima 2012 and Wu et al. 2016, section 4.1
(https://arxiv.org/abs/1609.08144); byte pair encoding, Sennrich et al. 2016, section 3.2
(https://arxiv.org/abs/1508.07909), on bytes in Radford et al. 2019 (GPT-2), section 2.2.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

WORDPIECE_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD_ID, UNK_ID, CLS_ID, SEP_ID, MASK_ID = range(len(WORDPIECE_SPECIAL_TOKENS))
END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 0


def train_wordpiece(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a lower-case WordPiece tokenizer, as BERT's.

    The ids 0 to 4 are [PAD], [UNK], [CLS], [SEP] and [MASK]. Text is cleaned, put into lower case,
    stripped of accents, and split at spaces and punctuation. `encode(text)` adds [CLS] and [SEP],
    `encode(first, second)` adds [CLS], [SEP] and [SEP] with token types 0 and 1; pass
    `add_special_tokens=False` for the text alone. `decode` joins the pieces of a word.

    Args:
        texts: what to train on.
        vocab_size: the number of tokens, special tokens and single characters included. A small
            corpus may give fewer.

    Raises:
        TypeError: one string instead of several.
        ValueError: no words, or a vocabulary too small for the special tokens and characters.
    """
    texts = _require_texts(texts)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # The trainer numbers "##a", "##b", ... as it meets them in a hash map, whose order is another
    # one in each process, and breaks ties between pairs by these numbers. So we number them first:
    # as special tokens, which the trainer takes in the order given.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        special_tokens=[*WORDPIECE_SPECIAL_TOKENS, *_continuing_characters(tokenizer, texts)],
        continuing_subword_prefix="##",
        show_progress=False,
    )
    _train(tokenizer, trainer, texts, vocab_size)

    # A new tokenizer with this vocabulary, in which only the five are special.
    trained = Tokenizer(models.WordPiece(tokenizer.get_vocab(), unk_token="[UNK]"))
    trained.add_special_tokens(list(WORDPIECE_SPECIAL_TOKENS))
    trained.normalizer, trained.pre_tokenizer = tokenizer.normalizer, tokenizer.pre_tokenizer
    trained.post_processor = processors.BertProcessing(("[SEP]", SEP_ID), ("[CLS]", CLS_ID))
    trained.decoder = decoders.WordPiece(prefix="##")
    return trained


def train_byte_bpe(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train a byte-level BPE tokenizer, as GPT-2's.

    Id 0 is <|endoftext|>; then come the 256 bytes, so that every text can be written and
    `decode(encode(text).ids) == text` exactly; then the merges. No special token is added.

    Args:
        texts: what to train on.
        vocab_size: the number of tokens, at least 257. A small corpus may give fewer.

    Raises:
        TypeError: one string instead of several.
        ValueError: no words, or `vocab_size` below 257.
    """
    texts = _require_texts(texts)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if vocab_size < 1 + len(alphabet):
        raise ValueError(
            f"vocab_size={vocab_size} must be at least {1 + len(alphabet)}: "
            f"{END_OF_TEXT} and {len(alphabet)} bytes"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=alphabet,
        show_progress=False,
    )
    _train(tokenizer, trainer, texts, vocab_size)
    return tokenizer


def encode_blocks(tokenizer: Tokenizer, texts: Iterable[str], length: int) -> torch.Tensor:
    """Encode texts one after the other and cut the stream into blocks, for language modelling.

    Each text is followed by its end token: <|endoftext|>, or [SEP] for WordPiece. A block may begin
    and end in the middle of a text. Tokens that do not fill a last block are left out.

    Returns:
        int64 (blocks, length).

    Raises:
        TypeError: one string instead of several.
        ValueError: `length` below 1, a tokenizer of another kind, or not enough text for one block.
    """
    texts = _require_texts(texts)
    if length < 1:
        raise ValueError(f"length={length} must be at least 1")
    ends = [tokenizer.token_to_id(token) for token in (END_OF_TEXT, "[SEP]")]
    end = next((index for index in ends if index is not None), None)
    if end is None:
        raise ValueError(f"the tokenizer has neither {END_OF_TEXT} nor [SEP] to end a text with")
    stream: list[int] = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        stream.extend(encoding.ids)
        stream.append(end)
    blocks = len(stream) // length
    if blocks == 0:
        raise ValueError(f"length={length} is more than the {len(stream)} tokens of the texts")
    return torch.tensor(stream[: blocks * length]).view(blocks, length)


def _continuing_characters(tokenizer: Tokenizer, texts: list[str]) -> list[str]:
    """ "##" and each character that stands inside or at the end of a word, in order."""
    found: set[str] = set()
    for text in texts:
        normalized = tokenizer.normalizer.normalize_str(text)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized):
            found.update(word[1:])
    return [f"##{character}" for character in sorted(found)]


def _train(
    tokenizer: Tokenizer, trainer: trainers.Trainer, texts: list[str], vocab_size: int
) -> None:
    if not any(text.strip() for text in texts):
        raise ValueError("texts must hold at least one word, got none")
    tokenizer.train_from_iterator(texts, trainer)
    if tokenizer.get_vocab_size() > vocab_size:
        raise ValueError(
            f"vocab_size={vocab_size} is too small: special tokens and single characters alone "
            f"need {tokenizer.get_vocab_size()}"
        )


def _require_texts(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError(f"texts must be several strings, got one string: {texts[:60]!r}")
    return list(texts)
