"""Augmentation of texts: other wordings of the same training sentences.

Sources: Wei & Zou 2019, "EDA: Easy Data Augmentation Techniques for Boosting Performance on Text
Classification Tasks" (arXiv:1901.11196), three of whose four edits are here: synonym replacement,
random swap and random deletion (the fourth inserts a synonym at a random place). EDA takes its
synonyms from WordNet. `WordNeighbours` takes the words whose vectors in an encoder's embedding
table point in nearly the same direction, which needs no dictionary and errs in ways of its own.
Back-translation is in `zoo_lessons.translation`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from zoo_lessons.weights import load_pretrained, load_tokenizer

# Words that carry grammar rather than meaning; they are never replaced.
STOP_WORDS = frozenset(
    "a an and any are as at be been but by can cannot could did do does for from had has have he "
    "her here him his how i if in is it its me must my no nobody not nothing now of on or our ours "
    "out she so than that the their them then there they this to too up us was we were what when "
    "where who whoever whose why will with without would you your yours".split()
)
_PIECE = re.compile(r"\w+(?:['’]\w+)?|[^\w\s]")


class WordNeighbours:
    """The nearest words by the cosine of their vectors.

    Args:
        words: one each, no two the same.
        vectors: (words, width), of any length.

    Raises:
        ValueError: another number of vectors than of words, or a word twice.
    """

    def __init__(self, words: Sequence[str], vectors: Tensor):
        if vectors.ndim != 2 or len(vectors) != len(words):
            raise ValueError(
                f"vectors have shape {tuple(vectors.shape)}, expected ({len(words)}, width)"
            )
        self.words = list(words)
        self.places = {word: place for place, word in enumerate(self.words)}
        if len(self.places) != len(self.words):
            raise ValueError("words must differ, and some are there twice")
        self.vectors = F.normalize(vectors.detach().float(), dim=-1)
        self._found: dict[tuple, list[tuple[str, float]]] = {}  # by the arguments of `nearest`

    @classmethod
    def from_minilm(cls) -> WordNeighbours:
        """MiniLM's own table: its whole words of three letters or more, each with its vector."""
        vocabulary = load_tokenizer("minilm").get_vocab()
        ids = {word: i for word, i in vocabulary.items() if re.fullmatch(r"[a-z]{3,}", word)}
        words = sorted(ids, key=lambda word: ids[word])
        table = load_pretrained("minilm").embeddings.word.weight  # (vocabulary, d_model)
        return cls(words, table[torch.tensor([ids[word] for word in words])])

    def nearest(
        self, word: str, count: int = 5, *, least: float = -1.0, own_forms: bool = True
    ) -> list[tuple[str, float]]:
        """The nearest other words with their cosines, the nearest first.

        Args:
            word: if it is not in the table, it has no neighbours.
            count: how many at most.
            least: words with a lower cosine are left out.
            own_forms: False leaves out words that begin like it ("bikes" for "bike"); see
                `same_stem`. Forms like "gave" and "give" stay.

        Raises:
            ValueError: `count` below 1.
        """
        if count < 1:
            raise ValueError(f"count={count} must be at least 1")
        if word not in self.places:
            return []
        key = (word, count, least, own_forms)
        if key not in self._found:
            cosines = self.vectors @ self.vectors[self.places[word]]  # (words,)
            cosines[self.places[word]] = -torch.inf  # a word is no neighbour of its own
            best = cosines.topk(min(count + 30, len(self.words) - 1))
            found = zip([self.words[i] for i in best.indices], best.values.tolist(), strict=True)
            self._found[key] = [
                (other, cosine)
                for other, cosine in found
                if cosine >= least and (own_forms or not same_stem(word, other))
            ][:count]
        return self._found[key]


def same_stem(word: str, other: str) -> bool:
    """Whether two words are probably forms of one: "bike" and "bikes", "lost" and "losing".

    They are if they begin alike, for three fifths of the shorter word and three letters at least.
    """
    alike = 0
    for one, two in zip(word, other, strict=False):
        if one != two:
            break
        alike += 1
    return alike >= max(3, 0.6 * min(len(word), len(other)))


