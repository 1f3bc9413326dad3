"""A word-level tokenizer for captions, in English and French.

One word is one token, so an attention map over a caption reads like the sentence. French elisions
are split where the grammar splits them: l'étoile becomes l' and étoile.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

SPECIAL_TOKENS = ("[PAD]", "[BOS]", "[EOS]", "[UNK]")
PAD_ID, BOS_ID, EOS_ID, UNK_ID = range(len(SPECIAL_TOKENS))

# An elided word of one or two letters (l', d', qu'), a word (au-dessus), or a punctuation mark.
_TOKEN = r"[^\W\d_]{1,2}['’](?=\w)|\w+(?:[-'’]\w+)*|[^\w\s]"
_NO_SPACE_AFTER = r"(?<=\b[^\W\d_]['’]|\b[^\W\d_]{2}['’]) "
_NO_SPACE_BEFORE = r" (?=[,.;:!?])"


class Encoded(NamedTuple):
    """A padded batch of token ids.

    input_ids: int64 (batch, length), [PAD] after each text's end.
    attention_mask: int64 (batch, length), 1 for tokens and 0 for padding.
    """

    input_ids: torch.Tensor
    attention_mask: torch.Tensor


def word_tokenizer(texts: Iterable[str], lowercase: bool = True) -> Tokenizer:
    """Build a tokenizer whose vocabulary is every word of the texts, in alphabetical order.

    The ids 0 to 3 are [PAD], [BOS], [EOS] and [UNK]. Decoding gives back a caption exactly (in
    lower case if `lowercase`), because spaces are put back by French and English rules. It does
    not restore unusual spacing, such as a space before a comma.

    Raises:
        ValueError: no words at all.
    """
    tokenizer = Tokenizer(models.WordLevel({}, unk_token="[UNK]"))
    steps = [normalizers.NFC()] + ([normalizers.Lowercase()] if lowercase else [])
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(_TOKEN), behavior="removed", invert=True)
    words = {
        word
        for text in texts
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(
            tokenizer.normalizer.normalize_str(text)
        )
    }
    if not words:
        raise ValueError("word_tokenizer needs texts with at least one word, got none")
    vocabulary = [*SPECIAL_TOKENS, *sorted(words)]
    tokenizer.model = models.WordLevel(
        {word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]"
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.WordPiece(prefix="##", cleanup=False),  # joins words with single spaces
            decoders.Fuse(),
            decoders.Replace(Regex(_NO_SPACE_AFTER), ""),
            decoders.Replace(Regex(_NO_SPACE_BEFORE), ""),
        ]
    )
    return tokenizer


def encode_batch(
    tokenizer: Tokenizer,
    texts: Sequence[str],
    *,
    add_bos: bool = False,
    add_eos: bool = False,
    length: int | None = None,
) -> Encoded:
    """Encode texts and pad them on the right.

    Args:
        tokenizer: from `word_tokenizer`.
        texts: the batch.
        add_bos: put [BOS] before each text (a decoder's first input).
        add_eos: put [EOS] after each text (a decoder's last target).
        length: pad to this length; by default to the longest text of the batch.

    Returns:
        input_ids and attention_mask, int64 (batch, length).

    Raises:
        TypeError: one string instead of a list of strings.
        ValueError: an empty batch, or a text longer than `length`.
    """
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of strings, got one string: {texts!r}")
    if not texts:
        raise ValueError("texts must hold at least one text, got none")
    before, after = [BOS_ID] * add_bos, [EOS_ID] * add_eos
    rows = [before + encoding.ids + after for encoding in tokenizer.encode_batch(list(texts))]
    longest = max(len(row) for row in rows)
    length = longest if length is None else length
    if longest > length:
        raise ValueError(f"length={length} is too short: the longest text has {longest} tokens")
    input_ids = torch.full((len(rows), length), PAD_ID, dtype=torch.long)
    attention_mask = torch.zeros_like(input_ids)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = torch.tensor(row)
        attention_mask[index, : len(row)] = 1
    return Encoded(input_ids, attention_mask)


def decode_batch(tokenizer: Tokenizer, input_ids: torch.Tensor) -> list[str]:
    """Turn ids (batch, length) into texts, each cut at its first [EOS], without special tokens."""
    texts = []
    for row in input_ids.tolist():
        end = row.index(EOS_ID) if EOS_ID in row else len(row)
        texts.append(tokenizer.decode(row[:end]))
    return texts
