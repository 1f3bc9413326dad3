"""A small GAN and a small diffusion Transformer that draw digits: lesson 18's checkpoints.

Both learn from scikit-learn's 1,157 training digits and their labels; the writers of validation and
test stay unseen. Every batch moves and turns its digits a little, as the classifiers' batches do.

- GAN: the real *and* the drawn digits are moved before the discriminator sees them, so that the
  generator does not learn the moves as such (Zhao et al. 2020).
- Diffusion: a DiT of 2×2 patches with the cosine schedule of 1,000 steps, drawn from in `VISITED`
  of them by DDIM.

The checkpoints hold the moving averages of the weights. The figures are of the reloaded models:

- fit: share of drawn digits that a CNN, trained on all real training digits, takes for the class
  that was asked for;
- nearest: the distance (Euclidean, 64 pixels from 0 to 1) of each drawn digit to the nearest
  training digit: median, and the 5 % quantile. Beside it the same for unseen digits of the test
  writers, and for each training digit and its nearest other. A model that repeats what it saw would
  come far below all of these;
- covered: the other way round, the median distance of the test writers' digits to the nearest of as
  many drawn digits as there are training digits: what a model never draws shows here;
- cost: multiplications with additions of one drawn digit and of one training step, counted by
  PyTorch.

Tried on validation writers: a DiT whose condition starts almost at zero, as in the paper (0.02),
learned the classes late or not at all in the time there was; the start in `models` is wider. A
guidance of 1.5 drew clearer digits than 1 (a CNN took all for their class, instead of 93 %), nearer
to those of other writers, too; 2.5 was like 1.5.

Nothing here is timed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from experiments.image_training import SmallCNN, accuracy, train_classifier
from zoo_lessons.checkpoints import load_trained, save_trained
from zoo_lessons.datasets.digits import Digits, digits
from zoo_lessons.diffusion import cosine_alpha_bar, diffusion_loss, draw
from zoo_lessons.models.diffusion_transformer import DiT, DiTConfig
from zoo_lessons.models.gan import Discriminator, GanConfig, Generator
from zoo_lessons.records import experiment
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.augment import random_affine
from zoo_lessons.training.gan import averaged, discriminator_loss, generator_loss, train_gan

DIT = DiTConfig(
    image_size=8,
    patch_size=2,
    num_channels=1,
    d_model=64,
    num_layers=4,
    num_heads=4,
    d_ff=256,
    num_classes=10,
    time_features=64,
)
GAN = GanConfig(width=24)
STEPS = {"GAN": 2000, "diffusion": 4500}
BATCH = 64
RATES = {"GAN": 2e-3, "diffusion": 5e-3}
DECAY = 0.995
VISITED, GUIDANCE = 25, 1.5  # when drawing: steps of the 1,000, and how loud the label is
NAMES = {"GAN": "gan_digits", "diffusion": "dit_digits"}


def moved(images: Tensor, generator: torch.Generator) -> Tensor:
    """Images from -1 to 1, each moved and turned a little; paper comes in from outside."""
    return 2 * random_affine((images + 1) / 2, generator) - 1


def train_diffusion(data: Digits, *, steps: int, seed: int) -> tuple[DiT, list[float]]:
    """The model with averaged weights, and the loss of each step."""
    seed_everything(seed)
    model, alpha_bar = DiT(DIT), cosine_alpha_bar(DIT.num_timesteps)
    random, average = torch.Generator().manual_seed(seed), averaged(model, DECAY)
    pixels = 2 * data.images - 1

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(pixels), (BATCH,), generator=random)
        return moved(pixels[rows], random), data.labels[rows]

    history = fit(
        model,
        batch,
        lambda model, batch: diffusion_loss(model, *batch, alpha_bar, generator=random),
        steps=steps,
        lr=RATES["diffusion"],
        weight_decay=0.0,
        schedule="warmup_cosine",
        device="cpu",
        progress=False,
        on_step=lambda record: average.update_parameters(model),
    )
    return average.module.eval(), history.loss


def train_digits_gan(data: Digits, *, steps: int, seed: int) -> tuple[Generator, dict[str, list]]:
    """The generator with averaged weights, and each step's loss and scores."""
    seed_everything(seed)
    generator, history = train_gan(
        Generator(GAN),
        Discriminator(GAN),
        2 * data.images - 1,
        data.labels,
        steps=steps,
        batch_size=BATCH,
        lr=RATES["GAN"],
        decay=DECAY,
        augment=moved,
        seed=seed,
    )
    return generator, {"real": history.real, "drawn": history.drawn}


