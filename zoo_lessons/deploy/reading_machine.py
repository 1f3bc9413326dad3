"""The reading machine of lesson 23: who wrote what, and every way to train a reader.

Ten people's digits are there to work with (`people`); 40 of each person's are labelled, the others
are images only. A plan is judged on two people who are left out (`left_out`), five times over, so
that each person is a stranger once. The last people's digits stay in a sealed envelope (`sealed`).

    data = left_out(0)
    reader = train_reader("small CNN", "distilled", data, seed=0)
    accuracy(reader, data.judged)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo_lessons.datasets.digits import Digits, digits, writer_starts
from zoo_lessons.models.cnn import CNN, CNNConfig, Committee, CommitteeConfig
from zoo_lessons.models.mae import MAE, MAEConfig
from zoo_lessons.models.vit import ViT, ViTConfig
from zoo_lessons.training import fit, seed_everything
from zoo_lessons.training.augment import random_affine
from zoo_lessons.training.distill import soft_target_loss
from zoo_lessons.training.history import History
from zoo_lessons.training.mixing import random_cutmix, random_mixup

LABELLED = 40  # digits of each person that the office has typed in
FOLDS, LEFT_OUT = 5, 2  # how often people are left out, and how many
BATCH = 64
VIT_SIZES = {"image_size": 8, "patch_size": 2, "num_channels": 1, "d_model": 48, "num_layers": 3,
             "num_heads": 4, "d_ff": 96}  # fmt: skip  # lesson 09's ViT for digits
MIXUP_ALPHA, CUTMIX_ALPHA = 1.0, 0.2  # chosen in lesson 18

MODELS = ("ViT", "CNN", "small CNN", "committee")
# name -> the models that can be trained so
TRAININGS = {
    "shifts": ("ViT", "CNN"),
    "shifts + mixing": ("CNN", "small CNN", "committee"),
    "after MAE": ("ViT",),
    "distilled": ("small CNN",),
    "after MAE, distilled": ("ViT",),
}
# Peak learning rates, as lessons 09 and 11 chose them for these sizes.
RATES = {"CNN": 3e-3, "small CNN": 3e-3, "ViT": 6e-3, "after MAE": 3e-3, "MAE": 3e-3}
STEPS = {"labels": 400, "distilled": 600, "MAE": 1500}


# --- people --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Office:
    """What a reader may learn from, and whose digits it is judged on.

    Attributes:
        labelled: the first `LABELLED` digits of each person.
        images: all that these people wrote, with and without labels, (n, 1, 8, 8).
        judged: digits of other people.
    """

    labelled: Digits
    images: Tensor
    judged: Digits


def people() -> list[Digits]:
    """The digits of ten people, one after the other, without those of the sealed test.

    `writer_starts` says where a new person surely begins; a "person" here may be two.
    """
    images, labels = digits()
    starts = writer_starts()[:-1]  # the last two are the test writers; the end of the tenth is one
    pairs = zip(starts, starts[1:], strict=False)
    return [Digits(images[first:end], labels[first:end]) for first, end in pairs]


def left_out(fold: int) -> Office:
    """Two of the ten people are strangers.

    Raises:
        ValueError: a fold outside 0 to `FOLDS` - 1.
    """
    if not 0 <= fold < FOLDS:
        raise ValueError(f"fold={fold} must lie between 0 and {FOLDS - 1}")
    everyone = people()
    first = fold * LEFT_OUT
    strangers = everyone[first : first + LEFT_OUT]
    return _office(everyone[:first] + everyone[first + LEFT_OUT :], _joined(strangers))


def sealed() -> Office:
    """All ten people to learn from; judged are those who have never been looked at."""
    return _office(people(), digits("test"))


def _office(known: list[Digits], judged: Digits) -> Office:
    typed = [Digits(one.images[:LABELLED], one.labels[:LABELLED]) for one in known]
    return Office(_joined(typed), _joined(known).images, judged)


def _joined(parts: list[Digits]) -> Digits:
    return Digits(*(torch.cat(column) for column in zip(*parts, strict=True)))


# --- training ------------------------------------------------------------------------------------

# (images, targets (batch, classes), generator) -> the same, changed
Change = Callable[[Tensor, Tensor, torch.Generator], tuple[Tensor, Tensor]]


def prepared(images: Tensor) -> Tensor:
    """Pixels from -1 to 1, as all readers take them."""
    return 2 * images - 1


def moved(images: Tensor, targets: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Each image moved, turned, resized and slanted a little (lesson 09)."""
    return random_affine(images, draw).clamp(0, 1), targets


