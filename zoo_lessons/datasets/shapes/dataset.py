"""The shapes world as a dataset, and batches without two equal captions."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from zoo_lessons.datasets.shapes.captions import Caption, canonical_caption, captions
from zoo_lessons.datasets.shapes.drawing import DIFFICULTIES, MIN_IMAGE_SIZE, pixel_values, render
from zoo_lessons.datasets.shapes.questions import questions
from zoo_lessons.datasets.shapes.scenes import Scene, require_at_least, require_choice
from zoo_lessons.datasets.shapes.splits import SPLITS, sample_scene

WORDINGS = ("canonical", "any")


class ShapesDataset(Dataset):
    """Scenes with their images, captions and questions; the same ones for the same arguments.

    No scene of one split is in another, and only `composition` shows held-out colour-shape pairs
    (at least one in every scene). `scenes` and `captions` list all of them without drawing.

    Args:
        split: "train", "validation", "test" or "composition".
        size: how many scenes.
        image_size: the side of the images in pixels, at least 24.
        difficulty: "easy", "medium" or "hard"; see `render`.
        num_objects: the numbers of objects to choose from.
        wording: "canonical" (one scene, one sentence) or "any" (one of the scene's wordings).
        seed: another seed gives other scenes and other drawings of the same split.

    Raises:
        ValueError: an unknown split, difficulty or wording, or a size or seed that is too small.
    """

    def __init__(
        self,
        split: str = "train",
        size: int = 1000,
        *,
        image_size: int = 48,
        difficulty: str = "medium",
        num_objects: tuple[int, ...] = (1, 2, 3),
        wording: str = "canonical",
        seed: int = 0,
    ) -> None:
        require_choice("split", split, SPLITS)
        require_choice("difficulty", difficulty, tuple(DIFFICULTIES))
        require_choice("wording", wording, WORDINGS)
        require_at_least("size", size, 1)
        require_at_least("seed", seed, 0)
        require_at_least("image_size", image_size, MIN_IMAGE_SIZE, " pixels")
        self.split = split
        self.image_size = image_size
        self.difficulty = difficulty
        self.seed = seed
        self.scenes: list[Scene] = []
        self.captions: list[Caption] = []
        for index in range(size):
            rng = np.random.default_rng(self._key(index))
            scene = sample_scene(rng, split, num_objects)
            choices = (canonical_caption(scene),) if wording == "canonical" else captions(scene)
            self.scenes.append(scene)
            self.captions.append(choices[int(rng.integers(len(choices)))])

    def __len__(self) -> int:
        return len(self.scenes)

    def __getitem__(self, index: int) -> dict:
        """One example.

        Returns:
            pixel_values: float32 (3, image_size, image_size) in [-1, 1].
            caption, caption_fr: the sentence in English and in French.
            questions: tuple of Question(text, answer, kind).
            scene: the Scene.
        """
        index = range(len(self))[index]  # raises IndexError, and counts negatives from the end
        return {
            "pixel_values": pixel_values(self.image(index)),
            "caption": self.captions[index].english,
            "caption_fr": self.captions[index].french,
            "questions": questions(self.scenes[index]),
            "scene": self.scenes[index],
        }

    def image(self, index: int) -> np.ndarray:
        """One drawing, uint8 (image_size, image_size, 3)."""
        key = (*self._key(index), 1)  # the drawing's chance is not the scene's
        return render(self.scenes[index], self.image_size, self.difficulty, key)

    def pixel_values(self, indices: Sequence[int] | None = None) -> torch.Tensor:
        """Many drawings at once (all by default), float32 (N, 3, image_size, image_size)."""
        indices = range(len(self)) if indices is None else indices
        return pixel_values(np.stack([self.image(int(index)) for index in indices]))

    def _key(self, index: int) -> tuple[int, int, int]:
        return self.seed, SPLITS.index(self.split), index


def distinct_caption_batches(
    captions: Sequence[Hashable], batch_size: int, *, seed: int = 0
) -> Iterator[list[int]]:
    """One shuffled pass over the indices of `captions`, in batches without two equal captions.

    A contrastive loss treats every other caption of the batch as wrong. An equal caption would
    be a false negative. What does not fill a last batch is left out, so a caption that is very
    frequent is seen less often than it occurs.

    Args:
        captions: one caption per example; any hashable key works, a Scene for instance.
        batch_size: the size of every batch.
        seed: another seed gives another order; use the epoch's number.

    Yields:
        Lists of `batch_size` indices.

    Raises:
        ValueError: fewer distinct captions than `batch_size`.
    """
    distinct = len(set(captions))
    if not 1 <= batch_size <= distinct:
        raise ValueError(
            f"batch_size={batch_size} must be from 1 to the number of distinct captions, {distinct}"
        )
    order = np.random.default_rng(seed).permutation(len(captions))
    return _distinct_batches(captions, batch_size, deque(order.tolist()))


def _distinct_batches(
    captions: Sequence[Hashable], batch_size: int, waiting: deque[int]
) -> Iterator[list[int]]:
    while len(waiting) >= batch_size:
        batch: list[int] = []
        seen: set[Hashable] = set()
        postponed: list[int] = []
        while waiting and len(batch) < batch_size:
            index = waiting.popleft()
            if captions[index] in seen:
                postponed.append(index)
            else:
                seen.add(captions[index])
                batch.append(index)
        if len(batch) < batch_size:
            return
        waiting.extendleft(reversed(postponed))
        yield batch
