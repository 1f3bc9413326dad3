"""A CLIP of the shapes world: lesson 12's checkpoint.

Two small towers read images of 48×48 pixels with one to three shapes. Eight of the 64 pairs of a
colour and a shape never occur in training. A contrastive loss learns what tells the captions of a
batch apart, and no more: among random scenes, colours and places suffice, and shapes are never
needed. So of four batches

- two hold images of one shape with captions such as "a small red circle",
- one the like with full captions, in every wording,
- one scenes of two or three shapes, in every wording.

In the first three, no two images share size, colour and shape; in the last, no two captions are
equal. The checkpoint is saved in half precision, loaded again, and judged on

- zero-shot classification: images of one shape, 64 classes, on pairs that training showed and on
  the eight that it did not (chance is 1/64). Prompts: "a red circle"; one caption of some size and
  place; the mean over all sizes and places. Colour and shape are also judged alone;
- retrieval among unseen scenes of one to three shapes, by recall@1 and recall@5, both ways;
- contrasts: the true caption against a false one of almost the same words (chance is 1/2), and
  whether single words suffice (`word`) or their relations are needed (`binding`, `relation`,
  `count`, `order`); see `zoo_lessons.datasets.shapes.contrasts`.

The stem is convolutional (Xiao et al. 2021): with plain patches, shapes are learned too slowly for
some minutes of one processor core. A token stands for 4×4 pixels: coarser ones lose small shapes.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from zoo_lessons.checkpoints import load_trained, save_trained, trained_tokenizer
from zoo_lessons.contrastive import contrastive_loss
from zoo_lessons.datasets.shapes import (
    SHAPES,
    ShapesDataset,
    distinct_caption_batches,
    pixel_values,
)
from zoo_lessons.datasets.shapes.contrasts import KINDS, contrasts
from zoo_lessons.datasets.shapes.prompts import PAIRS, full_prompts, pair_labels, short_prompt
from zoo_lessons.datasets.words import EOS_ID, encode_batch, word_tokenizer
from zoo_lessons.models.clip import CLIP, CLIPConfig, CLIPTextConfig, CLIPVisionConfig
from zoo_lessons.records import experiment
from zoo_lessons.retrieval import first_ranks
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.zero_shot import class_vectors, image_embeddings, text_embeddings

NAME = "clip_shapes"
IMAGE = 48
TRAINED, SCENES = 24_000, 6000  # images of one shape, and of two or three
JUDGED, SEARCHED, CONTRASTED = 400, 500, 1500
STEPS, BATCH, RATE, DECAY, EVERY = 1200, 96, 2e-3, 0.1, 200


def config(vocab_size: int) -> CLIPConfig:
    """About 0.2 million parameters."""
    return CLIPConfig(
        CLIPVisionConfig(
            image_size=IMAGE,
            patch_size=4,
            d_model=64,
            num_layers=3,
            num_heads=4,
            d_ff=128,
            activation="gelu",
            stem="convolutions",
        ),
        CLIPTextConfig(
            vocab_size=vocab_size,
            d_model=64,
            num_layers=2,
            num_heads=4,
            d_ff=128,
            max_length=32,
            activation="gelu",
            eos_token_id=EOS_ID,
        ),
        projection_dim=64,
    )


class Pictures:
    """Images and captions of one split, the images as bytes: floats would need four times more."""

    def __init__(self, split: str, size: int, **options: Any) -> None:
        self.data = ShapesDataset(split, size, image_size=IMAGE, **options)
        self.images = np.stack([self.data.image(index) for index in range(size)])
        self.captions = [caption.english for caption in self.data.captions]
        self.scenes = self.data.scenes

    def pixel_values(self, rows: list[int] | None = None) -> Tensor:
        """float32 (images, 3, IMAGE, IMAGE) in [-1, 1]."""
        return pixel_values(self.images if rows is None else self.images[rows])


class Batches:
    """Random pairs of an image and a text, no two of a batch alike; each epoch in another order.

    Args:
        pictures: the images.
        texts: one for each image.
        alike: one for each image: two images with the same one are not in a batch together.
    """

    def __init__(
        self,
        pictures: Pictures,
        texts: list[str],
        alike: list[Any],
        tokenizer: Tokenizer,
        seed: int,
        batch: int = BATCH,
    ):
        self.pictures, self.alike, self.seed, self.batch = pictures, alike, seed, batch
        self.encoded = encode_batch(tokenizer, texts, add_bos=True, add_eos=True)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        epoch = 0
        while True:
            seed = 1000 * self.seed + epoch
            for rows in distinct_caption_batches(self.alike, self.batch, seed=seed):
                longest = int(self.encoded.attention_mask[rows].sum(dim=1).max())
                yield self.pictures.pixel_values(rows), self.encoded.input_ids[rows, :longest]
            epoch += 1


def rotation(
    single: Pictures, scenes: Pictures, tokenizer: Tokenizer
) -> Iterator[tuple[Tensor, Tensor]]:
    """The four batches of the description above, in turn, for ever."""
    things = [scene.objects[0] for scene in single.scenes]
    looks = [(thing.size, *thing.pair) for thing in things]
    sized = [f"a {thing.size} {thing.color} {thing.shape}" for thing in things]
    streams = [
        Batches(single, sized, looks, tokenizer, seed=0),
        Batches(single, single.captions, looks, tokenizer, seed=1),
        Batches(single, sized, looks, tokenizer, seed=2),
        Batches(scenes, scenes.captions, scenes.captions, tokenizer, seed=3),
    ]
    for batches in zip(*streams, strict=True):
        yield from batches


def loss(model: CLIP, batch: tuple[Tensor, Tensor]) -> Tensor:
    images, input_ids = batch
    return contrastive_loss(
        model.embed_images(images), model.embed_texts(input_ids), model.logit_scale
    )


def zero_shot(model: CLIP, tokenizer: Tokenizer, judged: dict[str, Pictures]) -> dict[str, Any]:
    """{split: {prompts: accuracy}}, and the accuracy of colour and shape alone."""
    prompts = {
        "short": [[short_prompt(pair)] for pair in PAIRS],
        "one caption": [full_prompts(pair)[-5:-4] for pair in PAIRS],  # large, in the centre
        "ensemble": [full_prompts(pair) for pair in PAIRS],
    }
    found: dict[str, Any] = {}
    for split, pictures in judged.items():
        images = image_embeddings(model, pictures.pixel_values())
        labels = torch.tensor(pair_labels(pictures.scenes))
        found[split] = {}
        for name, texts in prompts.items():
            guess = (images @ class_vectors(model, tokenizer, texts).T).argmax(dim=-1)
            found[split][name] = share(guess == labels)
        found[split]["colour"] = share(guess // len(SHAPES) == labels // len(SHAPES))
        found[split]["shape"] = share(guess % len(SHAPES) == labels % len(SHAPES))
    return found


def retrieval(model: CLIP, tokenizer: Tokenizer, pictures: Pictures) -> dict[str, Any]:
    """Recall@1 and recall@5 among as many captions as images, both ways."""
    images = image_embeddings(model, pictures.pixel_values())
    cosines = images @ text_embeddings(model, tokenizer, pictures.captions).T
    found = {}
    for name, scores in (("image to text", cosines), ("text to image", cosines.T)):
        right = [
            [j for j, other in enumerate(pictures.captions) if other == caption]
            for caption in pictures.captions
        ]
        ranks = torch.tensor(first_ranks(scores, right))
        found[name] = {f"recall@{k}": share(ranks <= k) for k in (1, 5)}
    return found


def bag_of_words(model: CLIP, tokenizer: Tokenizer, pictures: Pictures) -> dict[str, Any]:
    """For each kind of contrast: how often the true caption is nearer, and of how many images."""
    images = image_embeddings(model, pictures.pixel_values())
    found = {}
    for kind in KINDS:
        places, pairs = zip(*contrasts(pictures.scenes, kind), strict=True)
        true, false = (
            text_embeddings(model, tokenizer, texts) for texts in zip(*pairs, strict=True)
        )
        rows = images[list(places)]
        nearer = (rows * true).sum(dim=1) > (rows * false).sum(dim=1)
        found[kind] = {"accuracy": share(nearer), "images": len(places)}
    return found


def share(right: Tensor) -> float:
    return round(right.float().mean().item(), 4)


@experiment(
    NAME,
    lesson="12",
    uses=[
        "zoo_lessons.checkpoints",
        "zoo_lessons.contrastive",
        "zoo_lessons.datasets.shapes.captions",
        "zoo_lessons.datasets.shapes.contrasts",
        "zoo_lessons.datasets.shapes.dataset",
        "zoo_lessons.datasets.shapes.drawing",
        "zoo_lessons.datasets.shapes.prompts",
        "zoo_lessons.datasets.shapes.scenes",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.datasets.words",
        "zoo_lessons.models.clip",
        "zoo_lessons.retrieval",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.random_state",
        "zoo_lessons.zero_shot",
    ],
)
def clip_shapes() -> dict[str, Any]:
    single = Pictures("train", TRAINED, num_objects=(1,), wording="any")
    scenes = Pictures("train", SCENES, num_objects=(2, 3), wording="any")
    judged = {
        "seen": Pictures("test", JUDGED, num_objects=(1,)),
        "unseen": Pictures("composition", JUDGED, num_objects=(1,)),
    }
    tokenizer = word_tokenizer([*single.captions, *scenes.captions])
    stream = rotation(single, scenes, tokenizer)
    seed_everything(0)
    model = CLIP(config(tokenizer.get_vocab_size()))
    curve: dict[str, list[Any]] = {"step": [], "seen": [], "unseen": [], "temperature": []}

    def watch(record: Any) -> None:
        model.limit_temperature()
        if (record.step + 1) % EVERY == 0:
            model.eval()
            now = zero_shot(model, tokenizer, judged)
            model.train()
            curve["step"].append(record.step + 1)
            for split in judged:
                curve[split].append(now[split])
            curve["temperature"].append(round(model.temperature, 4))

    history = fit(
        model,
        lambda step: next(stream),
        loss,
        steps=STEPS,
        lr=RATE,
        weight_decay=DECAY,
        schedule="warmup_cosine",
        on_step=watch,
        device="cpu",
        progress=False,
    )
    saved = save_trained(NAME, model, tokenizer)
    model, tokenizer = load_trained(NAME), trained_tokenizer(NAME)
    curve["loss"] = [
        round(value, 4) for value in torch.tensor(history.loss).view(-1, EVERY).mean(dim=1).tolist()
    ]
    figures = {
        "checkpoint": saved,
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": {"one shape": TRAINED, "two or three": SCENES},
        "steps": STEPS,
        "batch": BATCH,
        "guessing": round(math.log(BATCH), 4),
        "temperature": round(model.temperature, 4),
        "judged": JUDGED,
        "zero_shot": zero_shot(model, tokenizer, judged),
        "curve": curve,
        "searched": SEARCHED,
        "retrieval": retrieval(model, tokenizer, Pictures("test", SEARCHED)),
        "contrasts": bag_of_words(model, tokenizer, Pictures("test", CONTRASTED)),
    }
    return {"figures": figures}