def moved_and_mixed(
    images: Tensor, targets: Tensor, draw: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Moved, then MixUp or CutMix, drawn for each batch (lesson 18)."""
    images, targets = moved(images, targets, draw)
    if torch.rand((), generator=draw) < 0.5:
        return random_mixup(images, targets, draw, alpha=MIXUP_ALPHA)
    return random_cutmix(images, targets, draw, alpha=CUTMIX_ALPHA)


def learn(
    model: nn.Module,
    labelled: Digits,
    change: Change,
    *,
    seed: int,
    steps: int = STEPS["labels"],
    lr: float,
) -> History:
    """Train a reader, in place, on labelled digits."""
    draw = torch.Generator().manual_seed(seed)
    targets = F.one_hot(labelled.labels, 10).to(labelled.images.dtype)

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(targets), (BATCH,), generator=draw)
        images, wanted = change(labelled.images[rows], targets[rows], draw)
        return prepared(images), wanted

    return _fit(model, batch, lambda m, b: F.cross_entropy(m(b[0]).logits, b[1]), steps, lr)


def distil(
    student: nn.Module,
    teacher: nn.Module,
    images: Tensor,
    *,
    seed: int,
    steps: int = STEPS["distilled"],
    lr: float,
) -> History:
    """Train a student, in place, on what its teacher says of images without labels (lesson 17).

    Both see the same moved and mixed images. The temperature is 2.
    """
    draw = torch.Generator().manual_seed(seed)
    nobody = torch.zeros(BATCH, 10)  # the mixing wants targets; the teacher makes ours

    def batch(step: int) -> tuple[Tensor, Tensor]:
        rows = torch.randint(len(images), (BATCH,), generator=draw)
        seen = prepared(moved_and_mixed(images[rows], nobody, draw)[0])
        with torch.no_grad():
            return seen, teacher(seen).logits

    return _fit(student, batch, lambda m, b: soft_target_loss(m(b[0]).logits, b[1]), steps, lr)


def pretrain(images: Tensor, *, seed: int, steps: int = STEPS["MAE"]) -> MAE:
    """A masked autoencoder that has seen all images and no label (lesson 11)."""
    seed_everything(seed)
    shared = {f.name for f in fields(MAEConfig)} & set(VIT_SIZES)
    sizes = {name: VIT_SIZES[name] for name in shared}
    decoder = {"decoder_d_model": 32, "decoder_num_layers": 1, "decoder_num_heads": 4}
    model = MAE(MAEConfig(**sizes, **decoder, decoder_d_ff=64))
    draw = torch.Generator().manual_seed(seed)

    def batch(step: int) -> Tensor:
        rows = torch.randint(len(images), (BATCH,), generator=draw)
        return prepared(random_affine(images[rows], draw))

    _fit(model, batch, lambda m, seen: m(seen).loss, steps, RATES["MAE"])
    return model.eval()


def _fit(model: nn.Module, batch: Any, loss: Any, steps: int, lr: float) -> History:
    history = fit(model.train(), batch, loss, steps=steps, lr=lr, weight_decay=0.05,
                  schedule="warmup_cosine", device="cpu", progress=False)  # fmt: skip
    model.eval()
    return history


def new_reader(model: str) -> nn.Module:
    """An untrained reader.

    Raises:
        ValueError: not one of `MODELS`.
    """
    if model not in MODELS:
        raise ValueError(f"model={model!r} must be one of {', '.join(MODELS)}")
    if model == "committee":
        return Committee(CommitteeConfig())
    if model == "ViT":
        return ViT(ViTConfig(**VIT_SIZES, num_labels=10, pooling="mean"))
    return CNN(CNNConfig() if model == "CNN" else CNNConfig.small())


def train_reader(
    model: str,
    training: str,
    data: Office,
    *,
    seed: int,
    teacher: nn.Module | None = None,
    pretrained: MAE | None = None,
    steps: int | None = None,
) -> nn.Module:
    """A reader, trained in one of the ways of `TRAININGS`.

    Args:
        model: one of `MODELS`.
        training: one of `TRAININGS`.
        data: what it may learn from.
        seed: of its first weights and its batches.
        teacher: for distillation; by default a committee, trained here.
        pretrained: for training after MAE; by default trained here.
        steps: instead of those of `STEPS`, for tests; of each part.

    Raises:
        ValueError: a training that is not for this model.
    """
    check_training(model, training)
    after_mae, distilled = training.startswith("after MAE"), training.endswith("distilled")
    if distilled and teacher is None:
        teacher = train_reader("committee", "shifts + mixing", data, seed=seed, steps=steps)
    if after_mae and pretrained is None:
        pretrained = pretrain(data.images, seed=seed, steps=steps or STEPS["MAE"])
    seed_everything(seed)
    reader = pretrained.to_vit(10, pooling="mean") if after_mae else new_reader(model)
    if model == "committee":
        for member, one in enumerate(reader.members):
            own = len(reader.members) * seed + member
            learn(one, data.labelled, moved_and_mixed, seed=own, lr=RATES["CNN"],
                  steps=steps or STEPS["labels"])  # fmt: skip
        return reader.eval()
    lr = RATES["after MAE" if after_mae else model]
    if distilled:
        distil(reader, teacher, data.images, seed=seed, lr=lr, steps=steps or STEPS["distilled"])
    else:
        change = moved_and_mixed if training == "shifts + mixing" else moved
        learn(reader, data.labelled, change, seed=seed, lr=lr, steps=steps or STEPS["labels"])
    return reader.eval()


def check_training(model: str, training: str) -> None:
    """ValueError if there is no such training, or it is not for this model."""
    if training not in TRAININGS:
        raise ValueError(f"training={training!r} must be one of {', '.join(TRAININGS)}")
    if model not in TRAININGS[training]:
        raise ValueError(
            f"training={training!r} is for {' and '.join(TRAININGS[training])}, got model={model!r}"
        )


# --- judging -------------------------------------------------------------------------------------


@torch.inference_mode()
def accuracy(reader: nn.Module, judged: Digits) -> float:
    """Share of the digits that are read rightly."""
    read = reader.eval()(prepared(judged.images)).logits.argmax(dim=-1)
    return (read == judged.labels).double().mean().item()


# --- the file ------------------------------------------------------------------------------------


def without_notes(source: str | Path, target: str | Path) -> Path:
    """An ONNX file without what its exporter noted for people.

    For each operator PyTorch's exporter notes which line of which file it came from, in which
    module, and more. No runtime reads that. It may be larger than the weights, and it names folders
    of the machine where the model was exported.

    Args:
        source: an ONNX file.
        target: where to write.

    Returns:
        The target's path.
    """
    model = onnx.load(str(source))
    graph = model.graph
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]
    onnx.save(model, str(target))
    return Path(target)
