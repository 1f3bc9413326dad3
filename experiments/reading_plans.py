"""Every plan of lesson 23: how well it reads people it never saw, and how large its file is.

The models and trainings of `deploy.reading_machine`, in float32 and INT8. Each is trained five
times, with two of the ten people left out, other ones each time; accuracy is that of the ONNX file
on all digits of the two. The interval over these five runs covers other people, other labels, other
starts, and nothing else.

Then each is trained on all ten people, with two seeds, and the sealed test digits are looked at.
Lesson 23 chooses by the left-out people alone; the test shows what the choice was worth.

The teacher of a fold is that fold's committee, and both trainings after MAE share one pre-training.

Nothing here is timed: the figures are the same on every run of one machine.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from torch import nn

from experiments.intervals import mean_interval
from zoo_lessons.checkpoints import save_trained
from zoo_lessons.datasets.digits import Digits
from zoo_lessons.deploy.export import OnnxModel, export_onnx, quantize_dynamic_int8
from zoo_lessons.deploy.plans import PRECISIONS
from zoo_lessons.deploy.reading_machine import (
    FOLDS,
    LABELLED,
    TRAININGS,
    Office,
    left_out,
    prepared,
    pretrain,
    sealed,
    train_reader,
    without_notes,
)
from zoo_lessons.models.mae import MAE
from zoo_lessons.records import experiment

SEEDS = range(2)  # of the sealed test
# What lesson 23 loads: plan -> name of the checkpoint. All are of the sealed office, first seed.
KEPT = {
    ("committee", "shifts + mixing"): "digits_committee",
    ("small CNN", "distilled"): "digits_small_cnn",
    ("ViT", "after MAE, distilled"): "digits_vit_distilled",
}


def readers(
    office: Office, seed: int, steps: int | None = None
) -> dict[tuple[str, str], nn.Module]:
    """(model, training) -> a trained reader, all from one seed."""
    committee = train_reader("committee", "shifts + mixing", office, seed=seed, steps=steps)
    pretrained: MAE = pretrain(office.images, seed=seed, **({"steps": steps} if steps else {}))
    found: dict[tuple[str, str], nn.Module] = {}
    for training, models in TRAININGS.items():
        for model in models:
            found[model, training] = committee if model == "committee" else train_reader(
                model, training, office, seed=seed, teacher=committee, pretrained=pretrained,
                steps=steps,
            )  # fmt: skip
    return found


def files(reader: nn.Module, example: Digits, folder: Path) -> dict[str, Path]:
    """The reader as it would be shipped, in each precision."""
    exported = export_onnx(
        reader, {"pixel_values": prepared(example.images[:8])}, folder / "a.onnx"
    )
    rounded = quantize_dynamic_int8(exported, folder / "b.onnx")
    pairs = zip(PRECISIONS, (exported, rounded), strict=True)
    return {name: without_notes(path, folder / f"{name}.onnx") for name, path in pairs}


def read_rightly(path: Path, judged: Digits) -> float:
    """Share of the digits that the file reads rightly."""
    logits = OnnxModel(path, threads=1)(pixel_values=prepared(judged.images))["logits"]
    return round((logits.argmax(dim=-1) == judged.labels).double().mean().item(), 4)


def measure(
    offices: list[Office], seeds: list[int], steps: int | None = None
) -> tuple[dict[tuple[str, str, str], dict[str, Any]], dict[tuple[str, str], nn.Module]]:
    """(model, training, precision) -> {"accuracy": [run], "kilobytes"}, and the first run's
    readers."""
    table: dict[tuple[str, str, str], dict[str, Any]] = {}
    first: dict[tuple[str, str], nn.Module] = {}
    for office, seed in zip(offices, seeds, strict=True):
        trained = readers(office, seed, steps)
        first = first or trained
        for (model, training), reader in trained.items():
            with tempfile.TemporaryDirectory() as folder:
                for precision, path in files(reader, office.labelled, Path(folder)).items():
                    row = table.setdefault((model, training, precision), {"accuracy": []})
                    row["accuracy"].append(read_rightly(path, office.judged))
                    row["kilobytes"] = round(path.stat().st_size / 1000, 1)
    return table, first


@experiment(
    "reading_plans",
    lesson="23",
    uses=[
        "experiments.intervals",
        "zoo_lessons.checkpoints",
        "zoo_lessons.datasets.digits",
        "zoo_lessons.deploy.export",
        "zoo_lessons.deploy.plans",
        "zoo_lessons.deploy.reading_machine",
        "zoo_lessons.models.cnn",
        "zoo_lessons.models.mae",
        "zoo_lessons.models.vit",
        "zoo_lessons.training.augment",
        "zoo_lessons.training.distill",
        "zoo_lessons.training.mixing",
    ],
)
def reading_plans() -> dict[str, Any]:
    strangers, _ = measure([left_out(fold) for fold in range(FOLDS)], list(range(FOLDS)))
    envelope = sealed()
    test, trained = measure([envelope] * len(SEEDS), list(SEEDS))
    rows = [
        {
            "model": plan[0],
            "training": plan[1],
            "precision": plan[2],
            "kilobytes": row["kilobytes"],
            "strangers": row["accuracy"],
            "accuracy": round(mean_interval(row["accuracy"])[0], 4),
            "interval": [round(x, 4) for x in mean_interval(row["accuracy"])[1:]],
            "test": test[plan]["accuracy"],
        }
        for plan, row in strangers.items()
    ]
    return {
        "figures": {
            "folds": FOLDS,
            "labelled": LABELLED,
            "judged": [len(left_out(fold).judged.labels) for fold in range(FOLDS)],
            "images": len(envelope.images),
            "test_digits": len(envelope.judged.labels),
            "test_seeds": len(SEEDS),
            "plans": rows,
            "checkpoints": [save_trained(name, trained[plan]) for plan, name in KEPT.items()],
        }
    }