def drawn(model: nn.Module, labels: Tensor, seed: int) -> Tensor:
    """One digit for each label, from 0 to 1, (n, 1, 8, 8), by either model."""
    random = torch.Generator().manual_seed(seed)
    if isinstance(model, Generator):
        images = model.draw(labels, random)
    else:
        schedule = cosine_alpha_bar(DIT.num_timesteps)
        images = draw(model, labels, schedule, steps=VISITED, guidance=GUIDANCE, generator=random)
    return ((images + 1) / 2).clamp(0, 1)


def nearest(images: Tensor, among: Tensor, *, itself: bool = True) -> Tensor:
    """Distance of each image to the nearest of others; `itself=False` when they are the same."""
    distances = torch.cdist(images.flatten(1), among.flatten(1))
    if not itself:
        distances.fill_diagonal_(torch.inf)
    return distances.amin(dim=1)


def spread(distances: Tensor) -> dict[str, float]:
    """{"median", "5 %"}."""
    return {
        "median": round(distances.median().item(), 3),
        "5 %": round(distances.quantile(0.05).item(), 3),
    }


def smoothed(values: list[float], parts: int = 60) -> list[float]:
    """The means of equal parts of a curve."""
    return [round(part.mean().item(), 4) for part in torch.tensor(values).chunk(parts)]


def flops(function: Any) -> int:
    """Floating-point operations of a call, two for each multiplication with addition."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def costs(models: dict[str, nn.Module]) -> dict[str, dict[str, int]]:
    """{model: {"parameters", "FLOPs of a digit", "FLOPs of a training step"}}."""
    labels = torch.arange(BATCH) % 10
    real = 2 * digits("train").images[:BATCH] - 1
    judge, found = Discriminator(GAN), {}

    def gan_step() -> None:
        noise = torch.randn(BATCH, GAN.noise_size)
        images = models["GAN"](noise, labels)
        scores = judge(real, labels), judge(images.detach(), labels)
        discriminator_loss(*scores).backward()
        generator_loss(judge(models["GAN"](noise, labels), labels)).backward()

    schedule = cosine_alpha_bar(DIT.num_timesteps)
    steps = {
        "GAN": gan_step,
        "diffusion": lambda: diffusion_loss(models["diffusion"], real, labels, schedule).backward(),
    }
    for name, model in models.items():
        found[name] = {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "FLOPs of a digit": flops(lambda model=model: drawn(model, labels, 0)) // BATCH,
            "FLOPs of a training step": flops(steps[name]),
        }
    return found


@experiment(
    "digits_generators",
    lesson="18",
    uses=[
        "experiments.image_training",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.diffusion",
        "zoo_lessons.models.diffusion_transformer",
        "zoo_lessons.models.gan",
        "zoo_lessons.training.augment",
        "zoo_lessons.training.fit",
        "zoo_lessons.training.gan",
        "zoo_lessons.training.random_state",
    ],
)
def digits_generators() -> dict[str, Any]:
    train, test = digits("train"), digits("test")
    gan, scores = train_digits_gan(train, steps=STEPS["GAN"], seed=0)
    dit, loss = train_diffusion(train, steps=STEPS["diffusion"], seed=0)
    saved = {
        name: save_trained(NAMES[name], model) for name, model in (("GAN", gan), ("diffusion", dit))
    }
    models = {name: load_trained(folder) for name, folder in NAMES.items()}

    judge = train_classifier(SmallCNN, *train, seed=0, steps=500, lr=3e-3)
    labels = torch.arange(len(train.labels)) % 10
    figures: dict[str, Any] = {}
    for name, model in models.items():
        images = drawn(model, labels, seed=1)
        figures[name] = {
            "fit": accuracy(judge, images, labels),
            "nearest": spread(nearest(images, train.images)),
            "covered": spread(nearest(test.images, images))["median"],
        }
    return {
        "figures": {
            "checkpoints": saved,
            "steps": STEPS,
            "rates": RATES,
            "batch": BATCH,
            "visited": VISITED,
            "guidance": GUIDANCE,
            "drawn": len(labels),
            "models": figures,
            "real": {
                "fit": accuracy(judge, *test),
                "nearest": {
                    "test writers": spread(nearest(test.images, train.images)),
                    "training digits": spread(nearest(train.images, train.images, itself=False)),
                },
                "covered": spread(nearest(test.images, train.images))["median"],
            },
            "cost": costs(models),
            "curves": {
                "diffusion loss": smoothed(loss),
                **{f"GAN {name}": smoothed(values) for name, values in scores.items()},
            },
        }
    }
