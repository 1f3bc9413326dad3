"""BERT's two training tasks made from text: masked tokens and sentence pairs.

Source: Devlin et al. (2018), https://arxiv.org/abs/1810.04805, section 3.1 and appendix A.1.

Both take their random draws from a generator, so a step of training, or a held-out set, can be made
again. Token ids are plain integers; which of them are special is the caller's to say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

IGNORED = -100  # cross_entropy skips labels with this value

# Labels of a pair, as in the paper's code and `transformers`.
IS_NEXT, NOT_NEXT = 0, 1

Document = Sequence[Sequence[int]]  # sentences of token ids


class MaskedTokens(NamedTuple):
    """A batch with holes.

    input_ids: int64 (batch, length), with masked tokens replaced.
    labels: int64 (batch, length), the true token where one was chosen, -100 everywhere else.
    """

    input_ids: Tensor
    labels: Tensor


def mask_tokens(
    input_ids: Tensor,
    *,
    vocab_size: int,
    mask_token_id: int,
    special_ids: Sequence[int],
    rate: float = 0.15,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    generator: torch.Generator | None = None,
) -> MaskedTokens:
    """Choose tokens to predict, and hide them by the 80/10/10 rule (appendix A.1).

    Each ordinary token is chosen with probability `rate`, independently of all others, as
    `transformers` does it; the paper's code chooses a fixed number per sequence. A chosen token
    becomes [MASK], a random ordinary token, or stays as it is. Special tokens are never chosen.

    Args:
        input_ids: (batch, length), left as they are.
        vocab_size: random tokens come from the ids below it.
        mask_token_id: the id of [MASK].
        special_ids: [PAD], [CLS], [SEP], [MASK] and others that carry no text. [UNK] may be one.
        rate: share of the ordinary tokens that are chosen.
        shares: of the chosen tokens, the shares that become [MASK], a random token, or stay.
        generator: source of the random draws; PyTorch's global one without it.

    Raises:
        ValueError: a rate outside [0, 1], shares that are negative or do not sum to 1, or a
            vocabulary of special tokens only.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate} must lie between 0 and 1")
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ValueError(f"shares={shares} must be three shares that sum to 1")
    special = torch.tensor(sorted({*special_ids, mask_token_id}))
    ids = torch.arange(vocab_size)
    ordinary_ids = ids[~torch.isin(ids, special)]
    if len(ordinary_ids) == 0:
        raise ValueError(f"all {vocab_size} tokens of the vocabulary are special")

    ordinary = ~torch.isin(input_ids, special)
    chosen = ordinary & (torch.rand(input_ids.shape, generator=generator) < rate)
    labels = input_ids.masked_fill(~chosen, IGNORED)

    to_mask, to_random, _ = shares
    fate = torch.rand(input_ids.shape, generator=generator)
    draws = torch.randint(len(ordinary_ids), input_ids.shape, generator=generator)
    hidden = input_ids.masked_fill(chosen & (fate < to_mask), mask_token_id)
    is_random = chosen & (fate >= to_mask) & (fate < to_mask + to_random)
    return MaskedTokens(torch.where(is_random, ordinary_ids[draws], hidden), labels)


