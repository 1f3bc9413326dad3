"""Lesson 12's CLIP again, with other seeds: is its checkpoint a lucky one?

The recipe of `clip_shapes`, with other first weights and other training images. Judged on the same
images as the checkpoint: zero-shot on pairs that training showed and on pairs that it did not, by
the mean over all prompts. Nothing is saved, and nothing is timed.
"""

from __future__ import annotations

from typing import Any

from experiments.clip_shapes import (
    DECAY,
    JUDGED,
    RATE,
    SCENES,
    STEPS,
    TRAINED,
    Pictures,
    config,
    loss,
    rotation,
    zero_shot,
)
from zoo_lessons.datasets.words import word_tokenizer
from zoo_lessons.models.clip import CLIP
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything

SEEDS = (1, 2)


def again(
    seed: int, judged: dict[str, Pictures], *, sizes: tuple[int, int], steps: int
) -> dict[str, Any]:
    """{split: {prompts: accuracy}} of a model trained with this seed.

    Args:
        sizes: how many training images of one shape, and of two or three.
    """
    single = Pictures("train", sizes[0], num_objects=(1,), wording="any", seed=seed)
    scenes = Pictures("train", sizes[1], num_objects=(2, 3), wording="any", seed=seed)
    tokenizer = word_tokenizer([*single.captions, *scenes.captions])
    stream = rotation(single, scenes, tokenizer)
    seed_everything(seed)
    model = CLIP(config(tokenizer.get_vocab_size()))
    fit(
        model,
        lambda step: next(stream),
        loss,
        steps=steps,
        lr=RATE,
        weight_decay=DECAY,
        schedule="warmup_cosine",
        on_step=lambda record: model.limit_temperature(),
        device="cpu",
        progress=False,
    )
    return zero_shot(model.eval(), tokenizer, judged)


@experiment(
    "clip_shapes_seeds",
    lesson="12",
    uses=[
        "experiments.clip_shapes",
        "zoo_lessons.datasets.words",
        "zoo_lessons.models.clip",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
    ],
)
def clip_shapes_seeds() -> dict[str, Any]:
    judged = {
        "seen": Pictures("test", JUDGED, num_objects=(1,)),
        "unseen": Pictures("composition", JUDGED, num_objects=(1,)),
    }
    runs = {str(seed): again(seed, judged, sizes=(TRAINED, SCENES), steps=STEPS) for seed in SEEDS}
    return {"figures": {"zero_shot": runs}}
