"""Few-shot episodes: made-up words whose meaning only the examples tell.

An episode binds a few made-up words to shapes (or to colours), anew each time, and shows examples:

    <image> modip <image> bilak <image>

Which of the two words comes next? Only the first two images can tell. Nothing can be memorised: the
next episode binds other words. The splits share neither words nor scenes, and so no binding either.
A made-up word is two syllables, two tokens. Every syllable occurs in training, and every word of
the other splits is a combination that does not.

The same episode in text alone has the name of the shape (or colour) where an image would stand:
"circle modip star bilak circle". A language model can learn from these what binding is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from zoo_lessons.datasets.shapes.dataset import ShapesDataset
from zoo_lessons.datasets.shapes.scenes import (
    COLORS,
    SHAPES,
    Scene,
    require_at_least,
    require_choice,
)
from zoo_lessons.datasets.words import SPECIAL_TOKENS

EPISODE_SPLITS = ("train", "validation", "test")
KINDS = {"shape": SHAPES, "color": COLORS}
IMAGE_TOKEN = "<image>"
# 40 of each. No first syllable is "re": "redip" must not read as "red" and "ip".
FIRST_SYLLABLES = tuple(consonant + vowel for consonant in "bdfgklmnpstvwz" for vowel in "aio")[:40]
SECOND_SYLLABLES = tuple(
    consonant + vowel + "xkpts"[(i + j) % 5]
    for i, consonant in enumerate("bdhlmnprvw")
    for j, vowel in enumerate("aeiu")
)
_HELD_OUT = {"validation": (0, 8, 16, 24, 32), "test": (3, 11, 19, 27, 35)}


def made_up_words(split: str) -> tuple[str, ...]:
    """The words of a split: 1200 to train, 200 for validation, 200 to test.

    Every syllable occurs equally often in each split, so that no split has easier words. There are
    many words to train, so that a model cannot learn which combinations are missing.

    Raises:
        ValueError: an unknown split.
    """
    require_choice("split", split, EPISODE_SPLITS)
    # Diagonals of the table of syllables.
    held_out = {diagonal for diagonals in _HELD_OUT.values() for diagonal in diagonals}
    chosen = _HELD_OUT.get(split, set(range(len(SECOND_SYLLABLES))) - held_out)
    return tuple(
        first + second
        for i, first in enumerate(FIRST_SYLLABLES)
        for j, second in enumerate(SECOND_SYLLABLES)
        if (j - i) % len(SECOND_SYLLABLES) in chosen
    )


@dataclass(frozen=True)
class Shot:
    """An image and the word that is bound to its shape or colour."""

    picture: int  # index into `Episodes.pictures`
    scene: Scene
    name: str  # the shape or colour, "circle"
    word: str  # the made-up word, "modip"


@dataclass(frozen=True)
class Episode:
    """Examples, and a query: an image whose word is asked for."""

    kind: str  # "shape" or "color"
    shots: tuple[Shot, ...]
    query: Shot

    @property
    def items(self) -> tuple[Shot, ...]:
        """The shots, then the query."""
        return (*self.shots, self.query)

    @property
    def answerable(self) -> bool:
        """Whether some shot shows the query's shape (or colour), and so tells its word."""
        return any(shot.word == self.query.word for shot in self.shots)

    def text(self, *, images: bool = True) -> str:
        """The whole text, the answer included, with <image> or with names in the images' place."""
        return " ".join(
            f"{IMAGE_TOKEN if images else item.name} {item.word}" for item in self.items
        )

    def prompt(self, *, images: bool = True) -> str:
        """The text up to the word that is asked for."""
        return self.text(images=images).rpartition(" ")[0]


