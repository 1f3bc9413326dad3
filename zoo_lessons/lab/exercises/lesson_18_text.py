"""Exercises of lesson 18 on texts: nearest words, copies with labels, and a leak."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.lab.exercises.grading import Exercise, Mistake
from zoo_lessons.lab.exercises.run import Case

# --- the nearest words ---------------------------------------------------------------------------


def nearest_words(vectors: Tensor, word: int, count: int) -> Tensor:
    directions = F.normalize(vectors, dim=-1)
    cosines = directions @ directions[word]  # (words,)
    cosines[word] = -torch.inf
    return cosines.topk(count).indices


def _nearest_with_itself(vectors, word, count):
    directions = F.normalize(vectors, dim=-1)
    return (directions @ directions[word]).topk(count).indices


def _nearest_one_too_few(vectors, word, count):
    return _nearest_with_itself(vectors, word, count)[1:]


def _nearest_by_dot_product(vectors, word, count):
    scores = vectors @ vectors[word]
    scores[word] = -torch.inf
    return scores.topk(count).indices


def _nearest_by_distance(vectors, word, count):
    distances = (vectors - vectors[word]).norm(dim=-1)
    distances[word] = torch.inf
    return (-distances).topk(count).indices


def _nearest_is_farthest(vectors, word, count):
    directions = F.normalize(vectors, dim=-1)
    cosines = directions @ directions[word]
    cosines[word] = torch.inf
    return (-cosines).topk(count).indices


def _nearest_normalised_down_the_columns(vectors, word, count):
    directions = F.normalize(vectors, dim=0)
    cosines = directions @ directions[word]
    cosines[word] = -torch.inf
    return cosines.topk(count).indices


def _nearest_without_the_sign(vectors, word, count):
    directions = F.normalize(vectors, dim=-1)
    cosines = (directions @ directions[word]).abs()
    cosines[word] = -torch.inf
    return cosines.topk(count).indices


def _nearest_in_table_order(vectors, word, count):
    return nearest_words(vectors, word, count).sort().values


def _nearest_cosines(vectors, word, count):
    directions = F.normalize(vectors, dim=-1)
    cosines = directions @ directions[word]
    cosines[word] = -torch.inf
    return cosines.topk(count).values


def _nearest_cases() -> tuple[Case, ...]:
    generator = torch.Generator().manual_seed(4)

    def case(label: str, words: int, width: int, word: int, count: int) -> Case:
        vectors = torch.randn(words, width, generator=generator, dtype=torch.float64)
        lengths = torch.linspace(0.2, 3, words, dtype=torch.float64)
        lengths = lengths[torch.randperm(words, generator=generator)]
        vectors = vectors * lengths[:, None]
        vectors[(word + 1) % words] = -1.5 * vectors[word] + 0.01  # the opposite direction
        return Case((vectors, word, count), label=label)

    return (
        case("nine words of different length", 9, 4, 2, 3),
        case("more words than numbers in a vector", 40, 5, 17, 6),
        case("the last word of the table", 12, 20, 11, 4),
        case("the one nearest word", 15, 3, 0, 1),
    )


# --- copies and their labels ---------------------------------------------------------------------

Change = Callable[[str, int], str]


def add_copies(
    texts: list[str], labels: list[int], change: Change, copies: int
) -> tuple[list[str], list[int]]:
    together = list(texts)
    for number in range(copies):
        together += [change(text, number) for text in texts]
    return together, list(labels) * (copies + 1)


def _labels_in_blocks(texts, labels, change, copies):
    together, _ = add_copies(texts, labels, change, copies)
    return together, [label for label in labels for _ in range(copies + 1)]


def _copies_of_copies(texts, labels, change, copies):
    together, last = list(texts), list(texts)
    for number in range(copies):
        last = [change(text, number) for text in last]
        together += last
    return together, list(labels) * (copies + 1)


def _growing_list(texts, labels, change, copies):
    together, answers = list(texts), list(labels)
    for number in range(copies):
        together += [change(text, number) for text in together]
        answers += answers
    return together, answers


def _originals_lost(texts, labels, change, copies):
    together, answers = add_copies(texts, labels, change, copies)
    return together[len(texts) :], answers[len(texts) :]


def _originals_counted(texts, labels, change, copies):
    return add_copies(texts, labels, change, copies - 1)


def _labels_not_repeated(texts, labels, change, copies):
    return add_copies(texts, labels, change, copies)[0], list(labels)


def _same_copy_again(texts, labels, change, copies):
    return add_copies(texts, labels, lambda text, _: change(text, 0), copies)


def _text_by_text(texts, labels, change, copies):
    together = [*texts, *(change(text, number) for text in texts for number in range(copies))]
    return together, list(labels) * (copies + 1)


def _text_by_text_with_labels(texts, labels, change, copies):
    together, _ = _text_by_text(texts, labels, change, copies)
    return together, [*labels, *(label for label in labels for _ in range(copies))]


def _marked(text: str, number: int) -> str:
    """A copy that shows what it was made of and when."""
    return f"{text} ({number})"


def _turned(text: str, number: int) -> str:
    """The words, each copy begun one word later."""
    words = text.split()
    first = (number + 1) % len(words)
    return " ".join(words[first:] + words[:first])


_COPIES_CASES = (
    Case(
        (["i lost my kite", "anna found it", "it broke"], [1, 2, 3], _marked, 2),
        label="three texts, two copies each",
    ),
    Case(
        (["a b c d e", "f g h i", "j k l m n o", "p q r"], [0, 0, 4, 1], _turned, 3),
        label="two texts with the same label, three copies each",
    ),
    Case((["one text only"], [5], _turned, 1), label="one text, one copy"),
    Case((["not changed", "at all"], [0, 1], _marked, 0), label="no copies"),
)


# --- find the bug: a leak ------------------------------------------------------------------------

Pairs = list[tuple[str, int]]


def hold_out(
    pairs: Pairs, change: Change, copies: int, held_out: int, seed: int
) -> tuple[Pairs, Pairs]:
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    validation, train = shuffled[:held_out], shuffled[held_out:]
    return sorted(train + _copied(train, change, copies)), sorted(validation)


def hold_out_wrongly(pairs, change, copies, held_out, seed):
    everything = list(pairs) + _copied(pairs, change, copies)
    random.Random(seed).shuffle(everything)
    return sorted(everything[held_out:]), sorted(everything[:held_out])


def _copied(pairs: Pairs, change: Change, copies: int) -> Pairs:
    return [(change(text, number), label) for text, label in pairs for number in range(copies)]


def _parts(pairs, held_out, seed):
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    return shuffled[:held_out], shuffled[held_out:]


def _validation_copied_too(pairs, change, copies, held_out, seed):
    validation, train = _parts(pairs, held_out, seed)
    train, validation = (each + _copied(each, change, copies) for each in (train, validation))
    return sorted(train), sorted(validation)


def _copies_of_everything_in_training(pairs, change, copies, held_out, seed):
    validation, train = _parts(pairs, held_out, seed)
    return sorted(train + _copied(pairs, change, copies)), sorted(validation)


def _originals_not_in_training(pairs, change, copies, held_out, seed):
    validation, train = _parts(pairs, held_out, seed)
    return sorted(_copied(train, change, copies)), sorted(validation)


def _not_shuffled(pairs, change, copies, held_out, seed):
    validation, train = pairs[:held_out], pairs[held_out:]
    return sorted(train + _copied(train, change, copies)), sorted(validation)


def _parts_swapped(pairs, change, copies, held_out, seed):
    train, validation = _parts(pairs, held_out, seed)
    return sorted(train + _copied(train, change, copies)), sorted(validation)


def _copies_held_out(pairs, change, copies, held_out, seed):
    validation, train = _parts(pairs, held_out, seed)
    return sorted(train + _copied(train, change, copies)), sorted(
        _copied(validation, change, copies)
    )


def _last_ones_held_out(pairs, change, copies, held_out, seed):
    shuffled = list(pairs)
    random.Random(seed).shuffle(shuffled)
    train, validation = shuffled[:-held_out], shuffled[-held_out:]
    return sorted(train + _copied(train, change, copies)), sorted(validation)


def _pairs(number: int) -> Pairs:
    things = "kite lamp ring tent vase drill clock scarf book phone".split()
    ways = ("i lost my {}", "anna found a {}", "the {} broke")
    return [(ways[i % 3].format(things[i % 10]), 1 + i % 3) for i in range(number)]


_LEAK_CASES = (
    Case((_pairs(6), _marked, 3, 2, 0), label="six sentences, three copies each"),
    Case((_pairs(10), _marked, 1, 3, 1), label="ten sentences, one copy each"),
    Case((_pairs(9), _turned, 2, 4, 5), label="copies with the words turned round"),
)


TEXT_EXERCISES: tuple[Exercise, ...] = (
    Exercise(
        id="18.nearest_words",
        title="The nearest words",
        reference=nearest_words,
        cases=_nearest_cases,
        mistakes=(
            Mistake(
                "the word itself",
                _nearest_with_itself,
                "The first neighbour that you found is the word itself: its cosine with itself "
                "is 1. Replacing a word by itself changes nothing.",
            ),
            Mistake(
                "one neighbour too few",
                _nearest_one_too_few,
                "You took `count` words and then dropped the word itself, so one is missing.",
            ),
            Mistake(
                "dot product instead of cosine",
                _nearest_by_dot_product,
                "Long vectors win every comparison here. A cosine compares directions: which "
                "lengths must be divided out?",
            ),
            Mistake(
                "distance instead of cosine",
                _nearest_by_distance,
                "You compared distances. Two vectors of the same direction and different length "
                "lie far apart, and their cosine is 1.",
            ),
            Mistake(
                "the farthest words",
                _nearest_is_farthest,
                "These point the other way. A large cosine is near, so look for the largest.",
            ),
            Mistake(
                "normalised down the columns",
                _nearest_normalised_down_the_columns,
                "Each word is a row. You scaled the columns to length 1: look at `dim`.",
            ),
            Mistake(
                "the sign thrown away",
                _nearest_without_the_sign,
                "A cosine of -0.9 is far, not near. Does your code drop the sign?",
            ),
            Mistake(
                "in the order of the table",
                _nearest_in_table_order,
                "The right words, in the order of the table. The nearest should come first.",
            ),
            Mistake(
                "cosines instead of places",
                _nearest_cosines,
                "You returned the cosines. Asked for are the rows of the words, `indices`.",
            ),
        ),
    ),
    Exercise(
        id="18.add_copies",
        title="Copies and their labels",
        reference=add_copies,
        cases=_COPIES_CASES,
        mistakes=(
            Mistake(
                "labels in blocks",
                _labels_in_blocks,
                "The texts go a, b, a', b', but your labels go a, a, b, b. Most copies now carry "
                "the label of another text.",
            ),
            Mistake(
                "copies of copies",
                _copies_of_copies,
                "You change the last copy once more instead of the original. Errors pile up: by "
                "the third copy, little is left of the sentence.",
            ),
            Mistake(
                "a list that doubles",
                _growing_list,
                "You make copies of everything there is so far, so the list doubles each time. "
                "Only the originals are to be copied.",
            ),
            Mistake(
                "originals lost",
                _originals_lost,
                "The unchanged texts are missing. They are the only ones that are surely right.",
            ),
            Mistake(
                "one copy too few",
                _originals_counted,
                "You counted the original as a copy. `copies` = 2 means three texts for each.",
            ),
            Mistake(
                "labels not repeated",
                _labels_not_repeated,
                "There are more texts than labels. Each copy needs the label of its original.",
            ),
            Mistake(
                "the same copy again and again",
                _same_copy_again,
                "All copies of a text are equal. `change` takes the number of the copy, so that "
                "each is another one.",
            ),
            Mistake(
                "all copies of one text first",
                _text_by_text,
                "Your texts go a, b, a', a'', b', b'', your labels a, b, a, b, a, b. Let the "
                "outer loop run over the copies: a, b, a', b', a'', b''.",
            ),
            Mistake(
                "all copies of one text first, labels too",
                _text_by_text_with_labels,
                "Each label fits its text. But the exercise asks for rounds: the first copy of "
                "each text, then the second of each. Let the outer loop run over the copies.",
            ),
        ),
        praise="Each copy sits in its place, with the label of its original.",
    ),
    Exercise(
        id="18.leak_bug",
        title="Find the bug: too good to be true",
        reference=hold_out,
        start=hold_out_wrongly,
        cases=_LEAK_CASES,
        mistakes=(
            Mistake(
                "validation has copies too",
                _validation_copied_too,
                "The split is right now. But validation sentences should be real ones: copies of "
                "them measure how well the model does on the output of `change`.",
            ),
            Mistake(
                "copies of validation sentences in training",
                _copies_of_everything_in_training,
                "Look at the training part: it still holds copies of the sentences that you held "
                "out. Make copies after the split, and of which part?",
            ),
            Mistake(
                "training without the originals",
                _originals_not_in_training,
                "The training part has copies only. Keep the original sentences, too.",
            ),
            Mistake(
                "not shuffled",
                _not_shuffled,
                "You hold out the first sentences as they come. Data is often sorted, so shuffle "
                "the originals with `seed` first.",
            ),
            Mistake(
                "the parts swapped",
                _parts_swapped,
                "`held_out` sentences belong into validation. You train on these few instead.",
            ),
            Mistake(
                "copies instead of originals held out",
                _copies_held_out,
                "You validate on changed sentences. Whether the model works shows on real ones.",
            ),
            Mistake(
                "the last ones held out",
                _last_ones_held_out,
                "Nothing leaks any more. Only hold out the *first* `held_out` of the shuffled "
                "pairs, as the docstring says, so that all who use this seed get the same split.",
            ),
        ),
        praise="No sentence is on both sides any more, in whatever wording.",
    ),
)
