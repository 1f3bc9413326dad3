"""The shapes world: images of coloured shapes, captions in two languages, questions, splits.

One to three shapes, each with a colour, a size and a place. The whole course returns to it, because
it is small enough to learn in a minute and rich enough to go wrong in interesting ways.
"""

from zoo_lessons.datasets.shapes.captions import Caption, canonical_caption, captions
from zoo_lessons.datasets.shapes.dataset import ShapesDataset, distinct_caption_batches
from zoo_lessons.datasets.shapes.drawing import (
    DIFFICULTIES,
    PALETTE,
    pixel_values,
    render,
    to_images,
)
from zoo_lessons.datasets.shapes.questions import Question, questions
from zoo_lessons.datasets.shapes.scenes import (
    COLORS,
    HELD_OUT_PAIRS,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    ShapeObject,
)
from zoo_lessons.datasets.shapes.splits import SPLITS, sample_scene, split_of, translation_pairs

__all__ = [
    "COLORS",
    "DIFFICULTIES",
    "HELD_OUT_PAIRS",
    "PALETTE",
    "PLACES",
    "RELATIONS",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "Caption",
    "Question",
    "Scene",
    "ShapeObject",
    "ShapesDataset",
    "canonical_caption",
    "captions",
    "distinct_caption_batches",
    "pixel_values",
    "questions",
    "render",
    "sample_scene",
    "split_of",
    "to_images",
    "translation_pairs",
]
