"""Lesson 13's BLIP again, with other seeds: is its checkpoint a lucky one?

The recipe of `blip_shapes`, with other first weights, other training images and another order.
Judged by exact captions on the same images as the checkpoint. Nothing is saved, and nothing is
timed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from experiments.blip_shapes import (
    JUDGED,
    STAGES,
    TRAINED,
    Pictures,
    exact,
    pretrain,
    share,
    tokenizer_for_shapes,
    write_captions,
)
from zoo_lessons.records import experiment

SEEDS = (1, 2)


def again(
    seed: int,
    judged: Mapping[str, Pictures],
    *,
    size: int = TRAINED,
    stages: Sequence[Mapping[str, Any]] = STAGES,
) -> dict[str, float]:
    """{split: exact captions} of a model trained with this seed on `size` images."""
    trained, tokenizer = Pictures("train", size, seed=seed), tokenizer_for_shapes()
    model = None
    for place, stage in enumerate(stages):
        order = 10 * seed + place  # no two stages and no two seeds draw the same batches
        model, _ = pretrain(trained, trained.texts, tokenizer, seed=order, start=model, **stage)
    return {
        split: share(
            exact(write_captions(model, tokenizer, pictures.pixel_values()), pictures.scenes)
        )
        for split, pictures in judged.items()
    }


@experiment("blip_shapes_seeds", lesson="13", uses=["experiments.blip_shapes"])
def blip_shapes_seeds() -> dict[str, Any]:
    judged = {split: Pictures(split, JUDGED) for split in ("test", "composition")}
    return {"figures": {"captions": {str(seed): again(seed, judged) for seed in SEEDS}}}