def replace_words(
    text: str,
    neighbours: WordNeighbours,
    chance: random.Random,
    *,
    share: float = 0.2,
    count: int = 3,
    least: float = 0.4,
) -> str:
    """Replace some words by one of their neighbours.

    Exactly max(1, round(share · words)) words are replaced, or as many as have a neighbour that is
    not a form of the word itself. Stop words stay.

    Args:
        text: a sentence; its capitals are lost.
        neighbours: where other words come from.
        chance: draws the words, and one neighbour of each.
        share: of the words, in (0, 1].
        count, least: how many neighbours there are to choose from, and their lowest cosine.

    Raises:
        ValueError: `share` is not in (0, 1].
    """
    pieces = _pieces(text)
    choices = {
        place: [
            other for other, _ in neighbours.nearest(piece, count, least=least, own_forms=False)
        ]
        for place, piece in enumerate(pieces)
        if piece not in STOP_WORDS
    }
    places = [place for place, others in choices.items() if others]
    chance.shuffle(places)
    for place in places[: _number(pieces, share)]:
        pieces[place] = chance.choice(choices[place])
    return _joined(pieces)


def random_edits(text: str, chance: random.Random, *, share: float = 0.2) -> str:
    """Two blind edits: swap two words, or delete one, max(1, round(share · words)) times.

    EDA makes copies by either of them and deletes each word with a fixed probability; here both are
    mixed, and the number of edits is fixed.

    Args:
        text: a sentence; its capitals are lost. One word always stays.
        chance: draws the edits.
        share: of the words, in (0, 1].

    Raises:
        ValueError: `share` is not in (0, 1].
    """
    pieces = _pieces(text)
    for _ in range(_number(pieces, share)):
        if len(pieces) < 2:
            break
        one, other = chance.sample(range(len(pieces)), 2)
        if chance.random() < 0.5:
            pieces[one], pieces[other] = pieces[other], pieces[one]
        else:
            del pieces[one]
    return _joined(pieces)


@dataclass(frozen=True)
class Augmented:
    """Sentences and their copies.

    Attributes:
        texts: the originals, then the first copy of each, then the second ...
        labels: of each text; a copy has its original's.
        origins: the number of the original behind each text. Whoever splits these texts must keep
            those of one origin together: a copy of a training sentence is no fresh test.
    """

    texts: list[str]
    labels: list[int]
    origins: list[int]


def with_copies(
    texts: Sequence[str],
    labels: Sequence[int],
    change: Callable[[list[str]], list[str]],
    copies: int,
) -> Augmented:
    """The texts together with `copies` changed copies of each.

    Args:
        texts, labels: the originals.
        change: gives one changed text for each text; called once for each round of copies.
        copies: 0 or more.

    Raises:
        ValueError: texts and labels of different number, a negative number of copies, or a `change`
            that returns another number of texts.
    """
    if len(texts) != len(labels):
        raise ValueError(f"got {len(texts)} texts and {len(labels)} labels")
    if copies < 0:
        raise ValueError(f"copies={copies} must not be negative")
    together = list(texts)
    for _ in range(copies):
        changed = change(list(texts))
        if len(changed) != len(texts):
            raise ValueError(f"change made {len(changed)} texts of {len(texts)}")
        together += changed
    times = copies + 1
    return Augmented(together, list(labels) * times, list(range(len(texts))) * times)


def _pieces(text: str) -> list[str]:
    return _PIECE.findall(text.lower())


def _joined(pieces: Sequence[str]) -> str:
    return re.sub(r" (?=[,.;:!?])", "", " ".join(pieces))


def _number(pieces: Sequence[str], share: float) -> int:
    if not 0 < share <= 1:
        raise ValueError(f"share={share} must lie in (0, 1]")
    words = sum(piece[0].isalnum() for piece in pieces)
    return max(1, round(share * words))
