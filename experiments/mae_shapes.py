"""A masked autoencoder of the shapes world: lesson 11's checkpoint.

It sees images of 32×32 pixels in 64 patches of 4×4, 48 of them hidden, and none of the captions.
The checkpoint is saved in half precision, loaded again, and judged by the mean squared error on
hidden patches of images that it has not seen: of the same kind (test), and with colours on shapes
that no training image puts together (composition). Pixels go from -1 to 1.

The baselines learn nothing: the mean colour of the visible patches, and the smooth continuation of
the visible pixels into the holes (`zoo_lessons.inpainting`). All paint the same holes.

A part of the error nobody can avoid: the drawings have pixel noise, whose variance is in the
figures.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from zoo_lessons.checkpoints import load_trained, save_trained
from zoo_lessons.datasets.shapes import DIFFICULTIES, ShapesDataset
from zoo_lessons.inpainting import fill_smoothly, fill_with_mean, masked_error
from zoo_lessons.models.mae import MAE, MAEConfig, unpatchify
from zoo_lessons.records import experiment
from zoo_lessons.training import History, fit, seed_everything

NAME = "mae_shapes"
IMAGE, PATCH = 32, 4
TRAINED_IMAGES, JUDGED_IMAGES = 6000, 256
STEPS, BATCH, RATE = 10_000, 32, 3e-3
RATIOS = (0.25, 0.5, 0.625, 0.75, 0.875)


def config() -> MAEConfig:
    """About 0.2 million parameters."""
    return MAEConfig(
        image_size=IMAGE,
        patch_size=PATCH,
        d_model=64,
        num_layers=3,
        num_heads=4,
        d_ff=256,
        decoder_d_model=48,
        decoder_num_layers=1,
        decoder_num_heads=4,
        decoder_d_ff=192,
        eps=1e-6,
    )


def train(images: Tensor, *, steps: int = STEPS, seed: int = 0) -> tuple[MAE, History]:
    """A model trained on random batches of images (n, 3, 32, 32), and its history."""
    seed_everything(seed)
    model = MAE(config())
    draw = torch.Generator().manual_seed(seed)
    history = fit(
        model,
        lambda step: images[torch.randint(len(images), (BATCH,), generator=draw)],
        lambda model, images: model(images).loss,
        steps=steps,
        lr=RATE,
        weight_decay=0.05,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
    )
    return model.eval(), history


@torch.no_grad()
def errors(model: MAE, images: Tensor, mask_ratio: float) -> dict[str, float]:
    """Mean squared error on hidden patches, for the model and for each baseline."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.rand(len(images), (IMAGE // PATCH) ** 2, generator=draw)
    output = model(images, noise, mask_ratio)
    painted = {
        "mean colour": fill_with_mean(images, output.mask, PATCH),
        "smooth": fill_smoothly(images, output.mask, PATCH),
        "MAE": unpatchify(output.logits, PATCH, IMAGE, IMAGE),
    }
    return {
        name: round(masked_error(each, images, output.mask, PATCH).mean().item(), 5)
        for name, each in painted.items()
    }


@experiment(
    NAME,
    lesson="11",
    uses=[
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.shapes.dataset",
        "zoo_lessons.datasets.shapes.drawing",
        "zoo_lessons.datasets.shapes.splits",
        "zoo_lessons.inpainting",
        "zoo_lessons.models.mae",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.history",
        "zoo_lessons.training.random_state",
    ],
)
def mae_shapes() -> dict[str, Any]:
    sizes = {"train": TRAINED_IMAGES, "test": JUDGED_IMAGES, "composition": JUDGED_IMAGES}
    images = {
        split: ShapesDataset(split, size, image_size=IMAGE).pixel_values()
        for split, size in sizes.items()
    }
    trained, history = train(images["train"])

    saved = save_trained(NAME, trained)
    model = load_trained(NAME)
    curve = torch.tensor(history.loss).view(-1, 50).mean(dim=1)
    noise = DIFFICULTIES["medium"].noise / 127.5  # from grey levels to pixels of -1 to 1
    figures = {
        "checkpoint": saved,
        "parameters": sum(p.numel() for p in model.parameters()),
        "images": sizes,
        "steps": STEPS,
        "batch": BATCH,
        "noise_variance": round(noise**2 / 3, 5),
        "curve": {  # means of fifty steps
            "step": list(range(25, STEPS, 50)),
            "loss": [round(value, 5) for value in curve.tolist()],
        },
        "ratios": list(RATIOS),
        "errors": {
            split: [errors(model, images[split], ratio) for ratio in RATIOS]
            for split in ("test", "composition")
        },
    }
    return {"figures": figures}