class Episodes(Sequence[Episode]):
    """Episodes of a split; the same ones for the same arguments.

    Each episode binds `ways` words to as many shapes (or colours). The shots take them in turns, in
    an order drawn anew, so that each is shown equally often, give or take one. The query is any of
    them: with fewer shots than ways it may be one that no shot has shown. No picture comes twice.

    Args:
        split: "train", "validation" or "test".
        size: how many episodes.
        shots: how many examples come before the query, from 0.
        ways: how many words are bound, 2 to 8.
        kinds: what words may be bound to, "shape" or "color"; drawn anew for each episode.
        num_pictures: how many drawings of single shapes there are to choose from.
        image_size, difficulty: of the drawings, as in `ShapesDataset`.
        seed: another seed gives other episodes and other drawings of the same split.

    Raises:
        ValueError: an argument is out of range, or there are too few pictures of a shape or colour.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 1000,
        *,
        shots: int = 8,
        ways: int = 4,
        kinds: tuple[str, ...] = ("shape",),
        num_pictures: int = 1000,
        image_size: int = 48,
        difficulty: str = "easy",
        seed: int = 0,
    ) -> None:
        require_choice("split", split, EPISODE_SPLITS)
        require_at_least("size", size, 1)
        require_at_least("shots", shots, 0)
        require_at_least("seed", seed, 0)
        for kind in kinds:
            require_choice("kinds", kind, tuple(KINDS))
        if not kinds or not 2 <= ways <= len(SHAPES):
            raise ValueError(
                f"kinds={kinds} and ways={ways}, expected at least one kind and 2 to "
                f"{len(SHAPES)} ways"
            )
        self.split, self.shots, self.ways, self.kinds, self.seed = split, shots, ways, kinds, seed
        self.words = made_up_words(split)
        self.pictures = ShapesDataset(
            split,
            num_pictures,
            image_size=image_size,
            difficulty=difficulty,
            num_objects=(1,),
            seed=seed,
        )
        self._pictures_of = self._group()
        needed = shots // ways + 2  # of one name: its turns among the shots, and the query
        for name, found in self._pictures_of.items():
            if len(found) < needed:
                raise ValueError(
                    f"{len(found)} pictures show {name}, expected at least {needed}: raise "
                    f"num_pictures={num_pictures}"
                )
        self._size = size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Episode:
        index = range(len(self))[index]  # raises IndexError, and counts negatives from the end
        rng = np.random.default_rng((self.seed, EPISODE_SPLITS.index(self.split), index, self.ways))
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        names = rng.choice(KINDS[kind], self.ways, replace=False).tolist()
        words = dict(zip(names, rng.choice(self.words, self.ways, replace=False), strict=True))
        turns: list[str] = []
        while len(turns) < self.shots:
            turns += rng.permutation(names).tolist()
        asked = [*turns[: self.shots], names[int(rng.integers(self.ways))]]
        unused = {
            name: rng.permutation(self._pictures_of[name]).tolist() for name in dict.fromkeys(asked)
        }
        items = []
        for name in asked:
            picture = unused[name].pop()
            items.append(Shot(picture, self.pictures.scenes[picture], name, str(words[name])))
        return Episode(kind, tuple(items[:-1]), items[-1])

    def pixel_values(self, episode: Episode) -> torch.Tensor:
        """The images of an episode, float32 (shots + 1, 3, image_size, image_size)."""
        return self.pictures.pixel_values([item.picture for item in episode.items])

    def _group(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for kind in self.kinds for name in KINDS[kind]}
        for index, scene in enumerate(self.pictures.scenes):
            (thing,) = scene.objects
            for name in (thing.shape, thing.color):
                if name in found:
                    found[name].append(index)
        return found


def episode_tokenizer() -> Tokenizer:
    """A tokenizer of names of shapes and colours, <image>, and the syllables of made-up words.

    The ids 0 to 3 are as in `word_tokenizer`, and <image> is 4. Decoding joins the syllables.
    """
    vocabulary = [
        *SPECIAL_TOKENS,
        IMAGE_TOKEN,
        *COLORS,
        *SHAPES,
        *FIRST_SYLLABLES,
        *(f"##{second}" for second in SECOND_SYLLABLES),
    ]
    tokenizer = Tokenizer(
        models.WordPiece(
            {word: index for index, word in enumerate(vocabulary)},
            unk_token="[UNK]",
            continuing_subword_prefix="##",
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([*SPECIAL_TOKENS, IMAGE_TOKEN])
    tokenizer.decoder = decoders.WordPiece(prefix="##", cleanup=False)
    return tokenizer
