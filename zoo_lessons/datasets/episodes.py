"""Few-shot episodes: made-up words whose meaning only the examples tell.

An episode binds a few made-up words to shapes (or to colours), anew each time, and shows examples:

    <image> modip <image> bilak <image>

Which of the two words comes next? Only the first two images can tell. The words are the same in all
splits, since a model can only say words that it has; what a word means is drawn anew in each
episode, so that no binding can be known beforehand. The splits share no scene, and `composition`
shows colours and shapes in pairs that no other split has. Each word is one token.

The same episode in text alone has the name of the shape (or colour) where an image would stand:
"circle modip star bilak circle". A language model can learn from these what binding is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from zoo_lessons.datasets.shapes.dataset import ShapesDataset
from zoo_lessons.datasets.shapes.scenes import (
    COLORS,
    SHAPES,
    Scene,
    require_at_least,
    require_choice,
)
from zoo_lessons.datasets.shapes.splits import SPLITS
from zoo_lessons.datasets.words import SPECIAL_TOKENS

KINDS = {"shape": SHAPES, "color": COLORS}
IMAGE_TOKEN = "<image>"
ORDERS = ("any", "turns")
MADE_UP_WORDS = tuple(
    first + vowel + last
    for i, first in enumerate("bdfgklmnpstvwz")
    for j, vowel in enumerate("aeiou")
    for last in (("lak", "mip"), ("nud", "xet"), ("pov", "rix"), ("zem", "bul"))[(i + j) % 4]
)  # 140


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

    Each episode binds `ways` words to as many shapes (or colours). Each shot shows any of them, and
    so does the query: it may be one that no shot has shown. No picture comes twice in an episode.

    Args:
        split: "train", "validation", "test" or "composition", as in `ShapesDataset`.
        size: how many episodes.
        shots: how many examples come before the query, from 0.
        ways: how many words are bound, 2 to 8.
        order: "any" draws each shot by itself. "turns" shows each shape once before one comes
            again, and so on: an easier order for a model that still has to learn what binding is.
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
        order: str = "any",
        kinds: tuple[str, ...] = ("shape",),
        num_pictures: int = 1000,
        image_size: int = 48,
        difficulty: str = "medium",
        seed: int = 0,
    ) -> None:
        require_choice("split", split, SPLITS)
        require_at_least("size", size, 1)
        require_at_least("shots", shots, 0)
        require_at_least("seed", seed, 0)
        require_choice("order", order, ORDERS)
        for kind in kinds:
            require_choice("kinds", kind, tuple(KINDS))
        if not kinds or not 2 <= ways <= len(SHAPES):
            raise ValueError(
                f"kinds={kinds} and ways={ways}, expected at least one kind and 2 to "
                f"{len(SHAPES)} ways"
            )
        self.split, self.shots, self.ways, self.order = split, shots, ways, order
        self.kinds, self.seed = kinds, seed
        self.pictures = ShapesDataset(
            split,
            num_pictures,
            image_size=image_size,
            difficulty=difficulty,
            num_objects=(1,),
            seed=seed,
        )
        self._pictures_of = self._group()
        # Of one name: its turns among the shots, or all of them, and the query.
        needed = (shots // ways + 1 if order == "turns" else shots) + 1
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
        rng = np.random.default_rng((self.seed, SPLITS.index(self.split), index, self.ways))
        kind = self.kinds[int(rng.integers(len(self.kinds)))]
        names = rng.choice(KINDS[kind], self.ways, replace=False).tolist()
        words = dict(zip(names, rng.choice(MADE_UP_WORDS, self.ways, replace=False), strict=True))
        asked = [names[i] for i in self._draw(rng)]
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

    def _draw(self, rng: np.random.Generator) -> list[int]:
        """Which of the names each shot and the query show."""
        if self.order == "any":
            return rng.integers(self.ways, size=self.shots + 1).tolist()
        turns = [rng.permutation(self.ways) for _ in range(self.shots // self.ways + 1)]
        return [*np.concatenate(turns)[: self.shots].tolist(), int(rng.integers(self.ways))]

    def _group(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {name: [] for kind in self.kinds for name in KINDS[kind]}
        for index, scene in enumerate(self.pictures.scenes):
            (thing,) = scene.objects
            for name in (thing.shape, thing.color):
                if name in found:
                    found[name].append(index)
        return found


def episode_tokenizer() -> Tokenizer:
    """A tokenizer of <image>, the names of colours and shapes, and the made-up words.

    A word is a token. The ids 0 to 3 are as in `word_tokenizer`, and <image> is 4.
    """
    vocabulary = [*SPECIAL_TOKENS, IMAGE_TOKEN, *COLORS, *SHAPES, *MADE_UP_WORDS]
    tokenizer = Tokenizer(
        models.WordLevel({word: index for index, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens([*SPECIAL_TOKENS, IMAGE_TOKEN])
    return tokenizer


def word_targets(input_ids: Tensor) -> Tensor:
    """Targets for a loss on the words that can be known: those that stood before in the episode.

    The first time that an episode uses a word, nothing tells it; such words would drown the others.

    Args:
        input_ids: texts of episodes with [BOS] first, (batch, length).

    Returns:
        (batch, length): at each position the token that follows, or -100 where it does not count.
    """
    words = input_ids[:, 2::2]  # (batch, items); names or images stand at 1, 3, 5, ...
    before = (words[:, :, None] == words[:, None, :]).tril(-1).any(dim=-1)
    targets = torch.full_like(input_ids, -100)
    targets[:, 1:-1:2] = words.masked_fill(~before, -100)
    return targets
