"""Exercises of lesson 07: segment ids, WordPiece, masking, sentence pairs, the loss, parameters."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

PAD, UNK, CLS, SEP, MASK = range(5)
IGNORED = -100  # cross_entropy skips labels with this value


# --- segment ids ---------------------------------------------------------------------------------


def segment_ids(length_a: int, length_b: int, length: int) -> list[int]:
    first, second = length_a + 2, length_b + 1
    return [0] * first + [1] * second + [0] * (length - first - second)


def _segments_swapped(length_a, length_b, length):
    first, second = length_a + 2, length_b + 1
    return [1] * first + [0] * second + [0] * (length - first - second)


def _first_sep_in_b(length_a, length_b, length):
    first, second = length_a + 1, length_b + 2
    return [0] * first + [1] * second + [0] * (length - first - second)


def _last_sep_outside_b(length_a, length_b, length):
    first, second = length_a + 2, length_b
    return [0] * first + [1] * second + [0] * (length - first - second)


def _no_special_tokens(length_a, length_b, length):
    return [0] * length_a + [1] * length_b + [0] * (length - length_a - length_b)


def _padding_in_b(length_a, length_b, length):
    return [0] * (length_a + 2) + [1] * (length - length_a - 2)


def _segments_from_one(length_a, length_b, length):
    first, second = length_a + 2, length_b + 1
    return [1] * first + [2] * second + [0] * (length - first - second)


def _segments_without_padding(length_a, length_b, length):
    return [0] * (length_a + 2) + [1] * (length_b + 1)


# --- WordPiece -----------------------------------------------------------------------------------


def wordpiece(word: str, vocabulary: set[str]) -> list[str]:
    pieces, start = [], 0
    while start < len(word):
        prefix = "##" if start else ""
        for end in range(len(word), start, -1):
            if prefix + word[start:end] in vocabulary:
                pieces.append(prefix + word[start:end])
                start = end
                break
        else:
            return ["[UNK]"]
    return pieces


def _pieces(word, vocabulary, *, ends, mark="##", unknown="word"):
    """Greedy matching with something changed."""
    pieces, start = [], 0
    while start < len(word):
        prefix = mark if start else ""
        for end in ends(start, len(word)):
            if prefix + word[start:end] in vocabulary:
                pieces.append(prefix + word[start:end])
                start = end
                break
        else:
            if unknown == "word":
                return ["[UNK]"]
            pieces.append("[UNK]")
            if unknown == "rest":
                return pieces
            start += 1
    return pieces


def _longest_first(start, length):
    return range(length, start, -1)


def _shortest_match(word, vocabulary):
    return _pieces(word, vocabulary, ends=lambda start, length: range(start + 1, length + 1))


def _no_marks(word, vocabulary):
    return _pieces(word, vocabulary, ends=_longest_first, mark="")


def _unknown_rest(word, vocabulary):
    return _pieces(word, vocabulary, ends=_longest_first, unknown="rest")


def _unknown_letter(word, vocabulary):
    return _pieces(word, vocabulary, ends=_longest_first, unknown="letter")


def _marks_taken_off(word, vocabulary):
    return [piece.removeprefix("##") for piece in wordpiece(word, vocabulary)]


def _last_letter_left_out(word, vocabulary):
    return _pieces(word, vocabulary, ends=lambda start, length: range(length - 1, start, -1))


def _from_the_end(word, vocabulary):
    pieces, end = [], len(word)
    while end > 0:
        for start in range(end):
            piece = ("##" if start else "") + word[start:end]
            if piece in vocabulary:
                pieces.insert(0, piece)
                end = start
                break
        else:
            return ["[UNK]"]
    return pieces


def _wordpiece_cases() -> tuple[Case, ...]:
    vocabulary = {
        "u",
        "un",
        "unm",
        "mask",
        "p",
        "pa",
        "##m",
        "##n",
        "##a",
        "##as",
        "##ask",
        "##mask",
    }
    vocabulary |= {
        "##ed",
        "##e",
        "##d",
        "##s",
        "##k",
        "##ked",
        "##sked",
        "play",
        "playing",
        "##ing",
    }
    words = {
        "masked": "the whole word is not in the vocabulary",
        "unmasked": "the longest first piece is not the one that looks best",
        "playing": "the whole word is in the vocabulary",
        "mask": "a known word",
        "playx": "a letter that no piece has, at the end",
        "unzmask": "a letter that no piece has, inside",
        "u": "one letter",
        "ed": "a piece that is known only inside words",
    }
    return tuple(Case((word, vocabulary), label=f"{word}: {why}") for word, why in words.items())


# --- masking -------------------------------------------------------------------------------------


def mask_tokens(
    input_ids: Tensor, is_special: Tensor, chance: Tensor, fate: Tensor, random_ids: Tensor
) -> tuple[Tensor, Tensor]:
    chosen = (chance < 0.15) & ~is_special
    labels = input_ids.masked_fill(~chosen, IGNORED)
    masked = input_ids.masked_fill(chosen & (fate < 0.8), MASK)
    is_random = chosen & (fate >= 0.8) & (fate < 0.9)
    return torch.where(is_random, random_ids, masked), labels


def _special_tokens_chosen(input_ids, is_special, chance, fate, random_ids):
    return mask_tokens(input_ids, torch.zeros_like(is_special), chance, fate, random_ids)


def _labels_everywhere(input_ids, is_special, chance, fate, random_ids):
    return mask_tokens(input_ids, is_special, chance, fate, random_ids)[0], input_ids.clone()


def _labels_after_masking(input_ids, is_special, chance, fate, random_ids):
    masked, labels = mask_tokens(input_ids, is_special, chance, fate, random_ids)
    return masked, masked.masked_fill(labels == IGNORED, IGNORED)


def _one_pattern(input_ids, is_special, chance, fate, random_ids):
    first = (tensor[:1].expand_as(tensor) for tensor in (chance, fate))
    return mask_tokens(input_ids, is_special, *first, random_ids)


def _always_mask(input_ids, is_special, chance, fate, random_ids):
    return mask_tokens(input_ids, is_special, chance, torch.zeros_like(fate), random_ids)


def _nothing_kept(input_ids, is_special, chance, fate, random_ids):
    chosen = (chance < 0.15) & ~is_special
    masked = input_ids.masked_fill(chosen & (fate < 0.8), MASK)
    labels = input_ids.masked_fill(~chosen, IGNORED)
    return torch.where(chosen & (fate >= 0.8), random_ids, masked), labels


def _nothing_random(input_ids, is_special, chance, fate, random_ids):
    return mask_tokens(input_ids, is_special, chance, fate, input_ids)


def _kept_without_label(input_ids, is_special, chance, fate, random_ids):
    masked, labels = mask_tokens(input_ids, is_special, chance, fate, random_ids)
    return masked, labels.masked_fill(masked == input_ids, IGNORED)


def _random_for_unchosen(input_ids, is_special, chance, fate, random_ids):
    masked, labels = mask_tokens(input_ids, is_special, chance, fate, random_ids)
    is_random = ~is_special & (fate >= 0.8) & (fate < 0.9)
    return torch.where(is_random, random_ids, masked), labels


def _mask_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(0)

    def case(label: str, rows: int, length: int, padding: int, unlucky: bool = False) -> Case:
        input_ids = torch.randint(5, 90, (rows, length), generator=generator)
        input_ids[:, 0], input_ids[:, -1 - padding] = CLS, SEP
        if padding:
            input_ids[0, length - padding :] = PAD
        chance = torch.rand(rows, length, generator=generator)
        if unlucky:  # every token is chosen, were it not special
            chance *= 0.15
        fate = torch.rand(rows, length, generator=generator)
        random_ids = torch.randint(5, 90, (rows, length), generator=generator)
        return Case((input_ids, input_ids < 5, chance, fate, random_ids), label=label)

    return (
        case("3 sequences of 40 tokens", 3, 40, 0),
        case("the first row is padded", 4, 30, 6),
        case("chance is below 0.15 everywhere", 2, 25, 4, unlucky=True),
        case("one sequence", 1, 60, 0),
    )


# --- sentence pairs ------------------------------------------------------------------------------


def sentence_pair(
    documents: list[list[str]], document: int, place: int, coin: float, draw: float
) -> tuple[str, str, int]:
    own = documents[document]
    if coin < 0.5 and place + 1 < len(own):
        return own[place], own[place + 1], 0
    others = [s for number, d in enumerate(documents) if number != document for s in d]
    return own[place], others[int(draw * len(others))], 1


def _labels_inverted(documents, document, place, coin, draw):
    a, b, label = sentence_pair(documents, document, place, coin, draw)
    return a, b, 1 - label


def _any_sentence(documents, document, place, coin, draw):
    own = documents[document]
    if coin < 0.5 and place + 1 < len(own):
        return own[place], own[place + 1], 0
    everything = [s for d in documents for s in d]
    return own[place], everything[int(draw * len(everything))], 1


def _own_document(documents, document, place, coin, draw):
    own = documents[document]
    if coin < 0.5 and place + 1 < len(own):
        return own[place], own[place + 1], 0
    return own[place], own[int(draw * len(own))], 1


def _across_the_border(documents, document, place, coin, draw):
    own = documents[document]
    if coin < 0.5 and place + 1 == len(own):
        return own[place], documents[(document + 1) % len(documents)][0], 0
    return sentence_pair(documents, document, place, coin, draw)


def _border_called_next(documents, document, place, coin, draw):
    a, b, label = sentence_pair(documents, document, place, coin, draw)
    return a, b, 0 if coin < 0.5 else label


def _sentence_before(documents, document, place, coin, draw):
    a, b, label = sentence_pair(documents, document, place, coin, draw)
    return (a, b, label) if label else (b, a, label)


def _border_raises(documents, document, place, coin, draw):
    own = documents[document]
    if coin < 0.5:
        return own[place], own[place + 1], 0
    return sentence_pair(documents, document, place, coin, draw)


def _pair_cases() -> tuple[Case, ...]:
    documents = [
        ["A tuple is a sequence.", "It cannot be changed.", "A list can."],
        ["Sockets are closed by their owner.", "Others must not touch them."],
        ["The mean minimises squares.", "The median does not.", "Both are centres.", "Fine."],
    ]
    cases = [
        ("the next sentence", 0, 0, 0.1, 0.5),
        ("a random sentence", 0, 0, 0.9, 0.5),
        ("a random sentence; the draw is low", 0, 1, 0.7, 0.01),
        ("a random sentence; the draw is high", 2, 1, 0.6, 0.99),
        ("the middle document", 1, 0, 0.8, 0.45),
        ("the last sentence of a document, heads", 1, 1, 0.2, 0.3),
        ("the last sentence of all, heads", 2, 3, 0.3, 0.7),
    ]
    return tuple(Case((documents, *args), label=label) for label, *args in cases)


# --- find the bug --------------------------------------------------------------------------------


def masked_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.transpose(1, 2), labels, ignore_index=IGNORED)


def loss_over_all_positions(logits: Tensor, labels: Tensor) -> Tensor:
    chosen = labels != IGNORED
    targets = labels.masked_fill(~chosen, 0)
    losses = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
    return (losses * chosen).mean()


def _unchosen_are_padding(logits, labels):
    return F.cross_entropy(logits.transpose(1, 2), labels.clamp(min=0))


def _loss_summed(logits, labels):
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="sum")


def _mean_per_row(logits, labels):
    losses = F.cross_entropy(logits.transpose(1, 2), labels, reduction="none")
    per_row = losses.sum(dim=1) / (labels != IGNORED).sum(dim=1).clamp(min=1)
    return per_row.mean()


def _softmax_twice(logits, labels):
    return masked_loss(logits.softmax(dim=-1), labels)


def _per_sequence(logits, labels):
    return F.cross_entropy(logits.transpose(1, 2), labels, reduction="sum") / len(labels)


def _loss_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(1)

    def case(label: str, rows: list[int], length: int, scale: float) -> Case:
        """`rows` says how many tokens of each row are chosen."""
        logits = scale * torch.randn(len(rows), length, 11, generator=generator).double()
        labels = torch.full((len(rows), length), IGNORED)
        for row, count in enumerate(rows):
            places = torch.randperm(length, generator=generator)[:count]
            labels[row, places] = torch.randint(5, 11, (count,), generator=generator)
        return Case((logits, labels), label=label)

    return (
        case("1, 3 and 2 of 9 tokens chosen", [1, 3, 2], 9, 1.0),
        case("a row without a chosen token", [4, 0], 20, 3.0),
        case("one sequence", [2], 30, 2.0),
    )


# --- parameters ----------------------------------------------------------------------------------


def _count(
    vocabulary: int,
    positions: int,
    d: int,
    d_ff: int,
    layers: int,
    *,
    segments: int = 2,
    bias: int = 1,
    norms: int = 1,
    decoder: int = 0,
    pooler: int = 1,
    transform: int = 1,
    word_bias: int = 1,
) -> int:
    """BERT with its pre-training heads; each option is a part that may be left out or doubled."""
    norm, square = norms * 2 * d, d * d + bias * d
    embeddings = (vocabulary + positions + segments) * d + norm
    layer = 4 * square + (2 * d * d_ff + bias * (d + d_ff)) + 2 * norm
    heads = transform * (square + norm) + word_bias * vocabulary + decoder * vocabulary * d
    return embeddings + layers * layer + pooler * square + heads + 2 * d + bias * 2


def bert_parameters(vocabulary: int, positions: int, d: int, d_ff: int, layers: int) -> int:
    return _count(vocabulary, positions, d, d_ff, layers)


def _count_with(**changes):
    def answer(vocabulary, positions, d, d_ff, layers):
        return _count(vocabulary, positions, d, d_ff, layers, **changes)

    return answer


EXERCISES = (
    Exercise(
        id="07.segment_ids",
        title="Segment ids",
        reference=segment_ids,
        cases=(
            Case((3, 4, 12), label="3 and 4 tokens in 12 places"),
            Case((1, 1, 5), label="no padding"),
            Case((5, 2, 16), label="a longer first sentence"),
            Case((2, 0, 9), label="an empty second sentence"),
        ),
        mistakes=(
            Mistake(
                "the segments are swapped",
                _segments_swapped,
                "Sentence A is segment 0. It comes first, and a text without a partner is all 0.",
            ),
            Mistake(
                "the first [SEP] counts as B",
                _first_sep_in_b,
                "Each [SEP] belongs to the sentence that it ends. The first one ends A.",
            ),
            Mistake(
                "the last [SEP] does not count as B",
                _last_sep_outside_b,
                "Each [SEP] belongs to the sentence that it ends. The last one ends B.",
            ),
            Mistake(
                "special tokens were forgotten",
                _no_special_tokens,
                "The row has three tokens more than A and B: [CLS] before A, [SEP] after A and "
                "after B. Count the zeros again.",
            ),
            Mistake(
                "padding is segment 1",
                _padding_in_b,
                "Padding belongs to nobody. By convention its segment is 0, as its token id is.",
            ),
            Mistake(
                "segments 1 and 2",
                _segments_from_one,
                "The table of segment embeddings has two rows, 0 and 1.",
            ),
            Mistake(
                "the padding is missing",
                _segments_without_padding,
                "All rows of a batch have the same length: fill up to `length`.",
            ),
        ),
    ),
    Exercise(
        id="07.wordpiece",
        title="WordPiece: longest match first",
        reference=wordpiece,
        cases=_wordpiece_cases,
        mistakes=(
            Mistake(
                "shortest match first",
                _shortest_match,
                "Try the longest end first, and shorten it until the piece is in the vocabulary.",
            ),
            Mistake(
                "pieces inside a word are looked up without ##",
                _no_marks,
                "Where a piece does not begin the word, `##` goes in front of it *before* you look "
                "it up: `##ing` and `ing` are two entries.",
            ),
            Mistake(
                "the ## was taken off again",
                _marks_taken_off,
                "Pieces keep their `##`: without it, nobody can put the word together again.",
            ),
            Mistake(
                "only the rest is unknown",
                _unknown_rest,
                "If any part of the word matches nothing, the *whole word* becomes one `[UNK]`: "
                "give up the pieces found so far.",
            ),
            Mistake(
                "an unknown letter is skipped",
                _unknown_letter,
                "A letter that no piece has makes the whole word `[UNK]`; matching stops there.",
            ),
            Mistake(
                "the piece that reaches the word's end is never tried",
                _last_letter_left_out,
                "The first candidate is everything from `start` to `len(word)`. In a slice, the "
                "end is not included.",
            ),
            Mistake(
                "matched from the end of the word",
                _from_the_end,
                "Start at the left. Print the pieces of a word where both directions differ.",
            ),
        ),
    ),
    Exercise(
        id="07.mask_tokens",
        title="Mask tokens by the 80/10/10 rule",
        reference=mask_tokens,
        cases=_mask_cases,
        mistakes=(
            Mistake(
                "special tokens are chosen",
                _special_tokens_chosen,
                "[CLS], [SEP] and [PAD] carry no text: nothing can be learned from guessing them, "
                "and without [SEP] the sentences run together. Use `is_special`.",
            ),
            Mistake(
                "labels are not -100 elsewhere",
                _labels_everywhere,
                "Where nothing was chosen, the answer stands in the input. Labels there must be "
                "-100, or most of the loss rewards copying.",
            ),
            Mistake(
                "labels were taken after masking",
                _labels_after_masking,
                "Your labels contain [MASK]: the model learns to answer '[MASK]'. Take labels from "
                "the text as it was, before you change anything.",
            ),
            Mistake(
                "one pattern for the whole batch",
                _one_pattern,
                "Every row has draws of its own. Is there a `[0]` that should not be there?",
            ),
            Mistake(
                "every chosen token becomes [MASK]",
                _always_mask,
                "Only 80 % do. `fate` decides: below 0.8 [MASK], from 0.8 to 0.9 a random token.",
            ),
            Mistake(
                "no chosen token stays as it is",
                _nothing_kept,
                "From 0.9 on, a chosen token stays as it is, and still has a label.",
            ),
            Mistake(
                "no chosen token becomes random",
                _nothing_random,
                "Where `fate` lies from 0.8 to 0.9, the token comes from `random_ids`.",
            ),
            Mistake(
                "tokens that stayed have no label",
                _kept_without_label,
                "A token that was chosen and stayed must be predicted too: that is what makes the "
                "model check the words it can see. Its label is the token itself.",
            ),
            Mistake(
                "tokens that were not chosen become random",
                _random_for_unchosen,
                "`fate` counts only where `chance` has chosen. Compare your result with the input "
                "where the label is -100: they must be equal.",
            ),
        ),
        praise="Labels are -100 wherever nothing was chosen.",
    ),
    Exercise(
        id="07.sentence_pair",
        title="A pair of sentences",
        reference=sentence_pair,
        cases=_pair_cases,
        mistakes=(
            Mistake(
                "the label is inverted",
                _labels_inverted,
                "0 means B follows A, and 1 means B is random. `transformers` and the paper's "
                "code agree on this; it is easy to expect the opposite.",
            ),
            Mistake(
                "the random sentence may come from A's own document",
                _any_sentence,
                "Drawn from all documents, B is now and then the true next sentence, with the "
                "label 'random'. Leave A's own document out.",
            ),
            Mistake(
                "the random sentence comes from A's own document",
                _own_document,
                "B may then be the true next sentence, or A itself, with the label 'random'. Take "
                "it from the other documents.",
            ),
            Mistake(
                "the next sentence is taken from the next document",
                _across_the_border,
                "After the last sentence of a document nothing follows. The next document begins "
                "something new, so this pair would be a wrong example of 'next'.",
            ),
            Mistake(
                "a random sentence is called 'next'",
                _border_called_next,
                "At the end of a document the coin cannot have its way: B is random, so the label "
                "is 1, whatever the coin said.",
            ),
            Mistake(
                "B stands before A",
                _sentence_before,
                "A is the sentence at `place`, and B the one after it. The order is the question "
                "that the model answers.",
            ),
            Mistake(
                "it fails at the end of a document",
                _border_raises,
                "The last sentence of a document has no next one. Check `place` before you look.",
            ),
        ),
    ),
    Exercise(
        id="07.masked_loss",
        title="Find the bug: a loss that is too good",
        reference=masked_loss,
        start=loss_over_all_positions,
        cases=_loss_cases,
        mistakes=(
            Mistake(
                "positions without a label count as [PAD]",
                _unchosen_are_padding,
                "Now the model is trained to answer token 0 wherever nothing was chosen. These "
                "positions must not count at all.",
            ),
            Mistake(
                "a sum instead of a mean",
                _loss_summed,
                "The loss now grows with the batch. Divide by the number of chosen tokens.",
            ),
            Mistake(
                "a mean of the rows' means",
                _mean_per_row,
                "A token in a row with few chosen tokens would count more than others. Take one "
                "mean over all chosen tokens of the batch.",
            ),
            Mistake(
                "divided by the number of sequences",
                _per_sequence,
                "Divide by the number of chosen tokens, not of sequences: loss per token is what "
                "perplexity is made of.",
            ),
            Mistake(
                "softmax before the loss",
                _softmax_twice,
                "`cross_entropy` takes logits and applies the softmax itself.",
            ),
        ),
        praise="The loss is now the mean over the chosen tokens, whatever the padding.",
    ),
    Exercise(
        id="07.bert_parameters",
        title="Count BERT's parameters",
        reference=bert_parameters,
        cases=(
            Case((30522, 512, 768, 3072, 12), label="BERT-Base"),
            Case((30522, 512, 1024, 4096, 24), label="BERT-Large"),
            Case((101, 17, 6, 15, 1), label="a tiny model with odd sizes"),
        ),
        mistakes=(
            Mistake(
                "the output words have a table of their own",
                _count_with(decoder=1),
                "The masked-word head reuses the word embeddings: its matrix is tied and counts "
                "once. Only its bias is new.",
            ),
            Mistake(
                "biases were forgotten",
                _count_with(bias=0),
                "A linear layer from n to m numbers has m biases besides its n·m weights.",
            ),
            Mistake(
                "LayerNorms were forgotten",
                _count_with(norms=0),
                "A LayerNorm has a gain and a bias, 2d numbers. Count one after the embeddings, "
                "two in each layer, one in the masked-word head.",
            ),
            Mistake(
                "the pooler was forgotten",
                _count_with(pooler=0),
                "Between the encoder and the next-sentence head stands the pooler, a linear layer "
                "from d to d on [CLS].",
            ),
            Mistake(
                "the masked-word head has no layer of its own",
                _count_with(transform=0),
                "Before the output words, the head has a linear layer from d to d and a LayerNorm.",
            ),
            Mistake(
                "the words' output bias was forgotten",
                _count_with(word_bias=0),
                "The output layer shares its matrix with the embeddings, but each word has a bias "
                "of its own.",
            ),
            Mistake(
                "segment embeddings were forgotten",
                _count_with(segments=0),
                "There are three tables: words, positions, and two segments.",
            ),
        ),
    ),
)