class SentencePairs(NamedTuple):
    """[CLS] A [SEP] B [SEP], padded on the right. All int64.

    input_ids, attention_mask, token_type_ids: (pairs, length). Segment 0 is [CLS] A [SEP], and
        segment 1 is B [SEP]. Padding has segment 0 and mask 0.
    next_sentence_label: (pairs,), `IS_NEXT` or `NOT_NEXT`.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    next_sentence_label: Tensor

    def rows(self, index: Tensor | slice) -> SentencePairs:
        """The pairs with these numbers, as a batch of their own."""
        return SentencePairs(*(tensor[index] for tensor in self))


def chunks(document: Document, size: int) -> list[list[int]]:
    """Join whole sentences into pieces of at most `size` tokens, in order.

    A sentence that is longer than `size` is cut, and its rest dropped.
    """
    pieces: list[list[int]] = []
    for sentence in document:
        if pieces and len(pieces[-1]) + len(sentence) <= size:
            pieces[-1].extend(sentence)
        else:
            pieces.append(list(sentence[:size]))
    return [piece for piece in pieces if piece]


def sentence_pairs(
    documents: Sequence[Document],
    *,
    length: int,
    cls_token_id: int,
    sep_token_id: int,
    pad_token_id: int = 0,
    random_share: float = 0.5,
    generator: torch.Generator | None = None,
) -> SentencePairs:
    """Pairs for next-sentence prediction (section 3.1, task 2), in random order.

    "Sentence" means a span of text, as in the paper: `chunks` of whole sentences. Every document is
    cut into neighbouring spans A, B, A, B ... Then the Bs of a random half of the pairs change
    places, so that each comes from another document than its A. The label cannot be read off B
    alone, nor off its length: the wrong Bs are the true Bs of other pairs.

    Args:
        documents: each a sequence of sentences, each a sequence of token ids.
        length: of each row. A and B get half each, so neither depends on the other's length.
        cls_token_id, sep_token_id, pad_token_id: special tokens.
        random_share: share of the pairs whose B is exchanged, rounded down.
        generator: chooses where pairs begin, and which Bs change places.

    Raises:
        ValueError: no room for two tokens, no document with two spans, a share outside [0, 1], or
            one document with more than half of the exchanged pairs.
    """
    if length < 5:
        raise ValueError(f"length={length} has no room for [CLS] A [SEP] B [SEP], expected >= 5")
    if not 0 <= random_share <= 1:
        raise ValueError(f"random_share={random_share} must lie between 0 and 1")
    pairs: list[tuple[int, list[int], list[int]]] = []  # (document, A, B)
    for number, document in enumerate(documents):
        pieces = chunks(document, (length - 3) // 2)
        first = torch.randint(2, (), generator=generator).item() if len(pieces) > 2 else 0
        pairs += [(number, *pieces[i : i + 2]) for i in range(first, len(pieces) - 1, 2)]
    if not pairs:
        raise ValueError("no document has two spans of text, so there is no pair")

    order = torch.randperm(len(pairs), generator=generator).tolist()
    exchanged = order[: int(random_share * len(pairs))]
    second = {i: b for i, (_, _, b) in enumerate(pairs)}
    for i, j in _exchange(exchanged, [pairs[i][0] for i in exchanged], generator):
        second[i] = pairs[j][2]
    rows = torch.randperm(len(pairs), generator=generator).tolist()
    wrong = set(exchanged)
    return pack_pairs(
        [(pairs[i][1], second[i]) for i in rows],
        [NOT_NEXT if i in wrong else IS_NEXT for i in rows],
        length=length,
        cls_token_id=cls_token_id,
        sep_token_id=sep_token_id,
        pad_token_id=pad_token_id,
    )


def pack_pairs(
    pairs: Sequence[tuple[Sequence[int], Sequence[int]]],
    next_sentence_label: Sequence[int],
    *,
    length: int,
    cls_token_id: int,
    sep_token_id: int,
    pad_token_id: int = 0,
) -> SentencePairs:
    """[CLS] A [SEP] B [SEP] for each pair, padded to `length`.

    Raises:
        ValueError: a pair that does not fit.
    """
    input_ids = torch.full((len(pairs), length), pad_token_id)
    attention_mask, token_type_ids = torch.zeros_like(input_ids), torch.zeros_like(input_ids)
    for row, (a, b) in enumerate(pairs):
        tokens = [cls_token_id, *a, sep_token_id, *b, sep_token_id]
        if len(tokens) > length:
            raise ValueError(f"pair {row} has {len(tokens)} tokens, length={length} is too short")
        input_ids[row, : len(tokens)] = torch.tensor(tokens)
        attention_mask[row, : len(tokens)] = 1
        token_type_ids[row, len(a) + 2 : len(tokens)] = 1
    labels = torch.tensor(list(next_sentence_label))
    return SentencePairs(input_ids, attention_mask, token_type_ids, labels)


def _exchange(
    members: Sequence[int], groups: Sequence[int], generator: torch.Generator | None
) -> list[tuple[int, int]]:
    """(member, other member) with each member once on either side, never of the same group.

    Members are lined up group by group, and the line is turned by at least the largest group.
    """
    if not members:
        return []
    sizes = torch.bincount(torch.tensor(groups))
    largest = int(sizes.max())
    if 2 * largest > len(members):
        raise ValueError(
            f"one document has {largest} of {len(members)} exchanged pairs; at most half can find "
            "a partner from another document"
        )
    places = torch.randperm(len(sizes), generator=generator).tolist()  # order of the groups
    line = [m for _, m in sorted(zip(groups, members, strict=True), key=lambda x: places[x[0]])]
    turn = torch.randint(largest, len(members) - largest + 1, (), generator=generator).item()
    return list(zip(line, line[turn:] + line[:turn], strict=True))
